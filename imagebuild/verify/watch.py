"""Follow a machine from qemu's start to a settled system: milestones, and what went wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from imagebuild.verify.guest import Guest
from imagebuild.verify.results import Milestone

#: Milestones in their usual order. `console`: the first byte; `root`: systemd started from
#: the root filesystem; `probe`: cloud-init has run our boothook.
MILESTONES = (
    "console", "kernel", "root", "probe", "cloud-init-local", "cloud-init-network",
    "ssh", "login", "docker", "agent-started", "cloud-init-done", "settled",
)  # fmt: skip

#: Seconds since qemu's start by which a milestone must be reached; a float: for all of them.
Limits = Mapping[str, float] | float


def follow(
    guest: Guest,
    *,
    limits: Limits | None = None,
    on_milestone: Callable[[Milestone], None] = lambda _m: None,
) -> tuple[Milestone, ...]:
    """Wait until the system has settled. Raises what `verify.trouble` has when it does not."""
    raise NotImplementedError
