"""Runs in the environment of tests/services: what Trove's guest agent makes of image names.

In: {"config": FILE, "cases": [{"manager", "image", "backup", "version", "there"}]}. Out: the
version that `get_backup_image` took from the file when it was imported (Trove 26), and for each
case the image that the database starts with, the image that makes backups or the exception's
class, and what the registry was asked for.
"""

import json
import logging
import sys
from typing import Any, NoReturn
from unittest import mock

import docker
import trove.cmd.guest  # noqa: F401 - what the agent imports before it reads its files
from trove.common import cfg

logging.disable()
document = json.load(sys.stdin)
cfg.parse_args(["guest", "--config-file", document["config"]])

# As the agent imports them: when the files have been read.
from trove.guestagent.datastore import service  # noqa: E402
from trove.guestagent.datastore.mariadb.service import MariaDBApp  # noqa: E402
from trove.guestagent.datastore.mysql.service import MySqlApp  # noqa: E402
from trove.guestagent.datastore.mysql_common import service as mysql_service  # noqa: E402
from trove.guestagent.datastore.postgres import service as postgres_service  # noqa: E402

APPS = {"mysql": MySqlApp, "mariadb": MariaDBApp, "postgresql": postgres_service.PgSqlApp}
CONF = cfg.CONF


class Registry:
    """Stands for docker's client: what is in the registry, and what was asked."""

    def __init__(self, there: list[str]) -> None:
        self.images = self
        self.there = there
        self.asked: list[str] = []

    def get_registry_data(self, name: str) -> Any:  # noqa: ANN401 - docker's
        self.asked.append(name)
        if name not in self.there:
            raise docker.errors.NotFound(name)
        return mock.Mock(image_name=name)


class Started(BaseException):
    """The container would start now."""


def database_image(app: Any, version: str | None) -> str:  # noqa: ANN401 - Trove's
    def start(_client: object, image: str, **_kwargs: object) -> NoReturn:
        raise Started(image)

    module = postgres_service if app is APPS["postgresql"] else mysql_service
    with (
        mock.patch.object(module.docker_util, "start_container", start),
        mock.patch.object(module.operating_system, "ensure_directory"),
    ):
        try:
            app.start_db(mock.MagicMock(), ds_version=version)
        except Started as started:
            return str(started.args[0])
    raise AssertionError("nothing was started")


def backup_image(app: Any, there: list[str]) -> tuple[str, list[str]]:  # noqa: ANN401 - Trove's
    made = app.__new__(app)
    made.docker_client = Registry(there)
    try:
        return made.get_backup_image(), made.docker_client.asked
    except RecursionError:
        return "RecursionError", made.docker_client.asked[:1]
    except Exception as exc:  # noqa: BLE001 - its class is the answer
        return type(exc).__name__, made.docker_client.asked


get_backup_image = service.BaseDbApp.get_backup_image
imported = get_backup_image.__defaults__
answers = []
for case in document["cases"]:
    CONF.set_override("datastore_manager", case["manager"])
    CONF.set_override("datastore_version", case["version"])
    CONF.set_override("docker_image", case["image"], case["manager"])
    CONF.set_override("backup_docker_image", case["backup"], case["manager"])
    if imported:  # what the file says when the agent starts
        get_backup_image.__defaults__ = (case["version"],)
    app = APPS[case["manager"]]
    image, asked = backup_image(app, case["there"])
    database = None if case["backup"] else database_image(app, case["version"])
    answers.append({"database": database, "backup": image, "asked": asked})
json.dump({"imported": imported and imported[0], "answers": answers}, sys.stdout)
