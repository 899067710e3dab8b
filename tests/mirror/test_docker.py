"""Images that docker has made, and docker as the one who copies: a real daemon."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator

import pytest

from imagebuild.errors import PreflightError
from imagebuild.mirror.copier import run_plan
from imagebuild.mirror.dockerengine import run_with_docker
from imagebuild.mirror.lockfile import Lock, update_lock
from imagebuild.mirror.planning import DOCKER, make_plan
from imagebuild.mirror.result import Outcome, Report
from imagebuild.registry.client import Client
from tests.container_images import image, index, layer
from tests.images.engine import Engine, engine
from tests.mirror.command import Mirror
from tests.mirror.mirrors import digest_of, fetch, item, problems
from tests.registry_proxy import UPLOADS, RegistryProxy
from tests.registry_server import RegistryServer

#: A daemon of its own needs root; like guest images, it comes last.
WITH_DAEMON = pytest.mark.image


@pytest.fixture(scope="module")
def docker_engine() -> Iterator[Engine]:
    with engine() as started:
        yield started


def one_file() -> bytes:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        entry = tarfile.TarInfo("bin/tool")
        entry.size = 100_000
        archive.addfile(entry, io.BytesIO(b"x" * entry.size))
    return plain.getvalue()


def names(docker_engine: Engine) -> set[str]:
    """All names that images of the daemon have."""
    return {n for i in docker_engine.api.images.list() for n in
            (*i.tags, *i.attrs["RepoDigests"])}  # fmt: skip


@WITH_DAEMON
def test_image_that_docker_has_made(
    docker_engine: Engine, source: RegistryServer, target: RegistryServer, client: Client
) -> None:
    api = docker_engine.api.api
    api.import_image_from_data(one_file(), repository=f"{source.host}/made", tag="1")
    said = api.push(f"{source.host}/made", tag="1")
    assert "errorDetail" not in said, said
    wanted = item(f"{source.host}/made:1", f"{target.host}/made:1")
    [result] = run_plan(client, make_plan(client, [wanted])).results
    assert result.outcome is Outcome.COPIED
    assert result.digest == digest_of(source.host, "made", "1")
    assert digest_of(target.host, "made", "1") == result.digest
    # And docker runs what we have copied: it pulls it by the same digest.
    docker_engine.api.images.remove(f"{source.host}/made:1")
    pulled = docker_engine.api.images.pull(f"{target.host}/made", tag="1")
    assert f"{target.host}/made@{result.digest}" in pulled.attrs["RepoDigests"]
    docker_engine.api.images.remove(pulled.id, force=True)


@WITH_DAEMON
def test_docker_as_the_engine(
    docker_engine: Engine, source: RegistryServer, target: RegistryServer, client: Client
) -> None:
    """One platform arrives, the next run knows it again, and the daemon is as it was."""
    old = image([layer({"o": b"old"})])
    old.push(target, "by-docker", "1")
    made = index(image([layer({"a": b"1" * 1000})]), image([layer({"b": b"2"})], "arm64"))
    made.push(source, "by-docker", "1")
    wanted = item(f"{source.host}/by-docker:1", f"{target.host}/by-docker:1",
                  aliases=("one",), backup="old")  # fmt: skip
    gone = item(f"{source.host}/by-docker:none", f"{target.host}/by-docker:none")
    before = names(docker_engine)
    environ = {"DOCKER_HOST": docker_engine.socket}

    plan = make_plan(client, [wanted, gone], engine=DOCKER)
    report = run_with_docker(client, plan, environ=environ)
    result, missing = report.results
    assert (result.outcome, result.error) == (Outcome.REPLACED, None)
    assert missing.outcome is Outcome.MISSING
    assert report.notes
    assert result.source_digest == made.digest != result.digest
    assert result.digest == digest_of(target.host, "by-docker", "1")
    assert result.digest == digest_of(target.host, "by-docker", "one")
    assert digest_of(target.host, "by-docker", "old") == old.digest
    assert not list(problems(target.host, "by-docker", "1"))
    assert "manifests" not in fetch(target.host, "by-docker", "manifests/1").json()
    assert names(docker_engine) == before

    known = update_lock(Lock(), Report((result,), 0))
    with Client(environ={}) as second:
        again = make_plan(second, [wanted], known=known, engine=DOCKER)
        assert again.planned[0].outcome is Outcome.UNCHANGED
        assert set(second.request_counts) == {"HEAD"}


@WITH_DAEMON
def test_what_docker_says_in_its_stream_is_an_error(
    docker_engine: Engine, source: RegistryServer, target: RegistryServer, client: Client
) -> None:
    """docker-py raises nothing when a push fails."""
    image([layer({"p": b"1"})]).push(source, "refused", "1")
    with RegistryProxy(target) as proxy:
        denied = b'{"errors":[{"code":"DENIED","message":"not for you"}]}'
        proxy.fail("POST", UPLOADS, status=403, body=denied, times=None)
        wanted = item(f"{source.host}/refused:1", f"{proxy.host}/refused:1")
        plan = make_plan(client, [wanted], engine=DOCKER)
        environ = {"DOCKER_HOST": docker_engine.socket}
        [result] = run_with_docker(client, plan, environ=environ).results
    assert result.outcome is Outcome.FAILED
    assert result.error
    assert result.error["what"] == "docker cannot push the image"
    assert "denied" in result.error["detail"]


def test_without_a_daemon(client: Client, source: RegistryServer, target: RegistryServer) -> None:
    image([layer({"n": b"1"})]).push(source, "no-daemon", "1")
    wanted = item(f"{source.host}/no-daemon:1", f"{target.host}/no-daemon:1")
    plan = make_plan(client, [wanted], engine=DOCKER)
    with pytest.raises(PreflightError, match="docker cannot be used"):
        run_with_docker(client, plan, environ={"DOCKER_HOST": "unix:///nowhere/docker.sock"})


def test_the_command_with_docker(
    docker_engine: Engine, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Losses are told before, and what docker made is known to the next run by the lock file."""
    monkeypatch.setenv("DOCKER_HOST", docker_engine.socket)
    made = index(image([layer({"a": b"cli"})]), image([layer({"b": b"cli"})], "arm64"))
    mirror.push("mysql", "8.4", made=made)
    mirror.write(mirror.image("mysql", "tags: [8.4, 9.9]"))
    ended = mirror.run("sync", "--engine", "docker", "--json", code=6)
    copied, missing = ended.document["results"]
    assert (copied["outcome"], missing["outcome"]) == ("copied", "missing")
    assert copied["source_digest"] == made.digest != copied["digest"]
    assert mirror.digest("mysql", "8.4") == copied["digest"]
    assert ended.err.index("signatures and SBOMs are not copied") < ended.err.index("✓ mysql:8.4")
    assert ended.document["engine"] == "docker"
    mirror.write(mirror.image("mysql", "tags: 8.4"))
    again = mirror.json("sync", "--engine", "docker")
    assert [r["outcome"] for r in again["results"]] == ["unchanged"]
    # The other engine has the whole of it.
    (replaced,) = mirror.json("sync")["results"]
    assert (replaced["outcome"], replaced["digest"]) == ("replaced", made.digest)
