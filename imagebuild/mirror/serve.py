"""A registry on this host: distribution's own program with a configuration that suits a mirror.

Debian and Ubuntu have it as `docker-registry`, upstream calls it `registry`; where neither is
installed, its container image runs by docker. Configuration: distribution 2.8,
docs/configuration.md.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagebuild.errors import BuildError, ConfigError, PreflightError, UsageError
from imagebuild.files import MIB, read_limited
from imagebuild.host.preflight import REGISTRY_PROGRAMS
from imagebuild.host.run import base_env, spawn, which
from imagebuild.registry.settings import is_loopback

CONFIG = "registry.yml"
#: Seconds for a registry to answer, and one to end after SIGTERM.
_START, _STOP = 30.0, 10.0
_BCRYPT = ("$2a$", "$2b$", "$2y$")
#: Where the container has what it is given.
_IN_CONTAINER = "/etc/docker/registry/config.yml"


@dataclass(frozen=True)
class Service:
    """What is served. `data` holds all images; paths are absolute. `read_only`: nobody pushes."""

    host: str
    port: int
    data: Path
    tls_cert: Path | None = None
    tls_key: Path | None = None
    htpasswd: Path | None = None
    read_only: bool = False

    @property
    def url(self) -> str:
        """Where it answers, from this host."""
        host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104
        shown = f"[{host}]" if ":" in host else host
        return f"{'https' if self.tls_cert else 'http'}://{shown}:{self.port}"

    @property
    def is_public(self) -> bool:
        """Whether other hosts reach it."""
        return not is_loopback(self.host) if self.host else True


def parse_listen(text: str) -> tuple[str, int]:
    """HOST:PORT, [IPV6]:PORT or :PORT for all addresses. Raises UsageError."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535 or (":" in host.strip("[]")) != (
        host.startswith("[") and host.endswith("]")
    ):  # fmt: skip
        raise UsageError(
            "this is no address to listen at",
            where=f"--listen {text}",
            hint="write HOST:PORT, 127.0.0.1:5000 say; [::1]:5000; or :5000 for all addresses",
        )
    return host.strip("[]"), int(port)


def check(service: Service) -> Service:
    """The service, with a free port in the place of 0. Raises UsageError, ConfigError and
    PreflightError for what would not start, or would let nobody in.
    """
    if (service.tls_cert is None) != (service.tls_key is None):
        raise UsageError("--tls-cert and --tls-key go together: the certificate and its key")
    if service.tls_cert and service.tls_key:
        _check_certificate(service.tls_cert, service.tls_key)
    if service.htpasswd:
        _check_htpasswd(service.htpasswd)
    return _with_port(service)


def warnings_of(service: Service) -> tuple[str, ...]:
    """What people should know of a registry that other hosts reach."""
    if not service.is_public:
        return ()
    found = []
    if not service.tls_cert:
        found.append(
            "no TLS: whoever is on the way can read and change what is pulled, and guests need "
            "docker_insecure_registries in trove.conf (--tls-cert, --tls-key)"
        )
    if not service.htpasswd and not service.read_only:
        found.append(
            "no login: who reaches it may push and delete (--htpasswd; or --read-only for guests, "
            "beside a second one on loopback with the same --data to push to)"
        )
    if service.htpasswd:
        found.append(
            "a login: with Trove's network_isolation guests cannot log in, and pull nothing "
            "(--read-only needs none)"
        )
    return tuple(found)


