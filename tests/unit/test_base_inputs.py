"""What the base stage's elements are given: package sources, apt's settings, certificates."""

from __future__ import annotations

import dataclasses
import stat
from pathlib import Path

import pytest

from imagebuild.archive import Suite
from imagebuild.inputs import Archive, Inputs
from imagebuild.stages import base
from imagebuild.stages.base import deb822, secrets, write_inputs
from tests.unit.test_plan import make_inputs

PROXY = "http://me:hunter2@proxy.example:3128"


@pytest.fixture(autouse=True)
def _no_bundle_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "HOST_BUNDLES", ())


@pytest.fixture
def inputs(tmp_path: Path) -> Inputs:
    keyring = tmp_path / "site.gpg"
    keyring.write_bytes(b"keyring")
    suites = (Suite("bookworm", "a" * 64), Suite("bookworm-updates", "b" * 64))
    docker = (Suite("bookworm", "c" * 64),)
    return make_inputs(
        archives=(
            Archive("archive", "http://m.example/d", suites, ("main", "x"), keyring, "e" * 64),
            Archive("docker", "https://k.example/d", docker, ("stable",), Path("-"), "f" * 64),
        )
    )


def apt_conf(inputs: Inputs, directory: Path, **environ: str) -> tuple[list[str], list[str]]:
    write_inputs(inputs, directory, environ)
    host, target = ((directory / "apt" / f"{n}.conf").read_text() for n in ("host", "target"))
    return host.splitlines(), target.splitlines()


def test_deb822() -> None:
    archive = Archive(
        "archive", "http://m.example/debian", (Suite("bookworm"), Suite("bookworm-updates")),
        ("main", "contrib"), Path("/k.gpg"), "0",
    )  # fmt: skip
    assert deb822(archive, "arm64", "/etc/apt/keyrings/k.gpg") == (
        "Types: deb\n"
        "URIs: http://m.example/debian\n"
        "Suites: bookworm bookworm-updates\n"
        "Components: main contrib\n"
        "Architectures: arm64\n"
        "Signed-By: /etc/apt/keyrings/k.gpg\n"
    )


def test_files(inputs: Inputs, tmp_path: Path) -> None:
    out = tmp_path / "in"
    write_inputs(inputs, out, {})
    files = {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()}
    assert files == {
        "apt/archive.sources", "apt/archive.d/site.gpg", "apt/bootstrap.list", "apt/host.conf",
        "apt/target.conf",
        "docker/docker.asc", "docker/docker.sources", "ca/site-0-0.crt",
    }  # fmt: skip
    sources = (out / "apt/archive.sources").read_text()
    assert "Signed-By: @KEYRING@\n" in sources
    assert "Suites: bookworm bookworm-updates\n" in sources
    assert (out / "apt/archive.d/site.gpg").read_bytes() == b"keyring"
    options = f"[arch=amd64 signed-by={out}/apt/archive.d/site.gpg]"
    assert (out / "apt/bootstrap.list").read_text() == "".join(
        f"deb {options} http://m.example/d {suite} main x\n"
        for suite in ("bookworm", "bookworm-updates")
    )
    docker = (out / "docker/docker.sources").read_text()
    assert "Signed-By: /etc/apt/keyrings/docker.asc\n" in docker
    assert (out / "docker/docker.asc").read_bytes() == b"key"
    assert (out / "ca/site-0-0.crt").read_bytes() == b"pem"


def test_docker_of_the_distribution(inputs: Inputs, tmp_path: Path) -> None:
    out = tmp_path / "in"
    write_inputs(make_inputs(archives=inputs.archives[:1], docker_key=None), out, {})
    assert (out / "docker").is_dir()
    assert list((out / "docker").iterdir()) == []


def test_without_a_proxy(inputs: Inputs, tmp_path: Path) -> None:
    host, target = apt_conf(inputs, tmp_path / "in")
    assert host == target == ['Acquire::Retries "3";']


