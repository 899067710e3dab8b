"""Configuration files as oslo.config reads them (oslo_config/iniparser.py), with their lines."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """One option in a file: its group, its name and value, and where it stands (`file:line`)."""

    group: str
    name: str
    value: str
    where: str

    @property
    def is_template(self) -> bool:
        """Whether the value is made by something that goes over the file before: Jinja, $name."""
        return any(mark in self.value for mark in ("{{", "{%", "$"))


@dataclass(frozen=True)
class Group:
    """The head of a group, and where it stands."""

    name: str
    where: str


@dataclass(frozen=True)
class Broken:
    """A line that oslo.config refuses, with all of the file: `why` is for people."""

    where: str
    why: str


@dataclass(frozen=True)
class IniFile:
    """A file's content, in its order."""

    lines: tuple[Line, ...]
    groups: tuple[Group, ...]
    broken: tuple[Broken, ...]


def parse(text: str, title: str) -> IniFile:
    """Read a file's text; `title` is what places begin with. A line of Jinja is passed over."""
    lines: list[Line] = []
    groups: list[Group] = []
    broken: list[Broken] = []
    group, is_open = "", False
    for number, raw in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        line, where = raw.rstrip(), f"{title}:{number}"
        if not line:
            is_open = False
        elif line[0] in " \t":
            if not is_open:
                broken.append(Broken(where, "a line begins with a blank, and nothing goes on here"))
            else:
                old = lines.pop()
                value = f"{old.value}\n{line.lstrip()}"
                lines.append(Line(old.group, old.name, value, old.where))
        elif line[0] == "[":
            is_open = False
            if not line.endswith("]") or len(line) == 2:
                broken.append(Broken(where, "a group's name must stand between [ and ]"))
            else:
                group = line[1:-1]
                groups.append(Group(group, where))
        elif line[0] in "#;":
            is_open = False
        elif not line.startswith(("{%", "{#")):
            made = _assignment(line, group, where)
            is_open = isinstance(made, Line)
            if isinstance(made, Line):
                lines.append(made)
            else:
                broken.append(made)
    return IniFile(tuple(lines), tuple(groups), tuple(broken))


def _assignment(line: str, group: str, where: str) -> Line | Broken:
    found = [at for at in (line.find(":"), line.find("=")) if at >= 0]
    if not found:
        return Broken(where, "there is neither '=' nor ':' in the line")
    name, value = line[: min(found)].strip(), line[min(found) + 1 :].strip()
    if not name:
        return Broken(where, "a name is missing before the '='")
    if not group:
        return Broken(where, "the option stands before the first group")
    if value and value[0] == value[-1] and value[0] in "\"'":
        value = value[1:-1]
    return Line(group, name, value, where)
