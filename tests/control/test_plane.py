"""A control plane makes an instance and talks to its agent as the real one would."""

from __future__ import annotations

import configparser
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagebuild.errors import VerifyError
from imagebuild.verify.control.environment import Environment
from imagebuild.verify.control.plane import ControlPlane
from imagebuild.verify.control.values import Account, Guest, Instance, State
from tests.control.conftest import ISOLATED
from tests.control.guests import CONF_DIR, Peer, peer, until, written

USER = Account("userA", "passwordA", ("test",))


@pytest.fixture(scope="module")
def instance(plane: ControlPlane) -> Instance:
    """One with everything."""
    made = plane.create_instance(databases=["test"], users=[USER], volume_gb=2)
    plane.server_is(made, "ACTIVE")
    return made


@pytest.fixture(scope="module")
def agent(plane: ControlPlane, instance: Instance, workplace: Path) -> Iterator[Peer]:
    with peer(plane, instance, workplace / "peer") as started:
        yield started


def is_well(state: State) -> bool:
    """After a restart an instance is ACTIVE first, and HEALTHY with the next heartbeat."""
    return (state.status, state.operating_status) == ("ACTIVE", "HEALTHY")


def options(text: str) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser()
    parser.read_string(text)
    return parser


def test_user_data_of_an_isolated_instance(plane: ControlPlane, instance: Instance) -> None:
    files = written(instance.user_data)

    assert {f.owner for f in files.values()} == {"ubuntu:root"}
    info = options(files[CONF_DIR + "guest_info.conf"].text)["DEFAULT"]
    assert info["guest_id"] == instance.id == instance.meta["trove_instance_id"]
    assert info["datastore_manager"] == "mariadb"
    assert info["datastore_version"] == "10.11"
    assert info["network_isolation"] == "True"
    assert len(info["instance_rpc_encr_key"]) == 32
    conf = options(files[CONF_DIR + "trove-guestagent.conf"].text)
    assert conf["DEFAULT"]["transport_url"].endswith("@169.254.0.4:5672/")
    assert conf["mariadb"]["docker_image"] == ISOLATED.docker_image
    assert conf["mariadb"]["backup_docker_image"] == ISOLATED.backup_image
    docker = json.loads(files["/etc/docker/daemon.json"].text)
    assert docker["bridge"] == "none"
    assert docker["insecure-registries"] == ["169.254.0.6:5000"]
    user, management = instance.nics
    assert (user.role, management.role) == ("user", "management")
    assert json.loads(files["/etc/trove/eth1.json"].text) == {
        "mac_address": user.mac,
        "ipv4_address": user.ip,
        "ipv4_cidr": "10.42.0.0/24",
        "ipv4_gateway": "10.42.0.1",
        "ipv4_host_routes": [],
    }
    assert user.mac != management.mac
    assert instance.volume_gb == 2
    assert plane.forwards.keys() == {"169.254.0.4:5672", "169.254.0.5:8080"}


def test_an_agent_is_prepared_and_its_instance_becomes_active(
    plane: ControlPlane, instance: Instance, agent: Peer
) -> None:
    until((agent.state / "prepare.json").exists, 20)
    told = json.loads((agent.state / "prepare.json").read_text())
    assert [d["_name"] for d in told["databases"]] == ["test"]
    assert told["users"][0]["_password"] == USER.password
    assert told["device_path"] == "/dev/vdb"
    seen: list[State] = []
    agent.says("healthy")

    state = plane.wait(instance, is_well, 30, seen.append)

    assert seen[-1] == state
    assert plane.rpc_ping(instance.id)


def test_heartbeats_reach_the_conductor(
    plane: ControlPlane, instance: Instance, agent: Peer
) -> None:
    assert agent.process.poll() is None
    first = plane.heartbeat(instance)
    assert first is not None
    assert abs(first.timestamp() - time.time()) < 60

    until(lambda: (plane.heartbeat(instance) or first) > first, 20)


def test_databases_users_grants_and_root(
    plane: ControlPlane, instance: Instance, agent: Peer
) -> None:
    plane.wait(instance, is_well, 30)
    plane.create_databases(instance.id, ["db2"])
    until(lambda: plane.databases(instance.id) == ["test", "db2"], 10)
    plane.create_users(instance.id, [Account("bob", "pw", ("db2",))])
    until(lambda: plane.users(instance.id) == {"userA": ("test",), "bob": ("db2",)}, 10)
    plane.grant(instance.id, "bob", ["test"])
    assert plane.grants(instance.id, "bob") == ["db2", "test"]
    plane.revoke(instance.id, "bob", "db2")
    assert plane.grants(instance.id, "bob") == ["test"]
    assert plane.enable_root(instance.id) == ("root", "s3cret")
    plane.delete_user(instance.id, "bob")
    plane.delete_database(instance.id, "db2")
    until(lambda: plane.databases(instance.id) == ["test"], 10)
    until(lambda: list(plane.users(instance.id)) == ["userA"], 10)
    plane.restart(instance.id)
    until((agent.state / "restarted").exists, 20)


def test_a_backup_goes_to_swift_and_away_again(
    plane: ControlPlane, instance: Instance, agent: Peer
) -> None:
    assert agent.process.poll() is None
    plane.wait(instance, is_well, 30)

    backup = plane.create_backup(instance.id, "nightly")

    def status() -> str:
        found = plane.backup(backup)
        return found.status if found else "gone"

    until(lambda: status() in ("COMPLETED", "FAILED"), 30)
    found = plane.backup(backup)
    assert found
    assert found.status == "COMPLETED"
    assert found.location.startswith("http://169.254.0.5:8080/v1/AUTH_")
    assert [size for name, size in plane.objects().items() if backup in name] == [9]
    plane.delete_backup(backup)
    until(lambda: status() == "gone", 30)
    until(lambda: not [name for name in plane.objects() if backup in name], 10)


