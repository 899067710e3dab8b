"""The store's remote: objects to a real registry and back, and what is refused of it."""

from __future__ import annotations

import base64
import gzip
import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from imagebuild import inventory
from imagebuild.digest import of_bytes
from imagebuild.errors import PreflightError, UsageError
from imagebuild.events import Event
from imagebuild.registry.client import Client
from imagebuild.store.objects import INVENTORY, TREE, Key, Kind
from imagebuild.store.remote import form
from imagebuild.store.remote.address import RemoteAddress
from imagebuild.store.remote.sharing import SHARED
from imagebuild.store.remote.stream import DamagedError
from imagebuild.store.remote.transfer import Remote
from imagebuild.store.remote.view import RemoteView
from imagebuild.store.store import Store
from tests.pipeline import remotes
from tests.pipeline.remotes import INPUTS, KEY, Forger, fetched, pull, push, sharing_of, tags
from tests.registry_proxy import BLOBS, MANIFESTS, UPLOADS, RegistryProxy
from tests.registry_server import LOOPBACK, RegistryServer
from tests.unit.store_objects import IS_ROOT, call

as_root = pytest.mark.skipif(not IS_ROOT, reason="trees are root's")
#: The login of a registry.
LOGIN = ("ci", "a very secret word")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    with RegistryServer(tmp_path_factory.mktemp("registry")) as server:
        yield server


@pytest.fixture
def remote(server: RegistryServer, tmp_path: Path) -> Iterator[Remote]:
    """A repository of the test's own."""
    with remotes.remote_at(server.host, name_of(tmp_path)) as remote:
        yield remote


def name_of(place: Path) -> str:
    return f"team/{of_bytes(os.fsencode(place))[:12]}"


@pytest.fixture
def one(tmp_path: Path) -> Store:
    """The store of the first machine."""
    return Store(tmp_path / "one/store")


@pytest.fixture
def two(tmp_path: Path) -> Store:
    """The store of the second."""
    return Store(tmp_path / "two/store")


# --- there and back ---


def test_an_object_comes_back_as_it_was(
    remote: Remote, one: Store, two: Store, tmp_path: Path
) -> None:
    made = remotes.stored(one, tmp_path)
    pushed = push(remote, made, tmp_path)
    assert pushed.sent == pushed.bytes
    pulled, where = pull(remote, tmp_path)
    assert pulled is not None
    assert pulled.facts == remotes.FACTS
    assert pulled.bytes == pushed.bytes
    with two.hold(KEY) as held:
        back = two.seal(held, call, where, image=made.image, inputs=INPUTS, facts=pulled.facts)
    assert back.payload == made.payload
    assert (back.inputs, back.facts, back.image) == (made.inputs, made.facts, made.image)
    for name in ("manifest.json", "disk.qcow2", "disk.raw"):
        subprocess.run(["cmp", made.path / name, back.path / name], check=True)
    # Holes stay holes, nobody else may read it, and nothing is left beside it.
    assert (back.path / "disk.raw").stat().st_blocks * 512 < 4 << 20
    assert back.path.stat().st_mode & 0o077 == 0
    assert {p.name for p in two.root.iterdir()} == {KEY.name, "locks", "drafts"}
    if IS_ROOT:
        entries = [list(inventory.walk(o.tree)) for o in (made, back)]
        assert entries[0] == entries[1]
        kinds = {e.kind for e in entries[1]}
        assert kinds == {"file", "dir", "link", "char", "fifo", "socket"}
        by_path = {e.path: e for e in entries[1]}
        assert by_path["/usr/bin/sudo"].mode == 0o4755
        assert "security.capability" in by_path["/ping"].xattrs
        assert by_path["/usr/bin/sudoedit"].same_as == "/usr/bin/sudo"
        assert by_path["/whiteout"].data == "0:0"
        assert (back.tree / "sparse").stat().st_blocks * 512 < 1 << 20
    assert call("check_object", path=str(back.path), deep=True) == {"damage": []}


