"""cloud-init finds OpenStack's metadata."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterator

from imagebuild.verify.static import cloudconfig
from imagebuild.verify.static.bootloader import menu
from imagebuild.verify.static.question import Problem, Question, warning
from imagebuild.verify.static.subject import Subject

#: Both ways in which Nova hands out metadata.
NEEDED = ("OpenStack", "ConfigDrive")
_PROGRAMS = ("/usr/bin/cloud-init", "/usr/local/bin/cloud-init")
_DISABLED = "/etc/cloud/cloud-init.disabled"
_DS_IDENTIFY = "/etc/cloud/ds-identify.cfg"


def datasources(subject: Subject) -> Iterator[Problem]:
    """The list of the file that wins names both."""
    where, names = "", None
    for path, document in cloudconfig.files(subject.tree):
        if "datasource_list" in document:
            where, names = path, document["datasource_list"]
    if names is None:
        return  # cloud-init's own list has all
    if not isinstance(names, list):
        yield Problem("the list of datasources is no list", (f"{where}: {reprlib.repr(names)}",),
                      cause="datasource-missing", fields={"names": "all"})  # fmt: skip
        return
    line = f"{where}: datasource_list: {reprlib.repr(names)}"
    lacking = [n for n in NEEDED if n not in names]
    # An image made for one of them alone is a choice of its profile.
    wanted = subject.content.get("datasources")
    chosen = [n for n in lacking if isinstance(wanted, list) and wanted and n not in wanted]
    for name in chosen:
        yield warning(f"cloud-init does not look for metadata of {name}, as its profile says", line)
    missing = [n for n in lacking if n not in chosen]
    if missing:
        yield Problem(f"cloud-init does not look for metadata of {', '.join(missing)}", (line,),
                      cause="datasource-missing", fields={"names": ", ".join(missing)})  # fmt: skip
    own = subject.tree.text_or_empty(_DS_IDENTIFY)
    match = re.search(r"(?m)^\s*datasource:\s*(\S+)", own)
    if match and match[1] not in NEEDED:
        yield Problem(
            f"ds-identify looks for {match[1]} alone", (f"{_DS_IDENTIFY}: {match[0]}",),
            cause="datasource-missing", fields={"names": ", ".join(NEEDED)},
        )  # fmt: skip


def enabled(subject: Subject) -> Iterator[Problem]:
    """cloud-init is there, and nothing turns it off."""
    tree = subject.tree
    if not any(tree.resolve(p) for p in _PROGRAMS):
        yield Problem("cloud-init is not in the image", _PROGRAMS, cause="cloud-init-off")
        return
    if tree.exists(_DISABLED):
        yield Problem("cloud-init is turned off by a file", (_DISABLED,), "remove it",
                      "cloud-init-off")  # fmt: skip
    own = tree.text_or_empty(_DS_IDENTIFY)
    if match := re.search(r"(?m)^\s*policy:\s*disabled\b.*$", own):
        yield Problem("ds-identify turns cloud-init off", (f"{_DS_IDENTIFY}: {match[0]}",),
                      cause="cloud-init-off")  # fmt: skip
    for entry in subject.once(menu) or ():
        off = [a for a in entry.arguments if a in ("cloud-init=disabled", "ci.ds=None")]
        if off:
            yield Problem("the kernel's command line turns cloud-init off", entry.lines[:1],
                          cause="cloud-init-off")  # fmt: skip
            break


def network(subject: Subject) -> Iterator[Problem]:
    """cloud-init writes the network's configuration from the metadata."""
    for path, document in cloudconfig.files(subject.tree):
        setting = document.get("network")
        if isinstance(setting, dict) and setting.get("config") == "disabled":
            yield warning(
                "cloud-init leaves the network alone", f"{path}: network: {reprlib.repr(setting)}",
                hint="then the image itself must bring every network card up",
            )  # fmt: skip


QUESTIONS = (
    Question("static/cloud-init/datasources", "it looks for OpenStack's metadata", datasources),
    Question("static/cloud-init/enabled", "cloud-init runs", enabled),
    Question("static/cloud-init/network", "it configures the network", network),
)
