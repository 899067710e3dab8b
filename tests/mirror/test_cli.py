"""`imagebuild mirror plan` and `sync`: output, exit codes and files are contract."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.cli.fuzz import check, invoke
from tests.container_images import OCI, attestation, image, index, layer
from tests.mirror.command import Mirror, by_tag, fresh, outcomes, samples
from tests.registry_proxy import BLOBS, MANIFESTS, RegistryProxy
from tests.registry_server import RegistryServer

ROOT = Path(__file__).parents[2]
#: A port of this host that nobody listens on (tcpmux).
NOBODY = "127.0.0.1:1"


@pytest.fixture
def proxy(mirror: Mirror) -> Iterator[RegistryProxy]:
    """The source, with faults."""
    with RegistryProxy(mirror.source) as started:
        mirror.hosts["source"] = started.host
        yield started


def lock_of(mirror: Mirror) -> dict[str, dict[str, object]]:
    document = yaml.safe_load((mirror.directory / "mirror.lock.yaml").read_text())
    assert isinstance(document, dict)
    return document


# --- sync -----------------------------------------------------------------------------


def test_from_clean_then_nothing_to_do_then_one_is_missing(mirror: Mirror) -> None:
    first, second = mirror.push("mysql", "8.4"), mirror.push("postgres", "17")
    mirror.write(
        mirror.image("mysql", "tags: [8.4]"),
        mirror.image("postgres", "tags: [17], target: postgresql"),
    )
    document = mirror.json("sync")
    assert by_tag(document, "outcome") == {"mysql:8.4": "copied", "postgresql:17": "copied"}
    assert mirror.digest("mysql", "8.4") == first.digest
    assert mirror.digest("postgresql", "17") == second.digest
    assert document["totals"]["bytes_copied"] == sum(
        len(b) for made in (first, second) for b in made.blobs
    )
    assert document["target"] == f"{mirror.target.host}/{mirror.name}"
    assert (document["dry_run"], document["interrupted"]) == (False, False)
    locked = lock_of(mirror)
    assert set(locked["tags"]) == {r["target"] for r in document["results"]}
    source = f"{mirror.source.host}/{mirror.name}/mysql:8.4"
    assert locked["sources"][source]["digest"] == first.digest  # type: ignore[index]
    before = (mirror.directory / "mirror.lock.yaml").read_bytes()

    again = mirror.json("sync")
    assert outcomes(again) == {"unchanged": 2}
    assert again["totals"]["requests"] == {"HEAD": 4}
    assert (mirror.directory / "mirror.lock.yaml").read_bytes() == before

    third = mirror.push("mysql", "8.0")
    mirror.write(mirror.image("mysql", "tags: [9.9, 8.4, 8.0]"))
    missing = mirror.json("sync", code=6)
    assert by_tag(missing, "outcome") == {
        "mysql:9.9": "missing", "mysql:8.4": "unchanged", "mysql:8.0": "copied",
    }  # fmt: skip
    assert missing["results"][0]["error"]["where"].endswith("mysql:9.9")
    assert mirror.digest("mysql", "8.0") == third.digest
    assert f"{mirror.target.host}/{mirror.name}/mysql:8.0" in lock_of(mirror)["tags"]


def test_what_people_see(mirror: Mirror) -> None:
    mirror.push("mysql", "8.4")
    mirror.write(mirror.image("mysql", "tags: [8.4, 9.9], aliases: {8.4: 8.4.6}"))
    ended = mirror.run("sync", code=6)
    assert ended.out == ""
    lines = ended.err.splitlines()
    name = mirror.name
    assert lines[0] == f"to {mirror.target.host}/{name}"
    assert "✗ mysql:9.9  missing, the source does not have the tag" in lines
    done = [line for line in lines if line.startswith("✓ mysql:8.4  copied, ")]
    assert len(done) == 1
    assert re.search(r"\d+ B in \d+\.\d s \(.*/s\), tags 8\.4, 8\.4\.6$", done[0])
    assert re.match(r"1 copied, 1 missing; \d+ B copied; \d+\.\d s$", lines[3])
    assert lines[4] == "error: the source does not have the tag"
    assert lines[5] == f"  where: {mirror.source.host}/{name}/mysql:9.9"
    assert mirror.digest("mysql", "8.4.6") == mirror.digest("mysql", "8.4") != ""
    quiet = invoke(["-q", "mirror", "sync", str(mirror.directory / "mirror.yaml")])
    assert quiet.err.splitlines()[0] == "error: the source does not have the tag"


def test_a_replaced_image_keeps_a_tag(mirror: Mirror) -> None:
    old = mirror.push("mysql", "8.4")
    more = "defaults: {backup: '{tag}-previous'}\n"
    mirror.write(mirror.image("mysql", "tags: 8.4"), more=more)
    mirror.json("sync")
    new = mirror.push("mysql", "8.4")
    (planned,) = mirror.json("plan")["results"]
    assert (planned["action"], planned["backup"]) == ("replace", "8.4-previous")
    (result,) = mirror.json("sync")["results"]
    assert (result["outcome"], result["before"], result["digest"]) == (
        "replaced", old.digest, new.digest,
    )  # fmt: skip
    assert mirror.digest("mysql", "8.4") == new.digest
    assert mirror.digest("mysql", "8.4-previous") == old.digest


def test_locked_copies_what_the_lock_file_says(mirror: Mirror) -> None:
    mirror.write(mirror.image("mysql", "tags: 8.4"))
    none = mirror.run("sync", "--locked", code=3)
    assert "there is no lock file" in none.err
    old = mirror.push("mysql", "8.4")
    mirror.json("sync", "--lock", mirror.directory / "other.yaml")
    assert not (mirror.directory / "mirror.lock.yaml").exists()
    mirror.push("mysql", "8.4")
    arguments = ("--locked", "--lock", mirror.directory / "other.yaml")
    second = f"{mirror.target.host}/{mirror.name}/second"
    (result,) = mirror.json("sync", *arguments, "--target", second)["results"]
    assert (result["outcome"], result["digest"]) == ("copied", old.digest)
    assert mirror.digest("second/mysql", "8.4") == old.digest
    mirror.write(mirror.image("mysql", "tags: [8.4, 8.0]"))
    unknown = mirror.run("sync", *arguments, code=3)
    assert "the lock file does not know a tag of the list" in unknown.err


def test_a_damaged_lock_file_stops_it_before_anything_is_done(mirror: Mirror) -> None:
    mirror.push("mysql", "8.4")
    mirror.write(mirror.image("mysql", "tags: 8.4"))
    (mirror.directory / "mirror.lock.yaml").write_text("version: 1\nsources: 5\n")
    ended = check(mirror.run("sync", code=3))
    assert "the lock file is damaged" in ended.err
    assert mirror.digest("mysql", "8.4") == ""


def test_only_and_target(mirror: Mirror) -> None:
    mirror.push("mysql", "8.0", "8.4")
    mirror.push("postgres", "17")
    mirror.write(mirror.image("mysql", "tags: [8.0, 8.4]"), mirror.image("postgres", "tags: 17"))
    other = f"http://{mirror.target.host}/{mirror.name}/deep/er"
    document = mirror.json("sync", "--only", "mysql:8.4", "--only", "postgr*", "--target", other)
    assert set(by_tag(document, "outcome")) == {"mysql:8.4", "postgres:17"}
    assert document["target"] == other.removeprefix("http://")
    assert mirror.digest("deep/er/mysql", "8.4")
    assert not mirror.digest("deep/er/mysql", "8.0")
    assert not mirror.digest("mysql", "8.4")
    check(mirror.run("sync", "--only", "mysl", code=2))


def test_platforms_of_an_index(mirror: Mirror) -> None:
    amd64, arm64 = image([layer({"a": b"1"})], kinds=OCI), image([layer({"a": b"2"})], "arm64")
    whole = mirror.push("multi", "1", made=index(amd64, arm64, attestation(amd64)))
    mirror.write(mirror.image("multi", "tags: 1"))
    assert mirror.json("sync")["results"][0]["digest"] == whole.digest
    mirror.write(mirror.image("multi", "tags: 1, target: one, platforms: [linux/arm64]"))
    (result,) = mirror.json("sync")["results"]
    assert result["source_digest"] == whole.digest != result["digest"]
    assert mirror.digest("one", "1") == result["digest"]
    assert outcomes(mirror.json("sync")) == {"unchanged": 1}


def test_rules_ask_the_registry(mirror: Mirror) -> None:
    mirror.push("mysql", "8.0", "8.0.9", "8.0.40", "8.0.40-oracle", "8.4", "latest")
    mirror.write(mirror.image("mysql", "tags: {names: [latest], versions: '<8.4', newest: 2}"))
    assert list(by_tag(mirror.json("plan"), "action")) == [
        "mysql:latest", "mysql:8.0.40", "mysql:8.0.9",
    ]  # fmt: skip
    mirror.write(mirror.image("nothing", "tags: {newest: 1}"))
    ended = mirror.run("plan", code=6)
    assert "no such repository" in ended.err
    assert "mirror.yaml:3" in ended.err


def test_rules_that_cannot_be_answered_leave_the_other_images(mirror: Mirror) -> None:
    mirror.push("mysql", "8.0")
    mirror.write(
        mirror.image("mysql", "tags: {names: ['8.0'], versions: '>10'}"),
        f"  - {{source: {NOBODY}/x/y, tags: {{newest: 1}}}}",
    )
    document = mirror.json("sync", code=6)
    assert [(r["target"].rpartition("/")[2], r["outcome"]) for r in document["results"]] == [
        ("mysql:8.0", "copied"), ("mysql", "missing"), ("y", "failed"),
    ]  # fmt: skip
    assert mirror.digest("mysql", "8.0")
    assert len(lock_of(mirror)["tags"]) == 1


def test_failed_says_why_and_leaves_the_tag(mirror: Mirror, proxy: RegistryProxy) -> None:
    mirror.push("mysql", "8.0")
    mirror.push("postgres", "17")
    proxy.corrupt_download(rf"{mirror.name}/mysql{BLOBS}", times=None)
    mirror.write(mirror.image("mysql", "tags: 8.0"), mirror.image("postgres", "tags: 17"))
    report = mirror.directory / "report.json"
    document = mirror.json("sync", "--report", report, code=6)
    assert by_tag(document, "outcome") == {"mysql:8.0": "failed", "postgres:17": "copied"}
    assert document["results"][0]["error"]["what"]
    assert json.loads(report.read_text()) == document
    assert mirror.digest("mysql", "8.0") == ""


def test_a_registry_that_is_down_is_given_up(mirror: Mirror) -> None:
    tags = [f"1.{n}" for n in range(12)]
    mirror.push("mysql", *tags)
    mirror.write(mirror.image("mysql", f"tags: [{', '.join(tags)}]"))
    ended = mirror.run("sync", "--target", NOBODY, "--json", code=75)
    found = outcomes(ended.document)
    assert set(found) == {"failed", "skipped"}
    assert {r["error"]["exit_code"] for r in ended.document["results"]} == {75}
    assert sum(found.values()) == 12
    assert ended.err.count("error: ") == 1
    assert "error: cannot reach the registry" in ended.err


def test_a_registrys_quota_is_told(mirror: Mirror, proxy: RegistryProxy) -> None:
    mirror.push("mysql", "8.4")
    quota = (("RateLimit-Limit", "100;w=21600"), ("RateLimit-Remaining", "7;w=21600"))
    proxy.limit("HEAD", MANIFESTS, retry_after="0", headers=quota)
    mirror.write(mirror.image("mysql", "tags: 8.4"))
    place = mirror.directory / "m.prom"
    ended = mirror.run("sync", "--metrics", place)
    assert f"{proxy.host}: 7 of 100 pulls are left" in ended.err
    value = samples(place.read_text())
    assert value("quota_remaining", registry=proxy.host) == 7
    assert value("quota_limit", registry=proxy.host) == 100


def test_metrics(mirror: Mirror) -> None:
    made = mirror.push("mysql", "8.4")
    place = mirror.directory / "m.prom"
    mirror.write(mirror.image("mysql", "tags: [8.4, 9.9]"))
    started = time.time()
    mirror.run("sync", "--metrics", place, code=6)
    value = samples(place.read_text())
    labels = {"list": "mirror", "target": f"{mirror.target.host}/{mirror.name}"}
    assert value("images", outcome="copied", **labels) == 1
    assert value("images", outcome="missing", **labels) == 1
    assert value("images", outcome="skipped", **labels) == 0
    assert value("bytes", kind="copied") == sum(map(len, made.blobs))
    assert value("last_success_timestamp_seconds") is None
    last = value("last_run_timestamp_seconds")
    assert last
    assert started <= last <= time.time() + 1
    assert 0 < (value("duration_seconds") or 0) < 60
    assert place.stat().st_mode & 0o777 == 0o644

    mirror.write(mirror.image("mysql", "tags: [8.4]"))
    mirror.run("sync", "--metrics", place)
    good = samples(place.read_text())("last_success_timestamp_seconds")
    assert good
    mirror.write(mirror.image("mysql", "tags: [8.4, 9.9]"))
    mirror.run("sync", "--metrics", place, code=6)
    value = samples(place.read_text())
    assert value("last_success_timestamp_seconds") == good
    assert (value("last_run_timestamp_seconds") or 0) > good
    assert value("requests", method="HEAD") == 4
    assert [p.name for p in mirror.directory.iterdir() if p.name.startswith(".")] == []


def test_files_that_cannot_be_written_stop_it_before_anything_is_done(mirror: Mirror) -> None:
    mirror.push("mysql", "8.4")
    mirror.write(mirror.image("mysql", "tags: 8.4"))
    for option in ("--metrics", "--report", "--lock"):
        for place in (mirror.directory / "none/file", mirror.directory / "mirror.yaml/file"):
            ended = mirror.run("sync", option, place, code=4)
            assert f"  where: {place}" in ended.err
            assert ("--lock FILE" in ended.err) is (option == "--lock")
    for option in ("--metrics", "--report"):
        mirror.run("sync", option, mirror.directory, code=4)
    assert mirror.digest("mysql", "8.4") == ""


def test_a_lock_file_that_cannot_be_written_in_the_end(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror.push("mysql", "8.4")
    mirror.write(mirror.image("mysql", "tags: 8.4"))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    ended = mirror.run("sync", "--json", "--metrics", mirror.directory / "m.prom", code=4)
    assert outcomes(ended.document) == {"copied": 1}
    assert samples((mirror.directory / "m.prom").read_text())("images", outcome="copied") == 1
    assert "error: the lock file cannot be written" in ended.err
    assert "No space left on device" in ended.err
    monkeypatch.undo()


# --- plan -----------------------------------------------------------------------------


def test_plan_says_what_a_run_would_do_and_changes_nothing(mirror: Mirror) -> None:
    # Smaller blobs are sent sooner than asked for in other repositories.
    shared = layer({"shared": os.urandom(80_000)})
    one, two = image([shared, layer({"a": b"1"})]), image([shared, layer({"a": b"2"})])
    mirror.push("one", "1", made=one)
    mirror.write(mirror.image("one", "tags: 1"))
    mirror.json("sync")
    mirror.push("two", "1", made=two)
    mirror.write(
        mirror.image("one", "tags: [1, 3]"),
        mirror.image("two", "tags: 1, aliases: {1: [1.0]}, datastore: mysql, role: backup"),
    )
    document = mirror.json("plan", code=6)
    assert by_tag(document, "action") == {"one:1": "keep", "one:3": "missing", "two:1": "copy"}
    new = document["results"][2]
    assert new["digest"] == two.digest
    assert new["tags"] == ["1", "1.0"]
    assert (new["datastore"], new["role"]) == ("mysql", "backup")
    assert new["bytes_to_mount"] == len(shared)
    assert new["bytes_to_move"] == sum(map(len, two.blobs)) - len(shared)
    assert document["totals"]["bytes_to_move"] == new["bytes_to_move"]
    assert document["totals"]["actions"]["copy"] == 1
    assert document["totals"]["failed"]
    assert mirror.digest("two", "1") == ""
    assert mirror.json("sync", "--dry-run", code=6) == document
    assert mirror.digest("two", "1") == ""
    ended = mirror.run("plan", code=6)
    assert re.search(r"two:1 \(\+ 1\.0\) +copy .*two:1 .* \d+ B +\d", ended.out), ended.out
    assert "1 keep, 1 missing, 1 copy; " in ended.err


def test_plan_that_finds_all_in_order(mirror: Mirror) -> None:
    mirror.push("mysql", "8.4")
    mirror.write(mirror.image("mysql", "tags: 8.4"))
    mirror.run("sync")
    document = mirror.json("plan")
    assert by_tag(document, "action") == {"mysql:8.4": "keep"}
    assert document["totals"]["bytes_to_move"] == 0


# --- wrong input ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["plan"], 2, "Missing argument"),
        (["plan", "nothing"], 3, "no mirror list named 'nothing'"),
        (["plan", "trove"], 3, "where copies go"),
        (["sync", "trove", "--target", "bad host"], 3, "no name of an image"),
        (["sync", "trove", "--target", "registry"], 3, "a host has a dot or a port"),
        (["plan", "/"], 3, "directory"),
        (["plan", "/dev/null"], 3, "not a regular file"),
        (["plan", "{}/none.yaml"], 3, "cannot read"),
        (["plan", "{}/mirror.yaml", "--only", "zzz"], 2, "nothing in the list"),
        (["sync", "{}/mirror.yaml", "--engine", "skopeo"], 2, "not one of"),
        (["sync", "{}/mirror.yaml", "--engine", "docker", "--deep"], 2, "registry alone"),
        (["sync", "{}/mirror.yaml", "--jobs", "0"], 2, "--jobs"),
        (["sync", "{}/mirror.yaml", "--jobs", "x"], 2, "--jobs"),
        (["check", "{}/mirror.yaml", "--datastore", "mysql"], 2, "no datastore version"),
        (["check", "{}/mirror.yaml", "--datastore", "oracle:1"], 2, "no containers for oracle"),
        (["check", "{}/mirror.yaml", "--control-plane-series", "1999.1"], 3, "series"),
        (["check", "{}/mirror.yaml", "--cloud", "nosuch"], 4, "cloud nosuch"),
        (["sync", "{}/secret.yaml"], 3, "PW is not set"),
        (["nothing"], 2, "No such command"),
    ],
)
def test_wrong_input(mirror: Mirror, args: list[str], code: int, words: str) -> None:
    mirror.write(mirror.image("mysql", "tags: 1"))
    mirror.write(
        mirror.image("mysql", "tags: 1"), file="secret.yaml",
        more="registries: [{host: x.example, username: u, password_env: PW}]\n",
    )  # fmt: skip
    argv = ["mirror", *(a.replace("{}", str(mirror.directory)) for a in args)]
    ended = check(invoke(argv), code)
    assert ended.code == code
    assert words in ended.err


def test_docker_that_is_not_there(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{mirror.directory}/none.sock")
    mirror.push("mysql", "8.4")
    mirror.write(mirror.image("mysql", "tags: 8.4"))
    ended = mirror.run("sync", "--engine", "docker", code=4)
    assert "attestations, signatures and SBOMs are not copied" in ended.err
    assert "error: docker cannot be used" in ended.err
    assert by_tag(mirror.json("plan", "--engine", "docker"), "action") == {"mysql:8.4": "copy"}


# --- logins and TLS -------------------------------------------------------------------


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    """A registry with a CA of its own that wants a login."""
    directory = tmp_path_factory.mktemp("private")
    names = "IP:127.0.0.1,DNS:localhost"
    with RegistryServer(directory, tls=names, login=("robot", "hunter2-s3cret")) as server:
        yield server


def test_login_and_ca_of_the_list(
    mirror: Mirror, private: RegistryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = mirror.push("mysql", "8.4")
    (mirror.directory / "pw").write_text("hunter2-s3cret\n")
    (mirror.directory / "wrong").write_text("hunter2-wrong\n")
    mirror.hosts["target"] = private.host

    def sync(keys: str, code: int = 0) -> str:
        more = f"registries: [{{host: '{private.host}', {keys}}}]\n"
        mirror.write(mirror.image("mysql", "tags: 8.4"), more=more)
        ended = mirror.run("sync", "--json", "--report", mirror.directory / "r.json", code=code)
        told = ended.out + ended.err + (mirror.directory / "r.json").read_text()
        assert "hunter2" not in told
        return told

    assert "certificate is not trusted" in sync("tls: verify", 6)
    assert "wants a login" in sync(f"ca: {private.ca}", 6)
    user = f"ca: {private.ca}, username: robot"
    assert "refuses access" in sync(f"{user}, password_file: wrong", 6)
    assert made.digest in sync(f"{user}, password_file: pw")
    monkeypatch.setenv("PW", "hunter2-s3cret")
    assert '"unchanged"' in sync("tls: insecure, username: robot, password_env: PW")


# --- from a pipe, and cut off ---------------------------------------------------------


def start(*args: object, cwd: Path | None = None) -> subprocess.Popen[bytes]:
    """The real command: in another directory, too, it is the one of this source tree."""
    return subprocess.Popen(
        [sys.executable, "-m", "imagebuild", "mirror", *map(str, args)],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, cwd=cwd,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def test_list_from_a_pipe_has_no_lock_file_of_its_own(mirror: Mirror) -> None:
    mirror.push("mysql", "8.4")
    text = mirror.write(mirror.image("mysql", "tags: 8.4")).read_bytes()
    lock = mirror.directory / "l.yaml"
    for args, found in (((), False), (("--lock", lock), True)):
        with start("sync", "-", *args, cwd=mirror.directory) as process:
            _, err = process.communicate(text)
        assert process.returncode == 0, err.decode()
        assert lock.exists() is found
    with start("sync", "-", "--locked") as process:
        _, err = process.communicate(text)
    assert process.returncode == 2
    assert b"--locked needs --lock FILE" in err
    assert sorted(p.name for p in mirror.directory.glob("*.yaml")) == ["l.yaml", "mirror.yaml"]


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_what_was_copied_before_a_signal_is_recorded(
    mirror: Mirror, proxy: RegistryProxy, signum: signal.Signals, code: int
) -> None:
    mirror.push("quick", "1")
    mirror.push("slow", "1", made=fresh(200_000))
    proxy.slow(20_000, "GET", rf"{mirror.name}/slow/")
    mirror.write(mirror.image("quick", "tags: 1"), mirror.image("slow", "tags: 1"))
    metrics = mirror.directory / "m.prom"
    path = mirror.directory / "mirror.yaml"
    with start("sync", path, "--json", "--metrics", metrics) as process:
        deadline = time.monotonic() + 30
        while not mirror.digest("quick", "1"):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(0.2)
        process.send_signal(signum)
        out, err = process.communicate(timeout=20)
    assert process.returncode == code
    assert b"Traceback" not in err
    document = json.loads(out)
    assert document["interrupted"]
    assert by_tag(document, "outcome") == {"quick:1": "copied", "slow:1": "skipped"}
    quick = f"{mirror.target.host}/{mirror.name}/quick:1"
    assert list(lock_of(mirror)["tags"]) == [quick]
    assert samples(metrics.read_text())("images", outcome="skipped") == 1
    assert mirror.digest("slow", "1") == ""
    proxy.reset()
    assert outcomes(mirror.json("sync")) == {"unchanged": 1, "copied": 1}


# --- lists that have a name -----------------------------------------------------------


def test_list_and_schema(mirror: Mirror) -> None:
    own = mirror.directory / "config/imagebuild/mirror"
    own.mkdir(parents=True)
    (own / "bad.yaml").write_text("images: 5\n")
    ended = invoke(["mirror", "list"])
    header, bad, trove = ended.out.splitlines()
    assert header.split() == ["NAME", "IMAGES", "FILE"]
    assert bad.split()[:2] == ["bad", "invalid"]
    assert trove.split()[:2] == ["trove", "6"]
    assert "bad is not valid: " in ended.err
    rows = invoke(["mirror", "list", "--json"]).document["lists"]
    assert [(r["name"], bool(r["error"])) for r in rows] == [("bad", True), ("trove", False)]
    schema = invoke(["mirror", "schema"]).document
    assert schema["properties"]["images"]["items"] == {"$ref": "#/$defs/ListedImage"}


def test_a_list_of_ones_own_is_found_by_its_name(mirror: Mirror) -> None:
    mirror.push("mysql", "8.4")
    own = mirror.directory / "config/imagebuild/mirror"
    own.mkdir(parents=True)
    text = mirror.write(mirror.image("mysql", "tags: 8.4")).read_text()
    (own / "site.yaml").write_text(text)
    ended = invoke(["mirror", "sync", "site", "--json"])
    assert (ended.code, ended.document["lock"]) == (0, str(own / "site.lock.yaml"))
    assert (own / "site.lock.yaml").exists()


def test_completion_knows_lists(mirror: Mirror) -> None:  # noqa: ARG001 - its environment
    from click.testing import CliRunner

    from imagebuild.cli.main import cli

    variables = {"COMP_WORDS": "imagebuild mirror sync tr", "COMP_CWORD": "3"}
    found = CliRunner().invoke(
        cli, [], prog_name="imagebuild", env={"_IMAGEBUILD_COMPLETE": "bash_complete", **variables}
    )
    assert "plain,trove" in found.output.split("\n")
