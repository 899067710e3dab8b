"""An image's own containerd and dockerd, in a world of their own, for one `docker load`.

Runs as pid 1 of namespaces that imagebuild.stages.containers makes for it: there is no
network, and nothing of it can be seen or left outside. The tree is the lower part of an
overlay whose upper part is in memory; only docker's and containerd's own directories are
real ones, and stay.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from imagebuild.errors import BuildError, ImagebuildError
from imagebuild.host import namespace
from imagebuild.host.run import base_env, run, spawn
from imagebuild.stages.imagetar import LocalImage, docker_stream, oci_stream

#: The directories of the tree that the engine works in, and that outlive it.
DIRECTORIES = ("var/lib/docker", "var/lib/containerd")
#: Of the image's daemon.json, what decides about the store. All else is for a running guest.
_STORE_KEYS = ("storage-driver", "storage-opts", "features")
_READY_SECONDS = 60.0
_STOP_SECONDS = 60.0
_LOG_LINES = 12


def serve() -> None:
    """The process's main function: one request on stdin, one answer on stdout."""
    request = json.load(sys.stdin)
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        image = LocalImage.from_json(request["image"])
        work = Path(request["work"])
        root = enter([Path(p) for p in request["lower"]], Path(request["out"]), work)
        result = load(root, image, Path(request["scratch"]), work)
    except ImagebuildError as exc:
        json.dump(exc.to_json(), answer)
    else:
        json.dump({"result": result}, answer)
    answer.close()


def enter(lower: Sequence[Path], out: Path, work: Path) -> Path:
    """Mount the tree below `work`, and `out`'s directories into it; returns its root."""

    def mount(*argv: str | Path) -> None:
        run(["mount", *argv], what="cannot set up the place where docker runs")

    mount("-t", "tmpfs", "-o", "mode=700", "tmpfs", work)
    root = work / "root"
    for name in ("root", "upper", "work"):
        (work / name).mkdir()
    layers = ":".join(map(str, lower))
    options = f"lowerdir={layers},upperdir={work}/upper,workdir={work}/work"
    mount("-t", "overlay", "overlay", "-o", options, root)
    for name in DIRECTORIES:
        inside = root / name
        inside.mkdir(parents=True, exist_ok=True)
        if inside.resolve() != inside:
            raise BuildError(
                f"/{name} is a link in the image", where=str(inside.resolve()),
                detail="the containers would be put where the guest's docker does not look",
            )  # fmt: skip
        mount("--bind", out / name, inside)
    mount("-t", "proc", "proc", root / "proc")
    for name in ("run", "tmp", "sys"):
        mount("-t", "tmpfs", "tmpfs", root / name)
    cgroup = root / "sys/fs/cgroup"
    cgroup.mkdir(parents=True)
    mount("-t", "cgroup2", "cgroup2", cgroup)
    if not namespace.private_dev(root / "dev"):
        mount("--rbind", "/dev", root / "dev")
    return root


def load(root: Path, image: LocalImage, scratch: Path, logs: Path) -> dict[str, Any]:
    """Start the engine in `root`, load the image, check it, stop the engine."""
    with _daemons(root, logs) as docker:
        engine = docker.info()
        status = dict(entry[:2] for entry in engine.get("DriverStatus") or [])
        is_containerd = status.get("driver-type", "").startswith("io.containerd")
        stream = oci_stream(image) if is_containerd else docker_stream(image, scratch)
        docker.load(stream)
        _check(docker.inspect(image.name), image, is_containerd=is_containerd)
        return {
            "driver": engine["Driver"],
            "store": "containerd" if is_containerd else "docker",
            "engine": engine["ServerVersion"],
        }


def _check(found: Mapping[str, Any], image: LocalImage, *, is_containerd: bool) -> None:
    # An image's id is its configuration's digest; in containerd's store, its manifest's.
    wanted = (image.manifest if is_containerd else image.config).digest
    layers = found.get("RootFS", {}).get("Layers", [])
    if found.get("Id") != wanted or layers != list(image.diff_ids):
        raise BuildError(
            "docker has not taken the container as it is",
            where=image.name,
            detail=f"wanted {wanted}\nfound  {found.get('Id')}",
        )


