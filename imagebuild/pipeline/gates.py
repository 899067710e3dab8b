"""What a policy says of an artifact before anybody gets it. Nothing is changed.

That it is proven as the file's `verify` wants is asked always: nothing goes up that is not.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from imagebuild.config.pipeline import Level, Publish
from imagebuild.config.values import parse_size
from imagebuild.errors import PolicyError
from imagebuild.manifest import ArtifactView
from imagebuild.pipeline import proof
from imagebuild.pipeline.cells import ImageCell, Phase
from imagebuild.pipeline.outcome import GOOD, CellReport, RunReport
from imagebuild.publish import gate
from imagebuild.units import size

#: The order in which `upload` chooses a format.
_FORMATS = ("qcow2", "raw", "vmdk", "vhd")
_LEVELS = tuple(Level)
_MOST = 8
#: The gate that is asked of every image.
PROVEN = "verified"


@dataclass(frozen=True)
class Ruling:
    """What one gate says: `why` it refuses, "" when it does not; `note`: what it looked at."""

    gate: str
    why: str = ""
    hint: str = ""
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """Shape used in report.json."""
        return {"gate": self.gate, "passed": not self.why, "text": self.why or self.note}


def rule(cell: ImageCell, view: ArtifactView, earlier: Sequence[RunReport]) -> tuple[Ruling, ...]:
    """What all gates say. Raises ConfigError for an artifact that is damaged."""
    gates = cell.gates
    found = [_proven(cell, view)]
    if gates.size:
        found += _sizes(cell, view, parse_size(gates.size))
    if gates.growth:
        found += _growth(cell, view, gates.growth, earlier)
    if gates.deny_packages:
        found.append(_packages(view, gates.deny_packages))
    found += [_series(view, p) for p in cell.publish if p.control_plane_series]
    found += [_dev(view, p) for p in cell.publish if p.visibility]
    return tuple(found)


def error_of(rulings: Sequence[Ruling], name: str) -> PolicyError | None:
    """The error of those that refuse; None when all let it pass."""
    bad = [r for r in rulings if r.why]
    if not bad:
        return None
    if len(bad) == 1:
        return PolicyError(bad[0].why, where=name, hint=bad[0].hint)
    return PolicyError(
        f"{len(bad)} gates refuse the image",
        where=name,
        detail="\n".join(f"{r.gate}: {r.why}" for r in bad),
        hint="; ".join(dict.fromkeys(r.hint for r in bad if r.hint)),
    )


def formats(publish: Sequence[Publish]) -> tuple[str | None, ...]:
    """The format that each cloud wants; None: the usual one."""
    return tuple(str(p.format) if p.format else None for p in publish)


def _proven(cell: ImageCell, view: ArtifactView) -> Ruling:
    level = cell.verify.level
    if cell.gates.verified and _LEVELS.index(cell.gates.verified) > _LEVELS.index(level):
        level = cell.gates.verified
    image = proof.subject(view, formats(cell.publish))
    hint = "its verify phase has to pass first"
    if image is None or not gate.is_verified(view, image.sha256):
        return Ruling(PROVEN, "the image is not verified", hint)
    # All that is wanted now: an older proof may be of less than the file asks by now.
    wanted = cell.verify.model_copy(update={"level": level})
    if why := proof.lacks(view.verification, view, image, wanted, str(cell.arch)):
        return Ruling(PROVEN, why, hint)
    return Ruling(PROVEN, note=f"proven to {(view.verification or {}).get('proven')}")


def _files(cell: ImageCell, view: ArtifactView) -> Mapping[str, int]:
    """Format → size of the files that are published; of the first, where there is no cloud."""
    have = {i.format: i.size for i in reversed(view.images)}
    usual = next((f for f in _FORMATS if f in have), None)
    wanted = [f or usual for f in formats(cell.publish)] or [usual]
    return {f: have[f] for f in wanted if f and f in have}


def _sizes(cell: ImageCell, view: ArtifactView, limit: int) -> Iterator[Ruling]:
    for name, found in _files(cell, view).items():
        note = f"the {name} has {size(found)}, the budget is {size(limit)} ({cell.gates.size})"
        yield Ruling(
            "size", note if found > limit else "",
            "`imagebuild inspect --why-big` says what is in it; gates.size is the budget", note,
        )  # fmt: skip


def _growth(
    cell: ImageCell, view: ArtifactView, limit: str, earlier: Sequence[RunReport]
) -> Iterator[Ruling]:
    before = _published(cell.id, view.build_id, earlier)
    for name, found in _files(cell, view).items():
        old = ((before.image or {}).get("files") or {}).get(name) if before else None
        if not isinstance(old, int) or not old:
            yield Ruling("growth", note=f"no earlier {name} to compare with")
            continue
        percent = 100 * (found - old) / old
        note = f"the {name} has {size(found)}, the last one had {size(old)}: {percent:+.1f} %"
        is_over = percent > float(limit.rstrip("% "))
        yield Ruling(
            "growth", f"{note}; {limit} is allowed" if is_over else "",
            "`imagebuild diff` of the two says what is new; gates.growth is the limit", note,
        )  # fmt: skip


def _published(cell_id: str, build_id: str, earlier: Sequence[RunReport]) -> CellReport | None:
    """The last image of the cell that went up, or would have; None when it is this very one."""
    for report in reversed(earlier):
        cell = report.cell(cell_id)
        if not cell or not cell.image:
            continue
        ends = [p.status in GOOD for p in cell.phases if p.phase in (Phase.GATES, Phase.UPLOAD)]
        if ends and all(ends):
            return None if cell.build_id == build_id else cell
    return None


def _packages(view: ArtifactView, patterns: Sequence[str]) -> Ruling:
    content = view.content
    names = [*(content.get("packages") or ())]
    names += [f"python:{n}" for n in content.get("python_packages") or ()]
    bad = sorted(n for n in names if any(fnmatch.fnmatchcase(n, p) for p in patterns))
    if not bad:
        return Ruling("packages", note=f"{len(names)} packages, none of them denied")
    shown = ", ".join(bad[:_MOST]) + (f" and {len(bad) - _MOST} more" if len(bad) > _MOST else "")
    hint = "`imagebuild inspect --packages` has them all; gates.deny_packages is the list"
    return Ruling("packages", f"it has packages that are denied: {shown}", hint)


def _series(view: ArtifactView, publish: Publish) -> Ruling:
    try:
        gate.check_series(view, str(publish.control_plane_series))
    except PolicyError as exc:
        return Ruling("series", exc.what, exc.hint)
    return Ruling("series", note=f"its agent is of {publish.control_plane_series}")


def _dev(view: ArtifactView, publish: Publish) -> Ruling:
    try:
        gate.check_dev(view, str(publish.visibility))
    except PolicyError as exc:
        return Ruling("dev", exc.what, exc.hint)
    return Ruling("dev", note=f"it may be {publish.visibility}")
