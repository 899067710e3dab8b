"""What programs say of their version. Each is asked once: mmdebstrap takes its time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path

from imagebuild.errors import ImagebuildError
from imagebuild.host.background import start
from imagebuild.host.run import run, which

#: Programs whose version can change what a stage makes: name -> arguments that print it.
TOOLS: Mapping[str, tuple[str, ...]] = {
    "mmdebstrap": ("mmdebstrap", "--version"),
    "mke2fs": ("mke2fs", "-V"),
    "mtools": ("mtools", "--version"),
    "qemu-img": ("qemu-img", "--version"),
}
#: Seconds after which a program counts as one that does not say it.
_LIMIT = 60

_asked: dict[tuple[object, ...], Future[str]] = {}


def ask(argv: Sequence[str]) -> Future[str] | None:
    """Start asking a program; the result is what it printed, "" when it cannot be run.

    None when the program is not there. Who asks again gets the same answer, as long as the
    file is the same.
    """
    path = which(argv[0])
    if path is None:
        return None
    info = Path(path).stat()
    key = (path, info.st_ino, info.st_size, info.st_mtime_ns, *argv)
    if key not in _asked:
        _asked[key] = start(_ask, argv)
    return _asked[key]


def prefetch() -> None:
    """Ask all programs, so that the answers are there when they are wanted."""
    for argv in TOOLS.values():
        ask(argv)


def _ask(argv: Sequence[str]) -> str:
    try:
        done = run(argv, check=False, timeout=_LIMIT)
    except ImagebuildError:
        return ""
    return (done.stdout + done.stderr).decode(errors="replace").strip()
