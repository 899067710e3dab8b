"""Which file goes up, and its conversion for clouds whose store wants raw images."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from imagebuild.digest import of_file
from imagebuild.errors import BuildError, ConfigError, Interrupted, PreflightError, PublishError
from imagebuild.events import Emit, Note
from imagebuild.host.run import need, run
from imagebuild.manifest import FILE_NAME, ArtifactView, Image
from imagebuild.publish.gate import is_verified
from imagebuild.verify.place import place

#: The order in which a format is chosen, where people do not: what needs the least bandwidth
#: and what every hypervisor of OpenStack's takes.
_ORDER = ("qcow2", "raw", "vmdk", "vhd")


@dataclass(frozen=True)
class Source:
    """An image of an artifact, and the format that it is to have in the cloud. `sha512` is what
    its verification has found, if that was about this file.
    """

    image: Image
    format: str
    sha512: str | None = None

    @property
    def is_converted(self) -> bool:
        """Whether another file than the artifact's own goes up."""
        return self.format != self.image.format

    @property
    def virtual_size(self) -> int | None:
        """Bytes of the disk that a guest sees; None when nobody says."""
        if self.image.virtual_size is not None:
            return self.image.virtual_size
        return _virtual_size(self.image.path)


@dataclass(frozen=True)
class Payload:
    """The file that goes up. `sha256` and `sha512` are what it must have; None for a file just
    converted, `sha512` for one that was never verified, too.
    """

    path: Path
    size: int
    sha256: str | None
    sha512: str | None = None


def choose(view: ArtifactView, *, fmt: str | None = None, convert: bool = False) -> Source:
    """The image that goes up: of the format `fmt`, else by what is usual; with `convert` raw.

    To convert, the artifact's own raw image is taken if that is the verified one, else what
    was verified is converted: the proof is about what was verified. Raises ConfigError when
    the artifact has no such image, or is not what its SHA256SUMS say.
    """
    _check_manifest(view)
    images = {i.format: i for i in reversed(view.images)}
    if convert:
        usable = [images[f] for f in ("raw", "qcow2") if f in images and images[f].path.is_file()]
        proven = [i for i in usable if is_verified(view, i.sha256)]
        found = next(iter((*proven, *usable)), None)
    elif fmt:
        found = images.get(fmt)
    else:
        ranked = [images[f] for f in _ORDER if f in images]
        found = next((i for i in ranked if i.path.is_file()), next(iter(ranked), None))
    if found is None or not found.path.is_file():
        wanted = fmt or ("raw or qcow2" if convert else "any format")
        raise ConfigError(
            f"the artifact has no image of {wanted}" if found is None else "the image is gone",
            where=str(view.directory if found is None else found.path),
            detail="its images: " + (", ".join(i.path.name for i in view.images) or "none"),
            hint="build it with that format, or choose another one",
        )
    if view.sums.get(found.path.name) != found.sha256:
        raise _damaged(view, f"{found.path.name} is not in it with the manifest's digest")
    return Source(found, "raw" if convert else found.format, _sha512(view, found))


@contextmanager
def ready(source: Source, cache: Path, emit: Emit) -> Iterator[Payload]:
    """The file itself; what was converted is removed at the end, or by the next run.

    Raises PreflightError where there is no qemu-img or no room for the conversion, and
    PublishError when it fails.
    """
    image = source.image
    if not source.is_converted:
        size = image.path.stat().st_size
        if size != image.size:
            raise PublishError(
                "the image is not what its manifest says", where=str(image.path),
                detail=f"{size} bytes; {image.size} are expected",
                hint="copy the artifact anew, or build the image anew",
            )  # fmt: skip
        yield Payload(image.path, size, image.sha256, source.sha512)
        return
    tool = need("qemu-img", "qemu-utils")
    with place(cache / "scratch") as here:
        _check_room(here.path, source)
        emit(Note(f"converting {image.path.name} to {source.format}"))
        # The proof and the digest are about this file, so it is read once for that alone.
        if of_file(image.path) != image.sha256:
            raise PublishError(
                "the image is not what its manifest says", where=str(image.path),
                detail="its sha256 is another",
                hint="copy the artifact anew, or build the image anew",
            )  # fmt: skip
        target = here.path / f"{image.path.stem}.{source.format}"
        argv = [tool, "convert", "-f", image.format, "-O", source.format]
        try:
            run([*argv, image.path, target], what=f"cannot convert {image.path.name}")
        except Interrupted:
            raise
        except BuildError as exc:
            raise PublishError(exc.what, where=exc.where, detail=exc.detail) from exc
        yield Payload(target, target.stat().st_size, None)


def _sha512(view: ArtifactView, image: Image) -> str | None:
    verified = (view.verification or {}).get("image", {})
    found = verified.get("sha512") if verified.get("sha256") == image.sha256 else None
    return found if isinstance(found, str) else None


def _check_room(here: Path, source: Source) -> None:
    """Raise PreflightError when the converted file may not fit: it is sparse, so what counts
    is the content, which nobody knows before; a compressed one grows some three times.
    """
    likely = min(source.image.size * 3, source.virtual_size or source.image.size * 3)
    free = shutil.disk_usage(here).free
    if free < likely:
        raise PreflightError(
            "there is too little room to convert the image", where=str(here),
            detail=f"{likely >> 20} MiB may be needed, {free >> 20} MiB are free",
            hint="--cache-dir DIR chooses another place",
        )  # fmt: skip


def _check_manifest(view: ArtifactView) -> None:
    if view.sums.get(FILE_NAME) != of_file(view.directory / FILE_NAME):
        raise _damaged(view, f"{FILE_NAME} is not as it was written")


def _damaged(view: ArtifactView, detail: str) -> ConfigError:
    return ConfigError(
        "the artifact is not what its SHA256SUMS say", where=str(view.directory), detail=detail,
        hint="copy the artifact anew, or build the image anew",
    )  # fmt: skip


def _virtual_size(path: Path) -> int | None:
    """From the file itself: qcow2's header (docs/interop/qcow2.txt, byte 24), a raw's size."""
    with path.open("rb") as file:
        head = file.read(32)
        if head[:4] == b"QFI\xfb":
            return int.from_bytes(head[24:32], "big")
        return file.seek(0, os.SEEK_END) if path.suffix == ".raw" else None
