"""Fills Keystone's database and key repositories; runs in the services' own environment.

    python identity_state.py KEYSTONE_CONF < wanted.json

One process instead of keystone-manage's db_sync, fernet_setup, credential_setup and bootstrap
and twenty requests after them, each of which costs seconds. The schema, the default domain
and the roles are what `keystone-manage bootstrap` makes: its code is called.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import uuid
from pathlib import Path

import keystone.conf
from keystone import server
from keystone.cmd.bootstrap import Bootstrapper
from keystone.common import provider_api
from keystone.common.sql import upgrades

PROVIDERS = provider_api.ProviderAPIs


def make_keys(repository: str) -> None:
    """The staged and the primary key of a repository."""
    place = Path(repository)
    place.mkdir(mode=0o700)
    for name in ("0", "1"):
        path = place / name
        path.write_bytes(base64.urlsafe_b64encode(os.urandom(32)))
        path.chmod(0o600)


def main() -> None:
    """Make everything that standard input asks for."""
    wanted = json.load(sys.stdin)
    # The command line is not for oslo.config.
    sys.argv[1:], conf_file = [], sys.argv[1]
    server.configure(config_files=[conf_file])
    conf = keystone.conf.CONF
    make_keys(conf.fernet_tokens.key_repository)
    make_keys(conf.credential.key_repository)
    upgrades.offline_sync_database_to_version()

    boot = Bootstrapper()
    boot.project_name = boot.admin_username = boot.admin_role_name = "admin"
    boot.admin_password = wanted["password"]
    boot.service_name = "keystone"
    boot.bootstrap()
    roles = {role["name"]: role["id"] for role in PROVIDERS.role_api.list_roles()}
    domain = conf.identity.default_domain_id

    projects = {"admin": boot.project_id}
    for name in wanted["projects"]:
        project = {"id": uuid.uuid4().hex, "name": name, "domain_id": domain, "enabled": True}
        PROVIDERS.resource_api.create_project(project["id"], project)
        projects[name] = project["id"]
    for user in wanted["users"]:
        made = PROVIDERS.identity_api.create_user(
            {
                "name": user["name"],
                "password": wanted["password"],
                "domain_id": domain,
                "enabled": True,
            }
        )
        for role in user["roles"]:
            PROVIDERS.assignment_api.add_role_to_user_and_project(
                made["id"], projects[user["project"]], roles[role]
            )
    for region in wanted["regions"]:
        PROVIDERS.catalog_api.create_region({"id": region})
    for kind, service in wanted["services"].items():
        ref = {"id": uuid.uuid4().hex, "type": kind, "name": service["name"], "enabled": True}
        PROVIDERS.catalog_api.create_service(ref["id"], ref)
        for region in wanted["regions"]:
            for interface in ("public", "internal", "admin"):
                endpoint = {
                    "id": uuid.uuid4().hex,
                    "interface": interface,
                    "service_id": ref["id"],
                    "region_id": region,
                    "url": service["url"],
                    "enabled": True,
                }
                PROVIDERS.catalog_api.create_endpoint(endpoint["id"], endpoint)


if __name__ == "__main__":
    main()
