"""A dev image's agent fetches its code over a real sshd, and its key is good for nothing else."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from imagebuild.config.load import load_profile
from tests.unit.controller import (
    UID,
    Guest,
    Server,
    controller,
    free_port,
    make_guest,
    without_restrictions,
)

PROFILE = load_profile("debian-bookworm").profile
PRIZE = "what-another-file-holds"


@pytest.fixture(scope="module")
def shared() -> Iterator[Server]:
    """One sshd for the tests that leave it as it is."""
    with controller() as server:
        yield server


@pytest.fixture
def server() -> Iterator[Server]:
    """A controller of the test's own."""
    with controller() as server:
        yield server


@pytest.fixture
def guest(server: Server, tmp_path: Path) -> Guest:
    """A guest whose key the test's own controller knows, by the product's line."""
    made = make_guest(tmp_path / "guest", server, PROFILE)
    server.keys.write_text(made.line)
    return made


def tree(directory: Path) -> set[str]:
    return {str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file()}


def test_a_start_fetches_the_code_of_now(server: Server, guest: Guest) -> None:
    (server.source / "trove/old.py").write_text("")
    (server.source / "trove/old.pyc").write_text("")
    first = guest.start()
    assert (first.returncode, first.stdout) == (0, "agent: one ['--config-dir=/c']\n")
    assert tree(guest.source.resolve()) >= {
        "trove/cmd/guest.py",
        "requirements.txt",
        "trove/old.py",
    }
    assert not (guest.source / ".git").exists()
    assert not (guest.source / "trove/old.pyc").exists()

    server.write_source("another")
    (server.source / "trove/old.py").unlink()
    second = guest.start()
    assert (second.returncode, second.stdout) == (0, "agent: another ['--config-dir=/c']\n")
    assert "trove/old.py" not in tree(guest.source.resolve())
    third = guest.start()
    assert third.returncode == 0
    # The code before the present one goes with the next fetch.
    assert len(list(guest.source.parent.glob("source-*"))) == 2


def test_addresses_and_quotes_are_read_as_systemd_does(server: Server, guest: Guest) -> None:
    port = f"CONTROLLER_SSH_PORT='{server.port}'"
    guest.write_conf(f'# a note\nTROVE_MGMT_GATEWAY=none\nCONTROLLER="localhost" \n{port}\n')
    assert guest.start().stdout.startswith("agent: one")


@pytest.mark.parametrize(
    ("conf", "said"),
    [
        (None, "controller.conf is not there"),
        ("TROVE_MGMT_GATEWAY=none\n", "has no line CONTROLLER=ADDRESS"),
        ("CONTROLLER=-oProxyCommand=touch\n", "neither a name nor an address"),
        ("CONTROLLER=$(touch x)\n", "neither a name nor an address"),
        ("CONTROLLER=127.0.0.1\nCONTROLLER_SSH_PORT=ssh\n", "CONTROLLER_SSH_PORT=ssh is no port"),
    ],
)
def test_bad_settings_are_named(
    tmp_path: Path, shared: Server, conf: str | None, said: str
) -> None:
    guest = make_guest(tmp_path / "guest", shared, PROFILE)
    guest.write_conf(conf or "")
    if conf is None:
        (guest.root / "etc/trove/controller.conf").unlink()
    done = guest.start()
    assert done.returncode == 1
    assert said in done.stderr
    assert "etc/trove/controller.conf" in done.stderr
    assert done.stdout == ""


def test_controller_away_starts_the_last_code_and_warns(server: Server, guest: Guest) -> None:
    server.stop()
    nothing = guest.start()
    assert nothing.returncode == 1
    assert f"cannot reach 127.0.0.1, port {server.port}" in nothing.stderr
    assert "no code to start" in nothing.stderr
    server.start()
    assert guest.start().returncode == 0
    server.stop()
    again = guest.start(JOURNAL_STREAM="8:1")
    assert again.stdout == "agent: one ['--config-dir=/c']\n"
    assert "<3>guest-agent-dev: cannot reach 127.0.0.1" in again.stderr
    assert "<4>guest-agent-dev: WARNING: starting the code that was fetched before" in again.stderr


def test_refused_key_names_the_line_that_is_needed(server: Server, guest: Guest) -> None:
    assert guest.start().returncode == 0
    server.keys.write_text("")
    done = guest.start()
    # The code of before would hide it.
    assert (done.returncode, done.stdout) == (1, "")
    assert "refuses this image's key" in done.stderr
    assert guest.line in done.stderr


