"""Which artifact a cell has, for jobs that do not build it themselves.

    IMAGES/cells/PIPELINE/ID.json   {"artifact": NAME, "build_id": …}: what was built last

`skipped` in it: the job that was to build it has found it published (--skip-unchanged), and
there may be no artifact.

It is a pointer as `latest` is one: with what it points at it can be carried to another machine
(archives of some engines know no links).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from imagebuild.errors import ConfigError
from imagebuild.manifest import ArtifactView, open_artifact
from imagebuild.outfile import put
from imagebuild.pipeline.cells import ImageCell
from imagebuild.pipeline.outcome import RunReport

SCHEMA_VERSION = 1
#: Below IMAGES; no artifact is called so.
DIRECTORY = "cells"


def pointer(images: Path, pipeline: str, cell_id: str) -> Path:
    """The file that says which artifact a cell has."""
    return images / DIRECTORY / pipeline / f"{cell_id}.json"


def point(
    images: Path, pipeline: str, cell_id: str, artifact: Path, build_id: str, *,
    is_skipped: bool = False,
) -> None:  # fmt: skip
    """Say it. Raises PreflightError, and OSError."""
    path = pointer(images, pipeline, cell_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "schema_version": SCHEMA_VERSION,
        "artifact": artifact.name if artifact.parent == images else str(artifact),
        "build_id": build_id,
        "skipped": is_skipped,
    }
    put(path, json.dumps(document, indent=2) + "\n")


def pointed(images: Path) -> set[Path]:
    """What cells have, of all pipelines that share IMAGES."""
    found = set()
    for path in images.glob(f"{DIRECTORY}/*/*.json"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            found.add(images / str(json.loads(path.read_text())["artifact"]))
    return found


def is_skipped(images: Path, pipeline: str, cell_id: str) -> bool:
    """Whether the job that was to build it has found nothing to do."""
    try:
        document = json.loads(pointer(images, pipeline, cell_id).read_text())
        return document["skipped"] is True
    except (OSError, ValueError, KeyError, TypeError):
        return False


def find(
    images: Path, pipeline: str, cell_id: str, named: str, earlier: Sequence[RunReport]
) -> ArtifactView:
    """The artifact of a cell: that which is `named`, else that which was built last.

    Raises ConfigError when nothing says which, or it is not there or damaged.
    """
    if named:
        return open_artifact(Path(named), images)
    tried = []
    for place in _places(images, pipeline, cell_id, earlier):
        if (place / "manifest.json").is_file():
            return open_artifact(place)
        tried.append(str(place))
    raise ConfigError(
        f"the artifact of {cell_id} is not there" if tried else f"{cell_id} was never built here",
        where=str(images),
        detail="\n".join(f"not there: {t}" for t in dict.fromkeys(tried)),
        hint="run its build phase first, bring its images and reports directories from where it "
        "ran, or name one: --artifact DIR",
    )


def check_fits(cell: ImageCell, view: ArtifactView) -> None:
    """Raise ConfigError for an artifact that cannot be this cell's: somebody has named another."""
    agent = view.content.get("agent")
    series = agent.get("series") if isinstance(agent, Mapping) else None
    for what, wanted, found in (
        ("architecture", cell.arch, view.content.get("arch")),
        ("series", cell.series, series),
    ):
        if wanted and found and str(wanted) != str(found):
            raise ConfigError(
                f"the artifact is of the {what} {found}, {cell.id} of {wanted}",
                where=str(view.directory),
                hint="name the artifact of this cell with --artifact",
            )


def _places(images: Path, pipeline: str, cell_id: str, earlier: Sequence[RunReport]) -> list[Path]:
    """Where it may be, the likeliest place first."""
    found = []
    try:
        document = json.loads(pointer(images, pipeline, cell_id).read_text())
        found.append(images / str(document["artifact"]))
    except (OSError, ValueError, KeyError, TypeError):
        pass
    for report in reversed(earlier):
        cell = report.cell(cell_id)
        if cell and cell.artifact:
            # Where another machine has built it, its name alone means something here.
            found += [Path(cell.artifact), images / Path(cell.artifact).name]
            break
    return found
