"""The privileged worker: real processes and namespaces."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagebuild.errors import BuildError, ConfigError, PreflightError
from imagebuild.events import Event, Note
from imagebuild.host import worker as worker_
from imagebuild.host.run import run, spawn, which
from imagebuild.host.worker import Worker

ROOT = Path(__file__).resolve().parents[2]

#: Starts the worker as the tool does, with a few more tasks. `MARK` tells its processes apart.
_START = """
import sys; sys.path.insert(0, sys.argv.pop(1))
import os, subprocess
from pathlib import Path
from imagebuild.errors import ConfigError
from imagebuild.events import Note
from imagebuild.stages.root_tasks import TASKS

def task(function):
    TASKS[function.__name__] = function

@task
def echo(*, emit, text):
    emit(Note(text))
    print("stray", flush=True)
    return {"text": text, "uid": os.getuid(), "pid": os.getpid(), "stdin": sys.stdin.fileno()}

@task
def fail(*, emit):
    raise ConfigError("what", where="where", detail="detail", hint="hint")

@task
def open_file(*, emit, path):
    return {"text": Path(path).read_text()}

@task
def mount(*, emit, path):
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", path], check=True)
    Path(path, "inside").touch()
    return {"found": os.listdir(path)}

@task
def processes(*, emit):
    return {"pids": sorted(int(p) for p in os.listdir("/proc") if p.isdigit())}

@task
def sleep(*, emit, mark, secret=""):
    subprocess.run(["setsid", "sh", "-c", "sleep 1000; : " + mark])
    return {}

@task
def leave_behind(*, emit, mark):
    subprocess.Popen(["setsid", "sh", "-c", "sleep 1000; : " + mark])
    return {}

@task
def end(*, emit):
    os._exit(7)

from imagebuild.host.worker import serve; serve()  # MARK
"""

#: The tool, with a task that takes long. Killed by the test.
_TOOL = """
import sys
sys.path.insert(0, sys.argv[1])
from imagebuild.host import worker
worker._START = sys.argv[2]
with worker.Worker(print) as running:
    running.call("sleep", mark=sys.argv[3], secret=sys.stdin.read())
"""


@pytest.fixture(autouse=True)
def _root() -> None:
    if os.geteuid() != 0 and (
        which("sudo") is None or run(["sudo", "-n", "true"], check=False).returncode != 0
    ):
        pytest.skip("needs root, or sudo that asks for no password")


@pytest.fixture
def mark(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A word that stands in the command line of the worker and of what the tasks start."""
    word = f"mark-{secrets.token_hex(8)}"
    monkeypatch.setattr(worker_, "_START", _START.replace("MARK", word))
    yield word
    for pid in marked(word):  # a test that failed leaves nothing either
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def seen() -> list[Event]:
    return []


@pytest.fixture
def worker(mark: str, seen: list[Event]) -> Iterator[Worker]:  # noqa: ARG001 - sets _START
    with Worker(seen.append) as running:
        yield running


