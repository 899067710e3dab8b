"""The guest agent's virtual environment: every module that it imports is there, and fits the
Trove that will speak to it.
"""

from __future__ import annotations

import csv
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.parser import HeaderParser

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from imagebuild.agent.series import SERIES, get_series, series_of_version
from imagebuild.errors import ConfigError
from imagebuild.verify.static.question import Problem, Question, skipped, unknown, warning
from imagebuild.verify.static.subject import Subject, elf_machine
from imagebuild.verify.static.units import GUEST_AGENT, settings, unit_text
from imagebuild.verify.tree import Tree

VENV = "/opt/guest-agent-venv"
ENTRY_POINT = "trove-guestagent"
#: Trove's own rule: an agent of the series before is spoken to (upgrade_levels, N-1).
OLDEST = 1


@dataclass(frozen=True)
class Distribution:
    """An installed Python distribution: its directory, version and requirements."""

    name: str
    version: str
    directory: str
    requires: tuple[str, ...]


def venv(subject: Subject) -> str | None:
    """The directory of the agent's environment; None when there is none.

    Ours and upstream's is VENV; another one is that of the program that the unit starts.
    """
    tree = subject.tree
    if tree.resolve(f"{VENV}/bin/python") or tree.resolve(VENV):
        return VENV
    for command in settings(unit_text(tree, GUEST_AGENT), "ExecStart"):
        node = tree.resolve(command.lstrip("@-:+!").split()[0])
        directory = posixpath.dirname(posixpath.dirname(node.path)) if node else ""
        if directory and tree.exists(f"{directory}/pyvenv.cfg"):
            return directory
    return None


def site_packages(tree: Tree, where: str) -> str | None:
    """Its directory of modules."""
    for name in sorted(tree.names(f"{where}/lib")):
        path = f"{where}/lib/{name}/site-packages"
        if name.startswith("python3") and tree.resolve(path):
            return path
    return None


def distributions(tree: Tree, site: str) -> dict[str, Distribution]:
    """What is installed in a directory of modules, by normalised name (PEP 503)."""
    found: dict[str, Distribution] = {}
    for entry in sorted(tree.names(site)):
        if not entry.endswith(".dist-info"):
            continue
        text = tree.text_or_empty(f"{site}/{entry}/METADATA")
        headers = HeaderParser().parsestr(text)
        name, version = headers.get("Name"), headers.get("Version")
        stem, _, named_version = entry.removesuffix(".dist-info").partition("-")
        one = Distribution(
            name=str(name or stem),
            version=str(version or named_version),
            directory=f"{site}/{entry}",
            requires=tuple(map(str, headers.get_all("Requires-Dist") or ())),
        )
        found[canonicalize_name(one.name)] = one
    return found


def _look(subject: Subject) -> tuple[str, Mapping[str, Distribution]] | Problem:
    """Directory of modules and what is in it, or why there is nothing to check."""
    where = venv(subject)
    if where is None:
        if subject.is_foreign:
            return unknown("where the guest agent is in this image")
        return Problem("there is no guest agent", (VENV,), cause="agent-missing")
    site = site_packages(subject.tree, where)
    if site is None:
        return Problem("the agent's environment has no modules", (f"{where}/lib",),
                       cause="agent-missing")  # fmt: skip
    return site, distributions(subject.tree, site)


def _brings_no_trove(subject: Subject) -> bool:
    """Does the image fetch the agent's own code at its first boot?"""
    return subject.content.get("mode") == "dev"


