"""kill -9 of the whole tool, at points spread over a build."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from imagebuild.host.run import run
from imagebuild.store.store import Store
from tests.images import witness
from tests.images.builds import REPO, Built, bookworm_argv
from tests.images.elements import other_agent_element

pytestmark = [
    pytest.mark.image,
    pytest.mark.skipif(os.geteuid() != 0, reason="looks into every mount namespace"),
]


@dataclass(frozen=True)
class Point:
    """Where a build is killed: so many seconds after a stage, or a hook in it, began."""

    stage: str
    hook: str = ""
    after: float = 0.0


#: In the default run: on the first build's stages, one point in each kind of work.
POINTS = (
    Point("base", "root.d/08-debootstrap", 3.0),
    Point("agent"),
    Point("agent", "install.d/50-guest-agent", 1.0),
    Point("disk", after=1.0),
    Point("formats", after=1.0),
)


def start(cache: Path, tmp_path: Path, *options: str) -> subprocess.Popen[str]:
    argv = bookworm_argv(
        "--cache-dir", str(cache), "--images-dir", str(tmp_path / "images"), *options
    )
    return subprocess.Popen(argv, stderr=subprocess.DEVNULL, text=True, cwd=REPO)


def kill_at(point: Point, process: subprocess.Popen[str], cache: Path) -> set[tuple[int, str]]:
    """Kill the tool at a point; returns all the processes that it had."""

    def reached() -> bool:
        assert process.poll() is None, "the build ended before it was killed"
        return witness.has_reached(
            witness.log_of(cache, process), point.stage, point.hook.replace(".d/", "/")
        )

    witness.wait_for(reached, 600, f"{point}")
    time.sleep(point.after)
    before = witness.family(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return before


def check_nothing_lives(before: set[tuple[int, str]], cache: Path, devices: list[str]) -> None:
    witness.wait_for(
        lambda: not witness.living(before), 10, f"processes live: {witness.living(before)}"
    )
    assert witness.mounts_of(cache) == []
    assert witness.loops_of(cache) == ""
    assert witness.devices() == devices


def check_nothing_half_written(cache: Path, images: Path) -> None:
    if images.exists():
        assert [p for p in images.iterdir() if not p.name.startswith(".")] == []
    store = Store(cache / "store")
    if store.root.exists():
        names = {p.name for p in store.root.iterdir()} - {"locks", "drafts"}
        assert names == {o.key.name for o in store.objects()}
        assert [p for o in store.objects() if (p := store.problem(o.key))] == []


def clean(cache: Path) -> None:
    argv = [bookworm_argv()[0], "-m", "imagebuild", "clean", "--cache-dir", str(cache)]
    run(argv, env=dict(os.environ), cwd=REPO)
    assert witness.scratch_of(cache) == []


@pytest.mark.parametrize("point", POINTS, ids=lambda p: f"{p.stage}-{p.hook or 'start'}")
def test_killed_tool_leaves_nothing_alive(bookworm: Built, tmp_path: Path, point: Point) -> None:
    devices = witness.devices()
    # Another id from that stage on: what comes before is there already.
    change = {
        "base": ["--package", "less"],
        "agent": other_agent_element(tmp_path / "elements"),
        "disk": ["--image-size", "6G"],
        "formats": ["--set", "compression=zlib"],
    }[point.stage]
    process = start(bookworm.cache, tmp_path, *change)
    before = kill_at(point, process, bookworm.cache)
    assert len(before) > 1
    check_nothing_lives(before, bookworm.cache, devices)
    check_nothing_half_written(bookworm.cache, tmp_path / "images")
    assert len(witness.scratch_of(bookworm.cache)) == 1
    if point.stage != "formats":
        clean(bookworm.cache)
        return
    # The next build removes what is left, and succeeds.
    process = start(bookworm.cache, tmp_path, *change)
    assert process.wait() == 0
    assert witness.scratch_of(bookworm.cache) == []
    assert sorted(p.name for p in (tmp_path / "images").iterdir() if p.name[0] == ".") == []
    assert len({p.resolve() for p in (tmp_path / "images").glob("*/*.qcow2")}) == 1


def spread(built: Built, count: int) -> list[Point]:
    """Points at equal times over a whole build, from the times that one took."""
    timing = json.loads((built.artifact / "timing.json").read_text())
    steps: list[tuple[Point, float]] = []
    for stage in timing["stages"]:
        name = stage["stage"]
        hooks = timing["hooks"].get(name, [])
        known = sum(seconds for _, _, seconds in hooks)
        # What is no hook's: wheels before the agent's, the inventory after them.
        steps.append((Point(name), max(stage["seconds"] - known, 0.1)))
        steps += [(Point(name, f"{phase}.d/{hook}"), seconds) for phase, hook, seconds in hooks]
    whole = sum(seconds for _, seconds in steps)
    points = []
    for number in range(1, count + 1):
        left = whole * number / (count + 1)
        for point, seconds in steps:
            if left <= seconds:
                points.append(Point(point.stage, point.hook, round(left, 2)))
                break
            left -= seconds
    return points


@pytest.mark.full("trust")
def test_killed_at_twenty_points_of_a_whole_build(bookworm: Built, tmp_path: Path) -> None:
    """Each build starts from nothing but downloads; after three of them the next succeeds."""
    devices = witness.devices()
    cache, images = tmp_path / "cache", tmp_path / "images"
    points = spread(bookworm, 20)
    assert {p.stage for p in points} >= {"base", "agent", "formats"}
    for number, point in enumerate(points):
        process = start(cache, tmp_path, "--set", "timeout.build=none")
        before = kill_at(point, process, cache)
        check_nothing_lives(before, cache, devices)
        check_nothing_half_written(cache, images)
        assert witness.scratch_of(cache), f"{point}: killed before it began"
        if number in (5, 12, 19):
            process = start(cache, tmp_path)
            assert process.wait() == 0, f"the build after {point}"
            assert witness.scratch_of(cache) == []
            run(["rm", "-rf", images])
            clean_all = [bookworm_argv()[0], "-m", "imagebuild", "clean", "--all"]
            run([*clean_all, "--cache-dir", str(cache)], env=dict(os.environ), cwd=REPO)
