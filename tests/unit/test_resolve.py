"""Profile → Inputs: what is refused, and what asks the network."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest

from imagebuild import resolve as resolve_
from imagebuild.archive import Suite
from imagebuild.config.load import load_profile
from imagebuild.config.merge import Override, parse_set
from imagebuild.config.profile import Profile
from imagebuild.digest import of_bytes, of_file
from imagebuild.errors import ConfigError, TemporaryError
from imagebuild.host import versions
from imagebuild.host.run import NETWORK_ENV
from imagebuild.inputs import Archive, Inputs
from imagebuild.memory import Memory
from imagebuild.plan import make_plan
from imagebuild.resolve import resolve
from tests.unit.test_archive import DATE, Signing, closed_port, serve, two_signings

PEM = "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n"


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (*NETWORK_ENV, "SOURCE_DATE_EPOCH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> NoReturn:
        raise AssertionError(f"the network was asked: {args}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(scope="module")
def signings() -> Iterator[tuple[Signing, Signing]]:
    with two_signings() as made:
        yield made


@pytest.fixture(scope="module")
def mirror(signings: tuple[Signing, Signing]) -> Iterator[str]:
    ours, other = signings
    signed = (200, ours.in_release)
    with serve(
        {
            "/debian/dists/bookworm/InRelease": signed,
            "/debian/dists/bookworm-updates/InRelease": signed,
            "/docker/dists/bookworm/InRelease": (200, other.in_release),
            "/docker/gpg": (200, other.armored),
        }
    ) as url:
        yield url


@pytest.fixture
def keyring(tmp_path: Path, signings: tuple[Signing, Signing]) -> Path:
    path = tmp_path / "site.gpg"
    path.write_bytes(signings[0].public)
    return path


def profile_of(*sets: str, name: str = "debian-bookworm") -> Profile:
    return load_profile(name, [parse_set(text) for text in sets]).profile


def site_profile(mirror: str, keyring: Path, *sets: str) -> Profile:
    """debian-bookworm from one archive on loopback."""
    return profile_of(
        f"mirror.url={mirror}/debian", f"mirror.keyring={keyring}", "mirror.security=null", *sets
    )


def with_docker_ce(mirror: str, keyring: Path, fingerprint: str, key: str) -> Profile:
    repository = {
        "url": f"{mirror}/docker",
        "suite": "bookworm",
        "components": ["stable"],
        "key": key,
        "fingerprint": fingerprint,
    }
    sets = (f"mirror.url={mirror}/debian", f"mirror.keyring={keyring}", "mirror.security=null")
    overrides = [
        *(parse_set(text) for text in sets),
        Override("docker.source", "docker-ce", "test"),
        Override("docker.repository", repository, "test"),
    ]
    return load_profile("debian-bookworm", overrides).profile


def offline(profile: Profile, tmp_path: Path) -> Inputs:
    return resolve(profile, workdir=tmp_path / "work", offline=True)


def test_everything_is_resolved(
    mirror: str, keyring: Path, signings: tuple[Signing, Signing], tmp_path: Path
) -> None:
    ours, other = signings
    profile = with_docker_ce(mirror, keyring, other.fingerprint, f"{mirror}/docker/gpg")
    inputs = resolve(profile, workdir=tmp_path / "work")
    assert inputs.unresolved == ()
    digest = of_bytes(ours.in_release)
    assert inputs.archives == (
        Archive(
            "archive", f"{mirror}/debian",
            (Suite("bookworm", digest, DATE), Suite("bookworm-updates", digest, DATE)),
            ("main",), keyring, of_file(keyring),
        ),
        Archive(
            "docker", f"{mirror}/docker",
            (Suite("bookworm", of_bytes(other.in_release), DATE),),
            ("stable",), Path("-"), of_bytes(other.armored),
        ),
    )  # fmt: skip
    assert inputs.docker_key is not None
    assert inputs.docker_key.data == other.armored
    assert inputs.epoch == DATE
    assert inputs.agent.resolved
    assert "trove-docker" in {e.name for e in inputs.elements["base"]}
    assert "debootstrap" in {e.name for e in inputs.elements["base"]}
    assert "trove-guest-agent" in {e.name for e in inputs.elements["environment"]}
    assert "late" not in inputs.elements


def test_source_date_epoch_wins(
    mirror: str, keyring: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1234567890")
    assert resolve(site_profile(mirror, keyring), workdir=tmp_path).epoch == 1234567890


def test_mirror_that_is_not_there(keyring: Path, tmp_path: Path) -> None:
    with pytest.raises(TemporaryError, match="cannot reach the package mirror"):
        resolve(site_profile(closed_port(), keyring), workdir=tmp_path)


@pytest.mark.parametrize("fingerprint_of", ["archive", "nobody"])
def test_wrong_docker_key(
    mirror: str,
    keyring: Path,
    signings: tuple[Signing, Signing],
    tmp_path: Path,
    fingerprint_of: str,
) -> None:
    ours, other = signings
    pinned = ours.fingerprint if fingerprint_of == "archive" else "A" * 40
    profile = with_docker_ce(mirror, keyring, pinned, f"{mirror}/docker/gpg")
    with pytest.raises(ConfigError) as caught:
        resolve(profile, workdir=tmp_path)
    assert caught.value.what == "docker's repository key is not the one that the profile pins"
    assert caught.value.where == f"{mirror}/docker/gpg"
    assert caught.value.detail == f"pinned {pinned}\nfound  {other.fingerprint}"


def test_docker_key_with_a_stowaway(
    mirror: str, keyring: Path, signings: tuple[Signing, Signing], tmp_path: Path
) -> None:
    """A second key in the file would be trusted by the guest's apt as well."""
    ours, other = signings
    path = tmp_path / "docker.gpg"
    path.write_bytes(other.public + ours.public)
    profile = with_docker_ce(mirror, keyring, other.fingerprint, str(path))
    with pytest.raises(ConfigError, match="not the one that the profile pins"):
        resolve(profile, workdir=tmp_path)


