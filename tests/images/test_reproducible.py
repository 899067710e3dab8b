"""Two builds of a pinned archive, by different users in different places: what differs?"""

from __future__ import annotations

import json

import pytest

from imagebuild import inventory
from imagebuild.compare import compare
from imagebuild.manifest import open_artifact
from tests.images.builds import Built, Session

pytestmark = pytest.mark.image


@pytest.fixture(scope="module")
def again(session: Session, jammy: Built) -> Built:
    return session.build_again(jammy)


def test_ids_are_the_same(jammy: Built, again: Built) -> None:
    ids = [[s["id"] for s in b.manifest["stages"]] for b in (jammy, again)]
    assert ids[0] == ids[1]
    assert "already built" not in again.stderr


def test_package_lists_are_the_same(jammy: Built, again: Built) -> None:
    assert (jammy.artifact / "packages.txt").read_bytes() == (
        again.artifact / "packages.txt"
    ).read_bytes()


def test_root_filesystems_are_the_same(jammy: Built, again: Built) -> None:
    one, other = (
        {e.path: e for e in inventory.read(b.artifact / inventory.FILE_NAME)}
        for b in (jammy, again)
    )
    differing = [p for p in sorted(one.keys() | other.keys()) if one.get(p) != other.get(p)]
    assert differing == []
    assert jammy.manifest["rootfs"] == again.manifest["rootfs"]


def test_images_are_the_same(jammy: Built, again: Built) -> None:
    sums = [{o["file"]: o["sha256"] for o in b.manifest["outputs"]} for b in (jammy, again)]
    assert sums[0] == sums[1]


def test_no_file_is_younger_than_the_archive(jammy: Built) -> None:
    disk = next(s for s in jammy.manifest["stages"] if s["name"] == "disk")
    epoch = disk["parts"][0]["inputs"]["epoch"]
    entries = inventory.read(jammy.artifact / inventory.FILE_NAME)
    # What is in preloaded containers keeps its times.
    assert max(e.mtime for e in entries if "/overlay2/" not in e.path) == epoch


def test_pin_is_in_the_manifest_and_in_the_guest(jammy: Built, session: Session) -> None:
    assert session.standin
    made = session.standin.made
    assert jammy.manifest["profile"]["mirror"]["snapshot"] == made
    sources = jammy.fs.read("/etc/apt/sources.list.d/archive.sources")
    assert f"URIs: {session.standin.url}/{made}\n" in sources
    assert "Check-Valid-Until: no\n" in sources


def test_nothing_differs(jammy: Built, again: Built) -> None:
    """What `imagebuild diff` counts, over everything that an artifact tells."""
    comparison = compare(open_artifact(jammy.artifact), open_artifact(again.artifact))
    assert comparison.same_rootfs
    assert {name: count for name, count in comparison.counts.items() if count} == {}
    assert comparison.differences == 0


def test_manifests_differ_in_nothing(jammy: Built, again: Built) -> None:
    documents = [json.loads((b.artifact / "manifest.json").read_text()) for b in (jammy, again)]
    for document in documents:
        # Where the build's own files were.
        del document["profile"]
    assert documents[0] == documents[1]