def test_what_it_is_in_the_registry(
    remote: Remote, server: RegistryServer, one: Store, tmp_path: Path
) -> None:
    """Form and media types are what other versions and other tools go by."""
    made = remotes.stored(one, tmp_path)
    push(remote, made, tmp_path)
    assert tags(server, name_of(tmp_path)) == [KEY.name]
    manifest = json.loads(remote.client.get_manifest(remote.tag(KEY)).data)
    assert manifest["artifactType"] == "application/vnd.imagebuild.store.object.v1"
    assert manifest["config"]["mediaType"] == "application/vnd.imagebuild.store.object.v1+json"
    types = {
        layer["annotations"]["org.opencontainers.image.title"]: layer["mediaType"].rpartition(".")[
            2
        ]
        for layer in manifest["layers"]
    }
    wanted = {"manifest.json": "v1", "disk.qcow2": "v1", "disk.raw": "v1+zstd"}
    if IS_ROOT:
        wanted |= {INVENTORY: "v1", TREE: "v1+zstd"}
    assert types == wanted
    said = manifest["annotations"]
    assert said["vnd.imagebuild.store.kind"] == "base"
    assert said["vnd.imagebuild.store.id"] == KEY.id
    assert said["org.opencontainers.image.created"].endswith("Z")
    config = server.blob_file(manifest["config"]["digest"]).read_bytes()
    assert config == (made.path / "object.json").read_bytes()


def test_two_machines_push_the_same_blobs(
    remote: Remote, one: Store, two: Store, tmp_path: Path
) -> None:
    made = remotes.stored(one, tmp_path)
    push(remote, made, tmp_path)
    first = json.loads(remote.client.get_manifest(remote.tag(KEY)).data)["layers"]
    # The name is there: one question, and nothing is packed.
    before = remote.client.request_counts
    assert push(remote, made, tmp_path).was_there
    assert remote.client.request_counts["HEAD"] == before["HEAD"] + 1
    assert remote.client.request_counts.get("PATCH") == before["PATCH"]
    # As another machine made it, and without a look at what is there.
    _, where = pull(remote, tmp_path)
    (where / "object.json").unlink()
    (where / "seal.json").unlink(missing_ok=True)
    again = remotes.stored(two, tmp_path, how=where)
    pushed = push(remote, again, tmp_path, anew=True)
    assert pushed.bytes
    assert json.loads(remote.client.get_manifest(remote.tag(KEY)).data)["layers"] == first


def test_blobs_that_are_there_are_not_sent(remote: Remote, one: Store, tmp_path: Path) -> None:
    """An object of which a part is another one's: what a base of a later night is."""
    made = remotes.stored(one, tmp_path, tree=False)
    push(remote, made, tmp_path)
    other = Key(Kind.FORMATS, "f" * 64)
    files = tmp_path / "files"
    files.mkdir()
    for name in ("disk.raw", "disk.qcow2"):
        (files / name).write_bytes((made.path / name).read_bytes())
    again = remotes.stored(one, tmp_path, other, how=files)
    pushed = push(remote, again, tmp_path)
    assert pushed.bytes > 1_000_000
    assert pushed.sent < 5_000, "only the document is new"


