"""What changed in an image since an earlier night."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from imagebuild.errors import ConfigError
from imagebuild.pipeline.facts import ImageFacts
from imagebuild.pipeline.outcome import GOOD, RunReport

_V = TypeVar("_V")


@dataclass(frozen=True)
class ImageChanges:
    """`packages`, `python_packages`: name → (version before, version after); None: not there.
    Those that differ, in the order of names; so `agent`: key → (before, after).

    `sizes`: format → bytes (before, after), `rootfs` among them; `seconds`: stage → (before,
    after): all of either image, whether they differ or not; a stage that came from the store
    took no time that says anything, and has None. `since`: the run that it is compared with.
    """

    since: str
    packages: Mapping[str, tuple[str | None, str | None]]
    python_packages: Mapping[str, tuple[str | None, str | None]]
    sizes: Mapping[str, tuple[int | None, int | None]]
    seconds: Mapping[str, tuple[float | None, float | None]]
    agent: Mapping[str, tuple[str | None, str | None]]
    is_same_build: bool = False

    @property
    def number_of_packages(self) -> int:
        """How many packages of either kind differ."""
        return len(self.packages) + len(self.python_packages)


def changes(before: ImageFacts, after: ImageFacts, since: str) -> ImageChanges:
    """Compare two images. Pure."""
    return ImageChanges(
        since=since,
        packages=_differing(before.packages, after.packages),
        python_packages=_differing(before.python_packages, after.python_packages),
        sizes=_pairs(_sizes(before), _sizes(after)),
        seconds=_pairs(_seconds(before), _seconds(after)),
        agent=_differing(_plain(before.agent), _plain(after.agent)),
        is_same_build=before.build_id == after.build_id,
    )


def last_facts(cell_id: str, history: Sequence[RunReport]) -> tuple[str, ImageFacts] | None:
    """The run and facts of the newest earlier image of a cell that was good."""
    for report in reversed(history):
        cell = report.cell(cell_id)
        if cell is None or cell.image is None or cell.status not in GOOD:
            continue
        try:
            return report.run, ImageFacts.from_json(cell.image)
        except ConfigError:
            continue  # of another version: an older night may do
    return None


def _pairs(
    before: Mapping[str, _V], after: Mapping[str, _V]
) -> dict[str, tuple[_V | None, _V | None]]:
    """Both sides of every name, those of `after` first."""
    return {n: (before.get(n), after.get(n)) for n in dict.fromkeys((*after, *before))}


def _differing(
    before: Mapping[str, str], after: Mapping[str, str]
) -> dict[str, tuple[str | None, str | None]]:
    pairs = _pairs(before, after)
    return {n: pairs[n] for n in sorted(pairs) if pairs[n][0] != pairs[n][1]}


def _sizes(image: ImageFacts) -> dict[str, int]:
    return dict(image.files) | ({} if image.rootfs is None else {"rootfs": image.rootfs})


def _seconds(image: ImageFacts) -> dict[str, float]:
    return {name: seconds for name, seconds, is_reused in image.stages if not is_reused}


def _plain(agent: Mapping[str, object]) -> dict[str, str]:
    return {k: str(v) for k, v in agent.items()}
