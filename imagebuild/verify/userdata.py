"""The user data that Trove's task manager gives a guest.

After trove/instance/models.py (get_injected_files, prepare_cloud_config): a #cloud-config
whose write_files bring the agent's configuration, base64, owned by the guest's user, with
cloud-init's own mode (0644).
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field

import yaml

GUEST_INFO = "/etc/trove/conf.d/guest_info.conf"
AGENT_CONF = "/etc/trove/conf.d/trove-guestagent.conf"
GUEST_ID = "00000000-0000-4000-8000-000000000001"

#: Section -> option -> value.
Conf = Mapping[str, Mapping[str, object]]


@dataclass(frozen=True)
class TroveUserData:
    """What the task manager puts together. `files`: path -> text, written as the others are.

    `user` is `injected_config_owner` of the control plane: the guest's user. `agent_conf` may
    be text, too, as the control plane's file is handed on unread.
    """

    user: str = "ubuntu"
    group: str = "root"
    guest_info: Conf = field(default_factory=lambda: {"DEFAULT": {"guest_id": GUEST_ID}})
    agent_conf: Conf | str = ""
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def injected(self) -> dict[str, str]:
        """Path -> text of every file that the guest is given."""
        agent = self.agent_conf if isinstance(self.agent_conf, str) else conf(self.agent_conf)
        files = {GUEST_INFO: conf(self.guest_info)}
        return files | ({AGENT_CONF: agent} if agent else {}) | dict(self.files)

    def render(self) -> bytes:
        """The #cloud-config."""
        entries = [
            {
                "encoding": "b64",
                "owner": f"{self.user}:{self.group}",
                "path": path,
                "content": base64.b64encode(text.encode()).decode(),
            }
            for path, text in self.injected.items()
        ]
        return b"#cloud-config\n" + yaml.dump({"write_files": entries}).encode()


def conf(sections: Conf) -> str:
    """Options as oslo.config reads them."""
    blocks = [
        f"[{section}]\n" + "".join(f"{key}={value}\n" for key, value in options.items())
        for section, options in sections.items()
    ]
    return "".join(blocks)


@dataclass(frozen=True)
class Injected:
    """A file that a #cloud-config writes: its owner, its mode (octal), its content."""

    path: str
    owner: str
    mode: str
    content: bytes


def injected(user_data: bytes | None) -> list[Injected]:
    """What the write_files of a #cloud-config say; other user data have none."""
    if not user_data or not user_data.startswith(b"#cloud-config"):
        return []
    document = yaml.safe_load(user_data)
    entries = document.get("write_files") if isinstance(document, dict) else None
    found = []
    for entry in entries or []:
        content = str(entry.get("content") or "").encode()
        if str(entry.get("encoding", "")).startswith("b"):
            content = base64.b64decode(content)
        mode = entry.get("permissions", "0644")
        digits = f"{mode:o}" if isinstance(mode, int) else str(mode).lstrip("0")
        owner = str(entry.get("owner", "root:root"))
        found.append(Injected(str(entry["path"]), owner, digits or "0", content))
    return found
