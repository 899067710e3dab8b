"""The agent's own code: its wheel, put into the venv that the environment brought.

Nothing but this differs between two agents of a series, so it is a layer of its own. The
image's own Python installs it, in an overlay: byte code and console scripts are those of
an installation by hand.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imagebuild.events import Emit, StepFinished, StepStarted
from imagebuild.host.run import base_env, run
from imagebuild.stages.collect import VENV
from imagebuild.stages.overlay import close, overlay
from imagebuild.stages.stack import Stack
from imagebuild.stages.trees import keep_upper

#: Where the wheels are seen in the tree, on a filesystem of their own.
_WHEELS = "tmp/wheels"


def install(
    stack: Stack,
    wheelhouse: Path,
    draft: Path,
    scratch: Path,
    *,
    epoch: int,
    emit: Emit,
    seconds: float | None,
) -> None:
    """Install the agent's wheel from `wheelhouse` over the stack; the layer goes to `draft`.

    pip checks the hash, and afterwards that nothing lacks what it requires. Raises BuildError.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    with overlay(stack.trees, scratch / "code") as (root, upper):
        with _wheels(root, wheelhouse):
            pip = _Pip(root, wheelhouse, epoch, deadline)
            with _step(emit, "install"):
                pip.install()
            with _step(emit, "check"):
                pip.check()
        close(root)
        keep_upper(upper, stack, draft, epoch)


@contextmanager
def _wheels(root: Path, wheelhouse: Path) -> Iterator[None]:
    """Show the wheels in the tree's /tmp, of which nothing stays."""
    run(["mount", "-t", "tmpfs", "-o", "mode=1777", "tmpfs", root / "tmp"])
    (root / _WHEELS).mkdir()
    run(["mount", "--bind", "-o", "ro", wheelhouse, root / _WHEELS])
    try:
        yield
    finally:
        run(["umount", "--lazy", root / _WHEELS], check=False)
        run(["umount", "--lazy", root / "tmp"], check=False)


class _Pip:
    """pip from its wheel, run by the venv's Python in the tree."""

    def __init__(self, root: Path, wheelhouse: Path, epoch: int, deadline: float | None) -> None:
        tools = next((wheelhouse / "tools").glob("pip-*.whl")).name
        self._argv: list[str | Path] = [
            "chroot", root, f"{VENV}/bin/python", f"/{_WHEELS}/tools/{tools}/pip",
            "--isolated", "--disable-pip-version-check", "--no-cache-dir",
        ]  # fmt: skip
        # Byte code that holds the source's digest, not its time (importlib, PEP 552).
        self._env = base_env(SOURCE_DATE_EPOCH=str(epoch), HOME="/tmp")  # noqa: S108 - in the tree
        self._deadline = deadline

    def install(self) -> None:
        self._run(
            "install", "--no-index", "--no-deps", "--require-hashes", "--only-binary", ":all:",
            "--root-user-action", "ignore", "--find-links", f"/{_WHEELS}/wheels",
            "--requirement", f"/{_WHEELS}/agent.txt",
            what="cannot install the agent into its venv",
        )  # fmt: skip

    def check(self) -> None:
        self._run("check", what="the agent requires what the lock of its series does not have")

    def _run(self, *argv: str, what: str) -> None:
        left = None if self._deadline is None else max(self._deadline - time.monotonic(), 0.01)
        run([*self._argv, *argv], env=self._env, what=what, timeout=left)


@contextmanager
def _step(emit: Emit, name: str) -> Iterator[None]:
    emit(StepStarted("agent", "code", name))
    started = time.monotonic()
    yield
    emit(StepFinished("agent", "code", name, round(time.monotonic() - started, 2)))