def test_docker_key_that_is_not_there(mirror: str, keyring: Path, tmp_path: Path) -> None:
    profile = with_docker_ce(mirror, keyring, "A" * 40, str(tmp_path / "none.asc"))
    with pytest.raises(ConfigError) as caught:
        resolve(profile, workdir=tmp_path)
    assert caught.value.what == "cannot read docker's repository key"
    assert caught.value.where == str(tmp_path / "none.asc")


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("debian-bookworm", "mirror.url"),
        ("debian-bookworm", "mirror.security.url"),
        ("debian-bookworm", "mirror.snapshot_url"),
        ("debian-bookworm", "mirror.security.snapshot_url"),
        ("ubuntu-jammy", "docker.repository.url"),
    ],
)
def test_credentials_in_a_url_are_refused(tmp_path: Path, name: str, key: str) -> None:
    path = "{snapshot}" if "snapshot" in key else "debian"
    for userinfo in ("me:hunter2", "hunter2"):
        profile = profile_of(f"{key}=http://{userinfo}@mirror.example/{path}", name=name)
        with pytest.raises(ConfigError) as caught:
            resolve(profile, workdir=tmp_path)
        assert caught.value.what == f"{key} carries a user name or password"
        assert caught.value.where == f"http://…@mirror.example/{path}"
        assert "hunter2" not in str(caught.value.to_json())


