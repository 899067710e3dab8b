"""The results as a picture: where the time goes, and how far each target is."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tests.bench.targets import verdicts

#: Kinds of steps, and what of a hook's or stage's name tells them; the first match counts.
_KINDS = {
    "bootstrap": r"debootstrap|baseinstall|imagebuild-distro",
    "guest agent": r"guest-agent|agent|wheel|seed|source-repositories",
    "packages": r"package|baseline|docker|apt|up-to-date|autoremove|locale",
    "boot loader, initramfs": r"boot-?loader|initramfs",
    "containers": r"containers",
    "disk": r"disk",
    "conversion": r"formats|convert",
}
_LABELS = {
    "plain": "plain recipe", "cold": "from nothing but packages",
    "container_changed": "container changed", "agent_changed": "agent changed",
    "nothing_changed": "nothing changed",
}  # fmt: skip


def draw(results: Mapping[str, Any], path: Path) -> None:
    """Write the picture; its format is the suffix of `path`."""
    figure = Figure(figsize=(10, 7), layout="constrained")
    steps, ratios = figure.subplots(2, 1, height_ratios=[3, 2])
    _draw_steps(steps, results)
    _draw_ratios(ratios, results)
    # No date in the file: the same results are the same picture.
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _steps(case: Mapping[str, Any]) -> dict[str, float]:
    """Seconds by kind of step, and what is left."""
    found = dict.fromkeys(_KINDS, 0.0)
    # Stages that no hook tells of count as one step.
    told = {h[0] for h in case["hooks"] if len(h) == 4}
    stages = [s for s in case.get("stages", ()) if s["stage"] not in told]
    for name, seconds in (
        *((h[-2], h[-1]) for h in case["hooks"]),
        *((s["stage"], s["seconds"]) for s in stages),
    ):
        kind = next((k for k, pattern in _KINDS.items() if re.search(pattern, name)), None)
        if kind:
            found[kind] += seconds
    return {**found, "other": max(case["seconds"] - sum(found.values()), 0.0)}


def _draw_steps(axes: Axes, results: Mapping[str, Any]) -> None:
    cases = [name for name in _LABELS if name in results][::-1]
    steps = [_steps(results[name]) for name in cases]
    left = [0.0] * len(cases)
    for number, kind in enumerate((*_KINDS, "other")):
        seconds = [s[kind] for s in steps]
        color = "0.8" if kind == "other" else f"C{number}"
        if any(seconds):
            axes.barh(range(len(cases)), seconds, left=left, color=color, label=kind)
        left = [a + b for a, b in zip(left, seconds, strict=True)]
    for row, (name, end) in enumerate(zip(cases, left, strict=True)):
        axes.text(end, row, f" {results[name]['seconds']:.1f} s", va="center")
    axes.set_yticks(range(len(cases)), [_LABELS[name] for name in cases])
    axes.set_xlabel("seconds")
    axes.margins(x=0.1)
    axes.legend(loc="lower right")
    axes.set_title("Building an image")


def _draw_ratios(axes: Axes, results: Mapping[str, Any]) -> None:
    found = [v for v in verdicts(results) if v.ratio is not None][::-1]
    names: Sequence[str] = [f"{v.target.name} (under {v.target.said})" for v in found]
    parts = [(v.ratio or 0.0) / v.target.limit for v in found]
    axes.barh(names, parts, color=["C2" if v.met else "C3" for v in found])
    axes.axvline(1.0, color="black", linewidth=1)
    axes.set_xlabel("measured, as a part of the target")
    axes.set_title("Targets")
