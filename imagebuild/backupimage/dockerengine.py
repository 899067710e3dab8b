"""Build with a docker engine, by its SDK.

The SDK has no BuildKit session, so no secrets and no mounts: what is lent to the build is a
layer right above the base image, which `image.py` leaves out of what is pushed. Nothing of a
build stays in the engine; a build that was killed has marked what it made.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import shutil
import tarfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imagebuild.backupimage.builder import Job, Log, Ran, base_stream, left, out_of_time
from imagebuild.backupimage.dockerfile import HELPER
from imagebuild.backupimage.image import Built, shared_layers
from imagebuild.errors import BuildError, Interrupted, PreflightError
from imagebuild.host import scratch

if TYPE_CHECKING:
    from docker import APIClient

#: The label of all that a build makes in the engine: the lock file of its scratch directory.
LEFTOVER = "io.imagebuild.leftover"
_BASE = "localhost/imagebuild-base"
_IMAGE = "localhost/imagebuild-backup"
_SECONDS_TO_ANSWER = 10
_SECONDS_TO_RUN = 120
_SECONDS_TO_REMOVE = 60
_GZIP = b"\x1f\x8b"


class DockerEngine:
    """The builder (see `builder.Builder`)."""

    name = "docker"

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._api = _connect(environ, _SECONDS_TO_ANSWER)
        self._job: Job | None = None

    def build(self, job: Job, log: Log) -> None:
        """See `Builder`."""
        from docker.errors import DockerException
        from urllib3.exceptions import HTTPError

        self._job = job
        self._api = _connect(self._environ, left(job.deadline))
        try:
            tag = self._tag
            for answer in self._api.load_image(base_stream(job, f"{_BASE}:{tag}"), quiet=True):
                _raise_error(answer, log)
            self._lend(job, tag, log)
            inserted = [f'SHELL ["{HELPER}/shell"]']
            self._build(job, job.context, job.dockerfile(f"{_BASE}:{tag}-lent", inserted),
                        f"{_IMAGE}:{tag}", log, job.arguments)  # fmt: skip
        except Interrupted:
            raise
        except DockerException as exc:
            raise log.failure("the docker engine does not build", str(exc)[:500]) from exc
        except (OSError, HTTPError) as exc:  # requests' errors are such; streams give urllib3's
            if time.monotonic() >= job.deadline:
                raise out_of_time() from None
            raise log.failure("the docker engine went away", str(exc)[:300]) from exc

    def run(self, command: Sequence[str]) -> Ran:
        """See `Builder`."""
        container = self._api.create_container(
            f"{_IMAGE}:{self._tag}", list(command), network_disabled=True,
            labels={LEFTOVER: self._lock},
        )["Id"]  # fmt: skip
        try:
            self._api.start(container)
            status = self._api.wait(container, timeout=_SECONDS_TO_RUN)["StatusCode"]
            output = self._api.logs(container).decode(errors="replace")
        except OSError:
            return Ran(-1, f"it did not end within {_SECONDS_TO_RUN} seconds")
        except Exception as exc:
            # What cannot even start (no entrypoint, another architecture) is an APIError.
            if type(exc).__name__ not in ("APIError", "NotFound"):
                raise
            return Ran(-1, str(getattr(exc, "explanation", "") or exc))
        finally:
            self._api.remove_container(container, force=True, v=True)
        return Ran(status, output)

    def export(self) -> Built:
        """See `Builder`."""
        assert self._job  # noqa: S101 - it has been built
        saved = self._job.directory / "image.tar"
        with saved.open("wb") as file:
            for block in self._api.get_image(f"{_IMAGE}:{self._tag}", chunk_size=1 << 20):
                file.write(block)
        try:
            return _read_saved(saved, self._job)
        except (tarfile.TarError, LookupError, ValueError) as exc:
            raise BuildError("docker saves an image that cannot be read", detail=str(exc)) from exc
        finally:
            saved.unlink()

    def close(self) -> None:
        """See `Builder`. What cannot be removed now, the next build removes."""
        self._api.close()
        if self._job:
            remove(self._environ, [self._lock])

    @property
    def _lock(self) -> str:
        assert self._job  # noqa: S101 - it is being built
        return f"{self._job.directory.resolve()}.lock"

    @property
    def _tag(self) -> str:
        return _tag_of(self._lock)

    def _lend(self, job: Job, tag: str, log: Log) -> None:
        """A base image with the directory that is lent as its uppermost layer."""
        text = f'FROM {_BASE}:{tag}\nLABEL {LEFTOVER}="{self._lock}"\nCOPY . {HELPER}\n'
        self._build(job, job.helper, text, f"{_BASE}:{tag}-lent", None, {})
        log.flush()

    def _build(
        self,
        job: Job,
        context: Path,
        dockerfile: str,
        tag: str,
        log: Log | None,
        arguments: Mapping[str, str],
    ) -> None:
        # Outside of the context: the image has the source's own.
        place = job.directory / "Dockerfile"
        place.write_text(dockerfile)
        answers = self._api.build(
            path=str(context), dockerfile=str(place), tag=tag, buildargs=dict(arguments),
            network_mode="host", rm=True, forcerm=True, nocache=True, pull=False, decode=True,
            platform=f"linux/{job.arch}", timeout=left(job.deadline),
        )  # fmt: skip
        quiet: list[str] = []
        for answer in answers:
            left(job.deadline)
            text = str(answer.get("stream") or "")
            if log:
                log.write(text)
            quiet.append(text)
            if log is None and answer.get("error"):
                raise BuildError("docker cannot prepare the build", detail="".join(quiet)[-2000:])
            if log:
                _raise_error(answer, log)


def check(environ: Mapping[str, str]) -> None:
    """Raise PreflightError when no engine answers."""
    _connect(environ, _SECONDS_TO_ANSWER).close()


def leftovers(environ: Mapping[str, str]) -> list[str]:
    """The lock files of builds that were killed and have left something in the engine.

    [] where there is no engine.
    """
    from docker.errors import DockerException

    if not _may_be_there(environ):
        return []
    try:
        api = _connect(environ, _SECONDS_TO_ANSWER)
    except PreflightError:
        return []
    try:
        found = api.images(all=True, filters={"label": LEFTOVER})
        found += api.containers(all=True, filters={"label": LEFTOVER})
    except (DockerException, OSError):
        return []
    finally:
        api.close()
    locks = {(one.get("Labels") or {}).get(LEFTOVER) for one in found}
    return sorted(lock for lock in locks if lock and _is_dead(Path(lock)))


def remove(environ: Mapping[str, str], locks: Sequence[str]) -> None:
    """Remove what these builds have left; what does not go now goes with the next."""
    from docker.errors import DockerException

    if not locks:
        return
    with contextlib.suppress(DockerException, OSError, PreflightError):
        api = _connect(environ, _SECONDS_TO_REMOVE)
        try:
            for lock in locks:
                _remove(api, lock)
        finally:
            api.close()


def _may_be_there(environ: Mapping[str, str]) -> bool:
    # Importing the SDK takes longer than all the rest.
    return bool(environ.get("DOCKER_HOST")) or Path("/var/run/docker.sock").exists()


def _is_dead(lock: Path) -> bool:
    """Whether the build is over: its lock is gone, or nobody holds it. Others' are theirs."""
    try:
        if not lock.parent.is_dir():
            return False
        return not lock.exists() or not scratch.is_held(lock)
    except OSError:
        return False


