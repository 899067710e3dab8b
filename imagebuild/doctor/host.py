"""The host as the checks see it: an object that answers questions, and changes nothing.

Tests describe a host by a subclass with other answers.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from imagebuild.doctor.packages import Family, family
from imagebuild.errors import ImagebuildError, Interrupted, PreflightError
from imagebuild.host import kvm, ram, versions
from imagebuild.host.ram import Memory
from imagebuild.host.run import run, which
from imagebuild.host.space import existing

_MOUNT_ESCAPE = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class Said:
    """How a program ended, and both its streams."""

    status: int
    text: str


@dataclass(frozen=True)
class Usage:
    """Free space and inodes for who is not root; `inodes` None where they are not counted."""

    device: int
    free: int
    inodes: int | None = None


@dataclass(frozen=True)
class Mount:
    """What a path lies on: mount point, filesystem type, the options of mount and filesystem."""

    point: str
    fstype: str
    options: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Trial:
    """What the privileged worker could do; "" is success, a text says why not."""

    start: str = ""
    files: str = ""
    overlay: str = ""


class Host:
    """This machine."""

    @cached_property
    def os_release(self) -> dict[str, str]:
        """The fields of os-release(5)."""
        import platform

        try:
            return platform.freedesktop_os_release()
        except OSError:
            return {}

    @property
    def family(self) -> Family:
        """Whose package names hold here."""
        return family(self.os_release)

    @property
    def python(self) -> tuple[int, int, int]:
        """Version of the Python that runs the tool."""
        return sys.version_info[:3]

    @property
    def is_root(self) -> bool:
        """Whether the tool runs as root."""
        return os.geteuid() == 0

    @property
    def has_terminal(self) -> bool:
        """Whether sudo could ask somebody for a password."""
        try:
            os.close(os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC))
        except OSError:
            return False
        return True

    @property
    def machine(self) -> str:
        """The architecture, as `uname -m` says it."""
        return os.uname().machine

    @property
    def kernel(self) -> str:
        """The kernel's release."""
        return os.uname().release

    @property
    def environ(self) -> Mapping[str, str]:
        """The environment."""
        return os.environ

    @property
    def temporary(self) -> Path:
        """Directory for temporary files."""
        return Path(tempfile.gettempdir())

    def which(self, program: str, *, as_user: bool = False) -> str | None:
        """Path of a program on the tool's own PATH, or on the user's."""
        return shutil.which(program) if as_user else which(program)

    def distribution(self, name: str) -> str | None:
        """Version of an installed Python distribution."""
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version(name)
        except PackageNotFoundError:
            return None

    def version_text(self, argv: Sequence[str]) -> str:
        """What a program prints when it is asked for its version; "" when it does not."""
        asked = versions.ask(argv)
        return asked.result() if asked else ""

    def run(self, argv: Sequence[str], seconds: float = 10) -> Said:
        """Run a program that changes nothing."""
        try:
            done = run(argv, check=False, timeout=seconds)
        except Interrupted:
            raise
        except ImagebuildError as exc:
            return Said(-1, exc.what)
        return Said(done.returncode, (done.stdout + done.stderr).decode(errors="replace").strip())

    def memory(self) -> Memory:
        """Memory, as /proc/meminfo and the control group (version 2) have it."""
        return ram.measure()

    def usage(self, path: Path) -> Usage:
        """Space on the filesystem that `path` lies on, or will."""
        existing = self.existing(path)
        vfs = os.statvfs(existing)
        inodes = vfs.f_favail if vfs.f_files else None  # btrfs counts none
        return Usage(existing.stat().st_dev, shutil.disk_usage(existing).free, inodes)

    def mount(self, path: Path) -> Mount:
        """The mount that `path` lies on, or will (proc(5), mountinfo: the last one wins)."""
        wanted = self.existing(path).resolve()
        found = Mount("/", "unknown")
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            fields, _, rest = line.partition(" - ")
            words, tail = fields.split(), rest.split()
            point = _MOUNT_ESCAPE.sub(lambda m: chr(int(m[1], 8)), words[4])
            if wanted.is_relative_to(point) and len(point) >= len(found.point):
                options = {*words[5].split(","), *tail[2].split(",")}
                found = Mount(point, tail[0], frozenset(options))
        return found

    def existing(self, path: Path) -> Path:
        """The path itself, or the nearest directory above it that exists."""
        return existing(path)

    def exists(self, path: Path) -> bool:
        """Whether something is there that can be seen."""
        return path.exists()

    def is_readable(self, path: Path) -> bool:
        """Whether it is a file that can be read."""
        return path.is_file() and os.access(path, os.R_OK)

    def is_directory(self, path: Path) -> bool:
        """Whether it is a directory."""
        return path.is_dir()

    def mode(self, path: Path) -> int:
        """Permission bits."""
        return path.stat().st_mode & 0o7777

    def read(self, path: Path) -> bytes:
        """A small file. Raises OSError."""
        return path.read_bytes()

    def check_writable(self, directory: Path) -> None:
        """Raise PreflightError unless files can be made there, or it can be made."""
        from imagebuild.artifact import check_writable

        check_writable(directory)

    def sudo(self) -> Said:
        """What sudo says when it must not ask."""
        return self.run(["sudo", "-n", "true"])

    def trial(self, directory: Path) -> Trial:
        """Start the privileged worker as a build does, and let it try things; without asking."""
        import time

        from imagebuild.host.worker import Worker

        existing = self.existing(directory)
        with tempfile.TemporaryFile() as errors:
            try:
                with Worker(lambda _: None, may_ask=False, stderr=errors) as worker:
                    answer = worker.call(
                        "try_host",
                        deadline=time.monotonic() + 20,
                        directory=str(existing if existing.is_dir() else existing.parent),
                    )
            except Interrupted:
                raise
            except ImagebuildError as exc:
                errors.seek(0)
                said = errors.read().decode(errors="replace").strip().splitlines()
                return Trial(start=said[-1] if said else f"{exc.what}: {exc.detail}")
        return Trial(files=answer["files"], overlay=answer["overlay"])

    def kvm(self) -> kvm.Kvm:
        """What KVM is worth here: measured."""
        return kvm.measure()

    def firmware(self) -> Path:
        """UEFI firmware for qemu. Raises PreflightError."""
        from imagebuild.verify.firmware import find_uefi

        return find_uefi()[0]

    def resolves(self, name: str) -> bool:
        """Whether a host's name has an address."""
        try:
            socket.getaddrinfo(name, None)
        except (OSError, UnicodeError):
            return False
        return True

    def docker(self) -> str:
        """The docker daemon's version. Raises PreflightError with the reason there is none."""
        import docker

        try:
            client = docker.from_env(timeout=5)
            try:
                return str(client.version()["Version"])
            finally:
                client.close()
        except Exception as exc:  # docker's, requests' and the socket's own
            raise PreflightError("docker cannot be used", detail=str(exc)[-300:]) from exc

    def cloud_files(self) -> list[Path]:
        """The files that openstacksdk reads clouds from, those that exist."""
        from openstack.config import loader

        named = self.environ.get("OS_CLIENT_CONFIG_FILE")
        known = [*loader.CONFIG_FILES, *loader.SECURE_FILES]
        return [p for p in map(Path, [named] if named else known) if p.is_file()]

    def clouds(self) -> list[str]:
        """Names of the clouds that openstacksdk knows. Raises PreflightError."""
        import openstack.config
        import openstack.exceptions
        import yaml

        try:
            for path in self.cloud_files():
                yaml.safe_load(path.read_bytes())  # the SDK passes over a broken file
            names = openstack.config.OpenStackConfig().get_cloud_names()
        except (openstack.exceptions.ConfigException, yaml.YAMLError, OSError) as exc:
            # YAML's own message quotes the lines around, which may hold a password.
            mark = getattr(exc, "problem_mark", None)
            raise PreflightError(
                "the clouds' configuration cannot be read",
                where=", ".join(map(str, self.cloud_files())),
                detail=f"{getattr(exc, 'problem', '')} in line {mark.line + 1}"
                if mark
                else type(exc).__name__,
                hint="correct clouds.yaml; OS_CLIENT_CONFIG_FILE names another",
            ) from None
        # Where nothing is configured, the SDK makes up one of this name.
        made_up = set() if self.cloud_files() else {"defaults"}
        return sorted(set(names) - made_up)

    def log_in(self, cloud: str) -> set[str]:
        """Log in to a cloud, within 20 seconds or so; returns the services of its catalog.

        Raises PreflightError.
        """
        import keystoneauth1.exceptions
        import openstack
        import openstack.exceptions

        from imagebuild.redaction import redact

        try:
            connection = openstack.connect(cloud=cloud, api_timeout=20)
            connection.authorize()
            wanted = ("image", "database")
            return {name for name in wanted if connection.endpoint_for(name)}
        except (
            openstack.exceptions.SDKException,
            keystoneauth1.exceptions.ClientException,
        ) as exc:
            raise PreflightError(
                f"cannot log in to the cloud {cloud!r}",
                detail=_reason(redact(str(exc))),
                hint="check auth_url, user, project and password in clouds.yaml or OS_*",
            ) from None


def _reason(text: str) -> str:
    # keystoneauth quotes requests, which quotes urllib3, which quotes the system's own words.
    inner = re.findall(r"\[Errno [^\]]+\] [^'\")]+", text)
    return inner[-1] if inner else text.strip()[:300]
