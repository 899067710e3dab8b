"""Build with buildah: no daemon. Its storage is a directory of the build's own.

`--isolation chroot` needs neither an OCI runtime nor control groups, and the driver vfs no
file system of a certain kind. It runs in namespaces of its own, so that no process and no mount
of it outlives us; where the user is not root, in a user namespace, too (`buildah unshare`).
"""

from __future__ import annotations

import codecs
import contextlib
import json
import os
import pwd
import selectors
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from imagebuild.backupimage.builder import (
    Job,
    Log,
    Ran,
    base_stream,
    host_arch,
    left,
    out_of_time,
)
from imagebuild.backupimage.dockerfile import HELPER
from imagebuild.backupimage.image import Built, shared_layers
from imagebuild.errors import BuildError, PreflightError
from imagebuild.host.run import base_env, need, run, spawn, which

_BASE = "localhost/imagebuild-base:latest"
_IMAGE = "localhost/imagebuild-backup:latest"
_CONTAINER = "imagebuild-check"
_SECONDS_TO_RUN = 120.0
_SECONDS_TO_END = 10.0
#: Runs a command until that ends, or nobody holds the other end of its stdin any more.
_GUARD = """
exec 3<&0
"$@" 3<&- </dev/null &
child=$!
{ cat <&3 >/dev/null; kill -KILL "$child"; } &
wait "$child"
exit $?
"""


class Buildah:
    """The builder (see `builder.Builder`)."""

    name = "buildah"

    def __init__(self) -> None:
        self._job: Job | None = None
        self._entrypoint: list[str] | None = None

    @staticmethod
    def check() -> None:
        """Raise PreflightError when it cannot be used here."""
        need("buildah")
        need("unshare", "util-linux")
        if os.geteuid() == 0:
            return
        user = _user()
        lacking = [f"no line of {user} in {f}" for f in ("/etc/subuid", "/etc/subgid")
                   if not _has_range(Path(f), user)]  # fmt: skip
        if which("newuidmap") is None:
            lacking.append("newuidmap is not installed (uidmap)")
        if lacking:
            raise PreflightError(
                "buildah can work only as root here",
                where=f"user {user}",
                detail="\n".join(lacking),
                hint=f"usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}; "
                "or run it as root",
            )

    def build(self, job: Job, log: Log) -> None:
        """See `Builder`."""
        self._job = job
        for name in ("storage", "run", "tmp"):
            (job.directory / name).mkdir()
        policy = job.directory / "policy.json"
        # What is loaded has been checked by its digest.
        policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        archive = job.directory / "base.tar"
        with archive.open("wb") as file:
            for block in base_stream(job, _BASE):
                file.write(block)
        self._checked(["pull", "--quiet", "--signature-policy", policy,
                       f"docker-archive:{archive}"], log)  # fmt: skip
        archive.unlink()
        dockerfile = job.directory / "Dockerfile"
        dockerfile.write_text(job.dockerfile(_BASE, [f'SHELL ["{HELPER}/shell"]']))
        arguments = [f"--build-arg={k}={v}" for k, v in job.arguments.items()]
        platform = [] if job.arch == host_arch() else [f"--platform=linux/{job.arch}"]
        self._checked(
            ["bud", "--isolation", "chroot", "--network", "host", "--format", "docker",
             "--pull-never", "--http-proxy=false", "--layers=false", "--signature-policy", policy,
             f"--volume={job.helper}:{HELPER}:ro", *platform, *arguments,
             "--file", dockerfile, "--tag", _IMAGE, job.context],
            log,
        )  # fmt: skip

    def run(self, command: Sequence[str]) -> Ran:
        """See `Builder`."""
        if self._entrypoint is None:
            self._checked(["from", "--pull-never", "--name", _CONTAINER, _IMAGE])
            said = self._checked(["inspect", "--type", "container", _CONTAINER])
            config = json.loads(said[said.index("{") :])["Docker"]["config"]
            self._entrypoint = config.get("Entrypoint") or []
        status, output = self._run(
            ["run", "--isolation", "chroot", _CONTAINER, "--", *self._entrypoint, *command],
            time.monotonic() + _SECONDS_TO_RUN,
        )  # fmt: skip
        return Ran(status, output)

    def export(self) -> Built:
        """See `Builder`."""
        assert self._job  # noqa: S101 - it has been built
        out = self._job.directory / "image"
        policy = self._job.directory / "policy.json"
        self._checked(["push", "--quiet", "--disable-compression", "--signature-policy", policy,
                       _IMAGE, f"dir:{out}"])  # fmt: skip
        manifest = json.loads((out / "manifest.json").read_bytes())
        config = (out / _hex(manifest["config"]["digest"])).read_bytes()
        shared = shared_layers(config, self._job.base)
        layers = [out / _hex(layer["digest"]) for layer in manifest["layers"]]
        return Built(config, (*(None for _ in layers[:shared]), *layers[shared:]))

    def close(self) -> None:
        """See `Builder`. The directory itself is not ours to remove."""
        if self._job:
            remove_storage(self._job.directory)

    def _checked(self, arguments: Sequence[str | Path], log: Log | None = None) -> str:
        assert self._job  # noqa: S101 - it is being built
        status, output = self._run(arguments, self._job.deadline, log)
        if status and log:
            raise log.failure(f"buildah {arguments[0]} failed with status {status}")
        if status:
            raise BuildError(f"buildah {arguments[0]} failed with status {status}",
                             detail="\n".join(output.splitlines()[-15:]))  # fmt: skip
        return output

    def _run(
        self, arguments: Sequence[str | Path], deadline: float, log: Log | None = None
    ) -> tuple[int, str]:
        """Exit status, and what it said on both streams. Nothing of it lives on afterwards."""
        assert self._job  # noqa: S101 - it is being built
        directory = self._job.directory
        buildah: list[str | Path] = [
            need("buildah"), "--root", directory / "storage", "--runroot", directory / "run",
            "--storage-driver", "vfs", *arguments,
        ]  # fmt: skip
        # As pid 1 of a namespace, the shell's end is that of all that buildah has started.
        whole = [
            need("unshare", "util-linux"), "--mount", "--pid", "--fork", "--kill-child",
            "--mount-proc", "--propagation", "private", "sh", "-c", _GUARD, "sh", *buildah,
        ]  # fmt: skip
        if os.geteuid() != 0:
            whole = [need("buildah"), "unshare", *whole]
        process = spawn(
            whole, env=_env(directory), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, die_with_parent=True,
        )  # fmt: skip
        said = []
        try:
            for text in _texts(process, deadline):
                said.append(text)
                if log:
                    log.write(text)
            status = process.wait(left(deadline))
        except subprocess.TimeoutExpired:
            raise out_of_time() from None
        finally:
            _end(process)
        return status, "".join(said)


