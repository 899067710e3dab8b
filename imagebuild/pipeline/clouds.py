"""Whether this host knows the clouds that a pipeline names. Nothing is asked of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from imagebuild.errors import PreflightError
from imagebuild.pipeline.cells import JOBS, Cell, ImageCell, Job, Phase


def unknown(cells: Iterable[Cell], phases: Sequence[Phase] = ()) -> list[str]:
    """A sentence for each cloud that clouds.yaml does not have, and one where that cannot be
    read: publishing there will fail, which is better known before hours of building.

    `phases` are those that will be done, all when empty.
    """
    if phases and not set(phases) & set(JOBS[Job.PUBLISH]):
        return []
    wanted: dict[str, list[str]] = {}
    for cell in cells:
        for publish in cell.publish if isinstance(cell, ImageCell) else ():
            if publish.cloud:
                wanted.setdefault(publish.cloud, []).append(cell.id)
    if not wanted:
        return []
    from imagebuild.doctor.host import Host

    try:
        known = Host().clouds()
    except PreflightError as exc:
        return [f"{exc.what} ({exc.where}): nothing can be published; {exc.detail}"]
    return [
        f"clouds.yaml has no cloud {cloud!r}: what goes there will fail ({', '.join(ids)})"
        for cloud, ids in wanted.items()
        if cloud not in known
    ]
