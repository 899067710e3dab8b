"""`imagebuild mirror check --cloud`: the versions that a real Trove has, a real registry."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from imagebuild.datastore.creation import Gates, carry_out, propose
from imagebuild.datastore.wanted import Wanted
from tests.container_images import image, layer
from tests.registry_server import RegistryServer
from tests.services.cloud import TestCloud
from tests.services.datastores import add_image, connected, environment


def test_registered_versions_and_what_they_would_miss(cloud: TestCloud, tmp_path: Path) -> None:
    add_image(cloud, ["trove"])
    connection = connected(cloud)
    for name in ("8.4", "8.0"):
        wanted = Wanted("mysql", name, image_tags=("trove",), is_active=True)
        carry_out(connection, propose(connection, wanted, Gates(force=True)))
    with RegistryServer(tmp_path / "registry") as server:
        for repository in ("trove/mysql", "trove/db-backup-mysql"):
            image([layer({"a": b"1"})]).push(server, repository, "8.4")
        (tmp_path / "mirror.yaml").write_text(
            f"target: {{registry: '{server.host}', prefix: trove}}\n"
            "images:\n"
            "  - {source: quay.io/o/mysql, tags: 8.4, datastore: mysql}\n"
            "  - {source: quay.io/o/db-backup-mysql, tags: 8.4, datastore: mysql, role: backup}\n"
        )
        done = subprocess.run(
            [sys.executable, "-m", "imagebuild", "mirror", "check", tmp_path / "mirror.yaml",
             "--cloud", "admin", "--json"],
            env=environment(cloud, "admin"), capture_output=True, text=True,
        )  # fmt: skip
    assert done.returncode == 6, done.stderr
    document = json.loads(done.stdout)
    assert [r["state"] for r in document["results"]] == ["whole", "whole"]
    found = {(v["version"], v["purpose"]): v["ok"] for v in document["versions"]}
    assert found == {
        ("8.4", "create"): True, ("8.4", "backup"): True,
        ("8.0", "create"): False, ("8.0", "backup"): False,
    }  # fmt: skip
