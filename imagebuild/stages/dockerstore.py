"""What docker leaves behind, reduced to its image store and made the same in every build.

Of the classic store (moby, daemon/internal/layer and graphdriver/overlay2) two kinds of names
are random: the directory of each layer and the short name that the kernel's mount options
have for it. Both are only looked up, never computed by docker, so they get names that are
made from the layer's chain id. containerd's store has no random names; its databases hold
times, and what bbolt leaves in a file. Everything else that docker keeps beside its images is made
anew by the daemon when it starts.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import struct
from pathlib import Path

from imagebuild.errors import BuildError
from imagebuild.stages import boltdb

_DOCKER = "var/lib/docker"
_CONTAINERD = "var/lib/containerd"
#: Length of the short names (overlay2.go, idLength).
_LINK_LENGTH = 26


def start(out: Path) -> int:
    """The time of `out`'s filesystem, in nanoseconds: nothing made after this is older."""
    os.utime(out)
    return out.stat().st_mtime_ns


def tidy(out: Path, store: str, driver: str) -> None:
    """Remove all but the images: keys and ids of the machine, networks, caches, databases.

    `store` is "docker" or "containerd", `driver` the storage driver or snapshotter.
    """
    if store == "docker":
        _keep(out / _DOCKER, "image", driver)
        _keep(out / _CONTAINERD)
        (out / _CONTAINERD).rmdir()
        # A device node for quotas, with the numbers of this machine's disk.
        (out / _DOCKER / driver / "backingFsBlockDev").unlink(missing_ok=True)
        image = out / _DOCKER / "image" / driver
        # When each image was named last; what was pulled and pushed.
        _keep(image / "imagedb/metadata/sha256")
        _keep(image, "imagedb", "layerdb", "repositories.json")
        return
    _keep(out / _DOCKER)
    _keep(
        out / _CONTAINERD,
        "io.containerd.content.v1.content",
        "io.containerd.metadata.v1.bolt",
        f"io.containerd.snapshotter.v1.{driver}",
    )
    _keep(out / _CONTAINERD / "io.containerd.content.v1.content", "blobs")


def rename_layers(out: Path, driver: str) -> None:
    """Give the layers of the overlay2 driver names that are the same in every build.

    Layers that have them already stay as they are. Other drivers are not touched.
    """
    if driver != "overlay2":
        return
    store = out / _DOCKER / driver
    links: dict[str, str] = {}
    renamed = []
    for chain in sorted((out / _DOCKER / "image" / driver / "layerdb/sha256").iterdir()):
        old = (chain / "cache-id").read_text()
        new, link = _names(chain.name)
        if old == new:
            continue
        old_link = (store / old / "link").read_text()
        links[old_link] = link
        (store / old).rename(store / new)
        (chain / "cache-id").write_text(new)
        (store / new / "link").write_text(link)
        (store / "l" / old_link).unlink()
        (store / "l" / link).symlink_to(f"../{new}/diff")
        renamed.append(store / new / "lower")
    for lower in renamed:
        if lower.exists():
            names = [p.removeprefix("l/") for p in lower.read_text().split(":")]
            lower.write_text(":".join(f"l/{links.get(name, name)}" for name in names))


def _names(chain: str) -> tuple[str, str]:
    """Directory and short name of a layer, of the form that docker's random ones have."""
    digest = hashlib.sha256(f"imagebuild layer {chain}".encode())
    return digest.hexdigest(), base64.b32encode(digest.digest()).decode()[:_LINK_LENGTH]


def rewrite_databases(out: Path, driver: str, epoch: int) -> None:
    """Write containerd's databases anew, with the time `epoch` (seconds) wherever one stands.

    Does nothing where containerd has no images.
    """
    # As Go writes it (time.MarshalBinary): version, seconds, nanoseconds, -1 for UTC.
    moment = struct.pack(">Bqih", 1, epoch + _YEAR_ONE, 0, -1)
    for name in (
        "io.containerd.metadata.v1.bolt/meta.db",
        f"io.containerd.snapshotter.v1.{driver}/metadata.db",
    ):
        path = out / _CONTAINERD / name
        if path.exists():
            try:
                content, page_size = boltdb.read(path)
            except ValueError as exc:
                raise BuildError(
                    "cannot read containerd's database", where=f"/{_CONTAINERD}/{name}",
                    detail=str(exc),
                ) from exc  # fmt: skip
            _set_moments(content, moment)
            boltdb.write(content, path, page_size)


#: Seconds from the year 1, where Go's times begin, to 1970.
_YEAR_ONE = 62_135_596_800


def _set_moments(bucket: boltdb.Bucket, moment: bytes) -> None:
    for key, value in bucket.items.items():
        if isinstance(value, boltdb.Bucket):
            _set_moments(value, moment)
        elif key in (b"createdat", b"updatedat"):
            bucket.items[key] = moment


def set_times(out: Path, started: int, epoch: int) -> None:
    """Give what was made or changed since `started` (nanoseconds) the time `epoch` (seconds).

    Files that come out of a container's layers keep the times that they have there.
    """
    for here, directories, files in os.walk(out, topdown=False):
        for name in (*files, *directories):
            path = Path(here, name)
            if path.lstat().st_mtime_ns >= started:
                os.utime(path, (epoch, epoch), follow_symlinks=False)
    os.utime(out, (epoch, epoch))


def _keep(directory: Path, *names: str) -> None:
    """Remove everything in a directory but these."""
    if not directory.is_dir():
        return
    for path in directory.iterdir():
        if path.name in names:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
