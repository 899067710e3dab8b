"""One build while it runs: its stages, in order.

What is around them (who may write where, what is left, what is placed) is in `build.py`.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagebuild import artifact, components, inventory, sbom
from imagebuild.diskrun import DiskRun
from imagebuild.events import StageFinished, StageStarted
from imagebuild.host.background import start
from imagebuild.host.run import run, sparse_copy_argv
from imagebuild.layerrun import LayerRun
from imagebuild.stages import devmode
from imagebuild.store.store import Kind
from imagebuild.workspace import Paths, Workspace

__all__ = ["Paths", "StageRun", "Workspace"]


@dataclass
class StageRun:
    """The stages of a build, from the first to the artifact."""

    ws: Workspace

    def __post_init__(self) -> None:
        self.layers = LayerRun(self.ws)

    def make(self, whole: Path) -> dict[str, Any]:
        """Run all stages; the images go to the new directory `whole`. Returns the manifest."""
        if done := self.restore(whole):
            return done
        ws, layers = self.ws, self.layers
        layers.base()
        with ws.aside() as other:
            ahead = start(DiskRun(other, layers.content).ahead)
            layers.agent()
            layers.containers()
            ahead.result()
            described = start(LayerRun(other).describe)
            disks = DiskRun(ws, layers.content)
            raw = disks.disk(described.result)
            if ws.inputs.dev:
                devmode.write_public(ws.inputs.dev, ws.inputs.profile, ws.plan.name, whole)
            lists = start(self.write_lists, whole)
            images = disks.formats(raw, whole)
            lists.result()
        document = artifact.manifest(ws.plan, ws.inputs, described.result(), images)
        # They name the images, with their digests.
        made_of = components.read(whole / components.FILE_NAME)
        sbom.write(whole, document, made_of, ws.inputs.epoch)
        artifact.write_description(whole, document)
        self.keep(whole)
        return document

    def write_lists(self, whole: Path) -> None:
        """What describes the filesystem, beside the images."""
        for name in (inventory.FILE_NAME, components.FILE_NAME):
            shutil.copyfile(self.layers.content / name, whole / name)
        sbom.prepare()

    def restore(self, whole: Path) -> dict[str, Any] | None:
        """Bring the images of an earlier build of the same back; its manifest, None without one."""
        plan = self.ws.plan.stage("formats")
        if self.ws.inputs.dev:
            return None  # its keys are its own: no second build is the same
        started = time.monotonic()
        found = self.ws.find(plan, Kind.FORMATS)
        if found is None:
            return None
        self.ws.emit(StageStarted(plan.name, plan.id))
        for name in found.payload:
            run(sparse_copy_argv(found.path / name, whole / name), what="cannot copy the image")
        document: dict[str, Any] = json.loads((whole / artifact.MANIFEST).read_text())
        self.ws.emit(StageFinished(plan.name, round(time.monotonic() - started, 2), reused=True))
        return document

    def keep(self, whole: Path) -> None:
        """Put a copy of the finished artifact into the store."""
        plan = self.ws.plan.stage("formats")
        if self.ws.inputs.dev:
            return
        draft = self.ws.draft(Kind.FORMATS)
        with self.ws.step("formats", "store", "copy"):
            for path in sorted(whole.iterdir()):
                run(sparse_copy_argv(path, draft / path.name), what="cannot copy the image")
            self.ws.put(plan, Kind.FORMATS, draft, {})
