"""Name the requirements of a Trove source that this Python does not meet, one a line.

    python dev-requirements.py SOURCE

Runs in the guest, with the agent's venv, at every start of a dev image's agent.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement


def unmet(lines: list[str]) -> Iterator[str]:
    """What is missing or has another version; options and URLs are left to pip."""
    for line in lines:
        text = line.partition("#")[0].strip()
        try:
            wanted = Requirement(text)
        except InvalidRequirement:
            continue
        if wanted.marker and not wanted.marker.evaluate():
            continue
        try:
            found = version(wanted.name)
        except PackageNotFoundError:
            yield f"{text} (missing)"
            continue
        if not wanted.specifier.contains(found, prereleases=True):
            yield f"{text} (the image has {found})"


if __name__ == "__main__":
    requirements = Path(sys.argv[1], "requirements.txt")
    if requirements.exists():
        for problem in unmet(requirements.read_text().splitlines()):
            sys.stdout.write(f"{problem}\n")
