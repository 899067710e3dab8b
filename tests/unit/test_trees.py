"""Trees: DIB's environment, package lists, and what is kept of a run: a tree or a layer."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from imagebuild import dib, inventory, layers
from imagebuild.errors import BuildError
from imagebuild.host.run import run
from imagebuild.stages import trees
from imagebuild.stages.stack import Stack
from tests.unit.layer_objects import base_object, by_path
from tests.unit.test_layers import in_namespace

STATUS = """\
Package: zlib1g
Status: install ok installed
Version: 1:1.2.13
Description: compression library
 Version: 9 is what this line is not
 .

Package: adduser
Status: install ok installed
Version: 3.134

Package: vim
Status: deinstall ok config-files
Version: 2:9.0

Package: half
Status: install ok half-installed
Version: 1

Package: pending
Status: install ok unpacked
Version: 1
"""


def write_status(tree: Path) -> None:
    (tree / "var/lib/dpkg").mkdir(parents=True)
    (tree / "var/lib/dpkg/status").write_text(STATUS)


def test_only_installed_packages_count(tmp_path: Path) -> None:
    write_status(tmp_path)
    found = trees.dpkg_list(tmp_path)
    assert list(found.items()) == [("adduser", "3.134"), ("zlib1g", "1:1.2.13")]


def test_packages_of_another_architecture_have_names_of_their_own(tmp_path: Path) -> None:
    write_status(tmp_path)
    paragraphs = [
        f"Package: {name}\nStatus: install ok installed\nArchitecture: {arch}\nVersion: {version}\n"
        for name, arch, version in (
            ("dpkg", "arm64", "1.21"), ("libc6", "arm64", "2.36"), ("libc6", "armhf", "2.36"),
            ("tzdata", "all", "2024a"),
        )
    ]  # fmt: skip
    (tmp_path / "var/lib/dpkg/status").write_text("\n".join(paragraphs))
    assert trees.dpkg_list(tmp_path) == {
        "dpkg": "1.21", "libc6": "2.36", "libc6:armhf": "2.36", "tzdata": "2024a",
    }  # fmt: skip


def test_python_packages_of_the_agent(tmp_path: Path) -> None:
    write_status(tmp_path)
    assert trees.package_lists(tmp_path)["python_packages"] == {}
    info = tmp_path / "opt/guest-agent-venv/lib/python3.11/site-packages/trove-25.0.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: trove\nVersion: 25.0.0\n")
    lists = trees.package_lists(tmp_path)
    assert lists["python_packages"] == {"trove": "25.0.0"}
    assert lists["packages"]["adduser"] == "3.134"


def test_fill() -> None:
    paths = {"scratch": "/s", "cache": "/c"}
    assert trees.fill(["{scratch}/a:{cache}/b", "{other}", "plain", "{scratch}"], paths) == [
        "/s/a:/c/b", "{other}", "plain", "/s",
    ]  # fmt: skip


def test_environment_is_an_allow_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CANARY", "http_proxy", "DIB_DEBUG_TRACE", "PYTHONPATH", "ELEMENTS_PATH"):
        monkeypatch.setenv(name, "canary")
    tree, work = tmp_path / "tree", tmp_path / "work"
    work.mkdir()
    plan = {"ELEMENTS_PATH": "{elements}", "IMAGEBUILD_APT_DIR": "{scratch}/apt"}
    env = trees.dib_env(plan, {"elements": "/e", "scratch": "/s"}, tree, work)
    assert set(env) == {
        *plan, "PATH", "LANG", "LC_ALL", "HOME", "TZ", "TMP_DIR", "TMPDIR", "DIB_NO_TIMESTAMP",
        "DIB_LOCKFILES", "DIB_MANIFEST_SAVE_DIR", "IMAGEBUILD_TREE_OUT", "DEBIAN_FRONTEND",
    }  # fmt: skip
    assert "canary" not in str(env)
    assert env["ELEMENTS_PATH"] == "/e"
    assert env["IMAGEBUILD_APT_DIR"] == "/s/apt"
    assert env["IMAGEBUILD_TREE_OUT"] == str(tree)
    assert {env[n] for n in ("HOME", "TMP_DIR", "TMPDIR")} == {str(work)}


def test_sudo_inside_is_ours(tmp_path: Path) -> None:
    env = trees.dib_env({}, {}, tmp_path / "tree", tmp_path)
    assert Path(env["PATH"].split(":")[0]) == tmp_path / "bin"
    script = """
        sudo -E -n env
        echo "at $(command -v sudo)"
        sudo -v && sudo A=1 sh -c 'echo A is $A' && sudo -H -- echo after
        sudo --unknown echo refused || echo status $?
    """
    lines = run(["/bin/sh", "-c", script], env={**env, "KEPT": "yes"}).stdout.decode().splitlines()
    assert "KEPT=yes" in lines
    assert lines[-4:] == [f"at {tmp_path}/bin/sudo", "A is 1", "after", "status 1"]


#: In the place of disk-image-create: makes the tree that it was told to.
FAKE = f"""
import os, pathlib, sys
tree = pathlib.Path(os.environ["IMAGEBUILD_TREE_OUT"])
(tree / "etc").mkdir(parents=True)
(tree / "var/lib/dpkg").mkdir(parents=True)
(tree / "var/lib/dpkg/status").write_text({STATUS!r})
(tree / "etc/argv").write_text(" ".join(sys.argv[1:]))
print("dib-run-parts Running /tmp/x/install.d/10-a")
print("dib-run-parts 10-a completed", flush=True)
"""
WHOLE = FAKE + '(tree / "etc/os-release").write_text("ID=debian")\n'
#: What DIB does with a tree that was made before: the first hook moves it to its place.
SEEDED = """
import os, pathlib, shutil, sys
tree = pathlib.Path(os.environ["IMAGEBUILD_TREE_OUT"])
pathlib.Path(os.environ["IMAGEBUILD_SEED_TREE"]).rename(tree)
(tree / "etc/new").mkdir()
(tree / "etc/new/file").write_text("new")
(tree / "etc/changed").write_text("changed")
(tree / "etc/gone").unlink()
"""
#: A hook that moves a directory of the tree below: the layer cannot be what an overlay kept.
MOVING = SEEDED + '(tree / "usr/old").rename(tree / "srv/moved")\n'

#: Later than the file's own time is what the build wrote.
EPOCH = 1_700_000_000
NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="mounts overlays: needs root")


def compose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, below: Stack | None = None
) -> Path:
    """Run a program in DIB's place; the draft of what it made."""
    monkeypatch.setattr(dib, "_ENTRY", code)
    monkeypatch.setattr(trees, "_use_memory", lambda _place: False)
    scratch, draft = tmp_path / "scratch", tmp_path / "draft"
    for path in (scratch, draft):
        path.mkdir()
    hooks = trees.compose(
        "agent" if below else "base",
        ["disk-image-create", "{scratch}/image"],
        {"IMAGEBUILD_SEED_TREE": "{seed}"} if below else {},
        [],
        {"scratch": str(scratch)},
        below=below,
        draft=draft,
        emit=lambda event: None,  # noqa: ARG005
        seconds=30,
        epoch=EPOCH,
    )
    assert [hook[:2] for hook in hooks] == ([] if below else [("install", "10-a")])
    assert list(scratch.iterdir()) == []
    return draft


