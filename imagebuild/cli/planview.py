"""Shows a plan: what `imagebuild build --dry-run` prints."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

from imagebuild.cli.terminal import one_line, terminal
from imagebuild.forecast import Forecast
from imagebuild.inputs import Inputs
from imagebuild.memory import Fact, age
from imagebuild.plan import Plan, StagePlan


def show(plan: Plan, inputs: Inputs, objects: Sequence[Forecast], *, as_json: bool) -> None:
    """Print a plan, and what of it is in the store; the JSON form holds everything."""
    if as_json:
        remembered = [fact.to_json() for fact in inputs.remembered]
        found = [one.to_json() for one in objects]
        terminal.json(plan.to_json() | {"remembered": remembered, "objects": found})
        return
    lines = [f"plan for {plan.name}" + ("  (provisional)" if plan.provisional else "")]
    lines += [f"  not resolved: {u}" for u in plan.unresolved]
    lines += [f"  {as_of(fact)}" for fact in inputs.remembered]
    for stage in plan.stages:
        lines += _stage(stage, [o for o in objects if o.stage == stage.name])
    if plan.environment["from_host"]:
        lines.append(
            "from the host's environment, by name: " + " ".join(plan.environment["from_host"])
        )
    lines.append(f"artifact  {plan.outputs['artifact']}")
    lines += [f"image     {image}" for image in plan.outputs["images"]]
    lines += [f"also      {place}" for place in plan.outputs["places"]]
    terminal.data("\n".join(map(one_line, lines)))


def as_of(fact: Fact) -> str:
    """How old something is that was remembered instead of asked."""
    return f"as of {age(fact, time.time())}: {fact.what}"


def _stage(stage: StagePlan, objects: Sequence[Forecast]) -> list[str]:
    lines = [f"stage {stage.name}  {stage.id[:16]}"]
    lines += [f"  {one.name}: {_fate(one)}" for one in objects]
    for part in (stage, *stage.parts):
        if part.elements:
            lines.append("  elements  " + " ".join(e["name"] for e in part.elements))
        for name, value in part.inputs.items():
            lines.append(f"  {name:9} {_short(value)}")
        for name, value in part.environment.items():
            lines.append(f"  {name}={value}")
    return lines


def _fate(one: Forecast) -> str:
    if one.cached:
        return "in the store"
    if one.remote:
        return "in the store's remote"
    return "to be made: " + "; ".join(one.reasons)


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 100 else text[:97] + "…"
