"""Builds of imagebuild, as its users run it, with their times."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagebuild.errors import BuildError
from imagebuild.host.run import run
from tests.bench.plain import REPO
from tests.images.builds import standin_options
from tests.images.standin import Standin

#: What is kept of a cache for a build that starts from nothing but downloads.
DOWNLOADS = ("dib", "sources")


@dataclass
class Result:
    """One run of the command: wall and CPU seconds, what timing.json says, the artifact."""

    seconds: float
    cpu: float
    artifact: Path
    timing: dict[str, Any]

    @property
    def image(self) -> Path:
        return next(self.artifact.glob("*.qcow2"))

    def to_json(self) -> dict[str, Any]:
        return {
            "seconds": round(self.seconds, 2),
            "cpu_seconds": round(self.cpu, 2),
            "image_bytes": self.image.stat().st_size,
            "stages": self.timing["stages"],
            "hooks": [
                [stage, *hook] for stage, hooks in self.timing["hooks"].items() for hook in hooks
            ],
        }


class Builder:
    """The command with a cache and a directory of images of its own, below `directory`."""

    def __init__(self, directory: Path, archive: Standin, options: Sequence[str] = ()) -> None:
        directory.mkdir(parents=True)
        self.directory = directory
        self.cache = directory / "cache"
        bundle = directory / "bundle.pem"
        known = Path("/etc/ssl/certs/ca-certificates.crt").read_text()
        bundle.write_text(known + archive.ca.read_text())
        self._env = {**os.environ, "HOME": str(directory), "PYTHONPATH": str(REPO)}
        self._env |= dict.fromkeys(
            ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT"), str(bundle)
        )
        self._argv = [
            sys.executable, "-m", "imagebuild", "build", "ubuntu", "jammy",
            *standin_options(archive), *options, "--cache-dir", str(self.cache),
            "--images-dir", str(directory / "images"),
        ]  # fmt: skip

    def can(self, option: str) -> bool:
        """Whether this version of the command has an option."""
        argv = [*self._argv[:4], "--help"]
        return option in run(argv, env=self._env).stdout.decode()

    def build(self, name: str, *options: str) -> Result:
        """Run it once. Raises BuildError with what it said."""
        log = self.directory / f"{name}.log"
        before, started = os.times(), time.monotonic()
        with log.open("wb") as out:
            status = subprocess.run(
                [*self._argv, *options], env=self._env, cwd=self.directory, stdout=out, stderr=out,
                stdin=subprocess.DEVNULL, check=False,
            ).returncode  # fmt: skip
        after, ended = os.times(), time.monotonic()
        if status != 0:
            raise BuildError(
                f"the build {name!r} ended with status {status}",
                where=str(log),
                detail=log.read_text()[-3000:],
            )
        link = next(p for p in (self.directory / "images").iterdir() if p.is_symlink())
        artifact = link.resolve()
        timing = json.loads((artifact / "timing.json").read_text())
        cpu = sum(after[2:4]) - sum(before[2:4])
        return Result(ended - started, cpu, artifact, timing)

    def forget(self) -> None:
        """Remove everything but downloads: trees, layers, disks and images."""
        for path in self.cache.iterdir():
            if path.name not in DOWNLOADS:
                run(["rm", "-rf", "--one-file-system", "--", path])
        shutil.rmtree(self.directory / "images")

    @property
    def wheels(self) -> Path:
        """Below it are the wheels of the agent that was built."""
        return self.cache / "sources"
