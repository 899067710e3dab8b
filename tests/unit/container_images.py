"""Small container images, made without any engine: an OCI layout with their blobs."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from imagebuild.digest import of_bytes
from imagebuild.registry.manifest import Descriptor
from imagebuild.stages.imagetar import LocalImage

TIME = 1_700_000_000
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"

#: The entries of a layer: content by path; a text beginning with "-> " is a link's target.
Files = Mapping[str, bytes | str]


def layer(files: Files) -> bytes:
    """A tar archive with these files."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.mtime, entry.mode = TIME, 0o755
            if isinstance(content, str) and content.startswith("-> "):
                entry.type, entry.linkname = tarfile.SYMTYPE, content[3:]
                archive.addfile(entry)
                continue
            data = content.encode() if isinstance(content, str) else content
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return raw.getvalue()


def compress(data: bytes, how: str) -> bytes:
    """`gzip`, `zstd`, or "" for as it is; the same bytes from the same."""
    if how == "gzip":
        return gzip.compress(data, mtime=0)
    if how == "zstd":
        return subprocess.run(["zstd", "-qc"], input=data, check=True, capture_output=True).stdout
    return data


def make_image(
    layout: Path,
    name: str,
    layers: Sequence[Files],
    compression: str = "gzip",
    command: Sequence[str] = ("/bin/sh",),
) -> LocalImage:
    """Write the blobs of an image, the layers lowest first, and say what it is."""
    plain = [layer(files) for files in layers]
    diff_ids = tuple(f"sha256:{of_bytes(data)}" for data in plain)
    suffix = f"+{compression}" if compression else ""
    blobs = tuple(_put(layout, compress(d, compression), _LAYER + suffix) for d in plain)
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": list(command), "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    configured = _put(layout, json.dumps(config).encode(), _CONFIG)
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": configured.to_json(),
        "layers": [b.to_json() for b in blobs],
    }
    described = _put(layout, json.dumps(manifest).encode(), _MANIFEST)
    return LocalImage(name, str(layout), described, configured, blobs, diff_ids)


def _put(layout: Path, data: bytes, media_type: str) -> Descriptor:
    digest = of_bytes(data)
    path = layout / "blobs/sha256" / digest
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return Descriptor(media_type, f"sha256:{digest}", len(data))
