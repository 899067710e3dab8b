"""What became of each item of a mirror list."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any

from imagebuild.mirror.items import Item
from imagebuild.registry.reference import Reference


class Outcome(enum.Enum):
    """Six things that may be the end of an item."""

    UNCHANGED = "unchanged"  # the target has it, tag and all
    COPIED = "copied"  # the tag is new in the target
    REPLACED = "replaced"  # the tag was another image before
    MISSING = "missing"  # the source does not have it (any more)
    FAILED = "failed"  # tried, and an error says why; the target's tag is what it was
    SKIPPED = "skipped"  # not tried: interrupted, or its registry was given up


#: Outcomes that make the exit code 6.
BAD = (Outcome.MISSING, Outcome.FAILED, Outcome.SKIPPED)


@dataclass(frozen=True)
class Result:
    """The end of one item. Bytes are of the wire. `error` is ImagebuildError.to_json's form.

    `before` is the digest that the target's tag had; "" when it was not there.
    """

    item: Item
    outcome: Outcome
    digest: str = ""
    before: str = ""
    bytes_copied: int = 0
    bytes_mounted: int = 0
    bytes_present: int = 0
    seconds: float = 0.0
    tags: tuple[str, ...] = ()
    error: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Shape used by `--json`."""
        raise NotImplementedError


@dataclass(frozen=True)
class Report:
    """All items of one run, in the list's order; `quotas`: what registries still grant us."""

    results: tuple[Result, ...]
    seconds: float
    requests: dict[str, int] = field(default_factory=dict)  # by method
    quotas: tuple[tuple[str, int, int], ...] = ()  # host, remaining, limit
    removed: tuple[Reference, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether anything is missing in the target."""
        return any(r.outcome in BAD for r in self.results)
