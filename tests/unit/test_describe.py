"""Base and layers as one: their inventory, the view of them, and what describes the whole."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagebuild import components, inventory, layers
from imagebuild.components import Container
from imagebuild.host.worker import Worker
from imagebuild.stages import describe
from imagebuild.stages.stack import Stack
from imagebuild.store.objects import TREE
from tests.unit.layer_objects import TIME, base_object, by_path, layer_object
from tests.unit.made_up import FILES, METADATA, SITE

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts overlays: needs root")

CONTAINER = Container("r.example/db:1", "quay.io/db:1", "i", "m", "c", {}, (), ())
#: The made-up system without its agent.
SYSTEM = {n: t for n, t in FILES.items() if not n.startswith("opt/")}
AGENT = {n: t for n, t in FILES.items() if n.startswith("opt/")}


@pytest.fixture
def system(tmp_path: Path) -> Stack:
    """A base, an environment and an agent that takes a file away."""
    base = base_object(tmp_path / "base", {**SYSTEM, "etc/old": "x"})
    environment = layer_object(tmp_path / "environment", Stack.of([base]), AGENT)
    below = Stack.of([base, environment])
    code = layer_object(
        tmp_path / "code", below,
        {f"{SITE}/new-2.dist-info/METADATA": METADATA.format(name="new", version="2")},
        ("/etc/old",),
    )  # fmt: skip
    return Stack.of([base, environment, code])


@pytest.fixture
def containers(tmp_path: Path, system: Stack) -> Stack:
    """The same base with a container."""
    base = Stack.of(system.objects[:1])
    layer = layer_object(tmp_path / "container", base, {"var/lib/docker/image/x": "1"})
    return Stack.of([*base.objects, layer])


@pytest.fixture
def worker() -> Iterator[Worker]:
    with Worker(lambda _event: None) as started:
        yield started


def described(
    worker: Worker, system: Stack, containers: Stack, draft: Path, epoch: int = TIME
) -> dict[str, object]:
    return worker.call(
        "describe",
        system=[str(p) for p in system.objects],
        containers=[str(p) for p in containers.objects],
        content={"os": "debian", "agent": {"version": "2"}},
        made_of=[CONTAINER.to_json()] if len(containers.objects) > 1 else [],
        draft=str(draft),
        owner=[os.getuid(), os.getgid()],
        epoch=epoch,
    )


def test_a_base_alone_is_its_tree(tmp_path: Path) -> None:
    stack = Stack.of([base_object(tmp_path / "base", SYSTEM)])
    assert (stack.base, stack.trees) == (tmp_path / "base/tree", [tmp_path / "base/tree"])
    assert stack.layers() == []
    assert stack.entries() == list(inventory.walk(stack.base))
    with stack.seen(tmp_path / "seen") as tree:
        assert tree == stack.base, "nothing needs to be mounted"


@needs_root
def test_layers_lie_over_the_base(system: Stack, tmp_path: Path) -> None:
    entries = by_path(system.entries())
    assert f"/{SITE}/new-2.dist-info/METADATA" in entries
    assert f"/{SITE}/oslo_x/__init__.py" in entries
    assert "/etc/passwd" in entries
    assert "/etc/old" not in entries
    assert [p.parent.name for p in system.trees] == ["code", "environment", "base"]
    assert tmp_path.joinpath("base/tree/etc/old").exists()


@needs_root
def test_the_whole_is_described(
    worker: Worker, system: Stack, containers: Stack, tmp_path: Path
) -> None:
    draft = tmp_path / "content"
    answer = described(worker, system, containers, draft)
    content = answer["content"]
    assert isinstance(content, dict)
    assert (content["os"], content["agent"]) == ("debian", {"version": "2"})
    assert content["packages"] == {
        "dpkg": "1.21.22", "libstdc++6": "1:12.2.0-14+deb12u1",
        "libstdc++6:i386": "1:12.2.0-14+deb12u1", "zlib1g": "1:1.2.13.dfsg-1",
    }  # fmt: skip
    # Of all layers of the agent.
    assert content["python_packages"] == {"new": "2", "oslo-x": "1.0", "trove": "25.0.0"}
    layer = layers.read(draft / layers.FILE_NAME)
    assert [e.path for e in layer.entries] == ["/etc/imagebuild", "/etc/imagebuild/content.json"]
    written = draft / TREE / "etc/imagebuild/content.json"
    assert written.read_text() == describe.render_content(content)
    # The inventory of the whole: system, containers and the last layer.
    entries = inventory.read(draft / inventory.FILE_NAME)
    assert entries == layers.merge(
        system.entries(), layers.read(containers.objects[1] / layers.FILE_NAME), layer
    )
    found = by_path(entries)
    assert {"/var/lib/docker/image/x", "/etc/imagebuild/content.json"} <= found.keys()
    assert "/etc/old" not in found
    assert max(e.mtime for e in entries) <= TIME
    again = inventory.write(entries, tmp_path / "again").to_json()
    assert answer["rootfs"] == again
    made_of = components.read(draft / components.FILE_NAME)
    assert made_of.rootfs == again["sha256"]
    assert len(made_of.owners) == len(entries)
    assert [c.target for c in made_of.containers] == [CONTAINER.target]
    assert {d.name for d in made_of.debs} == {"dpkg", "libstdc++6", "zlib1g"}
    assert {p.stat().st_uid for p in (draft, *draft.iterdir())} == {os.getuid()}
    assert not (draft / "seen").exists()


@needs_root
def test_a_described_directory_is_closed_to_others(
    worker: Worker, system: Stack, tmp_path: Path
) -> None:
    """The list of all files is nobody's business while it is not in an artifact."""
    alone = Stack.of(system.objects[:1])
    described(worker, system, alone, tmp_path / "content")
    assert (tmp_path / "content").stat().st_mode & 0o777 == 0o700
    assert components.read(tmp_path / "content" / components.FILE_NAME).containers == ()


@needs_root
def test_the_same_layers_are_described_alike(
    worker: Worker, system: Stack, containers: Stack, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        described(worker, system, containers, tmp_path / name)
    for name in (layers.FILE_NAME, inventory.FILE_NAME, components.FILE_NAME):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_content_is_the_same_text_for_the_same_value() -> None:
    content = {"b": {"y": 1, "x": "é"}, "a": [2, 1]}
    text = describe.render_content(content)
    assert text == describe.render_content({"a": [2, 1], "b": {"x": "é", "y": 1}})
    assert json.loads(text) == content
    assert text.endswith("}\n")