def test_an_agent_with_another_key_is_not_heard(plane: ControlPlane, workplace: Path) -> None:
    instance = plane.create_instance(prepare=False)
    plane.server_is(instance, "ACTIVE")

    with peer(plane, instance, workplace / "wrong", key="k" * 32):
        time.sleep(3)  # it sends a heartbeat a second

        assert "cannot be decrypted" in (plane.rpc_problem(instance.id) or "")
        assert plane.heartbeat(instance) is None


def test_an_agent_that_is_told_nothing_answers(plane: ControlPlane, workplace: Path) -> None:
    instance = plane.create_instance(prepare=False)
    plane.server_is(instance, "ACTIVE")

    with peer(plane, instance, workplace / "quiet") as started:
        assert plane.rpc_ping(instance.id)
        assert not (started.state / "prepare.json").exists()


def test_a_server_in_error_is_the_end(plane: ControlPlane) -> None:
    instance = plane.create_instance()
    plane.server_is(instance, "ERROR", "No valid host was found.")

    with pytest.raises(VerifyError, match="gave the instance up") as caught:
        plane.wait(instance, lambda s: s.status == "ACTIVE", 60)

    assert "No valid host was found." in caught.value.detail


def test_trove_refuses_in_its_own_words(plane: ControlPlane) -> None:
    with pytest.raises(VerifyError, match="status 404") as caught:
        plane.databases("00000000-0000-4000-8000-000000000000")

    assert "cannot be found" in caught.value.detail


def test_another_token_is_refused(plane: ControlPlane) -> None:
    from imagebuild.verify.control.client import Client

    stranger = Client(plane.port, plane.project, "guessed")

    with pytest.raises(VerifyError, match="status 401"):
        stranger.databases("any")


def test_secrets_are_for_the_processes_alone(plane: ControlPlane) -> None:
    run_dir = plane.run_dir
    for path in ("trove/trove.conf", "broker/rabbitmq.conf", "database/client.cnf"):
        assert stat.S_IMODE((run_dir / path).stat().st_mode) == 0o600
    password = options((run_dir / "database/client.cnf").read_text())["client"]["password"]
    shown = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    assert str(run_dir) in shown
    assert password not in shown
    assert password not in json.dumps(plane.logs(1000))


def processes(run_dir: Path) -> set[int]:
    """Those that live (zombies do not) and have to do with a directory."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state != "Z" and str(run_dir).encode() in text and int(entry.name) != os.getpid():
            found.add(int(entry.name))
    return found


def test_a_killed_tool_leaves_no_process_and_two_do_not_collide(
    plane: ControlPlane, environment: Environment, workplace: Path
) -> None:
    """A second control plane, without isolation, beside the first; then it is killed."""
    run_dir = workplace / "second"
    code = (
        "import pathlib, sys, time\n"
        "from imagebuild.verify.control.environment import *\n"
        "from imagebuild.verify.control.plane import ControlPlane\n"
        "from imagebuild.verify.control.values import Guest\n"
        "environment = Environment(pathlib.Path(sys.argv[1]), ControlVersion('0', ''), '')\n"
        "guest = Guest('postgresql', '16', 'postgres', network_isolation=False)\n"
        "with ControlPlane.start(environment, pathlib.Path(sys.argv[2]), guest) as plane:\n"
        "    instance = plane.create_instance()\n"
        "    sys.stdout.buffer.write(instance.user_data)\n"
        "    sys.stdout.buffer.write(b'# the end\\n')\n"
        "    sys.stdout.flush()\n"
        "    time.sleep(600)\n"
    )
    tool = subprocess.Popen(
        [sys.executable, "-c", code, environment.path, run_dir], stdout=subprocess.PIPE
    )
    try:
        assert tool.stdout
        lines = list(iter(tool.stdout.readline, b"# the end\n"))[:10_000]
        files = written(b"".join(lines))
        started = processes(run_dir)
    finally:
        tool.send_signal(signal.SIGKILL)
        tool.wait()

    assert len(started) >= 7
    until(lambda: not processes(run_dir), 10)
    info = options(files[CONF_DIR + "guest_info.conf"].text)["DEFAULT"]
    assert info["network_isolation"] == "False"
    # Trove's name of the section, not the image's.
    conf = options(files[CONF_DIR + "trove-guestagent.conf"].text)
    assert conf["postgresql"]["docker_image"] == "postgres"
    assert "/etc/trove/eth1.json" not in files
    assert "/etc/docker/daemon.json" not in files
    assert plane.state("00000000-0000-4000-8000-000000000000") is None
    assert processes(plane.run_dir)


def test_guests_without_a_card_of_their_own(plane: ControlPlane) -> None:
    """One network, management's: Trove then leaves docker's own bridge alone."""
    lone = Guest("mariadb", "10.11", "mariadb", user_nic=False)
    before, plane.guest = plane.guest, lone
    try:
        instance = plane.create_instance(prepare=False)
    finally:
        plane.guest = before

    assert [nic.role for nic in instance.nics] == ["management"]
    assert "/etc/trove/eth1.json" not in written(instance.user_data)
