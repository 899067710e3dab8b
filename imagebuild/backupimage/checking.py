"""Whether a backup image can do its work: run in it what a guest would run.

A build that installs nothing can pass (install.sh does for a name that it does not know), and
nobody would notice before the first backup.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from imagebuild.backupimage.builder import Builder
from imagebuild.backupimage.datastores import Datastore, Tool, fits
from imagebuild.errors import VerifyError

#: How the guest agent calls it (trove/guestagent/datastore/service.py, create_backup).
_CODE = ("python3", "main.py")
_LINES = 10
#: Exit codes of a shell from which on a program did not run, or did not end by itself.
_CANNOT_RUN = 126


@dataclass(frozen=True)
class Found:
    """A tool that is in the image; `version` is "" where it does not say one."""

    tool: str
    version: str

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {"tool": self.tool, "version": self.version or None}


def check(
    builder: Builder, datastore: Datastore, tools: tuple[Tool, ...], version: str
) -> tuple[Found, ...]:
    """The tools, with their versions. Raises VerifyError when one is missing, or does not fit
    the datastore version, or Trove's own code does not start.
    """
    found = tuple(_find(builder, datastore, tool, version) for tool in tools)
    ran = builder.run([*_CODE, "--help"])
    if ran.status or "--backup-id" not in ran.output:
        raise VerifyError(
            "Trove's code does not start in the image",
            where=" ".join([*_CODE, "--help"]),
            detail=_end(ran.output) or f"exit status {ran.status}",
            hint="nothing was pushed; are the packages of requirements.txt all there?",
        )
    return found


def _find(builder: Builder, datastore: Datastore, tool: Tool, version: str) -> Found:
    said = []
    for name in tool.names:
        ran = builder.run([name, "--version"])
        # What is missing is told by dumb-init, or by the runtime. Not every tool knows
        # --version: then it says so, and that it is there is what matters.
        if 0 <= ran.status < _CANNOT_RUN and not _is_absent(ran.output):
            known = fits(tool, ran.output, version)
            if known is None:
                raise VerifyError(
                    f"{name} in the image is not the one for {datastore.name} {version}",
                    where=f"{name} --version",
                    detail=_end(ran.output),
                    hint="nothing was pushed; take a base image, or a source of packages, that has "
                    "the right one",
                )
            return Found(name, known)
        said.append(f"{name}: {_end(ran.output) or f'exit status {ran.status}'}")
    raise VerifyError(
        f"the image does not have what backups of {datastore.name} need: "
        + " or ".join(tool.names),
        where=f"{tool.names[0]} --version",
        detail="\n".join(said),
        hint="nothing was pushed; what did install.sh do? The log of the build tells",
    )


def _is_absent(output: str) -> bool:
    words = ("No such file", "not found", "no such file")
    return any(word in output for word in words)


def _end(output: str) -> str:
    return "\n".join(output.strip().splitlines()[-_LINES:])
