"""What the image's own docker is told when it loads a container."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from imagebuild.errors import BuildError
from imagebuild.stages import engine


def configuration(root: Path, text: str | None) -> dict[str, object]:
    if text is not None:
        (root / "etc/docker").mkdir(parents=True)
        (root / "etc/docker/daemon.json").write_text(text)
    return engine._configuration(root)


def test_the_image_decides_about_the_store_and_nothing_else(tmp_path: Path) -> None:
    own = {
        "storage-driver": "overlay2",
        "features": {"containerd-snapshotter": True},
        "insecure-registries": ["r.example"],
        "iptables": True,
        "hosts": ["tcp://0.0.0.0:2375"],
        "data-root": "/var/lib/docker",
    }
    found = configuration(tmp_path, json.dumps(own))
    assert {k: found[k] for k in ("storage-driver", "features")} == {
        k: own[k] for k in ("storage-driver", "features")
    }
    assert "insecure-registries" not in found
    assert "data-root" not in found
    assert found["iptables"] is False
    assert found["hosts"] == ["unix:///run/imagebuild-docker.sock"]


def test_without_one_docker_decides(tmp_path: Path) -> None:
    assert not {"storage-driver", "storage-opts", "features"} & set(configuration(tmp_path, None))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{", "the image's docker configuration is no JSON"),
        ("[]", "the image's docker configuration is no JSON object"),
        ('{"data-root": "/srv"}', "containers can be preloaded only to /var/lib/docker"),
    ],
)
def test_what_cannot_be_used(tmp_path: Path, text: str, what: str) -> None:
    with pytest.raises(BuildError) as caught:
        configuration(tmp_path, text)
    assert caught.value.what == what
