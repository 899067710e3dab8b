"""What changed in an image since an earlier night."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from imagebuild.pipeline.facts import ImageFacts
from imagebuild.pipeline.outcome import RunReport


@dataclass(frozen=True)
class ImageChanges:
    """`packages`, `python_packages`: name → (version before, version after); None: not there.

    `sizes`: format → (before, after); `seconds`: stage → (before, after); `agent`: key →
    (before, after) of what differs. `since`: the run that it is compared with.
    """

    since: str
    packages: Mapping[str, tuple[str | None, str | None]]
    python_packages: Mapping[str, tuple[str | None, str | None]]
    sizes: Mapping[str, tuple[int | None, int | None]]
    seconds: Mapping[str, tuple[float | None, float | None]]
    agent: Mapping[str, tuple[str | None, str | None]]
    is_same_build: bool = False


def changes(before: ImageFacts, after: ImageFacts, since: str) -> ImageChanges:
    """Compare two images. Pure."""
    raise NotImplementedError


def last_facts(cell_id: str, history: Sequence[RunReport]) -> tuple[str, ImageFacts] | None:
    """The run and facts of the newest earlier image of a cell that was good."""
    raise NotImplementedError
