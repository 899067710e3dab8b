"""What differs between two artifacts, and what does not."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imagebuild import artifact, compare, components, inventory
from imagebuild.compare import Change, Comparison, FileChange, Kind, SizeChange
from imagebuild.components import Container, ContainerPackage
from imagebuild.diffreport import markdown
from imagebuild.errors import ConfigError
from imagebuild.inventory import Entry
from imagebuild.manifest import ArtifactView, open_artifact
from tests.unit.made_up import FILES, SITE, TIME, make_artifact, make_tree
from tests.unit.test_plan import make_agent, make_inputs


def made(tmp_path: Path, name: str, *sets: str, **more: Any) -> ArtifactView:  # noqa: ANN401
    """An artifact of a tree of its own; `change` is called with the tree."""
    tree = make_tree(tmp_path / f"{name}-tree", **more.pop("files", {}))
    more.pop("change", lambda _tree: None)(tree)
    return open_artifact(make_artifact(tree, tmp_path / name, *sets, **more))


def section(comparison: Comparison, name: str) -> list[tuple[str, str, str | None, str | None]]:
    return [(c.name, c.kind.value, c.before, c.after) for c in comparison.sections[name]]


def test_builds_that_are_the_same(tmp_path: Path) -> None:
    found = compare.compare(made(tmp_path, "a"), made(tmp_path, "b"))
    assert found.differences == 0
    assert set(found.counts.values()) == {0}
    assert found.same_rootfs is True
    assert (found.files, found.directories, found.skipped, found.file_counts) == ((), (), (), {})
    assert found.images == (SizeChange("qcow2", 5, 5, True),)


def test_the_same_inputs_with_other_bytes(tmp_path: Path) -> None:
    """Not reproducible: each way in which it shows counts."""
    found = compare.compare(made(tmp_path, "a"), made(tmp_path, "b", image="imago"))
    assert {n: c for n, c in found.counts.items() if c} == {"descriptions": 3, "images": 1}
    assert [c.name for c in found.sections["descriptions"]] == [
        "manifest.json", "sbom.cdx.json", "sbom.spdx.json",
    ]  # fmt: skip
    assert found.same_rootfs is True


def test_packages_go_up_and_down(tmp_path: Path) -> None:
    before = {"gone": "1", "up": "1.9-1", "down": "1.0-1", "epoch": "9.9", "same": "1"}
    after = {"new": "2", "up": "1.10-1", "down": "1.0~rc1-1", "epoch": "1:0.1", "same": "1"}
    found = compare.compare(
        made(tmp_path, "a", packages=before, python_packages={"x": "1.9", "o": "a", "d": "2.0"}),
        made(tmp_path, "b", packages=after, python_packages={"x": "1.10", "o": "b", "d": "2.0rc1"}),
    )
    assert found.sections["packages"] == (
        Change("down", Kind.DOWNGRADED, "1.0-1", "1.0~rc1-1"),
        Change("epoch", Kind.UPGRADED, "9.9", "1:0.1"),
        Change("gone", Kind.REMOVED, "1", None),
        Change("new", Kind.ADDED, None, "2"),
        Change("up", Kind.UPGRADED, "1.9-1", "1.10-1"),
    )
    kinds = {c.name: c.kind for c in found.sections["python_packages"]}
    assert kinds == {"d": Kind.DOWNGRADED, "o": Kind.CHANGED, "x": Kind.UPGRADED}


def test_profile_agent_and_archives(tmp_path: Path) -> None:
    inputs = make_inputs("disk.size=8G", agent=make_agent(version="26.0.0", commit="c" * 40))
    archives = list(inputs.archives)
    suites = tuple(dataclasses.replace(s, sha256="9" * 64) for s in archives[0].suites[:1])
    archives[0] = dataclasses.replace(archives[0], suites=(*suites, *archives[0].suites[1:]))
    elements = dict(inputs.elements)
    elements["environment"] = tuple(
        dataclasses.replace(e, sha256="0" * 64) for e in elements["environment"][:1]
    )
    inputs = dataclasses.replace(
        inputs, archives=tuple(archives), elements=elements, tools={**inputs.tools, "mtools": "5"}
    )
    found = compare.compare(
        made(tmp_path, "a", datasources=["ConfigDrive"]),
        made(tmp_path, "b", inputs=inputs, datasources=["OpenStack", "ConfigDrive"]),
    )
    assert section(found, "profile") == [("disk.size", "changed", "5G", "8G")]
    assert section(found, "agent") == [
        ("commit", "added", None, "c" * 40),
        ("version", "changed", "25.0.0", "26.0.0"),
    ]
    assert section(found, "archives") == [("archive/bookworm", "changed", "a" * 64, "9" * 64)]
    assert section(found, "tools") == [("mtools", "changed", "4.0.33", "5")]
    assert section(found, "datasources") == [
        ("list", "changed", "ConfigDrive", "OpenStack, ConfigDrive")
    ]
    changed = section(found, "elements")
    assert [c[1] for c in changed if c[3] == "0" * 64] == ["changed"]
    assert {c[1] for c in changed} == {"changed", "removed"}
    # Of builds of different inputs the descriptions differ anyway.
    assert found.sections["descriptions"] == ()


def retouched(path: Path, do: Callable[[Path], object]) -> None:
    do(path)
    os.utime(path.parent, (TIME, TIME))
    if not path.is_symlink() and path.exists():
        os.utime(path, (TIME, TIME))


def replaced(path: Path) -> Path:
    path.unlink()
    return path


FILE_CHANGES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "content": ("usr/bin/dpkg", lambda p: p.write_text("e" * 5000)),
    "mode": ("usr/bin/dpkg", lambda p: p.chmod(0o4755)),
    "attributes": ("usr/bin/dpkg", lambda p: os.setxattr(p, "user.x", b"1")),
}


@pytest.mark.parametrize("kind", FILE_CHANGES)
def test_kinds_of_differences(tmp_path: Path, kind: str) -> None:
    name, change = FILE_CHANGES[kind]
    b = made(tmp_path, "b", change=lambda tree: retouched(tree / name, change))
    found = compare.compare(made(tmp_path, "a"), b)
    assert found.files == (FileChange(f"/{name}", (kind,), 5000, 5000),)
    assert found.file_counts == {kind: 1}
    assert found.counts["files"] == 1
    assert found.same_rootfs is False


def test_files_come_and_go(tmp_path: Path) -> None:
    def change(tree: Path) -> None:
        os.utime(tree / "usr/bin/dpkg", (TIME, TIME + 1))
        retouched(tree / "usr/lib/libz.so.2", lambda p: replaced(p).write_text("z" * 2000))
        (tree / "usr/lib/libz.so.2").chmod(0o755)
        retouched(tree / "boot/initrd.img", lambda p: replaced(p).symlink_to("x"))
        os.utime(tree / "boot/initrd.img", (TIME, TIME), follow_symlinks=False)

    files = {"etc/new": "n" * 7, "usr/bin/dpkg.real": None}
    b = made(tmp_path, "b", files=files, change=change)
    found = compare.compare(made(tmp_path, "a"), b)
    differs = {f.path: f.differs for f in found.files}
    assert {f: d for f, d in differs.items() if d != ("mode",)} == {
        "/boot/initrd.img": ("kind", "content", "mode"),
        "/etc/new": ("added",),
        "/usr/bin/dpkg": ("time",),
        "/usr/bin/dpkg.real": ("removed",),
        "/usr/lib/libz.so.2": ("links",),
    }
    # The hard link became a file of its own. /etc has too little to be named.
    assert [(d.name, d.delta) for d in found.directories] == [
        ("/boot", -4000), ("/", 2000 - 4000 + 7 - 300), ("/usr/lib", 2000), ("/usr", 1700),
        ("/usr/bin", -300),
    ]  # fmt: skip


def test_owner_is_a_difference() -> None:
    one = Entry("/x", "file", 0o644, 0, 0, 1, 2, "d")
    assert compare._differs(one, dataclasses.replace(one, gid=7)) == ("owner",)


def test_units_and_users(tmp_path: Path) -> None:
    def change(tree: Path) -> None:
        units = tree / "etc/systemd/system"
        (units / "multi-user.target.wants/ssh.service").symlink_to("x")
        (units / "apt-daily.timer").unlink()
        (units / "docker.socket").symlink_to("/dev/null")

    passwd = FILES["etc/passwd"].replace("ubuntu:x:1000:1000", "guest:x:1000:1000")
    b = made(tmp_path, "b", files={"etc/passwd": passwd}, change=change)
    found = compare.compare(made(tmp_path, "a"), b)
    assert section(found, "units") == [
        ("apt-daily.timer", "removed", "masked", None),
        ("docker.socket", "changed", "sockets.target", "masked"),
        ("ssh.service", "added", None, "multi-user.target"),
    ]
    assert [(c[0], c[1]) for c in section(found, "users")] == [
        ("guest", "added"), ("ubuntu", "removed"),
    ]  # fmt: skip


def with_container(view: ArtifactView, config: str, *packages: ContainerPackage) -> ArtifactView:
    container = Container("r/db:1", "s/db:1", "i", "m", config, {}, packages)
    more = Container(f"r/{view.directory.parent.name}:1", "s/x:1", "i", "m", "c", {}, packages)
    path = view.directory / components.FILE_NAME
    made_of = dataclasses.replace(components.read(path), containers=(container, more))
    components.write(made_of, path)
    return open_artifact(view.directory)


def test_containers_and_their_packages(tmp_path: Path) -> None:
    old = ContainerPackage("deb", "zlib1g", "1.9", "amd64", "zlib", "1.9", "")
    new = dataclasses.replace(old, version="1.10")
    apk = ContainerPackage("apk", "musl", "1", "", "", "", "")
    a = with_container(made(tmp_path, "a"), "sha256:1", old)
    b = with_container(made(tmp_path, "b"), "sha256:2", new, apk)
    found = compare.compare(a, b).sections
    assert [(c.name, c.kind.value) for c in found["containers"]] == [
        ("r/a:1", "removed"),
        ("r/b:1", "added"),
        ("r/db:1", "changed"),
    ]
    assert found["container_packages"] == (
        Change("r/db:1 zlib1g", Kind.UPGRADED, "1.9", "1.10"),
        Change("r/db:1 musl", Kind.ADDED, None, "1"),
    )
    assert "Packages in containers" in markdown(compare.compare(a, b), 0)
    assert compare.compare(a, a).differences == 0


def test_images_of_other_formats(tmp_path: Path) -> None:
    a, b = made(tmp_path, "a"), made(tmp_path, "b", image="longer")
    document = json.loads((b.directory / "manifest.json").read_text())
    document["outputs"].append({"file": "x.raw", "format": "raw", "size": 9, "sha256": "1"})
    (b.directory / "manifest.json").write_text(json.dumps(document))
    found = compare.compare(a, open_artifact(b.directory))
    assert found.images == (SizeChange("qcow2", 5, 6), SizeChange("raw", None, 9))
    assert found.counts["images"] == 2


def test_older_artifacts_are_compared_in_part(tmp_path: Path) -> None:
    a, b = made(tmp_path, "a"), made(tmp_path, "b", packages={"x": "1"}, image="more")
    document = json.loads((a.directory / "manifest.json").read_text())
    del document["rootfs"]
    (a.directory / "manifest.json").write_text(json.dumps(document))
    for name in (inventory.FILE_NAME, components.FILE_NAME, "SHA256SUMS"):
        (a.directory / name).unlink()
    found = compare.compare(open_artifact(a.directory), b)
    assert found.same_rootfs is None
    assert found.skipped == (
        f"files, units and directories: no rootfs.jsonl.gz in {a.name}",
        f"users and containers: no components.json.gz in {a.name}",
        f"descriptions: no SHA256SUMS in {a.name}",
    )
    assert {c.name for c in found.sections["packages"]} >= {"x", "dpkg"}
    assert found.files == ()


def test_damaged_artifacts_are_not_compared(tmp_path: Path) -> None:
    a, b = made(tmp_path, "a"), made(tmp_path, "b")
    (b.directory / inventory.FILE_NAME).write_bytes(b"damaged")
    with pytest.raises(ConfigError, match="cannot read the inventory"):
        compare.compare(a, b)


def test_forty_thousand_files_take_less_than_a_second(tmp_path: Path) -> None:
    """Reading left out. It takes a quarter of that."""
    entries = [
        Entry(f"/usr/{n % 40}/{n % 999}/{n}", "file", 0o644, 0, 0, n, TIME, f"{n:064x}")
        for n in range(40_000)
    ]
    other = [dataclasses.replace(e, data="0") if n % 7 else e for n, e in enumerate(entries)]
    a, b = made(tmp_path, "a"), made(tmp_path, "b")
    for view, files in ((a, entries), (b, other)):
        view.__dict__["inventory"] = files
    started = time.process_time()
    found = compare.compare(a, b)
    assert time.process_time() - started < 1
    assert found.counts["files"] == sum(1 for n in range(40_000) if n % 7)


def test_json_has_all(tmp_path: Path) -> None:
    b = made(tmp_path, "b", files={"etc/new": "n"}, image="more")
    found = compare.compare(made(tmp_path, "a"), b)
    document = json.loads(json.dumps(found.to_json()))
    assert document["differences"] == found.differences
    assert document["files"][0] == {
        "path": "/etc/new", "differs": ["added"], "before": 0, "after": 1,
    }  # fmt: skip
    assert set(document) >= {"packages", "units", "images", "directories", "same_rootfs", "counts"}
    assert document["after"]["directory"] == str(b.directory)
    assert set(artifact.DESCRIPTIONS) >= {c["name"] for c in document["descriptions"]}
    assert SITE not in json.dumps(document["files"])
