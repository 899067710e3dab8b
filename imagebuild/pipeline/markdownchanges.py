"""What changed since the last good night, as a part of report.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from imagebuild.errors import ConfigError
from imagebuild.mdtext import code, escaped
from imagebuild.pipeline.changes import ImageChanges, changes, last_facts
from imagebuild.pipeline.facts import ImageFacts
from imagebuild.pipeline.outcome import CellReport, RunReport
from imagebuild.units import duration, size

#: A stage that takes another time by less than this, in seconds or in part, is as before.
_NOISE, _PART = 5.0, 0.1
#: More rows than these are folded where they can be.
_FOLDED = 12
_BARS = "▁▂▃▄▅▆▇█"


def section(report: RunReport, earlier: Sequence[RunReport], rows: int, cells: int) -> list[str]:
    """Its lines; none without images. At most `rows` packages an image, `cells` images."""
    images = [(c, ImageFacts.from_json(c.image)) for c in report.cells if c.image]
    if not images:
        return []
    lines = ["", "## What changed"]
    same = []
    for cell, image in images[:cells]:
        found = last_facts(cell.id, earlier)
        if found is None:
            same.append(f"{code(cell.id)}: the first image, nothing to compare it with")
            continue
        since, before = found
        changed = changes(before, image, since)
        if changed.is_same_build:
            same.append(f"{code(cell.id)}: the same build as {since}")
        else:
            lines += ["", *_image(cell, changed, rows), *_trend(cell.id, image, earlier)]
    lines += ["", *(f"- {s}" for s in same)] if same else []
    if more := len(images) - cells:
        lines += ["", f"… and {more} more images"] if more > 0 else []
    return lines


def _image(cell: CellReport, changed: ImageChanges, rows: int) -> list[str]:
    lines = [f"### {code(cell.id)}, since {escaped(changed.since)}", ""]
    lines += [f"- agent {escaped(k)}: {_versions(v)}" for k, v in changed.agent.items()]
    for name, (before, after) in changed.sizes.items():
        if before != after:
            title = "root filesystem" if name == "rootfs" else escaped(name)
            lines.append(f"- {title}: {_sizes(before, after)}")
    slower = [
        f"{escaped(stage)} {duration(before)} → {duration(after)} ({_percent(before, after)})"
        for stage, (before, after) in changed.seconds.items()
        if before is not None and after is not None and _is_telling(before, after)
    ]
    lines += [f"- times: {', '.join(slower)}"] if slower else []
    packages = _rows(changed.packages) + _rows(changed.python_packages, "python ")
    if not packages:
        return [*lines, "- packages: none changed"]
    lines.append(f"- packages: {_counts(changed)}")
    shown = packages[: rows if len(packages) > rows + 1 else None]
    more = len(packages) - len(shown)
    listed = [f"  - {p}" for p in shown] + ([f"  - … and {more} more"] if more else [])
    if len(listed) <= _FOLDED:
        return lines + listed
    flat = [line[2:] for line in listed]
    return [*lines, "", "<details><summary>Packages</summary>", "", *flat, "", "</details>"]


def _rows(pairs: Mapping[str, tuple[str | None, str | None]], kind: str = "") -> list[str]:
    return [f"{kind}{code(name)} {_versions(versions)}" for name, versions in pairs.items()]


def _versions(versions: tuple[str | None, str | None]) -> str:
    before, after = versions
    if before is None:
        return f"new, {code(str(after))}"
    return f"{code(before)} → {code(after)}" if after is not None else f"gone, was {code(before)}"


def _counts(changed: ImageChanges) -> str:
    pairs = [*changed.packages.values(), *changed.python_packages.values()]
    added = sum(b is None for b, _ in pairs)
    gone = sum(a is None for _, a in pairs)
    named = ((len(pairs) - added - gone, "other versions"), (added, "new"), (gone, "gone"))
    return ", ".join(f"{n} {word}" for n, word in named if n)


def _sizes(before: int | None, after: int | None) -> str:
    if before is None or after is None:
        return f"new, {size(after)}" if after is not None else "gone"
    return f"{size(before)} → {size(after)} ({_percent(before, after)})"


def _percent(before: float, after: float) -> str:
    return f"{(after - before) / before * 100:+.1f} %" if before else "was 0"


def _is_telling(before: float, after: float) -> bool:
    return abs(after - before) > max(_NOISE, _PART * before)


def _trend(cell_id: str, image: ImageFacts, earlier: Sequence[RunReport]) -> list[str]:
    """The file's size over the nights, as bars."""
    name = next((f for f in image.files if f != "raw"), None)
    if name is None:
        return []
    sizes = [s for r in earlier if (s := _size(r.cell(cell_id), name))] + [image.files[name]]
    if len(sizes) < 3:
        return []
    low, high = min(sizes), max(sizes)
    step = (high - low) / (len(_BARS) - 1) or 1
    bars = "".join(_BARS[int((s - low) / step)] for s in sizes[-30:])
    return [f"- {escaped(name)} over {len(sizes)} runs: {bars} {size(low)} to {size(high)}"]


def _size(cell: CellReport | None, name: str) -> int | None:
    try:
        return ImageFacts.from_json(cell.image).files.get(name) if cell and cell.image else None
    except ConfigError:
        return None
