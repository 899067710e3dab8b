"""The store: an object is whole or not there, however a build ends."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuild import inventory
from imagebuild.errors import BuildError, PreflightError
from imagebuild.events import Event, Note
from imagebuild.store import fingerprint, sealing
from imagebuild.store.objects import read_document
from imagebuild.store.store import Kind, Object, Store, open_stores
from tests.unit.store_objects import IMAGE, IS_ROOT, call, draft, ignore, key, stored, taken

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_object_is_found_as_it_was_made(store: Store, tmp_path: Path) -> None:
    with store.hold(key()) as held:
        assert store.take(held, call, ignore) is None
        made = store.seal(
            held, call, draft(tmp_path / "d"), image=IMAGE, inputs={"a": [1]}, facts={"b": "ü"}
        )
        held.share()
    assert not (tmp_path / "d").exists()
    found = taken(store, key())
    assert found is not None
    assert (found.image, found.inputs, found.facts) == (IMAGE, {"a": [1]}, {"b": "ü"})
    assert found.path == made.path == store.root / f"base-{key().id[:32]}"
    assert (found.path / "list.json").read_text() == "disk"
    assert (found.tree / "etc/passwd").read_text() == "disk"
    entries = inventory.read(found.path / "tree.jsonl.gz")
    assert entries == list(inventory.walk(found.tree))
    assert found.payload["tree"]["entries"] == len(entries)
    # The hole of the file takes no room, hard links are counted once.
    assert found.size == sum(
        int(line.split()[0]) * 512
        for line in {
            f"{p.lstat().st_blocks} {p.lstat().st_ino}"
            for p in found.path.rglob("*")
            if p.name not in ("object.json", "seal.json")
        }
    )
    assert taken(store, key(2)) is None
    assert not list(store.drafts.iterdir())


@pytest.mark.alone
def test_private_store_is_closed_to_others(store: Store, tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        made = stored(store, tmp_path)
    finally:
        os.umask(old)
    assert store.root.stat().st_mode & 0o777 == 0o700
    assert made.path.stat().st_mode & 0o777 == 0o700
    for path in (*made.path.glob("*.*"), *(store.root / "locks").iterdir()):
        assert path.stat().st_mode & 0o077 == 0, path


def test_inventory_that_comes_along_is_used(store: Store, tmp_path: Path) -> None:
    made = draft(tmp_path / "d")
    summary = inventory.write(inventory.walk(made / "tree"), made / "tree.jsonl.gz")
    with store.hold(key()) as held:
        found = store.seal(held, call, made, image=IMAGE, inputs={})
    assert found.payload["tree"] == summary.to_json()
    assert sealing.check(found.path, deep=True) == []


@pytest.mark.parametrize("wrong", ["directory", "link", "tree"])
def test_what_is_no_file_cannot_be_sealed(store: Store, tmp_path: Path, wrong: str) -> None:
    made = draft(tmp_path / "d", tree=False)
    if wrong == "directory":
        (made / "more").mkdir()
    else:
        (made / wrong).symlink_to("/etc")
    with store.hold(key()) as held, pytest.raises(BuildError, match="cannot be part"):
        store.seal(held, call, made, image=IMAGE, inputs={})
    assert taken(store, key()) is None


def flip(path: Path, at: int = 0) -> None:
    """Change a byte and put everything back that can be put back."""
    info = path.stat()
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "byte of a file": (lambda p: flip(p / "disk.raw", 3 << 20), "disk.raw: its content"),
    "byte in a hole": (lambda p: flip(p / "disk.raw", 2 << 20), "disk.raw: its content"),
    "file cut": (lambda p: cut(p / "disk.raw"), "disk.raw has"),
    "file gone": (lambda p: (p / "list.json").unlink(), "list.json is missing"),
    "file too many": (lambda p: (p / "more").touch(), "more does not belong"),
    "file of another kind": (
        lambda p: (p / "list.json").rename(p / "x").with_name("list.json").symlink_to("x"),
        "list.json is of another kind",
    ),
    "tree gone": (lambda p: shutil.rmtree(p / "tree"), "tree is missing"),
    "byte in the tree": (lambda p: flip(p / "tree/etc/passwd"), "tree/etc/passwd: its content"),
    "file gone from the tree": (
        lambda p: (p / "tree/etc/same").unlink(), "tree/etc/same is missing",
    ),
    "file more in the tree": (
        lambda p: (p / "tree/etc/new").touch(), "tree/etc/new does not belong",
    ),
    "mode in the tree": (
        lambda p: (p / "tree/etc/passwd").chmod(0o4755), "tree/etc/passwd: its mode",
    ),
    "attribute in the tree": (
        lambda p: os.setxattr(p / "tree/etc", "user.x", b"1"), "tree/etc: its xattrs",
    ),
    "inventory": (lambda p: flip(p / "tree.jsonl.gz", 20), "tree.jsonl.gz: its content"),
    "document cut": (lambda p: cut(p / "object.json"), "object.json cannot be read"),
    "document empty": (lambda p: (p / "object.json").write_text(""), "object.json cannot be read"),
    "document gone": (lambda p: (p / "object.json").unlink(), "object.json is missing"),
    "document changed": (
        lambda p: edit(p / "object.json", IMAGE, IMAGE.replace("bookworm", "trixie")),
        "object.json is not what was written",
    ),
    "document of another": (lambda p: (p / "object.json").write_text("[]"), "object.json does not"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_noticed_and_never_used(store: Store, tmp_path: Path, damage: str) -> None:
    made = stored(store, tmp_path)
    assert taken(store, key()) is not None
    change, said = DAMAGES[damage]
    change(made.path)
    assert any(said in line for line in sealing.check(made.path, deep=True))
    notes: list[Event] = []
    assert taken(store, key(), notes) is None
    assert [isinstance(n, Note) and n.warning for n in notes] == [True]
    assert isinstance(notes[0], Note)
    assert said in notes[0].text
    assert made.path.name in notes[0].text
    assert not made.path.exists()
    assert not list(store.drafts.iterdir())
    stored(store, tmp_path)
    assert taken(store, key()) is not None


def test_object_under_another_name_is_not_used(store: Store, tmp_path: Path) -> None:
    made = stored(store, tmp_path)
    made.path.rename(store.path(key(2)))
    assert "it is the object base 0000" in store.problem(key(2))
    assert taken(store, key(2)) is None


def test_write_right_after_sealing_is_noticed(store: Store, tmp_path: Path) -> None:
    """Two writes in one tick of the kernel's clock, 10 ms at most, have the same ctime."""
    for number in range(5):
        made = stored(store, tmp_path, key(number))
        flip(made.tree / "etc/passwd")
        assert taken(store, key(number)) is None, number
    (tmp_path / "new").touch()
    newest = sealing.settled(tmp_path).newest
    assert time.time_ns() - newest > 10_000_000