def test_keyring_that_is_not_there(mirror: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(site_profile(mirror, tmp_path / "none.gpg"), workdir=tmp_path)
    assert caught.value.what == "the archive's keyring is not there"
    assert caught.value.where == str(tmp_path / "none.gpg")


@pytest.mark.usefixtures("no_network")
def test_offline_asks_nothing_and_says_what_is_missing(tmp_path: Path) -> None:
    inputs = offline(profile_of("mirror.keyring=/nowhere/debian.gpg"), tmp_path)
    assert all(s.sha256 is None for a in inputs.archives for s in a.suites)
    assert inputs.unresolved == (
        "Release file of http://deb.debian.org/debian bookworm",
        "Release file of http://deb.debian.org/debian bookworm-updates",
        "Release file of http://deb.debian.org/debian-security bookworm-security",
        "keyring /nowhere/debian.gpg",
        "keyring /nowhere/debian.gpg",
    )
    assert not (tmp_path / "work").exists()


@pytest.mark.usefixtures("no_network")
def test_snapshot(tmp_path: Path) -> None:
    """A pinned time chooses the archives' snapshots, and needs to know where they are."""
    sets = [
        "mirror.snapshot=20250101T000000Z",
        "mirror.snapshot_url=http://snap.example/a/{snapshot}",
        "mirror.security.snapshot_url=http://snap.example/s/{snapshot}/",
    ]
    archives = offline(profile_of(*sets), tmp_path).archives
    assert [(a.url, a.is_snapshot) for a in archives] == [
        ("http://snap.example/a/20250101T000000Z", True),
        ("http://snap.example/s/20250101T000000Z/", True),
    ]
    assert not any(a.is_snapshot for a in offline(profile_of(*sets[1:]), tmp_path).archives)
    for left_out, key in ((1, "mirror.snapshot_url"), (2, "mirror.security.snapshot_url")):
        others = [s for n, s in enumerate(sets) if n != left_out]
        profile = profile_of(*others, f"{key}=null")
        with pytest.raises(ConfigError, match="not where the snapshots") as caught:
            offline(profile, tmp_path)
        assert caught.value.where == key


@pytest.mark.usefixtures("no_network")
def test_pin_that_docker_cannot_honour(tmp_path: Path) -> None:
    """Docker keeps no snapshots: a build that took its newest would break the pin in silence."""
    sets = ["mirror.snapshot=2025-01-01"]
    with pytest.raises(ConfigError, match="not where the snapshots") as caught:
        offline(profile_of(*sets, name="ubuntu-jammy"), tmp_path)
    assert caught.value.where == "docker.repository.snapshot_url"
    assert "docker.source=docker.io" in caught.value.hint
    sets.append("docker.repository.snapshot_url=http://own.example/{snapshot}/docker")
    archives = offline(profile_of(*sets, name="ubuntu-jammy"), tmp_path).archives
    assert [(a.url, a.is_snapshot) for a in archives] == [
        ("https://snapshot.ubuntu.com/ubuntu/20250101T000000Z", True),
        ("http://own.example/20250101T000000Z/docker", True),
    ]
    plain = profile_of("mirror.snapshot=2025-01-01", "docker.source=docker.io", name="ubuntu-jammy")
    assert len(offline(plain, tmp_path).archives) == 1


@pytest.mark.usefixtures("no_network")
def test_pin_in_the_future(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"mirror\.snapshot is in the future"):
        offline(profile_of("mirror.snapshot=2999-01-01"), tmp_path)


@pytest.mark.parametrize(
    ("pin", "reason"),
    [
        ("20250301T100000Z", ""),
        # The Release file is an hour younger: what the pin names is not what is served.
        ("20250301T090000Z", "a later state than the pinned one"),
        # Nothing was kept of that time.
        ("20200101T000000Z", "no suite 'bookworm'"),
    ],
)
def test_pin_is_checked_against_the_release_file(
    tmp_path: Path, keyring: Path, signings: tuple[Signing, Signing], pin: str, reason: str
) -> None:
    ours, _ = signings
    assert DATE == 1740823200, "2025-03-01 10:00 UTC"
    known = {
        f"/archive/debian/{time}/dists/bookworm/InRelease": (200, ours.in_release)
        for time in ("20250301T100000Z", "20250301T090000Z")
    }
    with serve(known) as url:
        profile = profile_of(
            f"mirror.snapshot={pin}",
            f"mirror.snapshot_url={url}/archive/debian/{{snapshot}}",
            "mirror.security=null",
            "mirror.suites=[bookworm]",
            f"mirror.keyring={keyring}",
        )
        if not reason:
            (archive,) = resolve(profile, workdir=tmp_path / "w").archives
            assert archive.suites == (Suite("bookworm", of_bytes(ours.in_release), DATE),)
            return
        with pytest.raises(ConfigError, match=reason):
            resolve(profile, workdir=tmp_path / "w")


@pytest.mark.usefixtures("no_network")
def test_offline_docker_key_and_agent(tmp_path: Path) -> None:
    profile = profile_of("agent.source=git+https://git.example/trove@master", name="ubuntu-jammy")
    inputs = offline(profile, tmp_path)
    assert inputs.docker_key is None
    assert "key of https://download.docker.com/linux/ubuntu" in inputs.unresolved
    assert "Release file of https://download.docker.com/linux/ubuntu jammy" in inputs.unresolved
    assert "guest agent git+https://git.example/trove@master" in inputs.unresolved


def test_network_variables_by_name_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://me:hunter2@proxy.example")
    monkeypatch.setenv("NO_PROXY", "localhost")
    monkeypatch.setenv("OTHER", "x")
    inputs = offline(profile_of(), tmp_path)
    assert inputs.network_variables == ("NO_PROXY", "https_proxy")
    assert "hunter2" not in repr(inputs)


def both(profile: Profile, tmp_path: Path, *, offline: bool) -> Inputs:
    cache = tmp_path / "cache"
    return resolve(profile, workdir=cache / "sources", memory=cache / "resolved", offline=offline)


def ids(inputs: Inputs) -> list[str]:
    return [stage.id for stage in make_plan(inputs, Path("/images/{name}")).stages]


def test_offline_knows_what_was_resolved_online(
    keyring: Path,
    signings: tuple[Signing, Signing],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours, other = signings
    signed = (200, ours.in_release)
    debian = "/debian/dists/bookworm{}/InRelease"
    docker = {
        "/docker/dists/bookworm/InRelease": (200, other.in_release),
        "/docker/gpg": (200, other.armored),
    }
    with serve({debian.format(""): signed, debian.format("-updates"): signed} | docker) as url:
        key = url.replace("://", "://me:hunter2@") + "/docker/gpg"
        profile = with_docker_ce(url, keyring, other.fingerprint, key)
        online = both(profile, tmp_path, offline=False)
    assert (online.offline, online.remembered) == (False, ())
    learned = int(time.time())
    monkeypatch.setattr(time, "time", lambda: learned + 7200.0)
    known = both(profile, tmp_path, offline=True)
    assert replace(known, offline=False, remembered=()) == online
    assert known.offline
    assert known.unresolved == ()
    assert ids(known) == ids(online)
    assert [fact.what for fact in known.remembered] == [
        f"Release file of {url}/debian bookworm",
        f"Release file of {url}/debian bookworm-updates",
        f"Release file of {url}/docker bookworm",
        f"key {url}/docker/gpg",
    ]
    assert all(learned - 60 <= fact.learned <= learned for fact in known.remembered)
    kept = list((tmp_path / "cache/resolved").iterdir())
    assert len([p for p in kept if not p.name.startswith("version-")]) == 4
    assert not any(b"hunter2" in path.read_bytes() for path in kept)
    # Damaged is forgotten, and nothing else is.
    (release,) = (p for p in kept if p.name.startswith("docker-key-"))
    release.write_bytes(release.read_bytes()[:-9])
    assert both(profile, tmp_path, offline=True).unresolved == (
        f"Release file of {url}/docker bookworm",
        f"key of {url}/docker",
    )


def test_offline_another_keyring_or_mirror_was_never_learned(
    mirror: str, keyring: Path, signings: tuple[Signing, Signing], tmp_path: Path
) -> None:
    both(site_profile(mirror, keyring), tmp_path, offline=False)
    assert both(site_profile(mirror, keyring), tmp_path, offline=True).unresolved == ()
    elsewhere = site_profile(mirror.replace("127.0.0.1", "localhost"), keyring)
    assert len(both(elsewhere, tmp_path, offline=True).unresolved) == 2
    # A signature that this keyring never vouched for is none.
    keyring.write_bytes(signings[0].public + signings[1].public)
    assert len(both(site_profile(mirror, keyring), tmp_path, offline=True).unresolved) == 2


def test_what_a_pin_refuses_it_refuses_offline_too(
    keyring: Path, signings: tuple[Signing, Signing], tmp_path: Path
) -> None:
    path = "/a/20250301T090000Z/dists/bookworm/InRelease"
    with serve({path: (200, signings[0].in_release)}) as url:
        profile = profile_of(
            "mirror.snapshot=20250301T090000Z", f"mirror.snapshot_url={url}/a/{{snapshot}}",
            "mirror.security=null", "mirror.suites=[bookworm]", f"mirror.keyring={keyring}",
        )  # fmt: skip
        for offline in (False, True):
            with pytest.raises(ConfigError, match="a later state than the pinned one"):
                both(profile, tmp_path, offline=offline)


def test_suites_are_asked_at_the_same_time(
    keyring: Path, signings: tuple[Signing, Signing], tmp_path: Path
) -> None:
    together = threading.Barrier(2)

    class Answers(dict[str, tuple[int, bytes]]):
        def get(self, path: str, default: object = None) -> tuple[int, bytes]:  # noqa: ARG002
            together.wait(20)
            return 200, signings[0].in_release

    with serve(Answers()) as url:
        inputs = resolve(site_profile(url, keyring), workdir=tmp_path)
    assert [s.name for s in inputs.archives[0].suites] == ["bookworm", "bookworm-updates"]


def test_a_dev_image_can_be_built_offline(mirror: str, keyring: Path, tmp_path: Path) -> None:
    """Its keys are made here: nothing of them comes from the network."""
    profile = site_profile(mirror, keyring, "agent.mode=dev")
    both(profile, tmp_path, offline=False)
    known = both(profile, tmp_path, offline=True)
    assert known.unresolved == ()
    assert known.dev is not None
    assert known.dev.key is not None


def certificates(tmp_path: Path, *texts: str) -> Inputs:
    paths = []
    for number, text in enumerate(texts):
        path = tmp_path / f"{number}.pem"
        path.write_text(text)
        paths.append(str(path))
    override = Override("ca_certificates", paths, "test")
    return offline(load_profile("debian-bookworm", [override]).profile, tmp_path)


def test_each_certificate_becomes_a_file(tmp_path: Path) -> None:
    one, two, three = (PEM.format(x) for x in ("AAAA\nBBBB", "CCCC", "DDDD"))
    found = certificates(tmp_path, f"subject=CN=x\n{one}\nissuer\n{two}", three).certificates
    assert [(c.name, c.pem.decode()) for c in found] == [
        ("site-0-0.crt", one),
        ("site-0-1.crt", two),
        ("site-1-0.crt", three),
    ]
    assert [c.sha256 for c in found] == [of_bytes(c.pem) for c in found]


@pytest.mark.parametrize("kind", ["PRIVATE KEY", "RSA PRIVATE KEY", "ENCRYPTED PRIVATE KEY"])
def test_private_key_among_certificates(tmp_path: Path, kind: str) -> None:
    key = f"-----BEGIN {kind}-----\nc2VjcmV0\n-----END {kind}-----\n"
    with pytest.raises(ConfigError) as caught:
        certificates(tmp_path, PEM.format("AAAA") + key)
    assert caught.value.what == "a file of ca_certificates holds a private key"
    assert caught.value.where == str(tmp_path / "0.pem")
    assert "c2VjcmV0" not in str(caught.value.to_json())


def test_no_certificate(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="this is no PEM certificate"):
        certificates(tmp_path, "nothing")
    profile = profile_of(f"ca_certificates=[{tmp_path}/none.pem]")
    with pytest.raises(ConfigError, match="cannot read a CA certificate"):
        offline(profile, tmp_path)


def test_own_elements_join(tmp_path: Path) -> None:
    (tmp_path / "elements/site-tuning").mkdir(parents=True)
    profile = profile_of(f"elements.path=[{tmp_path}/elements]", "elements.agent=[site-tuning]")
    inputs = offline(profile, tmp_path)
    assert inputs.element_paths[0] == tmp_path / "elements"
    assert inputs.asked_elements["late"][-1] == "site-tuning"
    having = {
        run for run, found in inputs.elements.items() if "site-tuning" in {e.name for e in found}
    }
    assert having == {"late"}


@pytest.mark.alone
def test_versions_of_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in (("mke2fs", "mke2fs 1.47.0 (5-Feb-2023)"), ("qemu-img", "no number")):
        tool = tmp_path / name
        tool.write_text(f"#!/bin/sh\necho '{text}' >&2\n")
        tool.chmod(0o755)
    monkeypatch.setattr("imagebuild.host.run.PATH", str(tmp_path))
    found = resolve_.tool_versions()
    assert (found["mke2fs"], found["qemu-img"]) == ("1.47.0", "unknown")
    assert (found["mmdebstrap"], found["mtools"]) == ("absent", "absent")


@pytest.mark.alone
def test_a_tool_is_asked_once_for_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = tmp_path / "asked"
    tool = tmp_path / "qemu-img"
    monkeypatch.setattr("imagebuild.host.run.PATH", str(tmp_path))
    for version in ("7.2.1", "7.2.22"):
        tool.write_text(f"#!/bin/sh\necho x >> {asked}; echo qemu-img version {version}\n")
        tool.chmod(0o755)
        for _ in range(2):
            assert resolve_.tool_versions()["qemu-img"] == version, "an upgrade goes unnoticed"
    assert asked.read_text() == "x\nx\n"
    # Another process knows it from the last one that was online, as long as the file is the same.
    versions.keep(Memory(tmp_path / "resolved", offline=False))
    assert [p.name[:8] for p in (tmp_path / "resolved").iterdir()] == ["version-"]
    for changed in (False, True):
        if changed:
            os.utime(tool, (1, 1))
        monkeypatch.setattr(versions, "_asked", {})
        versions.prefetch(Memory(tmp_path / "resolved", offline=True))
        assert resolve_.tool_versions()["qemu-img"] == "7.2.22"
        assert asked.read_text() == "x\nx\n" + "x\n" * changed
