"""Trees: DIB's environment, package lists, and the way into the store."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from imagebuild import components, dib, inventory
from imagebuild.errors import BuildError
from imagebuild.host.run import run
from imagebuild.stages import trees

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


def test_content_is_the_same_text_for_the_same_value() -> None:
    content = {"b": {"y": 1, "x": "é"}, "a": [2, 1]}
    text = trees.render_content(content)
    assert text == trees.render_content({"a": [2, 1], "b": {"x": "é", "y": 1}})
    assert json.loads(text) == content
    assert text.endswith("}\n")


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


#: Later than the file's own time is what the build wrote.
EPOCH = 1_700_000_000


def compose(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: str,
    content: Mapping[str, Any] | None,
) -> dict[str, Any]:
    monkeypatch.setattr(dib, "_ENTRY", code)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    entry = tmp_path / "trees/base-0123"
    return trees.compose(
        "base",
        ["disk-image-create", "{scratch}/image"],
        {},
        [],
        {"scratch": str(scratch), "entry": str(entry), "image": "trove-guest-x"},
        emit=lambda event: None,  # noqa: ARG005
        seconds=30,
        content=content,
        owner=(os.getuid(), os.getgid()),
        epoch=EPOCH,
    )


def test_a_finished_tree_is_in_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    older = tmp_path / "trees/base-0123/half"
    older.mkdir(parents=True)  # left by a process that was killed while removing
    answer = compose(tmp_path, monkeypatch, WHOLE, {"profile": "x"})
    entry = tmp_path / "trees/base-0123"
    # An entry that lacks one of these is made anew.
    wanted = trees.entry_files({})
    assert set(wanted) == {"meta.json", "rootfs.jsonl.gz", "components.json.gz"}
    assert sorted(p.name for p in entry.iterdir()) == sorted([*wanted, "tree"])
    assert (entry / "tree/etc/argv").read_text() == f"{tmp_path}/scratch/image"
    content = {
        "profile": "x",
        "packages": {"adduser": "3.134", "zlib1g": "1:1.2.13"},
        "python_packages": {},
    }
    inside = (entry / "tree/etc/imagebuild/content.json").read_text()
    assert inside == trees.render_content(content)
    meta = json.loads((entry / "meta.json").read_text())
    assert (meta["image"], meta["content"]) == ("trove-guest-x", content)
    assert [hook[:2] for hook in meta["hooks"]] == [["install", "10-a"]]
    assert answer["content"] == content
    files = inventory.read(entry / "rootfs.jsonl.gz")
    made_of = components.read(entry / "components.json.gz")
    assert [d.name for d in made_of.debs] == ["adduser", "zlib1g"]
    assert (made_of.rootfs, len(made_of.owners)) == (answer["rootfs"]["sha256"], len(files))
    assert answer["rootfs"] == inventory.write(files, tmp_path / "again.gz").to_json()
    assert {"/etc/argv", "/etc/imagebuild/content.json"} <= {f.path for f in files}
    assert {f.mtime for f in files} == {EPOCH}
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_tree_without_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = compose(tmp_path, monkeypatch, WHOLE, None)
    assert (answer["content"], answer["rootfs"]) == ({}, {})
    names = {p.name for p in (tmp_path / "trees/base-0123").iterdir()}
    assert names == {*trees.entry_files(None), "tree"} == {"meta.json", "tree"}
    assert not (tmp_path / "trees/base-0123/tree/etc/imagebuild").exists()


@pytest.mark.parametrize(
    ("code", "what"),
    [
        (WHOLE + "sys.exit(1)", "diskimage-builder failed with status 1"),
        (FAKE, "diskimage-builder ended well but left no tree"),
    ],
)
def test_nothing_half_made_is_in_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, what: str
) -> None:
    with pytest.raises(BuildError) as caught:
        compose(tmp_path, monkeypatch, code, {})
    assert caught.value.what == what
    assert not (tmp_path / "trees").exists()
