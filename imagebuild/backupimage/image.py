"""What a builder made, turned into the image that is pushed: an OCI image of our own making.

Layers of the base image stay the very blobs that its registry has, so that images on one base
share them. Of the others, what was lent to the build is left out, and the rest is compressed
in one way always. Formats: OCI image specification 1.1 (manifest.md, config.md, layer.md).
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
import re
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any

from imagebuild.backupimage.dockerfile import HELPER
from imagebuild.backupimage.redirects import PROXIES
from imagebuild.errors import BuildError
from imagebuild.registry.manifest import Descriptor, Manifest, read_manifest
from imagebuild.registry.pull import PulledImage

_OCI = "application/vnd.oci.image"
_LEVEL = 4
_BLOCK = 1 << 20
#: Of the configuration, what a guest's docker reads (config.md); builders add things of their own.
_KEPT = ("architecture", "variant", "os")
_KEPT_CONFIG = (
    "User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels",
    "StopSignal", "Healthcheck",
)  # fmt: skip
#: How builders note the instruction that sets our shell.
_SHELL = re.compile(r"#\(nop\)\s+SHELL")
#: Labels that say which program built it.
_BUILDERS_LABELS = ("io.buildah.version", "io.imagebuild.leftover")


_EMPTY: tuple[dict[str, bool], dict[str, bool]] = ({}, {"empty_layer": True})


@dataclass(frozen=True)
class Built:
    """What a builder made: its configuration, and its layers from the lowest up, by diff_id.

    The layers' files are plain tar archives, those of the base image excepted: None.
    """

    config: bytes
    layers: tuple[Path | None, ...]


@dataclass(frozen=True)
class BackupImage:
    """An image that is in a directory of blobs whole: `blobs` are configuration and layers."""

    directory: Path
    manifest: Manifest
    blobs: tuple[Descriptor, ...]
    labels: Mapping[str, str]
    created: str

    @property
    def size(self) -> int:
        """Bytes of its blobs: what a guest without any of them pulls."""
        return sum(b.size for b in self.blobs)

    def path(self, blob: Descriptor) -> Path:
        """Where a blob is."""
        return self.directory / blob.digest.replace(":", "/")

    def read(self, blob: Descriptor, start: int = 0) -> Iterator[bytes]:
        """A blob's bytes."""
        with self.path(blob).open("rb") as file:
            file.seek(start)
            while block := file.read(_BLOCK):
                yield block


def diff_ids(config: bytes) -> list[str]:
    """The digests of the plain layers. Raises BuildError."""
    try:
        return [str(d) for d in json.loads(config)["rootfs"]["diff_ids"]]
    except (ValueError, LookupError, TypeError) as exc:
        raise BuildError("the builder made an image without a list of its layers") from exc


def shared_layers(config: bytes, base: PulledImage) -> int:
    """How many of the lowest layers are those of the base image. Raises BuildError."""
    own, below = diff_ids(config), list(base.image.diff_ids)
    if own[: len(below)] != below:
        raise BuildError(
            "the image that was built does not stand on its base image",
            where=str(base.resolved.reference),
            detail=f"the base's layers: {', '.join(below)}\nthe image's: {', '.join(own)}",
        )
    return len(below)


def assemble(
    built: Built,
    base: PulledImage,
    labels: Mapping[str, str],
    created: int,
    directory: Path,
) -> BackupImage:
    """Write configuration, layers and manifest into `directory`; `created` is seconds since 1970.

    Raises BuildError.
    """
    (directory / "sha256").mkdir(parents=True)
    config: dict[str, Any] = json.loads(built.config)
    shared = shared_layers(built.config, base)
    layers = [_of_base(n, base, directory) for n in range(shared)]
    ids = list(base.image.diff_ids)
    gone = set()
    for number, path in enumerate(built.layers[shared:], shared):
        assert path is not None  # noqa: S101 - only layers of the base are not handed over
        if (packed := _pack(path, directory)) is None:
            gone.add(number)
            continue
        descriptor, diff_id = packed
        layers.append(descriptor)
        ids.append(diff_id)
    when = datetime.fromtimestamp(created, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    document = _config(config, base, labels, when)
    document["history"] = _history(config.get("history") or [], base, gone, when)
    document["rootfs"] = {"type": "layers", "diff_ids": ids}
    settings = _put(directory, json.dumps(document, sort_keys=True).encode())
    settings = dataclasses.replace(settings, media_type=f"{_OCI}.config.v1+json")
    data = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": f"{_OCI}.manifest.v1+json",
            "config": settings.to_json(),
            "layers": [layer.to_json() for layer in layers],
        }
    ).encode()
    manifest = read_manifest(data, "", "the new image")
    _put(directory, data)
    blobs = tuple({b.digest: b for b in (*layers, settings)}.values())
    return BackupImage(directory, manifest, blobs, document["config"]["Labels"], when)


