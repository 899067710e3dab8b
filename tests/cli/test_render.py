"""What people see while a build runs, and what the log keeps."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from imagebuild.cli import render
from imagebuild.cli.render import Renderer
from imagebuild.cli.terminal import Terminal
from imagebuild.events import (
    Event,
    Note,
    Output,
    StageFinished,
    StageStarted,
    StepFinished,
    StepStarted,
)
from imagebuild.plan import STAGES
from imagebuild.units import duration

EVENTS: list[Event] = [
    StageStarted("base", "0123abcd"),
    StepStarted("base", "install", "10-quick"),
    Output("base", "Get:1 http://me:hunter2@m.example [x] hunter2"),
    StepFinished("base", "install", "10-quick", 0.4),
    StepStarted("base", "install", "20-slow"),
    Output("base", "it takes time"),
    StepFinished("base", "install", "20-slow", 65.2),
    StageFinished("base", 66.0),
    Note("a [note]"),
    Note("be careful", warning=True),
    StageStarted("agent", "4567cdef"),
    StageFinished("agent", 0.01, reused=True),
]


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)


Show = Callable[[int], Renderer]


@pytest.fixture
def show(tmp_path: Path) -> Iterator[Show]:
    """Renders EVENTS with a verbosity; the log is in tmp_path/log."""
    made: list[Renderer] = []

    def render_all(verbosity: int) -> Renderer:
        terminal = Terminal()
        terminal.configure(verbosity=verbosity, no_color=False)
        renderer = Renderer(terminal, tmp_path / "log", ("me:hunter2", "hunter2", ""))
        made.append(renderer)
        with renderer.live():
            for event in EVENTS:
                renderer(event)
        return renderer

    yield render_all
    for renderer in made:
        renderer.close()


def test_plain_lines_where_nobody_watches(show: Show, capsys: pytest.CaptureFixture[str]) -> None:
    show(0)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        "base: distribution, kernel, cloud-init, docker\n"
        "    install/20-slow  1 min 05 s\n"
        "✓ base       distribution, kernel, cloud-init, docker   1 min 06 s\n"
        "a [note]\n"
        "warning: be careful\n"
        "agent: guest agent\n"
        "✓ agent      guest agent                                already built\n"
    )


def test_verbose_shows_every_hook_and_its_output(
    show: Show, capsys: pytest.CaptureFixture[str]
) -> None:
    show(1)
    lines = capsys.readouterr().err.splitlines()
    assert lines[1:5] == [
        "    Get:1 http://***@m.example [x] ***",
        "    install/10-quick  0.4 s",
        "    it takes time",
        "    install/20-slow  1 min 05 s",
    ]


def test_quiet_says_only_warnings(show: Show, capsys: pytest.CaptureFixture[str]) -> None:
    show(-1)
    assert capsys.readouterr().err == "warning: be careful\n"


@pytest.mark.parametrize("verbosity", [-1, 0, 1])
def test_the_log_has_everything_but_secrets(
    show: Show, tmp_path: Path, capsys: pytest.CaptureFixture[str], verbosity: int
) -> None:
    show(verbosity)
    # Read while the build still runs: a killed build's log is whole up to there.
    text = (tmp_path / "log").read_text()
    assert re.sub(r"^\d\d:\d\d:\d\d ", "", text, flags=re.MULTILINE).splitlines() == [
        "=== stage base 0123abcd",
        "Get:1 http://***@m.example [x] ***",
        "it takes time",
        "=== stage base done in 66.0 s",
        "=== stage agent 4567cdef",
        "=== stage agent done in 0.01 s",
    ]
    assert re.match(r"\d\d:\d\d:\d\d ", text)
    captured = capsys.readouterr()
    assert "hunter2" not in captured.out + captured.err


def test_a_live_view_on_a_terminal(
    show: Show, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm-256color")
    show(0)
    err = capsys.readouterr().err
    assert "\x1b[" in err
    assert "✓ base" in err
    # The line that announces a stage is for logs: here the status line shows it.
    assert "base: distribution" not in err


def test_status_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    terminal = Terminal()
    renderer = Renderer(terminal, tmp_path / "log")
    renderer(StageStarted("base", "0123abcd"))
    clock[0] = 1060.0
    renderer(StepStarted("base", "install", "03-packages"))
    clock[0] = 1072.0
    capsys.readouterr()
    terminal.console.print(renderer._status())
    shown = capsys.readouterr().err
    renderer.close()
    assert re.search(r"base +distribution, kernel, cloud-init, docker +1 min 12 s", shown)
    assert "install/03-packages  12 s" in shown


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"), (0.44, "0.4 s"), (9.94, "9.9 s"), (9.99, "10 s"), (10, "10 s"),
        (12.4, "12 s"), (59.4, "59 s"), (59.9, "1 min 00 s"), (60, "1 min 00 s"),
        (185, "3 min 05 s"), (7261, "121 min 01 s"),
    ],
)  # fmt: skip
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_every_stage_has_a_text() -> None:
    assert set(render.STAGE_TEXT) == set(STAGES)
