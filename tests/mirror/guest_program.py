"""Runs in the environment of tests/services: what Trove's guest agent makes of image names.

In: {"config": FILE, "cases": [{"manager", "image", "backup", "version", "there"}]}. Out: the
version that `get_backup_image` took from the file when it was imported (Trove 26), and for each
case the image that the database starts with, the image that makes backups or the exception's
class, and what the registry was asked for.
"""

import json
import logging
import sys
from unittest import mock

import docker
import trove.cmd.guest  # noqa: F401 - what the agent imports before it reads its files
from trove.common import cfg

logging.disable()
document = json.load(sys.stdin)
cfg.parse_args(["guest", "--config-file", document["config"]])

from trove.guestagent.datastore import service
from trove.guestagent.datastore.mariadb.service import MariaDBApp
from trove.guestagent.datastore.mysql.service import MySqlApp
from trove.guestagent.datastore.mysql_common import service as mysql_service
from trove.guestagent.datastore.postgres import service as postgres_service

APPS = {"mysql": MySqlApp, "mariadb": MariaDBApp, "postgresql": postgres_service.PgSqlApp}
CONF = cfg.CONF


class Registry:
    """Stands for docker's client: what is in the registry, and what was asked."""

    def __init__(self, there):
        self.images = self
        self.there = there
        self.asked = []

    def get_registry_data(self, name):
        self.asked.append(name)
        if name not in self.there:
            raise docker.errors.NotFound(name)
        return mock.Mock(image_name=name)


class Started(BaseException):
    """The container would start now."""


def database_image(app, version):
    def start(_client, image, **_kwargs):
        raise Started(image)

    module = postgres_service if app is APPS["postgresql"] else mysql_service
    with (
        mock.patch.object(module.docker_util, "start_container", start),
        mock.patch.object(module.operating_system, "ensure_directory"),
    ):
        try:
            app.start_db(mock.MagicMock(), ds_version=version)
        except Started as started:
            return started.args[0]
    raise AssertionError("nothing was started")


def backup_image(app, there):
    made = app.__new__(app)
    made.docker_client = Registry(there)
    try:
        return made.get_backup_image(), made.docker_client.asked
    except RecursionError:
        return "RecursionError", made.docker_client.asked[:1]
    except Exception as exc:
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
