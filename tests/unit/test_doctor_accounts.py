"""docker, clouds and registries: what is said, and that no secret is."""

from __future__ import annotations

import base64
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagebuild.doctor.check import Level, Need
from imagebuild.doctor.examine import examine, remedy
from imagebuild.doctor.host import Host
from imagebuild.errors import PreflightError
from tests.unit.doctor_host import Described, Facts, found, subject
from tests.unit.doctor_host import the_one as one
from tests.unit.test_archive import closed_port

HUNTER = "hunter2"
LOGIN = base64.b64encode(f"me:{HUNTER}".encode()).decode()
DOCKER = "/home/me/.docker/config.json"
ALL = Facts().programs


@pytest.mark.parametrize(
    ("problem", "programs", "environ", "tries"),
    [
        ("FileNotFoundError(2, ...)", ALL, {}, "sudo apt-get install docker.io"),
        ("FileNotFoundError(2, ...)", ALL | {"dockerd"}, {}, "sudo systemctl start docker"),
        ("PermissionError(13, 'Permission denied')", ALL | {"dockerd"}, {},
         "sudo usermod -aG docker $USER; then log in again"),
        ("timed out", ALL, {"DOCKER_HOST": "tcp://d"}, "check DOCKER_HOST"),
    ],
)  # fmt: skip
def test_docker_is_never_more_than_a_warning(
    problem: str, programs: frozenset[str], environ: dict[str, str], tries: str
) -> None:
    host = Described(Facts(docker_problem=problem, programs=programs, environ=environ, root=False))
    finding = one(host, "docker", Level.WARNING)
    assert "nothing else needs docker" in finding.prevents
    assert remedy(host, finding) == tries
    report = examine(host, subject(Need.MIRROR), ask_network=False)
    assert report.prevented == []


def test_buildah_builds_backup_images_without_docker() -> None:
    def prevented(*programs: str) -> str:
        host = Described(Facts(docker_problem="timed out", programs=ALL | set(programs)))
        return one(host, "docker", Level.WARNING).prevents

    assert prevented().startswith("building database backup images")
    assert prevented("buildah").startswith("--engine docker")


@pytest.mark.parametrize(
    ("distribution", "command"),
    [("debian", "apt-get install docker-registry"), ("fedora", "dnf install docker-distribution")],
)
def test_registry_of_one_s_own_is_never_more_than_a_warning(
    distribution: str, command: str
) -> None:
    without = ALL - {"docker-registry"}
    host = Described(Facts(distribution, programs=without))
    finding = one(host, "registry", Level.WARNING)
    assert "mirror serve" in finding.prevents
    assert remedy(host, finding) == command
    assert examine(host, subject(Need.MIRROR), ask_network=False).prevented == []
    by_upstreams_name = Described(Facts(distribution, programs=without | {"registry"}))
    assert found(by_upstreams_name, "registry")[0].level is Level.OK


def test_docker_on_fedora_has_another_name() -> None:
    host = Described(Facts("fedora", docker_problem="FileNotFoundError"))
    assert remedy(host, one(host, "docker", Level.WARNING)) == "dnf install moby-engine"


def test_real_docker_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    with pytest.raises(PreflightError) as caught:
        Host().docker()
    assert "FileNotFoundError" in caught.value.detail


def clouds_yaml(tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "clouds.yaml"
    path.write_text(text)
    path.chmod(0o600)
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(path))
    return path


def cloud(url: str) -> str:
    auth = {"auth_url": url, "username": "me", "password": HUNTER, "project_name": "p",
            "user_domain_name": "Default", "project_domain_name": "Default"}  # fmt: skip
    return json.dumps({"clouds": {"east": {"auth": auth}, "west": {"auth": auth}}})


def test_clouds_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = clouds_yaml(tmp_path, cloud("http://k.example"), monkeypatch)
    (finding,) = found(Host(), "clouds")
    assert finding.what == "clouds: east, west; --cloud NAME tries to log in"
    path.chmod(0o644)
    assert one(Host(), "clouds", Level.WARNING).run == (f"chmod 600 {path}",)


def test_cloud_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clouds_yaml(tmp_path, cloud("http://k.example"), monkeypatch)
    finding = one(Host(), "clouds", Level.MISSING, subject(Need.PUBLISH, cloud="north"))
    assert finding.detail == "these are configured: east, west"


def test_no_cloud_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(tmp_path / "none.yaml"))
    monkeypatch.setattr("openstack.config.loader.CONFIG_FILES", [])
    monkeypatch.setattr("openstack.config.loader.SECURE_FILES", [])
    assert one(Host(), "clouds", Level.MISSING).what == "no cloud is configured"


