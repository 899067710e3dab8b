"""The image and what lies beside it are of one build."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from imagebuild.digest import of_file
from imagebuild.manifest import SUMS
from imagebuild.verify.static.question import Problem, Question, skipped, warning
from imagebuild.verify.static.subject import CONTENT, Subject

_STATUS = "/var/lib/dpkg/status"


def content(subject: Subject) -> Iterator[Problem]:
    """What the image says of itself is what its manifest says."""
    if subject.is_foreign:
        yield skipped(f"the image has no {CONTENT}")
        return
    if not subject.tree.exists(CONTENT):
        yield Problem("the image does not say what it is", (CONTENT,),
                      cause="image-not-the-built-one")  # fmt: skip
        return
    inside = subject.inside
    if inside is None:
        yield Problem("what the image says of itself cannot be read", (CONTENT,),
                      cause="image-unreadable")  # fmt: skip
        return
    if subject.artifact is None:
        yield skipped("there is no manifest to compare it with")
        return
    if differing := list(_differences(inside, subject.artifact.content)):
        yield Problem(
            "the image is not the one that its manifest describes", tuple(differing),
            "copy artifacts as whole directories", "image-not-the-built-one",
        )  # fmt: skip


def _differences(inside: Mapping[str, Any], manifest: Mapping[str, Any]) -> Iterator[str]:
    for key in sorted({*inside, *manifest}):
        one, other = inside.get(key), manifest.get(key)
        if one == other:
            continue
        if isinstance(one, dict) and isinstance(other, dict):
            names = sorted(n for n in {*one, *other} if one.get(n) != other.get(n))
            yield f"{key}: {', '.join(names[:6])}{' …' if len(names) > 6 else ''}"
        else:
            yield f"{key}: the image says {_short(one)}, the manifest {_short(other)}"


def _short(value: object) -> str:
    return json.dumps(value)[:80]


def files(subject: Subject) -> Iterator[Problem]:
    """The other files of the artifact are those that were written with the image."""
    artifact = subject.artifact
    if artifact is None or not artifact.has(SUMS):
        yield skipped("there is no SHA256SUMS")
        return
    images = {i.path.name for i in artifact.images}
    for name, wanted in artifact.sums.items():
        path = artifact.directory / name
        if name in images:
            continue
        if not path.is_file():
            yield warning(f"{name} is missing from the artifact", str(path))
        elif of_file(path) != wanted:
            yield Problem(f"{name} is not the file that SHA256SUMS means", (str(path),),
                          "copy the artifact anew", "image-not-the-built-one")  # fmt: skip


def packages(subject: Subject) -> Iterator[Problem]:
    """dpkg has finished with every package, and has those of the manifest."""
    text = subject.tree.text_or_empty(_STATUS)
    if not text:
        yield skipped("the image has no dpkg")
        return
    installed: dict[str, str] = {}
    for stanza in text.split("\n\n"):
        fields = dict(re.findall(r"(?m)^(Package|Status|Version): *(.*)$", stanza))
        name, status = fields.get("Package"), fields.get("Status", "")
        if name and status.endswith(" installed"):
            installed[name] = fields.get("Version", "")
        elif name and not status.endswith((" not-installed", " config-files")):
            yield Problem(f"the package {name} is half installed", (f"{name}: {status}",),
                          cause="package-half-installed", fields={"package": name})  # fmt: skip
    wanted = subject.content.get("packages")
    if isinstance(wanted, dict) and wanted != installed:
        names = sorted(n for n in {*wanted, *installed} if wanted.get(n) != installed.get(n))
        lines = tuple(
            f"{n}: {installed.get(n, 'missing')}, the manifest says {wanted.get(n, 'nothing')}"
            for n in names
        )
        yield Problem("the image has other packages than its manifest says", lines,
                      cause="image-not-the-built-one")  # fmt: skip


QUESTIONS = (
    Question("static/manifest/content", "the image is what its manifest says", content),
    Question("static/manifest/files", "the artifact's files are of one build", files),
    Question("static/manifest/packages", "the packages are whole and the manifest's", packages),
)
