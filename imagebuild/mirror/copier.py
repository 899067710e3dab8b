"""Plan → registry: blobs mounted, skipped or streamed, manifests byte for byte, tags last."""

from __future__ import annotations

from dataclasses import dataclass

from imagebuild.events import Emit, Event
from imagebuild.mirror.planning import MirrorPlan
from imagebuild.mirror.result import Report, Result
from imagebuild.registry.client import Client


@dataclass(frozen=True)
class ImageProgress(Event):
    """Bytes of one item that are in the target, and in all. `target`: its full name with tag."""

    target: str
    done: int
    total: int


@dataclass(frozen=True)
class ImageFinished(Event):
    """The end of one item."""

    result: Result


def run_plan(client: Client, plan: MirrorPlan, *, emit: Emit | None = None) -> Report:
    """Do what the plan says. An item that fails does not stop the others.

    Events come in the caller's thread. Raises Interrupted alone, with nothing half-tagged.
    """
    raise NotImplementedError
