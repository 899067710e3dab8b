"""`pipeline run --dry-run`: every command that would be run, as it is typed by hand."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from imagebuild.cli.terminal import Terminal
from imagebuild.pipeline import commands
from imagebuild.pipeline.cells import Cell, ImageCell, MirrorCell, Phase, Places
from imagebuild.pipeline.commands import Command

SCHEMA_VERSION = 1
#: What only a run knows.
ARTIFACT, IMAGE = "ARTIFACT", "IMAGE"


@dataclasses.dataclass(frozen=True)
class Typed:
    """A command of a phase; `when` says when it is not run."""

    cell: str
    phase: Phase
    command: Command
    when: str = ""

    @property
    def words(self) -> list[str]:
        """As it is typed."""
        return ["imagebuild", *(w for w in self.command.argv if w != "--json")]

    def to_json(self) -> dict[str, Any]:
        """Shape used by `--json`."""
        return {
            "cell": self.cell,
            "phase": self.phase.value,
            "target": self.command.target,
            "command": self.words,
            "when": self.when,
        }


def typed(cells: Sequence[Cell], phases: Sequence[Phase], places: Places) -> list[Typed]:
    """All commands of these phases (all when there is none), in order."""
    found = (t for c in cells for t in _of(c, places))
    return [t for t in found if not phases or t.phase in phases]


def _of(cell: Cell, places: Places) -> Iterator[Typed]:
    if isinstance(cell, MirrorCell):
        yield Typed(cell.id, Phase.MIRROR, commands.mirror(cell, places))
        return
    yield Typed(cell.id, Phase.BUILD, commands.build(cell, places))
    yield Typed(
        cell.id, Phase.VERIFY, commands.verify(cell, places, ARTIFACT),
        "unless verify.json says it of this very file",
    )  # fmt: skip
    yield from _publishing(cell, places)


def _publishing(cell: ImageCell, places: Places) -> Iterator[Typed]:
    for publish in cell.publish:
        yield Typed(cell.id, Phase.UPLOAD, commands.upload(cell, publish, places, ARTIFACT))
    for publish in cell.publish if cell.publish else ():
        for version in publish.versions if publish.promote else ():
            if version.image_tags and version.create:
                yield Typed(
                    cell.id, Phase.REGISTER,
                    commands.upload(cell, publish, places, ARTIFACT, candidate=False),
                    "where there is no such version, whose tags an image must have",
                )  # fmt: skip
            if version.create:
                yield Typed(
                    cell.id, Phase.REGISTER, commands.register(publish, version, IMAGE),
                    "where there is no such version",
                )  # fmt: skip
    for publish in cell.publish:
        for version in publish.versions if publish.promote else ():
            yield Typed(cell.id, Phase.PROMOTE, commands.promote(publish, version, IMAGE))
    for publish in cell.publish:
        for datastore in commands.datastores(publish) if publish.retire else ():
            yield Typed(cell.id, Phase.RETIRE, commands.retire(publish, datastore))


def show(terminal: Terminal, found: Sequence[Typed]) -> None:
    """The commands as data, what is to be known of them as comments of the shell."""
    last = ""
    for one in found:
        if one.cell != last:
            terminal.data(f"# {one.cell}")
            last = one.cell
        when = f"  # {one.when}" if one.when else ""
        terminal.data(f"{shlex.join(one.words)}{when}")
    if any(ARTIFACT in t.words for t in found):
        terminal.info(f"{ARTIFACT} is what `build` says, {IMAGE} the id that `upload` says")


def document(pipeline: str, found: Sequence[Typed]) -> dict[str, Any]:
    """The document of --json."""
    return {
        "schema_version": SCHEMA_VERSION,
        "pipeline": pipeline,
        "dry_run": True,
        "commands": [t.to_json() for t in found],
    }
