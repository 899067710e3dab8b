"""People's files → what Trove would read: which of its two files each is."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imagebuild.errors import ConfigError
from imagebuild.files import MIB, read_limited
from imagebuild.guestconf.inifile import Broken, Group, IniFile, Line, parse
from imagebuild.guestconf.optiontable import OptionTable, option_table
from imagebuild.mirror.naming import DATASTORES, WRONG_DATASTORES

_LONGEST = 4 * MIB
#: Variables of OpenStack-Ansible's role os_trove.
_OVERRIDES = ("trove_config_overrides", "trove_guestagent_config_overrides")


class Role(enum.Enum):
    """Who reads a file."""

    CONTROL = "control plane"
    GUEST = "guest"


@dataclass(frozen=True)
class Source:
    """A file, or the part of one that has a role."""

    path: Path
    role: Role
    content: IniFile


@dataclass(frozen=True)
class Configured:
    """What all sources of a role say together: of an option the last line counts."""

    lines: dict[tuple[str, str], Line] = field(default_factory=dict)
    sources: tuple[Source, ...] = ()

    @classmethod
    def of(cls, sources: Iterable[Source], role: Role, table: OptionTable) -> Configured:
        """Of the sources with that role; options go by their own names, not former ones."""
        mine = tuple(s for s in sources if s.role is role)
        lines = {}
        for source in mine:
            for line in source.content.lines:
                known = table.find(line.group, line.name)
                lines[(known.group, known.name) if known else (line.group, line.name)] = line
        return cls(lines, mine)

    def get(self, group: str, name: str) -> Line | None:
        """The line that counts."""
        return self.lines.get((group, name))


def read(path: Path, role: Role | None = None) -> tuple[Source, ...]:
    """A file: INI, or OpenStack-Ansible's variables (.yml), which may have both roles.

    Without `role`, the name says it, else the content. Raises ConfigError for a file that
    cannot be read.
    """
    try:
        text = read_limited(path, _LONGEST, pipe=True).decode()
    except OSError as exc:
        raise ConfigError(
            "the file cannot be read", where=str(path), detail=exc.strerror or str(exc)
        ) from exc
    except UnicodeDecodeError as exc:
        raise ConfigError(
            "the file is no text", where=str(path), detail=f"it is not UTF-8: {exc.reason}"
        ) from exc
    if path.suffix in (".yml", ".yaml"):
        return _variables(text, path)
    content = parse(text, str(path))
    return (Source(path, role or _role(path, content), content),)


def _role(path: Path, content: IniFile) -> Role:
    if "agent" in path.name or "guest" in path.name:
        return Role.GUEST
    if path.name.startswith("trove"):
        return Role.CONTROL
    words = {g.name for g in content.groups}
    is_guest = words & {*DATASTORES, *WRONG_DATASTORES, "guest_agent"} and not words & {
        "database",
        "keystone_authtoken",
    }
    return Role.GUEST if is_guest else Role.CONTROL


def _variables(text: str, path: Path) -> tuple[Source, ...]:
    from imagebuild.config.yamlmarks import parse_text

    document, marks = parse_text(text, str(path))
    if not isinstance(document, dict) or not set(_OVERRIDES) & set(document):
        raise ConfigError(
            "there is nothing of Trove's in the file",
            where=str(path),
            detail=f"of OpenStack-Ansible's variables, {' and '.join(_OVERRIDES)} are looked at",
            hint="name trove.conf, trove-guestagent.conf or user variables with one of these",
        )
    found = []
    for variable, role in zip(_OVERRIDES, (Role.CONTROL, Role.GUEST), strict=True):
        if variable in document:
            content = _overrides(variable, document[variable], marks, str(path))
            found.append(Source(path, role, content))
    return tuple(found)


def _overrides(variable: str, value: Any, marks: Any, title: str) -> IniFile:  # noqa: ANN401 - YAML
    lines, groups, broken = [], [], []

    def place(*loc: str) -> str:
        return str(marks.get((variable, *loc), marks.get((variable,), title)))

    for group, options in value.items() if isinstance(value, dict) else ():
        groups.append(Group(str(group), place(group)))
        if not isinstance(options, dict):
            broken.append(Broken(place(group), "options and their values are expected here"))
            continue
        for name, told in options.items():
            text = ",".join(map(str, told)) if isinstance(told, list) else str(told)
            lines.append(Line(str(group), str(name), text, place(group, name)))
    if not isinstance(value, dict):
        broken.append(Broken(place(), "groups of options are expected here"))
    return IniFile(tuple(lines), tuple(groups), tuple(broken))


def configured(sources: Iterable[Source], series: str) -> tuple[Configured, Configured]:
    """What guests, and what the control plane, read in these files.

    Raises ConfigError for an unknown series.
    """
    table, found = option_table(series), tuple(sources)
    return Configured.of(found, Role.GUEST, table), Configured.of(found, Role.CONTROL, table)
