"""Dev images: what the element `trove-guest-dev` reads, and what lies beside the artifact.

The private key and root's password go to a directory of the build's scratch that is closed
to others, and from there into the image; they are written nowhere else.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

from imagebuild.config.profile import Controller, Profile
from imagebuild.config.words import AgentMode
from imagebuild.inputs import Dev, DevKey

#: The one private key that an image may hold, and only a dev image: its place in the guest.
KEY_PATH = "/etc/trove/dev/id_ed25519"
#: Directory of the artifact with the public half.
DIRECTORY = "dev"
PUBLIC_KEY = f"{DIRECTORY}/id_ed25519.pub"
AUTHORIZED_KEYS = f"{DIRECTORY}/authorized_keys"

# What the key is good for, whatever is asked: one run of rsync's daemon on the session's own
# stdin and stdout (rsync(1), "USING RSYNC-DAEMON FEATURES VIA A REMOTE-SHELL CONNECTION").
# A plain `rsync --server --sender` would be shorter, but fits one set of options only, and
# until 3.5 shows lines of any file to a client that names it as a file of filter rules; a
# module is confined. The configuration comes through a pipe: nothing else is to be installed.
_CONFIG = (
    "[trove]",
    "path={path}",
    "read only=yes",
    "use chroot=no",
    "exclude=.* *.pyc __pycache__",
    "refuse options=copy-links copy-unsafe-links copy-dirlinks",
    "reverse lookup=no",
)
_COMMAND = (
    'exec sh -c \'exec 4<&0; printf "%s\\n" {config} | '
    "rsync --server --daemon --config=/dev/fd/3 . 3<&0 <&4 4<&-'"
)


def write_inputs(dev: Dev, profile: Profile, name: str, directory: Path) -> None:
    """Write the files that the element reads, for the image `name`, into a new `directory`."""
    directory.mkdir(mode=0o700)
    if dev.key:
        controller = profile.agent.controller
        settings = f"HOST_SCP_USERNAME={controller.username}\nPATH_TROVE={controller.path}\n"
        _write(directory / "id_ed25519", dev.key.private)
        _write(directory / "line-for-controller", authorized_keys_line(dev.key, controller, name))
        _write(directory / "settings.conf", settings)
    if dev.root_password is not None:
        _write(directory / "root-password", f"root:{dev.root_password}\n")


def write_public(dev: Dev, profile: Profile, name: str, artifact: Path) -> None:
    """Write the key's public half, if there is a key, beside the image `name`."""
    if not dev.key:
        return
    (artifact / DIRECTORY).mkdir()
    line = authorized_keys_line(dev.key, profile.agent.controller, name)
    (artifact / PUBLIC_KEY).write_text(f"{_public(dev.key, name)}\n")
    (artifact / AUTHORIZED_KEYS).write_text(line, encoding="utf-8")


def authorized_keys_line(key: DevKey, controller: Controller, name: str) -> str:
    """The line for the controller's authorized_keys (sshd(8)), with its end of line.

    `restrict` takes terminal, forwarding of every kind and user scripts; the forced command
    stands for whatever is asked, scp and sftp included. The key's comment is `name`.
    """
    words = " ".join(f'"{line.format(path=controller.path)}"' for line in _CONFIG)
    command = _COMMAND.format(config=words).replace('"', '\\"')
    return f'restrict,command="{command}" {_public(key, name)}\n'


def describe(dev: Dev | None, profile: Profile) -> dict[str, Any] | None:
    """The manifest's part `dev`, None for other images: nothing in it is secret."""
    if dev is None:
        return None
    controller = profile.agent.controller
    fetches = profile.agent.mode is AgentMode.DEV
    return {
        "key_fingerprint": fingerprint(dev.key) if dev.key else None,
        "controller": {"username": controller.username, "path": str(controller.path)}
        if fetches
        else None,
        "root_password": dev.root_password is not None,
    }


def fingerprint(key: DevKey) -> str:
    """The key's fingerprint as `ssh-keygen -l` prints it."""
    blob = base64.b64decode(key.public.split()[1])
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def _public(key: DevKey, name: str) -> str:
    return " ".join((*key.public.split()[:2], name))


def _write(path: Path, content: bytes | str) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
