"""The wheelhouse: all that the agent's venv is installed from, hash-checked, offline.

    DEST/wheels/*.whl  DEST/requirements.txt          what the agent needs
                       DEST/agent.txt                 the agent itself
    DEST/tools/*.whl   DEST/tools/requirements.txt    pip, setuptools, wheel, pbr

What has no wheel is built by the caller (in a throw-away copy of the image's base tree,
with the image's Python): no code of any package runs on the host.
"""

from __future__ import annotations

import email.parser
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

from imagebuild.agent.files import DistFile, FileCache
from imagebuild.agent.locks import AGENT, Lock, Pin, read_lock, render_requirement
from imagebuild.agent.source import AgentInput, SourceKind, source_tree
from imagebuild.agent.tree import copy_tree
from imagebuild.data import locks_dir
from imagebuild.digest import of_file
from imagebuild.errors import BuildError, PreflightError

#: Built twice, a wheel has the same bytes: zip entries take this time (1980-01-01 UTC,
#: the oldest that a zip can hold) instead of now. reproducible-builds.org's variable.
_EPOCH = "315532800"
_COMPILED = (".c", ".cc", ".cpp", ".cxx", ".pyx", ".rs")


@dataclass(frozen=True)
class CompiledWheel:
    """A dependency that had no wheel: what it was built from and what came out."""

    name: str
    version: str
    sdist_sha256: str
    wheel_sha256: str


@dataclass(frozen=True)
class BuildRequest:
    """Wheels to build, offline, with `pip wheel --no-deps --no-build-isolation`.

    `sources` are sdists or source directories; `tools` has the wheels of pip, setuptools,
    wheel and pbr; the wheels go to `out`. `needs_compiler` when a source holds C, C++,
    Cython or Rust. `environment` is to be set for the build.
    """

    sources: tuple[Path, ...]
    tools: Path
    out: Path
    needs_compiler: bool
    environment: Mapping[str, str]


@dataclass(frozen=True)
class Wheelhouse:
    """Wheels to install. `requirements` and `agent` pin exactly the files in `path`, by hash.

    `sha256` and `versions` have hash and version of each wheel by its distribution's name.
    """

    path: Path
    requirements: Path
    agent: Path
    tools: Path
    compiled: tuple[CompiledWheel, ...]
    sha256: Mapping[str, str]
    versions: Mapping[str, str]

    @property
    def agent_sha256(self) -> str | None:
        """The hash of the agent's own wheel; None when it was not asked for."""
        return self.sha256.get(AGENT)


def collect(
    agent: AgentInput,
    arch: str,
    dest: Path,
    *,
    cache: Path,
    env: Mapping[str, str],
    offline: bool,
    build: Callable[[BuildRequest], list[Path]],
    environment: bool = True,
    code: bool = True,
) -> Wheelhouse:
    """Fill `dest` (empty or not there yet) for an agent and a guest's `uname -m`.

    Only what is asked for: the `environment`, what the lock has beside the agent, and the
    agent's own `code`. `cache` is `resolve_agent`'s workdir; with `offline` only it is used.
    Raises BuildError when something is not what the lock or the plan says, PreflightError
    when offline and files are missing, TemporaryError when the index is away.
    """
    if not agent.resolved:
        raise PreflightError(
            "the guest agent could not be resolved offline",
            where=f"agent {agent.requested}",
            hint="run the same command once without --offline",
        )
    lock = _same_lock(agent.lock, agent.lock_sha256)
    tools_lock = _same_lock(agent.build_lock, agent.build_lock_sha256)
    files = FileCache(cache, agent.python, arch, env=env, offline=offline)
    try:
        pins = _pins(agent, lock, environment=environment, code=code)
        found = files.fetch(pins, sdists=_may_compile(agent, lock, arch))
        tools = files.fetch(tools_lock.pins)
    finally:
        files.close()
    house = dest / "wheels"
    house.mkdir(parents=True)
    _write_tools(tools, dest / "tools")
    wheels = [f for f in found if f.is_wheel]
    sdists = [f for f in found if not f.is_wheel]
    work = _Builder(agent.python, arch, dest / "tools", dest / "build", build)
    built = work.sdists(sdists) if sdists else []
    wheels += built
    if code and agent.kind is not SourceKind.PYPI:
        wheels.append(work.agent(agent, cache))
    for wheel in wheels:
        shutil.copyfile(wheel.path, house / wheel.path.name)
    shutil.rmtree(dest / "build", ignore_errors=True)
    requirements, own = dest / "requirements.txt", dest / "agent.txt"
    requirements.write_text(_requirements(w for w in wheels if w.name != AGENT))
    own.write_text(_requirements(w for w in wheels if w.name == AGENT))
    pairs = [(s, w) for s in sdists for w in built if w.name == s.name]
    return Wheelhouse(
        path=house,
        requirements=requirements,
        agent=own,
        tools=dest / "tools",
        compiled=tuple(CompiledWheel(s.name, s.version, s.sha256, w.sha256) for s, w in pairs),
        sha256={w.name: w.sha256 for w in sorted(wheels, key=lambda w: w.name)},
        versions={w.name: w.version for w in sorted(wheels, key=lambda w: w.name)},
    )


