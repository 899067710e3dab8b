"""A venv with Trove of the series that an image was built for, kept in the cache.

    CACHE/verify/control-SERIES-ID/venv            the packages of the series' lock file
                                  /database        a data directory with Trove's schema
    CACHE/locks/control-SERIES-ID.lock             held by who makes, removes or uses it

The same lock files as in the image pin it, for a Python of the host. ID follows from all
that goes into it, so what is there is right; it is made beside and renamed.
"""

from __future__ import annotations

import contextlib
import os
import platform
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from packaging.version import InvalidVersion, Version

from imagebuild.agent.files import DistFile, FileCache
from imagebuild.agent.locks import AGENT, Lock, agent_lock, build_lock
from imagebuild.agent.series import PYTHONS, SERIES, Series, get_series, series_of_version
from imagebuild.digest import of_value
from imagebuild.errors import (
    BuildError,
    ConfigError,
    ImagebuildError,
    PreflightError,
    TemporaryError,
)
from imagebuild.host.namespace import remove_tree
from imagebuild.host.run import base_env, run, which
from imagebuild.host.scratch import directory as scratch_directory
from imagebuild.host.scratch import lock
from imagebuild.redaction import redact

#: Counts up when what `_make` does changes.
_LAYOUT = 1
_INSTALL_SECONDS = 900.0


@dataclass(frozen=True)
class ControlVersion:
    """A release of Trove and its series."""

    version: str
    series: str


