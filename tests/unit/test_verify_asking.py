"""Questions to a running guest: their outcomes, and what they say of a failure."""

from __future__ import annotations

import signal
from collections.abc import Iterable

import pytest

from imagebuild.errors import Interrupted, PreflightError, VerifyError
from imagebuild.verify.asking import Asking, until
from imagebuild.verify.results import Check, Level, Outcome


def test_a_question_passes_with_its_evidence() -> None:
    said: list[Check] = []
    asking = Asking(Level.AGENT, "agent/x", on_check=said.append)
    assert asking.ask("ping", "it answers", lambda: ["pong"])
    (check,) = asking.checks
    assert said == [check]
    assert (check.name, check.outcome, check.evidence) == (
        "agent/x/ping", Outcome.PASSED, ("pong",),
    )  # fmt: skip
    assert check.seconds is not None


def test_a_failure_is_explained_from_the_logs() -> None:
    line = "Failed to add user database, error: useradd: UID 1001 is not unique"
    asking = Asking(Level.AGENT, "agent/x", logs=lambda: [f"agent: {line}"])

    def late() -> Iterable[str]:
        raise TimeoutError("no answer: not within 9 s")

    assert not asking.ask("ping", "it answers", late, hint="look")
    (check,) = asking.checks
    assert (check.outcome, check.what, check.hint) == (
        Outcome.FAILED, "no answer: not within 9 s", "look",
    )  # fmt: skip
    assert any(line in e for e in check.evidence)
    assert check.cause is not None
    assert "1001" in check.cause.title


def test_a_host_that_cannot_tell_is_no_bad_image() -> None:
    asking = Asking(Level.AGENT, "agent/x", logs=lambda: pytest.fail("nobody asked"))

    def cannot() -> Iterable[str]:
        raise PreflightError("there is no RabbitMQ", where="PATH", hint="install it")

    assert not asking.ask("ping", "it answers", cannot)
    assert asking.checks[0].outcome is Outcome.UNKNOWN
    assert asking.checks[0].hint == "install it"


def test_who_says_stop_is_heard() -> None:
    asking = Asking(Level.AGENT, "agent/x")

    def stopped() -> Iterable[str]:
        raise Interrupted(signal.SIGINT)

    with pytest.raises(Interrupted):
        asking.ask("ping", "it answers", stopped)
    assert asking.checks == []


def test_an_error_of_ours_keeps_its_words() -> None:
    asking = Asking(Level.AGENT, "agent/x")

    def bad() -> Iterable[str]:
        yield "not shown"
        raise VerifyError("wrong", where="/etc/x", detail="a\nb", hint="mend it")

    assert not asking.ask("ping", "it answers", bad, hint="another")
    check = asking.checks[0]
    assert check.evidence == ("/etc/x", "a", "b")
    assert check.hint == "mend it"


def test_what_was_not_put_is_known() -> None:
    asking = Asking(Level.AGENT, "agent/x")
    asking.ask("a", "", list)
    assert asking.missing(["a", "b"]) == ["b"]
    asking.skip(["b"], "a failed")
    assert asking.checks[1].outcome is Outcome.SKIPPED
    assert asking.missing(["a", "b"]) == []


def test_waiting_ends() -> None:
    answers = iter([False, False, True])
    until(lambda: next(answers), 10, "never", pause=0)
    with pytest.raises(TimeoutError, match="no answer: not within 0 s"):
        until(lambda: False, 0, "no answer", pause=0)
