"""Talk to a guest while it runs: a root shell on a virtio-serial port, or ssh where that is mute.

The shell needs neither network nor login. It is there as early as cloud-init's boothook.
"""

from __future__ import annotations

import base64
import secrets
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from imagebuild.errors import VerifyError
from imagebuild.host.run import spawn, which
from imagebuild.verify.machine import Machine
from imagebuild.verify.probe import DIRECTORY
from imagebuild.verify.qmp import connect

#: Seconds that a command may take in a guest under KVM; emulated, it gets more (patience).
COMMAND_SECONDS = 60.0
#: Seconds after a command's own limit in which the answer must have arrived, the same way.
_GRACE = 20.0
#: Seconds of silence after which the shell counts as mute, the same way.
_MUTE = 30.0

# The command is a file, so that its own standard input is empty; its output is a file, so
# that what it leaves running does not hold the channel.
_COMMAND = """\
{{ d={directory}; echo {text} | base64 -d >$d/command
timeout -k 5 {limit:.0f} sh $d/command </dev/null >$d/output 2>&1; rc=$?
printf '\\n<{mark} %s\\n' $rc; base64 $d/output; printf '{mark}>\\n'; }} 2>&1
"""


class GuestSilentError(VerifyError):
    """The guest does not answer on any channel."""


@dataclass(frozen=True)
class CommandResult:
    """What one command did in the guest; `out` holds both streams. 124: it took too long."""

    rc: int
    out: str


class Guest:
    """The guest of a running machine. Calls of several threads wait for each other.

    `key` is the private key that `user` may log in with over ssh; without one there is no
    second way.
    """

    def __init__(self, machine: Machine, *, key: Path | None = None, user: str = "") -> None:
        self.machine = machine
        self.key = key
        self.user = user
        self._lock = threading.Lock()
        self._open = ExitStack()
        self._socket: socket.socket | None = None

    def __enter__(self) -> Guest:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.close()

    @property
    def patience(self) -> float:
        """How much longer everything may take here than under KVM."""
        return self.machine.spec.accelerator.patience

    def run(self, command: str, timeout: float | None = None) -> CommandResult:
        """Run text for `sh` as root. `timeout`: its seconds in the guest; None: the default,
        by the accelerator. Raises GuestSilentError when there is no answer on any way.
        """
        limit = COMMAND_SECONDS * self.patience if timeout is None else timeout
        with self._lock:
            try:
                return self._by_shell(command, limit)
            except OSError as exc:
                self._open.close()
                self._socket = None
                why = str(exc)
            found = self.run_by_ssh(command, limit)
        if found is None:
            raise GuestSilentError(
                "the guest does not answer", where=str(self.machine.logs), detail=why
            )
        return found

    def out(self, command: str, timeout: float | None = None) -> str:
        """Output of a command, stripped. Raises VerifyError when it fails."""
        result = self.run(command, timeout)
        if result.rc != 0:
            raise VerifyError(
                f"a command in the guest ended with status {result.rc}",
                where=command[:300],
                detail=result.out,
            )
        return result.out.strip()

    def wait_for(
        self,
        command: str,
        until: Callable[[CommandResult], bool] = lambda result: result.rc == 0,
        *,
        timeout: float,
        every: float = 2.0,
    ) -> CommandResult:
        """Repeat a command until its result is as wanted, or `timeout` seconds have passed;
        returns the last result either way.
        """
        deadline = time.monotonic() + timeout
        while True:
            result = self.run(command)
            if until(result) or time.monotonic() > deadline:
                return result
            time.sleep(every)

    def ssh_argv(self) -> list[str] | None:
        """The command that logs in over ssh; None where there is no way."""
        if not self.can_ssh:
            return None
        try:
            port = self.machine.qmp.ports().get(22)
        except OSError:
            return None
        if port is None:
            return None
        options = {
            "BatchMode": "yes", "ConnectTimeout": "20", "IdentitiesOnly": "yes",
            "LogLevel": "ERROR", "StrictHostKeyChecking": "no", "UserKnownHostsFile": "/dev/null",
        }  # fmt: skip
        words = [word for k, v in options.items() for word in ("-o", f"{k}={v}")]
        return [
            "ssh", "-F", "none", "-i", str(self.key), *words, "-p", str(port),
            f"{self.user}@127.0.0.1",
        ]  # fmt: skip

    def _by_shell(self, command: str, limit: float) -> CommandResult:
        """Raises OSError when the shell does not answer in time."""
        mark = secrets.token_hex(8)
        text = base64.b64encode(command.encode()).decode()
        shell = self._shell()
        # A half line of somebody else ends with the first newline.
        shell.sendall(
            b"\n" + _COMMAND.format(directory=DIRECTORY, text=text, mark=mark, limit=limit).encode()
        )
        begin, end = f"\n<{mark} ".encode(), f"\n{mark}>".encode()
        deadline = time.monotonic() + limit + _GRACE * self.patience
        data = b""
        while end not in data:
            if time.monotonic() > deadline or self.machine.has_ended:
                raise TimeoutError("the root shell does not answer")
            try:
                more = shell.recv(1 << 16)
            except TimeoutError:
                continue
            if not more:
                raise ConnectionResetError("the root shell's channel is closed")
            data += more
        status, _, out = data[data.index(begin) + len(begin) : data.index(end)].partition(b"\n")
        return CommandResult(int(status), base64.b64decode(out).decode(errors="replace"))

    def _shell(self) -> socket.socket:
        """The connection to the shell, which has answered once. Raises OSError."""
        if self._socket:
            return self._socket
        opened = self._open.enter_context(connect(self.machine.shell, timeout=1))
        mark = secrets.token_hex(8).encode()
        deadline = time.monotonic() + _MUTE * self.patience
        data = b""
        opened.sendall(b"\necho " + mark + b"\n")
        while mark not in data:
            if time.monotonic() > deadline or self.machine.has_ended:
                raise TimeoutError("the root shell is mute")
            try:
                data += opened.recv(1 << 16)
            except TimeoutError:
                continue
        self._socket = opened
        return opened

    @property
    def can_ssh(self) -> bool:
        """Whether there is a key, a user and a client for ssh."""
        return bool(self.key and self.user and which("ssh"))

    def run_by_ssh(self, command: str, limit: float) -> CommandResult | None:
        """Run text for `sh` as root over ssh and sudo; None when nobody could log in."""
        argv = self.ssh_argv()
        if argv is None or self.machine.has_ended:
            return None
        inner = f"sudo -n timeout -k 5 {limit:.0f} sh -s"
        with spawn(
            [*argv, inner],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            die_with_parent=True,
        ) as process:
            try:
                out, _ = process.communicate(command.encode(), limit + _GRACE * self.patience)
            except subprocess.TimeoutExpired:
                process.kill()
                return None
            except BaseException:
                process.kill()
                raise
        # ssh's own failures have this status.
        return None if process.returncode == 255 else CommandResult(process.returncode, _text(out))


def _text(data: bytes) -> str:
    return data.decode(errors="replace")
