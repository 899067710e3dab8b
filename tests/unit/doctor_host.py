"""A host that is described instead of looked at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from imagebuild.config.load import Override, find_profile, load_profile
from imagebuild.config.profile import Profile
from imagebuild.doctor.check import Finding, Level, Need, Place, Subject
from imagebuild.doctor.examine import CHECKS, examine
from imagebuild.doctor.host import Host, Mount, Said, Trial, Usage
from imagebuild.errors import PreflightError
from imagebuild.host.kvm import Kvm
from imagebuild.host.preflight import BOOT_TOOLS, BUILD_TOOLS, VERIFY_TOOLS
from imagebuild.host.ram import Memory

OS_RELEASE = {
    "debian": {"ID": "debian"},
    "ubuntu": {"ID": "ubuntu", "ID_LIKE": "debian"},
    "fedora": {"ID": "fedora"},
    "mint": {"ID": "linuxmint", "ID_LIKE": "ubuntu debian"},
    "rocky": {"ID": "rocky", "ID_LIKE": "rhel centos fedora"},
    "arch": {"ID": "arch"},
}
VERSIONS = {"mmdebstrap": "mmdebstrap 1.3.5", "mke2fs": "mke2fs 1.47.0 (5-Feb-2023)",
            "qemu-img": "qemu-img version 7.2.22 (Debian 1:7.2)"}  # fmt: skip
CACHE = Path("/home/me/.cache/imagebuild")
GIB = 1 << 30


@dataclass
class Facts:
    """A host on which everything is fine; a test says what is different."""

    distribution: str = "debian"
    programs: frozenset[str] = frozenset(
        {n for t in {**BUILD_TOOLS, **BOOT_TOOLS, **VERIFY_TOOLS} for n in t.split("|")}
        | {"sudo", "docker-registry"}
    )
    versions: Mapping[str, str] = field(default_factory=lambda: VERSIONS)
    python: tuple[int, int, int] = (3, 11, 2)
    dib: str | None = "3.43.0"
    root: bool = True
    terminal: bool = False
    sudo: Said = field(default=Said(0, ""))
    trial: Trial = field(default=Trial())
    machine: str = "x86_64"
    memory: Memory = field(default=Memory(8 * GIB, 0))
    #: path -> what it lies on; the longest that fits counts.
    usage: Mapping[str, Usage] = field(default_factory=lambda: {"/": Usage(1, 90 * GIB, 10**7)})
    mount: Mount = field(default=Mount("/", "ext4", frozenset({"rw", "relatime"})))
    files: Mapping[str, bytes] = field(default_factory=dict)
    modes: Mapping[str, int] = field(default_factory=dict)
    unwritable: frozenset[Path] = frozenset()
    environ: Mapping[str, str] = field(default_factory=dict)
    kvm: Kvm = field(default=Kvm(True, speed=2e9))
    firmware: bool = True
    names: frozenset[str] = frozenset()
    docker: str = "28.0"
    docker_problem: str = ""
    clouds: Sequence[str] | PreflightError = ()
    login: frozenset[str] | PreflightError = frozenset({"image", "database"})


class Described(Host):
    """Answers from facts."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.trials = 0

    @property
    def os_release(self) -> dict[str, str]:
        return OS_RELEASE[self.facts.distribution]

    @property
    def python(self) -> tuple[int, int, int]:
        return self.facts.python

    @property
    def is_root(self) -> bool:
        return self.facts.root

    @property
    def has_terminal(self) -> bool:
        return self.facts.terminal

    @property
    def machine(self) -> str:
        return self.facts.machine

    @property
    def environ(self) -> Mapping[str, str]:
        return {"HOME": "/home/me", "PIP_CONFIG_FILE": "/dev/null"} | dict(self.facts.environ)

    @property
    def temporary(self) -> Path:
        return Path("/tmp")

    def which(self, program: str, *, as_user: bool = False) -> str | None:  # noqa: ARG002
        return f"/usr/bin/{program}" if program in self.facts.programs else None

    def distribution(self, name: str) -> str | None:
        return {"diskimage-builder": self.facts.dib}[name]

    def version_text(self, argv: Sequence[str]) -> str:
        return self.facts.versions[argv[0]]

    def memory(self) -> Memory:
        return self.facts.memory

    def usage(self, path: Path) -> Usage:
        fitting = [p for p in self.facts.usage if path.is_relative_to(p)]
        return self.facts.usage[max(fitting, key=len)]

    def mount(self, path: Path) -> Mount:  # noqa: ARG002
        return self.facts.mount

    def exists(self, path: Path) -> bool:
        return str(path) in self.facts.files

    def is_readable(self, path: Path) -> bool:
        return self.exists(path)

    def is_directory(self, path: Path) -> bool:  # noqa: ARG002
        return False

    def mode(self, path: Path) -> int:
        return self.facts.modes.get(str(path), 0o600)

    def read(self, path: Path) -> bytes:
        if not self.exists(path):
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return self.facts.files[str(path)]

    def check_writable(self, directory: Path) -> None:
        if directory in self.facts.unwritable:
            raise PreflightError("cannot write there", where=str(directory), hint="elsewhere")

    def sudo(self) -> Said:
        return self.facts.sudo

    def trial(self, directory: Path) -> Trial:  # noqa: ARG002
        self.trials += 1
        return self.facts.trial

    def kvm(self) -> Kvm:
        return self.facts.kvm

    def firmware(self) -> Path:
        if not self.facts.firmware:
            raise PreflightError("there is no UEFI firmware for qemu", where="/usr/share/OVMF")
        return Path("/usr/share/OVMF/OVMF_CODE.fd")

    def resolves(self, name: str) -> bool:
        return name in self.facts.names

    def docker(self) -> str:
        if self.facts.docker_problem:
            raise PreflightError("docker cannot be used", detail=self.facts.docker_problem)
        return self.facts.docker

    def cloud_files(self) -> list[Path]:
        return [Path(p) for p in self.facts.files if p.endswith("clouds.yaml")]

    def clouds(self) -> list[str]:
        if isinstance(self.facts.clouds, PreflightError):
            raise self.facts.clouds
        return list(self.facts.clouds)

    def log_in(self, cloud: str) -> set[str]:  # noqa: ARG002
        if isinstance(self.facts.login, PreflightError):
            raise self.facts.login
        return set(self.facts.login)


def profile(os_name: str = "debian", release: str = "bookworm", /, **keys: object) -> Profile:
    """A shipped profile, with keys set."""
    changed = tuple(Override(k.replace("__", "."), v, "test") for k, v in keys.items())
    return load_profile(str(find_profile(os_name, release)), changed).profile


def subject(
    *needs: Need,
    of: Profile | None = None,
    places: Iterable[Place] = (),
    cloud: str | None = None,
) -> Subject:
    return Subject(frozenset(needs or {Need.BUILD}), CACHE, of, tuple(places), cloud)


def found(host: Host, check: str, asked: Subject | None = None) -> list[Finding]:
    """What one check finds, asked alone; the network may be asked."""
    wanted = [c for c in CHECKS if c.id == check]
    assert len(wanted) == 1, f"no check {check}"
    report = examine(host, asked or subject(*wanted[0].needed_for), ask_network=True, checks=wanted)
    return list(report.results[0].findings)


def the_one(host: Host, check: str, level: Level, asked: Subject | None = None) -> Finding:
    """The only finding of a level that a check makes."""
    fitting = [f for f in found(host, check, asked) if f.level is level]
    assert len(fitting) == 1, found(host, check, asked)
    return fitting[0]
