"""`config check --online`: what real registries tell."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagebuild.guestconf.online import Speech, asks_for_login, speech_of
from tests.container_images import image, layer
from tests.registry_server import LOOPBACK, RegistryServer

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    with RegistryServer(tmp_path_factory.mktemp("closed"), login=("a", "b")) as server:
        yield server


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    with RegistryServer(tmp_path_factory.mktemp("tls"), tls=LOOPBACK) as server:
        yield server


def test_how_registries_speak(
    target: RegistryServer, closed: RegistryServer, secured: RegistryServer
) -> None:
    assert speech_of(target.host) == (Speech.PLAIN, "")
    assert speech_of(closed.host) == (Speech.PLAIN, "")
    speech, why = speech_of(secured.host)
    assert speech is Speech.UNTRUSTED
    assert "certificate" in why
    with socket.create_server(("127.0.0.1", 0)) as listening:
        free = listening.getsockname()[1]
    assert speech_of(f"127.0.0.1:{free}")[0] is Speech.SILENT


def test_who_wants_a_login(
    target: RegistryServer, closed: RegistryServer, secured: RegistryServer
) -> None:
    assert not asks_for_login(target.host, Speech.PLAIN)
    assert asks_for_login(closed.host, Speech.PLAIN)
    assert not asks_for_login(secured.host, Speech.UNTRUSTED)


def check(*argv: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "imagebuild", "--no-color", "config", "check", *argv]
    env = {"PYTHONPATH": str(ROOT), "HOME": "/nonexistent", "PATH": "/usr/bin:/bin"}
    return subprocess.run(words, env=env, capture_output=True, text=True)


def test_the_command_asks(target: RegistryServer, closed: RegistryServer, tmp_path: Path) -> None:
    image([layer({"a": b"1"})]).push(target, "online/mysql", "8.4")
    image([layer({"a": b"1"})]).push(target, "online/backup", "8.4")
    guest = tmp_path / "trove-guestagent.conf"
    text = "[mysql]\ndocker_image = {0}/online/mysql\nbackup_docker_image = {0}/online/backup\n"
    guest.write_text(text.format(target.host))
    done = check(str(guest), "--online", "--datastore", "mysql:8.4")
    assert done.returncode == 0, done.stdout
    assert done.stderr.endswith("(guest): no mistakes, 1 warning\n")
    assert "guest's own address" in done.stdout
    done = check(str(guest), "--datastore", "mysql:8.4.3")
    assert done.returncode == 3
    assert f"{guest}:2: mistake: [mysql] docker_image: mysql 8.4.3:" in done.stdout
    assert f"{guest}:3: mistake: [mysql] backup_docker_image: mysql 8.4.3:" in done.stdout
    assert '{"8.4": ["8.4.3"]}' in done.stdout
    guest.write_text(text.format(closed.host))
    done = check(str(guest), "--online")
    assert done.returncode == 3
    assert "wants a login, and guests have none" in done.stdout
    # Nobody is there: said of the registry, with the code of what may pass.
    guest.write_text(text.format("127.0.0.1:9"))
    done = check(str(guest), "--datastore", "mysql:8.4")
    assert done.returncode == 75
    assert "127.0.0.1:9" in done.stderr
