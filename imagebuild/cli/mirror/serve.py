"""imagebuild mirror serve: a registry on this host."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from imagebuild.cli import complete
from imagebuild.cli.options import json_option
from imagebuild.cli.terminal import terminal

if TYPE_CHECKING:
    from imagebuild.mirror.serve import Service

_SCHEMA_VERSION = 1


@click.command(
    epilog="Example: imagebuild mirror serve --listen 192.0.2.10:5000 --tls-cert tls.pem "
    "--tls-key tls.key --data /srv/registry"
)
@click.option(
    "--listen", default="127.0.0.1:5000", show_default=True, metavar="HOST:PORT",
    envvar="IMAGEBUILD_MIRROR_LISTEN", show_envvar=True,
    help="Where it listens; :5000 is all addresses, port 0 one that is free.",
)  # fmt: skip
@click.option(
    "--data", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
    envvar="IMAGEBUILD_MIRROR_DATA", show_envvar=True, shell_complete=complete.place("dir"),
    help="Where the images are. [default: ~/.local/share/imagebuild/registry]",
)  # fmt: skip
@click.option(
    "--tls-cert", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    envvar="IMAGEBUILD_MIRROR_TLS_CERT", show_envvar=True, shell_complete=complete.place("file"),
    help="PEM file with its certificate, and those between it and the CA.",
)  # fmt: skip
@click.option(
    "--tls-key", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    envvar="IMAGEBUILD_MIRROR_TLS_KEY", show_envvar=True, shell_complete=complete.place("file"),
    help="PEM file with the certificate's key.",
)  # fmt: skip
@click.option(
    "--htpasswd", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    envvar="IMAGEBUILD_MIRROR_HTPASSWD", show_envvar=True, shell_complete=complete.place("file"),
    help="File of users who may log in (htpasswd -B); without it, nobody has to.",
)  # fmt: skip
@click.option(
    "--read-only", is_flag=True, envvar="IMAGEBUILD_MIRROR_READ_ONLY", show_envvar=True,
    help="Nobody can push or delete: for guests, beside one on loopback with the same --data.",
)  # fmt: skip
@click.option(
    "--image", default="", metavar="NAME", envvar="IMAGEBUILD_MIRROR_REGISTRY_IMAGE",
    show_envvar=True,
    help="Run this container image by docker, docker.io/library/registry:2 say. [default: the "
    "program docker-registry, or registry]",
)  # fmt: skip
@click.option(
    "--print-config", is_flag=True, envvar="IMAGEBUILD_MIRROR_PRINT_CONFIG", show_envvar=True,
    help="Print the registry's configuration, and start nothing.",
)  # fmt: skip
@click.option(
    "--systemd-unit", is_flag=True, envvar="IMAGEBUILD_MIRROR_SYSTEMD_UNIT", show_envvar=True,
    help="Write the registry's configuration, print a systemd unit that uses it, and start "
    "nothing.",
)  # fmt: skip
@json_option
def serve(
    listen: str,
    data: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    htpasswd: Path | None,
    read_only: bool,
    image: str,
    print_config: bool,
    systemd_unit: bool,
    as_json: bool,
) -> None:
    """Start a registry on this host, and keep it running until ^C.

    It is the program that docker calls its registry, with a configuration that suits a mirror:
    on loopback unless --listen says otherwise, deletion enabled for `mirror prune`, no cache
    that hides lost blobs. It says when it is ready. Ends with 130 or 143 when it is told to
    end, 1 when the registry ends by itself.
    """
    import yaml

    from imagebuild.cli.options import absolute
    from imagebuild.errors import BuildError, UsageError
    from imagebuild.mirror import serve as engine

    if print_config and systemd_unit:
        raise UsageError("--print-config and --systemd-unit: one of the two")
    host, port = engine.parse_listen(listen)
    service = engine.Service(
        host,
        port,
        absolute(data, "--data") if data else _default_data(),
        tls_cert=absolute(tls_cert, "--tls-cert") if tls_cert else None,
        tls_key=absolute(tls_key, "--tls-key") if tls_key else None,
        htpasswd=absolute(htpasswd, "--htpasswd") if htpasswd else None,
        read_only=read_only,
    )
    if print_config:
        terminal.data(yaml.safe_dump(engine.config_of(service), sort_keys=False))
        return
    service = engine.check(service)
    for text in engine.warnings_of(service):
        terminal.warning(text)
    config = engine.write_config(service)
    argv = engine.command_of(service, config, image)
    if systemd_unit:
        terminal.data(engine.unit_of(service, argv))
        terminal.info(
            f"configuration: {config}; put the unit into /etc/systemd/system/"
            "trove-registry.service, then: systemctl enable --now trove-registry"
        )
        return
    with engine.running(service, argv) as process:
        _ready(service, config, process.pid, as_json=as_json)
        code = process.wait()
    raise BuildError(
        "the registry has ended by itself",
        where=service.url,
        detail=f"exit code {code}; its own words are above",
    )


def _ready(service: Service, config: Path, pid: int, *, as_json: bool) -> None:
    host = service.url.partition("://")[2]
    terminal.info(f"registry ready: {service.url}, data in {service.data}", "bold green")
    prefix = "" if service.tls_cert else "http://"
    terminal.info(f"for example: imagebuild mirror sync trove --target {prefix}{host}/trove")
    if as_json:
        terminal.json({
            "schema_version": _SCHEMA_VERSION,
            "url": service.url,
            "listen": f"{service.host}:{service.port}",
            "data": str(service.data),
            "config": str(config),
            "read_only": service.read_only,
            "pid": pid,
        })  # fmt: skip


def _default_data() -> Path:
    import platformdirs

    return platformdirs.user_data_path("imagebuild") / "registry"
