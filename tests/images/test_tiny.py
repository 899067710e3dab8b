"""What lies between host and guest, with a real qemu and a kernel that has a shell as init."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from imagebuild.verify import accel, metadata
from imagebuild.verify.guest import Guest
from imagebuild.verify.metadata import Instance
from imagebuild.verify.nic import METADATA_ADDRESS, TWO_NICS, HostForward
from imagebuild.verify.spec import MachineSpec
from tests.images.builds import Built
from tests.images.tiny import tiny_guest

pytestmark = pytest.mark.image

CURL = "curl -sS --max-time 60"
INSTANCE = Instance(user_data=b"#!/bin/sh\n\0\xff", nics=TWO_NICS)


class Hello(BaseHTTPRequestHandler):
    """Answers one thing; says nothing of it."""

    def do_GET(self) -> None:
        body = b"hello"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: object) -> None:
        """The test asks the guest."""


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    """Port of a server on the host's loopback."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Hello) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield made.server_address[1]
        made.shutdown()


@pytest.fixture(scope="module")
def guest(
    bookworm: Built, server: int, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Guest]:
    directory = tmp_path_factory.mktemp("tiny")
    volume = directory / "volume.raw"
    with volume.open("wb") as file:
        file.truncate(8 << 20)
    spec = MachineSpec(
        bookworm.qcow2,
        accel.choose(),
        memory_mib=512,
        metadata=metadata.write(INSTANCE, directory / "metadata"),
        nics=TWO_NICS,
        volumes=(volume,),
        forwards={"168.0.0.100:80": server},
        host_forwards=(HostForward(0, 22),),
    )
    with tiny_guest(spec, bookworm.fs, directory) as made:
        yield made


def test_metadata_are_served_to_a_guest_without_a_route(guest: Guest) -> None:
    base = f"http://{METADATA_ADDRESS}"
    document = json.loads(guest.out(f"{CURL} {base}/openstack/latest/meta_data.json"))
    assert document["uuid"] == INSTANCE.uuid
    digest = guest.out(f"{CURL} {base}/openstack/latest/user_data | od -An -tx1").split()
    assert bytes.fromhex("".join(digest)) == INSTANCE.user_data
    paths = [r.path for r in metadata.requests(guest.machine.metadata_log)]
    assert paths == ["/openstack/latest/meta_data.json", "/openstack/latest/user_data"]


def test_many_connections_at_a_time_are_all_answered(guest: Guest) -> None:
    url = f"http://{METADATA_ADDRESS}/latest/meta-data/instance-id"
    out = guest.out(f"for n in 1 2 3 4 5 6; do {CURL} {url} & done; wait")
    assert out.count("i-00000001") == 6


def test_the_host_is_reached_where_it_was_let_in_and_nowhere_else(
    guest: Guest, server: int
) -> None:
    assert guest.out(f"{CURL} http://168.0.0.100/") == "hello"
    for address in (f"168.0.0.2:{server}", "168.0.0.100:81", "169.254.0.2"):
        refused = guest.run(f"curl -sS --max-time 5 http://{address}/")
        assert refused.rc != 0, address
        assert "hello" not in refused.out


def test_each_card_is_in_its_own_network_users_first(guest: Guest) -> None:
    out = guest.out("for n in $(cd /sys/class/net; ls -d e*); do ip -4 -br a show $n;"
                    " cat /sys/class/net/$n/address; done")  # fmt: skip
    words = out.split()
    assert words.index(TWO_NICS[0].mac) - words.index("169.254.0.15/16") == 1
    assert words.index(TWO_NICS[1].mac) - words.index("168.0.0.15/6") == 1
    assert "169.254.0.15" in guest.out("ip route get 169.254.169.254")
    assert "168.0.0.15" in guest.out("ip route get 168.0.0.4")
    # The agent takes the user's card down: the other one carries on, metadata included.
    card = guest.out(f"cd /sys/class/net; grep -l {TWO_NICS[0].mac} e*/address").split("/")[0]
    guest.out(f"ip link set {card} down")
    url = f"http://{METADATA_ADDRESS}/latest/meta-data/instance-id"
    assert guest.out(f"{CURL} {url}") == "i-00000001"
    guest.out(f"ip link set {card} up && ip address replace 169.254.0.15/16 dev {card}")


def test_machine_says_it_is_novas_and_has_its_volume(guest: Guest) -> None:
    assert guest.out("cat /sys/class/dmi/id/product_name") == "OpenStack Nova"
    assert guest.out("blockdev --getsize64 /dev/vdb") == str(8 << 20)


def test_shell_answers_after_half_a_line(guest: Guest) -> None:
    """Somebody leaves half a line in it."""
    assert guest._socket
    guest._socket.sendall(b"echo half")
    assert guest.out("echo whole") == "whole"
