"""`imagebuild backup-image build` as people run it, and what must be true of what it builds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagebuild.host.run import run
from imagebuild.registry.client import Client
from imagebuild.registry.manifest import image_manifest
from imagebuild.registry.reference import Reference

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "canary-archive-Kx7"  # noqa: S105 - of a server that lives for a test
PROXY = "canary-proxy.invalid"


@dataclass(frozen=True)
class Ended:
    """A command that has ended, and whether a process had the password as an argument."""

    status: int
    out: str
    err: str
    exposed: bool

    def json(self) -> dict[str, Any]:
        assert self.status == 0, self.err
        document: dict[str, Any] = json.loads(self.out)
        return document


def start(place: Path, *words: str, **environment: str) -> subprocess.Popen[str]:
    """`imagebuild backup-image build …`"""
    env = dict(os.environ) | {
        "PYTHONPATH": str(ROOT), "IMAGEBUILD_CACHE_DIR": str(place), "no_proxy": PROXY,
    } | environment  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-m", "imagebuild", "backup-image", "build", *words],
        env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def ended(process: subprocess.Popen[str]) -> Ended:
    exposed = threading.Event()
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.3):
            if PASSWORD in arguments():
                exposed.set()

    watcher = threading.Thread(target=look)
    watcher.start()
    out, err = process.communicate(timeout=600)
    over.set()
    watcher.join()
    return Ended(process.returncode, out, err, exposed.is_set())


def arguments() -> str:
    """The command lines of all processes."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().decode(errors="replace"))
        except OSError:
            continue
    return "\n".join(found)


def build(place: Path, *words: str, **environment: str) -> Ended:
    return ended(start(place, *words, **environment))


def check_image(client: Client, made: dict[str, Any], base: str, tmp_path: Path) -> None:
    """What every built image must be, whoever built it."""
    (first, *_) = (Reference.parse(t) for t in made["targets"])
    manifest = client.get_manifest(first)
    assert manifest.digest == made["result"]["digest"]
    for target in made["targets"]:
        described = client.head_manifest(Reference.parse(target))
        assert described is not None
        assert described.digest == manifest.digest
    below = client.get_manifest(Reference.parse(base))
    parts, lower = image_manifest(manifest, str(first)), image_manifest(below, base)
    shared = len(lower.layers)
    assert [d.digest for d in parts.layers[:shared]] == [d.digest for d in lower.layers]
    raw = client.get_blob(first, parts.config)
    config = json.loads(raw)
    labels = config["config"]["Labels"]
    assert labels["org.opencontainers.image.base.digest"] == below.digest
    assert labels["org.opencontainers.image.base.name"] == base
    assert labels["imagebuild.datastore"] == made["datastore"]
    assert labels["imagebuild.datastore-version"] == made["version"]
    assert labels.get("imagebuild.trove-version") == made["trove"]["version"]
    assert labels.get("imagebuild.trove-commit") == made["trove"]["commit"]
    assert labels["org.opencontainers.image.created"] == config["created"]
    assert not [k for k in labels if "buildah" in k or "leftover" in k]
    # skopeo reads every byte, and sees whether digests and sizes are right.
    copied = tmp_path / "copied"
    run(["skopeo", "copy", "--src-tls-verify=false", "--preserve-digests", f"docker://{first}",
         f"dir:{copied}"])  # fmt: skip
    check_clean(raw, [copied / d.digest.partition(":")[2] for d in parts.layers[shared:]])


def check_clean(config: bytes, layers: Sequence[Path]) -> None:
    """Nothing of how it was built is in the image."""
    for word in (PASSWORD, PROXY, ".imagebuild"):
        assert word.encode() not in config
    names = set()
    for layer in layers:
        with tarfile.open(layer) as archive:
            for member in archive:
                names.add(member.name)
                content = archive.extractfile(member) if member.isreg() else None
                if content:
                    data = content.read()
                    assert PASSWORD.encode() not in data, member.name
                    assert PROXY.encode() not in data, member.name
                    if member.name == "etc/apt/sources.list":
                        assert b"127.0.0.1" not in data
    assert "opt/trove/backup/main.py" in names, "the layers have been looked at"
    assert not [n for n in names if ".imagebuild" in n]