def _tag_of(lock: str) -> str:
    return hashlib.sha256(lock.encode()).hexdigest()[:16]


def _remove(api: APIClient, lock: str) -> None:
    """Containers and images of one build; what does not go is left for the next run."""
    from docker.errors import APIError

    label = {"label": f"{LEFTOVER}={lock}"}
    for container in api.containers(all=True, filters=label):
        with contextlib.suppress(APIError):
            api.remove_container(container["Id"], force=True, v=True)
    tag = _tag_of(lock)
    # By their names first: an image goes with those of its parents that have none.
    names = [f"{_IMAGE}:{tag}", f"{_BASE}:{tag}-lent"]
    for name in names:
        with contextlib.suppress(APIError):
            api.remove_image(name, force=True)
    images = api.images(all=True, filters=label)
    for image in sorted(images, key=lambda i: i["Created"], reverse=True):
        with contextlib.suppress(APIError):
            api.remove_image(image["Id"], force=True)
    with contextlib.suppress(APIError):
        api.remove_image(f"{_BASE}:{tag}", force=True)


def _connect(environ: Mapping[str, str], seconds: float) -> APIClient:
    import docker
    from docker.errors import DockerException
    from docker.utils import kwargs_from_env

    try:
        api = docker.APIClient(
            version="auto", timeout=seconds, **kwargs_from_env(environment=dict(environ))
        )
        api.ping()
    except (DockerException, OSError) as exc:
        raise PreflightError(
            "no docker engine answers",
            where=environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock",
            detail=_reason(exc),
            hint="start it, or get the right to use it (group docker); or --builder buildah, "
            "which needs none",
        ) from exc
    return api


def _reason(exc: BaseException) -> str:
    text = str(exc)
    for known in ("Connection refused", "No such file or directory", "Permission denied"):
        if known in text:
            return known
    return text[-300:]


def _raise_error(answer: Mapping[str, Any], log: Log) -> None:
    """docker-py raises nothing for what goes wrong within a stream."""
    if answer.get("error"):
        log.write("\n" + str(answer["error"]) + "\n")
        raise log.failure("the build failed")


def _read_saved(saved: Path, job: Job) -> Built:
    """An archive of `docker save`: manifest.json names the files, in old and new forms of it."""
    with tarfile.open(saved) as archive:
        (entry,) = json.loads(_member(archive, "manifest.json"))
        config = _member(archive, entry["Config"])
        shared = shared_layers(config, job.base)
        layers: list[Path | None] = [None] * shared
        for number, name in enumerate(entry["Layers"][shared:]):
            target = job.directory / f"layer-{number}.tar"
            source = archive.extractfile(name)
            if source is None:
                raise LookupError(f"it has no file {name}")
            with source, target.open("wb") as file:
                is_packed = source.read(2) == _GZIP
                source.seek(0)
                plain = gzip.GzipFile(fileobj=source) if is_packed else source
                shutil.copyfileobj(plain, file, 1 << 20)
            layers.append(target)
    return Built(config, tuple(layers))


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    if file is None:
        raise LookupError(f"it has no file {name}")
    with file:
        return file.read()