def config_of(service: Service) -> dict[str, Any]:
    """distribution's configuration."""
    shown = f"[{service.host}]" if ":" in service.host else service.host
    http: dict[str, Any] = {
        "addr": f"{shown}:{service.port}",
        # For uploads that are on their way; no login.
        "secret": secrets.token_hex(32),
        "headers": {"X-Content-Type-Options": ["nosniff"]},
    }
    if service.tls_cert:
        http["tls"] = {"certificate": str(service.tls_cert), "key": str(service.tls_key)}
    storage: dict[str, Any] = {
        "filesystem": {"rootdirectory": str(service.data)},
        # `mirror prune` could do nothing without.
        "delete": {"enabled": True},
        # No cache of blobs' sizes: it would go on telling of blobs that the disk has lost.
    }
    if service.read_only:
        storage["maintenance"] = {"readonly": {"enabled": True}}
    document: dict[str, Any] = {
        "version": 0.1,
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": storage,
        "http": http,
    }
    if service.htpasswd:
        document["auth"] = {"htpasswd": {"realm": "imagebuild", "path": str(service.htpasswd)}}
    return document


def write_config(service: Service) -> Path:
    """The configuration in the data directory, for its owner alone. Raises PreflightError."""
    import yaml

    path = service.data / (f"read-only-{CONFIG}" if service.read_only else CONFIG)
    try:
        service.data.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", dir=service.data, prefix=f".{CONFIG}-", delete=False
        ) as file:  # 0600 from its first byte on
            yaml.safe_dump(config_of(service), file, sort_keys=False)
        Path(file.name).replace(path)
    except OSError as exc:
        raise PreflightError(
            "the registry's data directory cannot be written",
            where=str(exc.filename or service.data),
            detail=exc.strerror or str(exc),
            hint="name another one: --data DIR",
        ) from exc
    return path


def command_of(service: Service, config: Path, image: str = "") -> list[str]:
    """What runs the registry: its program, or with `image` docker and the container image.

    Raises PreflightError where there is neither.
    """
    if not image:
        for name in REGISTRY_PROGRAMS:
            if found := which(name):
                return [found, "serve", str(config)]
        raise PreflightError(
            "there is no registry to start",
            detail=f"neither {' nor '.join(REGISTRY_PROGRAMS)} is installed",
            hint="apt install docker-registry; or run its container: --image "
            "docker.io/library/registry:2",
        )
    docker = which("docker")
    if docker is None:
        raise PreflightError(
            "docker is not installed", detail=f"it is to run {image}",
            hint="apt install docker-registry, and leave out --image",
        )  # fmt: skip
    # The host's network and user: addresses and files are what they are without a container.
    argv = [docker, "run", "--rm", "--init", "--network", "host",
            "--name", f"imagebuild-registry-{service.port}",
            "--user", f"{os.getuid()}:{os.getgid()}",
            "--volume", f"{config}:{_IN_CONTAINER}:ro",
            "--volume", f"{service.data}:{service.data}"]  # fmt: skip
    for path in filter(None, (service.tls_cert, service.tls_key, service.htpasswd)):
        argv += ["--volume", f"{path}:{path}:ro"]
    return [*argv, image, "serve", _IN_CONTAINER]


@contextmanager
def running(
    service: Service, argv: list[str], environ: Mapping[str, str] = os.environ
) -> Iterator[subprocess.Popen[bytes]]:
    """Start it, and wait until it answers; it ends with the block, and with this process.

    Raises BuildError when it ends by itself, or does not answer.
    """
    process = spawn(argv, env=_environ(environ), die_with_parent=True, new_session=True)
    try:
        _await(service, process)
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(_STOP)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _environ(environ: Mapping[str, str]) -> dict[str, str]:
    """Of the environment, what docker goes by: which daemon, which login."""
    kept = {k: v for k, v in environ.items() if k.startswith("DOCKER_") or k == "HOME"}
    return base_env(**kept)


def unit_of(service: Service, argv: list[str]) -> str:
    """A systemd unit that runs it for good."""
    import getpass

    home, temporary = (
        any(service.data.is_relative_to(p) for p in places)
        for places in (("/home", "/root", "/run/user"), ("/tmp", "/var/tmp"))  # noqa: S108
    )
    return "\n".join(
        (
            "[Unit]",
            "Description=Container registry for Trove's guests",
            "Documentation=https://distribution.github.io/distribution/",
            "Wants=network-online.target",
            "After=network-online.target",
            "",
            "[Service]",
            f"User={getpass.getuser()}",
            f"ExecStart={' '.join(map(_quoted, argv))}",
            "Restart=on-failure",
            "NoNewPrivileges=yes",
            *([] if temporary else ["PrivateTmp=yes"]),
            "ProtectSystem=strict",
            *([] if home else ["ProtectHome=yes"]),
            f"ReadWritePaths={_quoted(str(service.data))}",
            "",
            "[Install]",
            "WantedBy=multi-user.target",
            "",
        )
    )


