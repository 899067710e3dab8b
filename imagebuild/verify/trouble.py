"""What keeps a machine from coming up: of what kind it is, and what there is to show for it."""

from __future__ import annotations

import enum
import time
from collections.abc import Mapping
from typing import Any

from imagebuild.errors import ImagebuildError, Interrupted, VerifyError
from imagebuild.verify.console import Console
from imagebuild.verify.machine import Machine

#: Looks at the processors of a machine that is silent, and seconds between two of them.
_LOOKS, _BETWEEN = 6, 0.3


class Kind(str, enum.Enum):
    """What happened, as far as it can be told from outside."""

    ENDED = "the machine ended by itself"
    PANIC = "the guest's kernel panicked"
    INITRAMFS = "the guest stopped in its initramfs"
    EMERGENCY = "the guest came up in emergency mode"
    UNHEARD = "cloud-init did not run what it was given"
    SILENT = "the guest fell silent"
    LATE = "the guest was late"
    STALLED = "the emulator stalled"


class BootTroubleError(VerifyError):
    """A machine did not reach a milestone. `seen` are those that it did (name -> seconds),
    `evidence` the lines to show, `facts` what qemu said.
    """

    def __init__(
        self,
        kind: Kind,
        milestone: str,
        *,
        limit: float | None = None,
        seen: Mapping[str, float],
        evidence: list[str],
        facts: Mapping[str, Any],
        logs: str,
    ) -> None:
        until = f" within {limit:.0f} s" if limit is not None else ""
        super().__init__(
            f"{kind.value}: {milestone!r} was not reached{until}",
            where=logs,
            detail="\n".join(evidence),
        )
        self.kind = kind
        self.milestone = milestone
        self.seen = seen
        self.evidence = evidence
        self.facts = facts

    @property
    def blames_host(self) -> bool:
        """Whether the image may be right: the emulator failed, the host was too slow, or ended
        qemu (a guest that turns itself off ends it with status 0).
        """
        was_killed = self.kind is Kind.ENDED and self.facts.get("exit_status") != 0
        return self.kind is Kind.STALLED or was_killed or bool(self.facts.get("slow"))


def diagnose(machine: Machine) -> dict[str, Any]:
    """What qemu says of a machine that makes no progress: state, processors, the screen."""
    if machine.has_ended:
        status = machine.process.returncode
        return {"status": f"ended with status {status}", "exit_status": status}
    try:
        qmp = machine.qmp
        facts: dict[str, Any] = {"status": qmp.status()}
        looks = []
        for _ in range(_LOOKS):
            looks.append(qmp.processors())
            time.sleep(_BETWEEN)
        facts["processors"] = [
            _processor([p.is_halted for p in each], {p.counter for p in each})
            for each in zip(*looks, strict=False)
        ]
        halted = [p.is_halted for look in looks for p in look]
        facts["idle"] = sum(halted) > 0.6 * len(halted)
        facts["screen"] = qmp.screen() if machine.spec.arch == "amd64" else []
    except Interrupted:
        raise
    except (OSError, ImagebuildError, ValueError) as exc:
        return {"status": f"qemu does not answer: {exc}"}
    return facts


def evidence(console: Console, facts: Mapping[str, Any], *, has_kernel: bool) -> list[str]:
    """The lines that matter: the telling ones and the last of the console, else the screen's."""
    tail = console.tail(25)
    lines = [line for line in console.telling() if line not in tail] + tail
    if not has_kernel:
        lines += [f"screen: {row}" for row in facts.get("screen", ())][-12:]
    return lines


def _processor(halted: list[bool], counters: set[str]) -> str:
    if all(halted):
        return "halted"
    if len(counters) == 1:
        return f"spinning at {counters.pop()}"
    return f"busy, halted in {sum(halted)} of {len(halted)} looks"
