"""Nights of two images and a mirror list with nothing to do: how long, and what is asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.pipeline.nightly import Night, Nightly, nightly
from tests.services.cloud import new_cloud

ROUNDS = 3


def measure_pipeline(directory: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """A night that does all, then some with nothing to do, below `directory`: 8 GB, 3 minutes.

    Returns, for a night (`nothing`) and one with --skip-unchanged (`skip`), the seconds of
    the best of some rounds and its requests to the cloud and the registry; of the night also
    `overhead_seconds`: what is none of its commands'.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with (
        new_cloud(directory / "cloud") as cloud,
        nightly(directory / "night", cloud, directory / "cache", directory / "images") as night,
    ):
        say("pipeline: the first night")
        first = night.run()
        # What its retire deactivates is deleted by the next one.
        night.run()
        nothing, skip = [], []
        for number in range(ROUNDS):
            say(f"pipeline: nothing to do, round {number + 1}")
            nothing.append(_round(night))
            skip.append(_round(night, "--skip-unchanged"))
    best = min(nothing, key=lambda r: r["seconds"])
    return {
        "first": {"seconds": round(first.seconds, 2)},
        "nothing": best | {"overhead_seconds": min(r["overhead_seconds"] for r in nothing)},
        "skip": min(skip, key=lambda r: r["seconds"]),
    }


def _round(night: Nightly, *options: str) -> dict[str, Any]:
    proxies = (*night.cloud.proxies.all(), night.proxy)
    for proxy in proxies:
        proxy.reset()
    done = night.run(*options)
    wanted = {"skipped"} if options else {"unchanged"}
    images = {s for c, s in done.cells.items() if not c.startswith("mirror-")}
    assert images == wanted, done.cells
    return {
        "seconds": round(done.seconds, 2),
        "overhead_seconds": round(done.seconds - _commands(done), 2),
        "requests": sum(p.count() for p in proxies),
    }


def _commands(night: Night) -> float:
    """Seconds that a night's commands took, one after the other."""
    return sum(a.seconds for c in night.report.cells for p in c.phases for a in p.attempts)
