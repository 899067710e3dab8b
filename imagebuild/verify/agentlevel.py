"""The agent level: the guest agent answers Trove, and Trove hears of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from imagebuild.errors import Cause
from imagebuild.verify.asking import Asking, until
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
    asking.add(
        Check(
            f"{asking.prefix}/series", asking.level,
            Outcome.FAILED if " newer " in text else Outcome.WARNING, text,
            evidence=(f"agent: {version}", f"control plane: {ours}"),
            cause=Cause(
                "skew",
                "agent and control plane are of different series",
                "Trove's RPC carries no version that would be negotiated: an agent that is newer"
                " than the control plane gets calls that it does not have, or has otherwise.",
                ("build the image for the control plane's series: --trove-series SERIES",),
                text,
            ),
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
