"""What both builders are: programs that make an image of a context, here with one face."""

from __future__ import annotations

import platform
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from imagebuild.backupimage.image import Built
from imagebuild.errors import BuildError, PreflightError
from imagebuild.host.preflight import MACHINES
from imagebuild.redaction import redact
from imagebuild.registry.pull import PulledImage
from imagebuild.stages.imagetar import LocalImage, docker_stream

_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b[@-_]|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_BINFMT = Path("/proc/sys/fs/binfmt_misc")
#: Lines of a failed build that its error shows.
_SHOWN = 20


@dataclass(frozen=True)
class Job:
    """One build. `directory` is scratch space of its own, whose name is nobody else's.

    `dockerfile` makes the text from the name of the base image and lines right after FROM;
    `helper` is the directory that is lent (see redirects.py). `arch` is docker's word.
    `layout` has the blobs of `base`. `deadline` is of `time.monotonic()`.
    """

    directory: Path
    context: Path
    helper: Path
    dockerfile: Callable[[str, Sequence[str]], str]
    arguments: Mapping[str, str]
    base: PulledImage
    layout: Path
    arch: str
    deadline: float


@dataclass(frozen=True)
class Ran:
    """A program that was run in the image: its exit status, and all that it said."""

    status: int
    output: str


class Builder(Protocol):
    """Makes one image. `close` removes all that it has left, whatever has happened."""

    name: str

    def build(self, job: Job, log: Log) -> None:
        """Build it. Raises BuildError with the last lines of the log."""

    def run(self, command: Sequence[str]) -> Ran:
        """Run a command in what was built, as a container would: by its entrypoint."""

    def export(self) -> Built:
        """What was built, on disk."""

    def close(self) -> None:
        """Remove it, and what it was made of."""


class Log:
    """The lines that a build says: cleaned, without secrets, passed on and kept.

    What a builder says may come in pieces, and with the codes of a terminal.
    """

    def __init__(
        self, path: Path, secrets: Sequence[str], say: Callable[[str], None], hint: str = ""
    ) -> None:
        self.path = path
        self._hint = hint
        self.lines: list[str] = []
        self._secrets = secrets
        self._say = say
        self._rest = ""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("w", encoding="utf-8")

    def write(self, text: str) -> None:
        """Take a piece of output."""
        *whole, self._rest = (self._rest + text).replace("\r\n", "\n").split("\n")
        for line in whole:
            self._line(line)

    def flush(self) -> None:
        """Take what has come as a line."""
        rest, self._rest = self._rest, ""
        if rest:
            self._line(rest)

    def close(self) -> None:
        """End the file."""
        self.flush()
        self._file.close()

    def clean(self, text: str) -> str:
        """A text as it may be shown."""
        text = _ANSI.sub("", text.rpartition("\r")[2] or text.rstrip("\r"))
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return redact(text)

    def failure(self, what: str, more: str = "") -> BuildError:
        """The error for a build that failed here; `more` stands below the last lines."""
        self.flush()
        return BuildError(
            what,
            where=str(self.path),
            detail="\n".join([*self.lines[-_SHOWN:], *filter(None, [self.clean(more)])]),
            hint=self._hint,
        )

    def _line(self, line: str) -> None:
        line = self.clean(line).rstrip()
        if not line:
            return
        self.lines.append(line)
        self._file.write(line + "\n")
        self._file.flush()
        self._say(line)


def host_arch() -> str:
    """Docker's word for this host's architecture."""
    machine = platform.machine()
    return next((a for a, m in MACHINES.items() if m == machine), machine)


def check_arch(arch: str) -> None:
    """Raise PreflightError when this host cannot run programs of an architecture."""
    if arch == host_arch():
        return
    machine = MACHINES.get(arch, arch)
    if not (_BINFMT / f"qemu-{machine}").exists():
        raise PreflightError(
            f"this host cannot run programs of {arch}",
            where=f"{_BINFMT}/qemu-{machine}",
            detail=f"it is {host_arch()}, and has no emulator of {machine} set up",
            hint="apt-get install qemu-user-static binfmt-support; or build on such a host",
        )


def left(deadline: float) -> float:
    """Seconds until then. Raises BuildError when it is over."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise out_of_time()
    return seconds


def out_of_time() -> BuildError:
    """The error for a build that takes too long."""
    return BuildError(
        "the build took longer than its limit",
        hint="--timeout TIME raises it; a mirror near by (--apt-mirror, --pip-index) saves time",
    )


def base_stream(job: Job, name: str) -> Iterator[bytes]:
    """The base image in the form that both builders load; `name` is what they then call it."""
    found = job.base.resolved
    image = LocalImage(
        name, str(job.layout), found.manifest, found.config, found.layers, job.base.image.diff_ids
    )
    return docker_stream(image, job.directory)
