"""What changed since the last good night, as a part of report.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from imagebuild.mdtext import code, escaped
from imagebuild.pipeline.changes import ImageChanges, changes, last_facts
from imagebuild.pipeline.facts import ImageFacts
from imagebuild.pipeline.outcome import CellReport, RunReport
from imagebuild.units import duration, size

#: A stage that takes another time by less than this, in seconds or in part, is as before.
_NOISE, _PART = 5.0, 0.1
#: More rows than these are folded where they can be.
_FOLDED = 12
#: So many nights are a trend's bars.
_NIGHTS = 30
_BARS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Compared:
    """An image beside its last good one; None: there is none. `sizes`: bytes of `format`'s
    file over the nights, oldest first, its own last.
    """

    cell_id: str
    changed: ImageChanges | None
    format: str = ""
    sizes: tuple[int, ...] = ()


def compare(report: RunReport, earlier: Sequence[RunReport]) -> list[Compared]:
    """All images of a report. Raises ConfigError for one whose facts are none."""
    found = []
    for cell in report.cells:
        if not cell.image:
            continue
        image = ImageFacts.from_json(cell.image)
        before = last_facts(cell.id, earlier)
        name = next((f for f in image.files if f != "raw"), "")
        sizes = [_size(r.cell(cell.id), name) for r in earlier] + [image.files.get(name)]
        found.append(
            Compared(
                cell.id,
                changes(before[1], image, before[0]) if before else None,
                name,
                tuple(s for s in sizes if s),
            )
        )
    return found


def section(images: Sequence[Compared], rows: int, cells: int) -> list[str]:
    """Its lines; none without images. At most `rows` packages an image, `cells` images."""
    if not images:
        return []
    lines = ["", "## What changed"]
    same = []
    for one in images[:cells]:
        if one.changed is None:
            same.append(f"{code(one.cell_id)}: the first image, nothing to compare it with")
        elif one.changed.is_same_build:
            same.append(f"{code(one.cell_id)}: the same build as {escaped(one.changed.since)}")
        else:
            lines += ["", *_image(one, one.changed, rows)]
    lines += ["", *(f"- {s}" for s in same)] if same else []
    if len(images) > cells:
        lines += ["", f"… and {len(images) - cells} more images"]
    return lines


def _image(one: Compared, changed: ImageChanges, rows: int) -> list[str]:
    lines = [f"### {code(one.cell_id)}, since {escaped(changed.since)}", ""]
    lines += [f"- agent {escaped(k)}: {_versions(v)}" for k, v in changed.agent.items()]
    for name, (before, after) in changed.sizes.items():
        if before != after:
            title = "root filesystem" if name == "rootfs" else escaped(name)
            lines.append(f"- {title}: {_sizes(before, after)}")
    lines += _trend(one)
    slower = [
        f"{escaped(stage)} {duration(before)} → {duration(after)} ({_percent(before, after)})"
        for stage, (before, after) in changed.seconds.items()
        if before is not None and after is not None and _is_telling(before, after)
    ]
    lines += [f"- times: {', '.join(slower)}"] if slower else []
    packages = [("", *p) for p in changed.packages.items()]
    packages += [("python ", *p) for p in changed.python_packages.items()]
    if not packages:
        return [*lines, "- packages: none changed"]
    lines.append(f"- packages: {_counts(changed)}")
    shown = packages if len(packages) <= rows + 1 else packages[:rows]
    more = len(packages) - len(shown)
    listed = [f"- {kind}{code(name)} {_versions(pair)}" for kind, name, pair in shown]
    listed += [f"- … and {more} more"] if more else []
    if len(listed) <= _FOLDED:
        return lines + [f"  {line}" for line in listed]
    return [*lines, "", "<details><summary>Packages</summary>", "", *listed, "", "</details>"]


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


def _trend(one: Compared) -> list[str]:
    """The file's size over the nights, as bars."""
    sizes = one.sizes[-_NIGHTS:]
    if len(sizes) < 3:
        return []
    low, high = min(sizes), max(sizes)
    step = (high - low) / (len(_BARS) - 1) or 1
    bars = "".join(_BARS[int((s - low) / step)] for s in sizes)
    return [f"- {escaped(one.format)} over {len(sizes)} runs: {bars} {size(low)} to {size(high)}"]


def _size(cell: CellReport | None, name: str) -> int | None:
    files = (cell.image or {}).get("files") if cell else None
    found = files.get(name) if isinstance(files, dict) else None
    return found if isinstance(found, int) else None
