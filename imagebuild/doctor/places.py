"""Which directories a build will write to, and how much."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from imagebuild.doctor.check import Place

if TYPE_CHECKING:
    from imagebuild.config.profile import Profile

#: Bytes of an image file, by format and compression: production images measured, rounded up.
_COMPRESSED = 1 << 30
_PLAIN = 3 << 30


def places_of(
    profile: Profile | None,
    images: Path,
    artifacts: Path | None = None,
    files: Sequence[Path] = (),
) -> tuple[Place, ...]:
    """The artifact's parent directory, and those of the files of -o."""
    formats = [str(f) for f in profile.formats] if profile else ["qcow2"]
    whole = sum(image_size(profile, f) for f in formats)
    if artifacts:
        places = [Place("--artifacts", artifacts.parent, whole)]
    else:
        places = [Place("--images-dir", images, whole)]
    places += [Place("-o", f.parent, 0, image_size(profile, f.suffix[1:])) for f in files]
    return tuple(places)


def image_size(profile: Profile | None, fmt: str) -> int:
    """About how large an image of a format gets, in bytes; never more than its disk."""
    is_plain = fmt in ("raw", "vhd") or (
        fmt == "qcow2" and profile is not None and str(profile.compression) == "none"
    )
    size = _PLAIN if is_plain else _COMPRESSED
    return min(size, profile.disk.size_bytes) if profile else size
