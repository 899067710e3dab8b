"""What can go wrong, and the exit code that says so.

    ImagebuildError                1  build or operation failed
     ├── BuildError                1  a stage, element or hook failed
     ├── UsageError                2  the command line makes no sense
     ├── ConfigError               3  profile or other configuration is invalid
     ├── PreflightError            4  the host, credentials or quota are not ready
     ├── VerifyError               5  the image is bad
     ├── PublishError              6  publishing or mirroring failed, or partly failed
     ├── PolicyError               7  a gate said no
     ├── TemporaryError           75  worth a retry: lock held, mirror down
     └── Interrupted         130/143  SIGINT / SIGTERM

Every error says what failed, where, why (`detail`) and what to try (`hint`).
Only `imagebuild.cli` turns one into text and an exit code.
"""

from __future__ import annotations

import dataclasses
import enum
import signal
from dataclasses import dataclass
from typing import Any


class ExitCode(enum.IntEnum):
    """The one exit-code table; README.md documents it."""

    OK = 0
    FAILED = 1
    USAGE = 2
    CONFIG = 3
    PREFLIGHT = 4
    VERIFY = 5
    PUBLISH = 6
    POLICY = 7
    TEMPORARY = 75
    INTERRUPTED = 130
    TERMINATED = 143


@dataclass(frozen=True)
class Cause:
    """What the pattern book says of an error (see imagebuild/explain).

    `id` names the entry, `line` is the line of the log that it goes by, `title` the cause in
    one sentence, `text` in some more; `advice` is one thing to try each.
    """

    id: str
    title: str
    text: str
    advice: tuple[str, ...]
    line: str


class ImagebuildError(Exception):
    """Base of all errors that a user is meant to read.

    `what` is one sentence; `where` names the file, URL, element or key; `detail`
    holds the lines that show why; `hint` says what to try. `cause`, where it is known, is
    what the lines mean.
    """

    exit_code = ExitCode.FAILED
    cause: Cause | None = None

    def __init__(self, what: str, *, where: str = "", detail: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.detail = detail
        self.hint = hint

    def __str__(self) -> str:
        """All of it, for logs and tracebacks; the command line renders the parts itself."""
        return "\n".join(filter(None, (self.what, self.where, self.detail)))

    def to_json(self) -> dict[str, Any]:
        """Shape used by `--json` and between the tool and its privileged worker."""
        document = {
            "error": type(self).__name__,
            "exit_code": int(self.exit_code),
            "what": self.what,
            "where": self.where,
            "detail": self.detail,
            "hint": self.hint,
        }
        if self.cause:
            document["cause"] = dataclasses.asdict(self.cause)
        return document


class BuildError(ImagebuildError):
    """A stage of a build failed."""


class UsageError(ImagebuildError):
    """The command line is wrong in a way that the parser cannot see."""

    exit_code = ExitCode.USAGE


class ConfigError(ImagebuildError):
    """A profile or other configuration is invalid."""

    exit_code = ExitCode.CONFIG


class PreflightError(ImagebuildError):
    """The host cannot do what is asked: a tool, permission, space or credential is missing."""

    exit_code = ExitCode.PREFLIGHT


class VerifyError(ImagebuildError):
    """The image did not pass verification."""

    exit_code = ExitCode.VERIFY


class PublishError(ImagebuildError):
    """Publishing or mirroring failed."""

    exit_code = ExitCode.PUBLISH


class PolicyError(ImagebuildError):
    """A policy gate refuses what is asked."""

    exit_code = ExitCode.POLICY


class TemporaryError(ImagebuildError):
    """Something outside is not available right now; the same call may work later."""

    exit_code = ExitCode.TEMPORARY


class Interrupted(ImagebuildError):  # noqa: N818 - it is not a failure of ours
    """SIGINT or SIGTERM arrived; everything started has been ended."""

    def __init__(self, signum: int) -> None:
        super().__init__("interrupted" if signum == signal.SIGINT else "terminated")
        self.exit_code = ExitCode.INTERRUPTED if signum == signal.SIGINT else ExitCode.TERMINATED


def from_json(data: dict[str, Any]) -> ImagebuildError:
    """Rebuild an error that the privileged worker reported (see `to_json`)."""
    classes = {c.__name__: c for c in _subclasses(ImagebuildError)}
    cls = classes.get(data["error"], ImagebuildError)
    if cls is Interrupted:
        code = int(data["exit_code"])
        return Interrupted(signal.SIGINT if code == ExitCode.INTERRUPTED else signal.SIGTERM)
    error = cls(data["what"], where=data["where"], detail=data["detail"], hint=data["hint"])
    if cause := data.get("cause"):
        error.cause = Cause(**cause | {"advice": tuple(cause["advice"])})
    return error


def _subclasses(cls: type[ImagebuildError]) -> list[type[ImagebuildError]]:
    found = [cls]
    for sub in cls.__subclasses__():
        found += _subclasses(sub)
    return found
