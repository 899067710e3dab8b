"""Only what changed is made again, and what comes out is what a full build makes."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from imagebuild import components, inventory, sbom
from imagebuild.errors import BuildError
from imagebuild.host.run import run
from imagebuild.plan import STAGES
from imagebuild.store.objects import TREE, Key, Kind
from imagebuild.store.store import Store
from tests import container_images as images
from tests.images.agents import MARKER, SITE, agent_source, other_agent
from tests.images.builds import BUILDER_UID, REPO, Built, Session, as_builder, bookworm_argv
from tests.images.elements import other_agent_element, write_hook
from tests.images.fs import ImageFs
from tests.registry_server import RegistryServer

pytestmark = pytest.mark.image

NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="as another user, or without a network")
#: What follows from a new agent, and from new things on top of it.
OF_CODE = [Kind.AGENT, Kind.FORMATS]
#: What has the trunk in it.
OF_TRUNK = [Kind.TRUNK, Kind.QCOW2, Kind.FORMATS]


@dataclass(frozen=True)
class Done:
    """A build that ended well: what it said, what it placed, what its store then had more."""

    stderr: str
    artifact: Path
    made: tuple[Kind, ...]

    @property
    def qcow2(self) -> Path:
        return next(self.artifact.glob("*.qcow2"))

    @property
    def hooks(self) -> dict[str, list[list[object]]]:
        """DIB's hooks that ran, by stage."""
        found: dict[str, list[list[object]]] = self.read("timing.json")["hooks"]
        return found

    def read(self, name: str) -> Any:  # noqa: ANN401 - any JSON value
        """A document of the artifact."""
        return json.loads((self.artifact / name).read_text())

    @property
    def stages(self) -> list[str]:
        """The stages that were begun, as the build said."""
        return re.findall(rf"^({'|'.join(STAGES)}): ", self.stderr, re.MULTILINE)


def command(built: Built, images_dir: Path, *options: str) -> list[str]:
    return bookworm_argv(
        "--cache-dir", str(built.cache), "--images-dir", str(images_dir), *options
    )  # fmt: skip


def build(built: Built, images_dir: Path, *options: str, store: Store | None = None) -> Done:
    """A build with the cache of the session's, and its store or another."""
    own = ["--store", str(store.root)] if store else []
    store = store or built.store
    before = {o.key for o in store.objects()}
    argv = command(built, images_dir, *own, *options)
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=REPO)
    assert done.returncode == 0, done.stderr
    return finished(done.stderr, images_dir, store, before)


def finished(stderr: str, images_dir: Path, store: Store, before: set[Key]) -> Done:
    made = sorted(
        (o.key.kind for o in store.objects() if o.key not in before), key=list(Kind).index
    )
    (link,) = (p for p in images_dir.iterdir() if p.is_symlink())
    return Done(stderr, link.resolve(), tuple(made))


@pytest.fixture(scope="module")
def place(session: Session) -> Iterator[Path]:
    """A directory that other users, too, can reach."""
    path = session.directory / "stages"
    path.mkdir()
    yield path
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    run([*sudo, "rm", "-rf", "--one-file-system", path])


@pytest.fixture(scope="module")
def source(bookworm: Built, place: Path) -> Path:
    return agent_source(bookworm, place / "trove", "one")


@pytest.fixture(scope="module")
def new_agent(bookworm: Built, source: Path, place: Path) -> Done:
    """A build with another agent on what the session's build has made."""
    return build(bookworm, place / "new", "--agent", str(source))


@pytest.fixture(scope="module")
def raw(new_agent: Done, place: Path) -> Path:
    """Its disk."""
    path = place / "new.raw"
    run(["qemu-img", "convert", "-O", "raw", new_agent.qcow2, path])
    return path


@pytest.fixture(scope="module")
def other_store(place: Path) -> Store:
    """An empty store, which a group shares where there is another user."""
    root = place / "store"
    root.mkdir()
    if os.geteuid() == 0:
        os.chown(root, 0, BUILDER_UID)
        root.chmod(0o2770)
    return Store(root)


@pytest.fixture(scope="module")
def from_nothing(
    bookworm: Built, source: Path, place: Path, new_agent: Done, other_store: Store
) -> Done:
    """The same with an empty store."""
    assert new_agent.made
    return build(bookworm, place / "full", "--agent", str(source), store=other_store)


