"""Nothing in the image is one machine's own: each instance makes it at its first boot."""

from __future__ import annotations

import re
from collections.abc import Iterator

from imagebuild.verify.checks.base import Check, Found, Severity, Subject

_MACHINE_ID = "/etc/machine-id"
_DBUS_ID = "/var/lib/dbus/machine-id"

_SEEDS = (
    "/var/lib/systemd/random-seed",
    "/var/lib/systemd/credential.secret",
    "/var/lib/urandom/random-seed",
    "/var/lib/random-seed",
    "/boot/efi/loader/random-seed",
    "/boot/loader/random-seed",
)
_IDENTIFIERS = (
    "/etc/hostid",
    "/etc/iscsi/initiatorname.iscsi",
    "/etc/nvme/hostid",
    "/etc/nvme/hostnqn",
    "/var/lib/NetworkManager/secret_key",
)
_NETWORK = (
    "/var/lib/dhcp/*.lease*",
    "/var/lib/dhcpcd/*.lease*",
    "/var/lib/NetworkManager/*.lease*",
    "/etc/udev/rules.d/*persistent-net.rules",
    "/etc/udev/rules.d/*persistent-cd.rules",
    "/etc/netplan/50-cloud-init.yaml",
    "/etc/network/interfaces.d/50-cloud-init*",
    "/etc/NetworkManager/system-connections/*",
    "/run/systemd/netif/leases/*",
)
#: Links that a guest's own resolver service fills at run time, by where they end.
_RESOLVER = re.compile(r"(/|(\.\./)+)run/(systemd/resolve/|NetworkManager/|resolvconf/)[\w.-]+")


def machine_id(subject: Subject) -> Iterator[Found]:
    """machine-id(5): empty or "uninitialized" means that the first boot makes one."""
    text = subject.tree.text_or_empty(_MACHINE_ID).strip()
    if text not in ("", "uninitialized"):
        yield Found(_MACHINE_ID, "it is set", "truncate it")
    # dbus's own is a link to the other, or made by dbus.
    node = subject.tree.get(_DBUS_ID)
    if node is not None and node.is_file and node.size:
        yield Found(_DBUS_ID, "it is set", "remove it")


def seeds(subject: Subject) -> Iterator[Found]:
    """Random seeds, and the secret that systemd seals credentials with."""
    for node in subject.present(_SEEDS):
        yield Found(node.path, "all instances would begin with the same one")


def identifiers(subject: Subject) -> Iterator[Found]:
    """Names by which storage and licences know a machine."""
    for node in subject.present(_IDENTIFIERS):
        if node.size and "GenerateName=yes" not in subject.tree.text_or_empty(node.path):
            yield Found(node.path, "it names one machine")


def cloud_init(subject: Subject) -> Iterator[Found]:
    """What cloud-init keeps of an instance: with it, the first boot is none."""
    for node in subject.tree.below("/var/lib/cloud"):
        if not node.is_dir:
            yield Found(node.path, "cloud-init has run in this tree, or a seed lies there")


def network(subject: Subject) -> Iterator[Found]:
    """Leases, names of network cards, and the building host's name servers."""
    for node in subject.present(_NETWORK):
        if not node.is_dir:
            yield Found(node.path, "it describes the network of one machine")
    path = "/etc/resolv.conf"
    conf = subject.tree.get(path)
    if conf is not None and not (conf.is_link and _RESOLVER.fullmatch(conf.link)):
        lines = subject.tree.text_or_empty(path).splitlines()
        if any(re.match(r"\s*(nameserver|search|domain)\s", line) for line in lines):
            yield Found(path, "it names the name servers of the building host")


def names(subject: Subject) -> Iterator[Found]:
    """The host name is none, or the distribution's; /etc/hosts knows the loopback alone."""
    release = subject.tree.text_or_empty("/etc/os-release")
    match = re.search(r'(?m)^ID="?([\w.-]+)"?$', release)
    generic = {"", "localhost", "localhost.localdomain", match[1] if match else ""}
    name = subject.tree.text_or_empty("/etc/hostname").strip()
    if name not in generic:
        yield Found("/etc/hostname", f"it says {name}", severity=Severity.WARNING)
    for line in subject.tree.text_or_empty("/etc/hosts").splitlines():
        words = line.split("#")[0].split()
        if words and not re.match(r"127\.|::1$|f[ef]0[0-9a-f]:", words[0]):
            what = f"it has an address of another machine: {words[0]}"
            yield Found("/etc/hosts", what, severity=Severity.WARNING)


CHECKS = (
    Check(
        "identity.machine_id",
        "there is no machine-id",
        "instances with one id get one address by DHCP and mix their journals",
        "empty /etc/machine-id, remove dbus's",
        machine_id,
    ),
    Check(
        "identity.seeds",
        "there is no random seed",
        "keys that instances make from the same seed can be guessed",
        "remove it",
        seeds,
    ),
    Check(
        "identity.identifiers",
        "there is no storage or host identifier",
        "storage takes two machines with one name for one",
        "remove it",
        identifiers,
    ),
    Check(
        "identity.cloud_init",
        "cloud-init has not run",
        "it would take the instance for one that it knows, or its user data from the image",
        "cloud-init clean --logs --seed",
        cloud_init,
    ),
    Check(
        "identity.network",
        "no network but the guest's own is described",
        "instances would ask the wrong name server, or wait for a network card that is not there",
        "remove it",
        network,
    ),
    Check(
        "identity.names",
        "no host name of the build is in the image",
        "it tells where the image was built, and instances may take it for their own",
        "write the distribution's name, or nothing",
        names,
    ),
)  # fmt: skip
