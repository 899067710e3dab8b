"""Which Trove a host gets as its control plane, and what is said of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from imagebuild.agent.series import get_series
from imagebuild.errors import PreflightError, TemporaryError
from imagebuild.host import scratch
from imagebuild.verify.control import environment
from imagebuild.verify.control.environment import ControlVersion, Environment, prepare, skew

PYTHON = Path("/usr/bin/python3")
NEWEST = ControlVersion("26.0.0", "2026.2")


@pytest.mark.parametrize("agent", ["26.0.0", "26.1.0", "26.0.1.dev7"])
def test_the_same_major_is_no_skew(agent: str) -> None:
    assert skew(agent, NEWEST) is None


@pytest.mark.parametrize(
    ("agent", "said"),
    [
        ("25.1.0.dev96", "the agent 25.1.0.dev96 (2026.1) is older than the control plane"),
        ("27.0.0", "the agent 27.0.0 is newer than the control plane 26.0.0 (2026.2)"),
        ("main", "cannot be compared"),
    ],
)
def test_skew_is_said(agent: str, said: str) -> None:
    assert said in (skew(agent, NEWEST) or "")


def choose(series: str, *pythons: str) -> environment._Choice:
    return environment._choose(get_series(series), [(p, PYTHON) for p in pythons])


def test_the_first_python_that_has_a_lock_is_taken() -> None:
    choice = choose("2026.2", "3.13", "3.12", "3.11")
    assert (choice.python, choice.lock.name, choice.pinned) == ("3.12", "2026.2-py3.12.txt", True)
    assert (choice.version, choice.notes) == ("26.0.0", ())


def test_a_newer_python_gets_the_nearest_lock_and_says_so() -> None:
    choice = choose("2026.1", "3.13")
    assert (choice.python, choice.lock.name, choice.pinned) == ("3.13", "2026.1-py3.12.txt", False)
    assert "3.13 has no lock file" in choice.notes[0]


def test_an_older_python_gets_an_older_series_and_says_so() -> None:
    choice = choose("2026.2", "3.10")
    assert (choice.series.name, choice.pinned) == ("2026.1", True)
    assert "2026.2 does not run on Python 3.10" in choice.notes[0]


def test_a_python_for_none() -> None:
    with pytest.raises(PreflightError, match="no Python of this host"):
        choose("2025.1", "3.8")


def test_each_lock_and_python_have_their_own() -> None:
    ids = {choose("2026.2", p).id for p in ("3.11", "3.12")}
    ids |= {choose("2026.1", p).id for p in ("3.11", "3.12", "3.13")}
    assert len(ids) == 5


def test_what_is_there_needs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also offline; and nothing is asked of an index."""
    monkeypatch.setattr(environment, "_interpreters", lambda: [("3.11", PYTHON)])
    path = tmp_path / "verify" / f"control-2026.2-{choose('2026.2', '3.11').id[:16]}"
    path.mkdir(parents=True)
    monkeypatch.setattr(environment, "_make", None)

    made = prepare("2026.2", tmp_path, env={}, offline=True)

    assert made == Environment(path, NEWEST, "3.11")


def test_offline_and_not_there(tmp_path: Path) -> None:
    with pytest.raises(PreflightError, match="not in the cache"):
        prepare("2026.2", tmp_path, env={}, offline=True)
    assert not list((tmp_path / "verify").iterdir())
    assert not list((tmp_path / "scratch").iterdir())


def test_what_fails_leaves_nothing_and_the_next_one_may_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "_interpreters", lambda: [("3.11", PYTHON)])

    def make(_choice: object, draft: Path, *_: object) -> None:
        draft.mkdir()
        if not done:
            raise KeyboardInterrupt

    done: list[int] = []
    monkeypatch.setattr(environment, "_make", make)
    with pytest.raises(KeyboardInterrupt):
        prepare("2026.2", tmp_path, env={})
    assert not list((tmp_path / "verify").iterdir())
    done.append(1)
    told: list[str] = []

    assert (prepare("2026.2", tmp_path, env={}, tell=told.append).path / "venv").is_dir()

    assert "Trove 26.0.0" in told[0]
    assert not list((tmp_path / "scratch").iterdir())


def test_stale_ones_of_the_series_go_unless_they_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "_interpreters", lambda: [("3.11", PYTHON)])
    monkeypatch.setattr(environment, "_make", lambda _c, draft, *_: draft.mkdir())
    for name in ("control-2026.2-old", "control-2026.2-used", "control-2026.1-other"):
        (tmp_path / "verify" / name / "venv/bin").mkdir(parents=True)
    used = Environment(tmp_path / "verify/control-2026.2-used", NEWEST, "3.11")
    (used.bin / "python").touch()

    with used.held():
        made = prepare("2026.2", tmp_path, env={})

    names = {p.name for p in (tmp_path / "verify").iterdir()}
    assert names == {"control-2026.2-used", "control-2026.1-other", made.path.name}


def test_one_that_was_removed_meanwhile(tmp_path: Path) -> None:
    gone = Environment(tmp_path / "verify/control-2026.2-gone", NEWEST, "3.11")
    with pytest.raises(TemporaryError, match="removed meanwhile"), gone.held():
        pass


def test_two_wait_for_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second of two finds what the first made while it waited."""
    monkeypatch.setattr(environment, "_interpreters", lambda: [("3.11", PYTHON)])
    monkeypatch.setattr(environment, "_make", None)
    path = tmp_path / "verify" / f"control-2026.2-{choose('2026.2', '3.11').id[:16]}"
    real = scratch.lock

    def first_was_quicker(name: Path, **options: bool) -> object:
        path.mkdir(parents=True, exist_ok=True)
        return real(name, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(environment, "lock", first_was_quicker)

    assert prepare("2026.2", tmp_path, env=os.environ).path == path
