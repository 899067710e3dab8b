"""Child processes of a run: started, listened to, and ended together.

Each is a verb of this tool in a session of its own, so that ^C on the terminal reaches us alone
and a child gets each signal once. The kernel ends it with the thread that waits for it
(host/run.py): a pipeline that is killed leaves none that the next run would meet.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from imagebuild.host.run import spawn
from imagebuild.pipeline.cleaning import clean_text

#: Where a verb leaves its error (cli/errorfile.py).
ERROR_FILE = "IMAGEBUILD_ERROR_FILE"
#: Seconds between asking a child to end and killing it. A build takes 3 s to tidy up, an upload
#: up to 60 s to remove what it has made of an image.
GRACE = 75.0
#: Last lines of a child's log that are kept for its error.
_TAIL = 20
#: Seconds that are waited for the rest of a child's output after its end: what it has left
#: running may keep the pipe open.
_REST = 5.0
_LONGEST_LINE = 4000
#: Bytes of a document; the largest, of a long mirror list, has a few MiB.
_LARGEST = 256 << 20
#: Variables by which programs write colours to what is no terminal.
_COLOURS = ("FORCE_COLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

# The caller's directory, which Python would search first, may hold anything.
_START = (
    "import sys; sys.path[:1] = []; sys.path.append(sys.argv.pop(1)); "
    "from imagebuild.cli.main import main; main()"
)


def own_program() -> tuple[str, ...]:
    """The command that runs this very tool, from wherever it was imported."""
    return (sys.executable, "-c", _START, str(Path(__file__).resolve().parents[2]))


class Stopped(Exception):  # noqa: N818 - nothing went wrong
    """The run is to end: nothing new is started."""


@dataclass(frozen=True)
class Ended:
    """How a child ended. `code` is its exit status, negative for a signal; `document` what it
    printed, None where that is no JSON; `error` its error document; `tail` its last lines.
    `is_late`: it took longer than its limit, and was ended for that.
    """

    started: float
    seconds: float
    code: int
    document: Mapping[str, Any] | None
    error: Mapping[str, Any] | None
    tail: tuple[str, ...]
    warnings: tuple[str, ...]
    is_late: bool = False


class Children:
    """The children of one run. `environ` is what each gets beside the place of its error."""

    def __init__(
        self, environ: Mapping[str, str], program: Sequence[str] = (), grace: float = GRACE
    ) -> None:
        self.stopping = threading.Event()
        self._program = tuple(program) or own_program()
        self._environ = {k: v for k, v in environ.items() if k not in _COLOURS}
        self._grace = grace
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self.signum: int = signal.SIGTERM

    def run(
        self,
        argv: Sequence[str],
        log: IO[str],
        line: Callable[[str], None],
        place: Path,
        seconds: float | None = None,
    ) -> Ended:
        """Run a verb to its end. Its stderr goes to the log, and line by line to `line`, without
        the secrets that it may have; `place` is a file for its error, which is removed.

        Raises Stopped when the run is to end before, PreflightError when it cannot be started.
        """
        process = self._start(argv, place)
        try:
            return self._listen(process, place, log, line, seconds)
        finally:
            with self._lock:
                self._running.discard(process)
            place.unlink(missing_ok=True)

    def stop(self, signum: int) -> None:
        """Pass a signal on to all children; none is started any more."""
        with self._lock:
            self.signum = signum
            self.stopping.set()
            for process in self._running:
                _send(process, signum)

    def kill(self) -> None:
        """End all children at once, and what is in their sessions."""
        with self._lock:
            self.stopping.set()
            for process in self._running:
                _kill(process)

    def pause(self, seconds: float) -> None:
        """Wait. Raises Stopped when the run is to end."""
        if self.stopping.wait(seconds):
            raise Stopped

    def _start(self, argv: Sequence[str], place: Path) -> subprocess.Popen[bytes]:
        with self._lock:
            if self.stopping.is_set():
                raise Stopped
            process = spawn(
                [*self._program, *argv],
                env={**self._environ, ERROR_FILE: str(place)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                new_session=True,
                die_with_parent=True,
            )
            self._running.add(process)
            return process

    def _listen(
        self,
        process: subprocess.Popen[bytes],
        place: Path,
        log: IO[str],
        line: Callable[[str], None],
        seconds: float | None,
    ) -> Ended:
        started, clock = time.time(), time.monotonic()
        tail: collections.deque[str] = collections.deque(maxlen=_TAIL)
        warnings: list[str] = []
        out = bytearray()

        def hear(text: str) -> None:
            text = clean_text(text)
            tail.append(text)
            if text.startswith("warning: "):
                warnings.append(text.removeprefix("warning: "))
            with contextlib.suppress(OSError, ValueError):  # a full disk: the verb says so itself
                log.write(f"{time.strftime('%H:%M:%S')} {text}\n")
                log.flush()
            line(text)

        assert process.stdout and process.stderr  # noqa: S101, PT018 - asked for
        readers = [
            threading.Thread(target=_read_all, args=(process.stdout, out), daemon=True),
            threading.Thread(target=_read_lines, args=(process.stderr, hear), daemon=True),
        ]
        for reader in readers:
            reader.start()
        is_late = False
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            is_late = True
            _send(process, signal.SIGTERM)
            try:
                process.wait(self._grace)
            except subprocess.TimeoutExpired:
                _kill(process)
                process.wait()
        deadline = time.monotonic() + _REST
        for reader in readers:
            reader.join(max(0.0, deadline - time.monotonic()))
        return Ended(
            started=started,
            seconds=time.monotonic() - clock,
            code=process.returncode,
            document=_document(bytes(out)),
            error=_document(_content(place)),
            tail=tuple(tail),
            warnings=tuple(dict.fromkeys(warnings)),
            is_late=is_late,
        )


def _read_all(stream: IO[bytes], out: bytearray) -> None:
    with contextlib.suppress(OSError, ValueError), stream:
        while block := stream.read1(1 << 16):  # type: ignore[attr-defined]
            if len(out) < _LARGEST:
                out += block


def _read_lines(stream: IO[bytes], hear: Callable[[str], None]) -> None:
    with contextlib.suppress(OSError, ValueError), stream:
        for raw in stream:
            text = _ANSI.sub("", raw.decode(errors="replace")).rstrip("\r\n")
            hear(text[:_LONGEST_LINE])


def _document(content: bytes) -> Mapping[str, Any] | None:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _send(process: subprocess.Popen[bytes], signum: int) -> None:
    with contextlib.suppress(OSError):
        process.send_signal(signum)  # nothing is sent to one that has ended


def _kill(process: subprocess.Popen[bytes]) -> None:
    """With its session: root's processes in it end with it by themselves (host/worker.py)."""
    if process.poll() is None:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(OSError):
            process.kill()
