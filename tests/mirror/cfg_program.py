"""Runs in the environment of tests/services: what Trove's own definitions make of files.

In: {"files": [FILE], "wanted": [[GROUP, OPTION]]}. Out: `values` by "GROUP.OPTION" as Trove has
them when it has read the files, and `unknown`: what stands in the files and Trove has no option
for (those of oslo.messaging are registered, too).
"""

import configparser
import json
import sys

import trove.cmd.guest  # noqa: F401 - registers options of its own
from oslo_messaging import opts as messaging  # type: ignore[import-not-found]
from trove.common import cfg

CONF = cfg.CONF
document = json.load(sys.stdin)
arguments = [w for file in document["files"] for w in ("--config-file", file)]
for group, options in messaging.list_opts():
    CONF.register_opts(options, group)
cfg.parse_args(["trove", *arguments])

unknown = []
for file in document["files"]:
    parser = configparser.RawConfigParser(strict=False, default_section="no section")
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(file)
    for group in parser.sections():
        where = CONF if group == "DEFAULT" else CONF.get(group) if group in CONF else {}
        unknown += [f"{group}.{o}" for o in parser[group] if o not in where]


def value(group: str, option: str) -> object:
    return (CONF if group == "DEFAULT" else CONF[group])[option]


values = {f"{g}.{o}": value(g, o) for g, o in document["wanted"]}
json.dump({"values": values, "unknown": unknown}, sys.stdout)
