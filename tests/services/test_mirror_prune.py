"""`imagebuild mirror prune --cloud`: what a real Trove has versions for stays in the registry."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from imagebuild.datastore.creation import Gates, carry_out, propose
from imagebuild.datastore.wanted import Wanted
from imagebuild.mirror.lockfile import Lock, write_lock
from tests.mirror.airgap import whole_index
from tests.registry_server import RegistryServer
from tests.services.cloud import TestCloud
from tests.services.datastores import add_image, connected, environment


def test_registered_versions_keep_their_images(cloud: TestCloud, tmp_path: Path) -> None:
    add_image(cloud, ["trove"])
    # An inactive version's instances live on.
    wanted = Wanted("mariadb", "10.11.9", image_tags=("trove",), is_active=False)
    carry_out(connected(cloud), propose(connected(cloud), wanted, Gates(force=True)))
    tags = {}
    with RegistryServer(tmp_path / "registry", deletes=True) as server:
        for name in ("mariadb:10.11.9", "mariadb:11.4", "backup:10.11", "backup:11.4"):
            repository, _, tag = name.partition(":")
            made = whole_index(name)
            made.push(server, repository, tag)
            tags[f"{server.host}/{name}"] = made.digest
        write_lock(tmp_path / "mirror.lock.yaml", Lock(tags=tags))
        (tmp_path / "mirror.yaml").write_text(
            f"target: {{registry: '{server.host}'}}\n"
            "images:\n"
            "  - {source: quay.io/o/mariadb, tags: ['12.0'], datastore: mariadb}\n"
            "  - {source: quay.io/o/backup, tags: ['12.0'], datastore: mariadb, role: backup}\n"
        )
        done = subprocess.run(
            [sys.executable, "-m", "imagebuild", "mirror", "prune", tmp_path / "mirror.yaml",
             "--cloud", "admin", "--apply", "--json"],
            env=environment(cloud, "admin"), capture_output=True, text=True,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    removed = {t.rpartition("/")[2] for t in json.loads(done.stdout)["removed"]}
    # 10.11.9's backups fall back to 10.11.
    assert removed == {"mariadb:11.4", "backup:11.4"}
