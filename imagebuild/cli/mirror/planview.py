"""A mirror plan for people and for programs: `mirror plan`, and `mirror sync --dry-run`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imagebuild.cli.mirror.options import client_of, items_of, read_locks
from imagebuild.cli.mirror.view import Notes, asking, short
from imagebuild.cli.terminal import Terminal, one_line, terminal
from imagebuild.errors import ExitCode
from imagebuild.mirror.result import Outcome
from imagebuild.units import size

if TYPE_CHECKING:
    from imagebuild.mirror.loading import LoadedList
    from imagebuild.mirror.planning import MirrorPlan, Planned

SCHEMA_VERSION = 1

_ACTIONS = {
    Outcome.UNCHANGED: ("keep", "dim"),
    Outcome.COPIED: ("copy", "green"),
    Outcome.REPLACED: ("replace", "yellow"),
    Outcome.MISSING: ("missing", "bold red"),
    Outcome.FAILED: ("failed", "bold red"),
    Outcome.SKIPPED: ("skipped", "bold red"),
}


def make(
    loaded: LoadedList, only: Sequence[str], lock: Path | None, engine: str, *, locked: bool
) -> MirrorPlan:
    """Ask both sides, and count bytes. Raises as the parts do."""
    from imagebuild.mirror.planning import make_plan

    known, held = read_locks(lock, locked=locked)
    with client_of(loaded.value, Notes(terminal)) as client, asking(terminal):
        items = items_of(client, loaded, only, go_on=True)
        return make_plan(
            client, items, lock=held, known=known, count_bytes=True, engine=engine_name(engine)
        )


def engine_name(option: str) -> str:
    """What the planner calls an engine; ours has no name."""
    return "" if option == "registry" else option


def show(to: Terminal, loaded: LoadedList, plan: MirrorPlan) -> None:
    """A table on stdout; what is wrong on stderr."""
    from imagebuild.cli.tables import Tables

    target = loaded.value.target.name
    rows = [_cells(p, target) for p in plan.planned]
    styles = [action_of(p)[1] for p in plan.planned]
    columns = ("image", "action", "source", "digest", "to move", "to share")
    tables = Tables(to.out)
    tables.table(f"Mirror plan to {target}", columns, rows, ("to move", "to share"), styles)
    move, mount = _sum(plan, "bytes_to_move"), _sum(plan, "bytes_to_mount")
    counts = Counter(action_of(p)[0] for p in plan.planned)
    told = ", ".join(f"{n} {action}" for action, n in counts.items())
    shared = f", {size(mount)} are there in other repositories" if mount else ""
    to.info(f"{told or 'nothing'}; {size(move)} to move{shared}")
    if plan.engine:
        warn_of_docker(to)
    tell_errors(to, plan)


def action_of(planned: Planned) -> tuple[str, str]:
    """What would be done with an image, and its style; or why nothing can be."""
    return _ACTIONS[planned.outcome]


def tell_errors(to: Terminal, plan: MirrorPlan) -> None:
    """What is wrong with the plan's images, on stderr: each error once."""
    errors = [p.error for p in plan.planned if p.error and p.outcome is not Outcome.SKIPPED]
    for error in {str(e): e for e in errors}.values():
        to.error(error)


def warn_of_docker(to: Terminal) -> None:
    """What is lost when docker copies."""
    from imagebuild.mirror.dockerengine import LOSSES

    for loss in LOSSES:
        to.warning(loss)


def document(loaded: LoadedList, plan: MirrorPlan, **more: Any) -> dict[str, Any]:  # noqa: ANN401
    """Shape used by `--json`."""
    outcomes = Counter(p.outcome for p in plan.planned)
    return {
        "schema_version": SCHEMA_VERSION,
        "list": str(loaded.path),
        "target": loaded.value.target.name,
        **more,
        "dry_run": True,
        "results": [_result(p) for p in plan.planned],
        "totals": {
            "images": len(plan.planned),
            "actions": {action: outcomes[o] for o, (action, _) in _ACTIONS.items()},
            "bytes_to_move": _sum(plan, "bytes_to_move"),
            "bytes_to_mount": _sum(plan, "bytes_to_mount"),
            "failed": plan.failed,
        },
    }


def exit_code(plan: MirrorPlan) -> ExitCode:
    """6 when something is missing at the source, or could not be asked for."""
    return ExitCode.PUBLISH if plan.failed else ExitCode.OK


def _cells(planned: Planned, below: str) -> list[str]:
    item = planned.item
    aliases = [a for a in item.aliases if a in planned.stale_tags]
    name = short(str(item.target), below) + (f" (+ {', '.join(aliases)})" if aliases else "")
    digest = planned.wanted.digest.removeprefix("sha256:")[:12] if planned.wanted else "-"
    return [
        one_line(name),
        action_of(planned)[0],
        str(item.source.name) + (f":{item.source.tag}" if item.source.tag else ""),
        digest,
        "-" if planned.error or planned.bytes_to_move is None else size(planned.bytes_to_move),
        size(planned.bytes_to_mount) if planned.bytes_to_mount else "-",
    ]


def _sum(plan: MirrorPlan, key: str) -> int:
    return sum(getattr(p, key) or 0 for p in plan.planned)


def _result(planned: Planned) -> dict[str, Any]:
    item = planned.item
    return {
        "source": str(item.source),
        "target": str(item.target),
        "action": action_of(planned)[0],
        "digest": planned.wanted.digest if planned.wanted else "",
        "source_digest": planned.source.digest if planned.source else "",
        "there": planned.there.digest if planned.there else "",
        "tags": list(planned.stale_tags),
        "aliases": list(item.aliases),
        "platforms": list(item.platforms),
        "backup": item.backup if planned.outcome is Outcome.REPLACED else "",
        "datastore": item.datastore,
        "role": item.role.value,
        "bytes_to_move": planned.bytes_to_move,
        "bytes_to_mount": planned.bytes_to_mount,
        "error": planned.error.to_json() if planned.error else None,
    }
