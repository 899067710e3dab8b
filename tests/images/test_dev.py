"""A dev image, on a base of its own: looked at, and booted with a controller on loopback."""

from __future__ import annotations

import shutil
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagebuild.config.words import Format
from imagebuild.host.run import run
from imagebuild.stages import devmode
from imagebuild.store.store import Kind
from imagebuild.verify.checks.base import Expected
from imagebuild.verify.safety import check_safety
from imagebuild.verify.userdata import TroveUserData
from tests.images.boots import BootReport, boot
from tests.images.builds import Built
from tests.images.fs import ImageFs
from tests.images.test_more_builds import build
from tests.unit.controller import Server, controller

pytestmark = [pytest.mark.image, pytest.mark.full("trust")]

PASSWORD = "Dbg:pass word-9f3"  # noqa: S105 - it opens nothing
ADDRESS = "168.0.0.100"
_CONF = f"TROVE_MGMT_GATEWAY=none\nCONTROLLER={ADDRESS}\n"
_WAIT = "for _ in $(seq 85); do journalctl --no-pager -o cat -u guest-agent.service > /run/agent; grep -q {mark} /run/agent && break; sleep 2; done; cat /run/agent"  # noqa: E501
COMMANDS = {
    "first": _WAIT.format(mark="MARK-ONE"),
    "second": _WAIT.format(mark="MARK-TWO"),
    "key": f"stat -c '%U %a' {devmode.KEY_PATH}; ! sudo -u nobody cat {devmode.KEY_PATH}",
    "source": "stat -c %U /var/lib/trove-dev/source/; ls /var/lib/trove-dev/source/trove",
    "known": "cat /var/lib/trove-dev/known_hosts",
    "root": f'python3 -W ignore -c \'import crypt; h = open("/etc/shadow").read().split(":")[1]; print(crypt.crypt("{PASSWORD}", h) == h)\'',  # noqa: E501
    "ssh": "sshd -T | grep -i ^passwordauthentication",
    "plugin": "systemctl show -p Environment --value docker-hostnic.service",
}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("dev")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with controller() as made:
        yield made


@pytest.fixture(scope="module")
def output(bookworm: Built, directory: Path, server: Server) -> str:
    """What the build says; the artifact is below `directory`."""
    password = directory / "password"
    password.write_text(PASSWORD + "\n")
    done = build(
        bookworm, directory, "--dev", "--root-password-file", str(password),
        "--set", f"agent.controller.username={server.user}",
        "--set", f"agent.controller.path={server.source}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def artifact(directory: Path, output: str) -> Path:
    assert "must not be published" in output
    return (directory / "images/trove-guest-debian-bookworm-amd64-dev").resolve()


@pytest.fixture(scope="module")
def fs(artifact: Path, directory: Path) -> ImageFs:
    raw = directory / "dev.raw"
    run(["qemu-img", "convert", "-O", Format.RAW.value, next(artifact.glob("*.qcow2")), raw])
    return ImageFs(raw)


def test_the_image_holds_one_key_and_one_password(fs: ImageFs) -> None:
    secrets = {"root's password": PASSWORD.encode()}
    expected = Expected("ubuntu", dev_key=devmode.KEY_PATH, root_password=True)
    assert check_safety(fs.tree, expected, secrets=secrets) == []
    found = check_safety(fs.tree, Expected("ubuntu"), secrets=secrets)
    assert {(f.check, f.path) for f in found} == {
        ("accounts.passwords", "/etc/shadow"),
        ("keys.private", devmode.KEY_PATH),
    }


def test_the_key_is_the_guest_users_alone(fs: ImageFs) -> None:
    entry = fs.listing("/etc/trove/dev")["id_ed25519"]
    assert (entry.uid, stat.S_IMODE(entry.mode)) == (1000, 0o600)
    assert "OPENSSH PRIVATE KEY" in fs.read(devmode.KEY_PATH)


def test_production_has_neither_key_nor_password(bookworm: Built) -> None:
    assert not bookworm.fs.exists("/etc/trove/dev")
    assert not bookworm.fs.exists("/usr/local/bin/guest-agent-dev")
    assert bookworm.manifest["dev"] is None
    assert bookworm.fs.read("/etc/shadow").splitlines()[0].split(":")[1][:1] in ("!", "*")
    assert not (bookworm.artifact / "dev").exists()


def test_the_artifact_goes_with_the_image(fs: ImageFs, artifact: Path, output: str) -> None:
    line = (artifact / devmode.AUTHORIZED_KEYS).read_text()
    assert fs.read("/etc/trove/dev/line-for-controller") == line
    assert artifact.name in line
    assert str(artifact / devmode.AUTHORIZED_KEYS) in output
    run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=artifact)
    key = fs.read(devmode.KEY_PATH).encode()
    for path in artifact.rglob("*"):
        if path.is_file() and path.suffix != ".qcow2":
            data = path.read_bytes()
            assert key.splitlines()[-2] not in data, path
            assert PASSWORD.encode() not in data, path
    assert stat.S_IMODE(next(artifact.glob("*.qcow2")).stat().st_mode) == 0o600


