"""Ask everything that can be told of an image without a boot."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from imagebuild.agent.series import get_series
from imagebuild.errors import BuildError, ImagebuildError, Interrupted, PreflightError, UsageError
from imagebuild.host.run import need, run
from imagebuild.manifest import ArtifactView
from imagebuild.verify.ext4 import UnsupportedError
from imagebuild.verify.layout import read_layout
from imagebuild.verify.results import Check, Outcome
from imagebuild.verify.safety import LEAST_SECRET
from imagebuild.verify.static import (
    agent,
    agentconfig,
    bootloader,
    containers,
    datasources,
    disk,
    file,
    fstab,
    kernel,
    manifest,
    network,
    safety,
    units,
    users,
)
from imagebuild.verify.static.question import (
    DAMAGE,
    Problem,
    Question,
    answer,
    skipped,
    to_check,
    unknown,
)
from imagebuild.verify.static.subject import Options, Subject
from imagebuild.verify.tree import Tree

_PARTITIONS = disk.PARTITIONS
_READABLE = Question(
    "static/filesystem/readable", "the root filesystem can be read", lambda _: iter(())
)

#: What is asked of the image file.
OF_FILE: tuple[Question, ...] = file.QUESTIONS
#: What is asked of the files on it, and of the disk that they are on.
OF_TREE: tuple[Question, ...] = (
    *disk.QUESTIONS,
    *bootloader.QUESTIONS,
    *kernel.QUESTIONS,
    *fstab.QUESTIONS,
    *units.QUESTIONS,
    *users.QUESTIONS,
    *datasources.QUESTIONS,
    *network.QUESTIONS,
    *agent.QUESTIONS,
    *agentconfig.QUESTIONS,
    *manifest.QUESTIONS,
    *containers.QUESTIONS,
    *safety.QUESTIONS,
)

#: Nothing is wanted but a sound image.
NOTHING_MORE = Options()

#: Names of all checks, in the order in which `check_static` returns them.
NAMES: tuple[str, ...] = tuple(q.name for q in (*OF_FILE, _PARTITIONS, _READABLE, *OF_TREE))


def check_static(
    image: Path,
    scratch: Path,
    *,
    artifact: ArtifactView | None = None,
    options: Options = NOTHING_MORE,
) -> list[Check]:
    """Everything that can be told of `image` (qcow2 or raw) at rest: one check per name of NAMES.

    `artifact` is what was built with it, when there is one. A raw copy of a qcow2 stands
    below the directory `scratch` meanwhile; it is sparse, and gone at the end. Nothing is
    written into the image, nothing of it is run. Where a check has failed that others need,
    those are SKIPPED. Raises UsageError when the file is not there or `options` make no
    sense, ConfigError for a series that does not exist; OSError speaks of this host.
    """
    _check_arguments(image, options)
    with tempfile.TemporaryDirectory(prefix="static-", dir=scratch) as directory:
        subject = Subject(image, Path(directory), options, artifact)
        return list(_checks(subject))


def _check_arguments(image: Path, options: Options) -> None:
    if not image.is_file():
        raise UsageError("there is no such image file", where=str(image))
    if options.series is not None:
        get_series(options.series)
    for name, value in options.secrets.items():
        if len(value) < LEAST_SECRET:
            raise UsageError(
                f"{name} is too short to be searched for",
                detail=f"a value of less than {LEAST_SECRET} bytes turns up by chance",
                hint="leave it out",
            )


def _checks(subject: Subject) -> Iterator[Check]:
    try:
        subject = dataclasses.replace(subject, info=file.describe(subject.image))
    except (PreflightError, Interrupted):
        raise
    except (ImagebuildError, ValueError) as exc:
        what = exc.what if isinstance(exc, ImagebuildError) else "qemu-img says nothing of use"
        detail = exc.detail.splitlines() if isinstance(exc, ImagebuildError) else [str(exc)]
        first, *rest = OF_FILE
        yield to_check(first, [Problem(what, tuple(detail), "copy it anew", "image-damaged")], None)
        yield from _skip([*rest, _PARTITIONS, _READABLE, *OF_TREE], first.name)
        return
    with ThreadPoolExecutor(max_workers=len(OF_FILE)) as pool:
        # Their work is that of other programs and of hashing: it runs beside the copying.
        asked = {q.name: pool.submit(answer, q, subject) for q in OF_FILE}
        standing = asked["static/file/standalone"].result().outcome is not Outcome.FAILED
        copied = pool.submit(_raw_copy, subject) if standing else None
        yield from (a.result() for a in asked.values())
        bad = next(
            (q.name for q in file.FIRST if asked[q.name].result().outcome is Outcome.FAILED), ""
        )
        if bad or copied is None:
            yield from _skip([_PARTITIONS, _READABLE, *OF_TREE], bad)
            return
        yield from _of_disk(subject, copied)


def _raw_copy(subject: Subject) -> Path:
    """The disk as raw bytes: the image itself, or a sparse copy."""
    if subject.info.get("format") != "qcow2":
        return subject.image
    raw = subject.scratch / "disk.raw"
    argv: list[str | Path] = [need("qemu-img", "qemu-utils"), "convert", "-f", "qcow2"]
    try:
        run(
            [*argv, "-O", "raw", subject.image, raw],
            what=f"qemu-img cannot read {subject.image.name}",
        )
    except BuildError as exc:
        if "No space left" not in exc.detail:
            raise
        raise PreflightError(
            "there is no room for a raw copy of the disk", where=str(subject.scratch),
            detail=exc.detail, hint="it takes as much as the image has content",
        ) from exc  # fmt: skip
    return raw


def _of_disk(subject: Subject, copied: Future[Path]) -> Iterator[Check]:
    rest = [_READABLE, *OF_TREE]
    cause = "image-damaged"
    try:
        subject = dataclasses.replace(subject, raw_disk=copied.result())
        cause = "partition-table-damaged"
        layout = read_layout(subject.raw)
    except Interrupted:
        raise
    except (ImagebuildError, *DAMAGE) as exc:
        yield to_check(_PARTITIONS, [_problem(exc, cause, subject)], None)
        yield from _skip(rest, _PARTITIONS.name)
        return
    subject = dataclasses.replace(subject, open_layout=layout)
    yield answer(_PARTITIONS, subject)
    try:
        tree = Tree(subject.raw, layout.partitions, layout.root)
    except Interrupted:
        raise
    except (ImagebuildError, *DAMAGE) as exc:
        yield to_check(_READABLE, [_problem(exc, "filesystem-damaged", subject)], None)
        yield from _skip(OF_TREE, _READABLE.name)
        return
    with _closing(tree):
        try:
            # The listing is made when it is first asked for: here, where its failure is one.
            tree.exists("/")
        except Interrupted:
            raise
        except (ImagebuildError, *DAMAGE) as exc:
            yield to_check(_READABLE, [_problem(exc, "filesystem-damaged", subject)], None)
            yield from _skip(OF_TREE, _READABLE.name)
            return
        yield to_check(_READABLE, [], None)
        subject = dataclasses.replace(subject, open_tree=tree)
        with ThreadPoolExecutor(max_workers=1) as pool:
            beside = {q.name: pool.submit(answer, q, subject) for q in OF_TREE if q in disk.SLOW}
            told = {q.name: answer(q, subject) for q in OF_TREE if q not in disk.SLOW}
            for question in OF_TREE:
                done = beside.get(question.name)
                yield done.result() if done else told[question.name]


@contextmanager
def _closing(tree: Tree) -> Iterator[None]:
    try:
        yield
    finally:
        tree.close()


def _problem(exc: Exception, cause: str, subject: Subject) -> Problem:
    if isinstance(exc, PreflightError):
        return Problem(exc.what, (exc.detail,), exc.hint, outcome=Outcome.UNKNOWN)
    # Our own builds are never like that; what others make may be sound nevertheless.
    if isinstance(exc, UnsupportedError) and not subject.artifact and "journal" not in exc.detail:
        return unknown(f"this version does not read this disk: {exc.what}", exc.detail)
    if isinstance(exc, ImagebuildError):
        return Problem(exc.what, tuple(exc.detail.splitlines()), "build the image anew", cause)
    return Problem("what is on the disk cannot be read", (f"{type(exc).__name__}: {exc}",),
                   "build the image anew", cause)  # fmt: skip


def _skip(questions: Iterable[Question], after: str) -> Iterator[Check]:
    why = f"not asked, since {after} has failed" if after else "not asked"
    return (to_check(q, [skipped(why)], None) for q in questions)
