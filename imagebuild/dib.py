"""diskimage-builder: the only module that knows its arguments, environment and log.

DIB is used as a composer of trees: it never makes a disk here (see
elements/imagebuild-tree), so it needs no loop devices, kpartx or udev.
"""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from imagebuild.config.values import check_element
from imagebuild.digest import of_directory
from imagebuild.errors import BuildError, ConfigError, Interrupted
from imagebuild.events import Emit, Output, StepFinished, StepStarted
from imagebuild.files import KIB, is_directory, read_limited
from imagebuild.host.run import spawn

# dib-run-parts says "dib-run-parts Running <dir>/<hook>" and "… <hook> completed".
_RUNNING = re.compile(r"^dib-run-parts Running (?P<dir>\S+)/(?P<hook>[\w-]+)$")
_COMPLETED = re.compile(r"^dib-run-parts (?P<hook>[\w-]+) completed$")
#: Lines that never explain a failure.
_NOISE = re.compile(
    r"^(dib-run-parts|\+|Unmount |\s*$|umount: |Sourcing|Selecting previously|\(Reading database)"
)

_RELATIONS = ("element-deps", "element-provides")
#: Largest of them, in bytes; DIB's longest has some hundred.
MAX_RELATION = 64 * KIB

_ENTRY = (
    "import sys; sys.argv[0] = 'disk-image-create'; "
    "from diskimage_builder.disk_image_create import main; main()"
)


@dataclass(frozen=True)
class Element:
    """A DIB element as it was found: its name, where, and a digest of its files."""

    name: str
    path: Path
    sha256: str


def version() -> str:
    """The version of diskimage-builder that will be used."""
    from importlib.metadata import version as installed

    return installed("diskimage-builder")


def own_elements_path() -> Path:
    """Directory of the elements that diskimage-builder ships."""
    import diskimage_builder.paths

    return Path(diskimage_builder.paths.get_path("elements"))


def find_elements(names: Sequence[str], search: Sequence[Path]) -> tuple[Element, ...]:
    """The named elements and all they depend on, sorted by name.

    `search` is looked through first to last, DIB's own elements last. Raises ConfigError
    for an element that does not exist, naming the nearest, and for one that cannot be read.
    """
    from diskimage_builder import element_dependencies

    paths = [*map(str, search), str(own_elements_path())]
    for directory in search:
        _check_relations(directory)
    logging.getLogger("diskimage_builder").setLevel(logging.ERROR)
    logging.getLogger("diskimage_builder.element_dependencies").setLevel(logging.ERROR)
    try:
        found = element_dependencies.get_elements(list(names), ":".join(paths))
    except element_dependencies.MissingElementException as exc:
        name = str(exc).removeprefix("Element '").removesuffix("' not found")
        raise _missing(name, paths) from exc
    except Interrupted:
        raise
    except Exception as exc:
        raise ConfigError(
            "the elements do not fit together",
            where="elements: " + " ".join(names),
            detail=str(exc) or "one of these is provided by another of them",
            hint="look at element-deps and element-provides of the elements named",
        ) from exc
    return tuple(_element(name, Path(path)) for name, path in sorted(found))


def _element(name: str, path: Path) -> Element:
    try:
        check_element(name)
        return Element(name, path, of_directory(path))
    except ValueError as exc:
        # DIB's scripts take lists of elements apart at blanks.
        raise ConfigError(
            f"diskimage-builder cannot cope with the name of the element {name!r}",
            where=str(path),
            detail=str(exc),
            hint="give its directory another name",
        ) from exc
    except OSError as exc:
        raise ConfigError(
            f"the element {name!r} cannot be read",
            where=str(exc.filename or path),
            detail=exc.strerror or str(exc),
            hint="an element may hold files, directories and symbolic links only",
        ) from exc


def _elements_in(directory: Path) -> list[Path]:
    try:
        return [path for path in sorted(directory.iterdir()) if is_directory(path)]
    except OSError as exc:
        raise ConfigError(
            f"cannot read the directory of elements {directory}",
            where=str(directory),
            detail=str(exc),
            hint="correct --elements-path or the key elements.path",
        ) from exc


def _relation(path: Path) -> str:
    """Text of an element-deps or element-provides, "" without one."""
    try:
        return read_limited(path, MAX_RELATION).decode()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(
            f"cannot read {path.name} of the element {path.parent.name!r}",
            where=str(path),
            detail=getattr(exc, "strerror", "") or str(exc),
            hint="it is a text file with the name of one element a line",
        ) from exc


def _check_relations(directory: Path) -> None:
    """Read what DIB is going to read of every element here, without waiting for a pipe."""
    for element in _elements_in(directory):
        for name in _RELATIONS:
            _relation(element / name)


