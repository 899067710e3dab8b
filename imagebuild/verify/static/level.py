"""Ask everything that can be told of an image without a boot."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from imagebuild.errors import BuildError, ImagebuildError, UsageError
from imagebuild.manifest import ArtifactView
from imagebuild.verify.results import Check, Outcome
from imagebuild.verify.static import file
from imagebuild.verify.static.question import Question, answer, skipped, to_check
from imagebuild.verify.static.subject import Options, Subject

#: Of the image file, of its disk as raw bytes, of the files in its root filesystem.
OF_FILE: tuple[Question, ...] = (*file.QUESTIONS,)
OF_DISK: tuple[Question, ...] = ()
OF_TREE: tuple[Question, ...] = ()

#: Names of all checks, in the order in which `check_static` returns them.
NAMES: tuple[str, ...] = tuple(q.name for q in (*OF_FILE, *OF_DISK, *OF_TREE))


def check_static(
    image: Path,
    scratch: Path,
    *,
    artifact: ArtifactView | None = None,
    options: Options = Options(),
) -> list[Check]:
    """Everything that can be told of `image` (qcow2 or raw) at rest: one check per name of NAMES.

    `artifact` is what was built with it, when there is one. A raw copy of a qcow2 stands
    below the directory `scratch` meanwhile; it is sparse, and gone at the end. Nothing is
    written into the image, nothing of it is run. Raises UsageError when the file is not
    there or `options` make no sense; OSError speaks of this host.
    """
    raise NotImplementedError