def check_requirements(
    house: Wheelhouse, environment: Mapping[str, str], python: str, arch: str
) -> None:
    """See that `environment` (versions by name) has what the agent's wheel requires of a guest
    with that Python and `uname -m`.

    Raises BuildError: a source that asks for more than the lock of its series has.
    """
    wheel = next(house.path.glob(f"{AGENT}-*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        metadata = email.parser.HeaderParser().parsestr(archive.read(name).decode())
    guest = {
        "python_version": python, "python_full_version": f"{python}.0", "os_name": "posix",
        "platform_machine": arch, "platform_system": "Linux", "sys_platform": "linux",
        "platform_python_implementation": "CPython", "implementation_name": "cpython", "extra": "",
    }  # fmt: skip
    lacking = []
    for text in metadata.get_all("Requires-Dist") or []:
        wanted = Requirement(str(text))
        if wanted.marker and not wanted.marker.evaluate(guest):
            continue
        have = environment.get(canonicalize_name(wanted.name))
        if have is None or not wanted.specifier.contains(have, prereleases=True):
            lacking.append(f"{wanted.name}{wanted.specifier}: the lock has {have or 'none'}")
    if lacking:
        raise BuildError(
            "the agent requires what the lock of its series does not have",
            where=wheel.name,
            detail="\n".join(lacking),
            hint="--trove-series names another series; scripts/locks makes a lock of one's own",
        )


def installed(site_packages: Path) -> list[tuple[str, str]]:
    """Name (normalized) and version of each distribution in a venv, sorted.

    Read from the *.dist-info directories; the venv's Python is not run.
    """
    found = []
    for metadata in site_packages.glob("*.dist-info/METADATA"):
        with metadata.open(encoding="utf-8", errors="replace") as file:
            message = email.parser.HeaderParser().parse(file)
        found.append((canonicalize_name(str(message["Name"])), str(message["Version"])))
    return sorted((str(name), version) for name, version in found)


def _same_lock(name: str, sha256: str) -> Lock:
    lock = read_lock(locks_dir() / name)
    if lock.sha256 != sha256:
        raise BuildError(
            "a lock file changed after the build was planned",
            where=name,
            hint="start the build again",
        )
    return lock


def _pins(agent: AgentInput, lock: Lock, *, environment: bool, code: bool) -> tuple[Pin, ...]:
    pins = lock.without(AGENT) if environment else ()
    if code and agent.kind is SourceKind.PYPI:
        pins += (Pin(AGENT, str(agent.version), frozenset([str(agent.sha256)])),)
    return pins


def _may_compile(agent: AgentInput, lock: Lock, arch: str) -> set[str]:
    """The packages that may come as an sdist: those that the lock knows no wheel of."""
    allowed = {name for name, arches in lock.no_wheel.items() if arch in arches}
    if arch not in lock.header["arches"].split():
        allowed |= {pin.name for pin in lock.pins}  # nobody looked for wheels there
    if agent.version != lock.pin(AGENT).version:
        allowed.add(AGENT)  # a release of the user's choice may have an sdist only
    return allowed


def _write_tools(tools: Sequence[DistFile], dest: Path) -> None:
    dest.mkdir()
    for tool in tools:
        shutil.copyfile(tool.path, dest / tool.path.name)
    (dest / "requirements.txt").write_text(_requirements(tools))


def _requirements(wheels: Iterable[DistFile]) -> str:
    ordered = sorted(wheels, key=lambda w: w.name)
    return "".join(render_requirement(w.name, w.version, frozenset([w.sha256])) for w in ordered)


@dataclass(frozen=True)
class _Builder:
    """Prepares what the caller's `build` needs, and checks what it returns."""

    python: str
    arch: str
    tools: Path
    scratch: Path
    build: Callable[[BuildRequest], list[Path]]

    def sdists(self, sdists: Sequence[DistFile]) -> list[DistFile]:
        """Wheels of the dependencies that have none."""
        sources = self.scratch / "sdists"
        sources.mkdir(parents=True)
        for sdist in sdists:
            shutil.copyfile(sdist.path, sources / sdist.path.name)
        paths = tuple(sources / s.path.name for s in sdists)
        compiler = any(_is_compiled(_archive_names(p)) for p in paths)
        request = self._request(paths, "dependencies", compiler, {})
        expected = {s.name: s.version for s in sdists}
        return self._checked(self.build(request), expected)

    def agent(self, agent: AgentInput, cache: Path) -> DistFile:
        """The wheel of the agent's own source."""
        root, names = source_tree(agent, cache)
        source = self.scratch / "source" / AGENT
        copy_tree(root, names, source)
        _write_sources_list(source, names)
        version = str(agent.version)
        # There is no git in the build, and it could say something else than the plan.
        request = self._request((source,), AGENT, _is_compiled(names), {"PBR_VERSION": version})
        return self._checked(self.build(request), {AGENT: version})[0]

    def _request(
        self, sources: tuple[Path, ...], name: str, compiler: bool, env: dict[str, str]
    ) -> BuildRequest:
        out = self.scratch / "out" / name
        out.mkdir(parents=True)
        environment = {"SOURCE_DATE_EPOCH": _EPOCH, "PYTHONHASHSEED": "0", **env}
        return BuildRequest(sources, self.tools, out, compiler, environment)

    def _checked(self, paths: list[Path], expected: dict[str, str]) -> list[DistFile]:
        from imagebuild.agent.index import target

        supported = set(target(self.python, self.arch).supported_tags())
        built: dict[str, DistFile] = {}
        for path in paths:
            try:
                name, version, _, tags = parse_wheel_filename(path.name)
            except InvalidWheelFilename as exc:
                raise BuildError(
                    "the build gave a file that is no wheel", where=path.name, detail=str(exc)
                ) from exc
            if name not in expected or version != Version(expected[name]) or not supported & tags:
                wanted = ", ".join(f"{n} {v}" for n, v in sorted(expected.items()))
                raise BuildError(
                    "the build gave a wheel that was not asked for",
                    where=path.name,
                    detail=f"wanted: {wanted} for Python {self.python} on {self.arch}",
                )
            built[name] = DistFile(name, str(version), path, of_file(path))
        if lacking := sorted(set(expected) - set(built)):
            raise BuildError("the build gave no wheel of " + ", ".join(lacking))
        return [built[name] for name in sorted(built)]


def _archive_names(sdist: Path) -> list[str]:
    try:
        if sdist.name.endswith(".zip"):
            with zipfile.ZipFile(sdist) as zipped:
                return zipped.namelist()
        with tarfile.open(sdist) as tarred:
            return tarred.getnames()
    except (zipfile.BadZipFile, tarfile.TarError, OSError) as exc:
        raise BuildError("an sdist cannot be read", where=sdist.name, detail=str(exc)) from exc


def _is_compiled(names: Iterable[str]) -> bool:
    return any(name.endswith(_COMPILED) for name in names)


def _write_sources_list(source: Path, names: Iterable[str]) -> None:
    """Tell pbr the source's files, which it would ask git for.

    Without git and without this list the wheel would lack the data files of the packages
    (pbr/packaging.py, LocalEggInfo.find_sources: an existing list is used as it is).
    """
    listing = source / f"{AGENT}.egg-info" / "SOURCES.txt"
    listing.parent.mkdir(exist_ok=True)
    listing.write_text("".join(f"{name}\n" for name in sorted(names)))
