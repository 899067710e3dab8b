"""What leaves the store, and in which order."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagebuild.host import scratch
from imagebuild.store import locks, objects
from imagebuild.store.checking import verify
from imagebuild.store.pruning import prune
from imagebuild.store.store import Store
from tests.unit.store_objects import call, draft, ignore, key, stored, taken


def made_up(store: Store, number: int, size: int, used: float) -> None:
    """An object without files that says that it takes `size` bytes."""
    store.prepare()
    wanted = key(number)
    store.path(wanted).mkdir()
    document = {
        "kind": str(wanted.kind), "id": wanted.id, "image": "x", "inputs": {}, "facts": {},
        "payload": {}, "size": size, "created": 1,
    }  # fmt: skip
    objects.write_document(store.path(wanted), document)
    store.touch(wanted)
    os.utime(store.lock_path(wanted, "use"), (used, used))


def numbers(store: Store) -> list[int]:
    return sorted(int(o.key.id[:8], 16) for o in store.objects())


@settings(max_examples=50)
@given(
    given_=st.lists(st.tuples(st.integers(0, 9), st.integers(1, 1000), st.booleans()), max_size=7),
    limit=st.none() | st.integers(0, 40),
    older_than=st.none() | st.integers(1, 1000),
)
def test_what_was_unused_longest_goes_first(
    tmp_path_factory: pytest.TempPathFactory,
    given_: Sequence[tuple[int, int, bool]],
    limit: int | None,
    older_than: int | None,
) -> None:
    store = Store(tmp_path_factory.mktemp("store") / "store")
    now = time.time()
    ages = {}
    with ExitStack() as held:
        for number, (size, age, _) in enumerate(given_):
            ages[number] = age + 0.5
            made_up(store, number, size, now - ages[number])
        in_use = {n for n, (*_, is_held) in enumerate(given_) if is_held}
        for number in in_use:
            held.enter_context(store.hold(key(number))).share()
        # Of what is free, longest unused first, whatever is too much or too old.
        total = sum(size for size, *_ in given_)
        expected = set()
        for number in sorted(ages, key=lambda n: (-ages[n], key(n).name)):
            is_too_much = limit is not None and total > limit
            is_old = older_than is not None and ages[number] > older_than
            if number not in in_use and (is_too_much or is_old):
                expected.add(number)
                total -= given_[number][0]
        asked = prune(store, None, limit=limit, older_than=older_than)
        assert numbers(store) == list(range(len(given_)))
        done = prune(store, call, limit=limit, older_than=older_than)
        gone = {int(o.key.id[:8], 16) for o in done.objects}
        assert gone == {int(o.key.id[:8], 16) for o in asked.objects} == expected
        assert set(numbers(store)) == set(range(len(given_))) - expected
        assert not done.leftovers
    shutil.rmtree(store.root.parent)


def test_use_makes_an_object_young(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    for number in (1, 2):
        stored(store, tmp_path, key(number), tree=False)
        os.utime(store.lock_path(key(number), "use"), (number, number))
    assert taken(store, key(1))
    half = store.objects()[0].size
    assert [o.key for o in prune(store, call, limit=half).objects] == [key(2)]


def test_what_dead_builds_left_goes(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    whole = stored(store, tmp_path, key(1))
    broken = stored(store, tmp_path, key(2)).path
    (broken / "object.json").write_text("{")
    (store.drafts / "dead-1").mkdir()
    (store.root / "somebodys").mkdir()
    old = store.root / "locks/.base-x.make.0123"
    old.touch()
    os.utime(old, (1, 1))
    with store.hold(key(3)), scratch.directory(store.drafts, "living") as living:
        assert prune(store, call).leftovers == [broken, store.drafts / "dead-1"]
        assert living.exists()
        left = {p.name for p in (store.root / "locks").iterdir()}
        assert left == {f"{key(1).name}.make", f"{key(1).name}.use", f"{key(3).name}.make"}
    assert {p.name for p in store.root.iterdir()} == {
        whole.path.name, "somebodys", "locks", "drafts",
    }  # fmt: skip
    prune(store, call, limit=0)
    assert not list((store.root / "locks").iterdir())


def test_nothing_is_asked_of_root_for_nothing(tmp_path: Path) -> None:
    def no_call(task: str, **arguments: object) -> dict[str, object]:
        raise AssertionError(task, arguments)

    store = Store(tmp_path / "store")
    assert not prune(store, no_call, limit=0).objects
    assert not store.root.exists()
    stored(store, tmp_path, tree=False)
    assert not prune(store, no_call, limit=1 << 40, older_than=1000).objects


def test_lock_on_a_file_that_was_removed_is_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waited for a lock that its holder removes gets one on the file that is there now."""
    store = Store(tmp_path)
    store.prepare()
    path, access = tmp_path / "locks/x", store.access
    first = locks.acquire(path, access)
    assert first is not None
    assert locks.acquire(path, access, wait=False) is None
    real = fcntl.flock

    def flock(descriptor: int, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", real)
        path.unlink()
        os.close(first)
        real(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    second = locks.acquire(path, access)
    assert second is not None
    assert os.fstat(second).st_ino == path.stat().st_ino
    assert locks.acquire(path, access, wait=False) is None
    os.close(second)


def test_verify_reads_everything(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    paths = [stored(store, tmp_path, key(n)).path for n in range(4)]
    (paths[1] / "tree/etc/passwd").write_text("DISK")
    (paths[2] / "object.json").unlink()
    with store.hold(key(3)):
        results = {r.path: r for r in verify(store, call)}
    assert [bool(results[p].damage) for p in paths] == [False, True, True, False]
    assert results[paths[3]].skipped
    # The second, too, may be another one by now.
    assert any(
        "tree/etc/passwd: its " in line and "content" in line for line in results[paths[1]].damage
    )
    assert all(p.exists() for p in paths)
    with store.hold(key(1)) as user:
        user.share()
        assert [r.removed for r in verify(store, call, remove=True)] == [False, False, True, False]
    assert [r.removed for r in verify(store, call, remove=True)] == [False, True, False]
    assert [p.exists() for p in paths] == [True, False, False, True]


def test_made_again_after_it_was_pruned(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    stored(store, tmp_path)
    prune(store, call, limit=0)
    with store.hold(key()) as held:
        assert store.take(held, call, ignore) is None
        store.seal(held, call, draft(tmp_path / "again"), image="x", inputs={})
        held.share()
        assert not prune(store, call, limit=0).objects
    assert len(prune(store, call, limit=0).objects) == 1
