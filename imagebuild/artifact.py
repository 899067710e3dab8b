"""The artifact: a directory of finished files, placed whole or not at all."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import stat
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from imagebuild import components, inventory, sbom
from imagebuild.digest import of_file
from imagebuild.errors import ConfigError, PreflightError
from imagebuild.host.run import run, sparse_copy_argv
from imagebuild.host.space import existing
from imagebuild.inputs import Inputs
from imagebuild.plan import SCHEMA_VERSION, Plan
from imagebuild.stages import devmode

MANIFEST = "manifest.json"
SUMS = "SHA256SUMS"
#: What describes the images, beside them; SHA256SUMS covers it.
DESCRIPTIONS = (
    MANIFEST,
    "packages.txt",
    inventory.FILE_NAME,
    components.FILE_NAME,
    sbom.SPDX,
    sbom.CYCLONEDX,
)


def manifest(
    plan: Plan, inputs: Inputs, described: Mapping[str, Any], images: Sequence[Path]
) -> dict[str, Any]:
    """The text-free truth about an artifact, as manifest.json has it.

    `described` is what the agent stage says of its tree: its `content` and its `rootfs`.
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "build_id": plan.build_id,
        "name": plan.name,
        "profile": dict(plan.profile),
        "stages": [
            {
                "name": s.name,
                "id": s.id,
                "elements": list(s.elements),
                "inputs": dict(s.inputs),
                "parts": [
                    {
                        "name": p.name,
                        "id": p.id,
                        "elements": list(p.elements),
                        "inputs": dict(p.inputs),
                    }
                    for p in s.parts
                ],
            }
            for s in plan.stages
        ],
        "tools": dict(inputs.tools),
        "content": dict(described["content"]),
        "rootfs": dict(described["rootfs"]),
        "dev": devmode.describe(inputs.dev, inputs.profile),
        "outputs": [
            {
                "file": i.name,
                "format": i.suffix[1:],
                "size": i.stat().st_size,
                "sha256": of_file(i),
            }
            for i in images
        ],
    }


def write_description(directory: Path, document: Mapping[str, Any]) -> None:
    """Write manifest.json, packages.txt and SHA256SUMS beside the images, the inventory, the
    components and the SBOMs.
    """
    write_json(directory / MANIFEST, document)
    content = document["content"]
    lines = [f"{n} {v}" for n, v in content["packages"].items()]
    lines += [f"python:{n} {v}" for n, v in content["python_packages"].items()]
    (directory / "packages.txt").write_text("\n".join(lines) + "\n")
    sums = [f"{o['sha256']}  {o['file']}" for o in document["outputs"]]
    public = (n for n in (devmode.AUTHORIZED_KEYS, devmode.PUBLIC_KEY) if (directory / n).exists())
    for name in (*DESCRIPTIONS, *public):
        sums.append(f"{of_file(directory / name)}  {name}")
    (directory / SUMS).write_text("\n".join(sums) + "\n")


def standing(directory: Path, build_id: str) -> dict[str, Any] | None:
    """The manifest of the artifact at `directory` when it is of this build and whole: every
    file that SHA256SUMS names has its digest. None otherwise.
    """
    try:
        document: dict[str, Any] = json.loads((directory / MANIFEST).read_text())
        if document["build_id"] != build_id:
            return None
        lines = (directory / SUMS).read_text().splitlines()
        sums = {name: digest for digest, name in (x.split("  ", 1) for x in lines)}
        wanted = {o["file"]: o["sha256"] for o in document["outputs"]}
        if not {*wanted, *DESCRIPTIONS} <= sums.keys() or not wanted.items() <= sums.items():
            return None
        with ThreadPoolExecutor() as pool:
            found = pool.map(of_file, (directory / name for name in sums))
            return document if list(found) == list(sums.values()) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write one JSON document for people and programs."""
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def check_target(directory: Path) -> None:
    """See that the artifact can be placed at `directory`, before anything is done.

    Raises ConfigError when something else than an artifact is there, PreflightError when
    it cannot be written.
    """
    check_vacant(directory)
    check_writable(directory.parent)


def check_vacant(directory: Path) -> None:
    """Raise ConfigError when something else than an artifact is at `directory`."""
    if directory.exists() and not directory.is_dir():
        raise ConfigError("the artifact directory is a file", where=str(directory))
    if (
        directory.is_dir()
        and any(directory.iterdir())
        and not (directory / "manifest.json").exists()
    ):
        raise ConfigError(
            "the artifact directory holds something else",
            where=str(directory),
            hint="name an empty or new directory with --artifacts, or an older artifact to replace",
        )


def check_writable(directory: Path) -> None:
    """Raise PreflightError unless files can be made in `directory`, or it can be made."""
    there = existing(directory)
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise PreflightError(
            "cannot write there",
            where=str(directory),
            detail=f"{there} is not a directory that you may write in",
            hint="choose another place with -o, --artifacts or --images-dir",
        )


def place(whole: Path, directory: Path) -> None:
    """Rename the finished directory into place; an older artifact there is replaced.

    `whole` must be on the same filesystem. At no moment a half-written artifact can be
    seen under the final name, and, where the filesystem can exchange names, at none is
    there no artifact.
    """
    if directory.exists() and _exchange(whole, directory):
        shutil.rmtree(whole)
        return
    old = None
    if directory.exists():
        old = directory.with_name(f".{directory.name}.old-{os.getpid()}")
        directory.rename(old)
    try:
        whole.rename(directory)
    except OSError:
        if old:
            old.rename(directory)
        raise
    if old:
        shutil.rmtree(old)


def _exchange(one: Path, other: Path) -> bool:
    """Let two names change places in one step (renameat2(2)); False where that is unknown."""
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        renameat2 = libc.renameat2  # glibc 2.28
    except AttributeError:
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return bool(renameat2(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0)


def link_newest(directory: Path, link: str) -> None:
    """Point the stable name at the newest artifact, atomically."""
    path = directory.parent / link
    if path.exists() and not path.is_symlink():
        return  # somebody's own directory: not ours to replace
    fresh = path.with_name(f".{link}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(directory.name)
    fresh.replace(path)


def place_file(source: Path, partial: Path, target: Path) -> None:
    """Put a copy of an image at `target` (-o FILE), atomically, by way of `partial`.

    A copy and not a hard link: who boots the file writes into it.
    """
    # Before the first byte: an image may hold what is its owner's alone to read.
    if source.exists():
        partial.chmod(stat.S_IMODE(source.stat().st_mode))
    run(sparse_copy_argv(source, partial), what=f"cannot write {target}")
    partial.replace(target)
