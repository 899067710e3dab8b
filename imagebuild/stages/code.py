"""The agent's own code: its wheel, put into the venv that the environment brought.

Nothing but this differs between two agents of a series, so it is a layer of its own.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from zipfile import BadZipFile

from imagebuild.digest import of_file
from imagebuild.errors import BuildError
from imagebuild.events import Emit, StepFinished, StepStarted
from imagebuild.host.run import base_env, run
from imagebuild.stages.collect import VENV, site_packages
from imagebuild.stages.overlay import close, overlay
from imagebuild.stages.stack import Stack
from imagebuild.stages.trees import keep_upper

#: Processes that compile, whatever the host has: which files one of them sees decides on
#: details of their byte code (interned names), and two builds are to be the same.
_COMPILERS = 2
# Not isolated (-I), which would ignore the seed; but nothing is imported from where it runs.
_COMPILE = "import sys; del sys.path[0]; from compileall import main; sys.exit(not main())"


def install(
    stack: Stack,
    wheel: Path,
    sha256: str,
    draft: Path,
    scratch: Path,
    *,
    epoch: int,
    emit: Emit,
    seconds: float | None,
) -> None:
    """Install the agent's wheel over the stack; the layer goes to `draft`.

    What it requires must be there already. Raises BuildError, also when the wheel is not the
    one with that digest.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    if of_file(wheel) != sha256:
        raise BuildError("the agent's wheel changed during the build", where=str(wheel))
    with overlay(stack.trees, scratch / "code") as (root, upper):
        with _step(emit, "install"):
            sources = _unpack(wheel, root)
        with _step(emit, "compile"):
            _compile(root, sources, deadline)
        close(root)
        keep_upper(upper, stack, draft, epoch)


def _unpack(wheel: Path, root: Path) -> list[str]:
    """Put a wheel's files, scripts and records in place; the Python sources among them."""
    from installer import install as put
    from installer.destinations import SchemeDictionaryDestination
    from installer.exceptions import InstallerError
    from installer.sources import WheelFile

    site = f"/{site_packages(root).relative_to(root)}"
    places = {"purelib": site, "platlib": site, "scripts": f"{VENV}/bin", "data": VENV}
    destination = SchemeDictionaryDestination(
        places, interpreter=f"{VENV}/bin/python", script_kind="posix", destdir=str(root)
    )
    try:
        with WheelFile.open(wheel) as source:
            put(source, destination, {"INSTALLER": b"imagebuild\n"})
            names = sorted(record[0] for record, _, _ in source.get_contents())
    except (OSError, ValueError, KeyError, BadZipFile, InstallerError) as exc:
        raise BuildError("cannot install the agent", where=wheel.name, detail=str(exc)) from exc
    return [f"{site}/{name}" for name in names if name.endswith(".py")]


def _compile(root: Path, sources: Sequence[str], deadline: float | None) -> None:
    """Compile the sources with the image's own Python.

    The byte code holds its source's digest, not its time (PEP 552), and so needs no clock. Up
    to Python 3.10 it holds constant sets in the order of their hashes (bpo-37596), which are
    random without a seed.
    """
    argv: list[str | Path] = ["chroot", root, f"{VENV}/bin/python", "-s", "-B", "-c", _COMPILE]
    argv += ["-q", "--invalidation-mode", "checked-hash", "-i", "-"]
    env = base_env(PYTHONHASHSEED="0")
    left = None if deadline is None else max(deadline - time.monotonic(), 0.01)

    def one(names: Sequence[str]) -> None:
        # A source that is no Python of this version stays without byte code, as with pip.
        run(argv, env=env, input="\n".join(names).encode(), timeout=left, check=False)

    with ThreadPoolExecutor(_COMPILERS) as pool:
        list(pool.map(one, [sources[i::_COMPILERS] for i in range(_COMPILERS)]))


@contextmanager
def _step(emit: Emit, name: str) -> Iterator[None]:
    emit(StepStarted("agent", "code", name))
    started = time.monotonic()
    yield
    emit(StepFinished("agent", "code", name, round(time.monotonic() - started, 2)))
