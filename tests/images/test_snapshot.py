"""debian bookworm, pinned to a point in time of a service with the layout of Debian's own."""

from __future__ import annotations

import datetime
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagebuild.compare import compare
from imagebuild.manifest import open_artifact
from tests.images.builds import REPO, Built, bookworm_argv
from tests.images.snapshots import Snapshots

pytestmark = pytest.mark.image


@pytest.fixture(scope="module")
def snapshots(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Snapshots]:
    service = Snapshots(tmp_path_factory.mktemp("snapshots"))
    try:
        yield service
    finally:
        service.stop()


def build(snapshots: Snapshots, *options: str) -> subprocess.CompletedProcess[str]:
    argv = bookworm_argv(*snapshots.options, *options)
    return subprocess.run(argv, capture_output=True, text=True, check=False, cwd=REPO)


def shifted(snapshots: Snapshots, **by: int) -> str:
    moment = datetime.datetime.strptime(snapshots.made, "%Y%m%dT%H%M%SZ")
    return (moment + datetime.timedelta(**by)).strftime("%Y%m%dT%H%M%SZ")


def test_plan_reads_the_snapshot_and_not_the_mirror(snapshots: Snapshots, tmp_path: Path) -> None:
    done = build(
        snapshots, "--snapshot", snapshots.made, "--dry-run", "--json",
        "--cache-dir", str(tmp_path / "cache"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    archives = json.loads(done.stdout)["stages"][0]["inputs"]["archives"]
    assert [a["snapshot"] for a in archives] == [True, True]
    assert all(f"/{snapshots.made}" in a["url"] for a in archives)
    asked = {p.replace(snapshots.made, "T") for p in snapshots.requests}
    assert asked >= {
        "/archive/debian/T/dists/bookworm/InRelease",
        "/archive/debian/T/dists/bookworm-updates/InRelease",
        "/archive/debian-security/T/dists/bookworm-security/InRelease",
    }


def test_time_of_which_nothing_was_kept(snapshots: Snapshots, tmp_path: Path) -> None:
    done = build(
        snapshots, "--snapshot", shifted(snapshots, days=-1), "--dry-run",
        "--cache-dir", str(tmp_path / "cache"),
    )  # fmt: skip
    assert done.returncode == 3
    assert "error: the mirror has no suite 'bookworm'" in done.stderr


@pytest.mark.full("trust")
def test_pinned_build_differs_from_the_other_in_its_sources_alone(
    bookworm: Built, snapshots: Snapshots, tmp_path: Path
) -> None:
    """The mirror of the first build is the one behind the service, in the same state."""
    images = tmp_path / "images"
    done = build(
        snapshots, "--snapshot", snapshots.made,
        "--cache-dir", str(tmp_path / "cache"), "--images-dir", str(images),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    pinned = open_artifact(images / "trove-guest-debian-bookworm-amd64")
    plain = open_artifact(bookworm.artifact)
    comparison = compare(plain, pinned)
    assert pinned.manifest["content"]["packages"] == plain.manifest["content"]["packages"]
    one, other = ({e.path: e.to_json() for e in view.inventory} for view in (plain, pinned))
    assert {p for p in one.keys() | other.keys() if one.get(p) != other.get(p)} == {
        "/etc/apt/sources.list.d/archive.sources",
        "/etc/apt/sources.list.d/security.sources",
        "/etc/imagebuild/content.json",
    }
    assert len(comparison.files) == comparison.counts["files"] == 3
    assert not comparison.same_rootfs
    assert any("/pool/" in p for p in snapshots.requests)
