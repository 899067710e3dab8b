"""Where the bytes are."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagebuild import sizes
from imagebuild.inventory import Entry
from imagebuild.manifest import ArtifactView, open_artifact
from imagebuild.sizes import Directory
from tests.unit.made_up import FILES, SITE, make_artifact, make_tree


def entry(path: str, size: int, kind: str = "file", same_as: str = "") -> Entry:
    return Entry(path, kind, 0o644, 0, 0, size, 0, same_as=same_as)


@pytest.fixture
def view(tmp_path: Path) -> ArtifactView:
    return open_artifact(make_artifact(make_tree(tmp_path / "tree"), tmp_path))


def test_directories_hold_all_below_them() -> None:
    entries = [
        entry("/", 0, kind="dir"),
        entry("/top", 1),
        entry("/a", 0, kind="dir"),
        entry("/a/b/x", 10),
        entry("/a/c/y", 100),
        entry("/a/c/z", 100, same_as="/a/c/y"),
    ]
    assert sizes.directories(entries) == {"/": 111, "/a": 110, "/a/b": 10, "/a/c": 100}


def test_tree_names_what_is_worth_it() -> None:
    below = {
        "/": 1000, "/usr": 900, "/usr/lib": 500, "/usr/lib/x": 400, "/usr/share": 300,
        "/usr/share/y": 5, "/opt": 95, "/opt/venv": 94, "/opt/venv/lib": 94, "/etc": 5,
    }  # fmt: skip
    whole = [
        Directory("/usr", 900, 0), Directory("/usr/lib", 500, 1), Directory("/usr/lib/x", 400, 2),
        Directory("/usr/share", 300, 1),
        # Nearly all of /opt is there.
        Directory("/opt/venv/lib", 94, 0),
    ]  # fmt: skip
    assert sizes.tree(below, 10) == whole
    assert sizes.tree(below, 10, depth=2) == [d for d in whole if d.depth < 2]
    assert sizes.tree(below, 350, depth=1) == whole[:1]


def test_packages_take_what_their_files_take(view: ArtifactView) -> None:
    found = sizes.packages(view.inventory, view.components)
    taken = {(p.kind, p.name, p.arch): (p.bytes, p.files, p.installed_size) for p in found}
    copyright_size = len(FILES["usr/share/doc/zlib1g/copyright"])
    python_size = sum(
        len(text) for name, text in FILES.items() if "oslo_x/" in name or "oslo.x-1.0" in name
    )
    assert taken == {
        ("deb", "zlib1g", "amd64"): (5000 + 2000 + copyright_size, 4, 2048),
        ("deb", "libstdc++6", "amd64"): (900, 1, 3072),
        ("deb", "libstdc++6", "i386"): (800, 1, 3072),
        ("deb", "dpkg", "amd64"): (300, 1, 7168),
        ("python", "oslo-x", ""): (python_size + 2, 5, None),
        ("python", "trove", ""): (0, 0, None),
    }
    assert [p.bytes for p in found] == sorted((p.bytes for p in found), reverse=True)


def test_what_belongs_to_nobody(view: ArtifactView) -> None:
    rest = sizes.unowned(view.inventory, view.components, 1)
    owned = sum(p.bytes for p in sizes.packages(view.inventory, view.components))
    assert rest.bytes + owned == sizes.directories(view.inventory)["/"]
    assert [(e.path, e.size) for e in rest.largest] == [("/boot/initrd.img", 4000)]
    assert f"/{SITE}/trove-25.0.0.dist-info/METADATA" in {
        e.path for e in sizes.unowned(view.inventory, view.components, 99).largest
    }


def test_largest_files_count_hard_links_once(view: ArtifactView) -> None:
    found = sizes.largest(view.inventory, 3)
    assert [e.path for e in found] == ["/usr/bin/dpkg", "/boot/initrd.img", "/usr/lib/libz.so.1"]
