"""A key pair for ssh that lives as long as one machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from imagebuild.host.run import run, which


@dataclass(frozen=True)
class KeyPair:
    """The private key's file, and the line that a guest is given."""

    private: Path
    public: str


def make_key(directory: Path) -> KeyPair | None:
    """A new ed25519 key below `directory`; None on a host without OpenSSH."""
    keygen = which("ssh-keygen")
    if keygen is None:
        return None
    private = directory / "key"
    run([keygen, "-q", "-t", "ed25519", "-N", "", "-C", "imagebuild-verify", "-f", private])
    return KeyPair(private, private.with_suffix(".pub").read_text().strip())
