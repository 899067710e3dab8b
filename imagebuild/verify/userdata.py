"""The user data that Trove's task manager gives a guest.

After trove/instance/models.py (get_injected_files, prepare_cloud_config): a #cloud-config
whose write_files bring the agent's configuration, base64, owned by the guest's user.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

GUEST_INFO = "/etc/trove/conf.d/guest_info.conf"
AGENT_CONF = "/etc/trove/conf.d/trove-guestagent.conf"

#: Section -> option -> value.
Conf = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class TroveUserData:
    """What the task manager puts together. `files`: path -> text, written as the others are.

    `user` is `injected_config_owner` of the control plane: the guest's user.
    """

    user: str = "ubuntu"
    group: str = "root"
    guest_info: Conf = field(default_factory=dict)
    agent_conf: Conf | str = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)

    def render(self) -> bytes:
        """The #cloud-config."""
        raise NotImplementedError
