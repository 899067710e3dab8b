"""Runs in the environment of tests/services: who pulls the database's image in a guest.

Out, with and without network isolation: what was called of the client that the agent has logged
in with (`agent`), and of any other (`other`); `pull` with its arguments.
"""

import json
import logging
import sys
from typing import Any
from unittest import mock

import docker
from trove.common import constants
from trove.guestagent import dbaas
from trove.guestagent.utils import docker as docker_util

logging.disable()


def calls(made: mock.MagicMock) -> list[str]:
    return [name + (str(list(args)) if name == "pull" else "") for name, args, _ in made.mock_calls]


def pulls(network_mode: str) -> dict[str, list[str]]:
    agent: Any = mock.MagicMock()
    agent.containers.get.side_effect = docker.errors.NotFound("no container yet")
    agent.networks.list.return_value = []
    nic = json.dumps({"ipv4_address": "10.0.0.2", "ipv4_cidr": "10.0.0.0/24",
                      "ipv4_gateway": "10.0.0.1", "mac_address": "fa:16:3e:00:00:01"})  # fmt: skip
    with (
        mock.patch("docker.APIClient") as other,
        mock.patch("builtins.open", mock.mock_open(read_data=nic)),
    ):
        docker_util.start_container(agent, "reg.example/mysql:8.4", network_mode=network_mode)
    return {"agent": calls(agent), "other": calls(other.return_value)}


found = {
    "isolated": pulls(constants.DOCKER_HOST_NIC_MODE),
    "bridged": pulls(constants.DOCKER_BRIDGE_MODE),
}
json.dump(found | {"managers": sorted(dbaas.datastore_registry())}, sys.stdout)