def flip(path: Path, place: int) -> None:
    """Change one bit of a file; its times are as before."""
    info = path.stat()
    with path.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))


def same_bytes(one: Path, other: Path) -> bool:
    return subprocess.run(["cmp", one, other], check=False).returncode == 0


def check_sums(artifact: Path) -> None:
    run(["sha256sum", "--quiet", "--strict", "-c", "SHA256SUMS"], cwd=artifact)


def test_a_new_agent_makes_only_its_code_anew(new_agent: Done) -> None:
    assert list(new_agent.made) == OF_CODE
    assert new_agent.hooks == {"base": [], "agent": []}
    assert "dib-run-parts" not in (new_agent.artifact / "build.log").read_text()
    assert re.search(r"✓ base .* already built$", new_agent.stderr, re.MULTILINE)
    assert not re.search(r"✓ agent .* already built$", new_agent.stderr, re.MULTILINE)


def test_the_new_agent_is_in_the_image(new_agent: Done, raw: Path, bookworm: Built) -> None:
    fs = ImageFs(raw)
    assert fs.read(f"{SITE}/{MARKER}") == "MARK = 'one'\n"
    assert not bookworm.fs.exists(f"{SITE}/{MARKER}")
    content = json.loads(fs.read("/etc/imagebuild/content.json"))
    assert content == new_agent.read("manifest.json")["content"]
    assert content["agent"]["kind"] == "path"
    done = run(["e2fsck", "-fn", fs.device], check=False)
    assert done.returncode == 0, done.stdout.decode()
    run(["qemu-img", "check", "-q", new_agent.qcow2])


def test_it_is_what_a_full_build_makes(new_agent: Done, from_nothing: Done) -> None:
    """File for file, and byte for byte."""
    assert set(from_nothing.made) == set(Kind) - {Kind.ELEMENTS, Kind.CONTAINER}
    assert from_nothing.hooks["base"]
    assert from_nothing.hooks["agent"]
    names = (inventory.FILE_NAME, components.FILE_NAME, sbom.SPDX, sbom.CYCLONEDX)
    entries = inventory.read(new_agent.artifact / inventory.FILE_NAME)
    assert entries == inventory.read(from_nothing.artifact / inventory.FILE_NAME)
    assert f"{SITE}/{MARKER}" in {e.path for e in entries}
    assert same_bytes(new_agent.qcow2, from_nothing.qcow2)
    for name in (*names, "manifest.json", "SHA256SUMS"):
        assert same_bytes(new_agent.artifact / name, from_nothing.artifact / name), name


def test_the_inventory_is_that_of_the_patched_disk(
    new_agent: Done, raw: Path, bookworm: Built
) -> None:
    """The list comes from the layers, the disk was changed by debugfs: both say the same."""
    tree = ImageFs(raw).tree
    before = {e.path: e for e in inventory.read(bookworm.artifact / inventory.FILE_NAME)}
    listed = {e.path: e for e in inventory.read(new_agent.artifact / inventory.FILE_NAME)}
    changed = {p for p, e in listed.items() if before.get(p) != e}
    assert len(changed) > 4
    for path in changed:
        entry, node = listed[path], tree.get(path)
        assert node is not None, path
        found = (stat.S_IMODE(node.mode), node.uid, node.gid)
        assert found == (entry.mode, entry.uid, entry.gid), path
        if entry.kind == "file":
            assert len(tree.read_bytes(path)) == entry.size, path
    for path in before.keys() - listed.keys():
        assert tree.get(path) is None, path


def test_nothing_changed(bookworm: Built, source: Path, new_agent: Done, place: Path) -> None:
    before = {p.name: (p.stat().st_ino, p.stat().st_mtime_ns) for p in new_agent.artifact.iterdir()}
    again = build(bookworm, place / "new", "--agent", str(source))
    assert "nothing has changed (" in again.stderr
    assert (again.stages, again.made) == ([], ())
    assert again.artifact == new_agent.artifact
    after = {p.name: (p.stat().st_ino, p.stat().st_mtime_ns) for p in again.artifact.iterdir()}
    assert after == before


