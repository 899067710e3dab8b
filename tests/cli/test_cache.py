"""imagebuild cache: what it says of the store, and what it removes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from imagebuild.cli.main import run
from imagebuild.store.store import Kind, Object, Store
from tests.unit.store_objects import IMAGE, key, stored

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="removes as root, in a namespace")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def two(store: Store, tmp_path: Path) -> list[Object]:
    """Two objects; the second was used last, in 2001."""
    made = []
    for number, kind in ((1, Kind.BASE), (2, Kind.QCOW2)):
        made.append(stored(store, tmp_path, key(number, kind), tree=number == 1))
        os.utime(store.lock_path(key(number, kind), "use"), (10**9 + number,) * 2)
    return made


def cache(store: Store, *arguments: str) -> int:
    return run(["cache", *arguments, "--store", str(store.root), "--cache-dir", "/nonexistent"])


def said(capsys: pytest.CaptureFixture[str]) -> Any:  # noqa: ANN401
    document = json.loads(capsys.readouterr().out)
    assert document["schema_version"] == 1
    return document


def test_list(store: Store, two: list[Object], capsys: pytest.CaptureFixture[str]) -> None:
    with store.hold(two[0].key) as held:
        held.share()
        assert cache(store, "list", "--store-size", "1G") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == ""
    assert lines[1].startswith(f"{store.root}: ")
    assert lines[1].endswith(" in 2 objects, limit 1.0 GiB")
    assert lines[2].split() == ["kind", "id", "image", "size", "made", "last", "used", "in", "use"]
    assert lines[3].split()[:3] == ["qcow2", "000000020000", IMAGE]
    assert "2001-09-0" in lines[3]
    assert lines[4].split()[:3] == ["base", "000000010000", IMAGE]
    assert lines[4].endswith(" yes")


def test_list_json(store: Store, two: list[Object], capsys: pytest.CaptureFixture[str]) -> None:
    assert cache(store, "list", "--json", "--store-size", "none") == 0
    [listed] = said(capsys)["stores"]
    assert listed | {"objects": []} == {
        "path": str(store.root), "shared": False, "limit": None,
        "size": sum(o.size for o in two), "objects": [],
    }  # fmt: skip
    assert listed["objects"][1] == {
        "kind": "base", "id": key(1).id, "image": IMAGE, "path": str(two[0].path),
        "size": two[0].size, "created": round(two[0].created), "used": 10**9 + 1, "in_use": False,
    }  # fmt: skip


def test_list_without_a_store(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert cache(store, "list") == 0
    assert capsys.readouterr().out == f"\n{store.root}: 0 B in 0 objects, limit 40.0 GiB\n"
    assert not store.root.exists()


def test_own_store_is_listed_beside_a_shared_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o2770)
    env = ["--store", str(shared), "--cache-dir", str(tmp_path / "cache")]
    assert run(["cache", "list", "--json", *env]) == 0
    assert [(s["path"], s["shared"]) for s in said(capsys)["stores"]] == [
        (str(shared), True), (str(tmp_path / "cache/store"), False),
    ]  # fmt: skip


@as_root
def test_prune_removes_what_was_unused_longest(
    store: Store, two: list[Object], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cache(store, "prune", "--dry-run", "--all") == 0
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" (")[0] for line in lines] == [f"would remove {o.path}" for o in two]
    assert all(o.path.exists() for o in two)
    assert cache(store, "prune", "--json", "--older-than", "1d") == 0
    removed = said(capsys)
    assert removed["removed"][0] == {
        "kind": "base", "id": key(1).id, "path": str(two[0].path), "size": two[0].size,
    }  # fmt: skip
    assert len(removed["removed"]) == 2
    assert not any(o.path.exists() for o in two)
    assert cache(store, "prune", "--all") == 0
    assert capsys.readouterr().err == "nothing to remove\n"


@as_root
def test_prune_to_a_size_spares_what_is_in_use(
    store: Store, two: list[Object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMAGEBUILD_STORE_SIZE", "0")
    with store.hold(two[0].key) as held:
        held.share()
        assert cache(store, "prune") == 0
        assert [o.path.exists() for o in two] == [True, False]
    assert cache(store, "prune", "--size", "1G") == 0
    assert two[0].path.exists()
    assert cache(store, "prune") == 0
    assert not two[0].path.exists()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["prune", "--size", "much"], "'much' is not a size"),
        (["prune", "--older-than", "1y"], "'1y' is not an age: write 14d, 12h or 30m"),
        (["list", "--store-size", "-1"], "'-1' is not a size"),
    ],
)
def test_values_that_make_no_sense(
    store: Store, arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cache(store, *arguments) == 2
    assert text in capsys.readouterr().err


@as_root
def test_verify(store: Store, two: list[Object], capsys: pytest.CaptureFixture[str]) -> None:
    assert cache(store, "verify") == 0
    whole = capsys.readouterr()
    assert whole.out == "".join(f"{o.path}: whole\n" for o in two)
    assert whole.err == "2 objects, 0 damaged\n"
    info = (two[0].tree / "etc/passwd").stat()
    (two[0].tree / "etc/passwd").write_text("DISK")
    os.utime(two[0].tree / "etc/passwd", ns=(info.st_atime_ns, info.st_mtime_ns))
    assert cache(store, "verify") == 5
    damaged = capsys.readouterr()
    assert damaged.out == (
        f"{two[0].path}: DAMAGED\n"
        "  tree/etc/passwd: its content is not what was stored\n"
        "  tree/etc/same: its content is not what was stored\n"
        f"{two[1].path}: whole\n"
    )
    assert damaged.err == "2 objects, 1 damaged\n"
    assert cache(store, "verify", "--json", "--remove") == 5
    assert said(capsys)["objects"][0] == {
        "path": str(two[0].path),
        "damage": [
            "tree/etc/passwd: its content is not what was stored",
            "tree/etc/same: its content is not what was stored",
        ],
        "skipped": False,
        "removed": True,
    }
    assert cache(store, "verify") == 0
    assert not two[0].path.exists()
