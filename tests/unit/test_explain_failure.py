"""The error of a build, explained by its own lines and by the log of the step that failed."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagebuild.errors import (
    BuildError,
    Cause,
    ConfigError,
    ImagebuildError,
    Interrupted,
    PreflightError,
    TemporaryError,
    UsageError,
    from_json,
)
from imagebuild.explain.failure import explained, last_step
from tests.unit.test_explain_book import LOGS

STAGE = "06:00:00 === stage {} " + "0" * 64
HOOK = "06:00:01 dib-run-parts Running /cache/hooks/install.d/{}"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "build.log"


def write(log: Path, *parts: str) -> None:
    """A build's log: stages and hooks as they are, the rest with a time before each line."""
    lines = []
    for part in parts:
        if part.startswith("06:00"):
            lines.append(part)
        else:
            lines += [f"06:00:02 {line}" for line in part.splitlines()]
    log.write_text("\n".join(lines) + "\n")


def captured(name: str) -> str:
    return (LOGS / f"{name}.log").read_text()


def test_the_detail_alone(log: Path) -> None:
    error = BuildError("a hook failed", detail=captured("package-unknown"))
    assert explained(error, log) is error
    assert error.cause
    assert error.cause.id == "package-unknown"
    assert error.exit_code == 1


def test_the_step_that_failed_tells_what_the_detail_does_not(log: Path) -> None:
    write(log, STAGE.format("base"), HOOK.format("10-x"), captured("no-space.4"), "bye\n" * 500)
    error = explained(BuildError("hook install.d/10-x failed", detail="bye\nbye"), log)
    assert error.cause
    assert error.cause.id == "no-space"
    assert "/var/cache" in error.cause.title or "big/f" in error.cause.title


def test_what_another_step_or_stage_said_is_not_the_cause(log: Path) -> None:
    write(
        log, STAGE.format("base"), HOOK.format("10-x"), captured("mirror-unreachable"),
        HOOK.format("20-y"), "no idea",
    )  # fmt: skip
    assert explained(BuildError("hook failed", detail="no idea"), log).cause is None
    write(log, STAGE.format("base"), captured("no-space"), STAGE.format("agent"), "no idea")
    assert explained(BuildError("stage failed", detail="no idea"), log).cause is None


def test_a_mirror_that_goes_away_is_temporary(log: Path) -> None:
    write(
        log, STAGE.format("base"), HOOK.format("08-debootstrap"), captured("mirror-unreachable.3")
    )
    old = BuildError("hook failed", where="stage base", detail="E: mmdebstrap failed to run")
    new = explained(old, log)
    assert type(new) is TemporaryError
    assert new.exit_code == 75
    assert (new.what, new.where, new.detail) == (old.what, old.where, old.detail)
    assert new.cause
    assert "mirror.example" in new.cause.title


def test_a_full_disk_is_not_temporary_even_if_the_mirror_is_away_too(log: Path) -> None:
    detail = captured("no-space") + captured("mirror-unreachable")
    error = explained(BuildError("hook failed", detail=detail), log)
    assert (type(error), error.cause and error.cause.id) == (BuildError, "no-space")


def test_an_error_that_knows_why_is_asked_for_its_detail_only(log: Path) -> None:
    write(log, STAGE.format("base"), captured("mirror-unreachable"))
    limit = BuildError("stage base took longer than its limit", detail="slow", hint="--timeout")
    assert explained(limit, log).cause is None
    own = BuildError("it failed", detail=captured("package-unknown"), hint="look closer")
    error = explained(own, log)
    assert error.hint == "look closer"
    assert error.cause
    assert error.cause.id == "package-unknown"


def test_the_same_is_not_said_twice(log: Path) -> None:
    first = explained(BuildError("x", detail=captured("no-space")), log).cause
    assert first
    hint = f"first this: {first.advice[0]}"
    again = explained(BuildError("x", detail=captured("no-space"), hint=hint), log).cause
    assert again
    assert again.advice == first.advice[1:]


@pytest.mark.parametrize("cls", [UsageError, ConfigError, TemporaryError])
def test_other_errors_stay_as_they_are(cls: type[ImagebuildError], log: Path) -> None:
    error = cls("it failed", detail=captured("mirror-unreachable"))
    assert explained(error, log) is error
    assert error.cause is None


def test_interruptions_and_the_host_keep_their_codes(log: Path) -> None:
    write(log, STAGE.format("base"), captured("mirror-unreachable"))
    interrupted = Interrupted(2)
    assert explained(interrupted, log) is interrupted
    assert interrupted.cause is None
    preflight = explained(PreflightError("the worker ended", detail=""), log)
    assert (preflight.exit_code, preflight.cause and preflight.cause.id) == (
        4,
        "mirror-unreachable",
    )


def test_no_log_and_an_odd_one(log: Path) -> None:
    assert last_step(log) == ""
    log.write_bytes(b"\xff\xfe no stage at all\n")
    assert "no stage at all" in last_step(log)
    assert explained(BuildError("x"), log).cause is None


def test_only_the_end_of_a_huge_log_is_read(log: Path) -> None:
    log.write_text(STAGE.format("base") + "\n" + "x" * 30 + "\n" * (5 << 20) + "the end\n")
    assert last_step(log).endswith("the end\n")
    assert len(last_step(log)) <= 4 << 20


def test_a_cause_crosses_the_border_of_the_worker() -> None:
    error = BuildError("it failed")
    assert "cause" not in error.to_json()
    error.cause = Cause("no-space", "it is full", "No space is left.", ("df -h",), "E: full")
    assert error.to_json()["cause"]["title"] == "it is full"
    assert from_json(error.to_json()).cause == error.cause
