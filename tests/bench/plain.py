"""The plain recipe: diskimage-builder as `trovestack build-image` drives it.

Element list, options and environment are those of Trove's
integration/scripts/functions_qemu (build_guest_image, dev_mode=false). The elements are
Trove's own, taken at run time from the sdist of the release that our image has. Only
where things come from is changed: the archive, docker's repository, the constraints and
the wheels are on loopback. It needs root, and loop devices with partitions by partx: a
kernel without device-mapper will do.
"""

from __future__ import annotations

import functools
import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imagebuild.agent.index import Index
from imagebuild.dib import HookLog
from imagebuild.errors import BuildError
from imagebuild.host.run import base_env, need, run
from tests.images.standin import Standin

REPO = Path(__file__).resolve().parents[2]
#: What functions_qemu names for an Ubuntu guest without a root password.
ELEMENTS = (
    "base", "vm", "ubuntu-minimal", "cloud-init-datasources", "pip-cache", "guest-agent",
    "ubuntu-docker",
)  # fmt: skip
#: functions_qemu's GUEST_IMAGESIZE, in GB.
SIZE = 5
_DOCKER = "https://download.docker.com/linux/ubuntu"
_ENTRY = (
    "import sys; sys.argv[0] = 'disk-image-create'; "
    "from diskimage_builder.disk_image_create import main; main()"
)
# Stand-ins for programs that a host without device-mapper (or sudo) does not have.
_KPARTX = """#!/bin/bash
set -eu
device=${!#} name=${device##*/}
mkdir -p /dev/mapper
case "$*" in
    *-d*)
        rm -f "/dev/mapper/${name}p"*
        partx --delete "$device" || true
        ;;
    *)
        partx --update "$device" 2> /dev/null || partx --add "$device"
        for part in "/dev/${name}p"*; do
            ln -sfn "$part" "/dev/mapper/${part##*/}"
            echo "add map ${part##*/}"
        done
        ;;
esac
"""
_DMSETUP = """#!/bin/sh
[ "$1" != remove ] || rm -f "/dev/mapper/$2"
"""


