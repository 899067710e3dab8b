"""What tests of mirrors have in common."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator

import requests

from imagebuild.mirror.copier import run_plan
from imagebuild.mirror.items import Item
from imagebuild.mirror.planning import make_plan
from imagebuild.mirror.result import Result
from imagebuild.registry.client import Client
from imagebuild.registry.reference import Reference
from tests.container_images import DOCKER, OCI, Image, sha256
from tests.registry_server import RegistryServer

_ACCEPT = ", ".join(k[x] for k in (DOCKER, OCI) for x in ("index", "manifest"))


def item(source: str, target: str, **more: object) -> Item:
    """HOST/REPOSITORY:TAG to another."""
    return dataclasses.replace(
        Item(Reference.parse(source), Reference.parse(target)), **more  # type: ignore[arg-type]
    )  # fmt: skip


def sync(client: Client, *items: Item, **options: object) -> list[Result]:
    """Plan and run."""
    plan = make_plan(client, items)
    return list(run_plan(client, plan, **options).results)  # type: ignore[arg-type]


def fetch(host: str, repository: str, path: str) -> requests.Response:
    """A manifest or blob as the registry has it, without our client."""
    headers = {"Accept": _ACCEPT}
    return requests.get(f"http://{host}/v2/{repository}/{path}", headers=headers, timeout=30)


def digest_of(host: str, repository: str, tag: str) -> str:
    """What a tag stands for, by its bytes; "" when it is not there."""
    answer = fetch(host, repository, f"manifests/{tag}")
    return sha256(answer.content) if answer.ok else ""


def problems(host: str, repository: str, tag: str) -> Iterator[str]:
    """What is not whole or right below a tag; nothing when the tag is not there."""
    seen: set[str] = set()
    left = [f"manifests/{tag}"]
    while left:
        path = left.pop()
        answer = fetch(host, repository, path)
        if not answer.ok:
            if path != f"manifests/{tag}":
                yield f"{path}: HTTP {answer.status_code}"
            continue
        name = path.partition("/")[2]
        if name.startswith("sha256:") and sha256(answer.content) != name:
            yield f"{path}: wrong bytes"
        if path.startswith("blobs/"):
            continue
        document = json.loads(answer.content)
        named = [f"manifests/{m['digest']}" for m in document.get("manifests", [])]
        parts = [document["config"], *document["layers"]] if "config" in document else []
        named += [f"blobs/{b['digest']}" for b in parts if not b.get("urls")]
        left += [n for n in named if n not in seen]
        seen |= set(named)


def all_manifests(image: Image) -> Iterator[Image]:
    """An image and all below it."""
    yield image
    for child in image.children:
        yield from all_manifests(child)


def assert_same(server: RegistryServer, repository: str, tag: str, image: Image) -> None:
    """The tag and each manifest below it are there byte for byte, and so are all blobs."""
    assert fetch(server.host, repository, f"manifests/{tag}").content == image.manifest
    for one in all_manifests(image):
        answer = fetch(server.host, repository, f"manifests/{one.digest}")
        assert answer.content == one.manifest
        assert answer.headers["Content-Type"] == one.media_type
    assert not list(problems(server.host, repository, tag))
