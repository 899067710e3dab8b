"""An upload by `imagebuild upload` and by `openstack image create`, side by side.

Both talk to the same real Glance, and wait for it: hashing and storing is the service's work
and takes it the longer part. The client's own share is its processors' time, from the start
of its interpreter to its end; the clock's is measured, too.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from imagebuild.host.run import base_env
from tests.services.cloud import TestCloud, new_cloud
from tests.services.publishing import Published, make

MIB = 1 << 20
#: Of the image; the small one shows what memory goes with the size.
SIZE, SMALL = 1024 * MIB, 32 * MIB
ROUNDS = 3
_CLOUD = "demo"


@dataclass(frozen=True)
class Run:
    """What a command took: seconds on the clock, of processors, and KiB at its peak."""

    seconds: float
    cpu_seconds: float
    peak_kib: int


def measure_upload(directory: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Both tools in turn, some rounds, below `directory`: 3 GB and two minutes.

    Returns, for each, the best run of `SIZE` and the memory of one of `SMALL`.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with new_cloud(directory / "cloud") as cloud:
        tools = {"ours": _ours, "openstack": _openstack}
        small = make(cloud, directory / "small", size=SMALL)
        # The first run of each compiles its modules, and is not counted.
        flat = {
            name: [_run(directory, small, tool) for _ in range(2)][-1].peak_kib
            for name, tool in tools.items()
        }
        published = make(cloud, directory / "large", size=SIZE)
        runs: dict[str, list[Run]] = {name: [] for name in tools}
        for number in range(ROUNDS):
            for name in sorted(tools, reverse=bool(number % 2)):
                say(f"upload of {SIZE // MIB} MiB: {name}, round {number + 1}")
                runs[name].append(_run(directory, published, tools[name]))
    return {name: _best(found) | {"small_peak_kib": flat[name]} for name, found in runs.items()}


def _best(runs: Sequence[Run]) -> dict[str, float]:
    """The least of each measure: others on the machine only ever add to it."""
    rows = [asdict(run) for run in runs]
    return {key: min(row[key] for row in rows) for key in rows[0]}


def _run(
    directory: Path,
    published: Published,
    tool: Callable[[Published], tuple[list[str], dict[str, str]]],
) -> Run:
    """One upload by a tool: it must have worked, and leaves nothing."""
    argv, env = tool(published)
    report = directory / "measured.json"
    launcher = [sys.executable, "-IS", str(Path(__file__).with_name("measured.py"))]
    subprocess.run([*launcher, str(report), *argv], env=env, check=True, capture_output=True)
    cloud = published.cloud
    (file,) = (cloud.directory / "images").iterdir()
    assert file.stat().st_size == published.image.stat().st_size
    cloud.reset()
    return Run(**json.loads(report.read_text()))


def _ours(published: Published) -> tuple[list[str], dict[str, str]]:
    return published.argv(f"--cloud={_CLOUD}", "--datastore=mysql"), published.environ()


def _openstack(published: Published) -> tuple[list[str], dict[str, str]]:
    """The client of the cloud's own environment, with what ours says of the image."""
    cloud: TestCloud = published.cloud
    argv = [
        str(cloud.venv / "bin/python"), str(cloud.venv / "bin/openstack"), "image", "create",
        f"--os-cloud={_CLOUD}", "--disk-format=qcow2", "--container-format=bare",
        f"--file={published.image}", "--tag=trove", "--tag=mysql",
        "--property=hw_rng_model=virtio", "--private", published.artifact.name,
    ]  # fmt: skip
    return argv, base_env(HOME=str(cloud.venv / "home"), **cloud.environ())
