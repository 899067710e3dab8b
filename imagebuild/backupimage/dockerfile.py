"""Trove's Dockerfile: read, checked to be of a form that we understand, and made ready.

Only what the forms of the supported series have is understood (Dockerfile reference,
docs.docker.com/reference/dockerfile): anything else is an error, because an instruction that
is overlooked could undo what we change.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from imagebuild.errors import ConfigError

#: Where our files are while the image is built; nothing of them gets into it.
HELPER = "/.imagebuild"

_KNOWN = frozenset(
    ("ARG", "FROM", "LABEL", "RUN", "COPY", "ADD", "WORKDIR", "ENV", "ENTRYPOINT", "CMD", "USER",
     "EXPOSE", "VOLUME", "STOPSIGNAL", "HEALTHCHECK", "MAINTAINER")
)  # fmt: skip
_DIRECTIVE = re.compile(r"#\s*(\w+)\s*=\s*(\S+)\s*$")
_FROM = re.compile(r"((?:--\S+\s+)*)(\S+)(?:\s+AS\s+\S+)?\s*$", re.IGNORECASE)
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?:(:?-)([^}]*))?\})")
#: The rest of a command, over the ends of lines that have a backslash.
_REST = r"(?:[^&;|\n\\]|\\\n)*"
_DUMB_INIT = re.compile(
    rf"\s*(?:\\\n)?\s*&&\s*(?:curl|wget)\s{_REST}dumb-init{_REST}"
    rf"&&\s*chmod\s{_REST}dumb-init[^&;|\n\\]*"
)


@dataclass(frozen=True)
class Instruction:
    """One instruction: `first` and `last` are its lines (from 0), `value` is joined."""

    keyword: str
    value: str
    first: int
    last: int


@dataclass(frozen=True)
class Dockerfile:
    """`base` is what the image is made from, variables replaced; "" when they say nothing."""

    text: str
    instructions: tuple[Instruction, ...]
    base: str

    @property
    def arguments(self) -> tuple[str, ...]:
        """Names of the build arguments after FROM."""
        started, found = False, []
        for instruction in self.instructions:
            started = started or instruction.keyword == "FROM"
            if started and instruction.keyword == "ARG":
                found.append(instruction.value.partition("=")[0].strip())
        return tuple(found)

    def ready(self, base: str, inserted: Sequence[str]) -> str:
        """The text made from `base`, with these lines right after FROM."""
        lines = self.text.splitlines()
        start = next(i for i in self.instructions if i.keyword == "FROM")
        lines[start.first : start.last + 1] = [f"FROM {base}", *inserted]
        return "\n".join(lines) + "\n"


def read_dockerfile(text: str, where: str) -> Dockerfile:
    """Take it apart. Raises ConfigError for a form that we do not understand."""
    instructions = tuple(_instructions(text, where))
    starts = [i for i in instructions if i.keyword == "FROM"]
    if len(starts) != 1:
        raise _unknown(where, f"it has {len(starts)} FROM lines, and one is expected")
    match = _FROM.fullmatch(starts[0].value)
    if match is None or match[1]:
        raise _unknown(where, f"line {starts[0].first + 1}: FROM {starts[0].value}")
    for instruction in instructions:
        line = f"line {instruction.first + 1}: {instruction.keyword} {instruction.value[:60]}"
        if instruction.keyword not in _KNOWN:
            raise _unknown(where, line)
        if instruction.keyword == "RUN" and instruction.value.startswith(("[", "--")):
            raise _unknown(where, f"{line} (only commands of a shell are understood)")
    defaults = {}
    for instruction in instructions[: instructions.index(starts[0])]:
        name, _, value = instruction.value.partition("=")
        defaults[name.strip()] = value.strip().strip("\"'")
    for name in ("DATASTORE", "DATASTORE_VERSION"):
        found = Dockerfile(text, instructions, "").arguments
        if name not in found:
            raise _unknown(where, f"it takes no build argument {name}")
    return Dockerfile(text, instructions, _expand(match[2], defaults))


def without_download(text: str) -> str:
    """A Dockerfile that does not fetch dumb-init from GitHub: up to 2026.1 it did."""
    return _DUMB_INIT.sub("", text)


def check_arch(text: str, arch: str, where: str) -> None:
    """Raise ConfigError where it fetches a program of amd64 for another architecture."""
    fetched = _DUMB_INIT.search(text)
    if arch != "amd64" and fetched and "_amd64" in fetched[0]:
        raise ConfigError(
            f"this source makes no image for {arch}",
            where=where,
            detail="it fetches dumb-init for amd64, whatever the architecture is",
            hint="take Trove 2026.2 or later, or --packages-from distribution",
        )


def _instructions(text: str, where: str) -> list[Instruction]:
    found: list[Instruction] = []
    lines = text.splitlines()
    number = 0
    head = True
    while number < len(lines):
        line = lines[number].strip()
        directive = _DIRECTIVE.match(line) if head else None
        if directive and directive[1].lower() == "escape" and directive[2] != "\\":
            raise _unknown(where, f"line {number + 1}: {line}")
        if not line or line.startswith("#"):
            head = head and directive is not None
            number += 1
            continue
        head = False
        first, parts = number, []
        while True:
            # Comments and empty lines may stand between the lines of one instruction.
            stripped = lines[number].strip()
            is_comment = number > first and (not stripped or stripped.startswith("#"))
            if not is_comment:
                parts.append(stripped.removesuffix("\\").rstrip())
            if not (is_comment or stripped.endswith("\\")) or number + 1 == len(lines):
                break
            number += 1
        keyword, _, value = " ".join(parts).partition(" ")
        if "<<" in value and keyword.upper() in ("RUN", "COPY", "ADD"):
            raise _unknown(where, f"line {first + 1}: a here-document")
        found.append(Instruction(keyword.upper(), value.strip(), first, number))
        number += 1
    return found


def _expand(image: str, values: dict[str, str]) -> str:
    """Put in the defaults of ARG; "" when a variable has none."""
    missing = False

    def one(match: re.Match[str]) -> str:
        nonlocal missing
        value = values.get(match[1] or match[2]) or match[4] or ""
        missing = missing or not value
        return value

    expanded = _VARIABLE.sub(one, image)
    return "" if missing or "$" in expanded else expanded


def _unknown(where: str, detail: str) -> ConfigError:
    return ConfigError(
        "the Dockerfile has a form that is not understood",
        where=where,
        detail=detail,
        hint="build it with docker itself, or take the source of a release: --trove-source "
        "pypi:trove",
    )