@dataclass(frozen=True)
class Environment:
    """A venv that is ready, in the directory `path`; `python` is the host's, like "3.11".

    `notes` says what is not as asked: another series, a Python without a lock file.
    """

    path: Path
    control: ControlVersion
    python: str
    notes: tuple[str, ...] = ()

    @property
    def bin(self) -> Path:
        """Where its programs are."""
        return self.path / "venv/bin"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep others from removing it for the time of the block."""
        with lock(_lock_file(self.path), shared=True):
            if not (self.bin / "python").exists():
                raise TemporaryError(
                    "the control plane's environment was removed meanwhile",
                    where=str(self.path),
                    hint="run the same command again",
                )
            yield


@dataclass(frozen=True)
class _Choice:
    """What will be installed, for which Python of the host."""

    series: Series
    lock: Lock
    python: str
    interpreter: Path
    pinned: bool
    notes: tuple[str, ...]

    @property
    def version(self) -> str:
        return self.lock.pin(AGENT).version

    @property
    def id(self) -> str:
        facts = [_LAYOUT, self.lock.sha256, self.python, str(self.interpreter)]
        return of_value([*facts, self.pinned, platform.machine()])


def prepare(
    series: str,
    cache: Path,
    *,
    env: Mapping[str, str],
    offline: bool = False,
    tell: Callable[[str], None] = lambda _text: None,
) -> Environment:
    """The environment of a series, made when the cache does not have it.

    `cache` is the tool's cache directory, `env` the environment that leads to the package
    index (the tool's own). `tell` is called with a sentence when it will take a while.
    Raises PreflightError when this host cannot have it, and as `FileCache` does.
    """
    choice = _choose(get_series(series), _interpreters())
    path = cache / "verify" / f"control-{choice.series.name}-{choice.id[:16]}"
    environment = Environment(
        path, ControlVersion(choice.version, choice.series.name), choice.python, choice.notes
    )
    if path.is_dir():
        return environment
    path.parent.mkdir(parents=True, exist_ok=True)
    with lock(_lock_file(path)):
        if path.is_dir():
            return environment  # somebody else made it meanwhile
        tell(f"installing Trove {choice.version} for the control plane (once)")
        with _scratch(cache / "scratch") as scratch:
            draft = scratch / path.name
            draft.mkdir()
            _make(choice, draft / "venv", path / "venv", cache / "sources", env, offline)
            draft.rename(path)
    _remove_stale(path, choice.series)
    return environment


def skew(agent_version: str, control: ControlVersion) -> str | None:
    """A sentence when agent and control plane are of different majors; None when they are not.

    A version between releases (25.1.0.dev96, of a branch) is of its major's series.
    """
    try:
        agent = Version(agent_version)
    except InvalidVersion:
        return (
            f"the agent's version {agent_version} cannot be compared with the control plane's "
            f"{control.version} ({control.series})"
        )
    ours = Version(control.version)
    if agent.major == ours.major:
        return None
    older = "newer" if agent > ours else "older"
    named = f" ({name})" if (name := _series_name(agent_version)) else ""
    return (
        f"the agent {agent_version}{named} is {older} than the control plane "
        f"{control.version} ({control.series})"
    )


def _series_name(version: str) -> str:
    try:
        return series_of_version(version).name
    except ConfigError:
        return ""


def _lock_file(path: Path) -> Path:
    return path.parent.parent / "locks" / f"{path.name}.lock"


@contextmanager
def _scratch(root: Path) -> Iterator[Path]:
    """A scratch directory as builds have them: what a killed run leaves, the next one sweeps."""
    with scratch_directory(root, "control") as work:
        try:
            yield work
        finally:
            remove_tree(work)
            (root / f"{work.name}.lock").unlink(missing_ok=True)


def _remove_stale(kept: Path, series: Series) -> None:
    """Remove environments of the series that nothing asks for any more; what is used stays."""
    for path in kept.parent.glob(f"control-{series.name}-*"):
        if path == kept:
            continue
        with (
            contextlib.suppress(TemporaryError, OSError),
            lock(_lock_file(path), wait=False),
        ):
            remove_tree(path)


def _interpreters() -> list[tuple[str, Path]]:
    """The host's Pythons (version like "3.11", path), those to be preferred first.

    The system's own is: a user's may be out of another user's reach.
    """
    found: dict[str, Path] = {}
    for name in ("python3", *(f"python{v}" for v in reversed(PYTHONS))):
        if not (path := which(name)):
            continue
        done = run(
            [path, "-IS", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], check=False
        )
        version = done.stdout.decode().strip()
        if done.returncode == 0 and version:
            found.setdefault(version, Path(path))
    if not found:
        raise PreflightError("there is no python3 on the PATH", hint="apt-get install python3-venv")
    return list(found.items())


def _choose(series: Series, interpreters: Sequence[tuple[str, Path]]) -> _Choice:
    """The lock and the Python to use: the series' own, else the nearest."""
    for python, path in interpreters:
        if python in series.pythons:
            return _Choice(series, agent_lock(series, python), python, path, True, ())
    python, path = interpreters[0]
    newer = [p for p in series.pythons if _key(p) < _key(python)]
    if newer:
        # No lock for so new a Python: the nearest one's versions, whatever files serve them.
        nearest = agent_lock(series, newer[-1])
        note = f"Python {python} has no lock file: versions are those of {nearest.name}"
        return _Choice(series, nearest, python, path, False, (note,))
    older = [s for s in SERIES if python in s.pythons and s.major < series.major]
    if not older:
        raise PreflightError(
            f"no Python of this host can run Trove {series.name}",
            where=f"Python {', '.join(v for v, _ in interpreters)}",
            hint=f"install one of Python {', '.join(series.pythons)}",
        )
    note = f"Trove {series.name} does not run on Python {python}: {older[-1].name} is used"
    return _Choice(older[-1], agent_lock(older[-1], python), python, path, True, (note,))


def _key(python: str) -> tuple[int, ...]:
    return tuple(int(x) for x in python.split("."))


def _make(
    choice: _Choice,
    draft: Path,
    final: Path,
    sources: Path,
    env: Mapping[str, str],
    offline: bool,
) -> None:
    """A venv at `draft` that will be at `final`."""
    if not choice.pinned:
        _make_by_pip(choice, draft, env, offline)
        return
    arch = platform.machine()
    files = FileCache(sources, choice.python, arch, env=env, offline=offline)
    try:
        without = {name for name, arches in choice.lock.no_wheel.items() if arch in arches}
        found = files.fetch(choice.lock.pins, sdists=without)
        sdists = [f for f in found if not f.is_wheel]
        tools = files.fetch(build_lock(choice.python).pins) if sdists else []
    finally:
        files.close()
    _venv(choice.interpreter, draft)
    with tempfile.TemporaryDirectory(dir=draft.parent) as scratch:
        wheels = [f.path for f in found if f.is_wheel]
        wheels += _build(choice.interpreter, sdists, tools, Path(scratch)) if sdists else []
        for wheel in wheels:
            _put(wheel, draft, final, choice.python)
    _compile(draft, choice.python)


def _venv(interpreter: Path, where: Path) -> None:
    _run([interpreter, "-I", "-m", "venv", "--without-pip", where])


def _put(wheel: Path, venv: Path, final: Path, python: str) -> None:
    """Install a wheel into a venv, none of its code is run; scripts name the final place."""
    from installer import install
    from installer.destinations import SchemeDictionaryDestination
    from installer.exceptions import InstallerError
    from installer.sources import WheelFile

    site = str(venv / f"lib/python{python}/site-packages")
    places = {"purelib": site, "platlib": site, "scripts": str(venv / "bin"), "data": str(venv)}
    places["headers"] = str(venv / "include")
    destination = SchemeDictionaryDestination(
        places, interpreter=str(final / "bin/python"), script_kind="posix", overwrite_existing=True
    )
    try:
        with WheelFile.open(wheel) as source:
            install(source, destination, {"INSTALLER": b"imagebuild\n"})
    except (OSError, ValueError, KeyError, InstallerError) as exc:
        raise BuildError(
            "cannot install a package of the control plane", where=wheel.name, detail=str(exc)
        ) from exc


def _build(
    interpreter: Path, sdists: Sequence[DistFile], tools: Sequence[DistFile], scratch: Path
) -> list[Path]:
    """Wheels of the few packages that have none, made offline with the locked tools."""
    venv, out = scratch / "tools", scratch / "out"
    _venv(interpreter, venv)
    python = next((venv / "lib").glob("python*")).name.removeprefix("python")
    for tool in tools:
        _put(tool.path, venv, venv, python)
    for sdist in sdists:
        # Only the files' real names tell pip what they are.
        argv: list[str | Path] = [venv / "bin/python", "-m", "pip", "--isolated", "wheel", "-q"]
        argv += ["--no-deps", "--no-index", "--no-build-isolation", "-w", out, sdist.path]
        _run(argv, TMPDIR=str(scratch), HOME=str(scratch))
    return sorted(out.glob("*.whl"))


def _compile(venv: Path, python: str) -> None:
    """Byte code of all packages but for their tests: the services' user cannot keep it."""
    argv: list[str | Path] = [venv / "bin/python", "-I", "-m", "compileall", "-q", "-j", "0"]
    argv += ["-x", "/tests/", "--invalidation-mode", "unchecked-hash"]
    argv += [venv / f"lib/python{python}/site-packages"]
    run(argv, check=False, timeout=_INSTALL_SECONDS)  # templates need not be Python


def _make_by_pip(choice: _Choice, draft: Path, env: Mapping[str, str], offline: bool) -> None:
    """The lock's versions, as far as pip finds them for a Python that has no lock."""
    if offline:
        raise PreflightError(
            "the control plane's environment is not in the cache",
            where=f"Trove {choice.version}, Python {choice.python}",
            hint="run the same command once without --offline",
        )
    try:
        _run([choice.interpreter, "-I", "-m", "venv", draft])
    except ImagebuildError as exc:
        exc.hint = "apt-get install python3-venv"
        raise
    constraints = draft / "constraints.txt"
    constraints.write_text("".join(f"{p.name}=={p.version}\n" for p in choice.lock.pins))
    network = {k: v for k, v in env.items() if k != "PYTHONPATH"}
    _run(
        [draft / "bin/python", "-m", "pip", "install", "-q", "--disable-pip-version-check",
         "-c", constraints, f"{AGENT}=={choice.version}"],
        **network,
    )  # fmt: skip


def _run(argv: Sequence[str | Path], **extra: str) -> None:
    """Run a step of the installation; what it says may hold an index's login."""
    try:
        run(argv, env=base_env(**extra), timeout=_INSTALL_SECONDS)
    except BuildError as exc:
        raise PreflightError(
            "the control plane's environment cannot be made on this host",
            where=redact(" ".join(os.fspath(a) for a in argv)[:300]),
            detail=redact(exc.detail or exc.what),
        ) from None
