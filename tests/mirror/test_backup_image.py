"""Backup images by buildah and by a docker engine, from Trove's own code, into a registry.

The base is Debian, and the tools are Debian's: the repositories of the databases' makers may be
out of reach. The archive wants a login, which must stay nowhere.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagebuild.agent.pipconf import pip_settings
from imagebuild.errors import ExitCode
from imagebuild.host.run import network_env, run
from imagebuild.registry.client import Client
from imagebuild.registry.reference import Reference
from tests.databases.images import cache
from tests.databases.recipes import MARIADB, POSTGRESQL
from tests.images.engine import Engine, engine
from tests.mirror.backup_base import NAME, make_base, make_small_base
from tests.mirror.backup_builds import PASSWORD, PROXY, ROOT, arguments, build, check_image, start
from tests.mirror.login_archive import LoginArchive
from tests.registry_server import LOOPBACK, RegistryServer

pytestmark = pytest.mark.image

#: Trove's source in small: see its install.sh.
SMALL = Path(__file__).with_name("backup_source")


@pytest.fixture(scope="module")
def base(source: RegistryServer) -> str:
    """The base image's name in a registry."""
    repository, _, tag = NAME.rpartition(":")
    make_base(cache()).push(source, repository, tag)
    return f"{source.host}/{NAME}"


@pytest.fixture(scope="module")
def small(source: RegistryServer) -> str:
    """The name of a base that has next to nothing."""
    make_small_base().push(source, "small", "1")
    return f"{source.host}/small:1"


