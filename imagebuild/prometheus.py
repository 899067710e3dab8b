"""Prometheus's text format, as node_exporter's textfile collector reads it.

Format: "Text-based format" of Prometheus's exposition formats.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

#: Name, labels, value.
Sample = tuple[str, Mapping[str, str], float]


def gauges(names: Mapping[str, str], samples: Iterable[Sample], labels: Mapping[str, str]) -> str:
    """The file's text: samples by name, in the order of `names` (name → help), each with
    `labels` before its own. A name without samples is left out. Pure.
    """
    by_name: dict[str, list[Sample]] = {name: [] for name in names}
    for sample in samples:
        by_name[sample[0]].append(sample)
    lines: list[str] = []
    for name, found in by_name.items():
        if found:
            lines += [f"# HELP {name} {names[name]}", f"# TYPE {name} gauge"]
        for _, own, value in found:
            shown = ",".join(f'{k}="{_escaped(v)}"' for k, v in {**labels, **own}.items())
            lines.append(f"{name}{{{shown}}} {_number(value)}")
    return "\n".join(lines) + "\n"


def _number(value: float) -> str:
    """Without the noise of binary fractions."""
    return str(value if isinstance(value, int) else round(value, 3))


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
