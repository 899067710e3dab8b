"""The boot level: the image starts as Nova would start it, and is asked how it went."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imagebuild.errors import VerifyError
from imagebuild.verify import keep, metadata, probe
from imagebuild.verify.accel import Accelerator
from imagebuild.verify.bootchecks import Questions, ask
from imagebuild.verify.causes import cause_of
from imagebuild.verify.configdrive import make_config_drive
from imagebuild.verify.firmware import Firmware
from imagebuild.verify.guest import Guest
from imagebuild.verify.machine import Machine, running
from imagebuild.verify.metadata import Instance
from imagebuild.verify.nic import ONE_NIC, HostForward, Nic
from imagebuild.verify.place import place
from imagebuild.verify.results import Check, Level, Milestone, Outcome, Run
from imagebuild.verify.spec import MachineSpec
from imagebuild.verify.sshkey import make_key
from imagebuild.verify.trouble import BootTroubleError, Kind
from imagebuild.verify.watch import Limits, Watch

#: The two ways in which Nova tells an instance about itself.
CONFIG_DRIVE, METADATA = "config-drive", "metadata"
#: Seconds (under KVM) for the journal of a guest in trouble.
_JOURNAL_SECONDS = 15.0


def run_name(how: str, firmware: Firmware) -> str:
    """What verify.json calls the run of a machine of the level boot."""
    return f"{how}-{firmware.value}"


@dataclass(frozen=True)
class Boot:
    """How to boot an image once.

    `how`: CONFIG_DRIVE or METADATA. `scratch`: the root of all scratch directories; `logs`: a
    directory for the console and other logs. `user`: the guest's user, for ssh. A host port 0
    of `host_forwards` is a free one (`Machine.qmp.ports()`); port 22 is always among them.
    """

    image: Path
    how: str
    logs: Path
    scratch: Path
    accelerator: Accelerator
    firmware: Firmware = Firmware.BIOS
    fmt: str = "qcow2"
    arch: str = "amd64"
    user: str = "ubuntu"
    user_data: bytes | None = None
    meta: Mapping[str, str] = field(default_factory=dict)
    nics: tuple[Nic, ...] = ONE_NIC
    volumes: tuple[Path, ...] = ()
    forwards: Mapping[str, int] = field(default_factory=dict)
    host_forwards: tuple[HostForward, ...] = ()
    limits: Limits | None = None
    memory_mib: int = 2048
    cpus: int = 2
    disk_size: str | None = "10G"
    keep: bool = False

    @property
    def name(self) -> str:
        """What its checks, its run and a kept machine are called."""
        return run_name(self.how, self.firmware)


@dataclass(frozen=True)
class Booted:
    """A guest that has settled, while its machine runs. `facts`: `kernel` (release),
    `cloud_init` (its result.json), `system`, `failed` (unit names), `stalls` (what was found
    of machines that the emulator let down before this one).
    """

    machine: Machine
    guest: Guest
    milestones: tuple[Milestone, ...]
    facts: Mapping[str, Any]
    console: str

    @property
    def seconds(self) -> dict[str, float]:
        """Milestone -> seconds since qemu's start."""
        return {m.name: m.seconds for m in self.milestones}


@contextlib.contextmanager
def booted(
    boot: Boot, *, on_milestone: Callable[[Milestone], None] = lambda _m: None
) -> Iterator[Booted]:
    """Boot, wait until the system has settled; the machine ends with the block.

    A machine that stalls under emulation is started a second time, once. Raises
    BootTroubleError when the system does not settle, PreflightError when the host cannot.
    With `boot.keep` the machine lives on when the block ends well (`verify.keep`).
    """
    stalls: list[dict[str, Any]] = []
    with ExitStack() as stack:
        try:
            found = stack.enter_context(_attempt(boot, boot.logs, stalls, on_milestone))
        except BootTroubleError as exc:
            if exc.kind is not Kind.STALLED:
                raise
            stalls.append(dict(exc.facts) | {"logs": exc.where, "console": exc.evidence[-3:]})
            again = boot.logs / "again"
            try:
                found = stack.enter_context(_attempt(boot, again, stalls, on_milestone))
            except BootTroubleError as second:
                second.facts = dict(second.facts) | {"stalls": stalls}
                raise
        yield found


