"""Whatever a profile's file holds, or is: a valid profile, or code 3 and where and why."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from imagebuild.data import profiles_dir
from tests.cli.fuzz import Ended, check, examples, fifo, invoke, listening, own_environment
from tests.cli.fuzz_profiles import documents
from tests.cli.test_main import environment

CHILD = "extends: debian-bookworm\n"


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own_environment(monkeypatch, tmp_path)


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode(errors="surrogatepass"))
    return path


def refused(path: Path | str, *words: str) -> Ended:
    """`profile validate` and `profile show` both end with code 3 and these words."""
    for verb in ("show", "validate"):
        ended = check(invoke(["profile", verb, str(path)]))
        assert ended.code == 3, ended
        for word in words:
            assert word in ended.err, ended
    return ended


@examples(120)
@given(text=documents())
def test_a_profile_that_is_nearly_right(tmp_path: Path, text: str) -> None:
    path = write(tmp_path / "x.yaml", text)
    checked = check(invoke(["profile", "validate", str(path)]))
    # Half a file and a key of another spelling may still be valid, and then it can be shown.
    shown = check(invoke(["profile", "show", "--origin", str(path)]))
    assert shown.code == checked.code
    as_json = check(invoke(["profile", "validate", "--json", str(path)]))
    assert as_json.code == checked.code
    assert as_json.document["files"][0]["valid"] is (checked.code == 0)
    if shown.code == 0:
        again = write(tmp_path / "again.yaml", shown.out)
        whole = [invoke(["profile", "show", str(p), "--json"]).document for p in (path, again)]
        assert whole[0]["profile"] == whole[1]["profile"]
    else:
        assert str(path) in checked.err


@examples(150)
@given(
    data=st.binary(max_size=60)
    | st.text(alphabet="ab:-[]{}&*!|>#'\"\\Ux%Y09 \t\n,?@~", max_size=40).map(str.encode)
)
@example(b'a: "\\UFFFFFFFF"')
@example(b'a: "\\U00110000"')
@example(b"%YAML 1." + b"9" * 5000 + b"\n--- a")
@example(b'"\\uD800": 1')
def test_any_bytes_as_a_profile(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(data)
    ended = check(invoke(["profile", "validate", str(path)]))
    assert ended.code == 3
    assert str(path) in ended.err


@examples(60)
@given(
    links=st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "c", "d", "_e"]),
            st.sampled_from(
                ["a", "b", "c", "d", "_e", "a.yaml", "./b.yaml", "../x.yaml", "sub/../c.yaml",
                 "debian-bookworm", "/nowhere/x.yaml", "[a, b]", "7", '""', "/", "/dev/null",
                 "~/a.yaml"]
            )
            | st.text("ab./~ ", max_size=6).map(repr),
        ),
        max_size=5,
    )
)  # fmt: skip
def test_who_extends_whom(
    tmp_path_factory: pytest.TempPathFactory, links: list[tuple[str, str]]
) -> None:
    directory = tmp_path_factory.mktemp("links")
    for name, parent in links:
        write(directory / f"{name}.yaml", f"extends: {parent}\nname: x\n")
    for name, _ in links:
        check(invoke(["profile", "validate", str(directory / f"{name}.yaml")]))
    check(invoke(["profile", "list", "--profiles-path", str(directory)]))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ("holds no profile",)),
        ("# nothing\n", ("holds no profile",)),
        ("- a\n", ("holds no profile",)),
        ("a: &x 1\nb: *x\n", ("anchors and aliases", ":1")),
        ("<<: {os: debian}\n" + CHILD, ("unknown key", ":1")),
        ("os: !!python/object/apply:os.system [id]\n", ("tags", ":1")),
        (CHILD + "---\n" + CHILD, ("not valid YAML", ":2")),
        (CHILD + "packages: [a\x1b[31m]\n", ("not valid YAML", ":2")),
        (CHILD + "arch: amd64\narch: arm64\n", ("given twice", ":3")),
        ("\tos: debian\n", ("not valid YAML", ":1")),
        (CHILD + 'name: "\\UFFFFFFFF"\n', ("too large", ":2")),
        (CHILD + 'disk: {"\\e[31mx": 1}\n', ("\\x1b[31mx", ":2")),
        (CHILD + "disk: " + "[" * 5000 + "]" * 5000, ("nested too deep", ":2")),
    ],
)
def test_files_that_are_refused(tmp_path: Path, text: str, words: tuple[str, ...]) -> None:
    refused(write(tmp_path / "x.yaml", text), str(tmp_path / "x.yaml"), *words)


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    path = write(tmp_path / "x.yaml", "\ufeff" + CHILD)
    assert check(invoke(["profile", "validate", str(path)])).code == 0


def test_aliases_of_aliases_are_refused_at_once(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    refused(write(tmp_path / "x.yaml", "\n".join(lines)), "anchors and aliases")


SPECIAL: dict[str, tuple[Callable[[Path], object], str]] = {
    "pipe": (fifo, "a named pipe"),
    "socket": (listening, "a socket"),
    "directory": (Path.mkdir, "Is a directory"),
    "endless": (lambda path: path.symlink_to("/dev/zero"), "a device"),
    "loop": (lambda path: path.symlink_to(path), "oop"),
    "dangling": (lambda path: path.symlink_to("nothing"), "No such file"),
    # A regular file, by its type, that root cannot read either.
    "unreadable": (lambda path: path.symlink_to("/proc/self/mem"), "cannot read"),
    "nothing": (lambda _: None, "No such file"),
}


@pytest.mark.parametrize("kind", SPECIAL)
def test_what_is_no_file(tmp_path: Path, kind: str) -> None:
    make, words = SPECIAL[kind]
    path = tmp_path / "x.yaml"
    make(path)
    refused(path, str(path), words)
    child = write(tmp_path / "child.yaml", "extends: ./x.yaml\n")
    refused(child, words)
    # In a directory of profiles it is passed over.
    listed = check(invoke(["profile", "list", "--profiles-path", str(tmp_path)]))
    assert listed.code == 0
    assert "debian-bookworm" in listed.out


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    path = write(tmp_path / "x.yaml", CHILD + "#" * (256 << 10))
    refused(path, "larger than 256 KiB", str(path))
    with path.open("wb") as file:
        file.truncate(1 << 40)
    refused(path, "larger than 256 KiB")


@pytest.mark.parametrize("entry", ["k{}:\n", "k{}: {{a: 1}}\n"])
def test_thousands_of_mistakes_are_counted_and_some_told(tmp_path: Path, entry: str) -> None:
    number = (250 << 10) // len(entry.format(10000))
    text = CHILD + "".join(entry.format(n) for n in range(number))
    path = write(tmp_path / "x.yaml", text)
    ended = check(invoke(["profile", "validate", str(path)]))
    assert ended.code == 3
    assert f"has {number} mistakes" in ended.err
    assert f"… and {number - 20} more" in ended.err
    assert f"{path}:2: k0: unknown key" in ended.err


def test_a_very_long_list(tmp_path: Path) -> None:
    packages = [f"p{n:x}" for n in range(40_000)]
    path = write(tmp_path / "x.yaml", CHILD + f"packages: [{','.join(packages)}]\n")
    ended = check(invoke(["profile", "show", str(path), "--json", "--set", "packages+=[p7, vim]"]))
    assert ended.document["profile"]["packages"] == [*packages, "vim"]
    write(path, CHILD + f"packages: [{','.join([*packages, 'p7'])}]\n")
    refused(path, "'p7' is listed twice")


def test_profiles_that_extend_each_other_without_end(tmp_path: Path) -> None:
    for n in range(100):
        write(tmp_path / f"p{n}.yaml", f"extends: p{n + 1}\n")
    refused(tmp_path / "p0.yaml", "more than 32 profiles extend each other", "p31.yaml:1")
    write(tmp_path / "p20.yaml", CHILD)
    assert check(invoke(["profile", "validate", str(tmp_path / "p0.yaml")])).code == 0
    write(tmp_path / "self.yaml", "extends: ./self.yaml\n")
    refused(tmp_path / "self.yaml", "goes in a circle", "self.yaml:1")


def test_a_name_is_shown_and_not_obeyed(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\x1b[2J\n\xff\xe2\x80\xae:smile:.yaml")
    write(path, CHILD)
    ended = check(invoke(["profile", "validate", str(path)]))
    assert ended.code == 0
    assert ended.out == f"{tmp_path}/\\x1b[2J\\n\\udcff\\u202e:smile:.yaml: valid\n"
    document = check(invoke(["profile", "validate", "--json", str(path)])).document
    assert document["files"][0]["file"] == str(path)
    shown = check(invoke(["profile", "show", "--origin", str(path)]))
    assert yaml.safe_load(shown.out)["os"] == "debian"
    listed = check(invoke(["profile", "list", "--profiles-path", str(tmp_path)]))
    assert len(listed.out.splitlines()) == 5
    write(path, "os: beos\n")
    ended = refused(path, "\\x1b[2J\\n\\udcff\\u202e:smile:.yaml")
    assert ended.err.count("\n") == ended.err.replace("\\n", "").count("\n")


def read_by(command: str, directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", command, sys.executable],
        env=environment(), cwd=directory, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    "command",
    [
        'cat site.yaml | "$0" -m imagebuild profile show /dev/stdin',
        '"$0" -m imagebuild profile show /dev/stdin < site.yaml',
        '"$0" -m imagebuild profile show <(sleep 0.2; cat site.yaml)',
    ],
    ids=["pipe", "file", "process"],
)
def test_a_profile_through_a_pipe(tmp_path: Path, command: str) -> None:
    write(tmp_path / "site.yaml", CHILD + "name: site\nelements: {path: [mine]}\n")
    done = read_by(command, tmp_path)
    assert done.returncode == 0, done.stderr
    shown = yaml.safe_load(done.stdout)
    assert shown["name"] == "site"
    assert shown["elements"]["path"] == [f"{tmp_path}/mine"]


def test_an_endless_pipe_and_no_input_at_all(tmp_path: Path) -> None:
    done = read_by('yes "a: 1" | "$0" -m imagebuild profile validate /dev/stdin', tmp_path)
    assert done.returncode == 3
    assert "larger than 256 KiB" in done.stderr
    done = read_by('"$0" -m imagebuild profile validate /dev/stdin < /dev/null', tmp_path)
    assert done.returncode == 3
    assert "a device, not a regular file" in done.stderr


def test_a_dash_is_no_profile() -> None:
    ended = check(invoke(["profile", "show", "-"]))
    assert ended.code == 3
    assert "/dev/stdin is what comes through a pipe" in ended.err


def test_a_directory_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    ended = check(invoke(["profile", "show", "debian", "bookworm", "--set", "elements.path=[x]"]))
    assert ended.code == 2
    assert "the current directory is not there any more" in ended.err


def test_the_shipped_profiles_come_back_as_they_went(tmp_path: Path) -> None:
    for file in sorted(profiles_dir().glob("[!_]*.yaml")):
        shown = check(invoke(["profile", "show", str(file)]))
        again = write(tmp_path / "again.yaml", shown.out)
        assert invoke(["profile", "show", str(again)]).out == shown.out
