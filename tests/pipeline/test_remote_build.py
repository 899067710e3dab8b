"""Two machines and a registry between them: what one has made, the other does not make again."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from imagebuild.events import Event, Note
from imagebuild.host.run import run
from imagebuild.store.objects import Kind
from imagebuild.store.remote.address import RemoteAddress
from imagebuild.store.remote.sharing import Sharing
from imagebuild.store.store import Store
from tests.images.builds import REPO, Built, Session, bookworm_argv
from tests.registry_server import LOOPBACK, RegistryServer

pytestmark = pytest.mark.image

LOGIN = ("nightly", "a-secret-of-the-registry")
#: What is worth a way through the network.
TREES = ("base", "environment", "agent")


@dataclass(frozen=True)
class Fleet:
    """Machines that share a repository: homes in a directory, and the environment of their
    builds.
    """

    directory: Path
    server: RegistryServer
    url: str
    environ: Mapping[str, str]

    def home(self, name: str) -> Path:
        return self.directory / name

    def store(self, name: str) -> Store:
        return Store(self.home(name) / "cache/store")

    def kinds(self, name: str) -> list[Kind]:
        """What is in the store of a home."""
        return sorted(o.key.kind for o in self.store(name).objects())

    def start(self, name: str, *options: str, remote: str = "") -> subprocess.Popen[str]:
        """A build in a home."""
        home = self.home(name)
        home.mkdir(exist_ok=True)
        argv = bookworm_argv(
            "--cache-dir", str(home / "cache"), "--images-dir", str(home / "images"), *options
        )
        environ = {**self.environ, "HOME": str(home), "PYTHONPATH": str(REPO)}
        environ["IMAGEBUILD_STORE_REMOTE"] = remote or self.url
        return subprocess.Popen(
            argv, env=environ, cwd=home, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def build(self, name: str, *options: str, remote: str = "") -> tuple[str, str]:
        """What such a build prints: document and log."""
        process = self.start(name, *options, remote=remote)
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        assert LOGIN[1] not in out + err
        return out, err

    def artifact(self, name: str) -> Path:
        """What it has made."""
        return next(p.resolve() for p in (self.home(name) / "images").iterdir() if p.is_symlink())


@pytest.fixture(scope="module")
def fleet(session: Session) -> Iterator[Fleet]:
    directory = Path(tempfile.mkdtemp(prefix="fleet-", dir=session.directory))
    with RegistryServer(directory / "registry", tls=LOOPBACK, login=LOGIN) as server:
        config = directory / "docker"
        config.mkdir()
        auth = base64.b64encode(":".join(LOGIN).encode()).decode()
        document = {"auths": {server.host: {"auth": auth}}}
        (config / "config.json").write_text(json.dumps(document))
        yield Fleet(
            directory,
            server,
            f"oci://{server.host}/ci/store?ca={server.ca}",
            {**os.environ, "DOCKER_CONFIG": str(config)},
        )
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    run([*sudo, "rm", "-rf", directory])


@pytest.fixture(scope="module")
def bookworm(session: Session) -> Built:
    """What the first machine has: the session's build."""
    return session.build("bookworm")


@pytest.fixture(scope="module")
def shared(fleet: Fleet, bookworm: Built) -> list[str]:
    """The trees of the session's build, in the registry; what was said of that."""
    told: list[Event] = []
    scratch = fleet.directory / "scratch"
    scratch.mkdir()
    address = RemoteAddress.parse(fleet.url)
    sharing = Sharing(address, scratch, told.append, environ=fleet.environ)
    paths = [bookworm.object("base")]
    paths += [bookworm.object("agent", name) for name in ("environment", "code")]
    with ExitStack() as held:
        for found in bookworm.store.objects():
            if found.path in paths:
                held.enter_context(bookworm.store.hold(found.key)).share()
                sharing.offer(found)
        sharing.finish()
    sharing.close()
    return [e.text for e in told if isinstance(e, Note)]


@dataclass(frozen=True)
class Second:
    """The second machine: its plan, and its build after one that was killed."""

    plan: Mapping[str, Any]
    left: list[Kind]
    said: str


@pytest.fixture(scope="module")
def second(fleet: Fleet, shared: list[str]) -> Second:
    """Made of what the first has sent."""
    sent = [line.partition(":")[0] for line in shared if " MB to " in line]
    assert sorted(sent) == sorted(TREES), shared
    plan, _ = fleet.build("two", "--dry-run", "--json")
    cut_off(fleet, "two")
    left = fleet.kinds("two")
    _, said = fleet.build("two")
    return Second(json.loads(plan), left, said)


def cut_off(fleet: Fleet, name: str) -> None:
    """A build is killed while the tree of its base comes in, or is unpacked."""
    process = fleet.start(name)
    deadline = time.monotonic() + 60
    while not any((fleet.home(name) / "cache/scratch").glob("*/pull-*/tree")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.communicate()


def test_the_plan_says_what_is_in_the_remote(second: Second) -> None:
    there = {o["name"] for o in second.plan["objects"] if o["remote"]}
    assert there == {"base", "environment", "code"}
    assert not any(o["cached"] for o in second.plan["objects"])


def test_the_second_machine_does_not_build_the_base(fleet: Fleet, second: Second) -> None:
    assert second.left == [], "a build that was killed has left something in the store"
    pulled = re.findall(r"^(\w+): ([\d.]+) MB from oci://", second.said, re.MULTILINE)
    assert [kind for kind, _ in pulled] == list(TREES)
    assert float(pulled[0][1]) > 50
    timing = json.loads((fleet.artifact("two") / "timing.json").read_text())
    reused = {s["stage"]: s["reused"] for s in timing["stages"]}
    assert reused == {"base": True, "agent": True, "disk": False, "formats": False}
    assert timing["hooks"] == {"base": [], "agent": []}, "diskimage-builder ran"
    assert "debootstrap" not in second.said
    assert not list((fleet.home("two") / "cache/scratch").iterdir()), "scratch is left"


def test_both_machines_make_the_same_image(fleet: Fleet, second: Second, bookworm: Built) -> None:
    assert "built in" in second.said
    run(["cmp", bookworm.qcow2, next(fleet.artifact("two").glob("*.qcow2"))])
    for name in TREES:
        (found,) = (o for o in fleet.store("two").objects() if o.key.kind == name)
        (other,) = (o for o in bookworm.store.objects() if o.key == found.key)
        assert found.payload == other.payload


def test_a_third_takes_the_finished_image(fleet: Fleet, second: Second) -> None:
    """What the second has sent; a machine that may only read gets it, too."""
    assert re.search(r"^formats: [\d.]+ MB to oci://", second.said, re.MULTILINE)
    _, said = fleet.build("three", remote=f"{fleet.url}&ro")
    assert re.findall(r"^(\w+): [\d.]+ MB from oci://", said, re.MULTILINE) == ["formats"]
    assert fleet.kinds("three") == [Kind.FORMATS], "the trees came, too"
    two, three = fleet.artifact("two"), fleet.artifact("three")
    for path in sorted(two.iterdir()):
        if path.name not in ("build.log", "timing.json"):
            run(["cmp", path, three / path.name])


@pytest.mark.usefixtures("second")
def test_a_remote_that_nobody_can_use_costs_a_warning(fleet: Fleet) -> None:
    """Here with what is in the store; see test_remote.py for the rest."""
    images = fleet.home("two") / "others"
    _, said = fleet.build("two", "--images-dir", str(images), remote="oci://127.0.0.1:9/store")
    assert said.count("does not get to the store's remote") == 1
    assert "Connection refused" in said
    assert "built in" in said
