"""The table of series and the lock files."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from packaging.version import Version

from imagebuild.agent.locks import (
    Lock,
    Pin,
    agent_lock,
    build_lock,
    lock_name,
    parse_lock,
    render_requirement,
)
from imagebuild.agent.series import (
    PYTHONS,
    SERIES,
    Series,
    check_python,
    get_series,
    newest_series,
    series_of_version,
)
from imagebuild.data import locks_dir
from imagebuild.digest import of_file
from imagebuild.errors import ConfigError, ExitCode

ROOT = Path(__file__).resolve().parents[2]
PAIRS = [(s, p) for s in SERIES for p in s.pythons]
IDS = [lock_name(s, p) for s, p in PAIRS]
HASH = "0" * 64


@pytest.mark.parametrize(
    ("python", "name"), [("3.10", "2026.1"), ("3.11", "2026.2"), ("3.12", "2026.2")]
)
def test_newest_series_is_what_the_python_can_run(python: str, name: str) -> None:
    assert newest_series(python).name == name


@pytest.mark.parametrize(
    ("version", "name"),
    [("23.1.0", "2025.1"), ("24.0.0.0rc1", "2025.2"), ("25.0.1.dev7", "2026.1")],
)
def test_series_of_version_goes_by_the_major(version: str, name: str) -> None:
    assert series_of_version(version).name == name


def test_unknown_series_version_and_python_are_refused_naming_the_known() -> None:
    with pytest.raises(ConfigError) as series:
        get_series("2024.1")
    assert "2025.1, 2025.2, 2026.1, 2026.2" in series.value.hint
    with pytest.raises(ConfigError) as old:
        series_of_version("22.0.0")
    assert "23 (2025.1)" in old.value.hint
    with pytest.raises(ConfigError):
        series_of_version("newest")
    with pytest.raises(ConfigError) as python:
        newest_series("3.13")
    assert "3.10, 3.11, 3.12" in python.value.hint


def test_a_series_too_new_for_the_python_is_refused_naming_those_that_fit() -> None:
    with pytest.raises(ConfigError) as caught:
        check_python(get_series("2026.2"), "3.10", release="ubuntu jammy")
    error = caught.value
    assert error.exit_code == ExitCode.CONFIG
    assert (
        error.what == "trove 26 needs Python 3.11; ubuntu jammy has 3.10 and takes 2026.1 at most"
    )
    for name in ("2025.1", "2025.2", "2026.1"):
        assert name in error.detail
    assert "2026.2" not in error.detail


def test_there_is_a_lock_for_each_series_and_python_and_no_other_file() -> None:
    expected = {lock_name(s, p) for s, p in PAIRS} | {f"build-py{p}.txt" for p in PYTHONS}
    assert {p.name for p in locks_dir().iterdir()} == expected
    assert len(PAIRS) == 11


@pytest.mark.parametrize(("series", "python"), PAIRS, ids=IDS)
def test_lock_is_of_its_series_and_python(series: Series, python: str) -> None:
    lock = agent_lock(series, python)
    agent = lock.pin("trove")
    assert Version(agent.version).major == series.major
    assert lock.header["agent"] == agent.version
    assert lock.header["agent-wheel"] in agent.hashes
    assert (lock.header["series"], lock.header["python"]) == (series.name, python)
    # parse_lock refuses a pin without hashes; this proves that pins were there to refuse.
    assert len(lock.pins) > 100
    assert len({p.name for p in lock.pins}) == len(lock.pins)
    assert set(lock.no_wheel) <= {p.name for p in lock.pins}
    assert not {"pip", "wheel"} & {p.name for p in lock.pins}


@pytest.mark.parametrize(("series", "python"), PAIRS, ids=IDS)
def test_lock_was_made_with_the_constraints_in_the_repository(series: Series, python: str) -> None:
    lock = agent_lock(series, python)
    path = ROOT / lock.header["constraints"]
    assert path.name == series.constraints
    assert lock.header["constraints-sha256"] == of_file(path)
    assert lock.header["constraints-commit"] == series.constraints_commit
    pinned = {p.name: p.version for p in lock.pins}
    constrained = {
        name.lower().replace("_", "-").replace(".", "-"): version
        for name, version in re.findall(r"^([\w.-]+)===([^;\s]+)$", path.read_text(), re.M)
    }
    common = set(pinned) & set(constrained)
    assert len(common) > 90
    assert {n: pinned[n] for n in common} == {n: constrained[n] for n in common}


@pytest.mark.parametrize("python", PYTHONS)
def test_build_lock_has_the_tools(python: str) -> None:
    lock = build_lock(python)
    assert {"pip", "setuptools", "wheel", "pbr"} <= {p.name for p in lock.pins}
    assert lock.no_wheel == {}


def test_locks_name_no_host_and_no_path() -> None:
    for path in locks_dir().iterdir():
        text = path.read_text()
        assert "://" not in text, path.name
        assert "--index-url" not in text
        assert "--find-links" not in text
        assert not re.search(r"(^|\s)/", text), path.name


@pytest.mark.parametrize(
    "line",
    ["name==1.0", "name>=1 --hash=sha256:" + HASH, "name==1 --hash=md5:00", "--index-url x"],
)
def test_a_lock_line_without_pin_and_sha256_is_refused(line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_lock("x.txt", f"{line}\n".encode())
    assert caught.value.where == "x.txt"


def test_rendered_requirements_are_read_back() -> None:
    pin = Pin("name", "1.0", frozenset([HASH, "1" * 64]))
    text = render_requirement(pin.name, pin.version, pin.hashes)
    assert parse_lock("x", text.encode()).pins == (pin,)


def script() -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("locks_script", str(ROOT / "scripts/locks"))
    spec = importlib.util.spec_from_loader("locks_script", loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def made(header: dict[str, str], *pins: Pin) -> Lock:
    return Lock("x.txt", "", header, pins, {})


def test_check_sees_a_changed_version_header_or_file_but_not_an_added_file() -> None:
    is_stale = script().is_stale
    old = made({"agent": "1"}, Pin("a", "1", frozenset([HASH])))
    assert is_stale(old, made({"agent": "1"}, Pin("a", "1", frozenset([HASH, "1" * 64])))) == ""
    assert "a: 1 -> 2" in is_stale(old, made({"agent": "1"}, Pin("a", "2", frozenset([HASH]))))
    assert "agent is 1" in is_stale(old, made({"agent": "2"}, *old.pins))
    assert "a: " in is_stale(old, made({"agent": "1"}, Pin("a", "1", frozenset(["2" * 64]))))
    assert "b: None -> 1" in is_stale(
        old, made({"agent": "1"}, *old.pins, Pin("b", "1", frozenset([HASH])))
    )


def test_the_script_keeps_the_hosts_own_indexes_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", "/some/wheels")
    monkeypatch.setenv("UV_INDEX", "http://other/")
    monkeypatch.setenv("PIP_CERT", "/some/ca.pem")
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    env = script().index_env()
    assert not {"PIP_FIND_LINKS", "UV_INDEX"} & set(env)
    assert env["SSL_CERT_FILE"] == "/some/ca.pem"
    assert env["PIP_CONFIG_FILE"] == os.devnull


@pytest.mark.full("agent")
def test_locks_are_what_their_inputs_give() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/locks", "--check"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("as its inputs give") == len(PAIRS) + len(PYTHONS)
