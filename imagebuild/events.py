"""What the engine says while it works. Renderers subscribe; the engine never prints.

Events cross the border between the tool and its privileged worker as one JSON object
a line, so every field is a plain value.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Event:
    """Base of all events."""


@dataclass(frozen=True)
class StageStarted(Event):
    """A stage begins. `id` is the stage's content id."""

    stage: str
    id: str


@dataclass(frozen=True)
class StageFinished(Event):
    """A stage ended well after `seconds`; `reused` when the store already had its result."""

    stage: str
    seconds: float
    reused: bool = False


@dataclass(frozen=True)
class StepStarted(Event):
    """A step inside a stage: a DIB hook (`phase` is its hook directory) or one of our own."""

    stage: str
    phase: str
    name: str


@dataclass(frozen=True)
class StepFinished(Event):
    """The step that `StepStarted` named ended after `seconds`."""

    stage: str
    phase: str
    name: str
    seconds: float


@dataclass(frozen=True)
class Output(Event):
    """One line of output of a program."""

    stage: str
    line: str


@dataclass(frozen=True)
class Note(Event):
    """Something the person should know."""

    text: str
    warning: bool = False


@dataclass(frozen=True)
class MachineStarted(Event):
    """Verification starts a machine; `text` says what it is for."""

    machine: str
    text: str


@dataclass(frozen=True)
class MilestoneReached(Event):
    """A machine reached something, `seconds` after its start."""

    machine: str
    milestone: str
    seconds: float


@dataclass(frozen=True)
class Checked(Event):
    """A check of an image has its outcome (see imagebuild.verify.results)."""

    check: str
    level: str
    outcome: str
    what: str
    seconds: float | None = None


@dataclass(frozen=True)
class Transferred(Event):
    """So many bytes of an image are on their way to a cloud; `what` says how."""

    cloud: str
    what: str
    done: int
    total: int


Emit = Callable[[Event], None]

_CLASSES: dict[str, type[Event]] = {
    c.__name__: c for c in (StageStarted, StageFinished, StepStarted, StepFinished, Output, Note)
}


def to_json(event: Event) -> dict[str, Any]:
    """A plain value for one line of JSON."""
    return {"event": type(event).__name__} | dataclasses.asdict(event)


def from_json(data: dict[str, Any]) -> Event:
    """The inverse of `to_json`."""
    fields = dict(data)
    return _CLASSES[fields.pop("event")](**fields)
