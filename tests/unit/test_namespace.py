"""The worker's own /dev, and removal that stops at mounts (in a mount namespace: root)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from imagebuild.host.namespace import mounts_below, remove_tree
from imagebuild.host.run import run

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")

REPO = Path(__file__).resolve().parents[2]


def in_namespace(script: str, *arguments: Path) -> subprocess.CompletedProcess[bytes]:
    """Run Python code in a private mount namespace."""
    argv = ["unshare", "--mount", "--propagation", "private", sys.executable, "-c", script]
    return subprocess.run([*argv, *arguments], check=True, capture_output=True, cwd=REPO)


def test_removal_unmounts_and_spares_what_was_mounted(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("kept")
    scratch = tmp_path / "scratch"
    (scratch / "tree/with blank").mkdir(parents=True)
    in_namespace(
        """
import subprocess, sys
from pathlib import Path
from imagebuild.host.namespace import remove_tree
scratch, precious = map(Path, sys.argv[1:])
for _ in range(2):  # stacked
    subprocess.run(["mount", "--bind", precious, scratch / "tree/with blank"], check=True)
remove_tree(scratch)
assert not scratch.exists()
""",
        scratch,
        precious,
    )
    assert (precious / "file").read_text() == "kept"


def test_removal_refuses_what_stays_mounted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from imagebuild.errors import BuildError
    from imagebuild.host import namespace

    inside = tmp_path / "tree/dev"
    inside.mkdir(parents=True)
    (inside / "null").touch()
    monkeypatch.setattr(namespace, "mounts_below", lambda _: [inside])
    monkeypatch.setattr(namespace, "run", lambda argv, **_: argv)  # an umount that does nothing
    with pytest.raises(BuildError, match="still mounted"):
        remove_tree(tmp_path / "tree")
    assert (inside / "null").exists()


def test_removal_of_files_links_and_nothing(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to("target")
    remove_tree(tmp_path / "link")
    remove_tree(tmp_path / "absent")
    assert (tmp_path / "target").is_dir()
    assert not os.path.lexists(tmp_path / "link")


def test_mounts_are_found_the_deepest_first() -> None:
    found = mounts_below(Path("/"))
    assert Path("/proc") in found
    assert found[-1] == Path("/")


def test_hosts_dev_is_out_of_reach() -> None:
    before = sorted(Path("/dev").iterdir())
    done = in_namespace(
        """
import os
from imagebuild.host.namespace import private_dev
assert private_dev()
with open("/dev/null", "w") as null, open("/dev/urandom", "rb") as random:
    null.write("x"); assert len(random.read(8)) == 8
master, slave = os.openpty()
print(sorted(os.listdir("/dev")))
for name in ("null", "zero", "tty"):
    os.unlink(f"/dev/{name}")
"""
    )
    assert b"loop" not in done.stdout
    assert b"'null'" in done.stdout
    assert sorted(Path("/dev").iterdir()) == before
    run(["sh", "-c", "echo x > /dev/null"])
