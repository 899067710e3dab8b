"""Layers: the difference of two trees, and what an overlay left."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuild import inventory, layers
from imagebuild.errors import ConfigError
from imagebuild.inventory import Entry
from imagebuild.layers import Layer

NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def tree(files: dict[str, str]) -> list[Entry]:
    """The inventory of a tree: `name/` is a directory, `@target` as content a link."""
    entries = [Entry("/", "dir", 0o755, 0, 0, 0, 1)]
    for name, content in files.items():
        if name.endswith("/"):
            entries.append(Entry(name[:-1], "dir", 0o755, 0, 0, 0, 1, data=""))
        elif content.startswith("@"):
            entries.append(Entry(name, "link", 0o777, 0, 0, 0, 1, data=content[1:]))
        else:
            entries.append(Entry(name, "file", 0o644, 0, 0, len(content), 1, data=content))
    return sorted(entries, key=lambda e: layers.order(e.path))


@st.composite
def trees(draw: st.DrawFn) -> list[Entry]:
    """Small trees whose names collide often, as files, links and directories."""
    names = ("a", "a.b", "b", "a-b", "é")
    files: dict[str, str] = {}

    def fill(place: str, depth: int) -> None:
        for name in draw(st.lists(st.sampled_from(names), unique=True, max_size=4)):
            kind = draw(st.sampled_from(("file", "file", "link", "dir")))
            if kind == "dir" and depth < 3:
                files[f"{place}/{name}/"] = ""
                fill(f"{place}/{name}", depth + 1)
            else:
                content = draw(st.sampled_from(("1", "2")))
                files[f"{place}/{name}"] = content if kind == "file" else f"@{content}"

    fill("", 0)
    return tree(files)


@given(trees(), trees())
def test_a_difference_makes_one_tree_of_the_other(below: list[Entry], above: list[Entry]) -> None:
    layer = layers.difference(below, above)
    assert layers.merge(below, layer) == above
    known = {e.path: e for e in below}
    assert all(known.get(e.path) != e for e in layer.entries)
    for path in layer.removed:
        assert path in known
        assert not any(path.startswith(f"{other}/") for other in layer.removed)


@given(trees(), trees(), trees())
def test_layers_over_each_other(one: list[Entry], two: list[Entry], three: list[Entry]) -> None:
    first, second = layers.difference(one, two), layers.difference(two, three)
    assert layers.merge(one, first, second) == three


def test_the_order_is_that_of_an_inventory(tmp_path: Path) -> None:
    for name in ("a/z", "a.b", "a-b/c", "a/a/x", "b", "é"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [e.path for e in inventory.walk(tmp_path)]
    assert sorted(found, key=layers.order) == found


def test_a_list_is_read_as_it_was_written(tmp_path: Path) -> None:
    layer = Layer(tuple(tree({"/a/": "", "/a/é\udce9": "1"})), ("/b", "/c d"))
    paths = [tmp_path / "one", tmp_path / "two"]
    for path in paths:
        layers.write(layer, path)
    assert layers.read(paths[0]) == layer
    assert paths[0].read_bytes() == paths[1].read_bytes()
    paths[0].write_bytes(paths[0].read_bytes()[:-9])
    with pytest.raises(ConfigError, match="cannot read the list of a layer"):
        layers.read(paths[0])


#: Makes the base, mounts layers over it, and says what the merged tree holds.
_IN_NAMESPACE = """
import json, sys
from pathlib import Path
from imagebuild import inventory, layers
from imagebuild.host.run import run
from imagebuild.stages.overlay import close, overlay, view
here = Path(sys.argv[1])
{code}
"""


def in_namespace(here: Path, code: str) -> None:
    subprocess.run(
        ["unshare", "--mount", "--propagation", "private", sys.executable, "-c",
         _IN_NAMESPACE.format(code=textwrap.dedent(code)), here],
        check=True,
    )  # fmt: skip


def make(place: Path, names: Sequence[str]) -> Path:
    for name in names:
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir() if name.endswith("/") else path.write_text(name)
    for name in ("proc", "dev"):
        (place / name).mkdir(exist_ok=True)
    inventory.clamp_times(place, 1_000_000)
    return place


CHANGE = """
    rm -r opt/old etc/gone; echo new > etc/changed; mkdir -p opt/new/deep; echo x > opt/new/deep/x
    rm etc/file; mkdir etc/file; echo y > etc/file/y; rm -r etc/dir; ln -s nowhere etc/dir
    rm -r srv/again; mkdir srv/again; echo z > srv/again/z; chmod 700 usr; ln etc/changed etc/same
    find . -xdev -newermt 2000-01-01 -exec touch -h -d @1000000 {} +
"""
BASE = (
    "opt/old/a", "opt/old/b/c", "etc/gone", "etc/changed", "etc/file", "etc/dir/q", "usr/bin/tool",
    "srv/again/old", "srv/again/sub/old",
)  # fmt: skip


@NEEDS_ROOT
@pytest.mark.parametrize("way", ["upper", "taken"])
def test_a_layer_over_its_base_is_the_changed_tree(tmp_path: Path, way: str) -> None:
    """Both ways to a layer, an overlay's upper directory and the difference of two trees, give
    the same list, and a directory that, laid over the base, is the changed tree.
    """
    base = make(tmp_path / "base", BASE)
    whole = tmp_path / "whole"
    subprocess.run(["cp", "-a", base, whole], check=True)
    subprocess.run(["sh", "-ec", CHANGE], cwd=whole, check=True)
    below, above = list(inventory.walk(base)), list(inventory.walk(whole))
    wanted = layers.difference(below, above)
    if way == "upper":
        in_namespace(tmp_path, f"""
            with overlay([here / "base"], here / "place") as (root, upper):
                run(["umount", root / "proc", root / "dev"])
                run(["sh", "-ec", {CHANGE!r}], cwd=root)
                close(root)
                layer = layers.of_upper(upper, list(inventory.walk(here / "base")))
                layers.write(layer, here / "list")
                run(["cp", "-a", upper, here / "layer"])
        """)  # fmt: skip
        layer = layers.read(tmp_path / "list")
        assert layers.merge(below, layer) == above
        assert {e.path for e in layer.entries} == {e.path for e in wanted.entries}
    else:
        layers.take(whole, wanted, tmp_path / "layer", below)
    in_namespace(tmp_path, """
        with view([here / "layer", here / "base"], here / "seen") as tree:
            inventory.write(inventory.walk(tree), here / "merged")
    """)  # fmt: skip
    merged = inventory.read(tmp_path / "merged")
    names = {e.path: e for e in merged}
    assert names.keys() == {e.path for e in above}
    # An overlay shows a hard link's two names as they are in the layer, times to the second.
    assert [e for e in merged if e not in above] == []


@NEEDS_ROOT
def test_an_overlay_on_a_filesystem_that_cannot_carry_one(tmp_path: Path) -> None:
    """What a container's own root is: an overlay. The changes then lie in memory."""
    make(tmp_path / "base", BASE)
    for name in ("up", "work", "merged"):
        (tmp_path / name).mkdir()
    in_namespace(tmp_path, """
        options = f"lowerdir={here}/base,upperdir={here}/up,workdir={here}/work"
        run(["mount", "-t", "overlay", "overlay", "-o", options, here / "merged"])
        inner = here / "merged"
        with overlay([inner], inner / "place") as (root, upper):
            (root / "etc/changed").write_text("new")
            assert (upper / "etc/changed").read_text() == "new"
        assert not (inner / "place").exists()
        assert (inner / "etc/changed").read_text() == "etc/changed"
    """)  # fmt: skip
    shutil.rmtree(tmp_path / "up")
