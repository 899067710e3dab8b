"""scripts/trovestack: its command lines, run."""

from __future__ import annotations

import json
import os
import pwd
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from imagebuild import trovestack
from imagebuild.cli.trovestack import Runner
from imagebuild.stages.devmode import AUTHORIZED_KEYS

ROOT = Path(__file__).resolve().parents[2]
USER = pwd.getpwuid(os.geteuid()).pw_name
LINE = 'restrict,command="x" ssh-ed25519 AAAA trove-guest-ubuntu-noble-amd64-dev-1a2b3c4d\n'

#: Stands for the commands of imagebuild: writes down what it is given.
STUB = """\
import json, os, sys
words = sys.argv[2:]
seen = {"argv": words, "env": dict(os.environ), "content": ""}
if "--root-password-file" in words:
    file = words[words.index("--root-password-file") + 1]
    seen["content"] = open(file).read()
    seen["mode"] = oct(os.stat(file).st_mode & 0o777)
    seen["file"] = file
with open(sys.argv[1] + "/seen", "a") as out:
    out.write(json.dumps(seen) + "\\n")
if words[0] == "build":
    print(json.dumps({"artifact": sys.argv[1] + "/artifact"}))
sys.exit(int(os.environ.get("FAILS") == words[0]) * 6)
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A checkout of Trove, as far as the script looks, with the script in its place."""
    scripts = tmp_path / "trove/integration/scripts"
    scripts.mkdir(parents=True)
    (scripts / "trovestack").symlink_to(ROOT / "scripts/trovestack")
    (tmp_path / "artifact/dev").mkdir(parents=True)
    (tmp_path / "artifact" / AUTHORIZED_KEYS).write_text(LINE)
    (tmp_path / "stub").write_text(STUB)
    return tmp_path


def environment(tree: Path, **more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("IMAGEBUILD_")}
    return kept | {"HOME": str(tree), "PYTHONPATH": str(ROOT), "NO_COLOR": "1"} | more


