"""cloud-init's configuration, merged as cloud-init does: later files win, mappings are merged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from imagebuild.verify.tree import Tree

MAIN = "/etc/cloud/cloud.cfg"
DIRECTORY = "/etc/cloud/cloud.cfg.d"


def files(tree: Tree) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Path and content of each file, the one that wins last.

    Raises ValueError naming the file when one is no YAML.
    """
    names = sorted(n for n in tree.names(DIRECTORY) if n.endswith(".cfg"))
    for path in (MAIN, *(f"{DIRECTORY}/{name}" for name in names)):
        text = tree.text_or_empty(path)
        if not text.strip():
            continue
        try:
            document = yaml.safe_load(text)
        except (yaml.YAMLError, RecursionError) as exc:
            first = str(exc).splitlines()
            raise ValueError(f"{path}: {first[0] if first else 'no YAML'}") from exc
        if isinstance(document, dict):
            yield path, document


def merged(tree: Tree) -> dict[str, Any]:
    """All files as one."""
    whole: dict[str, Any] = {}
    for _, document in files(tree):
        whole = _over(whole, document)
    return whole


def _over(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(lower)
    for key, value in upper.items():
        below = found.get(key)
        both = isinstance(below, dict) and isinstance(value, dict)
        found[key] = _over(below, value) if both and isinstance(below, dict) else value
    return found
