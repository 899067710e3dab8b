"""Elements that tests make for one build."""

from __future__ import annotations

from pathlib import Path


def write_hook(elements: Path, hook: str, script: str) -> None:
    """Make an element with one hook, `ELEMENT/PHASE.d/NAME`, that runs `script` with bash."""
    path = elements / hook
    path.parent.mkdir(parents=True)
    path.write_text(f"#!/bin/bash\nset -eu -o pipefail\n{script}\n")
    path.chmod(0o755)
