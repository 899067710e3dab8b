"""Runs debugfs, which changes an ext4 inside a file: no mount, no root.

What its parser takes is known from e2fsprogs: `source_file` in debugfs/debugfs.c reads a
script line by line, `ss_parse` in lib/ss/parse.c splits a line into words.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from imagebuild.errors import BuildError
from imagebuild.host.run import base_env, need, run

#: A longer line of a script would be split (BUFSIZ of the C library).
_LONGEST = 8000


def quote(word: str) -> str:
    """The word as an argument of a command, whatever is in it."""
    return '"' + word.replace('"', '""') + '"'


def change(
    image: Path, offset: int, commands: Iterable[str], *, epoch: int, work: Path, what: str
) -> None:
    """Run commands on the filesystem at `offset` of `image`, at the time `epoch`.

    A command that no script can hold, since a line break is in it, runs in a process of its
    own, where debugfs is in the root directory. Raises BuildError, its text `what`, when
    any command complains; those after it have run nevertheless.
    """
    script = work / "script.debugfs"
    tool = need("debugfs", "e2fsprogs")
    for plain, lines in _batches(commands):
        argv: list[str | Path] = [tool, "-w"]
        if plain:
            script.write_bytes(os.fsencode("".join(line + "\n" for line in lines)))
            argv += ["-f", script]
        else:
            argv += ["-R", lines[0]]
        done = run([*argv, f"{image}?offset={offset}"], env=_env(epoch))
        # The status is 0 whatever the commands did; stderr has the version alone.
        complaints = done.stderr.decode(errors="replace").strip().splitlines()[1:]
        if complaints:
            raise BuildError(what, where=str(image), detail="\n".join(complaints[-15:]))


def is_plain(command: str) -> bool:
    """Can a line of a script hold the command?"""
    return not ("\n" in command or "\r" in command or len(os.fsencode(command)) > _LONGEST)


def _batches(commands: Iterable[str]) -> Iterator[tuple[bool, list[str]]]:
    """Commands in their order: (true, those of one script) or (false, a single one)."""
    script: list[str] = []
    for command in commands:
        if is_plain(command):
            script.append(command)
            continue
        if script:
            yield True, script
        yield False, [command]
        script = []
    if script:
        yield True, script


def _env(epoch: int) -> dict[str, str]:
    # libext2fs takes 0 for "not set".
    return base_env(E2FSPROGS_FAKE_TIME=str(max(epoch, 1)))