def test_tree_is_read_only_when_its_seal_is_not_right(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = stored(store, tmp_path)
    walks: list[Path] = []
    real = inventory.walk

    def walk(tree: Path) -> Iterator[inventory.Entry]:
        walks.append(tree)
        return real(tree)

    monkeypatch.setattr(inventory, "walk", walk)
    assert sealing.check(made.path) == []
    assert not walks
    assert sealing.check(made.path, deep=True) == []
    assert len(walks) == 1
    # Another boot, a touched file, a seal that was lost: read once, then sealed anew.
    monkeypatch.setattr(fingerprint, "boot_id", lambda: "another")
    for change in (
        lambda: None,
        lambda: (made.tree / "etc/passwd").chmod(0o644),
        lambda: (made.path / "seal.json").unlink(),
        lambda: (made.path / "seal.json").write_text("{"),
    ):
        walks.clear()
        change()
        assert sealing.check(made.path) == []
        assert sealing.check(made.path) == []
        assert len(walks) == 1


def test_damaged_object_in_use_is_replaced_when_its_user_ends(store: Store, tmp_path: Path) -> None:
    made = stored(store, tmp_path)
    with store.hold(key()) as user:
        assert store.take(user, call, ignore)
        user.share()
        flip(made.path / "disk.raw")
        waited: list[bool] = []

        def on_wait() -> None:
            assert made.path.exists()
            waited.append(True)
            user.release()

        with store.hold(key(), on_wait) as held:
            assert store.take(held, call, ignore) is None
        assert waited
    assert not made.path.exists()


def test_copied_when_the_draft_is_on_another_filesystem(store: Store) -> None:
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == Path(store.root.parent).stat().st_dev:
        pytest.skip("no other filesystem")
    place = Path(tempfile.mkdtemp(dir=memory))
    try:
        made = draft(place / "d")
        expected = list(inventory.walk(made / "tree"))
        with store.hold(key()) as held:
            found = store.seal(held, call, made, image=IMAGE, inputs={})
        assert not made.exists()
        assert list(inventory.walk(found.tree)) == expected
        assert sealing.check(found.path, deep=True) == []
        assert not list(store.drafts.iterdir())
    finally:
        shutil.rmtree(place)


def test_store_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(PreflightError, match="cannot write in the store"),
        Store(tmp_path / "file/store").hold(key()),
    ):
        pass