def _missing(name: str, paths: Sequence[str]) -> ConfigError:
    import difflib

    elements = [path for directory in paths for path in _elements_in(Path(directory))]
    near = difflib.get_close_matches(name[:100], sorted({e.name for e in elements}), n=1)
    wanted = [
        str(e / "element-deps")
        for e in elements
        if name in map(str.strip, _relation(e / "element-deps").splitlines())
    ]
    return ConfigError(
        f"there is no element {name!r}",
        where="elements path: " + ":".join(paths[:-1]),
        detail="wanted by " + ", ".join(wanted) if wanted else "",
        hint=(f"did you mean {near[0]!r}? " if near else "")
        + "--elements-path DIR adds a directory of elements",
    )


def arguments(elements: Sequence[str], arch: str) -> tuple[str, ...]:
    """DIB's command line, with `{scratch}` and `{cache}` where the run puts its paths."""
    argv = ["disk-image-create", "-n", "-a", arch, "-t", "raw", "-o", "{scratch}/image"]
    argv += ["--no-tmpfs", "--image-cache", "{cache}/dib"]
    return (*argv, *elements, "no-final-image")


@dataclass
class HookLog:
    """Follows DIB's output: which hook runs, how long, and what it said last."""

    stage: str
    emit: Emit
    phase: str = ""
    hook: str = ""
    started: float = 0.0
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=400))
    timing: list[tuple[str, str, float]] = field(default_factory=list)

    def feed(self, line: str) -> None:
        """Take one line of output."""
        if match := _RUNNING.match(line):
            self._finish()
            self.phase = Path(match["dir"]).name.removesuffix(".d")
            self.hook = match["hook"]
            self.started = time.monotonic()
            self.tail.clear()
            self.emit(StepStarted(self.stage, self.phase, self.hook))
        elif (match := _COMPLETED.match(line)) and match["hook"] == self.hook:
            self._finish()
        else:
            self.tail.append(line)
        self.emit(Output(self.stage, line))

    def _finish(self) -> None:
        # Also from the next hook's start: a hook whose output ends without a newline
        # swallows its own "completed".
        if self.hook:
            seconds = round(time.monotonic() - self.started, 2)
            self.timing.append((self.phase, self.hook, seconds))
            self.emit(StepFinished(self.stage, self.phase, self.hook, seconds))
            self.hook = ""
            self.tail.clear()

    def failure(self, elements: Sequence[tuple[str, Path]], status: int) -> BuildError:
        """The error for a run that ended badly: element, hook, the lines that matter."""
        lines = [x for x in self.tail if not _NOISE.match(x)]
        if not self.hook:
            return BuildError(
                f"diskimage-builder failed with status {status}",
                where=f"stage {self.stage}",
                detail="\n".join(lines[-15:]),
            )
        owner = next((n for n, p in elements if (p / f"{self.phase}.d" / self.hook).exists()), "?")
        return BuildError(
            f"element {owner}: hook {self.phase}.d/{self.hook} failed",
            where=f"stage {self.stage}",
            detail="\n".join(_until_unmount(lines)[-15:]),
        )


def _until_unmount(lines: list[str]) -> list[str]:
    # DIB's own clean-up talks after the hook's last word.
    for number, line in enumerate(lines):
        if line.startswith("*** ") and "is not a directory" in line:
            return lines[:number]
    return lines


def run(
    stage: str,
    argv: Sequence[str],
    env: Mapping[str, str],
    elements: Sequence[tuple[str, Path]],
    emit: Emit,
    deadline: float | None,
) -> list[tuple[str, str, float]]:
    """Run DIB to its end and return (phase, hook, seconds) of each hook.

    `argv` and `env` are complete (no placeholders). `deadline` is a `time.monotonic()`.
    Raises BuildError naming element and hook. The caller trusts what DIB left behind only
    when this returns.
    """
    log = HookLog(stage, emit)
    process = spawn(
        [sys.executable, "-c", _ENTRY, *argv[1:]],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        new_session=True,
    )
    for line in _lines(process, deadline, stage, log):
        log.feed(line)
    status = process.wait()
    if status != 0:
        raise log.failure(elements, status)
    return log.timing


def _lines(
    process: subprocess.Popen[bytes], deadline: float | None, stage: str, log: HookLog
) -> Iterator[str]:
    import os
    import selectors
    import signal

    assert process.stdout is not None  # noqa: S101 - asked for above
    stream = process.stdout
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while True:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                raise BuildError(
                    f"stage {stage} took longer than its limit",
                    where=f"in hook {log.phase}.d/{log.hook}" if log.hook else "",
                    detail="\n".join(list(log.tail)[-5:]),
                    hint=f"--timeout {stage}=DURATION raises the limit, {stage}=none lifts it",
                )
            if not selector.select(left):
                continue
            block = os.read(stream.fileno(), 1 << 16)
            if not block:
                break
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                yield line.decode(errors="replace").rstrip("\r")
    if rest:
        yield rest.decode(errors="replace")