@contextlib.contextmanager
def _attempt(
    boot: Boot,
    logs: Path,
    stalls: list[dict[str, Any]],
    on_milestone: Callable[[Milestone], None],
) -> Iterator[Booted]:
    with place(boot.scratch) as here:
        key = make_key(here.path)
        instance = Instance(
            user_data=boot.user_data,
            vendor_data=probe.vendor_data(),
            public_key=key.public if key else "",
            nics=boot.nics,
            meta=boot.meta,
        )
        iso = tree = None
        if boot.how == CONFIG_DRIVE:
            iso = make_config_drive(here.path / "config.iso", instance)
        else:
            tree = metadata.write(instance, here.path / "metadata")
        spec = MachineSpec(
            image=boot.image, accelerator=boot.accelerator, firmware=boot.firmware, fmt=boot.fmt,
            arch=boot.arch, memory_mib=boot.memory_mib, cpus=boot.cpus, disk_size=boot.disk_size,
            config_drive=iso, metadata=tree, nics=boot.nics, volumes=boot.volumes,
            forwards=boot.forwards, host_forwards=(HostForward(0, 22), *boot.host_forwards),
        )  # fmt: skip
        with (
            running(spec, logs, here, keep=boot.keep) as machine,
            Guest(machine, key=key.private if key else None, user=boot.user) as guest,
        ):
            watch = Watch(machine, boot.limits, on_milestone)
            try:
                watch.follow()
            except BootTroubleError as exc:
                if "probe" in watch.seen and not machine.has_ended:
                    exc.evidence += _journal(guest)
                    exc.detail = "\n".join(exc.evidence)
                raise
            facts = {
                "kernel": watch.reports.latest["start"].strip(),
                "cloud_init": watch.reports.cloud_init,
                "system": watch.reports.system,
                "failed": watch.reports.failed,
                "stalls": stalls,
            }
            if boot.how == METADATA:
                asked = metadata.requests(machine.metadata_log)
                facts["metadata_requests"] = [r.path for r in asked]
            yield Booted(machine, guest, watch.milestones, facts, watch.console.text)
            if boot.keep:
                keep.record(guest, boot.name)


def check_boot(
    boot: Boot,
    *,
    content: Mapping[str, Any] | None = None,
    also: Callable[[Booted], None] | None = None,
    on_milestone: Callable[[Milestone], None] = lambda _m: None,
) -> tuple[Run, list[Check]]:
    """The boot level for one way to start.

    `content` is the manifest's, None: what is known without it is checked. `also` is called
    with the settled guest before the machine ends. Raises PreflightError when the host cannot
    start the machine; what the image does wrong is a check that failed, what cannot be told
    is one with the outcome UNKNOWN.
    """
    prefix = f"boot/{boot.how}"
    accelerated = {"accelerator": boot.accelerator.why}
    try:
        with booted(boot, on_milestone=on_milestone) as found:
            checks = [_settled(prefix, found), *_stalled(prefix, found.facts["stalls"])]
            checks += ask(_questions(boot, found, content or {}))
            if also:
                also(found)
            milestones, facts, logs = found.milestones, found.facts, found.machine.logs
    except BootTroubleError as exc:
        milestones = tuple(Milestone(name, seconds) for name, seconds in exc.seen.items())
        facts, logs = exc.facts, Path(exc.where)
        checks = [_trouble(prefix, exc)]
    return (
        Run(
            name=boot.name,
            accelerator=boot.accelerator.name,
            firmware=boot.firmware.value,
            milestones=milestones,
            facts=dict(facts) | accelerated,
            logs=str(logs),
        ),
        checks,
    )


def _questions(boot: Boot, found: Booted, content: Mapping[str, Any]) -> Questions:
    return Questions(
        guest=found.guest,
        how=boot.how,
        user=boot.user,
        user_data=boot.user_data,
        nics=boot.nics,
        facts=found.facts,
        content=content,
    )


def _settled(prefix: str, found: Booted) -> Check:
    times = ", ".join(f"{m.name} {m.seconds:.0f}" for m in found.milestones)
    return Check(
        f"{prefix}/start", Level.BOOT, Outcome.PASSED,
        f"the system settled {found.seconds['settled']:.0f} s after its start",
        evidence=(f"seconds: {times}",), seconds=found.seconds["settled"],
    )  # fmt: skip


def _stalled(prefix: str, stalls: list[dict[str, Any]]) -> list[Check]:
    return [
        Check(
            f"{prefix}/emulator", Level.BOOT, Outcome.WARNING,
            "the emulator stalled once, and the machine was started again",
            evidence=(*stall["console"], f"processors: {stall.get('processors')}"),
            hint=f"its logs: {stall['logs']}; a host with KVM does not do this",
        )
        for stall in stalls
    ]  # fmt: skip


def _trouble(prefix: str, exc: BootTroubleError) -> Check:
    outcome = Outcome.UNKNOWN if exc.blames_host else Outcome.FAILED
    hint = f"the console: {exc.where}/console.log"
    if exc.blames_host:
        hint += "; a host with KVM, or with less to do, can tell more"
        if exc.kind is Kind.STALLED:
            ends = {tuple(exc.evidence[-1:]), *(tuple(s["console"][-1:]) for s in _stalls(exc))}
            where = "the same line" if len(ends) == 1 else "another line"
            hint += f"; it stalled twice, the second time at {where}"
    elif exc.kind is Kind.SILENT:
        hint += f"; processors: {exc.facts.get('processors')}"
    return Check(
        f"{prefix}/start", Level.BOOT, outcome, exc.what,
        evidence=tuple(exc.evidence), hint=hint, cause=cause_of("\n".join(exc.evidence)),
        seconds=max(exc.seen.values(), default=None),
    )  # fmt: skip


def _stalls(exc: BootTroubleError) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = exc.facts.get("stalls", [])
    return found


def _journal(guest: Guest) -> list[str]:
    """What the guest's own journal has to say about a boot that does not end."""
    command = (
        "systemctl list-jobs --no-legend --no-pager | head -8;"
        " journalctl -b -p warning -o short-monotonic --no-pager -n 40"
    )
    try:
        out = guest.run(command, _JOURNAL_SECONDS * guest.patience).out
    except VerifyError:
        return []
    return [f"journal: {line}" for line in out.splitlines() if line.strip()]
