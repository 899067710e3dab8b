"""Errors and the exit-code table."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from imagebuild import errors
from imagebuild.errors import ExitCode, ImagebuildError, Interrupted, from_json

README = Path(__file__).resolve().parents[2] / "README.md"

PLAIN = [
    (errors.ImagebuildError, 1),
    (errors.BuildError, 1),
    (errors.UsageError, 2),
    (errors.ConfigError, 3),
    (errors.PreflightError, 4),
    (errors.VerifyError, 5),
    (errors.PublishError, 6),
    (errors.PolicyError, 7),
    (errors.TemporaryError, 75),
]


def all_classes(cls: type[ImagebuildError] = ImagebuildError) -> set[type[ImagebuildError]]:
    below = [all_classes(sub) for sub in cls.__subclasses__() if sub.__module__ == errors.__name__]
    return {cls}.union(*below)


def test_exit_codes_are_the_agreed_ones() -> None:
    assert {code.name: code.value for code in ExitCode} == {
        "OK": 0,
        "FAILED": 1,
        "USAGE": 2,
        "CONFIG": 3,
        "PREFLIGHT": 4,
        "VERIFY": 5,
        "PUBLISH": 6,
        "POLICY": 7,
        "TEMPORARY": 75,
        "INTERRUPTED": 130,
        "TERMINATED": 143,
    }
    # An alias, two names for one number, would not show above.
    assert len(ExitCode.__members__) == len(set(ExitCode))


def test_readme_documents_each_exit_code_once() -> None:
    rows = re.findall(r"^\| *(\d[\d, ]*?) *\| *\S.*\|$", README.read_text(), re.MULTILINE)
    documented = [int(number) for row in rows for number in row.split(",")]
    assert sorted(documented) == sorted(ExitCode)


def test_every_class_is_tested_here() -> None:
    assert all_classes() == {cls for cls, _ in PLAIN} | {Interrupted}


@pytest.mark.parametrize(("cls", "code"), PLAIN)
def test_json_and_back(cls: type[ImagebuildError], code: int) -> None:
    error = cls("what", where="where", detail="one\ntwo", hint="try")
    assert error.to_json() == {
        "error": cls.__name__,
        "exit_code": code,
        "what": "what",
        "where": "where",
        "detail": "one\ntwo",
        "hint": "try",
    }
    again = from_json(error.to_json())
    assert type(again) is cls
    assert again.to_json() == error.to_json()
    assert str(again) == "what\nwhere\none\ntwo"


@pytest.mark.parametrize(
    ("signum", "code", "what"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_signals_keep_their_own_codes(signum: int, code: int, what: str) -> None:
    again = from_json(Interrupted(signum).to_json())
    assert isinstance(again, Interrupted)
    assert (again.exit_code, again.what) == (code, what)


def test_an_unknown_class_is_still_an_error_to_read() -> None:
    document = errors.BuildError("it broke", hint="try").to_json() | {"error": "FromTheFuture"}
    again = from_json(document)
    assert type(again) is ImagebuildError
    assert (again.what, again.hint) == ("it broke", "try")