def remove_storage(directory: Path) -> None:
    """What a user's buildah has stored below a scratch directory, and only it can remove.

    Root's files go with the directory.
    """
    storage = [directory / name for name in ("storage", "run", "tmp")]
    found = [path for path in storage if path.exists()]
    if os.geteuid() != 0 and found and which("buildah"):
        with contextlib.suppress(BuildError, PreflightError):
            run(["buildah", "unshare", "rm", "-rf", "--", *found], env=_env(None))


def _env(directory: Path | None) -> dict[str, str]:
    env = base_env()
    if directory:
        env["TMPDIR"] = str(directory / "tmp")
    if os.geteuid() != 0:
        env |= {"HOME": str(Path.home()), "USER": _user()}
        if runtime := os.environ.get("XDG_RUNTIME_DIR"):
            env["XDG_RUNTIME_DIR"] = runtime
    return env


def _end(process: subprocess.Popen[bytes]) -> None:
    """End it, if it has not ended; when this returns, nothing of it lives on."""
    if process.stdin:
        process.stdin.close()  # what the guard waits for
    try:
        process.wait(_SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout:
        process.stdout.close()


def _texts(process: subprocess.Popen[bytes], deadline: float) -> Iterator[str]:
    """What a program says, as it comes. Raises BuildError at the deadline."""
    assert process.stdout  # noqa: S101 - it has a pipe
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            if not selector.select(left(deadline)):
                raise out_of_time()
            block = os.read(process.stdout.fileno(), 1 << 16)
            if not block:
                return
            yield decoder.decode(block)


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # a uid that has no name
        return str(os.geteuid())


def _has_range(path: Path, user: str) -> bool:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return False
    return any(line.split(":")[0] in (user, str(os.geteuid())) for line in lines)


def _hex(digest: str) -> str:
    return digest.partition(":")[2]
