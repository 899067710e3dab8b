"""The command run in this process, and what must hold whatever it was given.

Tests with `hypothesis` in test_fuzz_*.py use it. Everything a person can get wrong ends
with code 2 or 3 and words; never with a traceback, a hang or half a document.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import re
import signal
import socket
import threading
import unittest.mock
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import HealthCheck, settings

from imagebuild import resolve
from imagebuild.cli.main import run
from imagebuild.cli.terminal import terminal
from imagebuild.host.run import NETWORK_ENV

_real_tool_versions = resolve.tool_versions

#: No command may take longer, in seconds: ten times what the slowest needs on a busy machine.
LIMIT = 60.0

#: What a terminal obeys or hides: see `imagebuild.cli.terminal.visible`.
RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def examples(number: int) -> settings:
    """Settings for a test of `number` examples; `--hypothesis-profile=full` tries 20 times that."""
    profile = settings.default
    assert profile is not None
    return settings(
        max_examples=number * profile.max_examples // 100,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


def own_environment(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    """Nothing of the caller's: no variable, no profile, no cache; homes below `directory`."""
    for name in os.environ:
        if name.startswith("IMAGEBUILD_") or name in (*NETWORK_ENV, "SOURCE_DATE_EPOCH"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(directory / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(directory / "cache"))
    monkeypatch.setenv("HOME", str(directory / "home"))
    # What it says does not depend on the command line, and it starts four programs.
    monkeypatch.setattr(resolve, "tool_versions", _tool_versions)


@functools.cache
def _tool_versions() -> dict[str, str]:
    return _real_tool_versions()


class TooSlow(BaseException):
    """A command took longer than LIMIT. Not an Exception, so that nothing catches it."""


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    argv: tuple[str, ...]
    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:  # noqa: ANN401 - JSON
        """The one JSON document on stdout."""
        return json.loads(self.out)


def _too_slow(signum: int, frame: object) -> NoReturn:  # noqa: ARG001
    raise TooSlow


@contextlib.contextmanager
def _time_limit() -> Iterator[None]:
    # Not SIGALRM, which pytest-timeout has.
    before = signal.signal(signal.SIGUSR1, _too_slow)
    timer = threading.Timer(LIMIT, os.kill, (os.getpid(), signal.SIGUSR1))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        signal.signal(signal.SIGUSR1, before)


def invoke(argv: Sequence[str], env: Mapping[str, str] | None = None) -> Ended:
    """Run the command with streams like those of the real one: UTF-8, stdout strict."""
    out, err = io.BytesIO(), io.BytesIO()
    stdout = io.TextIOWrapper(out, "utf-8", errors="strict")
    stderr = io.TextIOWrapper(err, "utf-8", errors="backslashreplace")
    terminal.configure(verbosity=0, no_color=True)
    with (
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
        unittest.mock.patch.dict(os.environ, env or {}),
        _time_limit(),
    ):
        code = run(list(argv))
    stdout.flush()
    stderr.flush()
    return Ended(tuple(argv), code, out.getvalue().decode(), err.getvalue().decode())


def check(ended: Ended, *codes: int) -> Ended:
    """Assert what holds for every command line, and that the code is 0, 2, 3 or one of `codes`."""
    assert ended.code in (0, 2, 3, *codes), ended
    assert "Traceback" not in ended.err
    assert not RAW.search(ended.err), ended
    assert not RAW.search(ended.out), ended
    if ended.code == 0:
        assert ended.out, ended
        return ended
    # click's own words, or ours.
    assert ended.err.startswith(("error: ", "Usage: ", "Error: ")), ended
    if ended.err.startswith("error: "):
        assert len(ended.err.splitlines()[0]) > len("error: "), ended
        assert ended.code != 3 or re.search(r"^  where: \S", ended.err, re.MULTILINE), ended
    if "validate" not in ended.argv:
        assert ended.out == "", ended
    return ended


def fifo(path: Path) -> None:
    """Make a named pipe."""
    os.mkfifo(path)


def listening(path: Path) -> None:
    """Make a socket."""
    here = Path.cwd()
    os.chdir(path.parent)  # the name of a socket has room for 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(here)


def files_below(directory: Path) -> dict[str, tuple[int, int]]:
    """Every path below a directory with its mode and time of change: what a command has touched."""
    found = {}
    for here, directories, files in os.walk(directory):
        for name in (*directories, *files):
            info = Path(here, name).lstat()
            found[os.path.join(here, name)] = (info.st_mode, info.st_mtime_ns)  # noqa: PTH118
    return found
