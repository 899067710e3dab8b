"""A preloaded container: in the image, known to the guest's docker, not fetched again."""

from __future__ import annotations

import json

import pytest

from imagebuild import sbom
from imagebuild.manifest import open_artifact
from tests.images.builds import Built, Session
from tests.images.registry import (
    DATABASE,
    DATABASE_OS,
    DATABASE_PACKAGE,
    DATABASE_SAYS,
    Registry,
)
from tests.images.test_sbom import purls

pytestmark = pytest.mark.image


@pytest.fixture
def registry(session: Session) -> Registry:
    assert session.build("jammy")
    assert session.registry
    return session.registry


def test_docker_has_it_before_it_asks(session: Session, registry: Registry) -> None:
    guest, image = session.booted("jammy"), registry.database
    assert guest.out("preloaded") == f"{DATABASE} {image.config.digest}"
    assert json.loads(guest.out("preloaded-layers")) == list(image.diff_ids)


def test_it_runs(session: Session) -> None:
    guest = session.booted("jammy")
    assert guest.out("preloaded-run").startswith(DATABASE_SAYS)
    files = set(guest.out("preloaded-files").split())
    assert {"sbin/ldconfig", "data/new", "etc/os-release"} <= files
    assert not {"etc/gone", "data/pad"} & files, "the upper layer removed them"


def test_a_pull_transfers_no_layer(session: Session, registry: Registry) -> None:
    """As Trove does when an instance is created: the manifest is asked for, and that is all."""
    guest = session.booted("jammy")
    assert "Image is up to date" in guest.out("preloaded-pull")
    asked = registry.blobs_asked_by_docker("db")
    assert not {layer.digest for layer in registry.database.layers} & set(asked)
    # The log does tell: the image that is not preloaded was fetched.
    assert registry.blobs_asked_by_docker("tiny")


def test_nothing_of_the_builders_docker_is_left(jammy: Built) -> None:
    docker = jammy.fs.listing("/var/lib/docker")
    assert set(docker) - {".", ".."} == {"image", "overlay2"}
    for path in ("/var/lib/containerd", "/etc/docker/key.json", "/var/lib/docker/engine-id"):
        assert not jammy.fs.exists(path), path


def test_lists_say_what_is_in_it(jammy: Built, registry: Registry) -> None:
    view, image = open_artifact(jammy.artifact), registry.database
    (found,) = view.components.containers
    assert (found.target, found.source) == (DATABASE, registry.database_source)
    assert (found.manifest, found.config) == (image.manifest.digest, image.config.digest)
    assert [(p.name, p.version) for p in found.packages] == [DATABASE_PACKAGE]
    for name in (sbom.SPDX, sbom.CYCLONEDX):
        listed = purls(view.sbom(name))
        assert [(p.name, p.version) for p in listed if p.type == "oci"] == [
            ("db", image.manifest.digest)
        ]
        own = [(p.name, p.version) for p in listed if p.namespace == DATABASE_OS]
        assert own == [DATABASE_PACKAGE]
