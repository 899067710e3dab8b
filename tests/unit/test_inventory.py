"""The inventory of a root filesystem."""

from __future__ import annotations

import gzip
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from imagebuild import inventory
from imagebuild.errors import ConfigError
from imagebuild.inventory import Entry

TIME = 1_600_000_000


def make_tree(tree: Path) -> Path:
    """A tree with one of each kind, all times the same."""
    (tree / "etc").mkdir(parents=True)
    (tree / "etc/passwd").write_text("root")
    (tree / "etc/link").symlink_to("passwd")
    (tree / "etc.d").mkdir()
    os.link(tree / "etc/passwd", tree / "etc/same")
    os.mkfifo(tree / "etc/queue")
    for path in (tree, *tree.rglob("*")):
        os.utime(path, (TIME, TIME), follow_symlinks=False)
    return tree


def replaced(path: Path) -> Path:
    path.unlink()
    return path


def digest(tree: Path, tmp_path: Path) -> str:
    return inventory.write(inventory.walk(tree), tmp_path / "x.gz").sha256


def test_every_kind_of_file_is_listed(tmp_path: Path) -> None:
    entries = {e.path: e for e in inventory.walk(make_tree(tmp_path / "t"))}
    assert list(entries) == [
        "/", "/etc", "/etc/link", "/etc/passwd", "/etc/queue", "/etc/same", "/etc.d",
    ]  # fmt: skip
    file = entries["/etc/passwd"]
    assert (file.kind, file.size, file.mtime) == ("file", 4, TIME)
    assert file.data == "4813494d137e1631bba301d5acab6e7bb7aa74ce1185d456565ef51d737677b2"
    assert entries["/etc/same"].same_as == "/etc/passwd"
    assert (entries["/etc/link"].kind, entries["/etc/link"].data) == ("link", "passwd")
    assert entries["/etc/queue"].kind == "fifo"


def test_summary_counts_hard_links_once(tmp_path: Path) -> None:
    summary = inventory.write(inventory.walk(make_tree(tmp_path / "t")), tmp_path / "x.gz")
    assert (summary.entries, summary.bytes) == (7, 4)


CHANGES: dict[str, Callable[[Path], object]] = {
    "content": lambda t: (t / "etc/passwd").write_text("ROOT"),
    "mode": lambda t: (t / "etc/passwd").chmod(0o4755),
    "name": lambda t: (t / "etc.d").rename(t / "etc.e"),
    "link": lambda t: replaced(t / "etc/link").symlink_to("group"),
    "kind": lambda t: replaced(t / "etc/queue").mkdir(),
    "attribute": lambda t: os.setxattr(t / "etc/passwd", "user.x", b"1"),
    "time": lambda t: os.utime(t / "etc/passwd", (TIME, TIME + 1)),
    "hard link": lambda t: replaced(t / "etc/same").write_text("root"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_digest_covers(tmp_path: Path, change: str) -> None:
    tree = make_tree(tmp_path / "t")
    before = digest(tree, tmp_path)
    assert digest(make_tree(tmp_path / "u"), tmp_path) == before
    CHANGES[change](tree)
    if change != "time":
        for path in (tree, *tree.rglob("*")):
            os.utime(path, (TIME, TIME), follow_symlinks=False)
    assert digest(tree, tmp_path) != before


def test_stored_inventory_reads_back(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "t")
    name = os.fsdecode(b"caf\xe9")
    (tree / name).write_text("not UTF-8")
    (tree / "Grüße").write_text("UTF-8")
    entries = list(inventory.walk(tree))
    inventory.write(entries, tmp_path / "x.gz")
    assert inventory.read(tmp_path / "x.gz") == entries
    assert f"/{name}" in {e.path for e in entries}


def test_same_entries_same_bytes(tmp_path: Path) -> None:
    entry = Entry("/", "dir", 0o755, 0, 0, 0, TIME)
    inventory.write([entry], tmp_path / "a.gz")
    os.utime(tmp_path / "a.gz", (1, 1))
    inventory.write([entry], tmp_path / "b.gz")
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


@pytest.mark.parametrize("data", [b"", b"not gzip", gzip.compress(b"[1]\n"), gzip.compress(b"{}")])
def test_damaged_inventory_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(data)
    if data == b"":
        path.unlink()
    with pytest.raises(ConfigError, match="cannot read the inventory"):
        inventory.read(path)


def test_times_are_moved_back_never_forward(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "t")
    os.utime(tree / "etc/passwd", (TIME, TIME - 5))
    os.utime(tree / "etc/link", (TIME, TIME + 5), follow_symlinks=False)
    assert inventory.clamp_times(tree, TIME) == 1
    times = {e.path: e.mtime for e in inventory.walk(tree)}
    assert (times["/etc/passwd"], times["/etc/link"]) == (TIME - 5, TIME)


def test_digest_of_a_private_file_is_slow_to_guess(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "t")
    (tree / "etc/passwd").chmod(0o600)
    entries = {e.path: e for e in inventory.walk(tree)}
    private = entries["/etc/passwd"].data
    assert private.startswith("scrypt:")
    assert "4813494d" not in private
    (tree / "etc/passwd").write_text("toor")
    assert {e.path: e for e in inventory.walk(tree)}["/etc/passwd"].data != private


def test_threads_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = make_tree(tmp_path / "t")
    for number in range(60):
        (tree / f"d{number % 7}").mkdir(exist_ok=True)
        (tree / f"d{number % 7}/{number}").write_bytes(bytes([number]) * (number * 5000))
        os.link(tree / f"d{number % 7}/{number}", tree / f"z{number}")
    monkeypatch.setattr(inventory, "_BATCH", 10_000)
    whole = list(inventory.walk(tree))
    for batch in (1, 3, 16):
        monkeypatch.setattr(inventory, "_BATCH", batch)
        assert list(inventory.walk(tree)) == whole
    # As os.walk has it, and hashed as a whole.
    paths = ["/"]
    for here, directories, files in os.walk(tree):
        paths += [os.path.join(here, n)[len(str(tree)) :] for n in directories + files]  # noqa: PTH118
    assert sorted(e.path for e in whole) == sorted(paths)
    for entry in whole:
        if entry.kind == "file":
            content = (tree / entry.path[1:]).read_bytes()
            assert entry.data == hashlib.sha256(content).hexdigest()
    assert {e.same_as for e in whole if e.path.startswith("/z")} == {
        f"/d{n % 7}/{n}" for n in range(60)
    }


def test_a_file_larger_than_one_read(tmp_path: Path) -> None:
    content = bytes(range(256)) * 4096 * 2  # two whole pieces
    for extra in (b"", b"x"):
        (tmp_path / "file").write_bytes(content + extra)
        [entry] = [e for e in inventory.walk(tmp_path) if e.kind == "file"]
        assert entry.data == hashlib.sha256(content + extra).hexdigest()


def test_what_cannot_be_read_is_no_silence(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(inventory.walk(tmp_path / "nowhere"))