_MAKER = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.unit.store_objects import *
place = Path(sys.argv[2])
store = Store(place / "store")
with store.hold(key()) as held:
    found = store.take(held, call, ignore)
    if found is None:
        print("made", flush=True)
        mine = draft(place / f"draft-{os.getpid()}")
        time.sleep(0.3)
        store.seal(held, call, mine, image=IMAGE, inputs={})
    else:
        print("found", flush=True)
    held.share()
    sys.stdin.read()
"""


def start_maker(place: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _MAKER, str(ROOT), str(place)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_one_makes_what_several_want(store: Store, tmp_path: Path) -> None:
    makers = [start_maker(tmp_path) for _ in range(4)]
    # Nobody ends before all have it: those that find it need not wait for its maker's end.
    lines = [m.stdout.readline().strip() for m in makers if m.stdout]
    assert sorted(lines) == ["found", "found", "found", "made"]
    assert store.is_held(key())
    for maker in makers:
        maker.communicate("")
        assert maker.returncode == 0
    assert not store.is_held(key())
    assert sealing.check(store.path(key()), deep=True) == []


def test_who_waits_for_a_dead_maker_makes_it(store: Store, tmp_path: Path) -> None:
    first = start_maker(tmp_path)
    assert first.stdout
    assert first.stdout.readline() == "made\n"

    def on_wait() -> None:
        first.kill()
        first.wait()

    with store.hold(key(), on_wait) as held:
        assert store.take(held, call, ignore) is None


#: Seals in a child that is killed at its Nth call of the system that changes something, for
#: each N, until one comes through. Prints what is in the store after each.
_KILLED = """
import json, os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.unit.store_objects import *
from imagebuild.host.namespace import remove_tree
from imagebuild.store import sealing
from imagebuild.store.pruning import prune
place, damaged = Path(sys.argv[2]), sys.argv[3] == "damaged"
EVENTS = ("open", "subprocess.Popen", "fcntl.flock")
for number in range(1, 500):
    store = Store(place / f"store-{number}")
    store.prepare()
    if damaged:
        (stored(store, place / "old").path / "list.json").write_text("DISK")
    made = draft(place / f"draft-{number}")
    child = os.fork()
    if child == 0:
        with store.hold(key()) as held:
            left = [number]
            def audit(event, arguments):
                if event in EVENTS or event.startswith("os."):
                    left[0] -= 1
                    if left[0] == 0:
                        os.kill(os.getpid(), signal.SIGKILL)
            sys.addaudithook(audit)
            store.seal(held, call, made, image=IMAGE, inputs={})
            held.share()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    there = store.path(key()).exists()
    damage = sealing.check(store.path(key()), deep=True) if there else []
    prune(store, call)
    left = [str(p) for p in store.drafts.iterdir() if p.is_dir()]
    with store.hold(key()) as held:
        found = store.take(held, call, ignore)
    print(json.dumps([there, damage, bool(found), left]), flush=True)
    if status == 0:
        break
    remove_tree(store.root)
    remove_tree(made)
"""


@pytest.mark.parametrize("before", ["empty", "damaged"])
def test_killed_at_any_point_it_is_whole_or_not_there(tmp_path: Path, before: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, str(ROOT), str(tmp_path), before],
        stdout=subprocess.PIPE, text=True, check=True, timeout=300,
    )  # fmt: skip
    states = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(states) > 20
    # What was damaged before may be so still, and is not used.
    allowed = [[], ["list.json: its content is not what was stored"]]
    for there, damage, is_found, left in states:
        assert damage in allowed[: 2 if before == "damaged" else 1]
        assert is_found == (there and not damage)
        assert left == []
    assert states[-1][:3] == [True, [], True]
    assert [there for there, *_ in states].count(False) > (0 if before == "damaged" else 10)


@pytest.mark.skipif(not IS_ROOT, reason="needs two users")
def test_shared_store_between_two_users() -> None:
    place = Path(tempfile.mkdtemp(dir="/var/tmp"))
    try:
        place.chmod(0o755)
        root = place / "store"
        root.mkdir()
        os.chown(root, 0, 5555)
        root.chmod(0o2770)
        store = Store(root)
        assert store.is_shared
        (place / "one").mkdir()
        os.chown(place / "one", 4001, 4001)

        def first() -> None:
            os.umask(0o077)
            made = stored(store, place / "one", tree=False)
            os.utime(store.lock_path(key(), "use"), (1, 1))
            assert made.used != 1

        def second() -> None:
            os.umask(0o077)
            assert Store(root).look(key())
            assert [o.used for o in store.objects()] == [1]
            with store.hold(key()) as held:
                found = store.take(held, call, ignore)
                assert found is not None
                held.share()
                assert (found.path / "list.json").read_text() == "disk"
                with pytest.raises(PermissionError):
                    (found.path / "list.json").write_text("mine")
            assert store.objects()[0].used > 1

        def stranger() -> None:
            assert Store(root).look(key()) is None
            with pytest.raises(PermissionError):
                list(root.iterdir())

        run_as(4001, 5555, first)
        run_as(4002, 5555, second)
        run_as(4003, 4003, stranger)
        assert (root / "locks").stat().st_mode & 0o7777 == 0o2770
        # What a user's worker seals, as root, is the user's, and readable by the group.
        document = {"kind": "base", "id": key(3).id, "image": IMAGE, "inputs": {}, "facts": {}}
        sealing.seal(draft(place / "three"), root, document, (4002, 5555), 0o2770)
        info = store.path(key(3)).stat()
        assert (info.st_uid, info.st_gid, info.st_mode & 0o7777) == (4002, 5555, 0o2750)

        def reader() -> None:
            found = store.look(key(3))
            assert found is not None
            assert (found.path / "list.json").read_text() == "disk"

        run_as(4001, 5555, reader)
    finally:
        shutil.rmtree(place)


def run_as(uid: int, group: int, function: Callable[[], None]) -> None:
    """Run a function in a child that is another user, in one more group."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups([group])
            os.setgid(uid)
            os.setuid(uid)
            function()
            status = 0
        except BaseException as exc:  # noqa: BLE001 - shown, and a failure
            print(f"{type(exc).__name__}: {exc}")
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0


