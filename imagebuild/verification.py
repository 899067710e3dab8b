"""Image → Report: all levels of one verification, in order.

What needs no boot is found without one: when a level fails, the later ones are not tried,
unless that is asked for.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from imagebuild import __version__
from imagebuild.digest import digests_of_file
from imagebuild.errors import ConfigError, ImagebuildError, Interrupted, PreflightError
from imagebuild.events import Checked, Emit, MachineStarted, MilestoneReached, Note
from imagebuild.host import ram, versions
from imagebuild.host.run import network_env
from imagebuild.manifest import ArtifactView, open_artifact
from imagebuild.verify import accel, bootlevel
from imagebuild.verify.accel import Accelerator
from imagebuild.verify.argv import PROGRAMS
from imagebuild.verify.bootlevel import CONFIG_DRIVE, METADATA, Boot, Booted
from imagebuild.verify.control import environment
from imagebuild.verify.firmware import Firmware
from imagebuild.verify.instance import Database, TroveBoot
from imagebuild.verify.place import place
from imagebuild.verify.report import Report, Subject
from imagebuild.verify.results import Check, Level, Milestone, Outcome, Run
from imagebuild.verify.static import Options as StaticOptions
from imagebuild.verify.static import check_static
from imagebuild.verify.trovelevels import check_trove
from imagebuild.verify.userdata import TroveUserData
from imagebuild.verify.watch import MILESTONES

#: Bytes that a machine takes at most, and the control plane beside it (measured: 0.5 GiB).
_MACHINE_MEMORY, _TROVE_MEMORY = (2048 + 256) << 20, 768 << 20
#: So many directories with the logs of machines are kept.
KEPT_LOGS = 10


@dataclass(frozen=True)
class Target:
    """What is verified: an image file, and the artifact that it belongs to, if any."""

    image: Path
    artifact: ArtifactView | None = None

    @property
    def name(self) -> str:
        """For people and for files."""
        return self.artifact.name if self.artifact else self.image.name

    @property
    def content(self) -> Mapping[str, object]:
        """The manifest's words about what is in it."""
        return self.artifact.content if self.artifact else {}


@dataclass(frozen=True)
class Wanted:
    """What is asked of it.

    `firmwares`: the first two ways to start; each boots once. `databases` and `isolation`
    (values of Trove's network_isolation) multiply into machines of the later levels.
    `limits` are seconds by milestone or step (`verify.watch.MILESTONES`,
    `verify.instance.SECONDS`). `keep_going` tries later levels in spite of failures.
    """

    level: Level = Level.BOOT
    firmwares: tuple[Firmware, ...] = ()
    accelerator: str | None = None
    databases: tuple[Database, ...] = ()
    isolation: tuple[bool, ...] = (True,)
    static: StaticOptions = field(default_factory=StaticOptions)
    series: str | None = None
    limits: Mapping[str, float] = field(default_factory=dict)
    keep_going: bool = False
    keep: bool = False
    offline: bool = False


def find_target(path: Path, images_dir: Path | None) -> Target:
    """The image that `path` names: a file, or an artifact (its qcow2, else its first image).

    A file that belongs to no artifact is verified for itself. Raises ConfigError.
    """
    try:
        view = open_artifact(path, images_dir)
    except ConfigError:
        if not path.is_file() or path.suffix == ".json":
            raise
        return Target(path.resolve())
    if path.is_file() and path.suffix != ".json":
        return Target(path.resolve(), view)
    images = [i for i in view.images if i.format in ("qcow2", "raw") and i.path.is_file()]
    if not images:
        raise ConfigError(
            "the artifact has no image that can be started", where=str(view.directory),
            detail="there is neither a qcow2 nor a raw file",
            hint="build it with one of these formats",
        )  # fmt: skip
    best = next((i for i in images if i.format == "qcow2"), images[0])
    return Target(best.path, view)


def verify(
    target: Target,
    wanted: Wanted,
    cache: Path,
    emit: Emit,
    *,
    also: Callable[[Booted], None] | None = None,
) -> Report:
    """Ask everything up to the level that is wanted.

    `cache` is the tool's cache directory: logs of machines stay below it, scratch does not.
    `also` gets the last machine's guest before it is ended. Raises PreflightError when nothing
    can be asked at all; a bad image is no exception but the report's verdict.
    """
    return _Verification(target, wanted, cache, emit, also).run()


