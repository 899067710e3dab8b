"""Runs in the environment of tests/services: the options that Trove's own code registers.

Out: {GROUP: {OPTION: TYPE}}, of options that trove.common.cfg defines (not its libraries).
"""

import json
import sys

import trove.cmd.guest  # noqa: F401 - registers options of its own
from trove.common import cfg

ours: set[int] = set()
for name in dir(cfg):
    value = getattr(cfg, name)
    if name.endswith("_opts") and isinstance(value, list):
        ours |= {id(o) for o in value}

found: dict[str, dict[str, str]] = {}
for group, options in [("DEFAULT", cfg.CONF._opts)] + [
    (n, g._opts) for n, g in cfg.CONF._groups.items()
]:
    for name, entry in options.items():
        if id(entry["opt"]) in ours:
            found.setdefault(group, {})[name] = type(entry["opt"].type).__name__.lower()
json.dump(found, sys.stdout)
