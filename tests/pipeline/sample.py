"""Made-up nights for tests of what reads reports: two images, a mirror list, two clouds.

The images' figures are those of real builds (tests/pipeline/data); what varies from night to
night, and what a verification says, is made up, the same in every process.

    tonight()      all is well; packages, agent, sizes have changed since last night
    bad_night()    bookworm is published, jammy fails in verify, noble is held by its mirror list
    killed()       the run ended in the middle: complete is false
    earlier()      14 nights before, oldest first
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from imagebuild.pipeline.cells import Phase
from imagebuild.pipeline.facts import ImageFacts
from imagebuild.pipeline.outcome import Attempt, CellReport, PhaseReport, RunReport, Status

PIPELINE = "nightly"
BOOKWORM, JAMMY, NOBLE = "debian-bookworm-amd64", "ubuntu-jammy-amd64", "ubuntu-noble-amd64"
MIRROR, BACKUPS = "mirror-trove", "mirror-backup-images"
CLOUDS = ("region-one", "region-two")
#: 23 November 2026, 02:17 UTC, and a day, in seconds.
NIGHT, DAY = 1795400220.0, 86400.0
NUMBER_OF_NIGHTS = 14

_HERE = Path(__file__).parent
_HOME = "/home/ci"
#: Milestones of a machine under KVM, seconds.
_MILESTONES = {
    "console": 1.1, "kernel": 1.4, "root": 3.6, "cloud-init-local": 5.0, "probe": 5.6,
    "cloud-init-network": 7.9, "ssh": 8.4, "login": 8.6, "docker": 9.9, "agent-started": 10.2,
    "cloud-init-done": 10.8, "settled": 12.0,
}  # fmt: skip
_MACHINES = {"config-drive": 1.0, "metadata": 1.15, "mysql-isolation": 1.3}
_STATIC = (
    "file/format", "file/whole", "file/standalone", "file/digest", "file/virtual-size",
    "file/budget", "filesystem/readable", "filesystem/clean", "filesystem/features",
    "filesystem/label", "filesystem/room", "disk/partitions", "bootloader/bios",
    "bootloader/uefi", "bootloader/config", "kernel/modules", "initramfs", "architecture",
    "fstab", "users/guest-user", "users/sudo", "users/docker", "users/database-uid",
    "units/docker", "units/guest-agent", "units/network", "cloud-init/datasources",
    "cloud-init/enabled", "cloud-init/network", "agent/python", "agent/entry-point",
    "agent/modules", "agent/version", "agent/series", "network/routes", "manifest/content",
    "manifest/files", "manifest/packages", "safety/ssh/host-keys", "safety/machine-id",
)  # fmt: skip
_BOOT = ("start", "cloud-init", "files", "disk", "network", "docker", "agent", "units", "journal")
_DATABASE = (
    "active", "healthy", "volume", "container", "login", "create-database", "create-user",
    "grant", "revoke", "restart", "data", "backup",
)  # fmt: skip
#: Packages that get a new version now and then.
_MOVING = ("openssl", "libssl3", "curl", "libcurl4", "systemd", "libsystemd0", "docker.io", "linux")
_MOVING_PYTHON = ("certifi", "cryptography", "oslo-messaging", "sqlalchemy", "requests")


def run_name(started: float) -> str:
    """The name of a run of that time."""
    return datetime.fromtimestamp(started, timezone.utc).strftime("%Y%m%dT%H%M%SZ")


def earlier(nights: int = NUMBER_OF_NIGHTS) -> list[RunReport]:
    """Nights before tonight, oldest first; in one of them jammy did not build."""
    return [_night(nights - n) for n in range(nights)]


def tonight() -> RunReport:
    """A night on which all went well."""
    return _night(0)


def bad_night() -> RunReport:
    """A night with a failed image, a failed mirror list, and the image that it holds."""
    good = tonight()
    bookworm = good.cell(BOOKWORM)
    assert bookworm
    mirror = good.cell(MIRROR)
    assert mirror
    cells = (mirror, _broken_mirror(good.started + 40), bookworm, _broken_jammy(), _held_noble())
    return dataclasses.replace(good, cells=cells, notes=("the clock was 2 s behind at the start",))


def killed() -> RunReport:
    """report.json as a run leaves it that ended while bookworm was being verified."""
    good = tonight()
    cells = []
    for cell in good.cells:
        if cell.id == BOOKWORM:
            cell = dataclasses.replace(cell, phases=cell.phases[:1])
        if cell.id != JAMMY:
            cells.append(cell)
    return dataclasses.replace(good, cells=tuple(cells), complete=False, seconds=131.4)


def empty(name: str = "nightly", **fields: Any) -> RunReport:  # noqa: ANN401
    """A report without cells."""
    started = NIGHT
    made = RunReport(name, run_name(started), started, 1.0, ())
    return dataclasses.replace(made, **fields)


def with_error(what: str = "it is bad", code: int = 1, **fields: Any) -> RunReport:  # noqa: ANN401
    """A report with one cell, whose build failed with that error."""
    error = {
        "error": "BuildError", "exit_code": code, "what": what, "where": "", "detail": "",
        "hint": "",
    } | fields  # fmt: skip
    attempts = (Attempt(NIGHT, 1, code),)
    phase = PhaseReport(Phase.BUILD, Status.FAILED, started=NIGHT, attempts=attempts, error=error)
    return empty(cells=(CellReport("one-amd64", "image", (phase,)),))


def facts(cell_id: str, nights_ago: int = 0) -> ImageFacts:
    """The image of a cell, so many nights ago."""
    base = _base("ubuntu-jammy" if cell_id == JAMMY else "debian-bookworm")
    rng = random.Random(f"{cell_id}{nights_ago}")  # noqa: S311
    build_id = hashlib.sha256(f"{cell_id} {nights_ago}".encode()).hexdigest()
    grown = 1 + 0.004 * (NUMBER_OF_NIGHTS - nights_ago) + rng.uniform(-0.001, 0.001)
    slower = rng.uniform(0.85, 1.2)
    agent = dict(base.agent) | ({"version": "25.0.1"} if nights_ago else {"version": "26.0.0"})
    packages = _drifted(base.packages, _MOVING, nights_ago)
    if nights_ago:
        packages.pop("iproute2", None)
        packages["ntpdate"] = "1:4.2.8p15+dfsg-2"
    return dataclasses.replace(
        base,
        name=f"trove-guest-{cell_id}-{build_id[:8]}",
        build_id=build_id,
        created=NIGHT - nights_ago * DAY + 300,
        files={k: int(v * grown) if k == "qcow2" else v for k, v in base.files.items()},
        rootfs=int((base.rootfs or 0) * grown),
        agent=agent,
        packages=dict(sorted(packages.items())),
        python_packages=_drifted(base.python_packages, _MOVING_PYTHON, nights_ago),
        stages=_stages(base, slower, rng),
        hooks=tuple((s, p, n, round(t * slower, 2)) for s, p, n, t in base.hooks),
        verdict="passed",
        proven="database",
        boots={
            name: tuple((m, round(s * slower * factor, 1)) for m, s in _MILESTONES.items())
            for name, factor in _MACHINES.items()
        },
        checks=_checks(rng),
        directories=tuple((p, int(b * grown), d) for p, b, d in base.directories),
    )  # fmt: skip


def _stages(
    base: ImageFacts, slower: float, rng: random.Random
) -> tuple[tuple[str, float, bool], ...]:
    """On some nights, the first stage comes from the store."""
    is_reused = rng.random() < 0.3
    return tuple(
        (n, 0.4 if is_reused and n == "base" else round(s * slower, 2), is_reused and n == "base")
        for n, s, _ in base.stages
    )


def _night(nights_ago: int) -> RunReport:
    started = NIGHT - nights_ago * DAY
    rng = random.Random(nights_ago)  # noqa: S311
    cells: list[CellReport] = [_mirror(started, rng)]
    clock = started + 95
    for cell_id in (BOOKWORM, JAMMY):
        if cell_id == JAMMY and nights_ago == 9:
            cells.append(_unbuilt(cell_id, clock))
            continue
        cells.append(_image(cell_id, facts(cell_id, nights_ago), clock))
        clock += sum(p.seconds for p in cells[-1].phases)
    return RunReport(
        pipeline=PIPELINE,
        run=run_name(started),
        started=started,
        seconds=round(clock - started + 4, 1),
        cells=tuple(cells),
        tool="0.1.0",
        host="builder-1.example.org",
    )


def phase(
    which: Phase,
    cell_id: str,
    started: float,
    seconds: float,
    argv: Sequence[str] = (),
    **fields: Any,  # noqa: ANN401
) -> PhaseReport:
    """A phase that passed in one try; `fields` says what is otherwise."""
    target = str(fields.get("target", ""))
    suffix = "-" + target.replace("/", "-") if target else ""
    made = PhaseReport(
        phase=which,
        status=Status.PASSED,
        started=round(started, 2),
        seconds=round(seconds, 1),
        attempts=(Attempt(round(started, 2), round(seconds, 1), 0),),
        command=("imagebuild", *argv),
        log=f"cells/{cell_id}/{which.value}{suffix}.log",
    )
    return dataclasses.replace(made, **fields)


def _mirror(started: float, rng: random.Random) -> CellReport:
    totals = {
        "images": 41, "failed": False, "seconds": 88.2,
        "outcomes": {"unchanged": 39, "copied": 1, "replaced": 1, "missing": 0, "failed": 0,
                     "skipped": 0},
        "bytes_copied": rng.randrange(10**8, 10**9), "bytes_mounted": 21_000_000,
        "bytes_present": 9_420_000_000,
    }  # fmt: skip
    argv = ("mirror", "sync", "trove", "--target", "registry.example.org:5000/trove")
    sync = phase(Phase.MIRROR, MIRROR, started + 2, 88.2, argv, result={"totals": totals})
    return CellReport(MIRROR, "mirror", (sync,))


def _image(cell_id: str, image: ImageFacts, clock: float) -> CellReport:
    os_name, release = cell_id.split("-")[:2]
    artifact = f"{_HOME}/images/{image.name}"
    took = sum(s for _, s, _ in image.stages)
    phases = [
        phase(Phase.BUILD, cell_id, clock, took, ("build", os_name, release),
              result={"artifact": artifact, "build_id": image.build_id, "unchanged": False}),
        phase(Phase.VERIFY, cell_id, clock + took, 312.5,
              ("verify", artifact, "--level", "database", "--database", "mysql:8.4"),
              result={"verdict": "passed", "proven": "database"}),
        phase(Phase.GATES, cell_id, clock + took + 313, 0.1),
    ]  # fmt: skip
    clock += took + 314
    for cloud in CLOUDS:
        glance = hashlib.sha256(f"{cloud}{image.build_id}".encode()).hexdigest()
        glance = f"{glance[:8]}-{glance[8:12]}-4{glance[12:15]}-8{glance[15:18]}-{glance[18:30]}"
        version = f"{cloud}/mysql/8.4"
        phases += [
            phase(Phase.UPLOAD, cell_id, clock, 21.3,
                  ("upload", artifact, "--cloud", cloud, "--candidate"), target=cloud,
                  result={"status": "uploaded", "image": glance, "bytes": image.files["qcow2"]}),
            phase(Phase.REGISTER, cell_id, clock + 22, 1.4,
                  ("datastore", "create", "mysql", "8.4", "--cloud", cloud), target=version,
                  status=Status.UNCHANGED),
            phase(Phase.PROMOTE, cell_id, clock + 24, 3.1,
                  ("datastore", "promote", "mysql", "8.4", image.name, "--cloud", cloud),
                  target=version, result={"changed": True}),
            phase(Phase.RETIRE, cell_id, clock + 28, 1.9,
                  ("datastore", "retire", "mysql", "--cloud", cloud), target=f"{cloud}/mysql",
                  result={"deleted": 1, "deactivated": 0, "left": 2}),
        ]  # fmt: skip
        clock += 30
    if cell_id == BOOKWORM:
        # The second try of an upload: the first met a busy cloud.
        number = next(n for n, p in enumerate(phases) if p.phase is Phase.UPLOAD)
        first = phases[number]
        phases[number] = dataclasses.replace(
            first,
            attempts=(
                Attempt(first.started, 3.2, 75),
                Attempt(round(first.started + 63, 2), 21.3, 0),
            ),
            seconds=84.3,
        )
    return _cell(cell_id, tuple(phases), image, artifact)


def _cell(
    cell_id: str, phases: tuple[PhaseReport, ...], image: ImageFacts | None, artifact: str = ""
) -> CellReport:
    os_name, release, arch = cell_id.split("-")
    return CellReport(
        id=cell_id,
        kind="image",
        phases=phases,
        profile=f"{os_name}-{release}",
        series="2026.2",
        arch=arch,
        build_id=image.build_id if image else "",
        artifact=artifact,
        image=image.to_json() if image else None,
    )


def _unbuilt(cell_id: str, clock: float) -> CellReport:
    error = {
        "error": "TemporaryError", "exit_code": 75,
        "what": "the package mirror does not answer",
        "where": "http://archive.example.org/ubuntu/dists/jammy/InRelease",
        "detail": "HTTP 503 three times", "hint": "run it again later",
    }  # fmt: skip
    build = phase(
        Phase.BUILD, cell_id, clock, 181.0, ("build", "ubuntu", "jammy"), status=Status.FAILED,
        error=error,
        attempts=tuple(Attempt(round(clock + n * 60, 2), 1.0, 75) for n in range(3)),
    )  # fmt: skip
    return _cell(cell_id, (build, *_held(Phase.VERIFY, "build failed")), None)


def _held(first: Phase, why: str) -> tuple[PhaseReport, ...]:
    """The phases from `first` on, not tried."""
    order: list[Phase] = [p for p in Phase if p is not Phase.MIRROR]
    targets = {Phase.UPLOAD: CLOUDS, Phase.RETIRE: tuple(f"{c}/mysql" for c in CLOUDS)}
    versions = tuple(f"{c}/mysql/8.4" for c in CLOUDS)
    targets |= {Phase.REGISTER: versions, Phase.PROMOTE: versions}
    return tuple(
        PhaseReport(p, Status.HELD, target=t, why=why)
        for p in order[order.index(first) :]
        for t in targets.get(p, ("",))
    )


def _broken_mirror(started: float) -> CellReport:
    error = {
        "error": "PublishError", "exit_code": 6, "what": "2 of 12 images are missing in the target",
        "where": "registry.example.org:5000/trove",
        "detail": "docker.io/openstacktrove/db-backup-mysql8.4:1.1.2: 429 Too Many Requests\n"
        "docker.io/openstacktrove/db-backup-postgresql17:1.1.2: 429 Too Many Requests",
        "hint": "log in to docker.io, which grants more pulls, or wait for an hour",
    }  # fmt: skip
    argv = ("mirror", "sync", "backup-images", "--target", "registry.example.org:5000/trove")
    sync = phase(
        Phase.MIRROR, BACKUPS, started, 12.6, argv, status=Status.FAILED, error=error,
        attempts=(Attempt(started, 12.6, 6),),
    )  # fmt: skip
    return CellReport(BACKUPS, "mirror", (sync,))


def _broken_jammy() -> CellReport:
    image = facts(JAMMY)
    bad = {
        "name": "boot/metadata/agent", "level": "boot", "outcome": "failed",
        "what": "the guest agent has ended: ModuleNotFoundError: No module named 'oslo_utils'",
        "hint": "its wheels come from a lock file of another series",
        "evidence": [
            "guest-agent.service: Main process exited, code=exited, status=1/FAILURE",
            "ModuleNotFoundError: No module named 'oslo_utils'",
        ],
        "seconds": 4.2,
    }  # fmt: skip
    checks = tuple(bad if c["name"] == bad["name"] else c for c in image.checks)
    kept = tuple(c for c in checks if c["level"] in ("static", "boot"))
    skipped: dict[str, Any] = {
        "name": "agent/all", "level": "agent", "outcome": "skipped", "hint": "", "evidence": [],
        "what": "an earlier level has not passed; --keep-going tries it all the same",
        "seconds": None,
    }  # fmt: skip
    image = dataclasses.replace(
        image,
        verdict="failed",
        proven="static",
        checks=(*kept, skipped),
        boots={k: v for k, v in image.boots.items() if "isolation" not in k},
    )
    whole = _image(JAMMY, image, NIGHT + 700)
    verify = whole.phases[1]
    error = {
        "error": "VerifyError", "exit_code": 5, "what": "the image is bad: 1 check failed",
        "where": image.name, "detail": f"{bad['name']}: {bad['what']}", "hint": bad["hint"],
    }  # fmt: skip
    failed = dataclasses.replace(
        verify,
        status=Status.FAILED,
        error=error,
        attempts=(Attempt(verify.started, 61.8, 5),),
        seconds=61.8,
        result={"verdict": "failed", "proven": "static"},
        warnings=("the machine is emulated (no /dev/kvm): times are not those of a cloud",),
    )
    phases = (whole.phases[0], failed, *_held(Phase.GATES, "verify failed"))
    return dataclasses.replace(whole, phases=phases)


def _held_noble() -> CellReport:
    return _cell(NOBLE, _held(Phase.BUILD, f"{BACKUPS} failed"), None)


def _checks(rng: random.Random) -> tuple[Mapping[str, Any], ...]:
    names = [("static", f"static/{n}") for n in _STATIC]
    names += [("boot", f"boot/{how}/{n}") for how in ("config-drive", "metadata") for n in _BOOT]
    names += [("agent", f"agent/mysql-isolation/{n}") for n in ("connected", "version", "journal")]
    names += [("database", f"database/mysql-isolation/{n}") for n in _DATABASE]
    checks = []
    for level, name in names:
        outcome, what, hint = "passed", "as it should be", ""
        if name == "static/filesystem/room":
            outcome, what = "warning", "the root filesystem has 61 MiB of room at the first boot"
            hint = "a larger disk.size"
        checks.append(
            {
                "name": name, "level": level, "outcome": outcome, "what": what, "hint": hint,
                "evidence": ["Avail 61M"] if hint else [],
                "seconds": None if level == "static" else round(rng.uniform(0.1, 6), 1),
            }
        )  # fmt: skip
    return tuple(checks)


def _drifted(versions: Mapping[str, str], moving: Sequence[str], nights_ago: int) -> dict[str, str]:
    """The versions of an earlier night: what moves does so every few nights."""
    found = dict(versions)
    for number, name in enumerate(moving):
        if name in found:
            found[name] += f".{20 - (nights_ago + 2 + number) // 3}"
    return found


@functools.cache
def _base(name: str) -> ImageFacts:
    return ImageFacts.from_json(json.loads((_HERE / f"data/{name}.json").read_text()))
