"""No private key is on the disk, and no key opens an account of the image."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from imagebuild.verify.checks.base import Check, Found, Severity, Subject, glob_matches, is_known
from imagebuild.verify.packaged import Packaged, source_of
from imagebuild.verify.search import Hit
from imagebuild.verify.tree import Node, Tree

_BEFORE = 64
_AFTER = 1024

# Header, then key material: many programs and documents name the header alone. The line
# ends may be written as "\n", and the lines be indented, quoted or joined in a source.
_ARMOUR = re.compile(
    rb"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----"
    rb"(?:\\[rn]|[\s\"',+#|>])+"
    rb"(?:[A-Za-z-]+: [^\r\n\\]*(?:\\[rn]|[\s\"',+#|>])+)*"
    rb"[A-Za-z0-9+/]{24}"
)
_PUTTY = re.compile(rb"PuTTY-User-Key-File-\d: ?\S+")
_AGE = re.compile(rb"AGE-SECRET-KEY-1[0-9A-Z]{58}")
# The first bytes of OpenSSH's own format ("openssh-key-v1", PROTOCOL.key) in base64.
_OPENSSH = re.compile(rb"b3BlbnNzaC1rZXktdjEA[A-Za-z0-9+/\s]{64}")

#: What is searched for on the disk, and what its surroundings must look like.
NEEDLES = {
    b"PRIVATE KEY": _ARMOUR,
    b"PuTTY-User-Key-File-": _PUTTY,
    b"AGE-SECRET-KEY-1": _AGE,
    b"b3BlbnNzaC1rZXktdjEA": _OPENSSH,
}

# DER begins with a SEQUENCE of a small INTEGER and the key: PKCS #8 (RFC 5208, 5958),
# PKCS #1 (RFC 8017, A.1.2), SEC 1 (RFC 5915). PKCS #12 is version 3 (RFC 7292, 4).
_DER = re.compile(
    rb"\x30(?:[\x00-\x7f]|\x81.|\x82..)\x02\x01(?:[\x00\x01]\x30|[\x00]\x02|\x01\x04|\x03\x30)",
    re.DOTALL,
)
_DER_NAMES = re.compile(r".*\.(key|pk8|p8|der|pem|priv|private|p12|pfx)", re.IGNORECASE)
_DER_DIRECTORIES = re.compile(r".*/(private|ssl|tls|pki|certs|keys)/[^/]+")
_KEYSTORE_NAMES = re.compile(r".*\.(jks|jceks|bks|keystore|kdbx?|ppk)", re.IGNORECASE)
_KEY_NAMES = re.compile(r"id_(rsa|dsa|ecdsa|ed25519|xmss)(_sk)?")
_KEY_PATHS = (
    "/etc/ssl/private/**", "**/.gnupg/private-keys-v1.d/*", "**/.gnupg/secring.gpg",
    "/etc/wireguard/*",
)  # fmt: skip
_JKS_MAGIC = (b"\xfe\xed\xfe\xed", b"\xce\xce\xce\xce")
_MOST_DER = 1 << 16


def private_keys(subject: Subject) -> Iterator[Found]:
    """Keys by their content, anywhere on the disk; binary ones by name and content."""
    packaged = Packaged(subject.tree)
    told: set[str] = set()
    for needle, pattern in NEEDLES.items():
        for hit in subject.hits.get(needle, ()):
            node = hit.place.node
            path = hit.place.where
            if node is None or hit.place.slack:
                # A key has several marks; all those behind one file's end are one key.
                place = f"{path} {'' if node else hit.place.offset}"
                if place not in told and _is_key(subject.tree, hit, needle, pattern):
                    told.add(place)
                    yield _outside(hit, subject.tree.raw.name)
            elif path not in told and _is_key(subject.tree, hit, needle, pattern):
                told.add(path)
                if not _allowed(subject, packaged, node):
                    yield Found(path, "it holds a private key")
    for node in subject.tree.files():
        what = "" if node.path in told or not node.size else _binary_key(subject.tree, node)
        if what and not _allowed(subject, packaged, node):
            yield Found(node.path, what)


def dev_key(subject: Subject) -> Iterator[Found]:
    """A development image has its one key, readable by its owner alone."""
    path = subject.expected.dev_key
    if path is None:
        return
    node = subject.tree.get(path)
    if node is None or not node.is_file:
        yield Found(path, "the key of the development image is missing")
    elif node.permissions & 0o077:
        yield Found(node.path, "others than its owner can read it", "chmod 0600")


def _outside(hit: Hit, name: str) -> Found:
    place = hit.place
    if place.slack:
        return Found(place.where, "behind its end, in its last block, stands a private key")
    what = f"byte {place.offset} of the disk, {place.where}, holds a private key"
    todo = "a deleted file left it: make it outside of the tree"
    return Found(f"({name})", what, todo)


def _is_key(tree: Tree, hit: Hit, needle: bytes, pattern: re.Pattern[bytes]) -> bool:
    """Do the surroundings of the hit, in its file or on the disk, look like a key?"""
    start = max(hit.place.offset - _BEFORE, 0)
    if hit.place.node is not None and not hit.place.slack:
        text = tree.content(hit.place.node, start, _BEFORE + _AFTER)
    elif hit.place.node is not None:
        # Behind the end of a file: that block as it is on the disk.
        text = tree.slack(hit.place.node)
        return any(True for _ in pattern.finditer(text))
    else:
        fd = os.open(tree.raw, os.O_RDONLY | os.O_CLOEXEC)
        try:
            text = os.pread(fd, _BEFORE + _AFTER, start)
        finally:
            os.close(fd)
    at = hit.place.offset - start
    return any(m.start() <= at < at + len(needle) <= m.end() for m in pattern.finditer(text))


def _binary_key(tree: Tree, node: Node) -> str:
    """What kind of key a file is by its name and first bytes, "" when it is none."""
    if _KEY_NAMES.fullmatch(node.name):
        return "it has the name of a private ssh key"
    if glob_matches(node.path, *_KEY_PATHS):
        return "it lies where private keys are kept"
    if _KEYSTORE_NAMES.fullmatch(node.name):
        return "it is a key store"
    if node.size <= _MOST_DER and (
        _DER_NAMES.fullmatch(node.name) or _DER_DIRECTORIES.fullmatch(node.path)
    ):
        head = tree.content(node, 0, 16)
        if _DER.match(head) or head[:4] in _JKS_MAGIC:
            return "it is a private key or a key store in binary form"
    return ""


def _allowed(subject: Subject, packaged: Packaged, node: Node) -> bool:
    """The development key, or a published one: named in known.yaml, as its package has it."""
    if node.path == subject.expected.dev_key:
        return True
    path = source_of(node.path) or node.path
    return is_known("published_keys", path) and packaged.unchanged(node)


_AUTHORIZED = {"authorized_keys", "authorized_keys2", ".rhosts", ".shosts"}
_EQUIVALENT = ("/etc/hosts.equiv", "/etc/ssh/shosts.equiv", "/etc/ssh/authorized_keys*/*")


def authorized_keys(subject: Subject) -> Iterator[Found]:
    """Nobody's key is let in; the cloud brings its own at the first boot."""
    named = (n for n in subject.tree.files() if n.name in _AUTHORIZED)
    for node in [*named, *subject.present(_EQUIVALENT)]:
        if node.size:
            yield Found(node.path, "it lets somebody in")


def host_keys(subject: Subject) -> Iterator[Found]:
    """ssh host keys, private and public."""
    for node in subject.present(("/etc/ssh/ssh_host_*", "/etc/dropbear/*_host_key")):
        severity = Severity.WARNING if node.name.endswith(".pub") else Severity.ERROR
        yield Found(node.path, "it is an ssh host key", severity=severity)


CHECKS = (
    Check(
        "keys.private",
        "no private key is on the disk",
        "whoever has the image has the key",
        "remove it before the tree becomes a disk",
        private_keys,
    ),
    Check(
        "keys.dev",
        "a development image's key is guarded",
        "any process of the guest could use it",
        "build the image anew",
        dev_key,
    ),
    Check(
        "keys.authorized",
        "no key opens an account",
        "its owner could log in to every instance of the image",
        "remove the file: cloud-init writes the cloud's keys",
        authorized_keys,
    ),
    Check(
        "keys.ssh_host",
        "no ssh host key is in the image",
        "all instances would have the same one, and whoever has the image could pose as them",
        "remove it: cloud-init makes one at the first boot",
        host_keys,
    ),
)  # fmt: skip
