"""What we copy is what skopeo copies, and what it can read; buildah's own images among it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from imagebuild.host.run import need, run
from imagebuild.mirror.result import Outcome
from imagebuild.registry.client import Client
from tests.mirror.mirrors import digest_of, fetch, item, problems, sync
from tests.mirror.test_copier import IMAGES
from tests.registry_server import RegistryServer

#: Debian's skopeo refuses what is no image when it copies to a directory.
READABLE = ("docker", "docker-list", "buildx", "odd")


def skopeo(*argv: str | Path) -> bytes:
    return run([need("skopeo"), *argv], env={**os.environ, "TMPDIR": "/var/tmp"}).stdout


def all_digests(host: str, repository: str, tag: str) -> dict[str, bytes]:
    """All manifests below a tag, byte for byte."""
    found: dict[str, bytes] = {}
    left = [tag]
    while left:
        answer = fetch(host, repository, f"manifests/{left.pop()}")
        assert answer.ok
        found[answer.headers["Docker-Content-Digest"]] = answer.content
        left += [m["digest"] for m in json.loads(answer.content).get("manifests", [])]
    return found


@pytest.mark.parametrize("kind", READABLE)
def test_same_as_skopeo(
    source: RegistryServer, target: RegistryServer, client: Client, tmp_path: Path, kind: str
) -> None:
    made = IMAGES[kind]
    made.push(source, f"both/{kind}", "1")
    [result] = sync(client, item(f"{source.host}/both/{kind}:1", f"{target.host}/ours/{kind}:1"))
    assert result.outcome is Outcome.COPIED
    theirs = f"docker://{target.host}/theirs/{kind}:1"
    skopeo("copy", "--all", "--src-tls-verify=false", "--dest-tls-verify=false",
           f"docker://{source.host}/both/{kind}:1", theirs)  # fmt: skip
    ours = f"docker://{target.host}/ours/{kind}:1"
    raw = skopeo("inspect", "--raw", "--tls-verify=false", ours)
    assert raw == made.manifest == skopeo("inspect", "--raw", "--tls-verify=false", theirs)
    assert all_digests(target.host, f"ours/{kind}", "1") == all_digests(
        target.host, f"theirs/{kind}", "1"
    )
    # It reads every blob, and checks its digest.
    skopeo("copy", "--all", "--src-tls-verify=false", ours, f"dir:{tmp_path}")
    assert (tmp_path / "manifest.json").read_bytes() == made.manifest


@pytest.mark.image  # buildah needs root
def test_image_that_buildah_has_made(
    source: RegistryServer, target: RegistryServer, client: Client, tmp_path: Path
) -> None:
    """As a site builds its backup images; and what skopeo has copied before is not sent again."""
    (tmp_path / "tool").write_bytes(b"x" * 100_000)
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY tool /bin/tool\nLABEL a=b\n")
    storage: list[str | Path] = ["--root", tmp_path / "root", "--runroot", tmp_path / "run",
               "--storage-driver", "vfs"]  # fmt: skip
    name = f"{source.host}/buildah:1"
    run([need("buildah"), *storage, "bud", "--isolation", "chroot", "--timestamp", "0",
         "-t", name, tmp_path])  # fmt: skip
    run([need("buildah"), *storage, "push", "--tls-verify=false", name, f"docker://{name}"])
    skopeo("copy", "--src-tls-verify=false", "--dest-tls-verify=false",
           f"docker://{name}", f"docker://{target.host}/buildah:by-skopeo")  # fmt: skip
    [result] = sync(client, item(name, f"{target.host}/buildah:1"))
    assert (result.outcome, result.bytes_copied) == (Outcome.COPIED, 0)
    assert result.bytes_present == result.size > 0
    assert digest_of(target.host, "buildah", "1") == digest_of(source.host, "buildah", "1")
    assert not list(problems(target.host, "buildah", "1"))
