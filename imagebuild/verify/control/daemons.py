"""The control plane's processes: started as nobody where root starts them, ended together.

Each dies with the thread that starts it (PR_SET_PDEATHSIG), whatever kills the tool, and
has a log of its own. None of them leaves its process: what they fork ends with them.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from imagebuild.errors import PreflightError
from imagebuild.host.run import base_env, need, run, spawn

_TAIL = 20
_TAIL_BYTES = 256 << 10
_TOLD = 2000
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Identity:
    """The user that the processes run as; no prefix: the tool's own."""

    prefix: tuple[str, ...] = ()
    uid: int | None = None
    gid: int | None = None

    def own(self, *paths: Path) -> None:
        """Give files and directories to the user."""
        for path in paths:
            if self.uid is not None and self.gid is not None:
                os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def own_tree(self, top: Path) -> None:
        """Give a directory and all in it to the user."""
        self.own(top)
        for here, directories, files in os.walk(top):
            self.own(*(Path(here, name) for name in (*directories, *files)))


def identity(run_dir: Path, python: Path) -> Identity:
    """Who the processes are: nobody, when root runs the tool and nobody can work there.

    What they need is the run's directory, which is given to that user, and the
    environment's Python. When either is out of nobody's reach (below /root, say), or root
    may not change users, they run as the tool does.
    """
    if os.geteuid() != 0:
        return Identity()
    try:
        user = pwd.getpwnam("nobody")
    except KeyError:
        return Identity()
    found = Identity(
        (need("setpriv", "util-linux"), f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}",
         "--clear-groups", "--no-new-privs", "--pdeathsig", "KILL", "--"),
        user.pw_uid, user.pw_gid,
    )  # fmt: skip
    found.own(run_dir)
    code = "import os, sys; os.listdir(sys.argv[1])"
    probe: list[str | Path] = [*found.prefix, python, "-IS", "-c", code, run_dir]
    if run(probe, check=False).returncode == 0:
        return found
    os.chown(run_dir, 0, 0)
    return Identity()


@dataclass
class Daemon:
    """A process that is to run until the end, and its log."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    started_up: int = 0

    def tail(self, lines: int = _TAIL, *, since: int = 0) -> str:
        """The end of its log, from byte `since` on at most."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(since, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
                text = _COLOUR.sub("", file.read().decode(errors="replace"))
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def is_up(self) -> None:
        """What its log says until now is of its start, before others were there."""
        self.started_up = self.log.stat().st_size

    def told(self) -> list[str]:
        """The lines of its log since it is up, the last ones."""
        return self.tail(_TOLD, since=self.started_up).splitlines()

    def await_ready(self, ready: Callable[[], bool], seconds: float) -> None:
        """Wait until `ready()`. Raises PreflightError when it ends before, or is too late."""
        deadline = time.monotonic() + seconds
        while not ready():
            status = self.process.poll()
            if status is not None or time.monotonic() > deadline:
                what = f"ended with status {status}" if status is not None else "is not ready"
                raise PreflightError(
                    f"{self.name} {what} on this host",
                    where=str(self.log),
                    detail=self.tail(),
                    hint="" if status is not None else f"it had {seconds:.0f} s",
                )
            time.sleep(0.05)


@dataclass
class Daemons:
    """The processes of one run, below one directory."""

    run_dir: Path
    who: Identity
    started: list[Daemon] = field(default_factory=list)

    def directory(self, name: str) -> Path:
        """A new directory of the run that the processes may write to, and nobody else read."""
        path = self.run_dir / name
        path.mkdir(mode=0o700)
        self.who.own(path)
        return path

    def write(self, path: Path, text: str) -> Path:
        """Write a file that only the processes can read: it may hold passwords."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        self.who.own(path)
        return path

    def argv(self, *argv: str | Path) -> list[str | Path]:
        """A command as the processes' user."""
        return [*self.who.prefix, *argv]

    def start(self, name: str, argv: Sequence[str | Path], env: Mapping[str, str]) -> Daemon:
        """Start a process. It ends with the calling thread, if not before."""
        log = self.run_dir / "log" / f"{name}.log"
        log.parent.mkdir(exist_ok=True)
        if not shutil.which(os.fspath(argv[0])):
            raise PreflightError(f"cannot run {argv[0]}", where=name)
        with log.open("ab") as output:
            process = spawn(
                self.argv(*argv),
                env=base_env(**env),
                cwd=self.run_dir,
                stdout=output,
                stderr=output,
                new_session=True,
                die_with_parent=not self.who.prefix,
            )
        daemon = Daemon(name, process, log)
        self.started.append(daemon)
        return daemon

    def of(self, name: str) -> Daemon:
        """The process of that name."""
        return next(d for d in self.started if d.name == name)

    def check(self) -> None:
        """Raise PreflightError when one of them has ended by itself."""
        for daemon in self.started:
            if (status := daemon.process.poll()) is not None:
                raise PreflightError(
                    f"{daemon.name} ended with status {status} while it was in use",
                    where=str(daemon.log),
                    detail=daemon.tail(),
                )

    def stop(self, seconds: float = 1.0) -> None:
        """End all of them: what is asked of them is not needed any more."""
        for daemon in reversed(self.started):
            _signal(daemon.process, signal.SIGTERM)
        deadline = time.monotonic() + seconds
        for daemon in reversed(self.started):
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.process.wait(max(0.02, deadline - time.monotonic()))
            _signal(daemon.process, signal.SIGKILL)
            daemon.process.wait()
        self.started.clear()


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """To the process and what it forked: each has a session of its own."""
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        pass
    except PermissionError:
        process.send_signal(number)
