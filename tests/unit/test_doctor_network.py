"""Proxies, certificates, pip, keyrings and mirrors."""

from __future__ import annotations

import http.server
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pytest

from imagebuild.archive import Suite
from imagebuild.doctor.check import Level, Need, Subject
from imagebuild.doctor.examine import examine, remedies
from imagebuild.doctor.host import Host
from imagebuild.doctor.mirror import judge
from imagebuild.host.run import NETWORK_ENV
from imagebuild.inputs import Archive
from tests.unit import agent_index, test_archive
from tests.unit.doctor_host import Described, Facts, found, profile, subject
from tests.unit.doctor_host import the_one as one
from tests.unit.test_archive import RELEASE, Signing, closed_port, serve, two_signings

NOW = 1_750_000_000
UBUNTU_KEYS = "/usr/share/keyrings/ubuntu-archive-keyring.gpg"
DEBIAN_KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"


@pytest.fixture(autouse=True)
def _no_network_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NETWORK_ENV:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("http://me:hunter2@", "it names no host"),
        ("http://hunter2@proxy.example:http", "its port is no number up to 65535"),
        ("proxy.example:99999", "its port is no number up to 65535"),
        ("ftp://hunter2@proxy.example", "its scheme is none of http, https"),
        ("http://proxy example:3128", "it names no host"),
    ],
)
def test_malformed_proxy_is_named_but_not_shown(value: str, problem: str) -> None:
    finding = one(Described(Facts(environ={"https_proxy": value})), "proxies", Level.MISSING)
    assert finding.where == "environment https_proxy"
    assert finding.detail.startswith(problem)
    assert "hunter2" not in repr(finding)


@pytest.mark.parametrize("value", ["http://me:hunter2@proxy.example:3128", "proxy.example:3128"])
def test_proxy_whose_name_has_no_address(value: str) -> None:
    environ = {"http_proxy": value}
    assert found(Described(Facts(environ=environ)), "proxies")[0].level is Level.OK
    finding = one(Described(Facts(environ=environ)), "proxy-names", Level.MISSING)
    assert finding.where == "proxy.example"
    known = Described(Facts(environ=environ, names=frozenset({"proxy.example"})))
    assert found(known, "proxy-names")[0].what == "proxy found: proxy.example"


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (None, "No such file or directory"),
        (b"", "no certificate"),
        (b"-----BEGIN CERTIFICATE-----\n!", ""),
    ],
)
def test_ca_bundle_that_cannot_be_used(content: bytes | None, detail: str) -> None:
    files = {} if content is None else {"/etc/ca.pem": content}
    host = Described(Facts(environ={"PIP_CERT": "/etc/ca.pem"}, files=files))
    finding = one(host, "certificates", Level.MISSING)
    assert finding.where == "PIP_CERT=/etc/ca.pem"
    assert finding.detail
    assert detail in finding.detail


def test_pip_s_configuration_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_text("index-url = https://me:hunter2@pypi.example\n")
    host = Described(Facts(environ={"PIP_CONFIG_FILE": str(tmp_path / "pip.conf")}))
    finding = one(host, "pip", Level.MISSING)
    assert finding.where == str(tmp_path / "pip.conf")
    assert "hunter2" not in repr(finding)
    nonsense = Described(Facts(environ={"PIP_DEFAULT_TIMEOUT": "soon"}))
    assert one(nonsense, "pip", Level.MISSING).what == "pip's settings make no sense"


def test_package_index(tmp_path: Path) -> None:
    with agent_index.serve() as index:
        index.login = "me:hunter2"
        host = Described(Facts(environ=index.env(tmp_path)))
        finding = one(host, "index", Level.WARNING)
        assert finding.what == "the package index does not have trove"
        index.add("trove", agent_index.make_wheel("trove", "26.0.0"))
        (there,) = found(host, "index")
        assert there.what == "the package index has trove 26.0.0"
        index.login = "me:other"
        refused = one(host, "index", Level.MISSING)
    assert refused.what == "the package index or its proxy wants a login"
    assert "hunter2" not in repr([finding, there, refused])


def test_package_index_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imagebuild.agent.index._ATTEMPTS", 1)
    url = closed_port().replace("http://", "http://me:hunter2@")
    finding = one(Described(Facts(environ={"PIP_INDEX_URL": url})), "index", Level.MISSING)
    assert finding.what == "the package index cannot be reached"
    assert "hunter2" not in repr(finding)


@pytest.mark.parametrize(
    ("distribution", "command"),
    [
        ("debian", "apt-get install ubuntu-archive-keyring"),
        ("ubuntu", "apt-get install ubuntu-keyring"),
        ("fedora", "dnf install ubu-keyring"),
    ],
)
def test_keyring_that_a_package_brings(distribution: str, command: str) -> None:
    host = Described(Facts(distribution))
    finding = one(host, "keyrings", Level.MISSING, subject(of=profile("ubuntu", "jammy")))
    assert finding.where == UBUNTU_KEYS
    assert remedies(host, [finding]) == [command]


def test_keyring_of_one_s_own(tmp_path: Path) -> None:
    mine = profile(mirror__keyring=str(tmp_path / "mine.gpg"))
    host = Described(Facts(files={DEBIAN_KEYS: b"key"}))
    finding = one(host, "keyrings", Level.MISSING, subject(of=mine))
    assert finding.install == ()
    assert "--keyring FILE" in finding.advice
    assert found(host, "keyrings", subject(of=profile()))[0].level is Level.OK


