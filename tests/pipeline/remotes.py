"""Objects of the store with everything nasty in them, and a remote to send them to."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import socket
import struct
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from imagebuild.events import Event, Note
from imagebuild.store.objects import INVENTORY, TREE, Key, Kind, Object
from imagebuild.store.remote import form
from imagebuild.store.remote.address import RemoteAddress
from imagebuild.store.remote.sharing import Sharing, client_of, remote_of
from imagebuild.store.remote.transfer import Pulled, Pushed, Remote
from imagebuild.store.store import Store
from tests.registry_server import RegistryServer
from tests.unit.store_objects import IMAGE, IS_ROOT, call

INPUTS = {"os": "debian", "tools": {"imagebuild": "1"}, "suites": ["a", "b"]}
FACTS = {"hooks": [["root", "08-debootstrap", 1.5]]}
TIME = 1_600_000_000
KEY = Key(Kind.BASE, "0123456789abcdef" * 4)
OWNER = (os.getuid(), os.getgid())


def nasty_tree(tree: Path) -> Path:
    """One of each: holes, links, odd names, and as root also owners, devices, capabilities."""
    (tree / "usr/bin").mkdir(parents=True)
    (tree / "empty").mkdir(mode=0o1777)
    (tree / "empty").chmod(0o1777)
    (tree / "usr/bin/sudo").write_bytes(b"\x7fELF")
    (tree / "usr/bin/sudo").chmod(0o4755)
    (tree / "usr/nothing").touch()
    (tree / "usr/secret").write_text("the root password")
    (tree / "usr/secret").chmod(0o600)
    os.link(tree / "usr/bin/sudo", tree / "usr/bin/sudoedit")
    (tree / "usr/bin/link").symlink_to("/etc/shadow")
    (tree / "usr/dangling").symlink_to(os.fsdecode(b"no \xff utf-8"))
    (tree / "usr/directory").symlink_to("../../../../../etc")
    os.mkfifo(tree / "queue", 0o620)
    with (tree / "sparse").open("wb") as file:
        file.write(b"start")
        file.truncate(5 << 20)
        file.seek(3 << 20)
        file.write(os.urandom(9000))
    (tree / "zeros").write_bytes(bytes(70_000))
    for odd in (b"x" * 255, b"\xff\xfe name", b"a\nb", b'"quoted" \\', "größe".encode(), b"-rf"):
        Path(os.fsdecode(os.fsencode(tree) + b"/" + odd)).write_bytes(odd)
    deep = tree
    for _ in range(15):
        deep /= "d" * 200
        deep.mkdir()
    (deep / "f").write_text("deep")
    with socket.socket(socket.AF_UNIX) as listening:
        here = os.open(tree, os.O_RDONLY)
        listening.bind(f"/proc/self/fd/{here}/socket")
        os.close(here)
    os.setxattr(tree / "usr/secret", "user.note", b"\0\xff")
    if IS_ROOT:
        os.mknod(tree / "whiteout", 0o020000, os.makedev(0, 0))
        os.mknod(tree / "null", 0o020666, os.makedev(1, 3))
        os.setxattr(tree / "usr", "trusted.overlay.opaque", b"y")
        os.chown(tree / "usr/bin/sudo", 0, 27)
        (tree / "usr/bin/sudo").chmod(0o4755)
        os.chown(tree / "usr/bin/link", 12, 34, follow_symlinks=False)
        os.chown(tree / "usr/secret", 2**32 - 2, 100_000)
        (tree / "ping").write_bytes(b"ping")
        capability = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)
        os.setxattr(tree / "ping", "security.capability", capability)
        # user::rwx, user:1000:r--, group::r-x, mask::r-x, other::---
        acl = struct.pack("<I", 2) + b"".join(
            struct.pack("<HHI", *entry)
            for entry in (
                (1, 7, 2**32 - 1), (2, 4, 1000), (4, 5, 2**32 - 1), (16, 5, 2**32 - 1),
                (32, 0, 2**32 - 1),
            )
        )  # fmt: skip
        os.setxattr(tree / "empty", "system.posix_acl_access", acl)
        os.setxattr(tree / "empty", "system.posix_acl_default", acl)
    for parent, directories, files in os.walk(tree, topdown=False):
        for number, name in enumerate((*directories, *files)):
            moment = TIME + number * 86_400 - 3_000_000_000 * (name == "zeros")
            os.utime(Path(parent, name), (moment, moment), follow_symlinks=False)
    return tree


def draft(place: Path, *, tree: bool = True) -> Path:
    """The files of an object: small, large and compressible, with holes; and a nasty tree."""
    place.mkdir(parents=True)
    (place / "manifest.json").write_text("{}")
    (place / "disk.qcow2").write_bytes(os.urandom(1_300_000))
    with (place / "disk.raw").open("wb") as file:
        file.write(b"boot" * 1000)
        file.truncate(40 << 20)
        file.seek(30 << 20)
        file.write(b"root" * 500_000)
    if tree:
        nasty_tree(place / TREE)
    return place


def stored(
    store: Store, place: Path, key: Key = KEY, *, tree: bool = IS_ROOT, how: Path | None = None
) -> Object:
    """An object in a store; `how`: a directory with its files, which is gone afterwards."""
    with store.hold(key) as held:
        made = how or draft(place / f"draft-{key.kind}-{key.id[:6]}", tree=tree)
        return store.seal(held, call, made, image=IMAGE, inputs=INPUTS, facts=FACTS)


def small(store: Store, place: Path, key: Key = KEY) -> Object:
    """An object that is quickly made, with a tree that is as small."""
    made = place / f"small-{key.kind}-{key.id[:6]}"
    (made / TREE / "etc").mkdir(parents=True)
    (made / TREE / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\n")
    (made / TREE / "etc/data").write_bytes(os.urandom(300_000))
    return stored(store, place, key, how=made)


def push(remote: Remote, found: Object, place: Path, *, anew: bool = False) -> Pushed:
    """Push with the tasks of the worker run in this process."""
    with tempfile.TemporaryDirectory(dir=place) as spool:
        return remote.push(found, Path(spool), call, OWNER, anew=anew)


def pull(
    remote: Remote, place: Path, key: Key = KEY, inputs: object = None
) -> tuple[Pulled | None, Path]:
    """Pull in the same way; the directory that it was pulled into."""
    target = Path(tempfile.mkdtemp(dir=place, prefix="pulled-"))
    with tempfile.TemporaryDirectory(dir=place) as spool:
        wanted = INPUTS if inputs is None else inputs
        return remote.pull(key, wanted, target, Path(spool), call), target


@contextmanager
def remote_at(host: str, name: str = "team/store") -> Iterator[Remote]:
    """The remote in a repository of a registry."""
    address = RemoteAddress.parse(f"oci://{host}/{name}")
    with client_of(address) as client:
        yield remote_of(address, client)


def fetched(sharing: Sharing, store: Store, key: Key = KEY, inputs: object = None) -> Object | None:
    """What a build does that wants an object (see Workspace.find)."""
    wanted = INPUTS if inputs is None else inputs
    with store.hold(key) as held:
        found = store.take(held, call, sharing.emit)
        if found:
            return found

        def keep(place: Path, facts: Mapping[str, Any]) -> Object:
            return store.seal(held, call, place, image="other", inputs=INPUTS, facts=facts)

        def into() -> Path:
            return Path(tempfile.mkdtemp(dir=sharing.scratch))

        return sharing.fetch(key, wanted, into, call, keep)


def sharing_of(url: str, scratch: Path, told: list[Event]) -> Sharing:
    """The remote as a build sees it; what it has to say goes to `told`."""
    scratch.mkdir(exist_ok=True)
    return Sharing(RemoteAddress.parse(url), scratch, told.append)


def warnings(told: list[Event]) -> list[str]:
    """The text of each warning."""
    return [e.text for e in told if isinstance(e, Note) and e.warning]


class Forger:
    """Puts an object into a registry that is not what it says: it changes one that is right."""

    def __init__(self, server: RegistryServer, found: Object, remote: Remote) -> None:
        self.server = server
        self.tag = remote.tag(found.key)
        self.repository = self.tag.repository
        self.manifest: dict[str, Any] = json.loads(remote.client.get_manifest(self.tag).data)
        self.document: dict[str, Any] = json.loads((found.path / "object.json").read_bytes())
        self.found = found

    def layer(self, name: str) -> dict[str, Any]:
        """The descriptor of a part."""
        layers: list[dict[str, Any]] = self.manifest["layers"]
        return next(x for x in layers if name in x["annotations"].values())

    def replace(self, name: str, data: bytes, **said: object) -> None:
        """Other bytes for a part, as the manifest has it."""
        layer = self.layer(name)
        layer["digest"], layer["size"] = self.server.blob(self.repository, data), len(data)
        layer.update(said)

    def inventory(self, change: Callable[[list[dict[str, Any]]], object]) -> None:
        """Another inventory, with the document's digests made to fit."""
        from imagebuild.store import fingerprint

        lines = gzip.decompress((self.found.path / INVENTORY).read_bytes()).splitlines()
        entries = [json.loads(line) for line in lines]
        change(entries)
        text = b"".join(json.dumps(e, sort_keys=True).encode() + b"\n" for e in entries)
        data = gzip.compress(text, mtime=0)
        self.replace(INVENTORY, data)
        with tempfile.NamedTemporaryFile() as file:
            file.write(data)
            file.flush()
            blocks = fingerprint.of_file(Path(file.name))
        self.document["payload"][INVENTORY] = {"blocks": blocks, "size": len(data)}
        said = self.document["payload"][TREE]
        said["sha256"] = hashlib.sha256(text).hexdigest()
        said["entries"] = len(entries)

    def put(self, *, seal: bool = True) -> None:
        """Put it under the tag of the real one."""
        from imagebuild.digest import of_value

        if seal:
            rest = {k: v for k, v in self.document.items() if k != "sha256"}
            self.document["sha256"] = of_value(rest)
        config = json.dumps(self.document).encode()
        self.manifest["config"] = {
            "mediaType": form.CONFIG,
            "digest": self.server.blob(self.repository, config),
            "size": len(config),
        }
        data = json.dumps(self.manifest).encode()
        kind = "application/vnd.oci.image.manifest.v1+json"
        self.server.manifest(self.repository, self.tag.tag, data, kind)


def tags(server: RegistryServer, name: str = "team/store") -> list[str]:
    """The tags of a repository, asked for without our client."""
    answer = requests.get(f"http://{server.host}/v2/{name}/tags/list", timeout=10)
    return sorted(answer.json().get("tags") or []) if answer.ok else []
