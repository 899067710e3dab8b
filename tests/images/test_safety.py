"""The two production images are safe to hand out, and the checks would tell if not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from imagebuild.host.run import run, sparse_copy_argv
from imagebuild.verify.checks.base import Expected
from imagebuild.verify.safety import check_safety
from imagebuild.verify.tree import Tree, open_image
from tests.images.builds import CANARIES, Built

pytestmark = pytest.mark.image

PRODUCTION = Expected("ubuntu")
#: Jammy's profile has a private registry with a password.
REGISTRY = ("/root/.docker/config.json", "/home/ubuntu/.docker/config.json")
EXPECTED = {"bookworm": PRODUCTION, "jammy": Expected("ubuntu", credentials=REGISTRY)}
SECRETS = {canary: canary.encode() for canary in CANARIES}


def test_image_has_no_finding(built: Built) -> None:
    assert check_safety(built.fs.tree, EXPECTED[built.name], secrets=SECRETS) == []


def test_sins_in_a_real_image_are_found(bookworm: Built, tmp_path: Path) -> None:
    raw, canary = tmp_path / "sinful.raw", tmp_path / "canary"
    run(sparse_copy_argv(bookworm.fs.raw, raw))
    canary.write_text(f"token = {CANARIES[0]}\n")
    shadow = tmp_path / "shadow"
    shadow.write_text(re.sub("(?m)^root:[^:]*", "root:", bookworm.fs.read("/etc/shadow")))
    key = tmp_path / "key"
    run(["ssh-keygen", "-q", "-N", "", "-t", "ed25519", "-f", key])
    commands = [
        "cd /etc", "rm shadow", f"write {shadow} shadow",
        f"write {key} imagebuild.txt",
        "sif /usr/bin/python3.11 mode 0104755",
        # Last: the next file would take the free block.
        f"write {canary} gone", "rm gone",
    ]  # fmt: skip
    device = f"{raw}?offset={bookworm.fs.tree.offset}"
    run(["debugfs", "-w", "-f", "-", device], input="\n".join([*commands, ""]).encode())
    found = check_safety(Tree(raw), PRODUCTION, secrets=SECRETS)
    assert {(f.check, f.path) for f in found} == {
        ("accounts.passwords", "/etc/shadow"),
        ("keys.private", "/etc/imagebuild.txt"),
        ("permissions.privileged", "/usr/bin/python3.11"),
        ("secrets.environment", "a block of the root filesystem that no file owns"),
    }


def test_environment_is_not_beside_the_images(jammy: Built) -> None:
    """No credential of the environment or a registry is in a manifest, list, log or message."""
    places = [p for p in jammy.artifact.iterdir() if p.suffix not in (".qcow2", ".raw")]
    places += list((jammy.cache / "logs").iterdir())
    for canary in CANARIES:
        for place in places:
            assert canary.encode() not in place.read_bytes(), place
        assert canary not in jammy.stderr


def test_reader_agrees_with_e2fsprogs(bookworm: Built, tmp_path: Path) -> None:
    """Names, contents and links of a part of a real image."""
    ours = bookworm.fs.extract("/usr/share/doc", tmp_path / "ours")
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    run(["debugfs", "-R", f"rdump /usr/share/doc {theirs}", bookworm.fs.device])
    done = run(["diff", "--recursive", "--no-dereference", ours, theirs / "doc"], check=False)
    assert done.returncode == 0, done.stdout.decode()[:2000]
    assert sum(1 for p in ours.rglob("*") if p.is_file()) > 500


def test_qcow2_holds_the_same_files(bookworm: Built, tmp_path: Path) -> None:
    with open_image(bookworm.qcow2, tmp_path) as tree:
        assert tree.nodes.keys() == bookworm.fs.tree.nodes.keys()
