"""The containers stage: an image's own docker takes a container image into its store.

docker and containerd write their stores themselves, so that they fit whatever version the
image has; what is not of the store, or not the same in every build, is removed afterwards.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from imagebuild.errors import BuildError, from_json
from imagebuild.host.run import need, run
from imagebuild.stages import dockerstore, engine
from imagebuild.stages.imagetar import LocalImage

_START = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); "
    "from imagebuild.stages.engine import serve; serve()"
)


def load(
    lower: Sequence[Path],
    before: Path | None,
    image: LocalImage,
    out: Path,
    *,
    scratch: Path,
    seconds: float | None,
    epoch: int,
) -> dict[str, Any]:
    """Put `image` into the docker store `before` (None: an empty one); the result is `out`.

    `lower` are the directories of the tree, topmost first. `before` and `out` hold
    var/lib/docker and, where docker keeps its images there, var/lib/containerd. `scratch` is
    an empty directory on the filesystem of `out`. Answers with `driver`, `store` ("docker" or
    "containerd") and `engine`, docker's version. Raises BuildError.
    """
    out.mkdir(parents=True)
    if before:
        run(["cp", "--archive", "--reflink=auto", "--", f"{before}/.", out])
    for name in engine.DIRECTORIES:
        (out / name).mkdir(parents=True, exist_ok=True)
    started = dockerstore.start(out)
    report = _run(lower, image, out, scratch, seconds)
    dockerstore.tidy(out, report["store"], report["driver"])
    dockerstore.rename_layers(out, report["driver"])
    dockerstore.rewrite_databases(out, report["driver"], epoch)
    dockerstore.set_times(out, started, epoch)
    return report


def _run(
    lower: Sequence[Path], image: LocalImage, out: Path, scratch: Path, seconds: float | None
) -> dict[str, Any]:
    work = scratch / "engine"
    work.mkdir()
    request = {
        "lower": [os.fspath(p) for p in lower],
        "out": os.fspath(out),
        "image": image.to_json(),
        "work": os.fspath(work),
        "scratch": os.fspath(scratch),
    }
    argv = [
        need("unshare", "util-linux"), "--mount", "--net", "--pid", "--ipc", "--uts", "--cgroup",
        "--fork", "--kill-child", "--mount-proc", "--propagation", "private",
        sys.executable, "-I", "-c", _START, str(Path(__file__).resolve().parents[2]),
    ]  # fmt: skip
    done = run(argv, input=json.dumps(request).encode(), check=False, timeout=seconds)
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        raise BuildError(
            "cannot run the image's docker in namespaces of its own",
            where="unshare --mount --net --pid --ipc --uts --cgroup",
            detail=done.stderr.decode(errors="replace")[-1500:],
            hint="building needs root's right to make namespaces (CAP_SYS_ADMIN)",
        ) from None
    if "error" in answer:
        raise from_json(answer)
    result: dict[str, Any] = answer["result"]
    return result
