"""The agent and the database level of one machine under a real Trove."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack

from imagebuild.verify import agentlevel, databaselevel
from imagebuild.verify.asking import Asking
from imagebuild.verify.bootlevel import Booted
from imagebuild.verify.instance import Live, TroveBoot, living
from imagebuild.verify.results import Check, Level, Milestone, Run


def check_trove(
    wanted: TroveBoot,
    *,
    on_milestone: Callable[[Milestone], None] = lambda _m: None,
    on_check: Callable[[Check], None] = lambda _c: None,
    also: Callable[[Booted], None] | None = None,
) -> tuple[Run, list[Check]]:
    """The agent level, and the database level when it is wanted.

    `also` is called with the running guest at the end, whatever was found.
    """
    agent = Asking(Level.AGENT, f"agent/{wanted.name}", on_check=on_check)
    database = Asking(Level.DATABASE, f"database/{wanted.name}", on_check=on_check)
    marks: list[Milestone] = []
    facts: dict[str, object] = {
        "datastore": f"{wanted.database.datastore} {wanted.database.version}",
        "network_isolation": wanted.network_isolation,
    }

    def note(mark: Milestone) -> None:
        marks.append(mark)
        on_milestone(mark)

    agentlevel.check_series(wanted, agent)
    with ExitStack() as stack:
        started: list[Live] = []

        def start() -> Sequence[str]:
            started.append(stack.enter_context(living(wanted, on_milestone=note)))
            return [f"settled after {started[0].booted.machine.elapsed():.0f} s"]

        if agent.ask("boots", "the guest starts as an instance of Trove", start):
            live = started[0]
            facts |= live.booted.facts
            agent.logs = database.logs = live.lines
            agent.text = database.text = live.text
            answers = agentlevel.check_agent(live, agent, note)
            if answers and wanted.level is Level.DATABASE:
                databaselevel.check_database(live, database, note)
            if also:
                also(live.booted)
    levels: list[tuple[Asking, tuple[str, ...]]] = [(agent, agentlevel.NAMES)]
    if wanted.level is Level.DATABASE:
        levels.append((database, databaselevel.NAMES))
    for asking, names in levels:
        asking.skip(asking.missing(names), "what it needs has failed")
    boot = wanted.boot
    run = Run(
        wanted.name, boot.accelerator.name, boot.firmware.value, tuple(marks), facts,
        str(boot.logs),
    )  # fmt: skip
    return run, [check for asking, _ in levels for check in asking.checks]
