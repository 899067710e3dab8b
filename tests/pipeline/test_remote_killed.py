"""kill -9 of who pushes to the store's remote, or pulls from it, at many moments."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from imagebuild.host.worker import Worker
from imagebuild.store.store import Store
from tests.images.builds import REPO
from tests.pipeline import remotes
from tests.pipeline.remotes import KEY, pull, push, tags
from tests.registry_server import RegistryServer
from tests.unit.store_objects import IS_ROOT, call, ignore, taken

pytestmark = pytest.mark.skipif(not IS_ROOT, reason="trees are root's")
#: Into so many pieces the time of the work is cut, with a kill at the end of each.
KILLS = 3


def start(what: str, url: str, store: Store, scratch: Path) -> subprocess.Popen[str]:
    """The program, at the beginning of its work."""
    scratch.mkdir(exist_ok=True)
    argv = [sys.executable, "-m", "tests.pipeline.remote_program", what, url]
    process = subprocess.Popen(
        [*argv, str(store.root), str(scratch)], cwd=REPO, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def finish(process: subprocess.Popen[str]) -> str:
    """What it says to its end."""
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0, out
    return out


def seconds(process: subprocess.Popen[str]) -> float:
    """How long all of the work takes."""
    started = time.monotonic()
    assert "done" in finish(process)
    return time.monotonic() - started


def kill_after(seconds: float, process: subprocess.Popen[str]) -> None:
    with process:
        time.sleep(seconds)
        process.kill()
        process.communicate()


def test_pulls_that_are_killed(tmp_path: Path) -> None:
    """Never half an object in the store; the next one finds all it needs."""
    one, two = Store(tmp_path / "one"), Store(tmp_path / "two")
    with RegistryServer(tmp_path / "registry") as server:
        url = f"oci://{server.host}/team/store"
        with remotes.remote_at(server.host) as remote:
            push(remote, remotes.stored(one, tmp_path), tmp_path)
        whole = seconds(start("pull", url, Store(tmp_path / "first"), tmp_path / "s"))
        for number in range(KILLS):
            process = start("pull", url, two, tmp_path / f"scratch-{number}")
            kill_after(whole * number / KILLS, process)
            found = [p for p in two.directories() if two.look(KEY) is None]
            assert found == [], "something has an object's name that is none"
            if two.look(KEY):
                assert taken(two, KEY), "it is not whole"
                call("discard_objects", paths=[str(two.path(KEY))])
        assert "done" in finish(start("pull", url, two, tmp_path / "last"))
        assert taken(two, KEY)
        assert call("check_object", path=str(two.path(KEY)), deep=True) == {"damage": []}
        assert list((tmp_path / "last").iterdir()) == []


def test_pushes_that_are_killed(tmp_path: Path) -> None:
    """A tag is there when all behind it is; until then there is none."""
    one = Store(tmp_path / "one")
    remotes.stored(one, tmp_path)
    with RegistryServer(tmp_path / "registry") as server:
        first = f"oci://{server.host}/first/store"
        whole = seconds(start("push", first, one, tmp_path / "s"))
        for number in range(KILLS):
            name = f"team/store{number}"
            url = f"oci://{server.host}/{name}"
            kill_after(whole * number / KILLS, start("push", url, one, tmp_path / f"s{number}"))
            with remotes.remote_at(server.host, name) as remote:
                if tags(server, name):
                    assert pull(remote, tmp_path)[0] is not None
                # Whoever comes next makes it whole, with what is there already.
                assert "done" in finish(start("push", url, one, tmp_path / "again"))
                assert tags(server, name) == [KEY.name]
                assert pull(remote, tmp_path)[0] is not None
        assert list((tmp_path / "again").iterdir()) == []


def test_a_worker_packs_and_unpacks(tmp_path: Path) -> None:
    """Through the real one: as root in namespaces of its own, over JSON."""
    one, two = Store(tmp_path / "one"), Store(tmp_path / "two")
    found = remotes.stored(one, tmp_path)
    with (
        RegistryServer(tmp_path / "registry") as server,
        Worker(ignore) as worker,
        remotes.remote_at(server.host) as remote,
    ):
        for name in ("out", "in", "draft"):
            (tmp_path / name).mkdir()
        remote.push(found, tmp_path / "out", worker.call, remotes.OWNER)
        pulled = remote.pull(KEY, remotes.INPUTS, tmp_path / "draft", tmp_path / "in", worker.call)
        assert pulled
        with two.hold(KEY) as held:
            back = two.seal(
                held, worker.call, tmp_path / "draft", image="x", inputs=remotes.INPUTS,
                facts=pulled.facts,
            )  # fmt: skip
    assert back.payload == found.payload
