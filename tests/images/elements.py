"""Elements that tests make for one build."""

from __future__ import annotations

import shutil
from pathlib import Path

from imagebuild.data import elements_dir


def write_hook(elements: Path, hook: str, script: str) -> None:
    """Make an element with one hook, `ELEMENT/PHASE.d/NAME`, that runs `script` with bash."""
    path = elements / hook
    path.parent.mkdir(parents=True)
    path.write_text(f"#!/bin/bash\nset -eu -o pipefail\n{script}\n")
    path.chmod(0o755)


def other_agent_element(elements: Path) -> list[str]:
    """Options for an agent's element of one's own: another environment on the same base."""
    own = elements / "trove-guest-agent"
    shutil.copytree(elements_dir() / own.name, own)
    with (own / "README.md").open("a") as file:
        file.write(f"\nNot the same as any other: {elements}\n")
    return ["--elements-path", str(elements)]
