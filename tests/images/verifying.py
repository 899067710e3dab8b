"""Runs of `imagebuild verify` by its command, as an operator has it, against real databases."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.databases.registry import NAMES, DatabaseRegistry

REPO = Path(__file__).resolve().parents[2]
#: Where the guest finds the registry, in its management network.
GUEST_REGISTRY = "168.0.0.6:5000"


_ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REPO)}


@dataclass(frozen=True)
class Verified:
    """What a run left: its status, what it said, its report, its cache."""

    status: int
    out: str
    err: str
    directory: Path
    cache: Path

    @property
    def document(self) -> Mapping[str, Any]:
        """verify.json."""
        document: Mapping[str, Any] = json.loads((self.directory / "verify.json").read_text())
        return document

    def checks(self, prefix: str = "") -> dict[str, Mapping[str, Any]]:
        """The checks whose names begin so, by the rest of the name."""
        return {
            c["name"].removeprefix(prefix): c
            for c in self.document["checks"]
            if c["name"].startswith(prefix)
        }

    def bad(self) -> dict[str, str]:
        """What did not pass, and why: for people who read a failing test.

        A stall is the emulator's; the second start counts.
        """
        return {
            c["name"]: f"{c['outcome']}: {c['what']}\n" + "\n".join(c["evidence"])
            for c in self.document["checks"]
            if c["outcome"] in ("failed", "unknown", "warning")
            and not c["name"].endswith("/emulator")
        }


def verify(
    image: Path, directory: Path, *options: str, env: Mapping[str, str] | None = None
) -> Verified:
    """Run the verb on an image; its report and cache lie below `directory` (made)."""
    directory.mkdir(parents=True)
    whole = environment() | dict(env or {})
    argv = command(image, directory, *options)
    done = subprocess.run(argv, env=whole, capture_output=True, check=False)
    return Verified(
        done.returncode, done.stdout.decode(), done.stderr.decode(), directory / "report",
        directory / "cache",
    )  # fmt: skip


def command(image: Path, directory: Path, *options: str) -> list[str]:
    """The command line of `verify`."""
    return [
        sys.executable, "-m", "imagebuild", "verify", str(image),
        "--report", str(directory / "report"), "--cache-dir", str(directory / "cache"), *options,
    ]  # fmt: skip


def environment() -> dict[str, str]:
    """The environment that the verb runs in: not what another test makes of it meanwhile."""
    return dict(_ENVIRONMENT)


def database(registry: DatabaseRegistry, datastore: str, *, backup: bool = True) -> list[str]:
    """The options that prove a datastore with its images in a registry on loopback."""
    server, backups, version = NAMES[datastore]
    options = [
        "--level", "database",
        "--database", f"{datastore}:{version}={GUEST_REGISTRY}/{server}",
        "--registry", f"{GUEST_REGISTRY}={registry.port}", "--insecure-registry",
    ]  # fmt: skip
    if backup:
        options += ["--backup-image", f"{datastore}={GUEST_REGISTRY}/{backups}"]
    return options
