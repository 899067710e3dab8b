"""Two machines that share stages: what it takes to make them, and to pull them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from imagebuild.host.run import run
from tests.images.builds import REPO, bookworm_argv
from tests.registry_server import RegistryServer

pytestmark = [pytest.mark.image, pytest.mark.full("pipeline")]


def build(home: Path, url: str, *options: str) -> dict[str, Any]:
    """Seconds of a build by a machine that has nothing yet: in all, by stage, of each pull."""
    home.mkdir()
    places = ("--cache-dir", str(home / "cache"), "--images-dir", str(home / "images"))
    environ = {**os.environ, "HOME": str(home), "PYTHONPATH": str(REPO)}
    argv = bookworm_argv("--store-remote", url, *places, *options)
    started = time.monotonic()
    done = subprocess.run(argv, env=environ, capture_output=True, text=True, check=False, cwd=home)
    seconds = time.monotonic() - started
    assert done.returncode == 0, done.stderr
    moved = re.findall(r"^(\w+): ([\d.]+) MB (to|from) oci://\S+ in ([\d.]+) s", done.stderr, re.M)
    artifact = next(p for p in (home / "images").iterdir() if p.is_symlink())
    timing = json.loads((artifact / "timing.json").read_text())
    return {
        "seconds": round(seconds, 1),
        "stages": {s["stage"]: s["seconds"] for s in timing["stages"]},
        "moved": {f"{kind} {way}": (float(mb), float(s)) for kind, mb, way, s in moved},
    }


def test_what_is_pulled_is_there_sooner_than_what_is_made() -> None:
    directory = Path(tempfile.mkdtemp(prefix="imagebuild-bench-", dir="/var/tmp"))
    try:
        with RegistryServer(directory / "registry") as server:
            url = f"oci://{server.host}/bench/store"
            cold = build(directory / "cold", url)
            # Another disk: the trees come, the image is made.
            trees = build(directory / "trees", url, "--set", "disk.size=6G")
            whole = build(directory / "whole", f"{url}?ro")
    finally:
        sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
        run([*sudo, "rm", "-rf", "--one-file-system", directory], check=False)
    print(json.dumps({"cold": cold, "trees": trees, "whole": whole}, indent=1))
    assert sorted(trees["moved"]) == [
        "agent from", "base from", "environment from", "formats to",
    ]  # fmt: skip
    assert list(whole["moved"]) == ["formats from"]
    assert trees["stages"]["base"] < cold["stages"]["base"] / 2
    assert trees["stages"]["agent"] < cold["stages"]["agent"]
    assert trees["seconds"] < cold["seconds"]
    assert whole["seconds"] < cold["seconds"] / 4
