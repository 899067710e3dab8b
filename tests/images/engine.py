"""A docker engine of the tests' own: no process or mount outlives them, whatever ends them.

dockerd lives in private mount and pid namespaces that die with the process that started
them: its containers, their mounts and the daemon itself go with it. It has a socket and
directories of its own, no bridge, and touches no packet filter: containers use the
network of the host.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import docker
from docker.errors import DockerException

from imagebuild.host.run import PATH, need, run, spawn

_CGROUPS = Path("/sys/fs/cgroup")


class Engine:
    """A running engine: `api` speaks to it, `build` is the docker program's, for BuildKit."""

    def __init__(self, directory: Path) -> None:
        self.socket = f"unix://{directory}/docker.sock"
        self.api = docker.DockerClient(self.socket, timeout=600)

    def build(self, context: Path, tag: str, *options: str) -> str:
        """`docker build` as a person would; what it says. Raises BuildError."""
        argv = [_buildkit_client(), "build", "--network", "host", "--progress", "plain"]
        env = {"PATH": PATH, "DOCKER_HOST": self.socket, "DOCKER_BUILDKIT": "1"}
        return run([*argv, "--tag", tag, *options, context], env=env).stderr.decode()

    def run(
        self, image: str, *command: str, volumes: Sequence[str] = (), **options: object
    ) -> subprocess.CompletedProcess[str]:
        """`docker run` to the end; the container is gone afterwards, with its own volumes.

        `volumes` are of the form HOST:CONTAINER[:ro], `options` those of docker-py.
        """
        container = self.api.containers.create(
            image, list(command), network_mode="host", volumes=list(volumes), **options
        )
        try:
            container.start()
            status = container.wait(timeout=3600)["StatusCode"]
            out, err = (
                container.logs(stdout=not e, stderr=e).decode(errors="replace")
                for e in (False, True)
            )
        finally:
            container.remove(force=True, v=True)
        return subprocess.CompletedProcess(command, status, out, err)


@contextmanager
def engine() -> Iterator[Engine]:
    """Start an engine; stop it at the end, and remove all that it had. Needs root."""
    # A short path: sockets have room for 107 bytes.
    directory = Path(tempfile.mkdtemp(prefix="imagebuild-docker-", dir="/var/tmp"))
    cgroup = f"imagebuild-test-{secrets.token_hex(4)}"
    dockerd: list[str | Path] = [
        need("dockerd", "docker.io"), "--host", f"unix://{directory}/docker.sock",
        "--data-root", directory / "data", "--exec-root", directory / "exec",
        "--pidfile", directory / "pid", "--config-file", directory / "none.json",
        "--bridge", "none", "--iptables=false", "--ip6tables=false",
        "--exec-opt", "native.cgroupdriver=cgroupfs", "--cgroup-parent", f"/{cgroup}",
    ]  # fmt: skip
    argv = [
        need("setpriv"), "--pdeathsig", "KILL", "--",
        need("unshare"), "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
        "--propagation", "private", *dockerd,
    ]  # fmt: skip
    (directory / "none.json").write_text("{}")
    with (directory / "log").open("wb") as log:
        process = spawn(argv, stdout=log, stderr=log)
    try:
        yield _answering(process, directory)
    finally:
        _end(process)
        run(["rm", "-rf", "--one-file-system", directory])
        _remove_cgroups(cgroup)


def _answering(process: subprocess.Popen[bytes], directory: Path) -> Engine:
    deadline = time.monotonic() + 120
    while True:
        with contextlib.suppress(DockerException):
            return Engine(directory)
        if process.poll() is not None or time.monotonic() > deadline:
            end = (directory / "log").read_text()[-3000:]
            raise AssertionError(f"dockerd does not answer:\n{end}")
        time.sleep(0.1)


def _buildkit_client() -> str:
    """A docker program that can do BuildKit: before 23 all by itself, since then with buildx."""
    for directory in PATH.split(":"):
        found = shutil.which("docker", path=directory)
        if found is None:
            continue
        version = re.search(r"version (\d+)\.", run([found, "--version"]).stdout.decode())
        plugin = run([found, "buildx", "version"], check=False)
        if plugin.returncode == 0 or (version and int(version[1]) < 23):
            return found
    raise AssertionError("no docker program with BuildKit: apt-get install docker.io docker-buildx")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill dockerd, the first process of its namespace: its end is that of all others there,
    and only then does the one that waits for it (unshare) end.
    """
    if process.poll() is not None:
        return
    for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        os.kill(int(pid), signal.SIGKILL)
    process.wait(timeout=60)


def _remove_cgroups(name: str) -> None:
    """The engine's control groups: empty now, yet nobody else would remove them."""
    places = [*_CGROUPS.glob(name), *_CGROUPS.glob(f"*/{name}")]
    for place in places:
        for directory, _, _ in os.walk(place, topdown=False):
            Path(directory).rmdir()
