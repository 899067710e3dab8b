"""Killed at any point, a run leaves whole tags, and the next one sends only what is missing."""

from __future__ import annotations

import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.container_images import Image, attestation, image, index, noise, sha256
from tests.mirror.mirrors import all_manifests, assert_same, digest_of, fetch, item, problems
from tests.registry_proxy import UPLOADS, RegistryProxy
from tests.registry_server import RegistryServer

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("killed/db", "killed/backup")
#: Of one upload, bytes a second: a blob takes a while.
RATE = 600_000


def images(seed: int) -> list[Image]:
    base = noise(seed, 300_000)
    database = image([base, *(noise(seed + n, 120_000) for n in range(1, 5))])
    backup = image([base, noise(seed + 9, 200_000)])
    return [index(database, attestation(database)), backup]


@contextmanager
def running(names: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.mirror.sync_program", *names], cwd=ROOT,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()


class Watch:
    """Looks at the tags all the time: each is one of the images that it may be, and whole."""

    def __init__(self, server: RegistryServer, allowed: dict[str, set[str]]) -> None:
        self.found: list[str] = []
        self.looks = 0
        self._server = server
        self._allowed = allowed
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._end.is_set():
            for name, digests in self._allowed.items():
                if digest_of(self._server.host, name, "1") not in digests:
                    self.found.append(f"{name}: another image")
                self.found += problems(self._server.host, name, "1")
            self.looks += 1
            self._end.wait(0.05)


def there(server: RegistryServer, made: list[Image]) -> dict[str, set[str]]:
    """Digests of blobs that each repository has."""
    return {
        name: {
            sha256(blob)
            for m in all_manifests(one)
            for blob in m.blobs
            if fetch(server.host, name, f"blobs/{sha256(blob)}").ok
        }
        for name, one in zip(NAMES, made, strict=True)
    }


@pytest.mark.parametrize(
    ("seed", "kills"),
    [(1, 3), *(pytest.param(n, 8, marks=pytest.mark.full("mirror")) for n in range(2, 6))],
)
def test_killed(source: RegistryServer, target: RegistryServer, seed: int, kills: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - when to kill
    old, new = images(1000 * seed), images(1000 * seed + 100)
    for name, one in zip(NAMES, old, strict=True):
        one.push(target, name, "1")
    for name, one in zip(NAMES, new, strict=True):
        one.push(source, name, "1")
    sizes = {sha256(b): len(b) for one in new for m in all_manifests(one) for b in m.blobs}
    may_be = {n: {o.digest, w.digest} for n, o, w in zip(NAMES, old, new, strict=True)}
    with RegistryProxy(target) as into, Watch(target, may_be) as watch:
        into.slow(RATE, "PATCH", UPLOADS)
        names = [
            x for n in NAMES
            for x in (f"{source.host}/{n}:1", f"{into.host}/{n}:1")
        ]  # fmt: skip
        cut = 0
        for _ in range(kills):
            before = len(into.seen())
            has = there(target, new)
            sent = into.bytes_in("PATCH")
            left = sum(n for digest, n in sizes.items() if digest not in has[NAMES[0]])
            with running(names) as process:
                after = chance.uniform(0, left)
                while into.bytes_in("PATCH") - sent < after and process.poll() is None:
                    time.sleep(0.005)
                cut += process.poll() is None
                process.send_signal(signal.SIGKILL)
            assert_nothing_twice(into, before, has)
        before, has = len(into.seen()), there(target, new)
        with running(names) as process:
            said, _ = process.communicate(timeout=60)
            assert process.returncode == 0, said.decode()
        assert_nothing_twice(into, before, has)
    assert cut
    assert watch.looks
    assert not watch.found
    for name, one in zip(NAMES, new, strict=True):
        assert_same(target, name, "1", one)


def assert_nothing_twice(into: RegistryProxy, before: int, has: dict[str, set[str]]) -> None:
    """What a repository had was not sent again."""
    for request in into.seen()[before:]:
        ended = re.search(r"/v2/(.+)/blobs/uploads/.*digest=sha256(?::|%3A)(\w+)", request.path)
        if request.method == "PUT" and ended:
            assert f"sha256:{ended[2]}" not in has[ended[1]]


def test_the_program(source: RegistryServer, target: RegistryServer) -> None:
    """What is killed above does the work: nothing there would be wrong if it did nothing."""
    made = image([noise(77, 1000)])
    made.push(source, "program", "1")
    pair = item(f"{source.host}/program:1", f"{target.host}/program:1")
    with running([str(pair.source), str(pair.target)]) as process:
        said, _ = process.communicate(timeout=60)
    assert said.split()[0] == b"copied"
    assert_same(target, "program", "1", made)