def command_lines() -> dict[int, str]:
    """Of all processes of the machine; a zombie's is empty."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found[int(path.parent.name)] = path.read_bytes().decode(errors="replace")
        except OSError:
            continue
    return found


def marked(word: str) -> list[int]:
    return [pid for pid, line in command_lines().items() if word in line and pid != os.getpid()]


def wait_for(condition: object, seconds: float) -> None:
    assert callable(condition)
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "it took too long"
        time.sleep(0.02)


def test_answers_and_events(worker: Worker, seen: list[Event]) -> None:
    answer = worker.call("echo", text="ünï")
    assert (answer["text"], answer["uid"], answer["pid"]) == ("ünï", 0, 1)
    assert worker.call("echo", text="again")["text"] == "again"
    assert seen == [Note("ünï"), Note("again")]


def test_errors_keep_their_kind_and_the_worker_goes_on(worker: Worker, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        worker.call("fail")
    error = caught.value
    assert (error.what, error.where, error.detail, error.hint) == (
        "what", "where", "detail", "hint",
    )  # fmt: skip
    with pytest.raises(BuildError) as missing:
        worker.call("open_file", path=str(tmp_path / "none"))
    assert missing.value.what == "No such file or directory"
    assert missing.value.where == str(tmp_path / "none")
    assert worker.call("echo", text="alive")["text"] == "alive"


def test_unknown_task_and_argument(worker: Worker) -> None:
    with pytest.raises(BuildError, match="KeyError: 'mine_bitcoin'"):
        worker.call("mine_bitcoin")
    with pytest.raises(BuildError, match="unexpected keyword argument"):
        worker.call("echo", text="x", other=1)


def test_mounts_are_its_own(worker: Worker, tmp_path: Path) -> None:
    assert worker.call("mount", path=str(tmp_path))["found"] == ["inside"]
    assert list(tmp_path.iterdir()) == []
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


def test_it_sees_no_process_but_its_own(worker: Worker) -> None:
    pids = worker.call("processes")["pids"]
    assert pids[0] == 1
    assert len(pids) < 5
    assert len(command_lines()) > len(pids)


def test_closing_ends_everything(mark: str, seen: list[Event]) -> None:
    with Worker(seen.append) as running:
        running.call("leave_behind", mark=mark)
        assert len(marked(mark)) >= 2
        started = time.monotonic()
    assert time.monotonic() - started < 5
    wait_for(lambda: not marked(mark), 2)


def test_an_error_of_the_caller_ends_everything(mark: str, seen: list[Event]) -> None:
    def interrupted() -> None:
        with Worker(seen.append) as running:
            running.call("leave_behind", mark=mark)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    wait_for(lambda: not marked(mark), 2)


@pytest.mark.parametrize("stopped", [False, True])
def test_kill_9_of_the_tool_ends_everything(mark: str, stopped: bool) -> None:
    """Also when the worker itself cannot notice that its tool has gone."""
    if stopped and os.geteuid() != 0:
        pytest.skip("sudo stands between the tool and its worker")
    tool = spawn([sys.executable, "-c", _TOOL, ROOT, worker_._START, mark], stdin=subprocess.PIPE)
    with tool:
        try:
            assert tool.stdin is not None
            tool.stdin.write(b"hunter2")
            tool.stdin.close()
            wait_for(lambda: any(f": {mark}" in line for line in command_lines().values()), 10)
            assert len(marked(mark)) >= 3  # the tool, the worker, the task's own
            assert not [x for x in command_lines().values() if mark in x and "hunter2" in x]
            if stopped:
                for pid in set(marked(mark)) - {tool.pid}:
                    if Path(f"/proc/{pid}/exe").resolve().name.startswith("python"):
                        os.kill(pid, signal.SIGSTOP)
        finally:
            tool.send_signal(signal.SIGKILL)
    wait_for(lambda: not marked(mark), 5)


def test_a_task_that_takes_too_long_is_ended(mark: str, seen: list[Event]) -> None:
    with Worker(seen.append) as running:
        assert running.is_running
        running.call("echo", time.monotonic() + 60, text="in time")
        started = time.monotonic()
        with pytest.raises(BuildError, match="stage disk took longer") as caught:
            running.call("sleep", started + 0.5, "disk", mark=mark)
        assert "--timeout disk=DURATION" in caught.value.hint
        assert 0.5 <= time.monotonic() - started < 5
        assert not running.is_running
        wait_for(lambda: not marked(mark), 2)


def test_worker_that_ends_too_early(worker: Worker) -> None:
    for task in ("end", "echo"):  # also when it has been gone for a while
        with pytest.raises(PreflightError) as caught:
            worker.call(task)
        assert caught.value.what == "the privileged worker ended"
        assert caught.value.detail == "exit status 7"
        assert "needs root" in caught.value.hint
        assert "--cap-add SYS_ADMIN --security-opt apparmor=unconfined" in caught.value.hint


def test_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """sudo is asked only by who is not root, and reads none of our words as its own."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    plain = worker_.worker_argv()
    assert Path(plain[0]).name == "setpriv"
    assert plain[plain.index("--propagation") + 1] == "private"
    assert plain[plain.index(sys.executable) :][:3] == [sys.executable, "-I", "-c"]
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(worker_, "need", lambda tool, package="": f"/bin/{tool}")  # noqa: ARG005
    argv = worker_.worker_argv()
    assert argv[:3] == ["/bin/sudo", "--", "/bin/setpriv"]
    assert worker_.worker_argv(may_ask=False)[:3] == ["/bin/sudo", "-n", "--"]