@pytest.mark.parametrize("case", [str.lower, str.upper])
def test_proxies(inputs: Inputs, tmp_path: Path, case: type[str]) -> None:
    environ = {
        case("http_proxy"): PROXY,
        case("https_proxy"): "http://other.example:8080",
        case("no_proxy"): "localhost, m.example,",
    }
    host, target = apt_conf(inputs, tmp_path / "in", **environ)
    assert host == target
    assert host == [
        'Acquire::Retries "3";',
        f'Acquire::http::Proxy "{PROXY}";',
        'Acquire::https::Proxy "http://other.example:8080";',
        'Acquire::http::Proxy::localhost "DIRECT";',
        'Acquire::https::Proxy::localhost "DIRECT";',
        'Acquire::http::Proxy::m.example "DIRECT";',
        'Acquire::https::Proxy::m.example "DIRECT";',
    ]


def test_ca_of_a_proxy(inputs: Inputs, tmp_path: Path) -> None:
    ca = tmp_path / "proxy.pem"
    ca.write_text("CA\n")
    out = tmp_path / "in"
    host, target = apt_conf(inputs, out, SSL_CERT_FILE="/none", REQUESTS_CA_BUNDLE=str(ca))
    assert host[-1] == f'Acquire::https::CAInfo "{out}/apt/build-ca.pem";'
    assert target[-1] == 'Acquire::https::CAInfo "/etc/apt/imagebuild-build-ca.pem";'
    assert (out / "apt/build-ca.pem").read_text() == "CA\n"


def test_the_host_s_own_bundle_when_none_is_named(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "bundle.crt"
    bundle.write_text("HOST\n")
    monkeypatch.setattr(base, "HOST_BUNDLES", ("/none", str(bundle)))
    write_inputs(inputs, tmp_path / "in", {})
    assert (tmp_path / "in/apt/build-ca.pem").read_text() == "HOST\n"


def test_a_snapshot_may_be_past_its_date(inputs: Inputs, tmp_path: Path) -> None:
    """Its own archive says so, in the guest and in the bootstrap, and no other."""
    first, docker = inputs.archives
    pinned = dataclasses.replace(first, is_snapshot=True)
    security = dataclasses.replace(first, name="security")
    write_inputs(
        dataclasses.replace(inputs, archives=(pinned, security, docker)), tmp_path / "in", {}
    )
    for name in ("host.conf", "target.conf"):
        assert "Valid" not in (tmp_path / "in/apt" / name).read_text()
    bootstrap = (tmp_path / "in/apt/bootstrap.list").read_text().splitlines()
    assert ["check-valid-until=no" in x for x in bootstrap] == (
        [True] * len(pinned.suites) + [False] * len(security.suites)
    )
    line = "Check-Valid-Until: no\n"
    assert line in (tmp_path / "in/apt/archive.sources").read_text()
    assert line not in (tmp_path / "in/docker/docker.sources").read_text()


def test_only_apt_s_settings_hold_secrets_and_only_the_owner_reads_them(
    inputs: Inputs, tmp_path: Path
) -> None:
    out = tmp_path / "in"
    write_inputs(inputs, out, {"http_proxy": PROXY})
    holders = {p.name for p in out.rglob("*") if p.is_file() and b"hunter2" in p.read_bytes()}
    assert holders == {"host.conf", "target.conf"}
    for name in holders:
        assert stat.S_IMODE((out / "apt" / name).stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (PROXY, {"hunter2", "me:hunter2"}),
        # What programs print may be the decoded form.
        ("https://me:p%40ss@h.example/simple", {"p%40ss", "p@ss", "me:p%40ss"}),
        ("me:hunter2@proxy.example:3128", {"hunter2", "me:hunter2"}),
        ("https://tok3n@pypi.example/simple", {"tok3n@"}),
        ("https://a.example https://u:one@b.example", {"one", "u:one"}),
        ("http://proxy.example:3128", set()),
        ("/etc/ssl/certs/ca-certificates.crt", set()),
        ("localhost,127.0.0.1,.example", set()),
        ("http://[broken", set()),
        ("", set()),
    ],
)
def test_secrets(value: str, expected: set[str]) -> None:
    assert set(secrets({"ANY": value})) == expected


def test_secrets_longest_first() -> None:
    """Struck out one after the other, a part must not go before the whole."""
    found = secrets({"http_proxy": PROXY, "https_proxy": "http://u:hunter2hunter2@x.example"})
    assert list(found) == sorted(found, key=len, reverse=True)
    assert set(found) == {"hunter2", "me:hunter2", "hunter2hunter2", "u:hunter2hunter2"}
