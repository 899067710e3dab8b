"""What checks exported job definitions, installed once, from locks with digests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from imagebuild.digest import of_value
from imagebuild.host.run import need
from imagebuild.host.scratch import lock
from tests.services import environment

_LOCKS = Path(__file__).with_name("tools")


def cache() -> Path:
    """Where they are kept. It may be removed when no test runs."""
    return environment.cache().with_name("exports")


def python_tools() -> Path:
    """The `bin` of an environment with Zuul, Ansible and actionlint."""
    if sys.version_info < (3, 11):
        pytest.skip("Zuul 14 and Ansible 2.19 need Python 3.11")
    return environment.environment(cache(), _LOCKS / "requirements.txt") / "bin"


def node_tools() -> Path:
    """The `bin` of gitlab-ci-local."""
    files = [_LOCKS / name for name in ("package.json", "package-lock.json")]
    key = of_value([f.read_text() for f in files])[:16]
    final = cache() / f"node-{key}"
    cache().mkdir(parents=True, exist_ok=True)
    with lock(cache() / f".{final.name}.lock"):
        if not final.is_dir():
            draft = cache() / f".{final.name}.partial"
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir()
            for file in files:
                shutil.copy(file, draft)
            argv = [need("npm"), "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
            done = subprocess.run(argv, cwd=draft, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"npm ci: {done.stderr[-3000:]}")
            draft.rename(final)
    return final / "node_modules/.bin"


def run(
    *argv: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """A program to its end, with what it printed; `env` comes on top."""
    return subprocess.run(
        [str(word) for word in argv], cwd=cwd, env={**os.environ, **(env or {})},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
