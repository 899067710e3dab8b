"""Trove's own code of every supported series, to be run beside what we say of it.

The packages are those of tests/services; Trove's wheel of the series comes before them.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any

from imagebuild.agent.files import FileCache
from imagebuild.agent.locks import AGENT, agent_lock
from imagebuild.agent.series import SERIES, get_series
from imagebuild.host.scratch import lock
from tests.services.environment import cache, environment

NAMES = tuple(s.name for s in SERIES)
_HERE = Path(__file__).parent


@functools.cache
def tree(series: str) -> Path:
    """The release's code, unpacked; kept from session to session."""
    release = get_series(series)
    pin = agent_lock(release, release.pythons[-1]).pin(AGENT)
    kept = cache()
    final = kept / f"trove-{pin.version}"
    kept.mkdir(parents=True, exist_ok=True)
    with lock(kept / f".{final.name}.lock"):
        if not final.is_dir():
            files = FileCache(
                kept / "wheels", release.pythons[-1], "x86_64", env=os.environ, offline=False
            )
            wheel = files.fetch([pin])[0].path
            files.close()
            draft = kept / f".{final.name}.partial"
            shutil.rmtree(draft, ignore_errors=True)
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(draft)
            draft.rename(final)
    return final


def ask(series: str, program: str, document: object) -> Any:  # noqa: ANN401 - JSON
    """Run one of our programs with Trove's code of a series: JSON in, JSON out."""
    python = environment(cache()) / "bin/python"
    done = subprocess.run(
        [python, "-W", "ignore", _HERE / program],
        input=json.dumps(document),
        env={"PYTHONPATH": str(tree(series)), "PATH": os.environ["PATH"]},
        cwd=_HERE,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)
