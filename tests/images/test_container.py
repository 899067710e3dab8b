"""The image that the Dockerfile makes: built on a Debian of this host's mirror, and used."""

from __future__ import annotations

import ast
import base64
import gzip
import http.server
import json
import os
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from imagebuild import __version__
from imagebuild.agent.pipconf import pip_settings
from imagebuild.host.run import network_env, run
from tests.images.boots import boot
from tests.images.builds import REPO, bookworm_argv
from tests.images.engine import Engine, engine
from tests.images.questions import COMMANDS
from tests.images.standin import host_debian_mirror, server_tls

pytestmark = [
    pytest.mark.image,
    pytest.mark.skipif(os.geteuid() != 0, reason="starts a docker engine, which needs root"),
]

_BASE = ("imagebuild-test-base", "bookworm")
_IMAGE = "imagebuild-test:checkout"
#: What the README and the Dockerfile ask for, of an engine that gives nothing by itself.
_RIGHTS: Mapping[str, Any] = {
    "cap_drop": ["ALL"],
    "cap_add": [
        "SYS_ADMIN", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "MKNOD", "SETFCAP", "SETGID",
        "SETUID", "SYS_CHROOT",
    ],
    "security_opt": ["apparmor=unconfined"],
}  # fmt: skip


class _Handler(http.server.BaseHTTPRequestHandler):
    server: PrivateIndex

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers.get("Authorization", "")))
        self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Silent: `asked` is the log."""


class PrivateIndex(http.server.ThreadingHTTPServer):
    """A Python package index over TLS that has nothing and keeps what it is asked.

    It wants no login, and its certificate is in `ca` alone.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[tuple[str, str]] = []
        self.ca = directory / "index-ca.pem"
        self.socket = server_tls(self.ca).wrap_socket(
            self.socket, server_side=True, do_handshake_on_connect=False
        )

    @contextmanager
    def serving(self) -> Iterator[None]:
        thread = threading.Thread(target=self.serve_forever)
        thread.start()
        try:
            yield
        finally:
            self.shutdown()
            self.server_close()
            thread.join()


@dataclass(frozen=True)
class HostNetwork:
    """How this host reaches the network, as files and variables for a container."""

    pip_conf: Path
    bundle: Path
    proxies: Mapping[str, str]

    def volumes(self) -> list[str]:
        return [f"{self.pip_conf}:/etc/pip.conf:ro", f"{self.bundle}:/run/ca.pem:ro"]

    def environment(self) -> dict[str, str]:
        return {**self.proxies, "PIP_CERT": "/run/ca.pem", "SSL_CERT_FILE": "/run/ca.pem"}


def host_network(directory: Path, *, extra_index: str = "", extra_ca: str = "") -> HostNetwork:
    """This host's settings, and one index and its CA more, in files below `directory`."""
    directory.mkdir()
    ca = pip_settings(network_env()).ca_file or "/etc/ssl/certs/ca-certificates.crt"
    bundle = directory / "bundle.pem"
    bundle.write_text(Path(ca).read_text() + extra_ca)
    pip = [sys.executable, "-m", "pip", "config", "list"]
    listed = run(pip, env=dict(os.environ)).stdout.decode().splitlines()
    settings = {"extra-index-url": ""}
    # SECTION.NAME='VALUE'; the environment has the section :env:, and wins.
    for line in sorted(listed, key=lambda x: x.startswith(":env:")):
        name, _, value = line.partition("=")
        key = name.rpartition(".")[2]
        if key in ("index-url", "extra-index-url", "trusted-host", "timeout"):
            # Directories of this host are none of the container's.
            words = [w for w in str(ast.literal_eval(value)).split() if "file:" not in w]
            settings[key] = " ".join(words)
    settings["extra-index-url"] += f" {extra_index}"
    lines = [f"{k} = {v.strip()}" for k, v in settings.items() if v.strip()]
    pip_conf = directory / "pip.conf"
    pip_conf.write_text("\n".join(["[global]", *lines, ""]))
    proxies = {k: v for k, v in network_env().items() if k.lower().endswith("_proxy")}
    return HostNetwork(pip_conf, bundle, proxies)


