"""The privileged half: one process, as root, in private mount and pid namespaces.

The tool itself runs as the user. What needs root goes to one worker, started once a
build (through sudo when the user is not root) and spoken to in JSON lines: requests on
its stdin, events and answers on its stdout. The worker is pid 1 of its pid namespace and
its mounts are private, so whatever ends it (also kill -9 of the tool: its stdin closes)
ends every process and mount below it.

Secrets travel on stdin only, never in an argument.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from imagebuild import events
from imagebuild.errors import BuildError, ImagebuildError, PreflightError, from_json
from imagebuild.host import namespace
from imagebuild.host.run import base_env, need, spawn

# `-I` keeps the caller's directory and PYTHON* variables out; the package's own place is
# said instead, so that a source checkout works too.
_START = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); "
    "from imagebuild.host.worker import serve; serve()"
)


def worker_argv(*, may_ask: bool = True) -> list[str]:
    """The command that starts the worker; with sudo in front when the user is not root.

    Without `may_ask`, sudo fails where it would ask for a password.
    """
    namespaces = [
        need("setpriv", "util-linux"), "--pdeathsig", "KILL", "--",
        need("unshare", "util-linux"), "--mount", "--pid", "--fork", "--kill-child",
        "--mount-proc", "--propagation", "private",
    ]  # fmt: skip
    package_parent = str(Path(__file__).resolve().parents[2])
    argv = [*namespaces, sys.executable, "-I", "-c", _START, package_parent]
    if os.geteuid() != 0:
        # "--" keeps sudo from reading our words as its own; the password is asked on the terminal.
        argv = [need("sudo"), *([] if may_ask else ["-n"]), "--", *argv]
    return argv


class Worker:
    """The tool's end of the line. Use as a context manager."""

    def __init__(
        self, emit: events.Emit, *, may_ask: bool = True, stderr: IO[bytes] | None = None
    ) -> None:
        self._emit = emit
        self._may_ask = may_ask
        self._stderr = stderr
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Worker:
        self._process = spawn(
            worker_argv(may_ask=self._may_ask),
            env=base_env(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def is_running(self) -> bool:
        """Whether it can take another task."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """End the worker, and with it all that it started, whatever it is doing."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()  # the worker ends when its stdin does
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout:
            process.stdout.close()

    def call(
        self,
        task: str,
        deadline: float | None = None,
        limit_of: str = "",
        **arguments: Any,  # noqa: ANN401 - JSON values
    ) -> dict[str, Any]:
        """Run a task in the worker and return its answer; its events are passed on.

        Raises what the task raised; PreflightError when root rights could not be had;
        BuildError at `deadline` (`time.monotonic()`), the limit of the stage `limit_of`; the
        worker is gone then.
        """
        process = self._process
        assert process is not None and process.stdin and process.stdout  # noqa: S101, PT018
        request = json.dumps({"task": task, "arguments": arguments})
        with contextlib.suppress(BrokenPipeError):  # the reason is read below
            process.stdin.write(request.encode() + b"\n")
            process.stdin.flush()
        for line in self._lines(process.stdout.fileno(), deadline, limit_of or task):
            answer = json.loads(line)
            if "event" in answer:
                self._emit(events.from_json(answer))
            elif "error" in answer:
                raise from_json(answer)
            else:
                result: dict[str, Any] = answer["result"]
                return result
        status = process.wait()
        raise PreflightError(
            "the privileged worker ended",
            where=" ".join(worker_argv()[:4]) + " …",
            detail=f"exit status {status}",
            hint="building needs root (or sudo), and the right to make mount and pid namespaces; "
            "a container needs --cap-add SYS_ADMIN --security-opt apparmor=unconfined",
        )

    def _lines(self, descriptor: int, deadline: float | None, stage: str) -> Iterator[bytes]:
        """Whole lines from the worker, to its end. Unbuffered: answers come one a request."""
        rest = b""
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            while True:
                left = None if deadline is None else deadline - time.monotonic()
                if not selector.select(None if left is None else max(left, 0)):
                    self.stop()
                    raise BuildError(
                        f"stage {stage} took longer than its limit",
                        hint=f"--timeout {stage}=DURATION raises the limit, {stage}=none lifts it",
                    )
                block = os.read(descriptor, 1 << 16)
                if not block:
                    return
                *lines, rest = (rest + block).split(b"\n")
                yield from lines


def tasks() -> dict[str, Callable[..., dict[str, Any]]]:
    """What the worker can do, by name."""
    from imagebuild.stages import root_tasks

    return root_tasks.TASKS


def serve() -> None:
    """The worker's main loop; never returns."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ^C reaches the tool, which then closes our stdin
    os.umask(0o022)
    namespace.private_dev()
    lock = threading.Lock()
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a stray print must not look like an answer

    def say(document: dict[str, Any]) -> None:
        with lock:
            try:
                out.write(json.dumps(document).encode() + b"\n")
                out.flush()
            except BrokenPipeError:
                os._exit(1)

    def emit(event: events.Event) -> None:
        say(events.to_json(event))

    requests: list[dict[str, Any]] = []
    arrived = threading.Semaphore(0)

    def listen() -> None:
        for line in sys.stdin.buffer:
            requests.append(json.loads(line))
            arrived.release()
        # The tool is gone or done: as pid 1 of the namespace our end is everybody's.
        os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    known = tasks()
    while True:
        arrived.acquire()
        request = requests.pop(0)
        try:
            say({"result": known[request["task"]](emit=emit, **request["arguments"])})
        except ImagebuildError as exc:
            say(exc.to_json())
        except Exception as exc:  # noqa: BLE001 - reported as an error, with its place
            say(_unexpected(exc).to_json())


def _unexpected(exc: Exception) -> BuildError:
    import traceback

    if isinstance(exc, OSError) and exc.filename:
        return BuildError(f"{exc.strerror}", where=str(exc.filename))
    lines = traceback.format_exception(exc)
    return BuildError(f"{type(exc).__name__}: {exc}", detail="".join(lines)[-1500:])