def test_nothing_secret_stays_in_the_cache(fs: ImageFs, bookworm: Built, output: str) -> None:
    assert output
    assert not [p for p in (bookworm.cache / "scratch").iterdir() if p.is_dir()]
    own = [o for o in bookworm.store.objects() if o.image.endswith("-dev")]
    # Its keys are in a layer of their own; the finished image is not kept.
    assert Kind.ELEMENTS in {o.key.kind for o in own}
    assert Kind.FORMATS not in {o.key.kind for o in own}
    assert {stat.S_IMODE(o.path.stat().st_mode) for o in own} == {0o700}
    # It does not take the place of production's.
    assert bookworm.object("base").is_dir()
    assert bookworm.object("agent", "code").is_dir()
    key = fs.read(devmode.KEY_PATH).encode().splitlines()[-2]
    for log in (bookworm.cache / "logs").iterdir():
        assert key not in log.read_bytes()
        assert PASSWORD.encode() not in log.read_bytes()


def mark(server: Server, text: str) -> None:
    program = server.source / "trove/cmd/guest.py"
    lines = [x for x in program.read_text().splitlines() if "MARK-" not in x]
    lines.insert(lines.index("import sys"), f"print({text!r}, flush=True)")
    program.write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def booted(fs: ImageFs, artifact: Path, server: Server, directory: Path) -> BootReport:
    """A boot whose controller changes the code after it was fetched for the first time."""
    site = fs.extract("/opt/guest-agent-venv/lib", directory / "venv")
    shutil.rmtree(server.source)
    (server.source / "trove").parent.mkdir()
    shutil.copytree(next(site.glob("python3*/site-packages")) / "trove", server.source / "trove")
    mark(server, "MARK-ONE")
    server.keys.write_text((artifact / devmode.AUTHORIZED_KEYS).read_text())
    run(["chmod", "-R", "a+rX", server.source])

    def change() -> None:
        log = server.directory / "sshd.log"
        deadline = time.monotonic() + 1500
        while f"Disconnected from user {server.user}" not in log.read_text():
            if time.monotonic() > deadline:
                return
            time.sleep(0.5)
        mark(server, "MARK-TWO")

    thread = threading.Thread(target=change, daemon=True)
    thread.start()
    return boot(
        next(artifact.glob("*.qcow2")),
        directory / "boot",
        firmware="bios",
        user_data=TroveUserData(files={"/etc/trove/controller.conf": _CONF}),
        questions=COMMANDS,
        forwards={f"{ADDRESS}:22": server.port},
    )


def test_each_start_runs_the_code_of_the_controller(booted: BootReport, server: Server) -> None:
    fetched = f"fetched {server.user}@{ADDRESS}:{server.source}"
    assert fetched in booted.out("first")
    assert "MARK-ONE" in booted.out("first")
    # Without a datastore the agent ends by itself, and is started again, with new code.
    later = booted.out("second")
    assert later.index("MARK-ONE") < later.index("MARK-TWO")
    assert later.count(fetched) >= 2
    assert "Manager class not registered for datastore manager None" in later
    assert booted.out("source").split()[0] == "ubuntu"
    assert ADDRESS in booted.out("known")
    assert "/var/lib/trove-dev/source" in booted.out("plugin")


def test_the_guest_is_as_closed_as_can_be(booted: BootReport) -> None:
    assert booted.out("key").splitlines()[0] == "ubuntu 600"
    assert booted.out("root") == "True"
    assert booted.out("ssh") == "passwordauthentication no"


def test_dev_image_boots_as_any_other(booted: BootReport) -> None:
    assert booted.facts["failed"] == []
    assert booted.facts["cloud_init"]["v1"]["errors"] == []
