"""Checks: docker, clouds, registries: what publishing and mirroring log in to.

No secret is shown: of files, only their places, names of entries, and what is wrong.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from imagebuild.doctor.check import Check, Finding, Level, Need, Subject, ok
from imagebuild.doctor.host import Host
from imagebuild.errors import PreflightError
from imagebuild.host.preflight import REGISTRY_PROGRAMS
from imagebuild.registry.credentials import credential_files


def docker(host: Host, subject: Subject) -> Iterator[Finding]:  # noqa: ARG001
    """The docker daemon. buildah builds backup images as well, so it never stops anything here."""
    without = "--engine docker and mirror serve --image; nothing else needs docker"
    if not host.which("buildah"):
        without = f"building database backup images (buildah does that, too), {without}"
    try:
        version = host.docker()
    except PreflightError as exc:
        why = exc.detail
    else:
        yield ok(f"docker {version}")
        return
    install: tuple[str, ...] = ()
    run: tuple[str, ...] = ()
    advice = ""
    if "PermissionError" in why or "Permission denied" in why:
        run, advice = ("usermod -aG docker $USER",), "then log in again"
    elif host.environ.get("DOCKER_HOST"):
        advice = "check DOCKER_HOST"
    elif not host.which("dockerd"):
        install = ("docker.io",)
    else:
        run = ("systemctl start docker",)
    reason = _last_reason(why)
    yield Finding(
        Level.WARNING, "docker cannot be used", detail=reason, prevents=without,
        install=install, run=run, advice=advice,
    )  # fmt: skip


def registry(host: Host, subject: Subject) -> Iterator[Finding]:  # noqa: ARG001
    """The program of a registry of one's own; mirrors may go to any other."""
    names = [name for name in REGISTRY_PROGRAMS if host.which(name)]
    if names:
        yield ok(f"{names[0]}, which mirror serve starts")
        return
    yield Finding(
        Level.WARNING, "there is no registry to start on this host",
        detail=f"neither {' nor '.join(REGISTRY_PROGRAMS)} is installed",
        prevents="mirror serve, unless docker runs it (--image); nothing else needs it",
        install=("docker-registry",),
    )  # fmt: skip


def _last_reason(text: str) -> str:
    for word in ("FileNotFoundError", "PermissionError", "ConnectionRefusedError"):
        if word in text:
            return {
                "FileNotFoundError": "its socket is not there",
                "PermissionError": "you may not use its socket",
                "ConnectionRefusedError": "nobody listens on its socket",
            }[word]
    return text.splitlines()[-1] if text else ""


def clouds(host: Host, subject: Subject) -> Iterator[Finding]:
    """Clouds that openstacksdk finds in clouds.yaml and OS_*; one of them is logged in to."""
    no_image = "publishing images"
    try:
        names = host.clouds()
    except PreflightError as exc:
        yield Finding(
            Level.MISSING, exc.what, exc.where, exc.detail, no_image, advice=exc.hint
        )  # fmt: skip
        return
    for path in host.cloud_files():
        if host.mode(path) & 0o044:
            yield Finding(
                Level.WARNING,
                "others can read the cloud's password",
                where=str(path),
                prevents="nothing, yet every user of this host knows it",
                run=(f"chmod 600 {path}",),
            )
    if not names:
        yield Finding(
            Level.MISSING,
            "no cloud is configured",
            prevents=no_image,
            advice="write ~/.config/openstack/clouds.yaml, or source the project's openrc file",
        )
    elif subject.cloud is None:
        yield ok(f"clouds: {', '.join(names)}; --cloud NAME tries to log in")
    elif subject.cloud not in names:
        yield Finding(
            Level.MISSING,
            f"there is no cloud {subject.cloud!r}",
            detail=f"these are configured: {', '.join(names)}",
            prevents=no_image,
            advice="name one of them, or add it to clouds.yaml",
        )
    else:
        yield from _login(host, subject.cloud)


def _login(host: Host, cloud: str) -> Iterator[Finding]:
    try:
        services = host.log_in(cloud)
    except PreflightError as exc:
        yield Finding(
            Level.MISSING, exc.what, exc.where, exc.detail, "publishing images", advice=exc.hint
        )  # fmt: skip
        return
    yield ok(f"logged in to {cloud}")
    for service, level, text in (
        ("image", Level.MISSING, "publishing images"),
        ("database", Level.WARNING, "registering datastore versions"),
    ):
        if service not in services:
            yield Finding(
                level,
                f"the cloud's catalog has no {service} service for this project",
                where=cloud,
                prevents=text,
                advice="check region_name and interface in clouds.yaml",
            )


def registries(host: Host, subject: Subject) -> Iterator[Finding]:  # noqa: ARG001
    """Logins of docker and podman: files that can be read, kept close, helpers that exist."""
    bad = False
    found: list[str] = []
    for path in credential_files(host.environ):
        if not host.exists(path):
            continue
        problems, named = _registry_file(host, path)
        bad = bad or bool(problems)
        found += named
        yield from problems
    if not bad:
        names = ", ".join(sorted(set(found)))
        yield ok(
            f"registry logins: {names}" if names else "no registry logins: pulls are anonymous"
        )


def _registry_file(host: Host, path: Path) -> tuple[list[Finding], list[str]]:
    """What is wrong with a file of logins, and the registries that it has one for."""
    lost = "pulls and pushes that need a login"
    try:
        document = json.loads(host.read(path))
        auths: dict[str, Any] = dict(document.get("auths") or {})
        helpers: dict[str, Any] = dict(document.get("credHelpers") or {})
        store = str(document.get("credsStore") or "")
    except (OSError, ValueError, TypeError, AttributeError) as exc:
        reason = (
            exc.strerror if isinstance(exc, OSError) else "it is not the JSON that it should be"
        )
        finding = Finding(
            Level.MISSING, "a file of registry logins cannot be read", str(path), str(reason), lost,
            advice="log in again: docker login or podman login; or remove the file",
        )  # fmt: skip
        return [finding], []
    problems = []
    inline = {n: e["auth"] for n, e in auths.items() if isinstance(e, dict) and e.get("auth")}
    for name, token in inline.items():
        if not _is_login(token):
            problems.append(Finding(
                Level.MISSING, "a registry login is malformed", f"{path}: {name}", "", lost,
                run=(f"docker login {name}",),
            ))  # fmt: skip
    if inline and host.mode(path) & 0o077:
        problems.append(Finding(
            Level.WARNING, "others can read registry passwords", str(path),
            prevents="nothing, yet every user of this host knows them", run=(f"chmod 600 {path}",),
        ))  # fmt: skip
    for helper in sorted({*map(str, helpers.values()), *([store] if store else [])}):
        program = f"docker-credential-{helper}"
        if not host.which(program, as_user=True):
            problems.append(Finding(
                Level.MISSING, f"{program} is not installed", str(path),
                "the file says that it keeps the logins", lost,
                advice="install it, or remove credsStore and credHelpers and log in again",
            ))  # fmt: skip
    return problems, [*auths, *helpers]


def _is_login(token: object) -> bool:
    try:
        return b":" in base64.b64decode(str(token), validate=True)
    except ValueError:
        return False


CHECKS = (
    Check("clouds", "publishing", "OpenStack logins", frozenset({Need.PUBLISH}), clouds),
    Check("registries", "mirroring", "registry logins", frozenset({Need.MIRROR}), registries),
    Check("docker", "mirroring", "docker", frozenset({Need.MIRROR}), docker),
    Check("registry", "mirroring", "a registry of one's own", frozenset({Need.MIRROR}), registry),
)
