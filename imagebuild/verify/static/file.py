"""The image file itself: its format, whether it is whole, what its manifest says of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from imagebuild.digest import of_file
from imagebuild.host.run import need, run
from imagebuild.verify.static.question import Problem, Question, skipped
from imagebuild.verify.static.subject import Subject

#: Formats that this tool makes and reads. Nova and Glance know more.
FORMATS = ("qcow2", "raw")
_MIB = 1 << 20
#: What qemu-img's `check` ends with: corruptions found; only leaked clusters.
_CORRUPT, _LEAKS = 2, 3
#: A check of a damaged file must end, too.
_LIMIT = 120.0


def describe(image: Path) -> dict[str, Any]:
    """What qemu-img says of an image file. Raises BuildError when it cannot read it,
    PreflightError when it is not installed.
    """
    argv: list[str | Path] = [need("qemu-img", "qemu-utils"), "info", "--output=json", image]
    done = run(argv, what=f"qemu-img cannot read {image.name}", timeout=_LIMIT)
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def file_format(subject: Subject) -> Iterator[Problem]:
    """It is what its name and its manifest say."""
    info = subject.info or describe(subject.image)
    form = info.get("format")
    if form not in FORMATS:
        yield Problem(
            f"the image is a {form} file", hint=f"qemu-img convert -O qcow2 {subject.image.name} …",
            cause="format-unknown", fields={"format": str(form)},
        )  # fmt: skip
        return
    suffix = subject.image.suffix[1:]
    described = subject.described
    wanted = described.format if described else suffix
    if wanted in FORMATS and form != wanted:
        yield Problem(
            f"the image is not the {wanted} file that it is said to be",
            (f"qemu-img info: format {form}, {subject.image.stat().st_size} bytes",),
            "copy it anew; or its beginning is damaged", "image-damaged",
        )  # fmt: skip


def whole(subject: Subject) -> Iterator[Problem]:
    """qemu-img's check finds nothing, and no end is missing."""
    image = subject.image
    size = image.stat().st_size
    described = subject.described
    if described and size < described.size:
        yield Problem(
            "the image file ends too early",
            (f"{size} bytes of {described.size}",),
            "copy it anew", "image-truncated",
        )  # fmt: skip
    info = subject.info or describe(image)
    if info.get("format") != "qcow2":
        if size % 512:
            yield Problem("the raw image ends within a sector", (f"{size} bytes",),
                          "copy it anew", "image-truncated")  # fmt: skip
        return
    argv: list[str | Path] = [need("qemu-img", "qemu-utils"), "check", "-f", "qcow2"]
    done = run([*argv, "--output=json", image], check=False, timeout=_LIMIT)
    said = done.stderr.decode(errors="replace").splitlines()
    try:
        found: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        found = {}
    # The last cluster may be there in part.
    end = found.get("image-end-offset", 0) - int(info.get("cluster-size", 0))
    if end >= size and not (described and size < described.size):
        yield Problem(
            "the image file ends too early",
            (f"{size} bytes of at least {found['image-end-offset']}",),
            "copy it anew", "image-truncated",
        )  # fmt: skip
    if done.returncode == _LEAKS:
        # Space of the file that nothing uses: wasteful, harmless.
        return
    if done.returncode == _CORRUPT or found.get("corruptions"):
        count = found.get("corruptions", "some")
        yield Problem(f"the image file is corrupt in {count} places", tuple(said),
                      "copy it anew, or build it anew", "image-damaged")  # fmt: skip
    elif done.returncode:
        yield Problem("qemu-img cannot check the image file", tuple(said),
                      "copy it anew, or build it anew", "image-damaged")  # fmt: skip


def standalone(subject: Subject) -> Iterator[Problem]:
    """It needs no other file, and no key."""
    info = subject.info or describe(subject.image)
    if name := info.get("backing-filename"):
        yield Problem(
            "the image is only the difference to another file", (str(name),),
            f"qemu-img convert -O qcow2 {subject.image.name} …", "image-not-standalone",
        )  # fmt: skip
    data = info.get("format-specific", {}).get("data", {})
    if name := data.get("data-file"):
        yield Problem("the image's content is in another file", (str(name),),
                      f"qemu-img convert -O qcow2 {subject.image.name} …",
                      "image-not-standalone")  # fmt: skip
    if info.get("encrypted"):
        yield Problem("the image is encrypted", cause="image-not-standalone")
    if data.get("corrupt"):
        yield Problem("qemu has marked the image as corrupt", cause="image-damaged")


def digest(subject: Subject) -> Iterator[Problem]:
    """It has the bytes that were built."""
    described = subject.described
    if described is None or subject.artifact is None:
        yield skipped("there is no manifest that knows this file")
        return
    size = subject.image.stat().st_size
    if size != described.size:
        yield Problem("the image file has not the size that its manifest says",
                      (f"{size} bytes, the manifest says {described.size}",),
                      "copy it anew", "image-not-the-built-one")  # fmt: skip
        return
    have = of_file(subject.image)
    sums = subject.artifact.sums if subject.artifact.has("SHA256SUMS") else {}
    said = {"manifest.json": described.sha256}
    if other := sums.get(described.path.name):
        said["SHA256SUMS"] = other
    for name, wanted in said.items():
        if wanted != have:
            yield Problem(f"the image file has not the digest that {name} says",
                          (f"sha256 {have}", f"{name}: {wanted}"),
                          "copy it anew", "image-not-the-built-one")  # fmt: skip


def virtual_size(subject: Subject) -> Iterator[Problem]:
    """The disk has the size that was asked for."""
    described = subject.described
    if described is None or described.virtual_size is None:
        yield skipped("nothing says how large the disk is meant to be")
        return
    info = subject.info or describe(subject.image)
    if (have := info.get("virtual-size")) != described.virtual_size:
        yield Problem("the disk has not the size that its manifest says",
                      (f"{have} bytes, the manifest says {described.virtual_size}",),
                      cause="image-not-the-built-one")  # fmt: skip


def budget(subject: Subject) -> Iterator[Problem]:
    """The file is not larger than it may be."""
    limit = subject.options.max_size
    if limit is None:
        yield skipped("no limit was given")
        return
    size = subject.image.stat().st_size
    if size > limit:
        yield Problem(
            "the image file is larger than it may be",
            (f"{size / _MIB:.1f} MiB, the limit is {limit / _MIB:.1f} MiB",),
            "imagebuild inspect ARTIFACT --why-big tells what takes the space", "image-too-big",
        )  # fmt: skip


#: Only when these are well, the disk is looked at.
FIRST = (
    Question("static/file/format", "it is a disk image of the expected format", file_format),
    Question("static/file/whole", "the file is whole", whole),
    Question("static/file/standalone", "it needs no other file", standalone),
)
QUESTIONS = (
    *FIRST,
    Question("static/file/digest", "it has the bytes that were built", digest),
    Question("static/file/virtual-size", "the disk has the expected size", virtual_size),
    Question("static/file/budget", "it is within its size budget", budget),
)