def test_a_base_is_a_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draft = compose(tmp_path, monkeypatch, WHOLE)
    assert [p.name for p in draft.iterdir()] == ["tree"]
    entries = by_path(list(inventory.walk(draft / "tree")))
    assert (draft / "tree/etc/argv").read_text() == f"{tmp_path}/scratch/image"
    # Where the last layer puts what the image is.
    assert (entries["/etc/imagebuild"].kind, entries["/etc/imagebuild"].mode) == ("dir", 0o755)
    assert not [p for p in entries if p.startswith("/etc/imagebuild/")]
    assert {e.mtime for e in entries.values()} == {EPOCH}


@NEEDS_ROOT
def test_a_base_composed_in_memory_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = list(inventory.walk(compose(tmp_path, monkeypatch, WHOLE) / "tree"))
    for name in ("m", "memory"):
        (tmp_path / name).mkdir()
    in_namespace(tmp_path, f"""
        from imagebuild import dib
        from imagebuild.stages import trees
        dib._ENTRY, trees.MEMORY_KIB = {WHOLE!r}, {64 << 10}
        trees.compose(
            "base", ["disk-image-create", "{tmp_path}/scratch/image"], {{}}, [],
            {{"scratch": str(here / "m")}}, below=None, draft=here / "memory",
            emit=lambda event: None, seconds=30, epoch={EPOCH},
        )
        assert str(here) not in open("/proc/self/mountinfo").read(), "the memory is given back"
    """)  # fmt: skip
    assert list(inventory.walk(tmp_path / "memory/tree")) == listed


@NEEDS_ROOT
@pytest.mark.parametrize("code", [SEEDED, MOVING], ids=["plain", "moving"])
def test_a_layer_is_what_a_run_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    files = {
        "etc/os-release": "ID=debian", "etc/changed": "", "etc/gone": "", "usr/old/a": "1",
        "usr/same": "same", "srv/": "",
    }  # fmt: skip
    base = base_object(tmp_path / "base", files)
    before = list(inventory.walk(base / "tree"))
    draft = compose(tmp_path, monkeypatch, code, Stack.of([base]))
    layer = layers.read(draft / layers.FILE_NAME)
    moved = ["/srv/moved", "/srv/moved/a"] if code == MOVING else []
    changed = {e.path for e in layer.entries if e.kind == "file"}
    assert changed == {"/etc/new/file", "/etc/changed", *moved[1:]}
    assert set(layer.removed) == {"/etc/gone", *(["/usr/old"] if moved else [])}
    found = by_path(layers.merge(before, layer))
    assert {"/usr/same", "/etc/new/file", *moved} <= found.keys()
    assert not {"/etc/gone", *(["/usr/old"] if moved else [])} & found.keys()
    assert found["/etc/new/file"].mtime == EPOCH
    for path in changed:
        assert (draft / "tree" / path[1:]).is_file(), path
    assert not (draft / "tree/usr/same").exists()
    assert list(inventory.walk(base / "tree")) == before, "what lies below is as it was"


@pytest.mark.parametrize(
    ("code", "what"),
    [
        (WHOLE + "sys.exit(1)", "diskimage-builder failed with status 1"),
        (FAKE, "diskimage-builder ended well but left no tree"),
    ],
)
def test_nothing_half_made_is_in_the_draft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, what: str
) -> None:
    with pytest.raises(BuildError) as caught:
        compose(tmp_path, monkeypatch, code)
    assert caught.value.what == what
    assert list((tmp_path / "draft").iterdir()) == []


@NEEDS_ROOT
def test_a_run_over_a_base_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = base_object(
        tmp_path / "base", {"etc/os-release": "x", "etc/changed": "", "etc/gone": ""}
    )
    before = list(inventory.walk(base / "tree"))
    with pytest.raises(BuildError, match="failed with status 3"):
        compose(tmp_path, monkeypatch, SEEDED + "sys.exit(3)", Stack.of([base]))
    assert list((tmp_path / "draft").iterdir()) == []
    assert list((tmp_path / "scratch").iterdir()) == []
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
    assert list(inventory.walk(base / "tree")) == before