def _quoted(word: str) -> str:
    """A word of a unit's line (systemd.service(5), "Command lines"; systemd.unit(5))."""
    word = word.replace("%", "%%").replace("$", "$$")
    if all(c.isalnum() or c in "-_./:=@%$," for c in word):
        return word
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _await(service: Service, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START
    host, port = service.url.partition("://")[2].rpartition(":")[::2]
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise BuildError(
                "the registry ended as soon as it was started",
                where=f"{service.host}:{service.port}",
                detail=f"exit code {process.returncode}; its own words are above",
            )
        with (
            contextlib.suppress(OSError),
            socket.create_connection((host.strip("[]"), int(port)), timeout=1),
        ):
            return
        time.sleep(0.05)
    raise BuildError(
        "the registry does not listen", where=service.url, detail=f"for {_START:.0f} s now"
    )


def _with_port(service: Service) -> Service:
    """Take the port for a moment: what would fail in the registry's log fails here."""
    import dataclasses

    where = f"--listen {service.host}:{service.port}"
    try:
        found = socket.getaddrinfo(
            service.host or None, service.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, kind, _, _, address = found[0]
        with socket.socket(family, kind) as taken:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind(address)
            return dataclasses.replace(service, port=int(taken.getsockname()[1]))
    except socket.gaierror as exc:
        raise UsageError(
            "this is no address of this host", where=where, detail=str(exc.strerror)
        ) from exc
    except OSError as exc:
        hints = {
            errno.EADDRINUSE: "something listens there already: take another port, or end it",
            errno.EADDRNOTAVAIL: "this host has no such address; `ip address` tells which it has",
            errno.EACCES: "ports below 1024 are root's: take another one",
        }
        raise PreflightError(
            "the registry cannot listen there",
            where=where,
            detail=exc.strerror or str(exc),
            hint=hints.get(exc.errno or 0, ""),
        ) from exc


def _check_certificate(certificate: Path, key: Path) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
            certificate, key, password=_no_password
        )
    except FileNotFoundError as exc:
        raise ConfigError(
            "there is no such certificate or key", where=f"{certificate}, {key}"
        ) from exc
    except (OSError, ValueError) as exc:
        raise ConfigError(
            "the certificate and its key cannot be used",
            where=f"{certificate}, {key}",
            detail=str(exc),
            hint="both as PEM, the key without a password; one must belong to the other",
        ) from exc


def _no_password() -> str:
    """Without it, OpenSSL would ask on the terminal."""
    raise ValueError("the key has a password")


def _check_htpasswd(path: Path) -> None:
    hint = "make it so: htpasswd -Bc FILE USER (apache2-utils)"
    try:
        lines = read_limited(path, MIB).decode(errors="replace").splitlines()
    except OSError as exc:
        raise ConfigError(
            "the file of logins cannot be read", where=str(path),
            detail=exc.strerror or str(exc), hint=hint,
        ) from exc  # fmt: skip
    entries = [line for line in lines if line.strip() and not line.startswith("#")]
    if not entries:
        raise ConfigError("the file of logins has none", where=str(path), hint=hint)
    for number, line in enumerate(entries, 1):
        user, colon, hashed = line.partition(":")
        if not colon or not hashed.startswith(_BCRYPT):
            raise ConfigError(
                "the registry would let a user never in",
                where=f"{path}, entry {number}: {user[:50] if colon else 'no user'}",
                detail="docker's registry takes bcrypt alone",
                hint=hint,
            )
