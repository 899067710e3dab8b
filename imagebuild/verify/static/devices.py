"""By which names the partitions of the disk can be mounted."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from imagebuild.host.run import run, which
from imagebuild.verify.static.subject import Subject

_LIMIT = 60.0


@dataclass(frozen=True)
class Device:
    """A partition: its names as fstab(5) has them (`LABEL=…`), its filesystem if known."""

    names: tuple[str, ...]
    is_root: bool
    kind: str = ""

    def answers_to(self, name: str) -> bool:
        """Is it meant by `LABEL=…`, `UUID=…`, `PARTLABEL=…`, `PARTUUID=…`?"""
        tag, _, value = name.partition("=")
        wanted = (tag.upper(), value.strip('"').replace("\\x20", " "))
        for own in self.names:
            have_tag, _, have = own.partition("=")
            same = have == wanted[1] if "LABEL" in have_tag else have.lower() == wanted[1].lower()
            if have_tag == wanted[0] and same:
                return True
        return False


def devices(subject: Subject) -> list[Device]:
    """All partitions. Labels of filesystems other than the root are those that blkid tells."""
    found = []
    for part in subject.layout.partitions:
        is_root = part is subject.layout.root
        names, kind = [], ""
        if is_root:
            block = subject.superblock
            names, kind = [f"UUID={block.uuid}"], "ext4"
            if block.label:
                names.insert(0, f"LABEL={block.label}")
        else:
            said = _blkid(subject, part.offset, part.size)
            kind = said.get("TYPE", "")
            names = [f"{k}={said[k]}" for k in ("LABEL", "UUID") if said.get(k)]
        if part.unique_guid != uuid.UUID(int=0):
            names.append(f"PARTUUID={part.unique_guid}")
        if part.name:
            names.append(f"PARTLABEL={part.name}")
        found.append(Device(tuple(names), is_root, kind))
    return found


def _blkid(subject: Subject, offset: int, size: int) -> dict[str, str]:
    tool = which("blkid")
    if tool is None:
        return {}
    argv = [tool, "--probe", "--offset", str(offset), "--size", str(size), "-o", "export"]
    done = run([*argv, subject.raw], check=False, timeout=_LIMIT)
    pairs = (line.partition("=") for line in done.stdout.decode(errors="replace").splitlines())
    return {key: value for key, _, value in pairs}
