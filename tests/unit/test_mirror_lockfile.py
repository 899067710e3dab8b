"""The lock file: read back as it was written, merged, and never half there."""

from __future__ import annotations

import datetime
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from imagebuild.errors import ConfigError, PreflightError
from imagebuild.mirror.items import Item
from imagebuild.mirror.lockfile import (
    Lock,
    Locked,
    lock_path,
    made_of,
    read_lock,
    record,
    update_lock,
    write_lock,
)
from imagebuild.mirror.result import Outcome, Report, Result
from imagebuild.registry.reference import Reference

A, B, C = (f"sha256:{c * 64}" for c in "abc")
NOW = datetime.datetime(2026, 3, 4, 5, 6, 7, tzinfo=datetime.timezone.utc)
LATER = NOW + datetime.timedelta(days=1)


def result(
    tag: str = "8.0", outcome: Outcome = Outcome.COPIED, digest: str = A, **more: object
) -> Result:
    item = Item(Reference.parse(f"quay.io/org/mysql:{tag}"), Reference.parse(f"reg:5000/m:{tag}"))
    return Result(item, outcome, digest=digest, source_digest=digest, **more)  # type: ignore[arg-type]


def report(*results: Result, removed: tuple[Reference, ...] = ()) -> Report:
    return Report(results, 1.0, removed=removed)


def test_written_and_read_again(tmp_path: Path) -> None:
    path = lock_path(tmp_path / "trove.yaml")
    assert path.name == "trove.lock.yaml"
    assert read_lock(path) == Lock()
    lock = Lock(
        {"quay.io/org/mysql:8.0": Locked(A, 123, "2026-03-04T05:06:07Z")},
        {"reg:5000/m:8.0": B},
        {B: made_of(A, ("linux/amd64",))},
    )
    write_lock(path, lock)
    assert read_lock(path) == lock
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_run_leaves(tmp_path: Path) -> None:
    path = tmp_path / "l.lock.yaml"
    record(path, report(result(size=5), result("gone", Outcome.MISSING, digest="")), NOW)
    name = "quay.io/org/mysql:8.0"
    assert read_lock(path) == Lock(
        {name: Locked(A, 5, "2026-03-04T05:06:07Z")}, {"reg:5000/m:8.0": A}
    )
    written = path.stat().st_mtime_ns, path.stat().st_ino
    # The same again: the file stays as it is, its date too.
    record(path, report(result(outcome=Outcome.UNCHANGED)), LATER)
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == written
    record(path, report(result(outcome=Outcome.REPLACED, digest=B, before=A, backup="old")), LATER)
    after = read_lock(path)
    assert after.sources[name] == Locked(B, 0, "2026-03-05T05:06:07Z")
    assert after.tags == {"reg:5000/m:8.0": B, "reg:5000/m:old": A}
    # What failed says nothing of what the tag is.
    record(path, report(result(outcome=Outcome.FAILED, digest=C)))
    assert read_lock(path) == after
    record(path, report(removed=(Reference.parse("reg:5000/m:old"),)))
    assert read_lock(path).tags == {"reg:5000/m:8.0": B}


def test_recipes_stay_as_long_as_their_tags() -> None:
    recipe = made_of(A, ("linux/arm64", "linux/amd64"))
    assert recipe == made_of(A, ("linux/amd64", "linux/arm64")) != made_of(A, ("linux/amd64",))
    lock = update_lock(Lock(), report(result(digest=B, made_as=recipe)))
    assert lock.made == {B: recipe}
    assert update_lock(lock, report(result(digest=C))).made == {}


def test_two_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "l.lock.yaml"
    threads = [
        threading.Thread(target=record, args=(path, report(result(f"{n}.0")))) for n in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_lock(path).tags) == 12


def test_another_process_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "l.lock.yaml"
    program = (
        "import fcntl, os, sys, time\n"
        "fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX)\n"
        "print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout
    assert holder.stdin
    holder.stdout.readline()
    thread = threading.Thread(target=record, args=(path, report(result())))
    thread.start()
    thread.join(0.2)
    assert thread.is_alive()
    assert not path.exists()
    holder.stdin.close()
    holder.wait()
    thread.join(10)
    assert read_lock(path).tags == {"reg:5000/m:8.0": A}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("- a list", "no mapping"),
        ("version: 9", "version is 9"),
        ("version: 1\nsources: {a:b: {digest: latest}}", "no digest"),
        ("version: 1\nsources: {'a:b': sha256}", "no mapping"),
        ("version: 1\ntags: {'a:b': 'sha256:1'}", "no digest"),
        ("version: 1\ntags: [a]", "tags is no mapping"),
        (f"version: 1\nsources: {{'a:b': {{digest: '{A}', size: -1}}}}", "no size"),
        ("{", "flow"),
        ("x: !!python/object/apply:os.system [false]", "constructor"),
    ],
)
def test_damaged(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "l.lock.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match="damaged") as caught:
        record(path, report(result()))
    assert why in caught.value.detail
    assert path.read_text() == text


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(PreflightError, match="cannot be written"):
        record(tmp_path / "none" / "l.lock.yaml", report(result()))
    (tmp_path / "l.lock.yaml").mkdir()
    with pytest.raises(PreflightError, match="cannot be read"):
        read_lock(tmp_path / "l.lock.yaml")


def test_a_link_stays_one(tmp_path: Path) -> None:
    real = tmp_path / "real" / "l.lock.yaml"
    real.parent.mkdir()
    write_lock(real, Lock())
    link = tmp_path / "l.lock.yaml"
    link.symlink_to(real)
    record(link, report(result()))
    assert link.is_symlink()
    assert read_lock(real).tags