def python(subject: Subject) -> Iterator[Problem]:
    """The interpreter that the environment was made for is there, with its library."""
    where = venv(subject)
    if where is None:
        yield (
            unknown("where the guest agent is in this image")
            if subject.is_foreign
            else Problem("there is no guest agent", (VENV,), cause="agent-missing")
        )
        return
    tree = subject.tree
    link = f"{where}/bin/python"
    node = tree.resolve(link)
    chain = tuple(f"{p} -> {n.link}" for p in (link, f"{where}/bin/python3")
                  if (n := tree.get(p)) and n.link)  # fmt: skip
    if node is None or not node.is_file:
        yield Problem("the agent's Python is not in the image", chain or (link,),
                      cause="agent-python-missing")  # fmt: skip
        return
    if elf_machine(tree, node.path) is None:
        yield Problem("the agent's Python is no program", (node.path,),
                      cause="agent-python-missing")  # fmt: skip
    site = site_packages(tree, where) or ""
    made_for = posixpath.basename(posixpath.dirname(site))
    if not re.fullmatch(re.escape(made_for) + r"(\.\d+)?", node.name):
        yield Problem(f"the environment was made for {made_for}, the interpreter is {node.name}",
                      chain, cause="agent-python-missing")  # fmt: skip
    library = [f"{p}/lib/{made_for}/os.py" for p in ("/usr", "/usr/local")]
    library.append(posixpath.join(posixpath.dirname(posixpath.dirname(node.path)), "lib",
                                  made_for, "os.py"))  # fmt: skip
    if not any(map(tree.resolve, library)):
        yield Problem(f"the library of {made_for} is not in the image", tuple(library),
                      cause="agent-python-missing")  # fmt: skip
    wanted = subject.content.get("python")
    if isinstance(wanted, str) and made_for != f"python{wanted}":
        yield Problem(f"the environment is one of {made_for}, the manifest says {wanted}", (site,),
                      cause="image-not-the-built-one")  # fmt: skip


def modules(subject: Subject) -> Iterator[Problem]:
    """Every distribution is whole, and everything that one requires is there."""
    found = subject.once(_look)
    if isinstance(found, Problem):
        yield found
        return
    site, installed = found
    tree = subject.tree
    for one in installed.values():
        if missing := _missing_files(tree, site, one):
            name = _module_of(missing[0])
            more = f" and {len(missing) - 1} more files" if len(missing) > 1 else ""
            yield Problem(
                f"{one.name} {one.version} lacks {missing[0]}{more}",
                tuple(f"{site}/{m}" for m in missing[:8]), cause="agent-module-missing",
                fields={"module": name},
            )  # fmt: skip
    environment = _environment(subject, site)
    for one in installed.values():
        yield from _unmet(one, installed, environment)


def _missing_files(tree: Tree, site: str, one: Distribution) -> list[str]:
    """Files of its RECORD (PEP 376) that are not there; compiled ones do not matter."""
    text = tree.text_or_empty(f"{one.directory}/RECORD")
    missing = []
    for row in csv.reader(text.splitlines()):
        if not row or not row[0] or row[0].endswith(".pyc"):
            continue
        path = posixpath.normpath(posixpath.join(site, row[0]))
        if not tree.exists(path):
            missing.append(row[0])
    return missing


def _module_of(path: str) -> str:
    """What would be imported: `a/b/__init__.py` is a.b."""
    stem = re.sub(r"(/__init__)?\.(py|[\w-]*\.?so)$", "", path)
    return stem.replace("/", ".") if path.endswith((".py", ".so")) else path


def _environment(subject: Subject, site: str) -> dict[str, str]:
    """What markers ask (PEP 508), for the guest's Python."""
    match = re.search(r"python(3\.\d+)", site)
    short = match[1] if match else "3"
    where = posixpath.dirname(posixpath.dirname(posixpath.dirname(site)))
    said = re.search(r"(?m)^version(?:_info)? = (3\.\d+\.\d+)",
                     subject.tree.text_or_empty(f"{where}/pyvenv.cfg"))  # fmt: skip
    return {
        "python_version": short,
        "python_full_version": said[1] if said else f"{short}.0",
        "implementation_name": "cpython",
        "implementation_version": said[1] if said else f"{short}.0",
        "platform_python_implementation": "CPython",
        "os_name": "posix",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": {"amd64": "x86_64", "arm64": "aarch64"}.get(str(subject.arch), ""),
        "extra": "",
    }


def _unmet(
    one: Distribution, installed: Mapping[str, Distribution], environment: dict[str, str]
) -> Iterator[Problem]:
    for text in one.requires:
        try:
            need = Requirement(text)
        except InvalidRequirement as exc:
            yield warning(f"{one.name} has a requirement that cannot be read", str(exc))
            continue
        if need.marker and not need.marker.evaluate(environment):
            continue
        other = installed.get(canonicalize_name(need.name))
        line = f"{one.name} {one.version} requires {text}"
        if other is None:
            yield Problem(f"{one.name} needs {need.name}, which is not installed", (line,),
                          cause="agent-module-missing", fields={"module": need.name})  # fmt: skip
            continue
        try:
            fits = need.specifier.contains(Version(other.version), prereleases=True)
        except InvalidVersion:
            fits = True
        if not fits:
            yield Problem(f"{one.name} needs {need.name}{need.specifier}, {other.version} is there",
                          (line,), cause="agent-module-missing",
                          fields={"module": need.name})  # fmt: skip