@dataclass(frozen=True)
class Container:
    """The image in its engine, and what its build was given that must not be in it."""

    engine: Engine
    network: HostNetwork
    canaries: Mapping[str, bytes]
    asked: tuple[tuple[str, str], ...]
    log: str

    def run(
        self,
        *command: str,
        volumes: tuple[str, ...] = (),
        **options: Any,  # noqa: ANN401
    ) -> subprocess.CompletedProcess[str]:
        """`docker run --network host IMAGE COMMAND`, with this host's way to the network."""
        mounts = [*self.network.volumes(), *volumes]
        return self.engine.run(
            _IMAGE, *command, volumes=mounts, environment=self.network.environment(), **options
        )


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """The image, built with an index, a CA and a proxy setting that are canaries."""
    work = tmp_path_factory.mktemp("container")
    index = PrivateIndex(work)
    login = "someone:canary-login-Kq1"
    ca = index.ca.read_text()
    secret = host_network(
        work / "secret",
        extra_index=f"https://{login}@127.0.0.1:{index.server_port}/canary-index-Kq2",
        extra_ca=ca,
    )
    # One that apt and pip read, and that changes nothing.
    proxies = {**secret.proxies}
    proxies["no_proxy"] = proxies.get("no_proxy", "127.0.0.1") + ",canary-proxy-Kq3.example"
    with engine() as running:
        import_base(running, work / "base.tar")
        with index.serving():
            log = running.build(
                REPO, _IMAGE,
                "--build-arg", f"BASE_IMAGE={':'.join(_BASE)}",
                "--secret", f"id=pip.conf,src={secret.pip_conf}",
                "--secret", f"id=ca.pem,src={secret.bundle}",
                *[word for k, v in proxies.items() for word in ("--build-arg", f"{k}={v}")],
            )  # fmt: skip
        canaries = {
            "login": b"canary-login-Kq1",
            "index": b"canary-index-Kq2",
            "proxy": b"canary-proxy-Kq3",
            "CA": ca.splitlines()[5].encode(),
        }
        network = host_network(work / "host")
        yield Container(running, network, canaries, tuple(index.asked), log)


def import_base(running: Engine, archive: Path) -> None:
    """A Debian of the mirror that this host's apt uses becomes the base image."""
    main, security = host_debian_mirror()
    sources = [f"deb {main} bookworm main", f"deb {security} bookworm-security main"]
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    run(["mmdebstrap", "--variant=minbase", f"--keyring={keyring}", "bookworm", archive, *sources])
    name, tag = _BASE
    running.api.api.import_image_from_file(str(archive), repository=name, tag=tag)
    archive.unlink()


def contents(running: Engine, archive: Path) -> Iterator[tuple[str, bytes]]:
    """Every file of the saved image: layers, whole and unpacked, its configuration, its history."""
    with archive.open("wb") as file:
        for block in running.api.images.get(_IMAGE).save():
            file.write(block)
    with tarfile.open(archive) as tar:
        for member in tar:
            if (file_ := tar.extractfile(member)) is not None:
                data = file_.read()
                yield member.name, gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    archive.unlink()


def test_tool_runs(container: Container) -> None:
    done = container.run("--version")
    assert (done.returncode, done.stdout) == (0, f"imagebuild {__version__}\n")
    listed = container.run("profile", "list", "--json")
    names = {p["name"] for p in json.loads(listed.stdout)["profiles"]}
    assert names == {p.stem for p in (REPO / "profiles").glob("[!_]*.yaml")}
    listed = container.run("mirror", "list", "--json")
    assert [found["name"] for found in json.loads(listed.stdout)["lists"]] == ["trove"]


