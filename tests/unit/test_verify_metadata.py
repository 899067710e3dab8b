"""The metadata service through real sockets, and the same documents on a ConfigDrive."""

from __future__ import annotations

import base64
import http.client
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from socket import create_server

import pytest

from imagebuild.host.run import need, run
from imagebuild.verify import metadata
from imagebuild.verify.configdrive import make_config_drive
from imagebuild.verify.metadata import Instance
from imagebuild.verify.nic import TWO_NICS

USER_DATA = "#!/bin/sh\n\xe9cho\n\0".encode()
INSTANCE = Instance(
    user_data=USER_DATA,
    vendor_data="Content-Type: multipart/mixed\n",
    public_key="ssh-ed25519 AAAA someone",
    nics=TWO_NICS,
    meta={"trove_instance_id": "x"},
)
SERVER = Path(metadata.__file__).with_name("metadata_server.py")


class Service:
    """The server as qemu runs it: a process for each connection, which is its stdin and stdout."""

    def __init__(self, directory: Path, log: Path, port: int) -> None:
        self.log = log
        self.port = port
        self.directory = directory

    def ask(self, path: str, method: str = "GET") -> tuple[int, bytes]:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)) as client:
            client.request(method, path)
            answer = client.getresponse()
            return answer.status, answer.read()


@contextmanager
def serving(instance: Instance, directory: Path) -> Iterator[Service]:
    tree = metadata.write(instance, directory / "tree")
    log = directory / "metadata.log"
    with create_server(("127.0.0.1", 0)) as listener:

        def work() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    subprocess.run(
                        [sys.executable, "-I", "-S", SERVER, tree, log],
                        stdin=connection.fileno(), stdout=connection.fileno(), check=True,
                    )  # fmt: skip

        threading.Thread(target=work, daemon=True).start()
        yield Service(tree, log, listener.getsockname()[1])
        listener.shutdown(2)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with serving(INSTANCE, tmp_path) as found:
        yield found


def test_cloud_init_finds_a_version_and_its_documents(service: Service) -> None:
    status, versions = service.ask("/openstack")
    assert status == 200
    assert {"2018-08-27", "latest"} <= set(versions.decode().split("\n"))
    for version in ("2018-08-27", "latest"):
        status, body = service.ask(f"/openstack/{version}/meta_data.json")
        document = json.loads(body)
        assert (status, document["meta"]) == (200, {"trove_instance_id": "x"})
        assert document["public_keys"] == {"imagebuild": INSTANCE.public_key}
        assert len(base64.b64decode(document["random_seed"])) == 512
    vendor = json.loads(service.ask("/openstack/latest/vendor_data.json")[1])
    assert vendor == {"cloud-init": INSTANCE.vendor_data}
    assert json.loads(service.ask("/openstack/latest/vendor_data2.json")[1]) == {}
    assert service.ask("/openstack/1999-01-01/meta_data.json")[0] == 404


def test_user_data_stay_byte_for_byte(service: Service) -> None:
    assert service.ask("/openstack/latest/user_data") == (200, USER_DATA)
    assert service.ask("/latest/user-data") == (200, USER_DATA)


def test_network_data_describe_the_cards_in_their_order(service: Service) -> None:
    data = json.loads(service.ask("/openstack/latest/network_data.json")[1])
    assert [link["ethernet_mac_address"] for link in data["links"]] == [n.mac for n in TWO_NICS]
    assert [n["link"] for n in data["networks"]] == [link["id"] for link in data["links"]]


def test_ec2_paths_can_be_walked(service: Service) -> None:
    """As cloud-init does: a name that ends with a slash is a directory of its own."""

    def walk(path: str) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for name in service.ask(path)[1].decode().split("\n"):
            if "=" in name:  # public-keys: a number and its name
                name = f"{name.partition('=')[0]}/"
            if name.endswith("/"):
                found |= walk(path + name)
            else:
                found[path + name] = service.ask(path + name)[1]
        return found

    leaves = walk("/latest/meta-data/")
    assert leaves["/latest/meta-data/instance-id"].startswith(b"i-")
    key = leaves["/latest/meta-data/public-keys/0/openssh-key"]
    assert key.decode() == INSTANCE.public_key
    assert leaves["/latest/meta-data/placement/availability-zone"] == b"nova"


@pytest.mark.parametrize(
    "path", ["/openstack/latest/../../metadata.log", "/openstack/latest/.hidden", "/nothing"]
)
def test_what_is_not_there_is_not_found(service: Service, path: str) -> None:
    assert service.ask("/openstack")[0] == 200  # so that there is a log
    assert service.ask(path)[0] == 404


def test_other_methods_are_refused(service: Service) -> None:
    """cloud-init's EC2 token is asked for with PUT; Nova's service has none."""
    assert service.ask("/latest/api/token", "PUT")[0] == 405
    assert service.ask("/openstack", "HEAD") == (200, b"")


def test_the_log_says_who_asked_for_what(service: Service) -> None:
    assert metadata.requests(service.log) == []
    service.ask("/openstack/latest/meta_data.json")
    service.ask("/nothing?a=b")
    asked = metadata.requests(service.log)
    assert [(r.path, r.status) for r in asked] == [
        ("/openstack/latest/meta_data.json", 200), ("/nothing?a=b", 404),
    ]  # fmt: skip
    assert asked[0].time <= asked[1].time


def test_without_user_data_there_is_none(tmp_path: Path) -> None:
    with serving(Instance(), tmp_path) as service:
        assert service.ask("/openstack/latest/user_data")[0] == 404
        assert service.ask("/latest/user-data")[0] == 404
        assert json.loads(service.ask("/openstack/latest/vendor_data.json")[1]) == {}


def test_config_drive_is_labelled_and_holds_the_same_documents(tmp_path: Path) -> None:
    iso = make_config_drive(tmp_path / "config.iso", INSTANCE)
    isoinfo = need("isoinfo", "genisoimage")
    assert "\nVolume id: config-2\n" in run([isoinfo, "-d", "-i", iso]).stdout.decode()
    names = run([isoinfo, "-R", "-f", "-i", iso]).stdout.decode().split()
    documents = metadata.openstack(INSTANCE)
    latest = "/openstack/latest"
    assert {n for n in names if n.startswith(f"{latest}/")} == {f"{latest}/{n}" for n in documents}
    for name in ("user_data", "network_data.json", "vendor_data.json"):
        read = run([isoinfo, "-R", "-i", iso, "-x", f"{latest}/{name}"]).stdout
        assert read == documents[name]
    assert [path.name for path in tmp_path.iterdir()] == ["config.iso"]
