"""Whatever stands behind --set, in an option or in its variable: a plan, or code 2 or 3."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from tests.cli.fuzz import Ended, check, examples, files_below, invoke, own_environment
from tests.cli.fuzz_profiles import anything, arguments, keys

SHOW = ["profile", "show", "debian", "bookworm"]
PLAN = ["build", "debian", "bookworm", "--dry-run", "--offline"]

#: Options that change a profile, each with words of its own language.
OPTIONS = {
    "--arch": ["amd64", "arm64", "arm46", "AMD64"],
    "--guest-username": ["trove", "root", "a" * 33, "-u"],
    "--root-password-file": ["/etc/hostname", "/etc/passwd", "/dev/zero", "/proc/self/mem", "x"],
    "--snapshot": ["20260101T000000Z", "2026", "20261301T000000Z"],
    "--image-size": ["8", "8G", "0", "256M", "16T", "0.5", "-1", "99999999999999999999", "٣"],
    "--agent": [
        "pypi:trove==26.0.0", "pypi:trove==9.0.0", "pypi:trove==1!2+x", "pypi:trove==x", ".", "~",
        "git+https://a.example/t@master", "git+file:///nowhere@" + "0" * 40, "git+ssh://g@h/x@y",
        "git+http://[::1/x@y", "git+http://a:99999/x@y", "/etc", "/proc/self/mem", "pypi:trove",
    ],
    "--trove-series": ["2025.1", "2026.2", "2026.9", "master"],
    "--datasource": ["ConfigDrive", "OpenStack", "None", "configdrive"],
    "--mirror": [
        "http://m.example/debian", "file:///srv", "http://u:p@m.example/", "http://[::1]:80/x",
        "http://a:99999/", "http://[a]/", "ftp://x", "//", "http://",
    ],
    "--keyring": ["/etc/hostname", "/proc/self/mem", "/dev/zero", "/dev/stdin", "x", "~"],
    "--elements-path": ["/etc", "/nowhere", ".", "/proc/self/mem", "/proc/self", "/dev"],
    "--element": ["package-installs", "agent:package-installs", "base:vm", ":x", "nosuch:x",
                  "ubuntu", "operating-system", "agent:trove-docker", "imagebuild-distro"],
    "--package": ["vim", "vim=1", "-vim", "vim-", "python3"],
    "--preload": ["a:1", "a:1=b:2", "a", "a:1=", "=", "a:1=b:2=c:3", "h:5000/a@sha256:0", "Ä:1"],
    "--timeout": ["9h", "base=1h", "none", "disk=none", "=1h", "a=b=c", "9999h", "disk=0s"],
    "--set": [
        "disk.size=1T", "packages+=[x]", "disk=7", "=x", "a..b=1", "disk.size", "python=3.99",
        "python=3.13", "python=3.9", "name=x", "extends=x", "formats=[raw, qcow2]", "disk+=1",
        "mirror=~", "docker.source=docker-ce", "ca_certificates=[/dev/zero]", "timeout.build=~",
        "ca_certificates=[/etc/hostname]", "elements.path=[/etc]", "disk={size: 6G}",
        "mirror.snapshot=20250101T000000Z", "mirror.snapshot_url='http://a/[{snapshot}]/x'",
        "mirror.snapshot_url='http://[{snapshot}]/x'", "disk: {", "mirror.security=~",
        "docker={source: docker.io}", "release=trixie", "docker.registries=[{host: a}]",
        "docker.registries=[{host: a, ca: /dev/zero}]", "docker.registries.host=a",
        "docker.registries+={host: a}", "docker.registries=[1, [2], {host: a}, {host: a}]",
        "os=ubuntu", "mirror.suites=[]",
    ],
    "--profiles-path": [".", "/nowhere", "/etc", "/proc/self/fd", "/dev/null"],
}  # fmt: skip
PLACES = {
    "-o": ["x.qcow2", "x.raw", "~nobody-here/x.raw", "x.", "x.QCOW2", "/nowhere/x.qcow2",
           "{name}.raw", ".raw", "."],
    "--artifacts": [".", "/", "/dev/null", "{name}", "~nobody-here"],
    "--images-dir": [".", "/", "/dev/null", "{name}", "~nobody-here"],
    "--cache-dir": [".", "/", "/dev/null", "a b", "a:b", "~nobody-here", "~"],
}  # fmt: skip
FLAGS = ("VERBOSE", "QUIET", "NO_COLOR", "JSON", "OFFLINE", "DRY_RUN", "ORIGIN", "HELP")
VARIABLES = {
    **{name.strip("-").upper().replace("-", "_"): words for name, words in OPTIONS.items()},
    "OUTPUT": ["x.raw:y.qcow2", ":", "x"],
    "ARTIFACTS": PLACES["--artifacts"],
    "IMAGES_DIR": PLACES["--images-dir"],
    "CACHE_DIR": PLACES["--cache-dir"],
    **{name: ["1", "0", "true", "", "maybe"] for name in FLAGS},
}
word = arguments | st.sampled_from(
    [text for words in (*OPTIONS.values(), *PLACES.values()) for text in words]
)


def of(table: dict[str, list[str]]) -> st.SearchStrategy[tuple[str, str]]:
    """A name of the table with one of its own words, mostly, or with anything."""
    fitting = st.sampled_from([(name, text) for name, words in table.items() for text in words])
    return fitting | fitting | st.tuples(st.sampled_from(sorted(table)), word)


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own_environment(monkeypatch, tmp_path)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)


def planned(argv: Sequence[str], env: Mapping[str, str] | None = None) -> Ended:
    """`build --dry-run --offline --json`: a document, the same each time, or an error."""
    ended = check(invoke([*PLAN, "--json", *argv], env))
    if ended.code == 0 and ended.out.startswith("{"):
        assert ended.document["schema_version"] == 1
        assert check(invoke([*PLAN, "--json", *argv], env)).out == ended.out
        if "IMAGEBUILD_JSON" not in (env or {}):
            assert check(invoke([*PLAN, *argv], env)).code == 0  # the text for people
    return ended


@examples(150)
@given(
    sets=st.lists(of({"--set": OPTIONS["--set"]}).map(lambda pair: pair[1]), min_size=1, max_size=3)
)
@example(["disk.size=\x1b[31m"])
def test_any_text_behind_set(sets: list[str]) -> None:
    ended = check(invoke([*SHOW, *(f"--set={text}" for text in sets)]))
    assert ended.code in (0, 3)
    assert ended.code == 0 or "--set" in ended.err


@examples(150)
@given(
    key=keys,
    sign=st.sampled_from(["=", "+=", " = ", "==", "++="]),
    value=word | anything.map(lambda v: yaml.safe_dump(v, default_flow_style=True, width=10**6)),
)
def test_any_value_for_a_known_key(key: str, sign: str, value: str) -> None:
    ended = check(invoke([*SHOW, "--set", f"{key}{sign}{value}".replace("\0", "")]))
    assert ended.code in (0, 3)


@examples(120)
@given(given_=st.lists(of(OPTIONS), min_size=1, max_size=3))
def test_any_text_in_an_option(tmp_path: Path, given_: list[tuple[str, str]]) -> None:
    before = files_below(tmp_path)
    planned([f"{name}={text}" for name, text in given_])
    assert files_below(tmp_path) == before, "a dry run has touched something"


@examples(60)
@given(given_=st.lists(of(PLACES), min_size=1, max_size=2))
@example([("-o", "~nobody-here/x.raw")])
def test_any_place(tmp_path: Path, given_: list[tuple[str, str]]) -> None:
    before = files_below(tmp_path)
    planned([part for name, text in given_ for part in (name, text)])
    assert files_below(tmp_path) == before


@examples(120)
@given(pairs=st.lists(of(VARIABLES), min_size=1, max_size=3))
def test_any_text_in_the_environment(tmp_path: Path, pairs: list[tuple[str, str]]) -> None:
    before = files_below(tmp_path)
    # A variable that is set to nothing counts as one that is not set.
    planned([], {f"IMAGEBUILD_{name}": text for name, text in pairs})
    assert files_below(tmp_path) == before


@examples(100)
@given(argv=st.lists(word | st.sampled_from(["build", "profile", "show", "--", "-"]), max_size=4))
@example(["build", "\x1b[31mdebian", "bookworm"])
@example(["\x1b[31m"])
@example(["build", "--\x1b[31m"])
@example(["profile", "validate"])
def test_any_command_line(argv: list[str]) -> None:
    check(invoke([*argv, "--dry-run", "--offline"]))
    check(invoke(["profile", "show", *argv]))


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["-o", "~nobody-here/x.raw"], 2, "the home directory in ~nobody-here/x.raw is not known"),
        (["--artifacts", "~nobody-here"], 2, "where: --artifacts ~nobody-here"),
        (["--images-dir", "~nobody-here"], 2, "where: --images-dir ~nobody-here"),
        (["--cache-dir", "~nobody-here"], 2, "where: --cache-dir ~nobody-here"),
        (["--keyring", "a/" * 3000], 3, "too long for a path"),
        (["--keyring", "x" * 300], 3, "too long for a path"),
        (["--keyring", "/proc/self/mem"], 3, "where: /proc/self/mem"),
        (["--profiles-path", "a/" * 3000], 3, "not a directory"),
        (["--elements-path", "/nowhere"], 3, "where: /nowhere"),
        (["--agent", "pypi:trove==x"], 3, "where: trove x"),
        (["--set", 'disk.size="\\UFFFFFFFF"'], 3, "where: --set disk.size:1"),
        (["--set", "ca_certificates=[/dev/zero]"], 3, "a device, not a regular file"),
        (["--\x1b[31m"], 2, "--\\x1b[31m"),
        (["-o", "\x1b[31m\nerror: x.img"], 2, "\\x1b[31m\\nerror: x.img"),
    ],
)
def test_what_is_refused_and_how(argv: list[str], code: int, words: str) -> None:
    ended = planned(argv)
    assert ended.code == code, ended
    assert words in ended.err


@pytest.mark.parametrize(
    "text", ["disk=" + "[" * 3000, "packages=" + "9" * 5000, "disk.size=" + "9" * 9]
)
def test_values_that_are_too_much(text: str) -> None:
    assert check(invoke([*SHOW, "--set", text])).code == 3


@pytest.mark.parametrize("kind", ["certificate", "docker's key"])
def test_files_of_a_profile_are_not_waited_for(tmp_path: Path, kind: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    if kind == "certificate":
        ended = planned([f"--set=ca_certificates=[{tmp_path}/pipe]"])
    else:
        argv = [f"--set=docker.repository.key={tmp_path}/pipe"]
        ended = check(invoke(["build", "ubuntu", "jammy", "--dry-run", "--offline", *argv]))
    assert ended.code == 3
    assert f"where: {tmp_path}/pipe" in ended.err
    assert "a named pipe" in ended.err


@pytest.mark.parametrize(
    "pem",
    [
        "-----BEGIN CERTIFICATE-----\nMIIB\n",
        "-----BEGIN CERTIFICATE-----\n$$$\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n-----BEGIN CERTIFICATE-----",
        "-----BEGIN CERTIFICATE-----" * 30000,
    ],
)
def test_a_damaged_certificate_is_not_left_out(tmp_path: Path, pem: str) -> None:
    (tmp_path / "ca.pem").write_text(pem)
    ended = planned([f"--set=ca_certificates=[{tmp_path}/ca.pem]"])
    assert ended.code == 3
    assert "a PEM certificate is damaged" in ended.err
    assert f"where: {tmp_path}/ca.pem" in ended.err


@pytest.mark.parametrize("text", ["²", "9" * 5000, "-1", "1e9", "0x1", "yesterday", " 1"])
def test_a_build_time_that_is_no_number(text: str) -> None:
    ended = planned([], {"SOURCE_DATE_EPOCH": text})
    assert ended.code == 3
    assert "where: environment SOURCE_DATE_EPOCH=" in ended.err


def test_a_variable_called_version_is_somebody_else_s() -> None:
    assert planned([], {"IMAGEBUILD_VERSION": "1.2.3"}).document["schema_version"] == 1


def test_the_build_time_is_taken_over() -> None:
    document = planned([], {"SOURCE_DATE_EPOCH": "1700000000"}).document
    assert document["stages"][0]["environment"]["SOURCE_DATE_EPOCH"] == "1700000000"


def test_any_bytes_of_an_output_name_are_in_the_document(tmp_path: Path) -> None:
    place = tmp_path / os.fsdecode(b"\xff\x1b[31m\x9b\xc2\x9b:key:.raw")
    ended = planned(["-o", str(place)])
    assert ended.code == 0
    assert ended.document["outputs"]["places"] == [str(place)]
    shown = check(invoke([*PLAN, "-o", str(place)])).out
    assert f"also      {tmp_path}/\\udcff\\x1b[31m" in shown
