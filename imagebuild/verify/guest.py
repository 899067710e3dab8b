"""Talk to a guest while it runs: a root shell on a virtio-serial port, or ssh where that is mute.

The shell needs neither network nor login. It is there as early as cloud-init's boothook.
"""

from __future__ import annotations

from dataclasses import dataclass

from imagebuild.errors import VerifyError
from imagebuild.verify.machine import Machine

#: Seconds that a command may take in a guest under KVM.
COMMAND_SECONDS = 60.0


class GuestSilent(VerifyError):
    """The guest does not answer on any channel."""


@dataclass(frozen=True)
class CommandResult:
    """What one command did in the guest; `out` holds both streams. 124: it took too long."""

    rc: int
    out: str


class Guest:
    """The guest of a running machine. Calls of several threads wait for each other."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def run(self, command: str, timeout: float | None = None) -> CommandResult:
        """Run text for `sh` as root. `timeout` in seconds of the guest; None: the default for
        the accelerator. Raises GuestSilent when there is no answer.
        """
        raise NotImplementedError

    def out(self, command: str, timeout: float | None = None) -> str:
        """Output of a command, stripped. Raises VerifyError when it fails."""
        raise NotImplementedError
