"""A controller on loopback: an sshd of our own with a user `stack`, and a guest that
fetches from it with the very files that a dev image holds.
"""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from imagebuild.config.profile import Controller, Profile
from imagebuild.config.words import AgentMode
from imagebuild.data import elements_dir
from imagebuild.host.run import base_env, need, spawn
from imagebuild.inputs import Dev
from imagebuild.stages import devmode
from imagebuild.trust import make_key

STATIC = elements_dir() / "trove-guest-dev/static"
UID = 20001
NAME = "trove-guest-debian-bookworm-amd64-dev-0123abcd"

# The host's own accounts stay as they are: the user is in a private view of three files.
_SERVE = """
set -eu
for file in passwd group shadow; do
    cp "/etc/$file" "$1/$file"
    cat "$1/$file.more" >> "$1/$file"
    mount --bind "$1/$file" "/etc/$file"
done
mount -t tmpfs tmpfs /run
mkdir -m 0755 /run/sshd
exec "$2" -D -e -f "$1/sshd_config"
"""
_GUEST = """\
import sys
MESSAGE = "{message}"
def main():
    print("agent:", MESSAGE, sys.argv[1:])
"""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@dataclass
class Server:
    """The controller: its `directory` holds all files, `source` Trove's."""

    directory: Path
    port: int
    user: str
    process: subprocess.Popen[bytes] | None = None

    @property
    def source(self) -> Path:
        return self.directory / "opt/trove"

    @property
    def keys(self) -> Path:
        return self.directory / "authorized_keys"

    def write_source(self, message: str) -> None:
        """A Trove source with a program that says `message`."""
        files = {
            "trove/__init__.py": "",
            "trove/cmd/__init__.py": "",
            "trove/cmd/guest.py": _GUEST.format(message=message),
            "requirements.txt": "packaging>=20\n",
            ".git/config": "url = https://user:token@git.example/trove\n",
        }
        for name, text in files.items():
            path = self.source / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def new_host_key(self) -> None:
        key = self.directory / "host_key"
        key.unlink(missing_ok=True)
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)]
        subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)

    def start(self) -> None:
        """Start sshd, which allows all that the lines in authorized_keys do not refuse."""
        sshd = need("sshd", "openssh-server")
        (self.directory / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.directory}/host_key\n"
            f"AuthorizedKeysFile {self.keys}\nStrictModes no\nUsePAM no\nPidFile none\n"
            "PasswordAuthentication no\nKbdInteractiveAuthentication no\n"
            "AllowTcpForwarding yes\nAllowAgentForwarding yes\nPermitTTY yes\n"
            "Subsystem sftp internal-sftp\nMaxStartups 100\n"
        )
        argv = [sshd, "-D", "-e", "-f", str(self.directory / "sshd_config")]
        if os.geteuid() == 0:
            own = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
            argv = [*own, "--propagation", "private", "sh", "-c", _SERVE, "sh"]
            argv += [str(self.directory), sshd]
        dies = ["setpriv", "--pdeathsig", "KILL"]
        with (self.directory / "sshd.log").open("ab") as log:
            self.process = spawn([*dies, *argv], stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while not self._answers():
            text = (self.directory / "sshd.log").read_text()
            assert self.process.poll() is None, f"sshd ended:\n{text}"
            assert time.monotonic() < deadline, f"sshd does not listen:\n{text}"
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as line:
                return line.recv(4) == b"SSH-"
        except OSError:
            return False

    def stop(self) -> None:
        if self.process:
            self.process.kill()  # and with it the namespace
            self.process.wait(10)
            self.process = None


@dataclass(frozen=True)
class Guest:
    """A guest: `root` holds the files of a dev image, where a test may write them."""

    root: Path
    dev: Dev
    profile: Profile

    @property
    def line(self) -> str:
        """The line that the artifact has for the controller."""
        assert self.dev.key
        return devmode.authorized_keys_line(self.dev.key, self.profile.agent.controller, NAME)

    @property
    def key(self) -> Path:
        return self.root / devmode.KEY_PATH[1:]

    @property
    def source(self) -> Path:
        return self.root / "var/lib/trove-dev/source"

    def write_conf(self, text: str) -> None:
        (self.root / "etc/trove/controller.conf").write_text(text)

    def start(self, **env: str) -> subprocess.CompletedProcess[str]:
        """What guest-agent.service runs."""
        argv = [str(self.root / "usr/local/bin/guest-agent-dev"), "--config-dir=/c"]
        whole = base_env(TROVE_DEV_ROOT=str(self.root), HOME=str(self.root), **env)
        return subprocess.run(
            argv, env=whole, capture_output=True, text=True, check=False, timeout=120
        )


def make_guest(root: Path, server: Server, profile: Profile) -> Guest:
    """Put a dev image's files below `root`, as the element's hooks do."""
    key = make_key()
    dev = Dev("0" * 32, key)
    controller = Controller(username=server.user, path=server.source)
    agent = profile.agent.model_copy(update={"mode": AgentMode.DEV, "controller": controller})
    profile = profile.model_copy(update={"agent": agent})
    (root / "etc/trove").mkdir(parents=True)
    devmode.write_inputs(dev, profile, NAME, root / "etc/trove/dev")
    (root / "var/lib/trove-dev").mkdir(parents=True)
    programs = {
        "usr/local/bin/guest-agent-dev": (STATIC / "guest-agent-dev").read_text(),
        "usr/local/lib/trove-dev/dev-requirements.py": (STATIC / "dev-requirements.py").read_text(),
        "opt/guest-agent-venv/bin/python": f'#!/bin/sh\nexec {sys.executable} "$@"\n',
        # As pip writes a console script.
        "usr/local/bin/guest-agent": f"#!{sys.executable}\n"
        "from trove.cmd.guest import main\nmain()\n",
    }  # fmt: skip
    for name, text in programs.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    guest = Guest(root, dev, profile)
    guest.write_conf(f"CONTROLLER=127.0.0.1\nCONTROLLER_SSH_PORT={server.port}\n")
    return guest


@contextmanager
def controller() -> Iterator[Server]:
    """A running controller with a source; the test writes its authorized_keys."""
    directory = Path(tempfile.mkdtemp(prefix="imagebuild-controller-", dir="/var/tmp"))
    server = Server(directory, free_port(), "stack" if os.geteuid() == 0 else getpass.getuser())
    try:
        directory.chmod(0o755)
        home = directory / "home"
        home.mkdir()
        server.keys.touch()
        server.new_host_key()
        server.write_source("one")
        if os.geteuid() == 0:
            for path in (home, *server.source.parent.rglob("*")):
                os.chown(path, UID, UID)
            more = {
                "passwd": f"stack:x:{UID}:{UID}::{home}:/bin/bash\n",
                "group": f"stack:x:{UID}:\n",
                "shadow": "stack:*:20000:0:99999:7:::\n",
            }
            for name, text in more.items():
                (directory / f"{name}.more").write_text(text)
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(directory)


def without_restrictions(guest: Guest) -> str:
    """A line that lets the same key do all."""
    assert guest.dev.key
    return guest.dev.key.public + "\n"
