"""`imagebuild verify` on a healthy image: every level, with real databases under a real Trove.

In every run of the tests: MariaDB with network isolation, Trove's default, backup included.
The other combinations are in the full tests.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from imagebuild.config.pipeline import Verify
from imagebuild.manifest import open_artifact
from imagebuild.pipeline import proof
from imagebuild.verify import agentlevel, databaselevel
from imagebuild.verify.asking import until
from tests.databases.registry import NAMES
from tests.images.builds import Session
from tests.images.verifying import Verified, command, database, environment, verify

pytestmark = pytest.mark.image


@pytest.fixture(scope="module")
def verified(session: Session) -> Verified:
    """The run that every run of the tests makes."""
    return session.verified()


def test_a_healthy_image_passes_every_level(verified: Verified) -> None:
    assert verified.bad() == {}
    assert verified.status == 0, verified.err
    document = verified.document
    assert (document["asked"], document["proven"]) == ("database", "database")
    agent = verified.checks("agent/mariadb-isolation/")
    assert set(agent) == set(agentlevel.NAMES)
    found = verified.checks("database/mariadb-isolation/")
    assert {n: c["outcome"] for n, c in found.items()} == dict.fromkeys(
        databaselevel.NAMES, "passed"
    )
    # Trove's plugin has put the container on the user's own card.
    assert found["container"]["evidence"][0].split()[-1] == "database-network"


def test_both_ways_to_boot_are_asked(verified: Verified) -> None:
    runs = {r["name"]: r for r in verified.document["runs"]}
    assert set(runs) == {"config-drive-bios", "metadata-uefi", "mariadb-isolation"}
    for run in runs.values():
        times = run["milestones"]
        order = ["kernel", "root", "cloud-init-local", "docker", "settled"]
        assert sorted(order, key=times.__getitem__) == order
        assert run["accelerator"] in ("kvm", "tcg")
    times = runs["mariadb-isolation"]["milestones"]
    assert times["kernel"] < times["agent"] < times["database"]


def test_report_is_of_this_image(verified: Verified, session: Session) -> None:
    view = open_artifact(session.build("bookworm").artifact)
    image = verified.document["image"]
    assert image["build_id"] == view.build_id
    assert image["sha256"] == view.images[0].sha256
    # The image itself was only read.
    assert view.wrong_sums() == {}
    assert json.loads(verified.out) == verified.document
    root = ET.fromstring((verified.directory / "junit.xml").read_bytes())  # noqa: S314 - our own
    assert [s.get("name") for s in root] == ["static", "boot", "agent", "database"]
    assert sum(int(str(s.get("tests"))) for s in root) == len(verified.document["checks"])


def test_a_pipeline_need_not_ask_again(verified: Verified, session: Session) -> None:
    view = open_artifact(session.build("bookworm").artifact)
    _server, _backups, version = NAMES["mariadb"]

    def lacks(**wanted: object) -> str:
        asked = Verify.model_validate({"databases": [f"mariadb:{version}"], **wanted})
        return proof.lacks(verified.document, view, view.images[0], asked)

    assert lacks(level="boot") == ""
    assert lacks(level="database") == ""
    assert "bridge" in lacks(level="database", networks=["bridge"])


def running(place: Path) -> list[str]:
    """The command lines of processes that work below a directory."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it has ended meanwhile
            continue
        if str(place) in words:
            found.append(words)
    return found


def test_nothing_is_left_running(verified: Verified) -> None:
    assert running(verified.cache) == []
    assert list((verified.cache / "scratch").iterdir()) == []


def test_an_interrupted_run_ends_its_machine_at_once(session: Session, tmp_path: Path) -> None:
    place = tmp_path / "run"
    argv = command(session.build("bookworm").artifact, place, "--level", "boot")
    with subprocess.Popen(argv, env=environment(), stderr=subprocess.PIPE) as process:
        until(lambda: any("qemu-system" in x for x in running(place)), 120, "no machine")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err.decode()
    assert running(place) == []
    assert list((place / "cache/scratch").iterdir()) == []
    assert not (place / "report/verify.json").exists()


def test_a_killed_run_leaves_no_process_and_the_next_one_tidies_up(
    session: Session, tmp_path: Path
) -> None:
    image, place = session.build("bookworm").artifact, tmp_path / "run"
    argv = command(image, place, "--level", "boot")
    with subprocess.Popen(argv, env=environment(), stderr=subprocess.DEVNULL) as process:
        until(lambda: any("qemu-system" in x for x in running(place)), 120, "no machine")
        process.kill()
    until(lambda: not running(place), 20, "something goes on running")
    assert list((place / "cache/scratch").glob("verify-*"))
    assert not (place / "report/verify.json").exists()
    verify(image, tmp_path / "next", "--level", "static", "--cache-dir", str(place / "cache"))
    assert list((place / "cache/scratch").iterdir()) == []


@pytest.mark.full("verify")
@pytest.mark.skipif(os.geteuid() != 0, reason="takes rights away")
def test_a_boot_needs_no_root(session: Session) -> None:
    image = session.build("bookworm").qcow2
    place = session.directory / "nobody"
    place.mkdir()
    os.chown(place, 65534, 65534)
    copy = shutil.copy(image, place / "guest.qcow2")
    as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    argv = [*as_nobody, *command(Path(copy), place)]
    env = environment() | {"HOME": str(place)}
    done = subprocess.run(argv, env=env, cwd=place, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    document = json.loads((place / "report/verify.json").read_text())
    assert document["proven"] == "boot"


@pytest.mark.full("verify")
@pytest.mark.parametrize(
    ("datastore", "network"),
    [("mariadb", "bridge"), ("postgresql", "bridge"), ("postgresql", "isolation")],
)
def test_other_databases_and_networks(
    session: Session, tmp_path: Path, datastore: str, network: str
) -> None:
    options = database(session.databases(), datastore)
    image = session.build("bookworm").artifact
    found = verify(image, tmp_path / "run", *options, "--network", network)
    assert found.bad() == {}
    assert found.status == 0, found.err
    checks = found.checks(f"database/{datastore}-{network}/")
    assert set(checks) == set(databaselevel.NAMES)
    assert {c["outcome"] for c in checks.values()} == {"passed"}


@pytest.mark.full("verify")
def test_a_registry_that_is_not_there_is_named(session: Session, tmp_path: Path) -> None:
    options = database(session.databases(), "mariadb", backup=False)
    gone = [o.partition("=")[0] + "=9" if o.startswith("168.0.0.6:5000=") else o for o in options]
    image = session.build("bookworm").artifact
    found = verify(image, tmp_path / "run", *gone, "--network", "bridge")
    assert found.status == 5, found.err
    check = found.checks("database/mariadb-bridge/")["active"]
    assert check["outcome"] == "failed"
    assert check["cause"]["id"] == "registry-unreachable"
    assert found.document["proven"] == "agent"
