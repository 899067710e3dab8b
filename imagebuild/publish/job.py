"""What is asked of every cloud: the same artifact, described the same way."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from imagebuild.manifest import ArtifactView
from imagebuild.publish.describe import Choice, Description, describe
from imagebuild.publish.gate import check_dev, check_series, check_verified
from imagebuild.publish.imports import DIRECT
from imagebuild.publish.payload import Source, choose


@dataclass(frozen=True)
class Way:
    """How the bytes go: `url` is for web-download. `timeout`: seconds that an import may
    take, and that a cloud may be silent. `cache` is the tool's cache directory.
    """

    cache: Path
    method: str = DIRECT
    url: str | None = None
    timeout: float = 1800.0
    dry_run: bool = False


@dataclass(frozen=True)
class Job:
    """`size` is the bytes of the file that goes up; None when it is still to be converted.
    `warning` is what was let through although it should not have been.
    """

    build_id: str
    source: Source
    description: Description
    size: int | None
    way: Way
    warning: str | None = None


def prepare(
    view: ArtifactView,
    choice: Choice,
    way: Way,
    *,
    fmt: str | None = None,
    convert: bool = False,
    unverified: bool = False,
    control_plane: str | None = None,
) -> Job:
    """What is to be published, after the gates. `fmt` and `convert` as in `payload.choose`;
    `control_plane` is the series of the Trove that it is for, where that is known.

    Raises PolicyError when a gate says no, UsageError for what Glance would not take,
    ConfigError when the artifact is damaged or has no such image.
    """
    check_dev(view, choice.visibility)
    check_series(view, control_plane)
    source = choose(view, fmt=fmt, convert=convert)
    image = source.image
    passed = check_verified(view, image.sha256, unverified=unverified)
    described = describe(
        view, choice, fmt=source.format, virtual_size=source.virtual_size,
        sha256=None if source.is_converted else image.sha256,
        source_sha256=image.sha256 if source.is_converted else None,
        proven=passed.proven,
    )  # fmt: skip
    size = None if source.is_converted else image.size
    return Job(view.build_id, source, described, size, way, passed.warning)