def shim(tree: Path, *argv: str, **env: str) -> subprocess.CompletedProcess[str]:
    """The script's Python half, as the script calls it."""
    called_as = tree / "trove/integration/scripts/trovestack"
    return subprocess.run(
        [sys.executable, "-m", "imagebuild.cli.trovestack", str(called_as), *argv],
        env=environment(tree, **env), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def run_stubbed(tree: Path, *argv: str, **env: str) -> tuple[int, list[dict[str, object]]]:
    """Run a translation with a stub in imagebuild's place: exit code, and what it was given."""
    (tree / "seen").unlink(missing_ok=True)
    host = trovestack.Host(
        user=USER, home=tree, called_as=tree / "trove/integration/scripts/trovestack",
        head=lambda _: None, exists=lambda path: path.exists(), which=lambda _: None,
    )  # fmt: skip
    found = trovestack.translate(argv, env, host)
    program = [sys.executable, str(tree / "stub"), str(tree)]
    code = Runner(found, environment(tree, **env), program).run()
    return code, [json.loads(x) for x in (tree / "seen").read_text().splitlines()]


def test_a_dry_run_says_what_is_done_and_changes_nothing(tree: Path) -> None:
    """The whole way: translated, handed to `imagebuild build`, planned."""
    done = shim(
        tree, "build-and-upload-image", "debian", "bookworm", "false", "ubuntu", str(tree / "out"),
        IMAGEBUILD_DRY_RUN="1", IMAGEBUILD_OFFLINE="1", GUEST_IMAGESIZE="7",
        GUEST_CACHEDIR=str(tree / "cache"), DATASTORE_TYPE="mysql", DATASTORE_VERSION="8.4",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "disk" in done.stdout
    lines = done.stderr.splitlines()
    assert any(x.startswith("trovestack: GUEST_CACHEDIR=") and "not used" in x for x in lines)
    assert any(x.startswith("trovestack: imagebuild build debian bookworm ") for x in lines)
    assert any(x.startswith("then: imagebuild upload ") for x in lines)
    assert not (tree / "out").exists()


def test_a_dev_images_key_is_let_in(tree: Path) -> None:
    keys = tree / "keys"
    code, seen = run_stubbed(tree, "build-image", "ubuntu", "noble", SSH_DIR=str(keys))
    assert code == 0
    assert [s["argv"][0] for s in seen] == ["build"]  # type: ignore[index]
    file = keys / "authorized_keys"
    assert file.read_text() == LINE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_production_image_lets_nobody_in(tree: Path) -> None:
    keys = tree / "keys"
    code, _ = run_stubbed(tree, "build-image", "ubuntu", "noble", "false", SSH_DIR=str(keys))
    assert code == 0
    assert not keys.exists()


def test_a_password_travels_in_a_file_of_ones_own(tree: Path) -> None:
    env = {"TROVE_ROOT_PASSWORD": "geheim 1"}
    code, (seen,) = run_stubbed(tree, "build-image", "ubuntu", "noble", "false", **env)
    assert code == 0
    assert seen["content"] == "geheim 1\n"
    assert seen["mode"] == "0o600"
    assert "geheim" not in json.dumps([seen["argv"], seen["env"]])
    assert not Path(str(seen["file"])).exists()


def test_upload_follows_the_build_and_a_failure_ends_it(tree: Path) -> None:
    env = {"DATASTORE_TYPE": "mysql", "DATASTORE_VERSION": "8.4"}
    argv = ("build-and-upload-image", "ubuntu", "noble", "false")
    code, seen = run_stubbed(tree, *argv, **env)
    assert code == 0
    commands = [s["argv"] for s in seen]
    assert [c[0] for c in commands] == ["build", "verify", "upload", "datastore"]  # type: ignore[index]
    assert commands[1][1] == str(tree / "artifact")  # type: ignore[index]
    code, seen = run_stubbed(tree, *argv, **env, FAILS="upload")
    assert code == 6
    assert [s["argv"][0] for s in seen] == ["build", "verify", "upload"]  # type: ignore[index]


def test_other_verbs_are_passed_on(tree: Path) -> None:
    real = tree / "trove/integration/scripts/trovestack.real"
    real.write_text('#!/bin/sh\necho "real: $0 $*"\n')
    real.chmod(0o755)
    done = shim(tree, "install-docker", "--now")
    assert (done.returncode, done.stdout) == (0, f"real: {real} install-docker --now\n")
    other = tree / "other"
    real.rename(other)
    done = shim(tree, "gate-tests", "mysql", TROVESTACK_REAL=str(other))
    assert done.stdout == f"real: {other} gate-tests mysql\n"
    assert "builds its image by itself" in done.stderr


@pytest.mark.parametrize("env", [{}, {"TROVESTACK_REAL": str(ROOT / "scripts/trovestack")}])
def test_without_a_real_one_they_are_refused(tree: Path, env: dict[str, str]) -> None:
    """Nor does the script call itself."""
    done = shim(tree, "install-docker", **env)
    assert done.returncode == 2
    assert "error: install-docker is not done by imagebuild" in done.stderr
    assert "TROVESTACK_REAL=PATH" in done.stderr
    assert shim(tree, **env).returncode == 2


def test_the_script_reads_trovestacks_options_and_knows_its_place(tree: Path) -> None:
    """Called by a link, with stubs for what installs and for Python."""
    copy = tree / "tool/scripts"
    copy.mkdir(parents=True)
    (copy / "trovestack").write_text((ROOT / "scripts/trovestack").read_text())
    (copy / "trovestack").chmod(0o755)
    (copy / "setup.sh").write_text(
        'repo=$(dirname "$(dirname "$(readlink -f "$0")")")\nbuild_packages=(a)\n'
        "refresh_apt() { :; }\nkeyring_packages() { echo k; }\n"
        'need_packages() { echo "needs $*"; }\nneed_venv() { :; }\n'
    )
    python = tree / "tool/.venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "$*; size $GUEST_IMAGESIZE; release $RELEASE_NAME"\n')
    python.chmod(0o755)
    link = tree / "trove/integration/scripts/trovestack"
    link.unlink()
    link.symlink_to(copy / "trovestack")
    (tree / ".trovestack.options.rc").write_text('GUEST_IMAGESIZE=9\n: "$NOT_SET"\nfalse\n')
    (link.parent / "options.rc").write_text("RELEASE_NAME=noble\n")

    def run(*argv: str) -> str:
        return subprocess.run(
            [str(link), *argv], env=environment(tree), capture_output=True, text=True, check=True
        ).stdout

    called = f"-m imagebuild.cli.trovestack {link}"
    assert run("build-image", "a b") == (
        f"needs a\nneeds k\n{called} build-image a b; size 9; release noble\n"
    )
    assert run("install") == f"{called} install; size 9; release noble\n"
