"""`imagebuild doctor`: its report, its exit code, and that it changes nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from imagebuild.cli.main import run
from imagebuild.cli.terminal import terminal
from imagebuild.doctor.host import Host
from imagebuild.host.kvm import Kvm
from imagebuild.host.preflight import BUILD_TOOLS
from imagebuild.host.run import NETWORK_ENV, which


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.startswith(("IMAGEBUILD_", "OS_")) or name in NETWORK_ENV:
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg-cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("COLUMNS", "100")
    terminal.configure(verbosity=0, no_color=True)


@pytest.fixture
def keyring(tmp_path: Path) -> str:
    (tmp_path / "keys.gpg").touch()
    return str(tmp_path / "keys.gpg")


def left(directory: Path) -> set[str]:
    return {p.name for p in directory.iterdir()}


def test_this_host_is_ready_to_build(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, keyring: str
) -> None:
    argv = ["doctor", "debian", "bookworm", "--offline", "--keyring", keyring]
    assert run(argv) == 0, capsys.readouterr().out
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert captured.err == ""
    assert f"  ✓ {len(BUILD_TOOLS)} programs that a build needs" in lines
    assert f"  ✓ keyrings: {keyring}" in lines
    assert "  - package mirrors: not asked, offline" in lines
    assert lines[-2].startswith("this host is ready for: build")
    assert lines[-1] == "not looked at: boot, verify, publish, mirror (--for all)"
    assert left(tmp_path) == {"keys.gpg"}, "doctor has changed something"


@pytest.mark.alone
def test_what_is_wrong_what_it_prevents_and_what_to_run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in {*BUILD_TOOLS, "sudo"} - {"mformat", "mcopy"}:
        (tools / name).symlink_to(which(name) or "/bin/true")
    monkeypatch.setattr("imagebuild.host.run.PATH", str(tools))
    monkeypatch.setattr(Host, "os_release", {"ID": "fedora"})
    monkeypatch.setattr(Host, "is_root", True)
    keyring = tmp_path / "none.gpg"
    argv = ["doctor", "debian", "bookworm", "--offline", "--keyring", str(keyring)]
    monkeypatch.setenv("COLUMNS", "60")
    assert run(argv) == 4
    out = capsys.readouterr().out
    assert (
        "  ✗ 2 programs that a build needs are not installed\n"
        "      because:  mformat, mcopy\n"
        "      prevents: a build\n"
        "      try:      dnf install mtools; scripts/imagebuild does\n"
        "                it for you\n"
    ) in out
    assert "  ✗ the archive's keyring is not there\n" in out
    assert out.endswith(
        "this host cannot do: build\n"
        "not looked at: boot, verify, publish, mirror (--for all)\n"
        "to mend it, run:\n"
        "    dnf install mtools\n"
    )


def test_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, keyring: str
) -> None:
    crawls = Kvm(True, "it crawls: 1.8 million instructions a second", speed=1.8e6)
    monkeypatch.setattr(Host, "kvm", lambda _: crawls)
    argv = ["doctor", "debian", "bookworm", "--offline", "--json", "--keyring", keyring]
    code = run([*argv, "--for", "build", "--for", "boot"])
    document = json.loads(capsys.readouterr().out)
    assert document["schema_version"] == 1
    assert document["asked_for"] == ["build", "boot"]
    assert code == (4 if document["prevented"] else 0)
    checks = {c["id"]: c for c in document["checks"]}
    assert checks["kvm"]["level"] == "warning"
    assert checks["kvm"]["findings"][0]["detail"] == crawls.problem
    assert checks["index"]["level"] == "skipped"
    assert checks["space"]["findings"][0]["level"] == "ok"


def test_cloud_means_publish(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clouds = tmp_path / "clouds.yaml"
    clouds.write_text("clouds: {east: {auth: {auth_url: 'http://k.example'}}}\n")
    clouds.chmod(0o600)
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(clouds))
    monkeypatch.setattr(Host, "resolves", lambda *_: True)
    monkeypatch.setenv("IMAGEBUILD_FOR", "mirror")
    assert run(["doctor", "--cloud", "nort"]) == 4
    out = capsys.readouterr().out
    assert "  ✗ there is no cloud 'nort'\n" in out
    assert "this host cannot do: publish\nthis host is ready for: mirror" in out
    assert "programs that a build needs" not in out
    assert run(["doctor", "--for", "publish", "--offline"]) == 0


def test_a_profile_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "debian", "bokworm"]) == 3
    assert "did you mean 'debian bookworm'?" in capsys.readouterr().err


def test_small_cache_directory(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1 << 40, 0, 1 << 30))
    cache = tmp_path / "small"
    assert run(["doctor", "--offline", "--cache-dir", str(cache)]) == 4
    out = capsys.readouterr().out
    assert f"  ✗ too little space for a build\n      where:    {cache}\n" in out
    assert not cache.exists()