@pytest.fixture(scope="module")
def docker() -> Iterator[Engine]:
    with engine() as started:
        yield started


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache directory of the builds, which keeps what they fetch."""
    return tmp_path_factory.mktemp("cache")


def ca() -> list[str]:
    """What leads to the package index from here."""
    found = pip_settings(network_env()).ca_file
    return ["--ca", found] if found and Path(found).is_file() else []


def test_buildah_builds_it_from_an_archive_with_a_login(
    base: str, target: RegistryServer, client: Client, place: Path, tmp_path: Path
) -> None:
    name = f"{target.host}/backups/db-backup-postgresql"
    with LoginArchive("site", PASSWORD) as archive:
        done = build(
            place, "postgres", POSTGRESQL, "--builder", "buildah", "--base-image", base,
            "--packages-from", "distribution", "--target", name, "--tag", "exact", *ca(), "--json",
            "--output", str(tmp_path / "it.tar"),
            IMAGEBUILD_APT_MIRROR=f"http://site:{PASSWORD}@{archive.host}/debian",
        )  # fmt: skip
    made = done.json()
    assert made["datastore"] == "postgresql", "install.sh would do nothing for postgres"
    assert "postgres is taken as postgresql" in done.err
    assert made["targets"] == [f"{name}:{POSTGRESQL}", f"{name}:exact"]
    assert made["trove"]["version"]
    assert made["trove"]["commit"], "the release says what it was made from"
    assert made["result"]["tools"][0]["tool"] == "pg_basebackup"
    assert made["result"]["tools"][0]["version"].startswith(f"{POSTGRESQL}.")
    assert any("postgresql-client" in path for path in archive.paths)
    assert any("/debian-security/" in path for path in archive.paths)
    log = Path(made["result"]["log"]).read_text()
    assert "Setting up postgresql-client" in log
    assert "warning: none of" not in done.err
    assert PASSWORD not in log + done.err + done.out
    assert not done.exposed
    check_image(client, made, base, tmp_path)
    archive_name = f"oci-archive:{tmp_path}/it.tar:{name}:exact"
    assert (
        json.loads(run(["skopeo", "inspect", archive_name]).stdout)["Digest"]
        == (made["result"]["digest"])
    )
    assert not list((place / "scratch").iterdir())


@pytest.mark.full("mirror")
def test_a_docker_engine_builds_it_and_a_guests_docker_runs_it(
    base: str, target: RegistryServer, client: Client, docker: Engine, place: Path, tmp_path: Path
) -> None:
    name = f"{target.host}/backups/db-backup-mariadb"
    with LoginArchive("site", PASSWORD) as archive:
        done = build(
            place, "mariadb", MARIADB, "--builder", "docker", "--base-image", base,
            "--packages-from", "distribution", "--target", name, *ca(), "--json",
            DOCKER_HOST=docker.socket,
            IMAGEBUILD_APT_MIRROR=f"http://site:{PASSWORD}@{archive.host}/debian",
        )  # fmt: skip
    made = done.json()
    assert PASSWORD not in Path(made["result"]["log"]).read_text() + done.err + done.out
    assert not done.exposed
    check_image(client, made, base, tmp_path)
    api = docker.api.api
    assert not api.images(all=True), "the engine keeps nothing of a build"
    assert not api.containers(all=True)
    docker.api.images.pull(name, tag=MARIADB)
    said = docker.run(f"{name}:{MARIADB}", "python3", "main.py", "--help")
    assert said.returncode == 0, said.stderr
    assert "--backup-id" in said.stdout
    tool = docker.run(f"{name}:{MARIADB}", "mariadb-backup", "--version")
    assert MARIADB in tool.stdout + tool.stderr
    docker.api.images.remove(f"{name}:{MARIADB}", force=True)


@pytest.mark.parametrize("builder", ["buildah", "docker"])
def test_what_is_lent_to_a_build_is_not_in_the_image(
    builder: str,
    small: str,
    target: RegistryServer,
    client: Client,
    docker: Engine,
    place: Path,
    tmp_path: Path,
) -> None:
    name = f"{target.host}/small/{builder}"
    done = build(
        place, "mysql", "8.4", "--builder", builder, "--base-image", small, "--target", name,
        "--tag", "8.4.6", "--trove-source", str(SMALL), "--json", DOCKER_HOST=docker.socket,
        IMAGEBUILD_PIP_INDEX=f"http://site:{PASSWORD}@127.0.0.1:1/simple",
    )  # fmt: skip
    made = done.json()
    assert made["targets"] == [f"{name}:8.4", f"{name}:8.4.6"]
    assert [t["version"] for t in made["result"]["tools"]] == ["8.4.0", None]
    lines = Path(made["result"]["log"]).read_text().splitlines()
    assert {f"lent: {PROXY}", "pip.conf", "environment"} <= set(lines), "it was lent"
    assert PASSWORD not in "".join(lines) + done.err + done.out
    assert not done.exposed
    check_image(client, made, small, tmp_path)
    assert not list((place / "scratch").iterdir())
    assert not docker.api.api.images(all=True), "the engine keeps nothing of a build"
    # A guest's docker takes it.
    docker.api.images.pull(name, tag="8.4.6")
    said = docker.run(f"{name}:8.4.6", "xtrabackup", "--version")
    assert "version 8.4.0" in said.stdout
    docker.api.images.remove(f"{name}:8.4.6", force=True)


@pytest.mark.parametrize("builder", ["buildah", "docker"])
def test_an_image_without_the_tool_is_not_pushed(
    builder: str, small: str, target: RegistryServer, client: Client, docker: Engine, place: Path
) -> None:
    name = f"{target.host}/refused/{builder}"
    done = build(
        place, "postgresql", "17", "--builder", builder, "--base-image", small, "--target", name,
        "--trove-source", str(SMALL), "--apt-mirror", "http://127.0.0.1:1/debian",
        DOCKER_HOST=docker.socket,
    )  # fmt: skip
    assert done.status == ExitCode.VERIFY, done.err
    assert "warning: none of the base image's packages came from --apt-mirror" in done.err
    assert "does not have what backups of postgresql need: pg_basebackup" in done.err
    assert "nothing was pushed" in done.err
    assert client.tags(Reference.parse(name)) == []
    assert not list((place / "scratch").iterdir())
    assert not docker.api.api.images(all=True)


def test_a_dry_run_says_what_would_be_built(
    small: str, target: RegistryServer, client: Client, docker: Engine, place: Path
) -> None:
    name = f"{target.host}/dry/run"
    words = ("mysql", "8.4", "--base-image", small, "--trove-source", str(SMALL), "--target", name,
             "--dry-run")  # fmt: skip
    told = build(place, *words, "--json", DOCKER_HOST=docker.socket).json()
    assert (told["dry_run"], told["result"]) == (True, None)
    assert told["arguments"] == {"DATASTORE": "mysql", "DATASTORE_VERSION": "8.4"}
    assert told["builder"] == "docker", "it answers, so it is taken"
    assert told["base"]["name"] == small
    assert f"\nFROM {small}@{told['base']['digest']}\n" in told["dockerfile"]
    text = build(place, *words, DOCKER_HOST=docker.socket).out.splitlines()
    assert f"target:  {name}:8.4" in text
    assert '  ENTRYPOINT ["env", "--"]' in text
    assert client.tags(Reference.parse(name)) == []
    assert not list((place / "scratch").iterdir())


def test_a_registry_that_is_away_is_found_before_the_build(
    small: str, docker: Engine, place: Path
) -> None:
    done = build(
        place, "mysql", "8.4", "--base-image", small, "--trove-source", str(SMALL),
        "--target", "127.0.0.1:1/nobody/here", DOCKER_HOST=docker.socket,
    )  # fmt: skip
    assert done.status == ExitCode.TEMPORARY
    assert "cannot reach the registry" in done.err
    assert "base image fetched" not in done.err


def test_a_registry_with_a_login_gets_it(
    small: str, docker: Engine, place: Path, tmp_path: Path
) -> None:
    words = ("mysql", "8.4", "--base-image", small, "--trove-source", str(SMALL), "--builder",
             "docker", "--json")  # fmt: skip
    with RegistryServer(tmp_path / "r", tls=LOOPBACK, login=("me", PASSWORD)) as server:
        token = base64.b64encode(f"me:{PASSWORD}".encode()).decode()
        logins = tmp_path / "docker"
        logins.mkdir()
        config = {"auths": {server.host: {"auth": token}}}
        (logins / "config.json").write_text(json.dumps(config))
        mirror = tmp_path / "mirror.yaml"
        mirror.write_text(
            f"target: {{registry: '{server.host}', prefix: trove}}\n"
            f"registries: [{{host: '{server.host}', ca: {server.ca}}}]\n"
            "images: [{source: quay.invalid/mysql, tags: [x]}]\n"
        )
        done = build(place, *words, "--mirror", str(mirror), DOCKER_HOST=docker.socket,
                     DOCKER_CONFIG=str(logins))  # fmt: skip
        made = done.json()
        assert made["targets"] == [f"{server.host}/trove/db-backup-mysql:8.4"]
        creds = ("--creds", f"me:{PASSWORD}", "--tls-verify=false")
        said = run(["skopeo", "inspect", *creds, f"docker://{made['targets'][0]}"])
        assert json.loads(said.stdout)["Digest"] == made["result"]["digest"]
        # Without the login, nothing is pushed, and the person is told before and after.
        refused = build(place, *words, "--mirror", str(mirror), "--tag", "other",
                        DOCKER_HOST=docker.socket, DOCKER_CONFIG=str(tmp_path))  # fmt: skip
        assert refused.status == ExitCode.PREFLIGHT, refused.err
        assert "the push may be refused" in refused.err
        tags = run(["skopeo", "list-tags", *creds, f"docker://{server.host}/trove/db-backup-mysql"])
        assert json.loads(tags.stdout)["Tags"] == ["8.4"]


def waiting(place: Path, small: str, builder: str, socket: str) -> subprocess.Popen[str]:
    """A build that waits for ever in its own install.sh."""
    process = start(
        place, "mariadb", "11.4", "--builder", builder, "--base-image", small, "--trove-source",
        str(SMALL), "--no-push", "--output", str(place / "never.tar"), DOCKER_HOST=socket,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while "987654" not in arguments():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "the build does not come to its install.sh"
        time.sleep(0.05)
    return process


def gone(seconds: float = 20) -> bool:
    """Whether the command that waits ends."""
    deadline = time.monotonic() + seconds
    while "987654" in arguments():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.parametrize("builder", ["buildah", "docker"])
def test_a_build_that_is_interrupted_leaves_nothing(
    builder: str, small: str, docker: Engine, place: Path
) -> None:
    process = waiting(place, small, builder, docker.socket)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == ExitCode.INTERRUPTED
    assert gone()
    assert not list((place / "scratch").iterdir())
    assert not docker.api.api.images(all=True)
    assert not docker.api.api.containers(all=True)


@pytest.mark.full("mirror")
@pytest.mark.parametrize("way", ["the next", "clean"])
@pytest.mark.parametrize("builder", ["buildah", "docker"])
def test_what_a_killed_build_leaves_goes(
    builder: str, way: str, small: str, docker: Engine, place: Path
) -> None:
    process = waiting(place, small, builder, docker.socket)
    process.kill()
    process.wait(60)
    assert list((place / "scratch").iterdir())
    if builder == "docker":
        assert docker.api.api.containers(all=True)
    if way == "clean":
        argv = [sys.executable, "-m", "imagebuild", "clean", "--json"]
        env = {**os.environ, "PYTHONPATH": str(ROOT), "IMAGEBUILD_CACHE_DIR": str(place),
               "DOCKER_HOST": docker.socket}  # fmt: skip
        removed = json.loads(run(argv, env=env).stdout)["removed"]
        assert any(r.startswith("docker: ") for r in removed) == (builder == "docker")
    else:
        done = build(
            place, "mariadb", "11.4", "--builder", builder, "--base-image", small,
            "--trove-source", str(SMALL), "--dry-run", DOCKER_HOST=docker.socket,
        )  # fmt: skip
        assert done.status == 0, done.err
    assert gone()
    assert not list((place / "scratch").iterdir())
    assert not docker.api.api.images(all=True)
    assert not docker.api.api.containers(all=True)


@pytest.mark.full("mirror")
def test_a_user_builds_with_a_range_of_uids(small: str, target: RegistryServer) -> None:
    """As usermod --add-subuids would set it up: here within a mount namespace of the test's."""
    home = Path(tempfile.mkdtemp(dir="/var/tmp"))
    try:
        shutil.copytree(SMALL, home / "trove")
        (home / "ids").write_text("nobody:200000:65536\n")
        script = """
            mount --bind "$1/ids" /etc/subuid && mount --bind "$1/ids" /etc/subgid || exit 99
            shift
            exec setpriv --reuid=65534 --regid=65534 --clear-groups "$@"
        """
        run(["chown", "-R", "65534:65534", home])
        env = {**os.environ, "HOME": str(home), "PYTHONPATH": str(ROOT),
               "IMAGEBUILD_CACHE_DIR": str(home / "cache")}  # fmt: skip
        done = run(
            ["unshare", "--mount", "sh", "-c", script, "sh", home, sys.executable, "-m",
             "imagebuild", "backup-image", "build", "postgresql", "17", "--builder", "buildah",
             "--base-image", small, "--trove-source", home / "trove", "--target",
             f"{target.host}/refused/user"],
            env=env, check=False,
        )  # fmt: skip
        said = done.stderr.decode()
        assert done.returncode == ExitCode.VERIFY, said
        assert "does not have what backups of postgresql need" in said
        assert not list((home / "cache/scratch").iterdir())
    finally:
        run(["rm", "-rf", "--", home])


def test_a_build_that_takes_too_long_is_ended(small: str, docker: Engine, place: Path) -> None:
    done = build(
        place, "mariadb", "11.4", "--builder", "docker", "--base-image", small, "--timeout", "4s",
        "--trove-source", str(SMALL), "--no-push", "--output", str(place / "never.tar"),
        DOCKER_HOST=docker.socket,
    )  # fmt: skip
    assert done.status == ExitCode.FAILED
    assert "took longer than its limit" in done.err
    assert gone()
    assert not (place / "never.tar").exists()
    assert not docker.api.api.containers(all=True)
