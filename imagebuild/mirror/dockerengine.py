"""Copies by a docker daemon: pull, tag, push, as the admin guide has it, for who needs that.

What is lost on that way is in `LOSSES`. The daemon has its own trust in registries: CAs in
/etc/docker/certs.d, plain http in daemon.json's insecure-registries.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from imagebuild.errors import ImagebuildError, Interrupted, PreflightError, PublishError
from imagebuild.events import Emit
from imagebuild.mirror.copier import ImageFinished, ImageProgress, known_result, skipped_result
from imagebuild.mirror.planning import MirrorPlan, Planned
from imagebuild.mirror.problems import MissingError
from imagebuild.mirror.result import Report, Result, RunInterrupted, outcome_of
from imagebuild.mirror.workers import StoppedError
from imagebuild.registry.credentials import Login
from imagebuild.registry.reference import DIGEST, Reference

if TYPE_CHECKING:
    import docker

    from imagebuild.registry.client import Client

#: What the person should know before, and the report after.
LOSSES = (
    "docker copies the platform of its daemon (or the one that is asked for) alone: an index "
    "becomes a single image",
    "docker may pack layers anew: digests are not the source's, and pins to those find nothing",
    "attestations, signatures and SBOMs are not copied",
)
#: Seconds without a word from the daemon; it says how far it is all the time.
_TIMEOUT = 300
_NOT_THERE = ("not found", "manifest unknown", "does not exist", "name unknown")
_NO_ACCESS = ("unauthorized", "denied", "authentication required", "no basic auth")
_NOT_TRUSTED = ("server gave http response to https client", "x509:", "certificate")


def run_with_docker(
    client: Client,
    plan: MirrorPlan,
    *,
    environ: Mapping[str, str] = os.environ,
    emit: Emit | None = None,
    stop: threading.Event | None = None,
) -> Report:
    """Do what a plan says that was made with `engine=DOCKER`, one image after another.

    What was pulled or tagged here is removed again, what had been there stays. Logins are the
    client's. Raises PreflightError without a daemon, and RunInterrupted as `run_plan` does.
    """
    began = time.monotonic()
    tell = emit or (lambda _: None)
    results: list[Result] = []

    def report() -> Report:
        rest = [skipped_result(p) for p in plan.planned[len(results) :]]
        return Report(
            (*results, *rest), time.monotonic() - began, dict(client.request_counts),
            tuple(client.quotas), notes=LOSSES,
        )  # fmt: skip

    try:
        with _daemon(environ) as daemon:
            for planned in plan.planned:
                if stop and stop.is_set():
                    break
                if planned.error or not planned.stale_tags:
                    results.append(known_result(planned))
                else:
                    results.append(_DockerCopy(client, daemon, planned, tell, stop).run())
                tell(ImageFinished(results[-1]))
    except StoppedError:
        pass
    except Interrupted as exc:
        raise RunInterrupted(exc, report()) from None
    return report()


@contextlib.contextmanager
def _daemon(environ: Mapping[str, str]) -> Iterator[docker.APIClient]:
    import docker
    import docker.errors
    import requests

    try:
        daemon = docker.from_env(environment=dict(environ), timeout=_TIMEOUT)
        daemon.ping()
    except (docker.errors.DockerException, requests.RequestException, OSError) as exc:
        raise PreflightError(
            "docker cannot be used",
            where=environ.get("DOCKER_HOST", "unix:///var/run/docker.sock"),
            detail=str(exc)[-300:],
            hint="is it running, and may you use it (group docker)? Without --engine docker no "
            "daemon is needed",
        ) from exc
    try:
        yield daemon.api
    finally:
        daemon.close()


class _DockerCopy:
    """One item."""

    def __init__(
        self,
        client: Client,
        daemon: docker.APIClient,
        planned: Planned,
        emit: Emit,
        stop: threading.Event | None,
    ) -> None:
        self._client = client
        self._daemon = daemon
        self._planned = planned
        self._item = planned.item
        self._emit = emit
        self._stop = stop
        #: Names that we gave images, or that they got by us.
        self._ours: list[str] = []
        self._sent = 0

    def run(self) -> Result:
        import docker.errors
        import requests

        began = time.monotonic()
        there = self._planned.there.digest if self._planned.there else ""
        result = Result(
            self._item, self._planned.outcome, digest=there, before=there,
            source_digest=self._planned.source.digest if self._planned.source else "",
        )  # fmt: skip
        try:
            result = self._copy(result)
        except Interrupted:
            raise
        except ImagebuildError as exc:
            result = _failed(result, exc)
        except (docker.errors.DockerException, requests.RequestException, OSError) as exc:
            result = _failed(result, self._error("docker fails", str(exc)))
        finally:
            self._remove()
        return dataclasses.replace(
            result, seconds=time.monotonic() - began, bytes_copied=self._sent
        )

    def _copy(self, result: Result) -> Result:
        item, source, target = self._item, self._planned.source, self._item.target
        assert source  # noqa: S101 - there is no error
        if len(item.platforms) > 1:
            raise PublishError(
                "docker copies one platform",
                where=str(target),
                detail=f"the list wants {', '.join(item.platforms)}",
                hint="leave --engine docker away",
            )
        pinned = f"{item.source.name}@{source.digest}"
        self._will_be_ours(pinned)
        self._follow(
            self._daemon.pull(
                item.source.name, tag=source.digest, stream=True, decode=True,
                platform=item.platforms[0] if item.platforms else None,
                auth_config=_auth(self._client.login(item.source)),
            ),
            item.source,
        )  # fmt: skip
        tags = self._planned.stale_tags
        if item.backup and self._planned.there and target.tag in tags:
            old = self._client.get_manifest(target.at(self._planned.there.digest))
            kept = dataclasses.replace(target, tag=item.backup, digest="")
            self._client.put_manifest(kept, old)
            result = dataclasses.replace(result, backup=item.backup)
        digest = ""
        for tag in tags:
            self._will_be_ours(f"{target.name}:{tag}")
            self._daemon.tag(pinned, target.name, tag, force=True)
            digest = self._follow(
                self._daemon.push(
                    target.name, tag=tag, stream=True, decode=True,
                    auth_config=_auth(self._client.login(target)),
                ),
                target,
            )  # fmt: skip
            if not digest:
                raise self._error("docker does not say what it has pushed", "no digest")
            self._will_be_ours(f"{target.name}@{digest}", new=True)
        backup = (result.backup,) if result.backup else ()
        return dataclasses.replace(
            result, digest=digest, tags=(*tags, *backup), made_as=self._planned.made_as
        )

    def _follow(self, lines: Iterator[dict[str, Any]], reference: Reference) -> str:
        """Read what the daemon says to the end; the digest of what was pushed.

        docker-py raises nothing for what goes wrong: it stands in a line of the stream.
        """
        digest = ""
        layers: dict[str, tuple[int, int]] = {}
        pushes = reference is self._item.target
        for line in lines:
            if self._stop and self._stop.is_set():
                raise StoppedError
            if error := line.get("error"):
                raise self._error(
                    "docker cannot push the image" if pushes else "docker cannot pull the image",
                    str(error),
                    reference,
                )
            told = (line.get("aux") or {}).get("Digest", "")
            digest = told if DIGEST.fullmatch(told) else digest
            progress = line.get("progressDetail") or {}
            if pushes and progress.get("total") and "id" in line:
                layers[line["id"]] = progress.get("current") or 0, progress["total"]
                done, total = (sum(x) for x in zip(*layers.values(), strict=True))
                self._emit(ImageProgress(str(self._item.target), done, total))
        self._sent += sum(done for done, _ in layers.values())
        return digest

    def _error(self, what: str, said: str, reference: Reference | None = None) -> ImagebuildError:
        where, words = str(reference or self._item.target), said.lower()
        if any(w in words for w in _NOT_TRUSTED):
            registry = (reference or self._item.target).registry
            return PreflightError(
                what, where=where, detail=said[:500],
                hint="the daemon has trust of its own: a CA in "
                f"/etc/docker/certs.d/{registry}/ca.crt, or insecure-registries in daemon.json",
            )  # fmt: skip
        if any(w in words for w in _NO_ACCESS):
            return PreflightError(what, where=where, detail=said[:500],
                                  hint="check the login for this registry")  # fmt: skip
        if reference is self._item.source and any(w in words for w in _NOT_THERE):
            return MissingError(what, where=where, detail=said[:500])
        return PublishError(what, where=where, detail=said[:500])

    # What is left behind

    def _will_be_ours(self, name: str, *, new: bool = False) -> None:
        import docker.errors

        if not new:
            try:
                self._daemon.inspect_image(name)
            except docker.errors.ImageNotFound:
                pass
            else:
                return
        self._ours.append(name)

    def _remove(self) -> None:
        """Names that were not there before; with its last name the daemon removes an image."""
        import docker.errors
        import requests

        for name in self._ours:
            with contextlib.suppress(docker.errors.APIError, requests.RequestException):
                self._daemon.remove_image(name)


def _failed(result: Result, error: ImagebuildError) -> Result:
    return dataclasses.replace(result, outcome=outcome_of(error), error=error.to_json())


def _auth(login: Login | None) -> dict[str, str]:
    """As the daemon takes it; never what docker-py would find by itself."""
    if login is None:
        return {}
    if login.token:
        return {"identitytoken": login.token}
    return {"username": login.username, "password": login.password}