def test_another_host_key_is_not_trusted(server: Server, guest: Guest) -> None:
    assert guest.start().returncode == 0
    server.stop()
    server.new_host_key()
    server.start()
    done = guest.start()
    assert (done.returncode, done.stdout) == (1, "")
    assert "has another host key than when it was first seen" in done.stderr
    known = re.findall(r"rm (\S+)", done.stderr)[0]
    Path(known).unlink()
    assert guest.start().returncode == 0


def test_a_failed_transfer_leaves_the_code_whole(server: Server, guest: Guest) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs a file that the controller's user cannot read")
    assert guest.start().returncode == 0
    before = guest.source.resolve()
    server.write_source("two")
    locked = server.source / "trove/locked.py"
    locked.write_text("")
    locked.chmod(0o600)
    done = guest.start()
    assert (done.returncode, done.stdout) == (1, "")
    assert "locked.py" in done.stderr
    assert guest.source.resolve() == before
    assert '"one"' in (before / "trove/cmd/guest.py").read_text()
    assert list(guest.source.parent.glob("source-*")) == [before]


def test_a_directory_without_trove_is_refused(server: Server, guest: Guest) -> None:
    (server.source / "trove/cmd/guest.py").unlink()
    done = guest.start()
    assert (done.returncode, done.stdout) == (1, "")
    assert "is no Trove source" in done.stderr
    server.source.rename(server.source.with_name("moved"))
    done = guest.start()
    assert f"cannot read {server.source}" in done.stderr


def test_unmet_requirements_are_named(server: Server, guest: Guest) -> None:
    (server.source / "requirements.txt").write_text(
        "# comment\npackaging>=900 # newer\npytest>=1\nno-such-thing>=2;python_version>'3'\n"
        "only-there>=1;python_version<'3'\nfrom-packages>=3\n"
    )
    more = guest.source.parent / "packages/from_packages-3.1.dist-info"
    more.mkdir(parents=True)
    (more / "METADATA").write_text("Metadata-Version: 2.1\nName: from-packages\nVersion: 3.1\n")
    done = guest.start()
    assert done.stdout.startswith("agent: one")
    assert re.search(r"packaging>=900 \(the image has [\d.]+\)", done.stderr)
    assert "no-such-thing>=2;python_version>'3' (missing)" in done.stderr
    assert not re.search("^(pytest|only-there|from-packages)", done.stderr, re.M)


# What else somebody who has the image, and with it the key, may try. Each answers whether
# it came through; over a key without restrictions all do.


def ssh(guest: Guest, *words: str, program: str = "ssh") -> list[str]:
    options = ["-F", "/dev/null", "-i", str(guest.key), "-o", "BatchMode=yes"]
    options += ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
    return [program, *options, *words]


def port_of(guest: Guest) -> str:
    text = (guest.root / "etc/trove/controller.conf").read_text()
    return text.split("CONTROLLER_SSH_PORT=")[1].strip()


def there(guest: Guest) -> str:
    return f"{guest.profile.agent.controller.username}@127.0.0.1"


