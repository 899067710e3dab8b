"""What tests of promote, rollback and retire share: images, versions, what Trove would take."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import openstack

from imagebuild.cloud.connection import Cloud
from imagebuild.cloud.datastores import Datastores, DatastoreVersion
from imagebuild.cloud.images import Image, Images
from imagebuild.publish import properties
from tests.services import state
from tests.services.cloud import TestCloud
from tests.services.publishing import Done

BOTH = ("trove", "mysql")
VERSION = {
    "name": "8.4", "datastore_name": "mysql", "datastore_manager": "mysql", "version": "8.4",
    "image_tags": list(BOTH), "active": True, "packages": [],
}  # fmt: skip


@dataclass
class Site:
    """A cloud of the tests with images and versions of ours. `admin` goes through no proxy."""

    cloud: TestCloud
    admin: Cloud
    #: Days that the next image is older than now, so that the order is certain.
    days: float = 100

    @property
    def images(self) -> Images:
        return Images(self.admin.image)

    @property
    def datastores(self) -> Datastores:
        return Datastores(self.admin.database)

    def image(
        self,
        name: str,
        tags: tuple[str, ...] = BOTH,
        *,
        days: float | None = None,
        by: str = "admin",
        more: Mapping[str, str] | None = None,
    ) -> str:
        """An active image; one made later is younger by a day, unless `days` says how old."""
        age = self.days if days is None else days
        if days is None:
            self.days -= 1
        owner = self.admin if by == "admin" else connection(self.cloud, by)
        made = Images(owner.image).create({
            "name": name, "disk_format": "raw", "container_format": "bare",
            "tags": list(tags), properties.BUILD_ID: build_id(name),
            properties.TAGS: ",".join(BOTH), properties.AGENT_SERIES: "2026.1",
            properties.FORMAT: "raw", **(more or {}),
        })  # fmt: skip
        owner.image.request(
            "PUT", f"/images/{made.id}/file", data=name.encode() * 9,
            headers={"Content-Type": "application/octet-stream"},
        )  # fmt: skip
        self.age(made.id, age)
        return made.id

    def age(self, image_id: str, days: float) -> None:
        """Glance lets nobody say when an image was made."""
        self.cloud.sql(
            f"UPDATE {state.GLANCE}.images SET created_at = NOW() - INTERVAL {days * 24:.0f} HOUR"  # noqa: S608
            f" WHERE id = '{image_id}'"
        )

    def get(self, image_id: str) -> Image:
        found = self.images.get(image_id)
        assert found, f"{image_id} is gone"
        return found

    def version(self, name: str = "8.4", **changes: object) -> str:
        """A datastore version; returns its id."""
        body = VERSION | {"name": name, "version": name} | changes
        if "image" in changes:
            body.pop("image_tags")
        self.datastores.create(body)
        (found,) = [
            v for v in self.datastores.versions()
            if (v.datastore, v.name) == (body["datastore_name"], name)
        ]  # fmt: skip
        return found.id

    def taken(self, version_id: str) -> str | None:
        """The image that Trove would take now, asked as Trove asks (trove/common/glance.py)."""
        return taken(self.admin, self.datastores.get(version_id))

    def state(self) -> Any:  # noqa: ANN401 - JSON
        """All that the commands may change, without times."""
        every = [
            i for hidden in ("false", "true") for i in self.images.find(os_hidden=hidden)
        ]  # fmt: skip
        images = {
            i.id: (i.status, sorted(i.tags), {
                k: "*" if k == f"{properties.PREFIX}retired" else v
                for k, v in sorted(i.properties.items()) if k.startswith(properties.PREFIX)
            })
            for i in every
        }  # fmt: skip
        versions = {v.id: (v.image, v.image_tags) for v in self.datastores.versions()}
        return images, versions

    def run(self, *argv: str, through: str = "admin", **env: str) -> Done:
        """`imagebuild datastore …`, run to its end."""
        kept = {k: os.environ[k] for k in ("PATH", "HOME") if k in os.environ}
        process = subprocess.run(
            [sys.executable, "-m", "imagebuild", "datastore", *argv],
            env=kept | self.cloud.environ(through) | {
                "PYTHONPATH": str(Path(__file__).parents[2]), "NO_COLOR": "1", **env,
            },
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert "Traceback" not in process.stderr, process.stderr
        return Done(process.returncode, process.stdout, process.stderr)


#: A login takes longer than all that a test does with it.
_CONNECTIONS: dict[tuple[int, str], openstack.connection.Connection] = {}


def connection(cloud: TestCloud, name: str, *, own: bool = False) -> Cloud:
    """A cloud of the tests, by our own classes; `own` is for another thread."""
    made = None if own else _CONNECTIONS.get((id(cloud), name))
    if made is None:
        found = openstack.config.OpenStackConfig(
            config_files=[str(cloud.clouds)], load_envvars=False
        ).get_one(cloud=name)
        made = openstack.connection.Connection(config=found)
    if not own:
        _CONNECTIONS[id(cloud), name] = made
    return Cloud(name, made)


def build_id(name: str) -> str:
    """A build id made of a name."""
    return name.encode().hex().ljust(64, "0")[:64]


def taken(admin: Cloud, version: DatastoreVersion) -> str | None:
    """What Trove would take: the id, or the first of one page of one."""
    if version.image:
        found = Images(admin.image).get(version.image)
        return found.id if found and found.status == "active" else None
    page = admin.image.get(
        "/images", tag=list(version.image_tags), status="active", sort="created_at:desc", limit="1"
    )
    return page["images"][0]["id"] if page["images"] else None


class Watch:
    """Asks without pause which image Trove would take, in a thread, with its own connection."""

    def __init__(self, cloud: TestCloud, version_id: str) -> None:
        self._admin = connection(cloud, "admin", own=True)
        self._version_id = version_id
        self._over = threading.Event()
        self.seen: list[str | None] = []
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._ask)

    def _ask(self) -> None:
        try:
            datastores = Datastores(self._admin.database)
            while not self._over.is_set():
                self.seen.append(taken(self._admin, datastores.get(self._version_id)))
        except BaseException as exc:  # noqa: BLE001 - the test is to hear of it
            self.error = exc

    def __enter__(self) -> Watch:
        self._thread.start()
        while not self.seen and self.error is None:
            self._over.wait(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        count = len(self.seen)
        while len(self.seen) < count + 2 and self.error is None:
            self._over.wait(0.01)
        self._over.set()
        self._thread.join()
        if self.error:
            raise self.error


@dataclass
class Nova:
    """Stands for Nova, which cannot run here: it lists the servers that a file names."""

    file: Path
    port: int = 0
    server: ThreadingHTTPServer | None = None
    requests: list[str] = field(default_factory=list)

    def put(self, servers: Mapping[str, str]) -> None:
        """Set which servers there are: id → the image that each was made of."""
        self.file.write_text(json.dumps(dict(servers)))

    def start(self) -> None:
        nova = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                split = urlsplit(self.path)
                nova.requests.append(self.path)
                body = json.dumps(nova.answer(split.path, parse_qs(split.query))).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v2.1"

    def answer(self, path: str, query: Mapping[str, list[str]]) -> dict[str, Any]:
        version = {
            "id": "v2.1", "status": "CURRENT", "version": "2.1", "min_version": "2.1",
            "links": [{"rel": "self", "href": f"{self.url}/"}],
        }  # fmt: skip
        if not path.rstrip("/").endswith(("servers", "detail")):
            return {"version": version} if path.startswith("/v2.1") else {"versions": [version]}
        # Of one page; none of them has a tag, as those of Trove's instances have.
        is_other = bool({"marker", "tags", "tags-any"} & query.keys())
        servers = {} if is_other else json.loads(self.file.read_text())
        wanted = query.get("image")
        return {"servers": [
            {"id": k, "name": k, "image": {"id": v}, "links": []} for k, v in servers.items()
            if wanted is None or v in wanted
        ]}  # fmt: skip


#: Trove keeps its connection to Nova for ever, so there is one for each cloud of a session.
_NOVAS: dict[int, Nova] = {}


@contextlib.contextmanager
def compute(cloud: TestCloud) -> Iterator[Nova]:
    """A Nova in the catalog, where our commands find it, and Trove for its list of instances."""
    nova = _NOVAS.get(id(cloud))
    if nova is None:
        nova = _NOVAS[id(cloud)] = Nova(cloud.directory / "nova-servers.json")
        nova.start()
    nova.put({})
    admin: Any = connection(cloud, "admin", own=True).connection  # of Keystone's version 3
    service = admin.identity.create_service(name="nova", type="compute")
    made = [
        admin.identity.create_endpoint(
            service_id=service.id, interface="public", url=nova.url, region_id=region.id
        )
        for region in list(admin.identity.regions())
    ]
    _CONNECTIONS.clear()  # a login brings the catalog
    try:
        yield nova
    finally:
        _CONNECTIONS.clear()
        for endpoint in made:
            admin.identity.delete_endpoint(endpoint)
        admin.identity.delete_service(service)
