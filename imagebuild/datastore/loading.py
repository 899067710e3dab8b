"""`datastore load-parameters`: rules into a datastore version.

Trove's requests take part of them only; `trove-manage`, which writes into its database,
takes all. What was loaded is read back either way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from imagebuild.cloud.connection import Cloud
from imagebuild.cloud.datastores import Datastores, DatastoreVersion
from imagebuild.cloud.images import Images
from imagebuild.cloud.service import RefusedError, UnavailableError
from imagebuild.datastore.resolution import of_version
from imagebuild.datastore.rules import Comparison, Rule, RuleFile, compare
from imagebuild.datastore.trovemanage import TroveManage
from imagebuild.datastore.wanted import Wanted, find
from imagebuild.errors import PublishError, UsageError


@dataclass(frozen=True)
class Loading:
    """What is to be loaded into which version. `comparison` is None when Trove cannot list
    what the version has: bounds with a fraction, which trove-manage can write, break its list.
    `left` are rules that the requests cannot carry, with the reason; none by trove-manage.
    """

    version: DatastoreVersion
    file: RuleFile
    comparison: Comparison | None
    left: tuple[tuple[Rule, str], ...]

    @property
    def pending(self) -> tuple[Rule, ...]:
        """What will be loaded."""
        rules = self.file.rules if self.comparison is None else self.comparison.pending
        kept = {r.name for r, _ in self.left}
        return tuple(r for r in rules if r.name not in kept)


@dataclass(frozen=True)
class Missing:
    """A rule that the version does not have in the end, and why."""

    name: str
    why: str


@dataclass(frozen=True)
class Loaded:
    """What came of it: how many were written, what is missing. `is_verified`: it was read
    back from Trove.
    """

    written: int
    missing: tuple[Missing, ...]
    is_verified: bool


def locate(cloud: Cloud, datastore: str, name: str, number: str | None = None) -> DatastoreVersion:
    """The version that is meant. Raises PublishError when there is none, UsageError when there
    are several, and as `Service` does.
    """
    wanted = Wanted(datastore, name, number)
    wanted.check()
    versions = Datastores(cloud.database).versions()
    found = find(versions, wanted)
    if found is None:
        known = sorted(v.label for v in versions)
        raise PublishError(
            f"there is no datastore version {wanted.label}",
            where=f"cloud {cloud.name}",
            detail="there are: " + (", ".join(known) or "none"),
            hint="imagebuild datastore create",
        )
    return found


def series_of(cloud: Cloud, version: DatastoreVersion) -> str:
    """The series of the agent in the image that the version's instances get.

    Raises UsageError when nobody knows, and as `Service` does.
    """
    taken = of_version(Images(cloud.image), cloud.project_id, version).taken
    if taken and taken.agent_series:
        return taken.agent_series
    raise UsageError(
        "the series whose rules are wanted is not known",
        where=f"cloud {cloud.name}, {version.label}",
        detail=f"{taken.label} does not say which series its guest agent is of"
        if taken
        else "no image is behind the version",
        hint="--trove-series SERIES, or --file RULES",
    )


def propose(
    cloud: Cloud, version: DatastoreVersion, file: RuleFile, via: TroveManage | None
) -> Loading:
    """Compare the rules with what the version has. Raises as `Service` does."""
    comparison = _compare(Datastores(cloud.database), version, file.rules, tolerant=bool(via))
    pending = comparison.pending if comparison else ()
    left = () if via else tuple((r, r.obstacle) for r in pending if r.obstacle)
    return Loading(version, file, comparison, left)


def carry_out(
    cloud: Cloud,
    loading: Loading,
    via: TroveManage | None = None,
    progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> Loaded:
    """Load what is pending: all of the file by trove-manage where there is one, which is one
    call and no less than the requests; else rule by rule.

    `progress` is called with how many requests are done, and of how many. Raises
    UnavailableError when Trove does not answer (what was loaded stays, the next run goes on
    from there), PublishError when trove-manage fails, and as `Service` does.
    """
    datastores, version = Datastores(cloud.database), loading.version
    pending = loading.pending
    refused: dict[str, str] = {}
    if pending and via:
        via.load_parameters(version.datastore_id, version.id, loading.file.data)
    elif pending:
        refused = _send(datastores, loading, progress)
    if not pending:
        found = loading.comparison
    else:
        found = _compare(datastores, version, loading.file.rules, tolerant=bool(via))
    reasons = refused | {r.name: why for r, why in loading.left}
    unloaded = found.pending if found else ()
    missing = tuple(Missing(r.name, reasons.get(r.name, "it is not there")) for r in unloaded)
    return Loaded(len(pending) - len(refused), missing, found is not None)


def _send(
    datastores: Datastores, loading: Loading, progress: Callable[[int, int], None]
) -> dict[str, str]:
    """Send rule after rule; those that Trove refuses, with what it says."""
    changed = {r.name for r in loading.comparison.changed} if loading.comparison else set()
    refused: dict[str, str] = {}
    for number, rule in enumerate(loading.pending, 1):
        try:
            datastores.put_parameter(
                loading.version.id, rule.to_request(), exists=rule.name in changed
            )
        except RefusedError as exc:
            refused[rule.name] = exc.detail
        progress(number, len(loading.pending))
    return refused


def _compare(
    datastores: Datastores, version: DatastoreVersion, rules: Sequence[Rule], *, tolerant: bool
) -> Comparison | None:
    """What the version has against the rules; None when Trove cannot tell and `tolerant`."""
    try:
        listed = datastores.parameters(version.id)
    except UnavailableError as exc:
        if tolerant and exc.status == 500:
            return None
        raise
    return compare(rules, [Rule.of_answer(d) for d in listed])
