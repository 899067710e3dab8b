"""Throw-away signing keys, whose secret halves outlive nothing."""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from imagebuild.errors import BuildError
from imagebuild.host.run import base_env, need, run


@dataclass(frozen=True)
class Key:
    """A throw-away signing key; the secret half goes away with `home`."""

    home: Path
    fingerprint: str
    signed_at: datetime

    def gpg(self, *args: str | Path, when: datetime | None = None) -> bytes:
        # With the clock held still the same Release file has the same signature.
        clock = (when or self.signed_at).strftime("%Y%m%dT%H%M%S!")
        return run(
            [need("gpg", "gnupg"), "--homedir", self.home, "--batch", "--yes",
             "--faked-system-time", clock, "--no-auto-check-trustdb", *args],
            env=base_env(GNUPGHOME=str(self.home)),
        ).stdout  # fmt: skip


@contextlib.contextmanager
def keys(owners: Sequence[str], born: datetime, signed_at: datetime) -> Iterator[list[Key]]:
    """One new ed25519 key per owner, and no trace of the secret halves afterwards."""
    # Not below the work directory: the agent's socket path must stay below 108 bytes.
    home = Path(tempfile.mkdtemp(prefix="gpg-", dir="/tmp"))
    made = []
    try:
        for owner in owners:
            key = Key(home, "", signed_at)
            status = key.gpg(
                "--status-fd", "1", "--pinentry-mode", "loopback", "--passphrase", "",
                "--quick-gen-key", owner, "ed25519", "sign", "never", when=born,
            )  # fmt: skip
            created = re.search(rb"KEY_CREATED \S+ ([0-9A-F]{40})", status)
            if created is None:
                raise BuildError("gpg made no key", detail=status.decode(errors="replace"))
            made.append(Key(home, created[1].decode(), signed_at))
        yield made
    finally:
        run([need("gpgconf"), "--homedir", home, "--kill", "all"], check=False)
        shutil.rmtree(home, ignore_errors=True)