def _of_base(number: int, base: PulledImage, directory: Path) -> Descriptor:
    known = base.resolved.layers[number]
    # docker's kinds end in .tar.gzip, OCI's in .tar+gzip.
    form = next((f for f in ("gzip", "zstd") if known.media_type.endswith(f)), "")
    target = directory / known.digest.replace(":", "/")
    if not target.exists():
        try:
            target.hardlink_to(base.layers[number])
        except OSError:
            shutil.copyfile(base.layers[number], target)
    kind = f"{_OCI}.layer.v1.tar" + (f"+{form}" if form else "")
    return Descriptor(kind, known.digest, known.size)


def _pack(layer: Path, directory: Path) -> tuple[Descriptor, str] | None:
    """Compress a layer without what was lent; None when nothing else is in it."""
    plain, packed = hashlib.sha256(), hashlib.sha256()
    size, found = 0, False
    with tempfile.NamedTemporaryFile(dir=directory, delete=False) as file:
        place = Path(file.name)

        class _Out:
            """Hashes what the compressor writes."""

            def write(self, data: bytes) -> int:
                nonlocal size
                packed.update(data)
                size += len(data)
                return file.write(data)

            def flush(self) -> None:
                """Nothing is kept back."""

        out: IO[bytes] = _Out()  # type: ignore[assignment]
        with gzip.GzipFile("", "wb", _LEVEL, out, mtime=0) as archive:
            for block in _kept(layer):
                found = True
                plain.update(block)
                archive.write(block)
            end = bytes(2 * tarfile.BLOCKSIZE)
            plain.update(end)
            archive.write(end)
    if not found:
        place.unlink()
        return None
    digest = f"sha256:{packed.hexdigest()}"
    place.chmod(0o644)
    place.replace(directory / digest.replace(":", "/"))
    kind = f"{_OCI}.layer.v1.tar+gzip"
    return Descriptor(kind, digest, size), f"sha256:{plain.hexdigest()}"


def _kept(layer: Path) -> Iterator[bytes]:
    """The members of a plain tar archive that are the image's own, byte for byte."""
    name = HELPER.strip("/")
    try:
        with layer.open("rb") as raw, tarfile.open(fileobj=raw, mode="r:") as archive:
            members = archive.getmembers()
            # A member's extended headers stand before it, and `offset` is where they begin.
            ends = [m.offset for m in members[1:]] + [archive.offset]
            for member, end in zip(members, ends, strict=True):
                if name in member.name.split("/") or member.name.endswith(f".wh.{name}"):
                    continue
                raw.seek(member.offset)
                left = end - member.offset
                while left:
                    block = raw.read(min(left, _BLOCK))
                    if not block:
                        raise BuildError("a layer ends early", where=str(layer))
                    left -= len(block)
                    yield block
    except (tarfile.TarError, zlib.error) as exc:
        raise BuildError("a layer of the builder cannot be read", where=str(layer),
                         detail=str(exc)) from exc  # fmt: skip


def _config(
    document: dict[str, Any], base: PulledImage, labels: Mapping[str, str], when: str
) -> dict[str, Any]:
    """The image's configuration, without a trace of how it was built."""
    of_base = json.loads(base.config).get("config") or {}
    config = {k: v for k, v in (document.get("config") or {}).items() if k in _KEPT_CONFIG and v}
    known = set(of_base.get("Env") or [])
    config["Env"] = [
        entry
        for entry in config.get("Env") or []
        if entry in known or entry.partition("=")[0].lower() not in PROXIES
    ]
    own = {k: v for k, v in (config.get("Labels") or {}).items() if k not in _BUILDERS_LABELS}
    config["Labels"] = dict(sorted({**own, **labels}.items()))
    kept = {k: v for k, v in document.items() if k in _KEPT and v}
    return {**kept, "config": config, "created": when}


def _history(
    entries: list[dict[str, Any]], base: PulledImage, gone: set[int], when: str
) -> list[dict[str, Any]]:
    below = json.loads(base.config).get("history") or []
    found, layer = list(below), len(base.image.diff_ids) - 1
    for entry in entries[len(below) :]:
        is_empty = bool(entry.get("empty_layer"))
        layer += not is_empty
        said = str(entry.get("created_by", ""))
        if (not is_empty and layer in gone) or _SHELL.search(said) \
           or any(label in said for label in _BUILDERS_LABELS):  # fmt: skip
            continue
        said = said.replace(f"{HELPER}/shell", "/bin/sh -c")
        found.append({"created": when, "created_by": said, **_EMPTY[is_empty]})
    return found


def _put(directory: Path, data: bytes) -> Descriptor:
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    (directory / digest.replace(":", "/")).write_bytes(data)
    return Descriptor("", digest, len(data))