def test_nothing_that_root_alone_reads_can_be_read_on_the_way(
    remote: Remote, one: Store, tmp_path: Path
) -> None:
    made = remotes.stored(one, tmp_path)
    seen: list[tuple[str, int]] = []

    def watching(task: str, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401
        answer = call(task, **arguments)
        if task == "pack_tree":
            seen.append((task, Path(arguments["out"]).stat().st_mode))
        if task == "unpack_tree":
            seen.append((task, Path(arguments["blob"]).stat().st_mode))
        return answer

    for name in ("push", "pull"):
        (tmp_path / name).mkdir(mode=0o777)
    (tmp_path / "draft").mkdir()
    remote.push(made, tmp_path / "push", watching, remotes.OWNER)
    remote.pull(KEY, INPUTS, tmp_path / "draft", tmp_path / "pull", watching)
    assert list((tmp_path / "push").iterdir()) == []
    assert list((tmp_path / "pull").iterdir()) == []
    if IS_ROOT:
        assert [(t, oct(m & 0o777)) for t, m in seen] == [
            ("pack_tree", "0o600"), ("unpack_tree", "0o600"),
        ]  # fmt: skip


def test_a_login_and_tls(tmp_path: Path, one: Store) -> None:
    """The user's own login of docker, and a CA that the address names."""
    made = remotes.stored(one, tmp_path, tree=False)
    with RegistryServer(tmp_path / "registry", tls=LOOPBACK, login=LOGIN) as server:
        config = tmp_path / "docker"
        config.mkdir()
        auth = base64.b64encode(":".join(LOGIN).encode()).decode()
        document = {"auths": {server.host: {"auth": auth}}}
        (config / "config.json").write_text(json.dumps(document))
        address = RemoteAddress.parse(f"oci://{server.host}/ci/store?ca={server.ca}")
        environ = {"DOCKER_CONFIG": str(config), "HOME": str(tmp_path)}
        with Client((address.settings,), environ=environ) as client:
            remote = Remote(client, address.reference)
            push(remote, made, tmp_path)
            pulled, _ = pull(remote, tmp_path)
            assert pulled
        nobody = Client((address.settings,), environ={"HOME": str(tmp_path)})
        with nobody, pytest.raises(PreflightError):
            pull(Remote(nobody, address.reference), tmp_path)


# --- what is refused ---

LIES: dict[str, tuple[Callable[[Forger], object], str]] = {
    "another id": (lambda f: f.document.update(id="e" * 64), "it is the object base eeee"),
    "another kind": (lambda f: f.document.update(kind="agent"), "it is the object agent"),
    "no kind": (lambda f: f.document.update(kind="../../etc"), "it is the object ../../etc"),
    "other inputs": (
        lambda f: f.document["inputs"].update(os="ubuntu"), "made of other inputs",
    ),
    "no facts": (lambda f: f.document.update(facts={}), "its facts lack hooks"),
    "no payload": (lambda f: f.document.pop("payload"), "lacks payload"),
    "a newer schema": (lambda f: f.document.update(schema_version=99), "schema version 99"),
    "a path as a name": (
        lambda f: f.document["payload"].update({"../x": {"blocks": "0" * 64, "size": 1}}),
        "says what cannot be",
    ),
    "a part too many": (
        lambda f: f.document["payload"].update({"x": {"blocks": "0" * 64, "size": 1}}),
        "not those that its document names",
    ),
    "a size below zero": (
        lambda f: f.document["payload"]["etc.json"].update(size=-1), "says what cannot be",
    ),
    "a size beyond all": (
        lambda f: f.document["payload"]["etc.json"].update(size=1 << 50), "says what cannot be",
    ),
    "other content": (lambda f: f.replace("etc.json", b"[]"), "content is not what was stored"),
    "a longer part": (
        lambda f: f.layer("etc.json").update(size=3), "has 3 bytes instead of 2",
    ),
    "a blob that is not there": (
        lambda f: f.layer("etc.json").update(digest=f"sha256:{'0' * 64}"), "etc.json",
    ),
    "a type that nobody knows": (
        lambda f: f.layer("etc.json").update(mediaType="text/plain"), "of the type 'text/plain'",
    ),
    "an image": (lambda f: f.manifest.pop("artifactType"), "no object of a store"),
}  # fmt: skip


@pytest.fixture
def plain(remote: Remote, server: RegistryServer, one: Store, tmp_path: Path) -> Forger:
    """A small object without a tree, there, to be changed."""
    files = tmp_path / "plain"
    files.mkdir()
    (files / "etc.json").write_text("{}")
    found = remotes.stored(one, tmp_path, how=files)
    push(remote, found, tmp_path)
    return Forger(server, found, remote)


@pytest.mark.parametrize("lie", LIES)
def test_a_lying_object_is_refused(
    plain: Forger, server: RegistryServer, two: Store, tmp_path: Path, lie: str
) -> None:
    change, said = LIES[lie]
    change(plain)
    if "blob" not in lie:  # the registry itself takes no manifest of what it has not
        plain.put()
    else:
        plain.layer("etc.json").update(digest=plain.server.blob("elsewhere/x", b"{}"))
        blob = plain.server.blob_file(plain.layer("etc.json")["digest"])
        plain.put()
        blob.unlink()
    told: list[Event] = []
    url = f"oci://{server.host}/{name_of(tmp_path)}"
    sharing = sharing_of(url, tmp_path / "scratch", told)
    assert fetched(sharing, two) is None
    (warning,) = remotes.warnings(told)
    assert said in warning
    assert f"{KEY.name} in {url} is refused, it is made here" in warning
    assert not two.path(KEY).exists()
    assert list((tmp_path / "scratch").iterdir()) == [], "nothing is left of it"
    sharing.close()


def test_the_document_must_have_its_own_digest(
    plain: Forger, remote: Remote, tmp_path: Path
) -> None:
    plain.document["facts"] = {"hooks": ["another"]}
    plain.put(seal=False)
    with pytest.raises(DamagedError, match="is not what was written"):
        pull(remote, tmp_path)


def _entry(entries: list[dict[str, Any]], path: str) -> dict[str, Any]:
    return next(e for e in entries if e["path"] == path)


def _add(entries: list[dict[str, Any]], **said: object) -> dict[str, Any]:
    entries.append({**_entry(entries, "/etc/passwd"), "size": 0, "data": of_bytes(b""), **said})
    return entries[-1]


TREE_LIES: dict[str, tuple[Callable[[list[dict[str, Any]]], object], str]] = {
    "a path upwards": (lambda e: _add(e, path="/etc/../../out"), "no path below"),
    "a path with dots": (lambda e: _add(e, path="/.."), "no path below"),
    "no slash": (lambda e: _add(e, path="out"), "no path below"),
    "two slashes": (lambda e: _add(e, path="/etc//x"), "no path below"),
    "a path through a link": (
        lambda e: [_add(e, path="/way", kind="link", data="/tmp"), _add(e, path="/way/out")],
        "no path below",
    ),
    "a directory instead of a link": (
        lambda e: [
            _add(e, path="/way", kind="link", data="/tmp"),
            _add(e, path="/way", kind="dir", data=""),
        ],
        "there twice",
    ),
    "the same path twice": (lambda e: _add(e, path="/etc/passwd"), "there twice"),
    "a null byte": (lambda e: _add(e, path="/etc/a\0b"), "a name in the inventory is none"),
    "a surrogate": (lambda e: _add(e, path="/etc/\ud800"), "a name in the inventory is none"),
    "a long name": (lambda e: _add(e, path="/" + "n" * 256), "no path below"),
    "this machine's disk": (
        lambda e: _add(e, path="/sda", kind="block", data="8:0"), "which no guest's tree has",
    ),
    "this machine's memory": (
        lambda e: _add(e, path="/mem", kind="char", data="1:1"), "which no guest's tree has",
    ),
    "a door": (lambda e: _add(e, path="/door", kind="door"), "which no guest's tree has"),
    "a hard link out": (
        lambda e: _add(e, path="/shadow", same_as="/../../../etc/shadow"), "what is not there",
    ),
    "a mode beyond all": (
        lambda e: _entry(e, "/etc/passwd").update(mode=0o100644), "its mode is",
    ),
    "a size below zero": (lambda e: _entry(e, "/etc/passwd").update(size=-5), "its size is"),
    "a size in words": (lambda e: _entry(e, "/etc/passwd").update(size="9"), "its size is '?9"),
    "a file of zeros": (
        lambda e: _entry(e, "/etc/passwd").update(size=1 << 45), "shorter than",
    ),
    "attributes in words": (
        lambda e: _entry(e, "/etc").update(xattrs={"user.x": "zz"}), "attributes cannot be read",
    ),
    "what no entry has": (lambda e: _entry(e, "/etc").update(exec=1), "cannot be read"),
    "no root": (lambda e: e.pop(0), "does not begin with"),
    "nothing": (lambda e: e.clear(), "is empty"),
    "setuid": (
        lambda e: _entry(e, "/etc/passwd").update(mode=0o4755, data="0" * 64), "",
    ),
    "less than the stream has": (
        lambda e: _entry(e, "/etc/passwd").update(size=3), "longer than what it should hold",
    ),
}  # fmt: skip


@as_root
@pytest.mark.parametrize("lie", TREE_LIES)
def test_a_lying_inventory_is_refused(
    remote: Remote, server: RegistryServer, one: Store, two: Store, tmp_path: Path, lie: str
) -> None:
    """Also when all digests fit: the tree is made by root."""
    found = remotes.small(one, tmp_path)
    push(remote, found, tmp_path)
    forger = Forger(server, found, remote)
    change, said = TREE_LIES[lie]
    forger.inventory(change)
    forger.put()
    outside = set(tmp_path.iterdir())
    told: list[Event] = []
    sharing = sharing_of(f"oci://{server.host}/{name_of(tmp_path)}", tmp_path / "scratch", told)
    assert fetched(sharing, two) is None
    (warning,) = remotes.warnings(told)
    assert "is refused" in warning
    assert said.removeprefix("its size is '?") in warning
    assert list((tmp_path / "scratch").iterdir()) == []
    assert set(tmp_path.iterdir()) - outside <= {tmp_path / "scratch", tmp_path / "two"}
    assert not Path("/out").exists()
    sharing.close()


STREAMS: dict[str, tuple[Callable[[], bytes], str]] = {
    "no zstd": (lambda: b"BZh9 what is this?", "unsupported format"),
    "a bomb": (
        lambda: zstd(["sh", "-c", "head -c 300M /dev/zero"]), "longer than what it should hold",
    ),
    "too short": (lambda: zstd(["echo", "x"]), "shorter than"),
    "cut off": (lambda: zstd(["head", "-c", "300100", "/dev/urandom"])[:200_000], "shorter than"),
    "a wide window": (
        lambda: zstd(["head", "-c", "300M", "/dev/zero"], "--long=31"), "emory",
    ),
}  # fmt: skip


def zstd(argv: list[str], *options: str) -> bytes:
    """What a program prints, compressed."""
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as source:
        done = subprocess.run(
            ["zstd", "-q", "-1", *options], stdin=source.stdout, capture_output=True, check=True
        )
    return done.stdout


@as_root
@pytest.mark.parametrize("what", STREAMS)
def test_a_damaged_stream_is_refused(
    remote: Remote, server: RegistryServer, one: Store, tmp_path: Path, what: str
) -> None:
    found = remotes.small(one, tmp_path)
    push(remote, found, tmp_path)
    forger = Forger(server, found, remote)
    make, said = STREAMS[what]
    forger.replace(TREE, make())
    forger.put()
    with pytest.raises(DamagedError, match=said):
        pull(remote, tmp_path)


@as_root
def test_a_bomb_of_gzip_is_refused(
    remote: Remote, server: RegistryServer, one: Store, tmp_path: Path
) -> None:
    """An inventory of one line without an end."""
    found = remotes.small(one, tmp_path)
    push(remote, found, tmp_path)
    forger = Forger(server, found, remote)
    bomb = gzip.compress(b"[" * (64 << 20))
    place = tmp_path / "bomb"
    place.write_bytes(bomb)
    from imagebuild.store import fingerprint

    forger.replace(INVENTORY, bomb)
    said = {"blocks": fingerprint.of_file(place), "size": len(bomb)}
    forger.document["payload"][INVENTORY] = said
    forger.put()
    with pytest.raises(DamagedError, match="has no end"):
        pull(remote, tmp_path)


@as_root
def test_what_was_refused_is_replaced(
    remote: Remote, server: RegistryServer, one: Store, two: Store, tmp_path: Path
) -> None:
    """The next machine finds the one that was made instead."""
    found = remotes.small(one, tmp_path)
    push(remote, found, tmp_path)
    forger = Forger(server, found, remote)
    forger.document["facts"] = {}
    forger.put()
    told: list[Event] = []
    sharing = sharing_of(f"oci://{server.host}/{name_of(tmp_path)}", tmp_path / "scratch", told)
    assert fetched(sharing, two) is None
    made = remotes.small(two, tmp_path)
    with two.hold(KEY):
        sharing.offer(made)
        sharing.finish()
    sharing.close()
    assert pull(remote, tmp_path)[0] is not None


# --- what a network and a registry do ---


@pytest.fixture
def proxy(server: RegistryServer) -> Iterator[RegistryProxy]:
    with RegistryProxy(server) as proxy:
        yield proxy


@pytest.mark.parametrize("at", [700, 70_000], ids=["document", "part"])
def test_damage_on_the_way_is_refused(
    remote: Remote, proxy: RegistryProxy, one: Store, tmp_path: Path, at: int
) -> None:
    push(remote, remotes.stored(one, tmp_path, tree=False), tmp_path)
    proxy.corrupt_download(BLOBS, at=at, times=None)
    said = "something else than was asked for|what its digest says"
    through = remotes.remote_at(proxy.host, name_of(tmp_path))
    with through as remote, pytest.raises(DamagedError, match=said):
        pull(remote, tmp_path)


def test_a_download_that_breaks_goes_on(
    remote: Remote, proxy: RegistryProxy, one: Store, tmp_path: Path
) -> None:
    push(remote, remotes.stored(one, tmp_path, tree=False), tmp_path)
    rule = proxy.cut_download(BLOBS, after=1000, times=2)
    with remotes.remote_at(proxy.host, name_of(tmp_path)) as through:
        assert pull(through, tmp_path)[0] is not None
    assert rule.hits == 2


@pytest.mark.parametrize("phase", ["HEAD", "blob"])
def test_a_remote_that_fails_is_asked_no_more(
    remote: Remote, proxy: RegistryProxy, one: Store, two: Store, tmp_path: Path, phase: str
) -> None:
    """One warning; the build makes all itself, and waits no second time."""
    push(remote, remotes.stored(one, tmp_path, tree=False), tmp_path)
    method, path = ("HEAD", MANIFESTS) if phase == "HEAD" else ("GET", BLOBS)
    proxy.fail(method, path, status=500, times=None)
    told: list[Event] = []
    sharing = sharing_of(f"oci://{proxy.host}/{name_of(tmp_path)}", tmp_path / "scratch", told)
    assert fetched(sharing, two) is None
    (warning,) = remotes.warnings(told)
    assert "is of no use, the build goes on" in warning
    asked = proxy.count()
    assert fetched(sharing, two, Key(Kind.AGENT, "a" * 64)) is None
    sharing.offer(remotes.stored(two, tmp_path, tree=False))
    sharing.finish()
    sharing.close()
    assert proxy.count() == asked
    assert len(remotes.warnings(told)) == 1
    assert list((tmp_path / "scratch").iterdir()) == []


def test_nobody_there(proxy: RegistryProxy, two: Store, tmp_path: Path) -> None:
    told: list[Event] = []
    sharing = sharing_of("oci://127.0.0.1:9/store", tmp_path / "scratch", told)
    assert fetched(sharing, two) is None
    assert "is of no use" in remotes.warnings(told)[0]
    assert "Connection refused" in remotes.warnings(told)[0]
    sharing.close()
    proxy.fail("HEAD", MANIFESTS, status=403, times=None)
    with RemoteView(RemoteAddress.parse(f"oci://{proxy.host}/store")) as view:
        assert not view.has(KEY)
    assert "cannot be asked" in view.failure


@pytest.mark.parametrize("path", [UPLOADS, MANIFESTS])
def test_a_push_that_fails_is_a_warning_and_leaves_no_tag(
    server: RegistryServer, proxy: RegistryProxy, one: Store, tmp_path: Path, path: str
) -> None:
    for method in ("POST", "PUT"):
        proxy.fail(method, path, status=403, times=None)
    told: list[Event] = []
    sharing = sharing_of(f"oci://{proxy.host}/{name_of(tmp_path)}", tmp_path / "scratch", told)
    made = [
        remotes.stored(one, tmp_path, Key(kind, "a" * 64), tree=False)
        for kind in (Kind.BASE, Kind.AGENT)
    ]
    for each in made:
        sharing.offer(each)
    sharing.finish()
    sharing.close()
    (warning,) = remotes.warnings(told)
    assert "does not get to the store's remote" in warning
    assert "?ro" in warning
    assert tags(server, name_of(tmp_path)) == []


def test_read_only_sends_nothing(server: RegistryServer, one: Store, tmp_path: Path) -> None:
    told: list[Event] = []
    url = f"oci://{server.host}/{name_of(tmp_path)}?ro"
    sharing = sharing_of(url, tmp_path / "scratch", told)
    sharing.offer(remotes.stored(one, tmp_path, tree=False))
    sharing.finish()
    sharing.close()
    assert told == []
    assert tags(server, name_of(tmp_path)) == []


@pytest.mark.parametrize("kind", [Kind.TRUNK, Kind.QCOW2])
def test_disks_between_the_stages_stay_here(
    remote: Remote, server: RegistryServer, one: Store, two: Store, tmp_path: Path, kind: Kind
) -> None:
    assert kind not in SHARED
    key = Key(kind, "d" * 64)
    made = remotes.stored(one, tmp_path, key, tree=False)
    told: list[Event] = []
    sharing = sharing_of(f"oci://{server.host}/{name_of(tmp_path)}", tmp_path / "scratch", told)
    sharing.offer(made)
    sharing.finish()
    assert tags(server, name_of(tmp_path)) == []
    push(remote, made, tmp_path)
    assert fetched(sharing, two, key) is None
    sharing.close()


def test_two_builds_of_a_machine_pull_once(
    remote: Remote, proxy: RegistryProxy, one: Store, two: Store, tmp_path: Path
) -> None:
    push(remote, remotes.stored(one, tmp_path, tree=False), tmp_path)
    told: list[Event] = []
    found = []

    def build(number: int) -> None:
        url = f"oci://{proxy.host}/{name_of(tmp_path)}"
        sharing = sharing_of(url, tmp_path / f"scratch-{number}", told)
        found.append(fetched(sharing, two))
        sharing.close()

    threads = [threading.Thread(target=build, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [f.key for f in found if f] == [KEY] * 3
    manifest = json.loads(remote.client.get_manifest(remote.tag(KEY)).data)
    assert proxy.count("GET", BLOBS) == len(manifest["layers"]) + 1


# --- the address, and looking ---


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("https://registry.example/a", "does not begin with oci://"),
        ("registry.example/a", "does not begin with oci://"),
        ("oci://registry.example", "names no repository"),
        ("oci://registry.example/", "names no repository"),
        ("oci://registry/a", "is no host"),
        ("oci://registry.example/A", "no repository"),
        ("oci://registry.example/a:tag", "tags are the store's own"),
        ("oci://registry.example/a?rw", "may stand ro and ca=FILE"),
        ("oci://registry.example/a?ca", "may stand ro and ca=FILE"),
        ("oci://me:secret@registry.example/a", "login does not belong"),
        ("https://me:secret@registry.example/a", "login does not belong"),
    ],
)
def test_addresses_that_are_none(text: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        RemoteAddress.parse(text)
    assert says in str(caught.value)
    assert "secret" not in str(caught.value)


def test_an_address_with_all_in_it() -> None:
    address = RemoteAddress.parse("oci+http://registry.example:5000/team/store?ro&ca=/etc/ca.pem")
    assert address.reference.name == "registry.example:5000/team/store"
    assert address.read_only
    assert address.settings.plain_http
    assert address.settings.ca == Path("/etc/ca.pem")
    assert str(address) == "oci+http://registry.example:5000/team/store"
    assert not RemoteAddress.parse("oci://registry.example/store").read_only


def test_who_looks_asks_for_names_alone(
    remote: Remote, proxy: RegistryProxy, one: Store, tmp_path: Path
) -> None:
    push(remote, remotes.stored(one, tmp_path, tree=False), tmp_path)
    address = RemoteAddress.parse(f"oci://{proxy.host}/{name_of(tmp_path)}")
    with RemoteView(address) as view:
        assert view.has(KEY)
        assert not view.has(Key(Kind.AGENT, "b" * 64))
        assert not view.has(Key(Kind.TRUNK, "b" * 64))
    assert view.failure == ""
    assert proxy.count("GET", "/team/") == 0
    assert proxy.count("HEAD") == 2


def test_parts_travel_alike_everywhere() -> None:
    """A change of these rules makes other blobs of the same objects, and needs a new version."""
    assert form.media_type("tree", 5).endswith("tree.v1+zstd")
    assert form.media_type("tree.jsonl.gz", 5 << 20).endswith("file.v1")
    assert form.media_type("x.qcow2", 5 << 20).endswith("file.v1")
    assert form.media_type("x.raw", 5 << 20).endswith("file.v1+zstd")
    assert form.media_type("x.raw", 5 << 10).endswith("file.v1")
