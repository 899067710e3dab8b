"""Trove's own services, as they are, over the cloud in `fakes`: their settings and their start."""

from __future__ import annotations

import configparser
import io
import json
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

from imagebuild.host.run import PATH, base_env, run
from imagebuild.verify.control.broker import Broker
from imagebuild.verify.control.daemons import Daemons
from imagebuild.verify.control.database import Database
from imagebuild.verify.control.environment import Environment
from imagebuild.verify.control.values import Guest

PROJECT = "5e55104e000040008000000000000001"
USER = "5e55104e000040008000000000000002"
IMAGE = "5e55104e-0000-4000-8000-000000000003"
FLAVOR = "1"
USER_NETWORK = "5e55104e-0000-4000-8000-000000000004"
MANAGEMENT_NETWORK = "5e55104e-0000-4000-8000-000000000005"
#: The queues that Trove's services take their orders from.
QUEUES = {"trove-conductor": "trove-conductor", "trove-taskmanager": "taskmanager"}
REGION = "RegionOne"
_SYNC_SECONDS = 300.0
#: What an emulated machine needs; Trove's own limits are for real ones. In seconds.
_PATIENCE = {
    "agent_call_low_timeout": "30",
    "agent_call_high_timeout": "900",
    "agent_replication_snapshot_timeout": "36000",
    "command_process_timeout": "300",
    "state_change_wait_time": "1800",
    "usage_timeout": "3600",
    "restore_usage_timeout": "3600",
    "usage_sleep_time": "1",
    # Between the agent's signs of life, before its instance counts as lost.
    "agent_heartbeat_time": "60",
    "agent_heartbeat_expiry": "300",
}

Settings = dict[str, dict[str, str]]


def guest_settings(guest: Guest, broker: Broker, swift: str) -> Settings:
    """trove-guestagent.conf, which Trove puts into the user data.

    Its sections have Trove's names of datastores: it is `postgresql`, whatever the image of
    the database is called. `swift` is the URL that the guest reaches Swift by.
    """
    host, _, port = guest.broker.rpartition(":")
    settings: Settings = {
        "DEFAULT": {
            "log_dir": "/var/log/trove/",
            "log_file": "trove-guestagent.log",
            "transport_url": broker.url(host, int(port)),
            "control_exchange": "trove",
            "ignore_users": "os_admin",
            "root_grant": "ALL",
            "root_grant_option": "True",
            "command_process_timeout": _PATIENCE["command_process_timeout"],
            "state_change_wait_time": _PATIENCE["state_change_wait_time"],
            "report_interval": "10",
            "swift_api_insecure": "True",
        },
        "service_credentials": {
            "auth_url": f"{swift}/v3",
            "region_name": REGION,
            "project_name": "service",
            "username": "trove",
            "password": secrets.token_hex(16),
            "project_domain_name": "Default",
            "user_domain_name": "Default",
        },
        guest.datastore: {"docker_image": guest.docker_image},
    }
    if guest.backup_image:
        settings[guest.datastore]["backup_docker_image"] = guest.backup_image
    for section, values in guest.settings.items():
        settings.setdefault(section, {}).update(values)
    return settings


def service_settings(
    guest: Guest, run_dir: Path, broker: Broker, database: Database, api_port: int, swift: str
) -> Settings:
    """trove.conf of all three services."""
    fakes = {
        f"remote_{name}_client": f"imagebuild_fakes.cloud.{name}_client"
        for name in ("nova", "cinder", "neutron", "glance", "swift", "guest")
    }
    default = {
        "use_stderr": "true",
        "debug": "false",
        "bind_host": "127.0.0.1",
        "bind_port": str(api_port),
        "trove_api_workers": "1",
        "trove_conductor_workers": "1",
        # Periodic tasks are for clouds; with none, a service listens as soon as it is up.
        "report_interval": "0",
        "transport_url": broker.url(),
        "control_exchange": "trove",
        "api_paste_config": str(run_dir / "trove/api-paste.ini"),
        "taskmanager_manager": "trove.taskmanager.manager.Manager",
        "trove_dns_support": "false",
        "admin_roles": "admin",
        "ip_regex": "",
        "black_list_regex": "",
        "management_networks": MANAGEMENT_NETWORK,
        "network_driver": "trove.network.neutron.NeutronDriver",
        "guest_config": str(run_dir / "trove/trove-guestagent.conf"),
        "cloudinit_location": str(run_dir / "trove/cloudinit"),
        "nova_client_version": "2.67",
        "swift_url": f"{swift}/v1/AUTH_",
        "enable_secure_rpc_messaging": "true",
        "taskmanager_rpc_encr_key": secrets.token_hex(16),
        "inst_rpc_key_encr_key": secrets.token_hex(16),
        "max_accepted_volume_size": "100",
        "default_datastore": guest.datastore,
        **_PATIENCE,
        **fakes,
    }
    if guest.insecure_registries:
        default["docker_insecure_registries"] = ",".join(guest.insecure_registries)
    return {
        "DEFAULT": default,
        "database": {"connection": database.url, "max_pool_size": "5"},
        "network": {"network_isolation": str(guest.network_isolation)},
        "service_credentials": {
            "auth_url": "http://127.0.0.1:9/v3",  # nobody is there, nobody asks
            "region_name": REGION,
            "project_name": "service",
            "username": "trove",
            "password": secrets.token_hex(16),
            "project_domain_name": "Default",
            "user_domain_name": "Default",
        },
        guest.datastore: {"volume_support": "true", "usage_timeout": _PATIENCE["usage_timeout"]},
        "oslo_messaging_rabbit": {"rabbit_retry_interval": "1", "rabbit_retry_backoff": "0"},
        "oslo_messaging_notifications": {"driver": "noop"},
        "oslo_concurrency": {"lock_path": str(run_dir / "trove/locks")},
    }