class _Verification:
    def __init__(
        self,
        target: Target,
        wanted: Wanted,
        cache: Path,
        emit: Emit,
        also: Callable[[Booted], None] | None,
    ) -> None:
        self.target = target
        self.wanted = wanted
        self.cache = cache
        self.emit = emit
        self.also = also
        self.checks: list[Check] = []
        self.runs: list[Run] = []
        self.versions: dict[str, str] = {"imagebuild": __version__}
        if agent := self._agent.get("version"):
            self.versions["agent"] = f"trove {agent}"
        self.scratch = cache / "scratch"
        self.logs = _logs(cache, target.name)
        self.format = _format(target.image)
        self._accelerator: Accelerator | None = None

    def run(self) -> Report:
        started, clock = datetime.now(timezone.utc), time.monotonic()
        levels: dict[Level, Callable[[], None]] = {
            Level.STATIC: self._static,
            Level.BOOT: self._boots,
            Level.AGENT: self._trove,
        }
        for level, ask in levels.items():
            if level > self.wanted.level:
                break
            if self._is_open() and not self.wanted.keep_going:
                text = "an earlier level has not passed; --keep-going tries it all the same"
                self._take(Check(f"{level.label}/all", level, Outcome.SKIPPED, text))
                continue
            ask()
        return Report(
            self._subject(), self.wanted.level, started.strftime("%Y-%m-%dT%H:%M:%SZ"),
            time.monotonic() - clock, tuple(self.checks), tuple(self.runs), self.versions,
        )  # fmt: skip

    def _is_open(self) -> bool:
        """Whether something is wrong, or could not be told."""
        return any(c.outcome in (Outcome.FAILED, Outcome.UNKNOWN) for c in self.checks)

    def _take(self, check: Check) -> None:
        self.checks.append(check)
        self._say(check)

    def _say(self, check: Check) -> None:
        self.emit(
            Checked(check.name, check.level.label, check.outcome.value, check.what, check.seconds)
        )

    def _static(self) -> None:
        with place(self.scratch) as here:
            found = check_static(
                self.target.image, here.path, artifact=self.target.artifact,
                options=self.wanted.static,
            )  # fmt: skip
        for check in found:
            self._take(check)

    @property
    def accelerator(self) -> Accelerator:
        """Chosen when the first machine needs it, and said."""
        if self._accelerator is None:
            self._accelerator = accel.choose(self.wanted.accelerator, arch=self._arch)
            said = versions.ask([PROGRAMS.get(self._arch, PROGRAMS["amd64"])[0], "--version"])
            if said and (found := re.search(r"version (\S+)", said.result())):
                self.versions["qemu"] = found[1]
            text = f"accelerator: {self._accelerator.name} ({self._accelerator.why})"
            slow = "; machines are emulated, and may take minutes"
            self.emit(Note(text + (slow if self._accelerator.is_emulated else "")))
        return self._accelerator

    @property
    def _arch(self) -> str:
        return str(self.target.content.get("arch") or "amd64")

    @property
    def _firmwares(self) -> tuple[Firmware, ...]:
        if self.wanted.firmwares:
            return self.wanted.firmwares
        return (Firmware.UEFI,) if self._arch == "arm64" else (Firmware.BIOS, Firmware.UEFI)

    def _template(self, name: str, how: str, firmware: Firmware) -> Boot:
        return Boot(
            image=self.target.image, how=how, firmware=firmware, logs=self.logs / name,
            scratch=self.scratch, accelerator=self.accelerator, fmt=self.format, arch=self._arch,
            limits={n: s for n, s in self.wanted.limits.items() if n in MILESTONES},
            user=str(self.target.content.get("guest_username") or "ubuntu"),
        )  # fmt: skip

    def _machine(self, level: Level, name: str, text: str, ask: Callable[[], Run]) -> None:
        """Run one machine; a host that cannot is an answer, too."""
        self.emit(MachineStarted(name, text))
        try:
            _check_memory(_MACHINE_MEMORY + (_TROVE_MEMORY if level >= Level.AGENT else 0))
            self.runs.append(ask())
        except PreflightError as exc:
            self._take(
                Check(
                    f"{level.label}/{name}/host", level, Outcome.UNKNOWN, exc.what,
                    tuple(filter(None, (exc.where, *exc.detail.splitlines()))), exc.hint,
                )
            )  # fmt: skip

    def _reached(self, name: str) -> Callable[[Milestone], None]:
        return lambda m: self.emit(MilestoneReached(name, m.name, m.seconds))

    def _boots(self) -> None:
        firmwares = self._firmwares
        for how, firmware in ((CONFIG_DRIVE, firmwares[0]), (METADATA, firmwares[-1])):
            ask = functools.partial(self._boot, how, firmware)
            self._machine(Level.BOOT, how, f"{how}, {firmware.value}", ask)

    def _boot(self, how: str, firmware: Firmware) -> Run:
        is_last = self.wanted.level is Level.BOOT and how == METADATA
        boot = self._template(how, how, firmware)
        run, checks = bootlevel.check_boot(
            dataclasses.replace(
                boot, keep=self.wanted.keep and is_last,
                user_data=TroveUserData(user=boot.user).render(),
            ),
            content=self.target.content,
            also=self.also if is_last else None,
            on_milestone=self._reached(how),
        )  # fmt: skip
        for check in checks:
            self._take(check)
        return run

    def _trove(self) -> None:
        with ExitStack() as stack:
            try:
                control = environment.prepare(
                    self._series(), self.cache, env=network_env(), offline=self.wanted.offline,
                    tell=lambda text: self.emit(Note(text)),
                )  # fmt: skip
                stack.enter_context(control.held())
                instances = self._instances(control)
            except (ConfigError, Interrupted):
                raise
            except ImagebuildError as exc:
                self._take(
                    Check(
                        "agent/control-plane", Level.AGENT, Outcome.UNKNOWN, exc.what,
                        tuple(filter(None, (exc.where, *exc.detail.splitlines()))), exc.hint,
                        exc.cause,
                    )
                )  # fmt: skip
                return
            for note in control.notes:
                self.emit(Note(note, warning=True))
            self.versions["control plane"] = f"trove {control.control.version}"
            for wanted in instances:
                text = f"an instance of Trove: {_describe(wanted)}"
                ask = functools.partial(self._instance, wanted)
                self._machine(wanted.level, wanted.name, text, ask)

    def _instance(self, wanted: TroveBoot) -> Run:
        run, checks = check_trove(
            wanted, on_milestone=self._reached(wanted.name), on_check=self._say, also=self.also
        )
        self.checks += checks
        return run

    def _instances(self, control: environment.Environment) -> list[TroveBoot]:
        databases: Sequence[Database] = self.wanted.databases
        isolation = self.wanted.isolation
        if self.wanted.level is Level.AGENT:
            # The agent answers before it has a database: one machine says it all.
            databases = databases[:1] or (Database("mariadb", "10.11", "mariadb"),)
            isolation = isolation[:1]
        made = []
        for database in databases:
            for is_isolated in isolation:
                name = f"{database.datastore}-{'isolation' if is_isolated else 'bridge'}"
                boot = self._template(name, METADATA, self._firmwares[0])
                made.append(
                    TroveBoot(
                        name, boot, control, database, self.wanted.level, is_isolated,
                        str(self._agent.get("version") or ""), dict(self.wanted.limits),
                    )
                )  # fmt: skip
        if made and self.wanted.keep:
            # Of the machine alone: the control plane ends with the tool.
            made[-1] = dataclasses.replace(
                made[-1], boot=dataclasses.replace(made[-1].boot, keep=True)
            )
        return made

    @property
    def _agent(self) -> Mapping[str, object]:
        agent = self.target.content.get("agent")
        return agent if isinstance(agent, Mapping) else {}

    def _series(self) -> str:
        series = self.wanted.series or self._agent.get("series")
        if series:
            return str(series)
        raise ConfigError(
            "which series of Trove is the image for?", where=str(self.target.image),
            detail="it belongs to no artifact that says so",
            hint="--trove-series SERIES",
        )  # fmt: skip

    def _subject(self) -> Subject:
        view = self.target.artifact
        return Subject(
            image=self.target.image,
            format=self.format,
            size=self.target.image.stat().st_size,
            **digests_of_file(self.target.image, "sha256", "sha512"),
            name=view.name if view else None,
            build_id=view.build_id if view else None,
            dev=bool(view and view.is_dev),
        )