def version(subject: Subject) -> Iterator[Problem]:
    """The agent is the one of the manifest."""
    found = subject.once(_look)
    if isinstance(found, Problem):
        yield found
        return
    trove = found[1].get("trove")
    if trove is None:
        if _brings_no_trove(subject):
            yield skipped("a development image fetches the agent at its first boot")
        else:
            yield Problem("the agent's environment has no trove", (found[0],),
                          cause="agent-missing")  # fmt: skip
        return
    said = subject.content.get("agent")
    wanted = said.get("version") if isinstance(said, dict) else None
    if wanted is not None and not _same_version(str(wanted), trove.version):
        yield Problem(
            f"the agent is trove {trove.version}, the manifest says {wanted}", (trove.directory,),
            cause="image-not-the-built-one",
        )  # fmt: skip


def _same_version(one: str, other: str) -> bool:
    try:
        return Version(one) == Version(other)
    except InvalidVersion:
        return one == other


def series(subject: Subject) -> Iterator[Problem]:
    """The agent is not newer than the control plane, nor too old for it."""
    control = subject.options.series
    if control is None:
        yield skipped("the control plane's series was not named")
        return
    own = _own_series(subject)
    if isinstance(own, Problem):
        yield own
        return
    order = [s.name for s in SERIES]
    name, line = own
    distance = order.index(name) - order.index(get_series(control).name)
    lines = (line, f"control plane: {control}")
    if distance > 0:
        yield Problem(
            f"the agent is of {name}, newer than the control plane's {control}", lines,
            cause="agent-newer", fields={"agent": name, "control": control},
        )  # fmt: skip
    elif distance < -OLDEST:
        yield warning(f"the agent is of {name}, {-distance} series older than the control plane",
                      *lines, cause="agent-old")  # fmt: skip


def _own_series(subject: Subject) -> tuple[str, str] | Problem:
    """The agent's series and what tells it."""
    found = subject.once(_look)
    if isinstance(found, Problem):
        return found
    trove = found[1].get("trove")
    said = subject.content.get("agent")
    known = {s.name for s in SERIES}
    if trove is None:
        name = said.get("series") if isinstance(said, dict) else None
        if name in known:
            return str(name), f"manifest: {name}"
        return skipped("the image has no trove whose series could be compared")
    try:
        name = series_of_version(trove.version).name
    except ConfigError as exc:
        return unknown(exc.what, trove.version, hint=exc.hint)
    return name, f"agent: trove {trove.version} ({name})"


def entry_point(subject: Subject) -> Iterator[Problem]:
    """The agent's program is there, and the interpreter that it names."""
    where = venv(subject)
    if where is None:
        yield from python(subject)
        return
    tree = subject.tree
    path = f"{where}/bin/{ENTRY_POINT}"
    node = tree.resolve(path)
    if node is None or not node.is_file:
        if _brings_no_trove(subject):
            yield skipped("a development image fetches the agent at its first boot")
        else:
            yield Problem(f"the agent's program {path} is not there", (path,),
                          cause="agent-not-startable", fields={"program": path})  # fmt: skip
        return
    head = tree.content(node, 0, 256).split(b"\n")[0].decode(errors="replace")
    match = re.match(r"#!\s*(\S+)", head)
    if not match or tree.resolve(match[1]) is None:
        yield Problem("the agent's program names an interpreter that is not there", (path, head),
                      cause="agent-not-startable", fields={"program": path})  # fmt: skip


QUESTIONS = (
    Question("static/agent/python", "the agent's Python is there", python),
    Question("static/agent/entry-point", "the agent's program is there", entry_point),
    Question("static/agent/modules", "every module that the agent needs is there", modules),
    Question("static/agent/version", "the agent is that of the manifest", version),
    Question("static/agent/series", "the agent is not newer than the control plane", series),
)
