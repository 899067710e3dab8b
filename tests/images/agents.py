"""Sources of guest agents that tests make from the released one."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

from imagebuild.agent.files import FileCache
from imagebuild.agent.locks import agent_lock
from imagebuild.agent.series import get_series
from imagebuild.host.run import network_env, run
from tests.images.builds import Built

#: Where a guest has the agent's packages.
SITE = "/opt/guest-agent-venv/lib/python3.11/site-packages"
#: The module that tells agents apart.
MARKER = "trove/imagebuild_marker.py"


def agent_source(built: Built, place: Path, mark: str) -> Path:
    """The source of the agent that was released, with one module more, in a new directory."""
    lock = agent_lock(get_series("2026.2"), "3.11")
    pin = next(p for p in lock.pins if p.name == "trove")
    # Of the release's two files, the one that is not the wheel.
    hashes = frozenset(pin.hashes) - {lock.header["agent-wheel"]}
    pin = dataclasses.replace(pin, hashes=hashes)
    files = FileCache(built.cache / "sources", "3.11", "x86_64", env=network_env(), offline=False)
    try:
        sdist = files.fetch([pin], sdists={"trove"})[0]
    finally:
        files.close()
    # The archive's owner is not ours, and git reads only what is.
    place.mkdir(parents=True)
    run(["tar", "--no-same-owner", "--strip-components=1", "-C", place, "-xf", sdist.path])
    (place / MARKER).write_text(f"MARK = {mark!r}\n")
    return place


def other_agent(source: Path, place: Path, mark: str) -> Path:
    """A copy of an agent's source with another mark."""
    shutil.copytree(source, place)
    (place / MARKER).write_text(f"MARK = {mark!r}\n")
    return place
