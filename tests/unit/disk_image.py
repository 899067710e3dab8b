"""Small disk images with a root filesystem of given files, made without root."""

from __future__ import annotations

import struct
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from imagebuild.host.run import need, run
from imagebuild.stages import disk, gpt

MIB = 1 << 20
SIZE = 24 * MIB


@dataclass(frozen=True)
class File:
    """What stands at a path: a file with `content`, a link when `link` is set, a directory
    when `directory` is, a device node ("c 1 3") when `device` is.

    `mode` is the permission bits; 0 stands for 0644, or 0755 of a directory.
    """

    content: bytes = b""
    mode: int = 0
    uid: int = 0
    gid: int = 0
    link: str = ""
    directory: bool = False
    device: str = ""
    xattrs: Mapping[str, bytes] = field(default_factory=dict)


def text(content: str, mode: int = 0, uid: int = 0, gid: int = 0) -> File:
    """A file with that text."""
    return File(content.encode(), mode, uid, gid)


def directory(mode: int = 0, uid: int = 0, gid: int = 0) -> File:
    """A directory with that mode and owner."""
    return File(mode=mode, uid=uid, gid=gid, directory=True)


def capability(bits: int) -> bytes:
    """A `security.capability` attribute, revision 2, permitted and effective."""
    return struct.pack("<5I", 0x02000001, bits & 0xFFFFFFFF, 0, bits >> 32, 0)


def make_disk(
    work: Path, files: Mapping[str, File], *, commands: Sequence[str] = (), block: int = 4096
) -> Path:
    """A raw disk image: a GPT, and one ext4 partition with `files` and what debugfs's
    `commands` do to it. Directories on the way belong to root.
    """
    work.mkdir(parents=True, exist_ok=True)
    tree, raw = work / "tree", work / "disk.raw"
    tree.mkdir()
    script: list[str] = []
    for path, file in sorted(files.items()):
        place = tree / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        if file.link:
            place.symlink_to(file.link)
        elif file.directory:
            place.mkdir(exist_ok=True)
        elif not file.device:
            place.write_bytes(file.content)
    for place in [tree, *sorted(tree.rglob("*"))]:
        path = "/" + str(place.relative_to(tree)) if place != tree else "/"
        file = files.get(path, File(directory=place.is_dir()))
        kind, usual = (0o040000, 0o755) if file.directory else (0o100000, 0o644)
        script += [f'sif "{path}" uid {file.uid}', f'sif "{path}" gid {file.gid}']
        if not file.link:
            script.append(f'sif "{path}" mode 0{kind | (file.mode or usual):o}')
        for number, (name, value) in enumerate(file.xattrs.items()):
            source = work / f"xattr-{len(script)}-{number}"
            source.write_bytes(value)
            script.append(f'ea_set -f {source} "{path}" {name}')
    for path, file in files.items():
        if file.device:
            above, name = path.rsplit("/", 1)
            script += [f"cd {above}", f"mknod {name} {file.device}", "cd /"]
            script.append(f"sif {path} mode 0{0o020000 | (file.mode or 0o600):o}")
    with raw.open("wb") as file_:
        file_.truncate(SIZE + 2 * MIB)
    part = gpt.Partition(
        "root", disk.TYPE_ROOT["amd64"], uuid.UUID(int=2), 2048, 2048 + SIZE // 512 - 1
    )
    gpt.write(raw, uuid.UUID(int=1), [part])
    run(
        [need("mke2fs"), "-q", "-F", "-t", "ext4", "-b", str(block), "-E", f"offset={MIB}",
         "-d", tree, raw, f"{SIZE // 1024}k"]
    )  # fmt: skip
    debugfs(raw, [*script, *commands])
    return raw


def debugfs(raw: Path, commands: Sequence[str]) -> str:
    """Run debugfs commands on the filesystem of `make_disk`; returns what they print."""
    done = run(
        [need("debugfs"), "-w", "-f", "-", f"{raw}?offset={MIB}"],
        input="\n".join([*commands, ""]).encode(errors="surrogateescape"),
    )
    complaints = done.stderr.decode().splitlines()[1:]
    assert not complaints, complaints
    return done.stdout.decode(errors="surrogateescape")
