"""What a plan would take from the store or its remote, and why the rest would be made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from imagebuild.plan import Plan, StagePlan
from imagebuild.store.remote.view import RemoteView
from imagebuild.store.store import MADE_OTHERWISE, NEVER_MADE, Key, Kind, Stores


@dataclass(frozen=True)
class Forecast:
    """One object of a build. `reasons` says why it is not there, when it is not; `remote`: the
    store's remote has it.
    """

    stage: str
    name: str
    id: str
    cached: bool
    reasons: Sequence[str]
    remote: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "stage": self.stage,
            "name": self.name,
            "id": self.id,
            "cached": self.cached,
            "reasons": list(self.reasons),
            "remote": self.remote,
        }


def forecast(plan: Plan, stores: Stores, remote: RemoteView | None = None) -> list[Forecast]:
    """What would happen to each object of the plan, in the order in which they are made.

    Only what is there is looked at, not whether it is whole: a build does that. `remote` is
    asked for what the store has not.
    """
    found: list[Forecast] = []
    made: dict[str, str] = {}  # id -> name of what is made anew
    for stage, kind, part in plan.objects:
        key = Key(kind, part.id)
        if any(store.look(key) for store in stores.all):
            found.append(Forecast(stage, part.name, part.id, cached=True, reasons=()))
            continue
        if remote and remote.has(key):
            found.append(Forecast(stage, part.name, part.id, False, (), remote=True))
            continue
        below = list(made.values()) if kind is Kind.FORMATS else _below(part, made)
        reasons = [f"made anew below it: {', '.join(below)}"] if below else []
        own = stores.main.why_not(key, plan.link, part.own)
        # What is built on something else may be another by that alone.
        reasons += [r for r in own if not below or r not in (NEVER_MADE, MADE_OTHERWISE)]
        found.append(Forecast(stage, part.name, part.id, cached=False, reasons=tuple(reasons)))
        made[part.id] = part.name
    return found


def _below(part: StagePlan, made: dict[str, str]) -> list[str]:
    ids = _ids(part.inputs)
    return [name for id_, name in made.items() if id_ in ids]


def _ids(value: Any) -> set[str]:  # noqa: ANN401 - JSON
    if isinstance(value, str):
        return {value}
    if isinstance(value, dict):
        return {x for v in value.values() for x in _ids(v)}
    if isinstance(value, list):
        return {x for v in value for x in _ids(v)}
    return set()
