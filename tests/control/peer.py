"""Stands for a guest agent: Trove's own RPC service with a manager that remembers.

Run by Trove's Python: peer.py CONF_DIR STATE_DIR, with a guest's configuration. It sends a
heartbeat a second, the status that STATE_DIR/status says, and writes what it was told to
prepare to STATE_DIR/prepare.json.
"""

# mypy: ignore-errors
# ruff: noqa: ANN001, ANN003, ANN202, ANN204, ARG002

import json
import sys
import threading
import time
from pathlib import Path

import trove.cmd  # noqa: F401 - first: it patches what it wants patched
from oslo_service import service as launcher
from oslo_utils import timeutils
from trove.cmd import guest  # noqa: F401 - registers the options of a guest
from trove.common import cfg

CONF = cfg.CONF
STATE = Path(sys.argv[2])


class Manager:
    """The calls that the tests make, on lists in memory."""

    def __init__(self):
        self.databases, self.users = [], []

    def rpc_ping(self, context):
        return True

    def prepare(self, context, **told):
        self.databases += told["databases"] or []
        self.users += told["users"] or []
        part = STATE / "prepare.part"
        part.write_text(json.dumps(told))
        part.rename(STATE / "prepare.json")

    def list_databases(self, context, limit=None, marker=None, include_marker=False):
        found = [d for d in self.databases if not marker or d["_name"] == marker]
        return found[:limit], None

    def create_database(self, context, databases):
        self.databases += databases

    def delete_database(self, context, database):
        self.databases = [d for d in self.databases if d["_name"] != database["_name"]]

    def list_users(self, context, limit=None, marker=None, include_marker=False):
        name = (marker or "").rpartition("@")[0]
        return [u for u in self.users if not name or u["_name"] == name][:limit], None

    def get_user(self, context, username, hostname):
        return next((u for u in self.users if u["_name"] == username), None)

    def create_user(self, context, users):
        self.users += users

    def delete_user(self, context, user):
        self.users = [u for u in self.users if u["_name"] != user["_name"]]

    def _databases_of(self, username):
        return next(u for u in self.users if u["_name"] == username)["_databases"]

    def list_access(self, context, username, hostname):
        return self._databases_of(username)

    def grant_access(self, context, username, hostname, databases):
        self._databases_of(username).extend(
            {"_name": d, "_collate": None, "_character_set": None} for d in databases
        )

    def revoke_access(self, context, username, hostname, database):
        found = self._databases_of(username)
        found[:] = [d for d in found if d["_name"] != database]

    def enable_root(self, context):
        return {"_name": "root", "_password": "s3cret", "_host": "%", "_databases": []}

    def restart(self, context):
        (STATE / "restarted").touch()

    def create_backup(self, context, backup_info):
        """As the backup container does it, a word in the place of a dump."""
        from swiftclient.client import Connection
        from trove.conductor import api

        # The guest's address is forwarded to the tool's; here the file says where.
        public, local = (STATE / "swift").read_text().split()
        url = backup_info["swift_url"].replace(public, local)
        swift = Connection(preauthurl=url, preauthtoken=context.auth_token, retries=0)
        swift.put_container("database_backups")
        name = f"{backup_info['id']}.xbstream.gz"
        etag = swift.put_object("database_backups", name, b"all of it")
        api.API(context).update_backup(
            CONF.guest_id,
            backup_info["id"],
            sent=timeutils.utcnow_ts(microsecond=True),
            state="COMPLETED",
            size=0.1,
            checksum=etag,
            location=f"{backup_info['swift_url']}/database_backups/{name}",
        )


def beat():
    from trove.common.context import TroveContext
    from trove.conductor import api

    while True:
        payload = {"service_status": (STATE / "status").read_text().strip()}
        api.API(TroveContext()).heartbeat(
            CONF.guest_id, payload, sent=timeutils.utcnow_ts(microsecond=True)
        )
        time.sleep(1)


def main():
    cfg.parse_args(["peer", f"--config-dir={sys.argv[1]}"])
    CONF.set_override("report_interval", 0)
    CONF.set_override("log_dir", None)
    CONF.set_override("log_file", None)
    from trove import rpc

    rpc.init(CONF)
    from trove.common.rpc import service
    from trove.guestagent import api

    server = service.RpcService(
        key=CONF.instance_rpc_encr_key,
        topic=f"guestagent.{CONF.guest_id}",
        manager="peer.Manager",
        host=CONF.guest_id,
        rpc_api_version=api.API.API_LATEST_VERSION,
    )
    threading.Thread(target=beat, daemon=True).start()
    launcher.launch(CONF, server, restart_method="mutate").wait()


if __name__ == "__main__":
    main()
