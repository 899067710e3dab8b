"""What the services are told: the sections and options of their configuration files."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from imagebuild.verify.control.services import Settings

#: Of all users, those of the services too. Nothing of it outlives the tests.
PASSWORD = "Secret-of-the-tests-7391"  # noqa: S105 - made up
DOMAIN = "Default"
#: The region whose endpoints are the services, and the one whose are the fault proxies.
DIRECT, PROXIED = "RegionOne", "Proxied"
#: Each a project and a user of that name; others than `admin` have the role member.
PEOPLE = ("admin", "demo", "other")
#: Service -> type and what follows the port in its endpoint.
TYPES = {
    "keystone": ("identity", "/v3"),
    "glance": ("image", ""),
    "trove": ("database", "/v1.0/%(tenant_id)s"),
}


@dataclass(frozen=True)
class Ports:
    """The ports on loopback: of the services, of the proxies before them.

    Glance downloads from those of `web` besides: the tests' own servers may listen there.
    """

    keystone: int
    glance: int
    trove: int
    keystone_proxy: int
    glance_proxy: int
    trove_proxy: int
    web: tuple[int, ...]

    def of(self, service: str, *, proxied: bool = False) -> int:
        """The port of a service, or of the proxy before it."""
        port: int = dataclasses.asdict(self)[f"{service}_proxy" if proxied else service]
        return port


def keystone(place: Path) -> Settings:
    """keystone.conf over the state in `place`."""
    return {
        "DEFAULT": {"use_stderr": "true"},
        "database": {"connection": f"sqlite:///{place}/keystone.sqlite"},
        "token": {"provider": "fernet", "expiration": "14400"},
        "fernet_tokens": {"key_repository": f"{place}/fernet-keys"},
        "fernet_receipts": {"key_repository": f"{place}/fernet-keys"},
        "credential": {"key_repository": f"{place}/credential-keys"},
        "cache": {"enabled": "false"},
        # A test's password needs no strength, and each login costs it.
        "identity": {"password_hash_rounds": "4"},
    }


def glance(place: Path, venv: Path, ports: Ports | None, database: str) -> Settings:
    """glance-api.conf over the state in `place`; without ports, what making its tables needs."""
    settings: Settings = {
        "DEFAULT": {
            "use_stderr": "true",
            "enabled_backends": "fast:file",
            "enabled_import_methods": "[glance-direct,web-download,copy-image]",
        },
        "database": {"connection": database, "max_pool_size": "5"},
        "glance_store": {"default_backend": "fast"},
        "fast": {"filesystem_store_datadir": f"{place}/images"},
        "os_glance_staging_store": {"filesystem_store_datadir": f"{place}/staging"},
        "os_glance_tasks_store": {"filesystem_store_datadir": f"{place}/tasks"},
        "paste_deploy": {
            "flavor": "keystone",
            "config_file": f"{venv}/etc/glance/glance-api-paste.ini",
        },
        "taskflow_executor": {"max_workers": "2"},
    }
    if ports:
        # No public_endpoint: it answers with links to where it was asked, a proxy say.
        settings["DEFAULT"]["worker_self_reference_url"] = f"http://127.0.0.1:{ports.glance}"
        settings["import_filtering_opts"] = {
            "allowed_schemes": "[http,https]",
            "allowed_hosts": "[127.0.0.1]",
            "allowed_ports": "[" + ",".join(map(str, ports.web)) + "]",
        }
        settings["keystone_authtoken"] = _service_user("glance", ports)
    return settings


def trove(place: Path, venv: Path, ports: Ports, database: str) -> Settings:
    """trove.conf of the API, with nobody behind it that would make instances.

    Nova, Cinder and Neutron are files; Keystone and Glance are what they are.
    """
    return {
        "DEFAULT": {
            "use_stderr": "true",
            "bind_host": "127.0.0.1",
            "bind_port": str(ports.trove),
            "trove_api_workers": "1",
            "transport_url": "fake:/",
            "report_interval": "0",
            "control_exchange": "trove",
            "api_paste_config": f"{venv}/etc/trove/api-paste.ini",
            "trove_dns_support": "false",
            "default_datastore": "mysql",
            "cloudinit_location": f"{place}/cloudinit",
            **{
                f"remote_{name}_client": f"imagebuild_fakes.cloud.{name}_client"
                for name in ("nova", "cinder", "neutron")
            },
            "management_networks": "",
            # No guest answers.
            "agent_call_low_timeout": "1",
            **{f"max_{x}_per_tenant": "1000" for x in ("instances", "volumes", "backups")},
            **{f"http_{m}_rate": "100000" for m in ("get", "post", "put", "delete", "mgmt_post")},
        },
        "database": {"connection": database, "max_pool_size": "5"},
        "service_credentials": {
            **{k: v for k, v in _service_user("trove", ports).items() if k in _CREDENTIALS},
            "region_name": DIRECT,
        },
        "keystone_authtoken": _service_user("trove", ports),
        "oslo_messaging_notifications": {"driver": "noop"},
        "oslo_concurrency": {"lock_path": f"{place}/locks"},
    }


_CREDENTIALS = (
    "auth_url", "project_name", "username", "password", "project_domain_name", "user_domain_name",
)  # fmt: skip


def _service_user(name: str, ports: Ports) -> dict[str, str]:
    """How a service asks Keystone: never through the proxy."""
    url = f"http://127.0.0.1:{ports.keystone}/v3"
    return {
        "www_authenticate_uri": url,
        "auth_url": url,
        "auth_type": "password",
        "project_domain_name": DOMAIN,
        "user_domain_name": DOMAIN,
        "project_name": "service",
        "username": name,
        "password": PASSWORD,
        "region_name": DIRECT,
    }


def gunicorn(port: int, application: str) -> str:
    """gunicorn's configuration file: the services read the command line themselves."""
    return (
        f"bind = '127.0.0.1:{port}'\nworkers = 1\nthreads = 6\ntimeout = 600\n"
        f"keepalive = 30\nwsgi_app = '{application}'\ncontrol_socket_disable = True\n"
    )


def merged(settings: Settings, changes: Mapping[str, Mapping[str, str]]) -> Settings:
    """Settings with some of them changed."""
    result = {section: dict(options) for section, options in settings.items()}
    for section, options in changes.items():
        result.setdefault(section, {}).update(options)
    return result
