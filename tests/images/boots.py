"""Boots of the image tests: through the boot level of verify, with questions of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imagebuild.errors import VerifyError
from imagebuild.verify import accel
from imagebuild.verify.bootlevel import CONFIG_DRIVE, Boot, Booted, check_boot
from imagebuild.verify.firmware import Firmware
from imagebuild.verify.guest import CommandResult
from imagebuild.verify.results import Check, Outcome, Run
from imagebuild.verify.userdata import TroveUserData

#: Seconds that a boot may take until it has settled, on a host that builds at the same time.
LIMIT = 1500.0
#: Seconds that one question may take.
QUESTION = 180.0


@dataclass
class BootReport:
    """What a boot showed: the boot level's run and checks, and the answers to the questions."""

    run: Run
    checks: list[Check]
    console: str = ""
    answers: dict[str, CommandResult] = field(default_factory=dict)

    @property
    def facts(self) -> Mapping[str, Any]:
        return self.run.facts

    @property
    def seconds(self) -> dict[str, float]:
        """Milestone -> seconds since qemu's start."""
        return {m.name: m.seconds for m in self.run.milestones}

    def outcome(self, name: str) -> Outcome:
        """Of the check whose name ends so."""
        (found,) = [c for c in self.checks if c.name.endswith(f"/{name}")]
        return found.outcome

    def unmet(self) -> list[Check]:
        """The checks that did not pass."""
        good = (Outcome.PASSED, Outcome.SKIPPED)
        # A stall is the emulator's; the second start counts.
        return [
            c for c in self.checks if c.outcome not in good and not c.name.endswith("/emulator")
        ]

    def out(self, name: str) -> str:
        """The answer to a question, stripped. Raises VerifyError when its command failed."""
        result = self.answers[name]
        if result.rc != 0:
            raise VerifyError(f"{name} ended with status {result.rc}", detail=result.out)
        return result.out.strip()


def boot(
    image: Path,
    directory: Path,
    *,
    firmware: str,
    how: str = CONFIG_DRIVE,
    fmt: str = "qcow2",
    user_data: TroveUserData | None = None,
    questions: Mapping[str, str] | None = None,
    forwards: Mapping[str, int] | None = None,
    content: Mapping[str, Any] | None = None,
) -> BootReport:
    """Boot `image` once below `directory` (made), and ask the settled guest.

    `questions`: name -> text for root's `sh`, in their order. `forwards` as in `MachineSpec`.
    Raises VerifyError when the system does not settle.
    """
    answers: dict[str, CommandResult] = {}
    console = []

    def also(found: Booted) -> None:
        for name, text in (questions or {}).items():
            answers[name] = found.guest.run(text, QUESTION)
        console.append(found.console)

    run, checks = check_boot(
        Boot(
            image=image,
            how=how,
            logs=directory / "logs",
            scratch=directory / "scratch",
            accelerator=accel.choose(),
            firmware=Firmware(firmware),
            fmt=fmt,
            user_data=(user_data or TroveUserData()).render(),
            forwards=forwards or {},
            limits=LIMIT,
        ),
        content=content,
        also=also,
    )
    if not console:
        start = next(c for c in checks if c.name.endswith("/start"))
        raise VerifyError(start.what, where=run.logs, detail="\n".join(start.evidence))
    return BootReport(run, checks, console[0], answers)