def _check_memory(wanted: int) -> None:
    usable = ram.measure().usable
    if usable < wanted:
        raise PreflightError(
            "there is too little memory for the machine",
            detail=f"{usable >> 20} MiB can be had, {wanted >> 20} MiB are wanted",
            hint="end something else, or use another host",
        )


def _describe(wanted: TroveBoot) -> str:
    network = "network isolation" if wanted.network_isolation else "bridge network"
    return f"{wanted.database.datastore} {wanted.database.version}, {network}"


def _format(image: Path) -> str:
    with image.open("rb") as file:
        return "qcow2" if file.read(4) == b"QFI\xfb" else "raw"


def _logs(cache: Path, name: str) -> Path:
    """A new directory for the logs of machines; the oldest of earlier ones go."""
    root = cache / "verify/logs"
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise PreflightError(
            "cannot make the directory for logs",
            where=str(root),
            detail=str(exc),
            hint="--cache-dir DIR (IMAGEBUILD_CACHE_DIR) chooses another place",
        ) from exc
    for old in sorted(root.iterdir(), key=lambda p: p.stat().st_mtime)[: -KEPT_LOGS + 1]:
        shutil.rmtree(old, ignore_errors=True)
    path = root / f"{name}-{time.strftime('%Y%m%dT%H%M%S')}"
    path.mkdir(exist_ok=True)
    return path