class _Docker(http.client.HTTPConnection):
    """Docker's API (its own paths without a version are the engine's newest)."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)

    def info(self) -> dict[str, Any]:
        """GET /info."""
        return self._json("GET", "/info")

    def inspect(self, name: str) -> dict[str, Any]:
        """GET /images/NAME/json."""
        return self._json("GET", f"/images/{quote(name)}/json")

    def load(self, stream: Iterator[bytes]) -> None:
        """POST /images/load. Docker answers 200 and says in the stream what went wrong."""
        headers = {"Content-Type": "application/x-tar", "Transfer-Encoding": "chunked"}
        answer = self._ask("POST", "/images/load?quiet=1", stream, headers)
        lines = [json.loads(line) for line in answer.splitlines() if line.strip()]
        errors = [line["error"] for line in lines if "error" in line]
        said = "".join(line.get("stream", "") for line in lines)
        if errors or "Error unpacking" in said:
            raise BuildError("docker cannot load the container", detail="\n".join([*errors, said]))

    def _json(self, method: str, path: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._ask(method, path))
        return found

    def _ask(
        self,
        method: str,
        path: str,
        body: Iterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        with contextlib.suppress(BrokenPipeError):  # it has answered already, and says why
            self.request(method, path, body, headers or {}, encode_chunked=body is not None)
        answer = self.getresponse()
        data = answer.read()
        if answer.status != http.client.OK:
            raise BuildError(
                "docker refuses what it is asked",
                where=f"{method} {path}",
                detail=data.decode(errors="replace")[:2000],
            )
        return data


@contextlib.contextmanager
def _daemons(root: Path, logs: Path) -> Iterator[_Docker]:
    """containerd and dockerd, ready; stopped in good order at the end."""
    environment = base_env(HOME="/root")
    run_dir = os.open(root / "run", os.O_PATH | os.O_DIRECTORY)
    # A socket's own path may have 107 bytes only (unix(7)).
    sockets = f"/proc/self/fd/{run_dir}"
    (root / "run/imagebuild-docker.json").write_text(json.dumps(_configuration(root)))
    started: list[_Daemon] = []
    try:
        containerd = _Daemon("containerd", root, [], logs, environment)
        started.append(containerd)
        containerd.wait_for(f"{sockets}/containerd/containerd.sock")
        dockerd = _Daemon(
            "dockerd", root, ["--config-file", "/run/imagebuild-docker.json"], logs, environment
        )
        started.append(dockerd)
        dockerd.wait_for(f"{sockets}/imagebuild-docker.sock")
        try:
            yield _Docker(f"{sockets}/imagebuild-docker.sock")
        except (ImagebuildError, OSError, http.client.HTTPException) as exc:
            raise _with_log(exc, dockerd) from exc
        for daemon in reversed(started):
            daemon.stop()
    finally:
        for daemon in started:
            daemon.kill()
        os.close(run_dir)


def _configuration(root: Path) -> dict[str, Any]:
    """What dockerd is told: the image's own words about the store, and nothing of a network."""
    own: dict[str, Any] = {}
    path = root / "etc/docker/daemon.json"
    if path.is_file():
        try:
            own = json.loads(path.read_text())
        except ValueError as exc:
            raise BuildError(
                "the image's docker configuration is no JSON",
                where="/etc/docker/daemon.json in the image",
                detail=str(exc),
            ) from exc
        if not isinstance(own, dict):
            raise BuildError(
                "the image's docker configuration is no JSON object",
                where="/etc/docker/daemon.json in the image",
            )
    if own.get("data-root", "/var/lib/docker") != "/var/lib/docker":
        raise BuildError(
            "containers can be preloaded only to /var/lib/docker",
            where="/etc/docker/daemon.json in the image",
            detail=f"data-root is {own['data-root']}",
        )
    return {key: own[key] for key in _STORE_KEYS if key in own} | {
        "hosts": ["unix:///run/imagebuild-docker.sock"],
        "containerd": "/run/containerd/containerd.sock",
        "pidfile": "/run/imagebuild-docker.pid",
        "bridge": "none",
        "iptables": False,
        "ip6tables": False,
        "ip-forward": False,
    }


class _Daemon:
    """A program of the tree that runs until it is stopped."""

    def __init__(
        self, name: str, root: Path, argv: Sequence[str], logs: Path, env: Mapping[str, str]
    ) -> None:
        self.name = name
        self._log = logs / f"{name}.log"
        with self._log.open("wb") as log:
            self._process = spawn(
                ["chroot", root, name, *argv],
                env=env,
                stdout=log,
                stderr=subprocess.STDOUT,
                die_with_parent=True,
            )

    def wait_for(self, path: str) -> None:
        """Wait until something listens at a socket; dockerd does so before it is ready."""
        end = time.monotonic() + _READY_SECONDS
        while True:
            with socket.socket(socket.AF_UNIX) as probe:
                if probe.connect_ex(path) == 0:
                    return
            if self._process.poll() is not None:
                raise self.error(f"{self.name} of the image does not start")
            if time.monotonic() > end:
                raise self.error(f"{self.name} of the image does not get ready")
            time.sleep(0.02)

    def stop(self) -> None:
        """End it in good order: it writes what it has not written yet."""
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired as exc:
            raise self.error(f"{self.name} of the image does not end") from exc

    def has_ended(self) -> bool:
        """Whether it is gone, or goes within a second."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1)
        return self._process.poll() is not None

    def kill(self) -> None:
        """End it at once, if it runs."""
        self._process.kill()
        self._process.wait()

    @property
    def last_lines(self) -> str:
        """The end of its log."""
        lines = self._log.read_text(errors="replace").splitlines()
        return "\n".join(lines[-_LOG_LINES:])

    def error(self, what: str) -> BuildError:
        """An error with the end of the log."""
        return BuildError(what, where=self.name, detail=self.last_lines)


def _with_log(error: Exception, daemon: _Daemon) -> BuildError:
    """The error with the end of the daemon's log."""
    if isinstance(error, ImagebuildError):
        what, where, detail = error.what, error.where, error.detail
    else:
        ended = "has ended by itself" if daemon.has_ended() else "does not answer any more"
        what, where, detail = f"{daemon.name} of the image {ended}", "", str(error)
    return BuildError(what, where=where, detail=f"{detail}\n{daemon.last_lines}".strip())
