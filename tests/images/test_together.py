"""Builds that run at the same time, on the same cache and on the same output."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from imagebuild.host.run import run
from tests.images import witness
from tests.images.builds import REPO, Built, bookworm_argv
from tests.images.elements import write_hook

pytestmark = pytest.mark.image


def start(built: Built, *options: str) -> subprocess.Popen[str]:
    argv = bookworm_argv("--cache-dir", str(built.cache), *options)
    return subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, cwd=REPO)


def test_builds_at_the_same_time(bookworm: Built, tmp_path: Path) -> None:
    output, other, elements = (tmp_path / n for n in ("one", "other", "elements"))
    write_hook(elements, "site-together/install.d/60-nap", "sleep 10")
    own = ["--elements-path", str(elements), "--element", "agent:site-together"]
    first = start(bookworm, "--artifacts", str(output), *own)
    witness.wait_for(
        lambda: witness.has_reached(witness.log_of(bookworm.cache, first), "agent"), 300, "agent"
    )
    # The same output: refused, or waited for, as asked.
    refused = start(bookworm, "--artifacts", str(output), *own)
    _, said = refused.communicate()
    assert refused.returncode == 75, said
    assert "error: another build is writing there" in said
    assert f"where: {output}" in said
    assert "--wait" in said
    waiting = start(bookworm, "--artifacts", str(output), "--wait", *own)
    # Another output from the same layers: the one that the first is making is waited for.
    beside = start(bookworm, "--artifacts", str(other), "--set", "name=together", *own)
    ends = {p: p.communicate()[1] for p in (first, waiting, beside)}
    assert [p.returncode for p in ends] == [0, 0, 0], "\n".join(ends.values())
    assert f"waiting for another build that is writing {output}" in ends[waiting]
    assert "waiting for another build, which is making the same elements" in ends[beside]
    assert "already built" in ends[beside].split("✓ agent")[1].splitlines()[0]
    for artifact in (output, other):
        run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=artifact)
    assert witness.scratch_of(bookworm.cache) == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["elements", "one", "other"]
