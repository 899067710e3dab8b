"""YAML with the place of every key, and without YAML's surprises.

Only what a configuration needs is understood: mappings with text keys, lists, text,
whole numbers, true/false and null. `3.10` and `2025.1` stay text (a float would lose
the zero), and so do `yes`, `no` and dates. Anchors, aliases and tags are refused, a
key given twice is an error.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from imagebuild.errors import ConfigError
from imagebuild.files import KIB, read_limited

#: Where in a document: keys and list indices from the top.
Loc = tuple[str | int, ...]

MAX_DEPTH = 24
#: Largest file, in bytes. PyYAML reads some 100 KiB a second; a profile has 2.
MAX_SIZE = 256 * KIB
#: So many mistakes are told; who has more reads no more.
MAX_MISTAKES = 20

_NULL = ("", "~", "null", "Null", "NULL")
_BOOL = dict.fromkeys(("true", "True", "TRUE"), True) | dict.fromkeys(
    ("false", "False", "FALSE"), False
)
_INT = re.compile(r"-?(?:0|[1-9][0-9]{0,17})", re.ASCII)


@dataclass
class Document:
    """A YAML document: plain values, and `file:line` of every key and list entry."""

    tree: dict[str, Any] = field(default_factory=dict)
    marks: dict[Loc, str] = field(default_factory=dict)


class _Composer(yaml.SafeLoader):
    """PyYAML's parser, stopped at aliases and at absurd depth."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:  # noqa: ANN401
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
        self.depth += 1
        refused = ""
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            refused = "anchors and aliases are not supported; use extends"
        elif getattr(event, "tag", None):
            refused = "tags (!…) are not supported"
        elif self.depth > MAX_DEPTH:
            refused = "nested too deep"
        if refused:
            mark: Any = event.start_mark
            raise yaml.composer.ComposerError(problem=refused, problem_mark=mark)
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


def _compose(text: str, title: str) -> yaml.Node | None:
    loader = None
    try:
        # The reader looks for unprintable characters as soon as it is made.
        loader = _Composer(text)
        return loader.get_single_node()
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        where = f"{title}:{mark.line + 1}" if mark else title
        reason = ", ".join(part for part in (exc.context, exc.problem) if part)
        raise ConfigError(
            f"not valid YAML: {reason}",
            where=where,
            detail=(mark.get_snippet(indent=0) or "") if mark else "",
            hint="indent with blanks; quote text that holds ': ' or begins with @ ` % & * !",
        ) from exc
    except yaml.reader.ReaderError as exc:
        line = text.count("\n", 0, exc.position) + 1
        raise ConfigError(
            f"not valid YAML: the character #x{int(exc.character):04x} is not allowed",
            where=f"{title}:{line}",
        ) from exc
    except (ValueError, OverflowError) as exc:
        # PyYAML takes "\UFFFFFFFF" and %YAML 1.999… for numbers that Python can hold.
        raise ConfigError(
            "not valid YAML: a number in it is too large",
            where=f"{title}:{loader.line + 1}" if loader else title,
            detail=str(exc),
        ) from exc
    finally:
        if loader is not None:
            loader.dispose()


class _Converter:
    """Nodes to plain values; notes the place of each, and every mistake."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.marks: dict[Loc, str] = {}
        self.mistakes: list[tuple[str, str]] = []

    def place(self, node: yaml.Node) -> str:
        return f"{self.title}:{node.start_mark.line + 1}"

    def convert(self, node: yaml.Node, loc: Loc) -> Any:  # noqa: ANN401 - any YAML value
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, loc)
        if isinstance(node, yaml.SequenceNode):
            items = []
            for index, item in enumerate(node.value):
                here = (*loc, index)
                self.marks[here] = self.place(item)
                items.append(self.convert(item, here))
            return items
        assert isinstance(node, yaml.ScalarNode)  # noqa: S101 - there is no fourth kind
        return self.scalar(node)

    def mapping(self, node: yaml.MappingNode, loc: Loc) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self.mistakes.append((self.place(key_node), "a key must be a word"))
                continue
            key = key_node.value
            here = (*loc, key)
            if key in result:
                self.mistakes.append(
                    (
                        self.place(key_node),
                        f"the key {dotted(here)} is given twice (first at {self.marks[here]})",
                    )
                )
                continue
            self.marks[here] = self.place(key_node)
            result[key] = self.convert(value_node, here)
        return result

    def scalar(self, node: yaml.ScalarNode) -> Any:  # noqa: ANN401 - text, number, bool or null
        text = str(node.value)
        if node.style is not None:  # quoted, or a block of text
            return text
        if text in _NULL:
            return None
        if text in _BOOL:
            return _BOOL[text]
        return int(text) if _INT.fullmatch(text) else text


def parse_text(text: str, title: str) -> tuple[Any, dict[Loc, str]]:
    """Value of one YAML document and the places of its keys, as `title:line`.

    Raises ConfigError naming the line for a syntax error, a key given twice, an anchor
    or a tag.
    """
    node = _compose(text, title)
    if node is None:
        return None, {}
    converter = _Converter(title)
    value = converter.convert(node, ())
    if len(converter.mistakes) == 1:
        where, what = converter.mistakes[0]
        raise ConfigError(what, where=where)
    if converter.mistakes:
        raise ConfigError(
            f"{len(converter.mistakes)} mistakes",
            where=title,
            detail=listed([f"{where}: {what}" for where, what in converter.mistakes]),
        )
    return value, converter.marks


def load_file(path: Path, noun: str, *, lists: str, example: str) -> Document:
    """Read a YAML file, or an open pipe, that holds one mapping. Raises ConfigError.

    `noun` is what such a file is called; `lists` and `example` are commands that show which
    there are, and one of them.
    """
    try:
        text = read_limited(path, MAX_SIZE, pipe=True).decode()
    except OSError as exc:
        raise ConfigError(
            f"cannot read {path}: {exc.strerror or exc}", where=str(path),
            hint=f"see what exists: {lists}",
        ) from exc  # fmt: skip
    except UnicodeDecodeError as exc:
        raise ConfigError("the file is not UTF-8 text", where=str(path), detail=str(exc)) from exc
    value, marks = parse_text(text, str(path))
    if not isinstance(value, dict):
        raise ConfigError(
            f"the file holds no {noun}: 'key: value' lines are expected",
            where=f"{path}:1",
            hint=f"see one: {example}",
        )
    return Document(value, marks)


def listed(lines: Sequence[str]) -> str:
    """The lines of an error's detail: all, or the first and how many more there are."""
    more = len(lines) - MAX_MISTAKES
    return "\n".join([*lines[:MAX_MISTAKES], *([f"… and {more} more"] if more > 0 else [])])


def dotted(loc: Loc) -> str:
    """`("a", "b", 0)` as people write it: `a.b[0]`."""
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
