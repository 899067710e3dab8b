"""`trovestack build-and-upload-image`, from its arguments to the parameters in Trove.

Its build is a stand-in that names an artifact which is there already.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from imagebuild import trovestack
from imagebuild.cli.trovestack import Runner
from tests.services import publishing
from tests.services.cloud import TestCloud
from tests.services.rotating import Site, connection

#: Stands for `imagebuild`: builds nothing; of what is verified, the artifact says so itself.
PROGRAM = """\
import json, os, sys
artifact, words = sys.argv[1], sys.argv[2:]
if words[0] == "build":
    print(json.dumps({"artifact": artifact}))
elif words[0] == "verify":
    assert words == ["verify", artifact, "--level", "static"], words
else:
    os.execv(sys.executable, [sys.executable, "-m", "imagebuild", *words])
"""
RULES = {"configuration-parameters": [
    {"name": "wait_timeout", "restart_required": False, "min": 1, "max": 100, "type": "integer"},
]}  # fmt: skip


def test_build_and_upload_image(cloud: TestCloud, tmp_path: Path) -> None:
    made = publishing.make(cloud, tmp_path)
    rules = tmp_path / "trove/trove/templates/mysql/validation-rules.json"
    rules.parent.mkdir(parents=True)
    rules.write_text(json.dumps(RULES))
    (tmp_path / "stub").write_text(PROGRAM)
    env = {"DATASTORE_TYPE": "mysql", "DATASTORE_VERSION": "8.4", "OS_CLOUD": "admin"}
    host = trovestack.Host(
        user="stack", home=tmp_path, called_as=tmp_path / "trove/integration/scripts/trovestack",
        head=lambda _: None, exists=lambda path: path.exists(), which=lambda _: None,
    )  # fmt: skip
    argv = ("build-and-upload-image", "ubuntu", "noble", "false")
    found = trovestack.translate(argv, env, host)
    program = (sys.executable, str(tmp_path / "stub"), str(made.artifact))
    for _ in range(2):  # and run again, nothing is made twice
        assert Runner(found, made.environ(), program).run() == 0
        (image,) = made.images("admin")
        assert image.status == "active"
        assert image.visibility == "public"
        assert image.tags == {"trove"}
        site = Site(cloud, connection(cloud, "admin"))
        (version,) = site.datastores.versions()
        assert (version.datastore, version.name, version.manager) == ("mysql", "8.4", "mysql")
        assert version.image_tags == ("trove",)
        assert version.is_active
        assert version.is_default
        assert site.taken(version.id) == image.id
        assert [p["name"] for p in site.datastores.parameters(version.id)] == ["wait_timeout"]