def cloud(guest: Guest, swift_port: int) -> dict[str, object]:
    """What `fakes.cloud` says there is."""
    networks = (
        (USER_NETWORK, "user", guest.user_network),
        (MANAGEMENT_NETWORK, "management", guest.management),
    )
    return {
        "image": IMAGE,
        "flavors": {FLAVOR: {"name": "verify", "ram": guest.memory_mib, "vcpus": 2, "disk": 10}},
        "networks": {
            key: {"name": name, "cidr": n.cidr, "gateway": n.gateway, "first": n.address}
            for key, name, n in networks
        },
        "swift": f"http://127.0.0.1:{swift_port}",
    }


def render(settings: Mapping[str, Mapping[str, str]]) -> str:
    """Settings as oslo.config reads them."""
    parser = configparser.RawConfigParser(default_section="DEFAULT")
    parser.read_dict(settings)
    text = io.StringIO()
    parser.write(text)
    return text.getvalue()


def environ(run_dir: Path, token: str) -> dict[str, str]:
    """The services' environment; the fakes are theirs alone."""
    return {
        "PATH": PATH,
        "HOME": str(run_dir / "trove"),
        "PYTHONPATH": str(run_dir / "python"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONWARNINGS": "ignore",
        "IMAGEBUILD_CLOUD": str(run_dir / "cloud"),
        "IMAGEBUILD_TOKEN": token,
    }


def sync_schema(environment: Environment, daemons: Daemons, database: Database) -> None:
    """Make Trove's tables. Its own command for that asks Nova, too: it gets no fakes."""
    place = daemons.directory("schema")
    conf = daemons.write(
        place / "trove.conf",
        render({"DEFAULT": {"transport_url": "fake:/"}, "database": {"connection": database.url}}),
    )
    run(
        daemons.argv(environment.bin / "python", environment.bin / "trove-manage",
                     f"--config-file={conf}", "db_sync"),
        env=base_env(HOME=str(place), PYTHONWARNINGS="ignore", PYTHONDONTWRITEBYTECODE="1"),
        cwd=place,
        timeout=_SYNC_SECONDS,
    )  # fmt: skip


def install(environment: Environment, daemons: Daemons, document: Mapping[str, object]) -> None:
    """Lay out what the services read: fakes, the cloud, the API's pipeline."""
    python = daemons.directory("python")
    shutil.copytree(
        Path(__file__).with_name("fakes"),
        python / "imagebuild_fakes",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    daemons.who.own_tree(python)
    # The services write into it, and the tool does.
    place = daemons.directory("cloud")
    daemons.write(place / "cloud.json", json.dumps(document))
    trove = daemons.directory("trove")
    for name in ("cloudinit", "locks"):
        daemons.directory(f"trove/{name}")
    paste = (environment.path / "venv/etc/trove/api-paste.ini").read_text()
    daemons.write(trove / "api-paste.ini", _without_keystone(paste))


def _without_keystone(paste: str) -> str:
    """Trove's own pipeline with the fake's filter in the place of Keystone's."""
    lines = []
    section = ""
    for line in paste.splitlines():
        if line.startswith("["):
            section = line.strip()
        if section == "[filter:authtoken]" and "paste.filter_factory" in line:
            line = "paste.filter_factory = imagebuild_fakes.identity:filter_factory"
            line += f"\nproject = {PROJECT}\nuser = {USER}"
        elif "pipeline" in line:
            # Its limits are for users of a cloud, not for a test that polls.
            line = line.replace(" ratelimit ", " ")
        lines.append(line)
    return "\n".join(lines) + "\n"


def start(environment: Environment, daemons: Daemons, token: str) -> None:
    """Start them; they may come up before the broker does."""
    env = environ(daemons.run_dir, token)
    conf = daemons.run_dir / "trove/trove.conf"
    for name in ("trove-conductor", "trove-taskmanager", "trove-api"):
        daemons.start(
            name, [environment.bin / "python", environment.bin / name, f"--config-file={conf}"], env
        )