def output(*argv: str | Path) -> str:
    done = subprocess.run(
        [str(a) for a in argv],
        capture_output=True, text=True, errors="replace", check=False, timeout=60,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return done.stdout + done.stderr


def try_command(guest: Guest, secret: Path) -> bool:
    return PRIZE in output(*ssh(guest, "-p", port_of(guest), there(guest), f"cat {secret}"))


def try_shell(guest: Guest, secret: Path) -> bool:
    argv = ssh(guest, "-p", port_of(guest), there(guest))
    text = f"cat {secret}\nexit\n"
    done = subprocess.run(argv, input=text, capture_output=True, text=True, check=False, timeout=60)
    return PRIZE in done.stdout + done.stderr


def try_terminal(guest: Guest, secret: Path) -> bool:
    argv = ssh(guest, "-tt", "-p", port_of(guest), there(guest), "tty")
    return "/dev/pts/" in output(*argv) and secret.exists()


def copy_by_scp(guest: Guest, *names: str) -> None:
    for protocol in ((), ("-O",)):
        output(*ssh(guest, *protocol, "-P", port_of(guest), *names, program="scp"))


def try_scp(guest: Guest, secret: Path) -> bool:
    taken = guest.root / "taken"
    copy_by_scp(guest, f"{there(guest)}:{secret}", str(taken))
    return taken.exists()


def try_scp_upload(guest: Guest, secret: Path) -> bool:
    conf = str(guest.root / "etc/trove/controller.conf")
    copy_by_scp(guest, conf, f"{there(guest)}:{secret.parent}/home/new")
    return (secret.parent / "home/new").exists()


def try_sftp(guest: Guest, secret: Path) -> bool:
    batch = guest.root / "batch"
    batch.write_text(f"get {secret} {guest.root}/taken\n")
    output(*ssh(guest, "-P", port_of(guest), "-b", str(batch), there(guest), program="sftp"))
    return (guest.root / "taken").exists()


def rsync(guest: Guest, *words: str | Path) -> str:
    shell = " ".join(ssh(guest, "-p", port_of(guest)))
    return output("rsync", f"--rsh={shell}", *words)


def try_rsync_elsewhere(guest: Guest, secret: Path) -> bool:
    said = rsync(guest, "-r", f"{there(guest)}:{secret}", guest.root / "taken")
    return (guest.root / "taken").exists() or PRIZE in said


def try_rsync_upload(guest: Guest, secret: Path) -> bool:
    source = guest.profile.agent.controller.path
    rsync(guest, "-r", guest.root / "etc/trove/controller.conf", f"{there(guest)}:{source}/new")
    rsync(guest, "-r", guest.root / "etc/trove/controller.conf", f"{there(guest)}::trove/new")
    return (source / "new").exists() and secret.exists()


def try_rsync_removing(guest: Guest, secret: Path) -> bool:
    source = guest.profile.agent.controller.path
    options = ("-r", "--remove-source-files")
    rsync(guest, *options, f"{there(guest)}::trove/", guest.root / "taken")
    rsync(guest, *options, f"{there(guest)}:{source}/", guest.root / "taken")
    return not (source / "requirements.txt").exists() and secret.exists()


def answering(text: bytes) -> tuple[int, socket.socket]:
    """A service on the controller's loopback, as a database would be."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                line, _ = listener.accept()
            except OSError:
                return
            with line:
                line.sendall(text)

    threading.Thread(target=serve, daemon=True).start()
    port: int = listener.getsockname()[1]
    return port, listener


def try_forward(guest: Guest, secret: Path) -> bool:
    """-W opens the same channel as -L and -D do."""
    port, listener = answering(PRIZE.encode())
    with listener:
        argv = ssh(guest, "-W", f"127.0.0.1:{port}", "-p", port_of(guest), there(guest))
        return PRIZE in output(*argv) and secret.exists()


def through(guest: Guest, option: str, local: int, ask: Callable[[socket.socket], bytes]) -> bool:
    """Whether a tunnel that ssh opened at the port `local` leads to the service."""
    argv = ssh(guest, "-v", "-N", option, "-p", port_of(guest), there(guest))
    process = subprocess.Popen(argv, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    assert process.stderr
    try:
        for line in process.stderr:
            if b"Entering interactive session" in line:
                break
        else:
            pytest.fail("ssh did not log in")
        with socket.create_connection(("127.0.0.1", local), timeout=20) as tunnel:
            return PRIZE.encode() in ask(tunnel)
    except OSError:
        return False
    finally:
        process.kill()
        process.wait()


def try_local_forward(guest: Guest, secret: Path) -> bool:
    port, listener = answering(PRIZE.encode())
    local = free_port()
    with listener:
        option = f"-L{local}:127.0.0.1:{port}"
        return through(guest, option, local, lambda t: t.recv(99)) and secret.exists()


def try_dynamic_forward(guest: Guest, secret: Path) -> bool:
    port, listener = answering(PRIZE.encode())

    def ask(tunnel: socket.socket) -> bytes:
        tunnel.sendall(b"\5\1\0")  # SOCKS5 (RFC 1928), no authentication
        tunnel.recv(2)
        tunnel.sendall(b"\5\1\0\1" + socket.inet_aton("127.0.0.1") + port.to_bytes(2, "big"))
        return tunnel.recv(99) + tunnel.recv(99)

    local = free_port()
    with listener:
        return through(guest, f"-D{local}", local, ask) and secret.exists()


def try_remote_forward(guest: Guest, secret: Path) -> bool:
    argv = ssh(
        guest, "-v", "-N", "-R", f"{free_port()}:127.0.0.1:9", "-o", "ExitOnForwardFailure=yes",
        "-p", port_of(guest), there(guest),
    )  # fmt: skip
    process = subprocess.Popen(argv, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    assert process.stderr
    try:
        allowed = any(b"remote forward success" in line for line in process.stderr)
        return allowed and secret.exists()
    finally:
        process.kill()
        process.wait()


ATTEMPTS = [
    try_command, try_shell, try_terminal, try_scp, try_scp_upload, try_sftp, try_rsync_elsewhere,
    try_rsync_upload, try_rsync_removing, try_forward, try_local_forward, try_dynamic_forward,
    try_remote_forward,
]  # fmt: skip


@pytest.fixture(scope="module")
def prize(shared: Server) -> Path:
    """A file that the controller's user may read, and its key must not."""
    path = shared.directory / "secret"
    path.write_text(PRIZE + "\n")
    return path


@pytest.fixture
def intruder(shared: Server, tmp_path: Path) -> Guest:
    """A guest whose key the shared controller knows, by the product's line."""
    made = make_guest(tmp_path / "guest", shared, PROFILE)
    shared.write_source("one")
    shared.keys.write_text(made.line)
    return made


@pytest.mark.parametrize("attempt", ATTEMPTS, ids=lambda a: a.__name__)
def test_the_key_is_good_for_nothing_else(
    shared: Server, intruder: Guest, prize: Path, attempt: Callable[[Guest, Path], bool]
) -> None:
    assert not attempt(intruder, prize)
    shared.keys.write_text(without_restrictions(intruder))
    assert attempt(intruder, prize), "the attempt itself does not work"
    for new in (shared.source / "new", shared.directory / "home/new"):
        new.unlink(missing_ok=True)


def test_sshd_grants_the_command_alone(shared: Server, intruder: Guest) -> None:
    guest = intruder
    said = output(*ssh(guest, "-v", "-A", "-X", "-p", port_of(guest), there(guest), "id"))
    granted = set(re.findall(r"key options: (.*)", said))
    assert granted == {"command"}, said
    shared.keys.write_text(without_restrictions(guest))
    said = output(*ssh(guest, "-v", "-p", port_of(guest), there(guest), "id"))
    assert "agent-forwarding port-forwarding pty user-rc x11-forwarding" in said


@pytest.mark.parametrize(
    "ask",
    ["--filter=: {secret}", "--filter=: ../../secret", "--files-from=:{secret}", "--copy-links",
     "--copy-unsafe-links", "--copy-dirlinks"],
)  # fmt: skip
def test_no_option_of_rsync_leads_out_of_the_directory(
    shared: Server, intruder: Guest, prize: Path, ask: str
) -> None:
    """A server without a module shows the first line of any file as a broken filter rule."""
    for name, target in (("link", prize), ("dirlink", prize.parent)):
        (shared.source / name).unlink(missing_ok=True)
        (shared.source / name).symlink_to(target)
    taken = intruder.root / "taken"
    said = rsync(intruder, "-r", ask.format(secret=prize), f"{there(intruder)}::trove/", taken)
    files = [p.read_text(errors="replace") for p in taken.rglob("*") if p.is_file()]
    assert PRIZE not in said
    # Daemons before 3.4 follow links out of a module.
    assert ("--copy" in ask) == ("configured to refuse" in said)
    assert not [text for text in files if PRIZE in text or "token" in text]


@pytest.mark.parametrize("path", ["../../secret", "dirlink/secret", ".git/config"])
def test_no_path_leads_out_of_the_directory(
    shared: Server, intruder: Guest, prize: Path, path: str
) -> None:
    (shared.source / "dirlink").unlink(missing_ok=True)
    (shared.source / "dirlink").symlink_to(prize.parent)
    taken = intruder.root / "taken"
    said = rsync(intruder, "-r", f"{there(intruder)}::trove/{path}", taken)
    assert not taken.exists()
    assert PRIZE not in said


def test_files_of_the_guest_are_the_controllers_user_s(server: Server) -> None:
    """The tests above mean something: that user reads what it shall not hand out."""
    if os.geteuid() == 0:
        assert (server.source / ".git/config").stat().st_uid == UID
