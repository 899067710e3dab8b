"""What became of each item of a mirror list."""

from __future__ import annotations

import enum
import signal
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from imagebuild.errors import ExitCode, Interrupted
from imagebuild.mirror.items import Item
from imagebuild.mirror.problems import GivenUpError, MissingError
from imagebuild.registry.reference import Reference


class Outcome(enum.Enum):
    """Six things that may be the end of an item."""

    UNCHANGED = "unchanged"  # the target has it, tag and all
    COPIED = "copied"  # the tag is new in the target
    REPLACED = "replaced"  # the tag was another image before
    MISSING = "missing"  # the source does not have it (any more)
    FAILED = "failed"  # tried, and an error says why; the target's tag is what it was
    SKIPPED = "skipped"  # not tried: interrupted, or its registry was given up


#: Outcomes that make the exit code 6 (75: see `Report.exit_code`).
BAD = (Outcome.MISSING, Outcome.FAILED, Outcome.SKIPPED)


def outcome_of(error: Exception) -> Outcome:
    """What the end of an item is that failed with this error."""
    if isinstance(error, MissingError):
        return Outcome.MISSING
    return Outcome.SKIPPED if isinstance(error, GivenUpError) else Outcome.FAILED


@dataclass(frozen=True)
class Result:
    """The end of one item. Bytes are of the wire. `error` is ImagebuildError.to_json's form.

    `digest` is what the target's tag stands for, `source_digest` what the source's: another
    one only where platforms were chosen, or docker has copied. `before` is the digest that
    the target's tag had; "" when it was not there. `tags` are those that were put, and that
    are ours from now on; `backup` the one of them that keeps the image from before. `size`:
    all blobs of the image, 0 when nobody had to know. `referrers`: how many manifests that
    refer to the image were put. `repaired`: how many blobs the target had lost (`deep`).
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
    source_digest: str = ""
    size: int = 0
    referrers: int = 0
    repaired: int = 0
    backup: str = ""
    made_as: str = ""

    def to_json(self) -> dict[str, Any]:
        """Shape used by `--json`."""
        return {
            "source": str(self.item.source),
            "target": str(self.item.target),
            "outcome": self.outcome.value,
            "digest": self.digest,
            "source_digest": self.source_digest,
            "before": self.before,
            "tags": list(self.tags),
            "backup": self.backup,
            "aliases": list(self.item.aliases),
            "platforms": list(self.item.platforms),
            "datastore": self.item.datastore,
            "role": self.item.role.value,
            "size": self.size,
            "bytes_copied": self.bytes_copied,
            "bytes_mounted": self.bytes_mounted,
            "bytes_present": self.bytes_present,
            "referrers": self.referrers,
            "repaired": self.repaired,
            "seconds": round(self.seconds, 3),
            "error": self.error,
        }


@dataclass(frozen=True)
class Report:
    """All items of one run, in the list's order; `quotas`: what registries still grant us.

    `notes` are what the person should know of the run as a whole.
    """

    results: tuple[Result, ...]
    seconds: float
    requests: dict[str, int] = field(default_factory=dict)  # by method
    quotas: tuple[tuple[str, int, int], ...] = ()  # host, remaining, limit
    removed: tuple[Reference, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether anything is missing in the target."""
        return any(r.outcome in BAD for r in self.results)

    @property
    def exit_code(self) -> ExitCode:
        """0 when nothing is missing, 75 when all that is has failed for a reason that may be
        gone later, else 6.
        """
        codes = {(r.error or {}).get("exit_code") for r in self.results if r.outcome in BAD}
        if not codes:
            return ExitCode.OK
        return ExitCode.TEMPORARY if codes == {ExitCode.TEMPORARY} else ExitCode.PUBLISH

    @property
    def outcomes(self) -> dict[Outcome, int]:
        """How many items ended how; all six are there."""
        counted = Counter(r.outcome for r in self.results)
        return {o: counted[o] for o in Outcome}

    def to_json(self) -> dict[str, Any]:
        """Shape used by `--json`."""
        return {
            "failed": self.failed,
            "outcomes": {o.value: n for o, n in self.outcomes.items()},
            "bytes_copied": sum(r.bytes_copied for r in self.results),
            "bytes_mounted": sum(r.bytes_mounted for r in self.results),
            "bytes_present": sum(r.bytes_present for r in self.results),
            "seconds": round(self.seconds, 3),
            "requests": dict(self.requests),
            "quotas": [
                {"registry": host, "remaining": remaining, "limit": limit}
                for host, remaining, limit in self.quotas
            ],
            "notes": list(self.notes),
            "results": [r.to_json() for r in self.results],
            "removed": [str(r) for r in self.removed],
        }


class RunInterrupted(Interrupted):
    """A run was interrupted; `report` says what it had done, the rest being SKIPPED."""

    def __init__(self, cause: Interrupted, report: Report) -> None:
        interrupted = cause.exit_code == ExitCode.INTERRUPTED
        super().__init__(signal.SIGINT if interrupted else signal.SIGTERM)
        self.report = report