@dataclass
class Result:
    """One run: its image, seconds in all and by phase and hook, CPU seconds."""

    image: Path
    seconds: float
    cpu: float
    hooks: list[tuple[str, str, float]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {
            "seconds": round(self.seconds, 1),
            "cpu_seconds": round(self.cpu, 1),
            "image_bytes": self.image.stat().st_size,
            "hooks": [list(h) for h in self.hooks],
        }


@dataclass(frozen=True)
class Recipe:
    """All that the recipe is made of; `run()` may be called any number of times.

    `directory` is the recipe's alone. Made by `prepare()`.
    """

    directory: Path
    environment: Mapping[str, str]

    def run(self, name: str) -> Result:
        """Build the image once. Raises BuildError with the end of the log, which stays."""
        work = self.directory / "work"
        work.mkdir()
        image = self.directory / f"{name}.qcow2"
        # As functions_qemu has it, less -x, a trace that costs time; and the cache, which it
        # removes before each build, stays.
        argv = ["-a", "amd64", "-o", str(image), "-t", "qcow2", "--image-size", str(SIZE)]
        argv += ["--image-cache", str(self.directory / "cache"), *ELEMENTS]
        command = [
            need("setpriv"), "--pdeathsig", "KILL", "--",
            need("unshare"), "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
            "--propagation", "private", sys.executable, "-c", _ENTRY, *argv,
        ]  # fmt: skip
        hooks = HookLog("plain", lambda _: None)
        before, started = os.times(), time.monotonic()
        try:
            status = self._follow(command, hooks, work, self.directory / f"{name}.log")
        finally:
            _detach(self.directory)
        after, ended = os.times(), time.monotonic()
        if status != 0 or not image.exists():
            raise BuildError(
                f"the plain recipe failed with status {status}",
                where=str(self.directory / f"{name}.log"),
                detail="\n".join(list(hooks.tail)[-30:]),
            )
        shutil.rmtree(work)
        cpu = sum(after[2:4]) - sum(before[2:4])
        return Result(image, ended - started, cpu, hooks.timing)

    def _follow(self, command: list[str], hooks: HookLog, work: Path, log: Path) -> int:
        environment = dict(self.environment) | {"TMP_DIR": str(work), "HOME": str(work)}
        process = subprocess.Popen(
            command, env=environment, cwd=work, stdin=subprocess.DEVNULL, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="replace",
        )  # fmt: skip
        assert process.stdout is not None
        started = converting = time.monotonic()
        try:
            with log.open("w") as file:
                for line in process.stdout:
                    now = time.monotonic()
                    file.write(f"{now - started:7.1f} {line}")
                    hooks.feed(line.rstrip("\n"))
                    if line.startswith("Converting image using qemu-img"):
                        converting = now
                    elif line.startswith("Image file "):
                        hooks.timing.append(("image", "convert", round(now - converting, 2)))
        finally:
            process.kill()
            process.wait()
        return process.returncode


@contextmanager
def prepare(
    directory: Path, archive: Standin, *, source: Path, series: str, wheels: Path
) -> Iterator[Recipe]:
    """The recipe for the Trove in `source` (see `trove`), with the wheels found below `wheels`.

    `series` names the upper constraints. Wheels are served on loopback for as long as the
    block lasts.
    """
    directory.mkdir(parents=True)
    source = _repository(source, directory / "trove")
    elements = directory / "elements"
    shutil.copytree(source / "integration/scripts/files/elements", elements)
    _point(elements / "ubuntu-docker/install.d/21-docker", archive)
    _wheelhouse(wheels, directory / "wheels")
    with _serve(directory / "wheels") as links:
        environment = base_env(
            PATH=f"{_shims(directory / 'bin')}:{base_env()['PATH']}",
            ELEMENTS_PATH=str(elements),
            DIB_RELEASE="jammy",
            DISTRO_NAME="ubuntu",
            DIB_DISTRIBUTION_MIRROR=archive.url,
            DIB_MMDEBSTRAP_EXTRA_ARGS=f"--keyring={archive.keyring}",
            DIB_CLOUD_INIT_ETC_HOSTS="localhost",
            DIB_CLOUD_INIT_DATASOURCES="ConfigDrive, OpenStack",
            GUEST_USERNAME="ubuntu",
            HOST_SCP_USERNAME="root",
            ESCAPED_PATH_TROVE=str(source).replace("/", "\\/"),
            DEV_MODE="false",
            SYNC_LOG_TO_CONTROLLER="False",
            DIB_REPOLOCATION_guest_agent=str(source),
            DIB_REPOREF_guest_agent="HEAD",
            DIB_REPOLOCATION_upper_constraints=(
                f"file://{REPO}/scripts/upper-constraints/{series}.txt"
            ),
            PIP_NO_INDEX="1",
            PIP_FIND_LINKS=links,
            PIP_PROGRESS_BAR="off",
            DIB_NO_TIMESTAMP="1",
        )
        try:
            yield Recipe(directory, environment)
        finally:
            _detach(directory)


def trove(directory: Path, version: str) -> Path:
    """The source of a Trove release, from its sdist: an agent's source, and the elements."""
    with Index(os.environ) as index:
        file = next(f for f in index.all_files("trove", version) if f.filename.endswith(".tar.gz"))
        archive = directory / file.filename
        index.download(file, archive)
    run(["tar", "--no-same-owner", "-xzf", archive, "-C", directory])
    return directory / file.filename.removesuffix(".tar.gz")


def _repository(source: Path, copy: Path) -> Path:
    """The source as a git repository: what Trove's elements clone the agent from."""
    shutil.copytree(source, copy, symlinks=True)
    who = ["-c", "user.name=bench", "-c", "user.email=bench@example.invalid"]
    for words in (["init", "-q"], ["add", "-A", "-f"], [*who, "commit", "-q", "-m", "release"]):
        run(["git", "-C", copy, *words], env=base_env(HOME=str(copy)))
    return copy


def _point(hook: Path, archive: Standin) -> None:
    """The repository of docker that the hook adds: on loopback, where Docker's is out of reach."""
    text = hook.read_text()
    assert text.count(_DOCKER) == 2, "Trove's element for docker is not the one known here"
    here = re.sub(r"/ubuntu$", "/docker", archive.url)
    hook.write_text(text.replace(_DOCKER, here))


def _wheelhouse(files: Path, house: Path) -> None:
    """All wheels below a directory, linked into one: what pip finds on its index."""
    house.mkdir()
    for wheel in files.rglob("*.whl"):
        (house / wheel.name).symlink_to(wheel.resolve())


class _Files(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Silent."""


@contextmanager
def _serve(directory: Path) -> Iterator[str]:
    """The files of a directory on loopback; the URL of their list."""
    handler = functools.partial(_Files, directory=str(directory))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _shims(directory: Path) -> Path:
    directory.mkdir()
    for name, text in (("kpartx", _KPARTX), ("dmsetup", _DMSETUP)):
        (directory / name).write_text(text)
        (directory / name).chmod(0o755)
    (directory / "sudo").symlink_to(REPO / "imagebuild/host/sudo-as-root")
    return directory


def _detach(directory: Path) -> None:
    """Give back the loop devices of a run that was cut off: they outlive its namespaces."""
    listing = run(["losetup", "--list", "--noheadings", "--output", "NAME,BACK-FILE"]).stdout
    for line in listing.decode().splitlines():
        device, _, file = line.partition(" ")
        if file.strip().startswith(f"{directory.resolve()}/"):
            name = Path(device).name
            run(["partx", "--delete", device], check=False)
            run(["losetup", "--detach", device], check=False)
            for link in Path("/dev/mapper").glob(f"{name}p*"):
                link.unlink()
