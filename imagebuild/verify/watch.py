"""Follow a machine from qemu's start to a settled system: milestones, and what went wrong."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from imagebuild.errors import UsageError
from imagebuild.explain import Scope, explain
from imagebuild.verify import console as marks
from imagebuild.verify import trouble
from imagebuild.verify.console import Console
from imagebuild.verify.machine import Machine
from imagebuild.verify.probe import Reports
from imagebuild.verify.results import Milestone
from imagebuild.verify.trouble import BootTroubleError, Kind

#: Milestones in their usual order. `console`: the first byte; `root`: systemd started from
#: the root filesystem; `probe`: cloud-init has run our boothook; `settled`: no job waits.
MILESTONES = (
    "console", "kernel", "root", "cloud-init-local", "probe", "cloud-init-network",
    "ssh", "login", "docker", "agent-started", "cloud-init-done", "settled",
)  # fmt: skip

#: Seconds since qemu's start by which a machine under KVM must have reached a milestone; an
#: emulated one gets more (`Accelerator.patience`). The others have no limit of their own.
LIMITS = {
    "console": 75.0, "kernel": 90.0, "root": 120.0, "probe": 210.0,
    "cloud-init-done": 270.0, "settled": 300.0,
}  # fmt: skip

#: A limit by milestone; a float: for `settled`, the others in proportion.
Limits = Mapping[str, float] | float

#: Seconds without a word after which a guest counts as silent (under KVM; else more).
_SILENCE = 40.0
#: Seconds without a word, in the kernel or the initramfs, after which an emulated machine
#: has stalled. What is waited for there (a root filesystem) is given up after 30 s of the
#: guest, and says so.
STALL_SECONDS = 240.0
#: Seconds after the login prompt, or cloud-init's last word, by which the probe has spoken
#: (under KVM; else more): it is started before both.
_UNHEARD = 20.0
#: Seconds that a guest in trouble may still speak.
_WORDS = 2.0
#: The entry of the pattern book for a kernel that the emulation was too slow for.
_EMULATION = "boot-emulated-timer"

_UNITS = {
    "root": ("systemd",),
    "cloud-init-local": ("cloud-init-local.service",),
    # cloud-init 24.3 gave it the second name.
    "cloud-init-network": ("cloud-init.service", "cloud-init-network.service"),
    "ssh": ("ssh.service", "ssh.socket"),
    "docker": ("docker.service",),
    "agent-started": ("guest-agent.service",),
    "cloud-init-done": ("cloud-final.service",),
    "settled": ("settled",),
}
_CONSOLE = {"kernel": marks.KERNEL, "root": marks.SYSTEMD, "login": marks.LOGIN}


def limits_of(limits: Limits | None, patience: float) -> dict[str, float]:
    """The limit of each milestone in seconds. Raises UsageError for a name that is none."""
    usual = {name: seconds * patience for name, seconds in LIMITS.items()}
    if limits is None:
        return usual
    if isinstance(limits, Mapping):
        for name in limits:
            if name not in MILESTONES:
                raise UsageError(
                    f"there is no milestone {name!r}", hint="one of " + ", ".join(MILESTONES)
                )
        return usual | dict(limits)
    return {name: seconds * limits / usual["settled"] for name, seconds in usual.items()}


@dataclass
class Watch:
    """Follows one machine. `seen`: milestone -> seconds since qemu's start; it gets exact
    when the probe has told the guest's own times.
    """

    machine: Machine
    limits: Limits | None = None
    on_milestone: Callable[[Milestone], None] = lambda _m: None
    pause: float = 0.5
    seen: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.console = Console(self.machine.console)
        self.reports = Reports(self.machine.probe)
        self._ended: float | None = None
        self._limits = limits_of(self.limits, self._patience)

    def follow(self) -> None:
        """Wait until the system has settled. Raises BootTroubleError when it does not."""
        while "settled" not in self.seen:
            time.sleep(self.pause)
            self.look()
            self._check()
        # getty is started by then, but its prompt may still be on its way.
        grace = self.machine.elapsed() + 3 * self._patience
        while "login" not in self.seen and self.machine.elapsed() < grace:
            time.sleep(self.pause)
            self.look()

    @property
    def milestones(self) -> tuple[Milestone, ...]:
        """What was reached, in the order of time."""
        rank = {name: number for number, name in enumerate(MILESTONES)}
        pairs = sorted(self.seen.items(), key=lambda pair: (pair[1], rank[pair[0]]))
        return tuple(Milestone(name, seconds) for name, seconds in pairs)

    def look(self) -> None:
        """Take note of what the machine has reached by now."""
        now = round(self.machine.elapsed(), 1)
        told = self.reports.read(now)
        if self.console.read(now) and self.console.text.strip():
            if "console" not in self.seen:
                self._reach("console", now)
            for name, mark in _CONSOLE.items():
                if name not in self.seen and mark.search(self.console.text):
                    self._reach(name, now)
        if told:
            self._take(self.reports)

    @property
    def _patience(self) -> float:
        return self.machine.spec.accelerator.patience

    def _take(self, reports: Reports) -> None:
        if reports.offset is not None:
            self._reach("kernel", max(0.0, round(reports.offset, 1)))
        probe = reports.first("start")
        if probe is not None:
            self._reach("probe", probe)
        started = reports.started
        for name, units in _UNITS.items():
            times = [started[unit] for unit in units if unit in started]
            # cloud-final ends with cloud-init's own report, or cloud-init has failed.
            if times and (name != "cloud-init-done" or reports.cloud_init is not None):
                self._reach(name, min(times))
        end = reports.first("cloud-init")
        if "cloud-init-done" not in self.seen and end is not None and reports.cloud_init:
            self._reach("cloud-init-done", end)

    def _reach(self, name: str, seconds: float) -> None:
        if name == "settled" and "cloud-init-done" not in self.seen:
            return
        is_new = name not in self.seen
        self.seen[name] = seconds
        if is_new:
            self.on_milestone(Milestone(name, seconds))

    def _check(self) -> None:
        text = self.console.text
        if self.machine.has_ended:
            self._fail(Kind.ENDED)
        if marks.PANIC.search(text):
            self._hear_out()
            causes = explain(self.console.text, Scope.BOOT)
            is_ours = any(c.id == _EMULATION for c in causes)
            self._fail(Kind.STALLED if is_ours and self._is_emulated else Kind.PANIC)
        if marks.INITRAMFS.search(text):
            self._fail(Kind.INITRAMFS)
        # Its services may go on, but nobody waits for them: the system never settles.
        if marks.EMERGENCY.search(text) or self.reports.system == "maintenance":
            self._hear_out()
            self._fail(Kind.EMERGENCY)
        if self._is_unheard():
            self._fail(Kind.UNHEARD, "probe")
        if self._has_stalled():
            self._fail(Kind.STALLED)
        now = self.machine.elapsed()
        for number, name in enumerate(MILESTONES):
            later = MILESTONES[number:] if name in LIMITS else (name,)
            limit = self._limits.get(name)
            if limit is not None and now > limit and not any(x in self.seen for x in later):
                self._fail(Kind.SILENT if self._is_silent() else Kind.LATE, name, limit)

    def _hear_out(self) -> None:
        """Let the guest end its sentence."""
        time.sleep(_WORDS)
        self.look()

    @property
    def _is_emulated(self) -> bool:
        return self.machine.spec.accelerator.is_emulated

    def _silence(self) -> float:
        """Seconds since the guest last gave a sign of life."""
        last = max(self.console.grown or 0.0, self.reports.heard or 0.0)
        return self.machine.elapsed() - last

    def _is_silent(self) -> bool:
        return self._silence() > _SILENCE * self._patience

    def _is_unheard(self) -> bool:
        """Whether the system came up without our boothook: cloud-init found no vendor data."""
        if self._ended is None and (
            "login" in self.seen or marks.FINISHED.search(self.console.text)
        ):
            self._ended = self.machine.elapsed()
        if "probe" in self.seen or self._ended is None:
            return False
        return self.machine.elapsed() > self._ended + _UNHEARD * self._patience

    def _has_stalled(self) -> bool:
        """Whether an emulated guest stopped between its kernel's first word and systemd."""
        in_kernel = "kernel" in self.seen and "root" not in self.seen and "probe" not in self.seen
        return self._is_emulated and in_kernel and self._silence() > STALL_SECONDS

    def _next(self) -> str:
        reached = [n for n, name in enumerate(MILESTONES) if name in self.seen and name in LIMITS]
        after = MILESTONES[max(reached, default=-1) + 1 :]
        return next((name for name in after if name in LIMITS), "settled")

    def _fail(self, kind: Kind, milestone: str = "", limit: float | None = None) -> None:
        facts: dict[str, Any] = trouble.diagnose(self.machine)
        facts["silent_seconds"] = round(self._silence(), 1)
        # Who waits for something has an idle processor; who lacks time has a busy one.
        facts["slow"] = kind is Kind.LATE and self._is_emulated and not facts.get("idle", True)
        lines = trouble.evidence(self.console, facts, has_kernel="kernel" in self.seen)
        if kind is Kind.ENDED:
            lines += self.machine.words().splitlines()[-10:]
        raise BootTroubleError(
            kind,
            milestone or self._next(),
            limit=limit,
            seen=dict(self.seen),
            evidence=lines,
            facts=facts,
            logs=str(self.machine.logs),
        )