def test_clouds_yaml_that_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = clouds_yaml(tmp_path, f"clouds:\n  a: [password: {HUNTER}\n  b: {{", monkeypatch)
    finding = one(Host(), "clouds", Level.MISSING)
    assert finding.where == str(path)
    assert "in line" in finding.detail
    assert HUNTER not in repr(finding)


def test_cloud_that_cannot_be_logged_in_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clouds_yaml(tmp_path, cloud(closed_port()), monkeypatch)
    finding = one(Host(), "clouds", Level.MISSING, subject(Need.PUBLISH, cloud="east"))
    assert finding.what == "cannot log in to the cloud 'east'"
    assert HUNTER not in repr(finding)


class Keystone(http.server.BaseHTTPRequestHandler):
    """The part of the Identity API (v3) that a login with a password asks for."""

    def do_GET(self) -> None:
        link = {"rel": "self", "href": f"http://{self.headers['Host']}/v3"}
        self._say(200, {"version": {"id": "v3.14", "status": "stable", "links": [link]}})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        given = body["auth"]["identity"]["password"]["user"]["password"]
        if given != HUNTER:
            self._say(401, {"error": {"code": 401, "message": "The request requires auth"}})
            return
        url = {"interface": "public", "region_id": None, "region": None, "url": "http://i.example"}
        token = {"catalog": [{"type": "image", "name": "glance", "endpoints": [url]}],
                 "expires_at": "2099-01-01T00:00:00.000000Z", "methods": ["password"],
                 "issued_at": "2025-01-01T00:00:00.000000Z", "user": {"id": "u", "name": "me"},
                 "project": {"id": "p", "name": "p"}}  # fmt: skip
        self._say(201, {"token": token})

    def _say(self, status: int, document: object) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("X-Subject-Token", "t0ken")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its own name
        """Silent."""


@pytest.fixture
def keystone() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Keystone)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v3"
    server.shutdown()
    server.server_close()
    thread.join()


def test_logging_in(keystone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clouds_yaml(tmp_path, cloud(keystone), monkeypatch)
    asked = subject(Need.PUBLISH, cloud="east")
    there, lacks = found(Host(), "clouds", asked)
    assert there.what == "logged in to east"
    assert "no database service" in lacks.what
    clouds_yaml(tmp_path, cloud(keystone).replace(HUNTER, "wr0ng"), monkeypatch)
    refused = one(Host(), "clouds", Level.MISSING, asked)
    assert "requires auth" in refused.detail
    assert "wr0ng" not in repr(refused)


def test_what_a_cloud_s_catalog_lacks() -> None:
    asked = subject(Need.PUBLISH, cloud="east")
    host = Described(Facts(clouds=["east"], login=frozenset({"image"})))
    assert "datastore" in one(host, "clouds", Level.WARNING, asked).prevents
    bare = Described(Facts(clouds=["east"], login=frozenset({"database"})))
    assert "images" in one(bare, "clouds", Level.MISSING, asked).prevents


def logins(document: object, programs: frozenset[str] = ALL, mode: int = 0o600) -> Described:
    content = document if isinstance(document, bytes) else json.dumps(document).encode()
    return Described(Facts(files={DOCKER: content}, modes={DOCKER: mode}, programs=programs))


def test_registry_logins() -> None:
    assert found(Described(Facts()), "registries")[0].what.startswith("no registry logins")
    host = logins({"auths": {"quay.io": {"auth": LOGIN}}})
    assert found(host, "registries")[0].what == "registry logins: quay.io"


@pytest.mark.parametrize("content", [b"{", b"[1]", b'{"auths": [1]}', b"\xff"])
def test_file_of_registry_logins_that_is_broken(content: bytes) -> None:
    finding = one(logins(content), "registries", Level.MISSING)
    assert finding.where == DOCKER


def test_registry_passwords_that_others_can_read() -> None:
    host = logins({"auths": {"quay.io": {"auth": LOGIN}}}, mode=0o644)
    finding = one(host, "registries", Level.WARNING)
    assert finding.run == (f"chmod 600 {DOCKER}",)
    assert LOGIN not in repr(finding)


def test_registry_login_that_is_malformed() -> None:
    host = logins({"auths": {"quay.io": {"auth": f"me:{HUNTER}"}}})
    finding = one(host, "registries", Level.MISSING)
    assert finding.where == f"{DOCKER}: quay.io"
    assert HUNTER not in repr(finding)


@pytest.mark.parametrize(
    "document", [{"credsStore": "vault"}, {"credHelpers": {"quay.io": "vault"}}]
)
def test_helper_of_a_registry_that_is_missing(document: dict[str, object]) -> None:
    finding = one(logins(document), "registries", Level.MISSING)
    assert finding.what == "docker-credential-vault is not installed"
    there = logins(document, ALL | {"docker-credential-vault"})
    assert found(there, "registries")[0].level is Level.OK
