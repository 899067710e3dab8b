"""`mirror serve`: a registry that starts, says so, and ends with the command."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import bcrypt
import pytest
import requests
import yaml

from imagebuild.errors import ConfigError, PreflightError, UsageError
from imagebuild.host.run import need, run
from imagebuild.mirror.serve import (
    Service,
    check,
    command_of,
    config_of,
    parse_listen,
    unit_of,
    warnings_of,
    write_config,
)
from tests.container_images import image, layer
from tests.images.engine import engine

SERVE = [sys.executable, "-m", "imagebuild", "mirror", "serve", "--listen", "127.0.0.1:0"]


@contextmanager
def _serving(
    data: Path, *options: str, environ: Mapping[str, str] | None = None
) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """The command, ready, and what it said; ended by kill -9 at the latest."""
    process = subprocess.Popen(
        [*SERVE, "--data", str(data), "--json", *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=dict(os.environ) | dict(environ or {}),
    )  # fmt: skip
    assert process.stdout
    text = ""
    try:
        while not text.endswith("}\n"):
            line = process.stdout.readline()
            assert line, process.communicate()[1]
            text += line
        yield process, json.loads(text)
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def _is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().split(")")[-1].split()[0]
    except FileNotFoundError:
        return False


def _push(url: str) -> str:
    """An image under x:1; returns its digest."""
    made = image([layer({"a": b"a"})])
    for blob in made.blobs:
        answer = requests.post(f"{url}/v2/x/blobs/uploads/", timeout=10)
        place = answer.headers["Location"]
        digest = next(
            d["digest"]
            for d in (json.loads(made.manifest)["config"], *json.loads(made.manifest)["layers"])
            if d["size"] == len(blob)
        )
        requests.put(f"{place}&digest={digest}", data=blob, timeout=10).raise_for_status()
    kind = {"Content-Type": made.media_type}
    put = requests.put(f"{url}/v2/x/manifests/1", data=made.manifest, headers=kind, timeout=10)
    put.raise_for_status()
    return made.digest


def test_it_serves_deletes_and_ends_with_an_interrupt(tmp_path: Path) -> None:
    with _serving(tmp_path / "data") as (process, told):
        digest = _push(told["url"])
        assert (tmp_path / "data/docker/registry/v2/repositories/x").is_dir()
        deleted = requests.delete(f"{told['url']}/v2/x/manifests/{digest}", timeout=10)
        assert deleted.status_code == 202
        config = Path(told["config"])
        assert config.stat().st_mode & 0o777 == 0o600
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert not _is_alive(told["pid"])


def test_it_does_not_outlive_a_command_that_is_killed(tmp_path: Path) -> None:
    with _serving(tmp_path / "data") as (process, told):
        process.kill()
        process.wait()
        deadline = time.monotonic() + 10
        while _is_alive(told["pid"]):
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_it_says_when_the_registry_ends_by_itself(tmp_path: Path) -> None:
    with _serving(tmp_path / "data") as (process, told):
        os.kill(told["pid"], signal.SIGKILL)
        _, words = process.communicate(timeout=20)
        assert process.returncode == 1
        assert "ended by itself" in words


def test_read_only_and_a_login(tmp_path: Path) -> None:
    hashed = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
    (tmp_path / "htpasswd").write_text(f"user:{hashed}\n")
    with _serving(tmp_path / "data", "--read-only", "--htpasswd", str(tmp_path / "htpasswd")) as (
        _,
        told,
    ):
        start = f"{told['url']}/v2/x/blobs/uploads/"
        assert requests.post(start, timeout=10).status_code == 401
        assert requests.post(start, auth=("user", "secret"), timeout=10).status_code == 405


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PreflightError) as raised:
            check(Service("127.0.0.1", port, Path("/nowhere")))
    assert "something listens there already" in raised.value.hint


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:5000", ("127.0.0.1", 5000)),
        (":5000", ("", 5000)),
        ("[::1]:0", ("::1", 0)),
        ("registry.example:443", ("registry.example", 443)),
    ],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert parse_listen(text) == address


@pytest.mark.parametrize("text", ["5000", "host", "host:x", "::1:5000", "host:65536", ""])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(UsageError):
        parse_listen(text)


def test_warnings_are_for_those_whom_others_reach(tmp_path: Path) -> None:
    loopback = Service("127.0.0.1", 5000, tmp_path)
    assert warnings_of(loopback) == ()
    everybody = replace(loopback, host="")
    assert [w.partition(":")[0] for w in warnings_of(everybody)] == ["no TLS", "no login"]
    guests = replace(everybody, read_only=True, tls_cert=tmp_path, tls_key=tmp_path)
    assert warnings_of(guests) == ()
    assert "network_isolation" in warnings_of(replace(guests, htpasswd=tmp_path))[0]


def test_a_key_without_its_certificate_and_one_of_another(tmp_path: Path) -> None:
    for name in ("one", "two"):
        run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
             "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=x", "-days", "1",
             "-keyout", tmp_path / f"{name}.key", "-out", tmp_path / f"{name}.pem"])  # fmt: skip
    service = Service("127.0.0.1", 0, tmp_path, tls_cert=tmp_path / "one.pem")
    with pytest.raises(UsageError):
        check(service)
    with pytest.raises(ConfigError):
        check(replace(service, tls_key=tmp_path / "two.key"))
    good = check(replace(service, tls_key=tmp_path / "one.key"))
    assert good.url == f"https://127.0.0.1:{good.port}"


@pytest.mark.parametrize("text", ["", "user:$apr1$x$y\n", "user:plain\n", "no colon\n"])
def test_logins_that_nobody_could_use(tmp_path: Path, text: str) -> None:
    (tmp_path / "htpasswd").write_text(text)
    with pytest.raises(ConfigError) as raised:
        check(Service("127.0.0.1", 0, tmp_path, htpasswd=tmp_path / "htpasswd"))
    assert "htpasswd -B" in raised.value.hint
    assert "plain" not in str(raised.value)


def test_the_configuration(tmp_path: Path) -> None:
    service = Service("::1", 5000, tmp_path, read_only=True)
    config = config_of(service)
    assert config["http"]["addr"] == "[::1]:5000"
    assert config["storage"]["delete"] == {"enabled": True}
    assert config["storage"]["maintenance"] == {"readonly": {"enabled": True}}
    assert "cache" not in config["storage"]
    assert "tls" not in config["http"]
    written = yaml.safe_load(write_config(service).read_text())
    assert written["storage"] == config["storage"]
    # Beside a registry that may be written to, which keeps its own.
    assert write_config(replace(service, read_only=False)) != write_config(service)


def test_the_unit_is_one_for_systemd(tmp_path: Path) -> None:
    data = tmp_path / "100% mine"
    service = Service("127.0.0.1", 5000, data)
    argv = command_of(service, write_config(service))
    unit = unit_of(service, argv)
    assert f'serve "{str(data).replace("%", "%%")}/registry.yml"' in unit
    path = tmp_path / "trove-registry.service"
    path.write_text(unit)
    run(["systemd-analyze", "verify", "--man=no", path])


def test_its_container_has_the_hosts_network_and_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imagebuild.mirror.serve.which", lambda name: f"/usr/bin/{name}")
    service = Service("127.0.0.1", 5000, tmp_path, htpasswd=tmp_path / "htpasswd")
    argv = command_of(service, tmp_path / "c.yml", "docker.io/library/registry:2")
    assert argv[:2] == ["/usr/bin/docker", "run"]
    assert argv[-3:] == ["docker.io/library/registry:2", "serve", "/etc/docker/registry/config.yml"]
    assert f"{tmp_path}:{tmp_path}" in argv
    assert f"{tmp_path}/htpasswd:{tmp_path}/htpasswd:ro" in argv
    monkeypatch.setattr("imagebuild.mirror.serve.which", lambda _: None)
    with pytest.raises(PreflightError) as raised:
        command_of(service, tmp_path / "c.yml")
    assert "apt install docker-registry" in raised.value.hint


@pytest.mark.image
@pytest.mark.full("mirror")
def test_a_container_serves_and_ends(tmp_path: Path) -> None:
    with engine() as docker:
        docker.api.api.import_image_from_data(
            _registry_image(), repository="registry", tag="2",
            changes=['ENTRYPOINT ["/usr/bin/docker-registry"]'],
        )  # fmt: skip
        with _serving(
            tmp_path / "data", "--image", "registry:2", environ={"DOCKER_HOST": docker.socket}
        ) as (process, told):
            _push(told["url"])
            assert (tmp_path / "data/docker/registry/v2/repositories/x").is_dir()
            process.terminate()
            assert process.wait(30) == 143
        assert docker.api.containers.list(all=True) == []


def _registry_image() -> bytes:
    """The program and its libraries."""
    program = need("docker-registry")
    listed = run(["ldd", program]).stdout.decode()
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", dereference=True) as archive:
        for path in (program, *re.findall(r"(/\S+) \(0x", listed)):
            archive.add(path)
    return plain.getvalue()