def test_image_says_what_it_is(container: Container) -> None:
    config = container.engine.api.images.get(_IMAGE).attrs["Config"]
    assert config["Entrypoint"] == ["imagebuild"]
    assert set(config["Volumes"]) == {"/cache", "/images"}
    # What a mirror knows of its tags outlives the container.
    assert "XDG_STATE_HOME=/cache/state" in config["Env"]
    assert config["Labels"]["org.opencontainers.image.title"] == "imagebuild"


def test_nothing_of_the_way_to_the_packages_stays(container: Container, tmp_path: Path) -> None:
    token = base64.b64encode(b"someone:" + container.canaries["login"]).decode()
    assert ("/canary-index-Kq2/click/", f"Basic {token}") in container.asked
    found, seen = [], b""
    for name, data in contents(container.engine, tmp_path / "image.tar"):
        found += [(what, name) for what, canary in container.canaries.items() if canary in data]
        seen = seen or (b"from imagebuild.host.worker import" in data and data) or b""
    assert seen, "the tool's own files were not found: this search finds nothing"
    assert found == []
    assert not [w for w, canary in container.canaries.items() if canary.decode() in container.log]


def test_only_what_is_needed_is_in_it(container: Container) -> None:
    script = "ls -A /var/lib/apt/lists /var/cache/apt/archives/*.deb /run/secrets /src /root/.cache"
    done = container.run("-c", f"{script} 2>/dev/null; exit 0", entrypoint="sh")
    assert [x for x in done.stdout.split() if not x.endswith(":")] == []
    assert container.run("-c", "command -v gcc", entrypoint="sh").returncode == 127


def test_without_rights_it_says_which_are_missing(container: Container, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    done = container.run("build", "debian", "bookworm", volumes=(f"{cache}:/cache",))
    assert done.returncode == 4
    assert done.stdout == ""
    assert "no private mount and pid namespaces" in done.stderr
    assert "unshare: unshare failed: Operation not permitted" in done.stderr
    assert "--cap-add SYS_ADMIN --security-opt apparmor=unconfined" in done.stderr
    assert list(cache.iterdir()) == []


def test_with_its_rights_the_worker_starts(container: Container) -> None:
    """`clean` has the privileged worker remove the scratch."""
    make = "mkdir -p /cache/scratch/dead-1 && imagebuild clean && ls -A /cache/scratch"
    done = container.run("-c", make, entrypoint="sh", **_RIGHTS)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@dataclass(frozen=True)
class BuiltInside:
    """What a build in the container left in its volumes, as the host sees them."""

    cache: Path
    artifact: Path

    @property
    def qcow2(self) -> Path:
        return next(self.artifact.glob("*.qcow2"))


@pytest.fixture(scope="module")
def inside(container: Container, tmp_path_factory: pytest.TempPathFactory) -> BuiltInside:
    """One whole build, with the rights that the Dockerfile names and no others."""
    place = tmp_path_factory.mktemp("inside")
    argv = bookworm_argv()
    done = container.run(
        *argv[argv.index("build") :],
        volumes=(f"{place}/cache:/cache", f"{place}/images:/images"),
        **_RIGHTS,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    link = next(p for p in (place / "images").iterdir() if p.is_symlink())
    return BuiltInside(place / "cache", link.resolve())


def test_build_works_in_the_container(inside: BuiltInside) -> None:
    assert [p for p in (inside.cache / "scratch").iterdir() if p.is_dir()] == []
    run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=inside.artifact)
    run(["qemu-img", "check", inside.qcow2])


@pytest.mark.full("trust")
def test_image_built_in_the_container_boots(inside: BuiltInside, tmp_path: Path) -> None:
    booted = boot(inside.qcow2, tmp_path, firmware="bios", questions=COMMANDS)
    assert booted.facts["failed"] == []
    assert booted.facts["cloud_init"]["v1"]["errors"] == []
    assert booted.out("sudo") == "0"
    assert booted.out("docker").split()[1].startswith("overlay")
    assert booted.out("agent-imports").endswith("imported")
