"""The agent level: the guest agent answers Trove, and Trove hears of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from imagebuild.verify.asking import Asking, until
from imagebuild.verify.causes import cause
from imagebuild.verify.control.environment import skew
from imagebuild.verify.instance import Live, TroveBoot
from imagebuild.verify.results import Check, Milestone, Outcome

#: What is asked, in this order.
NAMES = ("series", "boots", "rpc-ping", "heartbeat")


def check_series(wanted: TroveBoot, asking: Asking) -> None:
    """Compare the agent's release with the control plane's."""
    control, version = wanted.environment.control, wanted.agent_version
    ours = f"trove {control.version} ({control.series})"
    if not version:
        asking.warn("series", f"the agent's version is not known; the control plane is {ours}")
        return
    text = skew(version, control)
    if text is None:
        asking.ask("series", "agent and control plane are of one series", lambda: [ours])
        return
    is_newer = " newer " in text
    asking.add(
        Check(
            f"{asking.prefix}/series", asking.level,
            Outcome.FAILED if is_newer else Outcome.WARNING, text,
            evidence=(f"agent: {version}", f"control plane: {ours}"),
            cause=cause("agent-newer", text, agent=version, control=control.series)
            if is_newer else None,
        )
    )  # fmt: skip


def check_agent(live: Live, asking: Asking, on_milestone: Callable[[Milestone], None]) -> bool:
    """Ask the agent of a running guest. Returns whether it answers."""

    def ping() -> Iterable[str]:
        until(
            lambda: live.plane.rpc_ping(live.id), live.limit("agent"),
            "the agent does not answer rpc_ping",
        )  # fmt: skip
        mark = live.mark("agent")
        on_milestone(mark)
        yield f"answered {mark.seconds:.0f} s after the start"

    def beat() -> Iterable[str]:
        until(
            lambda: live.plane.heartbeat(live.instance) is not None, live.limit("agent"),
            "no heartbeat of the agent reaches trove-conductor",
        )  # fmt: skip
        yield f"last heard of at {live.plane.heartbeat(live.instance)}"

    hint = "look at the agent's log in the guest: /var/log/trove/trove-guestagent.log"
    if not asking.ask("rpc-ping", "the agent answers Trove's rpc_ping, encrypted", ping, hint=hint):
        return False
    return asking.ask("heartbeat", "the agent's heartbeats arrive at trove-conductor", beat)