@pytest.mark.parametrize("harm", ["damaged", "removed"])
def test_an_artifact_comes_back_from_the_store(
    bookworm: Built, source: Path, new_agent: Done, place: Path, harm: str
) -> None:
    if harm == "damaged":
        flip(new_agent.qcow2, new_agent.qcow2.stat().st_size // 2)
        with pytest.raises(BuildError, match="sha256sum failed"):
            check_sums(new_agent.artifact)
    else:
        shutil.rmtree(new_agent.artifact)
    again = build(bookworm, place / "new", "--agent", str(source))
    assert (again.stages, again.made) == (["formats"], ())
    assert again.artifact == new_agent.artifact
    assert "nothing has changed" not in again.stderr
    check_sums(again.artifact)
    assert [p.name for p in again.artifact.glob("*.qcow2")] == [new_agent.qcow2.name]


def test_elements_on_top_leave_the_agent_as_it_is(
    bookworm: Built, source: Path, place: Path, tmp_path: Path
) -> None:
    write_hook(tmp_path, "site-top/install.d/60-top", "echo top > /etc/site-top; rm /etc/issue.net")
    options = ["--elements-path", str(tmp_path), "--element", "agent:site-top"]
    done = build(bookworm, place / "top", "--agent", str(source), *options)
    assert list(done.made) == [Kind.ELEMENTS, Kind.FORMATS]
    assert done.hooks["base"] == []
    assert ["install", "60-top"] in [h[:2] for h in done.hooks["agent"]]
    assert "50-guest-agent" not in [h[1] for h in done.hooks["agent"]]
    path = place / "top.raw"
    run(["qemu-img", "convert", "-O", "raw", done.qcow2, path])
    fs = ImageFs(path)
    assert fs.read("/etc/site-top") == "top\n"
    assert not fs.exists("/etc/issue.net")
    assert fs.read(f"{SITE}/{MARKER}") == "MARK = 'one'\n"
    assert run(["e2fsck", "-fn", fs.device], check=False).returncode == 0
    path.unlink()


@pytest.fixture(scope="module")
def registry(place: Path) -> Iterator[RegistryServer]:
    with RegistryServer(place / "registry") as server:
        yield server


def test_a_changed_container_is_all_that_is_loaded_again(
    bookworm: Built, source: Path, place: Path, registry: RegistryServer
) -> None:
    """Of two containers the second: base, agent and the first one are as they were."""
    big = images.layer({"bin/db": b"\0" * 100_000, "etc/version": b"1"})
    images.image([big]).push(registry, "db", "1")
    images.image([big, images.layer({"bin/backup": b"1"})]).push(registry, "backup", "1")
    options = ["--agent", str(source)]
    for name in ("db", "backup"):
        options += ["--preload", f"{registry.host}/{name}:1=r.example/{name}:1"]
    first = build(bookworm, place / "preload", *options)
    assert list(first.made) == [Kind.CONTAINER, Kind.CONTAINER, *OF_TRUNK]
    images.image([big, images.layer({"bin/backup": b"2"})]).push(registry, "backup", "1")
    second = build(bookworm, place / "preload", *options)
    assert list(second.made) == [Kind.CONTAINER, *OF_TRUNK]
    assert second.hooks == {"base": [], "agent": []}
    assert re.search(r"✓ agent .* already built$", second.stderr, re.MULTILINE)
    names = [c.target for c in components.read(second.artifact / components.FILE_NAME).containers]
    assert names == ["r.example/db:1", "r.example/backup:1"]
    path = place / "preload.raw"
    run(["qemu-img", "convert", "-O", "raw", second.qcow2, path])
    fs = ImageFs(path)
    assert run(["e2fsck", "-fn", fs.device], check=False).returncode == 0
    layers = [n for n in fs.names("/var/lib/docker/overlay2") if len(n) == 64]
    contents = sorted(
        fs.read(f"/var/lib/docker/overlay2/{n}/diff/bin/backup")
        for n in layers
        if fs.exists(f"/var/lib/docker/overlay2/{n}/diff/bin/backup")
    )
    assert contents == ["2"], "nothing of the old one is left"
    path.unlink()


def test_what_is_damaged_is_noticed_and_made_again(
    bookworm: Built, source: Path, place: Path, from_nothing: Done, other_store: Store
) -> None:
    """One bit in a disk, and one in a file of a tree that looks as it did."""
    manifest = from_nothing.read("manifest.json")
    parts = {p["name"]: p["id"] for s in manifest["stages"] for p in s["parts"]}
    trunk = other_store.root / f"trunk-{parts['trunk'][:32]}"
    environment = other_store.root / f"environment-{parts['environment'][:32]}"
    raw = trunk / "disk.raw"
    flip(raw, raw.stat().st_size // 3)
    flip(next((environment / TREE).rglob("site-packages/oslo_config/cfg.py")), 100)
    shutil.rmtree(next(other_store.root.glob(f"formats-{manifest['build_id'][:32]}")))
    again = build(
        bookworm, place / "mended", "--agent", str(source), store=other_store
    )  # fmt: skip
    for damaged, file in ((trunk, "disk.raw"), (environment, "oslo_config/cfg.py")):
        said = f"warning: {damaged.name} in the store is damaged, it is made anew: "
        assert said in again.stderr
        why = again.stderr.split(said)[1].splitlines()[0]
        assert f"{file}: its content is not what was stored" in why
    assert again.hooks["base"] == []
    assert again.hooks["agent"], "the environment was made by diskimage-builder"
    assert same_bytes(again.qcow2, from_nothing.qcow2)
    assert [p for o in other_store.objects() if (p := other_store.problem(o.key))] == []


def offline(argv: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command where there is no network at all."""
    alone = ["unshare", "--net", *argv, "--offline"]
    return subprocess.run(alone, capture_output=True, text=True, check=False, cwd=REPO)


@NEEDS_ROOT
def test_a_new_agent_needs_no_network(
    bookworm: Built, source: Path, new_agent: Done, place: Path, tmp_path: Path
) -> None:
    """The command differs from the last one only in that the source has changed."""
    assert new_agent.made
    work = other_agent(source, tmp_path / "trove", "offline")
    images_dir = place / "offline"
    before = {o.key for o in bookworm.store.objects()}
    ran = offline(command(bookworm, images_dir, "--agent", str(work)))
    assert ran.returncode == 0, ran.stderr
    done = finished(ran.stderr, images_dir, bookworm.store, before)
    assert list(done.made) == OF_CODE
    assert "as of " in done.stderr
    path = tmp_path / "offline.raw"
    run(["qemu-img", "convert", "-O", "raw", done.qcow2, path])
    assert ImageFs(path).read(f"{SITE}/{MARKER}") == "MARK = 'offline'\n"
    path.unlink()


@NEEDS_ROOT
def test_offline_with_an_empty_store_names_the_stage(
    bookworm: Built, source: Path, new_agent: Done, tmp_path: Path
) -> None:
    assert new_agent.made
    store = tmp_path / "store"
    argv = command(
        bookworm, tmp_path / "images", "--agent", str(source), "--store", str(store)
    )  # fmt: skip
    ran = offline(argv)
    assert ran.returncode == 4, ran.stderr
    assert (
        "error: the stage base is not in the store, and making it needs the network" in ran.stderr
    )
    assert "without --offline" in ran.stderr
    assert not list((tmp_path / "images").glob("*"))
    assert Store(store).objects() == []


def test_dry_run_says_what_is_there_and_why_the_rest_is_not(
    bookworm: Built, source: Path, new_agent: Done, tmp_path: Path
) -> None:
    work = other_agent(source, tmp_path / "trove", "dry")
    argv = command(bookworm, tmp_path / "images", "--agent", str(work), "--dry-run")
    shown = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=REPO).stdout
    said = dict(re.findall(r"^  ([\w-]+): (in the store|to be made: .*)$", shown, re.MULTILINE))
    assert {name for name, fate in said.items() if fate == "in the store"} == {
        "base", "environment", "base-disk", "trunk", "base-qcow2", "qcow2",
    }  # fmt: skip
    assert said["code"].startswith("to be made: sha256 changed")
    assert said["formats"] == "to be made: made anew below it: code"
    argv = command(bookworm, tmp_path / "images", "--agent", str(source), "--dry-run", "--json")
    shown = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=REPO).stdout
    document = json.loads(shown)
    assert document["build_id"] == new_agent.read("manifest.json")["build_id"]
    assert {o["name"]: o["cached"] for o in document["objects"]} == dict.fromkeys(said, True)
    assert not (tmp_path / "images").exists()


@NEEDS_ROOT
def test_a_second_user_finds_what_the_first_one_made(
    session: Session, jammy: Built, bookworm: Built, from_nothing: Done, source: Path,
    place: Path, other_store: Store,
) -> None:  # fmt: skip
    """The user who built jammy, without root's rights but for sudo, from a shared store."""
    assert from_nothing.made
    assert jammy.artifact.exists()
    assert other_store.is_shared
    home = place / "user/home"
    home.mkdir(parents=True)
    os.chown(home, BUILDER_UID, BUILDER_UID)
    run(["chmod", "-R", "a+rX", source])
    before = {o.key for o in other_store.objects()}
    argv = [
        str(session.directory / "jammy/venv/bin/imagebuild"), *bookworm_argv()[3:],
        "--agent", str(source), "--store", str(other_store.root), "--image-size", "6G",
    ]  # fmt: skip
    process = as_builder(place / "user", argv, {})
    assert process.wait() == 0, (place / "user/build.out").read_text()
    stderr = (place / "user/build.out").read_text()
    done = finished(stderr, home / "images", other_store, before)
    # Another disk from the layers that root made.
    assert set(done.made) == {Kind.TRUNK, Kind.QCOW2, Kind.FORMATS}
    for stage in ("base", "agent"):
        assert re.search(rf"✓ {stage} .* already built$", stderr, re.MULTILINE)
    mine = [o.path for o in other_store.objects() if o.key not in before]
    assert {(p.stat().st_uid, p.stat().st_gid) for p in mine} == {(BUILDER_UID, BUILDER_UID)}
    # And root takes what the user made.
    options = ["--agent", str(source), "--image-size", "6G"]
    again = build(bookworm, place / "again", *options, store=other_store)
    assert (again.stages, again.made) == (["formats"], ())
    assert same_bytes(again.qcow2, done.qcow2)


@pytest.mark.full("stages")
def test_two_builds_that_share_what_neither_has(
    bookworm: Built, source: Path, new_agent: Done, place: Path, tmp_path: Path
) -> None:
    """Two agents on one environment that is made by whoever comes first, and one of them twice."""
    assert new_agent.made
    environment = other_agent_element(tmp_path / "elements")
    agents = [source, other_agent(source, tmp_path / "trove", "two"), source]
    before = {o.key for o in bookworm.store.objects()}
    running = [
        subprocess.Popen(
            command(
                bookworm, place / f"both-{number}", "--agent", str(agent), *environment
            ),
            stderr=subprocess.PIPE, text=True, cwd=REPO,
        )
        for number, agent in enumerate(agents)
    ]  # fmt: skip
    said = [process.communicate()[1] for process in running]
    assert [p.returncode for p in running] == [0, 0, 0], "\n".join(said)
    kinds = sorted(o.key.kind for o in bookworm.store.objects() if o.key not in before)
    twice = [Kind.AGENT, Kind.FORMATS]
    assert kinds == sorted([Kind.ENVIRONMENT, Kind.TRUNK, Kind.QCOW2, *twice, *twice])
    assert sum("waiting for another build, which is making the same" in s for s in said) >= 2
    done = [finished(s, place / f"both-{n}", bookworm.store, set()) for n, s in enumerate(said)]
    for one in done:
        check_sums(one.artifact)
    assert same_bytes(done[0].qcow2, done[2].qcow2)
    assert not same_bytes(done[0].qcow2, done[1].qcow2)


@pytest.mark.full("stages")
def test_a_security_update_makes_all_anew_but_the_downloads(
    bookworm: Built, source: Path, tmp_path: Path
) -> None:
    """A package more stands for it: nothing that rests on the base is taken from the store."""
    done = build(bookworm, tmp_path / "images", "--agent", str(source), "--package", "less")
    assert set(done.made) == set(Kind) - {Kind.ELEMENTS, Kind.CONTAINER}
    assert done.hooks["base"]
    assert done.hooks["agent"]