def test_secrets_stay_in_the_own_store(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o2770)
    stores = open_stores(tmp_path / "cache", shared, 5)
    assert [s.root for s in stores.all] == [shared, tmp_path / "cache/store"]
    assert stores.of(secret=False).root == shared
    assert stores.of(secret=True).root == tmp_path / "cache/store"
    shared.chmod(0o700)
    private = open_stores(tmp_path / "cache", shared, 5)
    assert [s.root for s in private.all] == [shared]
    assert open_stores(tmp_path / "cache").main.root == tmp_path / "cache/store"


def test_reasons_are_against_the_newest_of_the_same(store: Store, tmp_path: Path) -> None:
    now = {"parent": "a", "compression": "zstd"}
    assert store.why_not(key(9), IMAGE, now) == ["never made for this image, or removed"]
    stored(store, tmp_path, key(1), {"parent": "x", "compression": "zlib"}, tree=False)
    made = stored(store, tmp_path, key(2), {"parent": "a", "compression": "none"}, tree=False)
    stored(store, tmp_path, key(3, Kind.AGENT), now, tree=False)
    assert store.why_not(key(9), IMAGE, now) == ["compression changed from none to zstd"]
    assert store.why_not(key(2), IMAGE, now) == []
    assert store.why_not(key(9), "trove-guest-ubuntu-noble-amd64", now) == [
        "never made for this image, or removed"
    ]
    cut(made.path / "object.json")
    assert store.why_not(key(2), IMAGE, now)[0].startswith("it is damaged: object.json cannot be")


@given(
    content=st.binary(max_size=64),
    holes=st.lists(st.integers(0, 20), max_size=3),
    at=st.integers(0, 20 << 20),
)
def test_digest_of_a_file_is_of_its_content(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, holes: list[int], at: int
) -> None:
    place = tmp_path_factory.mktemp("digest")
    sparse, full = place / "sparse", place / "full"
    with sparse.open("wb") as file:
        for hole in holes:
            file.seek(hole << 20, os.SEEK_CUR)
            file.write(content)
        file.truncate(max(file.tell(), 1 << 16))
    full.write_bytes(sparse.read_bytes())
    digest = fingerprint.of_file(sparse)
    assert fingerprint.of_file(full) == digest
    flip(full, at % full.stat().st_size)
    assert fingerprint.of_file(full) != digest
    shutil.rmtree(place)


def test_filesystem_that_knows_no_holes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"x" * (2 << 20))
    digest = fingerprint.of_file(tmp_path / "file")

    def lseek(*_: int) -> int:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "lseek", lseek)
    assert fingerprint.of_file(tmp_path / "file") == digest


def test_document_says_what_is_wrong_with_it(store: Store, tmp_path: Path) -> None:
    made: Object = stored(store, tmp_path, tree=False)
    document = read_document(made.path)
    assert document["schema_version"] == 1
    del document["size"]
    (made.path / "object.json").write_text(json.dumps(document))
    with pytest.raises(ValueError, match="lacks size"):
        read_document(made.path)
