"""What programs say of their version.

Asked once, and again when the file of the program has changed: mmdebstrap takes its time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path

from imagebuild.errors import ImagebuildError
from imagebuild.host.background import start
from imagebuild.host.run import run, which
from imagebuild.memory import Memory

#: Programs whose version can change what a stage makes: name -> arguments that print it.
TOOLS: Mapping[str, tuple[str, ...]] = {
    "mmdebstrap": ("mmdebstrap", "--version"),
    "mke2fs": ("mke2fs", "-V"),
    "mtools": ("mtools", "--version"),
    "qemu-img": ("qemu-img", "--version"),
}
#: Seconds after which a program counts as one that does not say it.
_LIMIT = 60

#: What names a program's answer -> the answer.
_asked: dict[tuple[str | int, ...], Future[str]] = {}


def ask(argv: Sequence[str]) -> Future[str] | None:
    """Start asking a program; the result is what it printed, "" when it cannot be run.

    None when the program is not there. Who asks again gets the same answer, as long as the
    program's file is the same.
    """
    key = _key(argv)
    if key is None:
        return None
    if key not in _asked:
        _asked[key] = start(_run, argv)
    return _asked[key]


def prefetch(memory: Memory) -> None:
    """Have all answers ready soon: from memory, or the programs are asked."""
    for argv in TOOLS.values():
        key = _key(argv)
        said = memory.recall("version", key, argv[0]) if key not in _asked else None
        if key is not None and isinstance(said, str):
            _asked[key] = Future()
            _asked[key].set_result(said)
        ask(argv)


def keep(memory: Memory) -> None:
    """Remember what the programs said, for the next `prefetch`."""
    for argv in TOOLS.values():
        answer = ask(argv)
        if answer and answer.result():
            memory.remember("version", _key(argv), answer.result())


def _key(argv: Sequence[str]) -> tuple[str | int, ...] | None:
    path = which(argv[0])
    if path is None:
        return None
    info = Path(path).stat()
    return (path, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns, *argv)


def _run(argv: Sequence[str]) -> str:
    try:
        done = run(argv, check=False, timeout=_LIMIT)
    except ImagebuildError:
        return ""
    return (done.stdout + done.stderr).decode(errors="replace").strip()