def archives(suite: Suite, *, snapshot: bool = False) -> list[Archive]:
    url = "http://m.example/debian"
    return [Archive("archive", url, (suite,), ("main",), Path("k"), "", is_snapshot=snapshot)]


def test_release_file_that_has_expired() -> None:
    suite = Suite("bookworm", "a", NOW - 90_000, valid_until=NOW - 10, served=NOW)
    (finding,) = judge(archives(suite), NOW)
    assert finding.what == "the mirror's Release file has expired"
    assert "--mirror" in finding.advice
    assert finding.detail == "valid until 2025-06-15 15:06 UTC, this host has 2025-06-15 15:06 UTC"
    assert list(judge(archives(suite, snapshot=True), NOW)) == [], "snapshots are old by nature"


def test_a_clock_that_is_ahead_is_blamed_for_the_expiry() -> None:
    suite = Suite("bookworm", "a", NOW, valid_until=NOW + 700_000, served=NOW)
    skewed, expired = judge(archives(suite), NOW + 800_000)
    assert skewed.what == "this host's clock is 9 days ahead of the mirror's"
    assert skewed.level is Level.WARNING
    assert expired.level is Level.MISSING
    assert expired.run == ("timedatectl set-ntp true",)
    user = Described(Facts(root=False))
    assert remedies(user, [skewed, expired]) == ["sudo timedatectl set-ntp true"]


def test_a_clock_that_is_behind() -> None:
    suite = Suite("bookworm", "a", NOW, served=NOW)
    skewed, future = judge(archives(suite), NOW - 86_400 * 3)
    assert skewed.what == "this host's clock is 3 days behind the mirror's"
    assert future.what == "the mirror's Release file is from the future"
    assert list(judge(archives(suite), NOW + 200)) == []


@pytest.fixture(scope="module")
def signings() -> Iterator[tuple[Signing, Signing]]:
    with two_signings() as made:
        yield made


@pytest.fixture(scope="module")
def expired() -> Iterator[Signing]:
    dated = RELEASE.replace(b"SHA256:", b"Valid-Until: Sat, 08 Mar 2025 10:00:00 UTC\nSHA256:")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(test_archive, "RELEASE", dated)
        with two_signings() as (made, _):
            yield made


def mirrored(signing: Signing, tmp_path: Path, url: str, **changed: bytes) -> Subject:
    (tmp_path / "keys.gpg").write_bytes(changed.get("keyring", signing.public))
    keys = {"mirror__url": f"{url}/debian", "mirror__security": None,
            "mirror__keyring": str(tmp_path / "keys.gpg")}  # fmt: skip
    return Subject(frozenset({Need.BUILD}), tmp_path / "cache", profile(**keys))


def served(signing: Signing) -> dict[str, tuple[int, bytes]]:
    path = "/debian/dists/bookworm{}/InRelease"
    return {path.format(s): (200, signing.in_release) for s in ("", "-updates")}


def test_mirror_that_is_fine(signings: tuple[Signing, Signing], tmp_path: Path) -> None:
    with serve(served(signings[0])) as url:
        (finding,) = found(Host(), "mirror", mirrored(signings[0], tmp_path, url))
    assert finding.level is Level.OK
    assert finding.what == "bookworm bookworm-updates: signed and fresh"


def test_every_suite_s_fault_is_found(signings: tuple[Signing, Signing], tmp_path: Path) -> None:
    ours, other = signings
    with serve({"/debian/dists/bookworm/InRelease": (200, ours.in_release)}) as url:
        asked = mirrored(ours, tmp_path, url, keyring=other.public)
        wrong = found(Host(), "mirror", asked)
    assert [f.what for f in wrong] == [
        "the archive is not signed by a key of the keyring",
        "the mirror has no suite 'bookworm-updates'",
    ]


def test_mirror_that_is_not_there(signings: tuple[Signing, Signing], tmp_path: Path) -> None:
    asked = mirrored(signings[0], tmp_path, closed_port())
    finding = one(Host(), "mirror", Level.MISSING, asked)
    assert finding.what.startswith("cannot reach the package mirror")


def test_expired_mirror(expired: Signing, tmp_path: Path) -> None:
    with serve(served(expired)) as url:
        findings = found(Host(), "mirror", mirrored(expired, tmp_path, url))
    assert [f.what for f in findings] == ["the mirror's Release file has expired"] * 2


def test_server_whose_clock_is_off(
    signings: tuple[Signing, Signing], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = formatdate(time.time() - 7200, usegmt=True)
    handler = http.server.BaseHTTPRequestHandler
    monkeypatch.setattr(handler, "date_time_string", lambda *_: late)
    with serve(served(signings[0])) as url:
        finding = one(Host(), "mirror", Level.WARNING, mirrored(signings[0], tmp_path, url))
    assert finding.what == "this host's clock is 2 hours ahead of the mirror's"


def test_offline_nothing_is_asked(signings: tuple[Signing, Signing], tmp_path: Path) -> None:
    asked = mirrored(signings[0], tmp_path, closed_port())
    report = examine(Host(), asked, ask_network=False)
    left_out = {r.check.id for r in report.results if r.check.network}
    assert left_out == {"mirror", "index", "proxy-names"}
    assert all(r.level is Level.SKIPPED for r in report.results if r.check.network)
