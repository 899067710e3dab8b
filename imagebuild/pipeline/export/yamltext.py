"""YAML as people write it: keys in the order given, scripts as blocks, nothing that needs luck.

Every value is quoted by PyYAML where it must be; so text of a pipeline's file is text there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml


class Unsafe(str):
    """Text that Ansible must not take for a template (its tag `!unsafe`)."""


class _Dumper(yaml.SafeDumper):
    """Blocks for text of several lines; lists are indented below their key."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ANN401, ARG002 - any value
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    tag = "!unsafe" if isinstance(value, Unsafe) else "tag:yaml.org,2002:str"
    style = "|" if "\n" in value else None
    return dumper.represent_scalar(tag, str(value), style=style)


_Dumper.add_representer(str, _text)
_Dumper.add_representer(Unsafe, _text)


def dump(value: Mapping[str, Any] | Sequence[Any]) -> str:
    """One document, without its mark."""
    return yaml.dump(
        value, Dumper=_Dumper, sort_keys=False, default_flow_style=False, width=1000,
        allow_unicode=True,
    )  # fmt: skip


def spaced(text: str) -> str:
    """The same with an empty line before each entry of the top level, and each job below
    `jobs:`.
    """
    lines: list[str] = []
    is_jobs = False
    for line in text.splitlines():
        is_top = bool(line) and line[0] not in " #"
        is_job = is_jobs and line.startswith("  ") and line[2] not in " -"
        if lines and (is_top or is_job) and lines[-1] != "jobs:":
            lines.append("")
        is_jobs = line == "jobs:" if is_top else is_jobs
        lines.append(line)
    return "\n".join(lines) + "\n"
