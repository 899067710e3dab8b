"""What reaches the terminal can be seen, all of it, and does nothing to it."""

from __future__ import annotations

import json

import pytest

from imagebuild.cli.terminal import one_line, terminal, visible
from imagebuild.errors import ConfigError

RED = "\x1b[31m"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("é 🙂 日本\t\n", "é 🙂 日本\t\n"),
        (RED, "\\x1b[31m"),
        ("\x9b2J\x07\r\x7f\x00", "\\x9b2J\\x07\\r\\x7f\\x00"),
        ("\u202eexe\u2066\ufeff\u2028", "\\u202eexe\\u2066\\ufeff\\u2028"),
        ("\udcff", "\\udcff"),
    ],
)
def test_visible(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_one_value_stays_on_one_line() -> None:
    assert one_line("a\nerror: b\tc") == "a\\nerror: b\\tc"


def test_every_way_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.configure(verbosity=1, no_color=True)
    terminal.data(RED)
    terminal.json({"key": f"{RED}\x9b\u202e\udcff"})
    captured = capsys.readouterr()
    first, _, document = captured.out.partition("\n")
    assert first == "\\x1b[31m"
    assert json.loads(document) == {"key": f"{RED}\x9b\u202e\udcff"}
    assert document.isascii()
    terminal.info(f"{RED}:smile:")
    terminal.detail(RED)
    terminal.warning(RED)
    terminal.error(
        ConfigError(f"{RED}\nerror: two", where=RED, detail=f"{RED}\r\n\u2028\n", hint=RED)
    )
    assert capsys.readouterr().err == (
        "\\x1b[31m:smile:\n"
        "\\x1b[31m\n"
        "warning: \\x1b[31m\n"
        "error: \\x1b[31m\\nerror: two\n"
        "  where: \\x1b[31m\n"
        "  | \\x1b[31m\n"
        "  | \\u2028\n"
        "  try: \\x1b[31m\n"
    )
