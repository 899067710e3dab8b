"""The stages that make files of the root filesystem: disk and formats."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagebuild.config.words import Format
from imagebuild.host.run import run, sparse_copy_argv
from imagebuild.plan import ENVIRONMENT, StagePlan
from imagebuild.stages import formats, qcow2patch
from imagebuild.store.store import Kind
from imagebuild.workspace import Workspace

#: Names of the disk in the store's objects.
_RAW, _QCOW2 = "disk.raw", "disk.qcow2"


@dataclass
class DiskRun:
    """Disks grow: that of the base, the trunk with all that agents share, that of this image.

    `content` is the directory of the last layer.
    """

    ws: Workspace
    content: Path

    @property
    def spec(self) -> dict[str, Any]:
        """The disk, as disk.DiskSpec has it. Its ids are the same for all images of a base."""
        plan = self.ws.plan.stage("disk").part("base-disk")
        return {
            "size": plan.inputs["size"],
            "label": plan.inputs["label"],
            "arch": self.ws.inputs.arch,
            "epoch": plan.inputs["epoch"],
            "seed": plan.id,
        }

    @property
    def raw(self) -> Path:
        """The disk of this image."""
        return self.ws.scratch / "disk.raw"

    def ahead(self) -> None:
        """What of disk and formats needs no more than the base, or is in the store."""
        disk, formats_plan = self.ws.plan.stage("disk"), self.ws.plan.stage("formats")
        has_trunk = self.ws.find(disk.part("trunk"), Kind.TRUNK)
        if has_trunk:
            self.copy_disk(disk.part("trunk"), self.raw)
        else:
            self.ws.obtain(disk.part("base-disk"), Kind.TRUNK, self.make_base_disk)
        if not formats_plan.parts:
            return
        if not self.ws.find(formats_plan.part("qcow2"), Kind.QCOW2):
            self.ws.obtain(disk.part("base-disk"), Kind.TRUNK, self.make_base_disk)
            self.ws.obtain(formats_plan.part("base-qcow2"), Kind.QCOW2, self.make_base_qcow2)

    def make_base_disk(self, draft: Path) -> dict[str, Any]:
        """The disk of the base alone."""
        return self.ws.call(
            "disk",
            "make_disk",
            base=self.ws.path(self.ws.plan.stage("base")),
            raw=str(draft / _RAW),
            spec=self.spec,
            scratch_dir=str(self.ws.scratch),
            owner=self.ws.owner,
        )

    def make_base_qcow2(self, draft: Path) -> dict[str, Any]:
        """The same disk as qcow2."""
        source = self.ws.objects[self.ws.plan.stage("disk").part("base-disk").id].path / _RAW
        self.convert(source, draft / _QCOW2, Format.QCOW2)
        return {}

    def make_trunk(self, draft: Path) -> dict[str, Any]:
        """The base's disk with containers and the agent's environment."""
        raw = draft / _RAW
        self.copy_disk(self.ws.plan.stage("disk").part("base-disk"), raw)
        layers = [*self.ws.plan.containers, self.ws.plan.stage("agent").part(ENVIRONMENT)]
        self.add_layers([self.ws.path(p) for p in layers], raw)
        return {}

    def copy_disk(self, plan: StagePlan, raw: Path) -> None:
        """Copy a disk of the store, to be changed."""
        with self.ws.step("disk", "copy", plan.name):
            run(
                sparse_copy_argv(self.ws.objects[plan.id].path / _RAW, raw),
                what="cannot copy the disk",
                timeout=self.ws.seconds("disk"),
            )

    def add_layers(self, layers: Sequence[str], raw: Path) -> None:
        """Add layers to a disk."""
        self.ws.call(
            "disk", "add_layers",
            layers=list(layers), raw=str(raw), spec=self.spec, scratch_dir=str(self.ws.scratch),
        )  # fmt: skip

    def disk(self, described: Callable[[], object]) -> Path:
        """Assemble the raw disk in scratch: the trunk, and what this agent adds to it.

        `described` waits until the last layer is there.
        """
        plan, agent = self.ws.plan.stage("disk"), self.ws.plan.stage("agent")
        trunk = plan.part("trunk")
        with self.ws.stage(plan):
            if trunk.id not in self.ws.objects:
                draft = self.ws.draft(Kind.TRUNK)
                self.ws.put(trunk, Kind.TRUNK, draft, self.make_trunk(draft))
            if not self.raw.exists():
                self.copy_disk(trunk, self.raw)
            self.add_layers(
                [self.ws.path(p) for p in agent.parts if p.name != ENVIRONMENT], self.raw
            )
            described()
            self.add_layers([str(self.content)], self.raw)
        return self.raw

    def formats(self, raw: Path, whole: Path) -> list[Path]:
        """Convert the disk into the wanted formats, in the directory that becomes the artifact."""
        profile = self.ws.inputs.profile
        wanted = sorted(profile.formats, key=lambda f: f is Format.RAW)
        images = []
        with self.ws.stage(self.ws.plan.stage("formats")):
            for fmt in wanted:
                image = whole / f"{self.ws.plan.name}.{fmt}"
                if fmt is Format.QCOW2:
                    self.qcow2(raw, image)
                    images.append(image)
                    continue
                with self.ws.step("formats", "convert", str(fmt)):
                    # The raw disk itself, last, when a rename can bring it there.
                    if fmt is not Format.RAW or not _renamed(raw, image):
                        self.convert(raw, image, fmt)
                images.append(image)
            if self.ws.inputs.holds_secrets:
                for image in images:
                    image.chmod(0o600)
        return images

    def qcow2(self, raw: Path, image: Path) -> None:
        """The qcow2 of the trunk, with the clusters that this agent's disk has of its own."""
        disks, packed = self.ws.plan.stage("disk"), self.ws.plan.stage("formats")
        plan = packed.part("qcow2")
        if plan.id not in self.ws.objects:
            draft = self.ws.draft(Kind.QCOW2)
            with self.ws.step("formats", "convert", "trunk"):
                self.patch(
                    packed.part("base-qcow2"),
                    disks.part("base-disk"),
                    self.ws.objects[disks.part("trunk").id].path / _RAW,
                    draft / _QCOW2,
                )
            self.ws.put(plan, Kind.QCOW2, draft, {})
        with self.ws.step("formats", "convert", "qcow2"):
            self.patch(plan, disks.part("trunk"), raw, image)

    def patch(self, packed: StagePlan, before: StagePlan, after: Path, out: Path) -> None:
        """Make a qcow2 of `after` from that of another disk."""
        qcow2patch.patch(
            self.ws.objects[packed.id].path / _QCOW2,
            self.ws.objects[before.id].path / _RAW,
            after,
            out,
            self.ws.inputs.profile.compression,
            threads=os.cpu_count() or 1,
            work=self.ws.scratch,
            timeout=self.ws.seconds("formats"),
        )

    def convert(self, raw: Path, image: Path, fmt: Format) -> None:
        """Convert a whole disk."""
        formats.convert(
            raw,
            image,
            fmt,
            self.ws.inputs.profile.compression,
            threads=os.cpu_count() or 1,
            seed=self.ws.plan.stage("disk").id,
            epoch=self.ws.inputs.epoch,
            timeout=self.ws.seconds("formats"),
        )


def _renamed(source: Path, target: Path) -> bool:
    try:
        source.rename(target)
    except OSError as exc:
        if exc.errno == errno.EXDEV:
            return False
        raise
    return True
