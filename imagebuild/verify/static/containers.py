"""Preloaded container images are in docker's store, whole and under their names."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from imagebuild.verify.static.question import Problem, Question, skipped, unknown
from imagebuild.verify.static.subject import Subject
from imagebuild.verify.tree import Tree

_CLASSIC = "/var/lib/docker/image/overlay2"
_CONTAINERD = "/var/lib/containerd/io.containerd.content.v1.content/blobs"


def preloaded(subject: Subject) -> Iterator[Problem]:
    """Each container image of the manifest."""
    wanted = subject.content.get("containers")
    if not isinstance(wanted, list) or not wanted:
        yield skipped("the manifest names no container images")
        return
    tree = subject.tree
    if tree.resolve(f"{_CLASSIC}/repositories.json"):
        yield from _classic(tree, wanted)
    elif tree.resolve(_CONTAINERD):
        yield from _containerd(tree, wanted)
    else:
        yield Problem("docker's store has no images", tuple(map(_name, wanted)),
                      cause="container-missing",
                      fields={"image": ", ".join(map(_name, wanted))})  # fmt: skip


def _classic(tree: Tree, wanted: list[Any]) -> Iterator[Problem]:
    """moby's own store: names, configurations by digest, layers by chain id."""
    document = json.loads(tree.read_text(f"{_CLASSIC}/repositories.json"))
    names: dict[str, str] = {}
    for repository in document["Repositories"].values():
        names |= repository
    for entry in wanted:
        name = _name(entry)
        digest = next((d for n, d in names.items() if _same(n, name)), None)
        if digest is None:
            yield Problem(f"docker has no image of the name {name}", tuple(sorted(names)),
                          cause="container-missing", fields={"image": name})  # fmt: skip
            continue
        config = entry.get("config") if isinstance(entry, Mapping) else None
        if config not in (None, digest):
            yield Problem(f"docker has another image of the name {name}",
                          (digest, f"the manifest says {config}"), cause="container-missing",
                          fields={"image": name})  # fmt: skip
        hexadecimal = digest.partition(":")[2]
        path = f"{_CLASSIC}/imagedb/content/sha256/{hexadecimal}"
        if tree.resolve(path) is None:
            yield Problem(f"docker's store lacks the image {name}", (path,),
                          cause="container-missing", fields={"image": name})  # fmt: skip
            continue
        for layer in _chain(json.loads(tree.read_text(path))["rootfs"]["diff_ids"]):
            place = f"{_CLASSIC}/layerdb/sha256/{layer}"
            cache = tree.text_or_empty(f"{place}/cache-id").strip()
            if not cache or tree.resolve(f"/var/lib/docker/overlay2/{cache}/diff") is None:
                yield Problem(f"docker's store lacks a layer of {name}", (place,),
                              cause="container-missing", fields={"image": name})  # fmt: skip


def _chain(diff_ids: list[str]) -> Iterator[str]:
    """Names of the layers: OCI image specification, "Layer ChainID"."""
    chain = ""
    for diff in diff_ids:
        text = f"{chain} {diff}" if chain else diff
        chain = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}" if chain else diff
        yield chain.partition(":")[2]


def _containerd(tree: Tree, wanted: list[Any]) -> Iterator[Problem]:
    """containerd's store: blobs by digest; their names stand in a database."""
    have = tree.names(f"{_CONTAINERD}/sha256")
    for entry in wanted:
        digests = _digests(entry)
        missing = [d for d in digests if d not in have]
        if not digests:
            yield unknown(f"which blobs {_name(entry)} has")
        elif missing:
            yield Problem(f"containerd's store lacks a part of {_name(entry)}", tuple(missing),
                          cause="container-missing", fields={"image": _name(entry)})  # fmt: skip


def _digests(value: object) -> list[str]:
    found = []
    if isinstance(value, Mapping):
        for key in ("manifest", "config"):
            digest = value.get(key)
            if isinstance(digest, str) and digest.startswith("sha256:"):
                found.append(digest.partition(":")[2])
    return found


def _name(entry: object) -> str:
    return str(entry.get("target")) if isinstance(entry, Mapping) else str(entry)


def _same(have: str, wanted: str) -> bool:
    """docker leaves its own registry's name out."""
    short = wanted.removeprefix("docker.io/").removeprefix("library/")
    return have in (wanted, short, wanted.removeprefix("docker.io/"))


QUESTIONS = (
    Question(
        "static/containers", "the preloaded container images are in docker's store", preloaded
    ),
)
