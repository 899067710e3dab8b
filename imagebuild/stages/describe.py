"""What a finished root filesystem is: its content file, inventory and components.

Made from the lists of base and layers; of the files only those of the package managers
are read.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from imagebuild import components, inventory, layers
from imagebuild.components import Container
from imagebuild.layers import Layer
from imagebuild.stages.collect import collect
from imagebuild.stages.stack import Stack
from imagebuild.stages.trees import package_lists
from imagebuild.store.objects import TREE

#: Where an image says what it is; the base tree has the directory.
CONTENT = "/etc/imagebuild/content.json"


def render_content(content: Mapping[str, Any]) -> str:
    """The text of content.json: what the manifest's `content` part must equal."""
    return json.dumps(content, indent=1, sort_keys=True) + "\n"


def describe(
    system: Stack,
    containers: Stack,
    content: Mapping[str, Any],
    made_of: Sequence[Container],
    draft: Path,
    *,
    epoch: int,
) -> dict[str, Any]:
    """Complete `content`, make the layer that holds it, and describe the whole.

    `system` is the base with the agent's layers, `containers` the base with the others,
    `made_of` what those hold.
    `draft`, a new directory, gets an object like those of a stack (tree and list), and
    the whole filesystem's inventory and components. Returns `{"content", "rootfs"}`.
    """
    draft.mkdir(mode=0o700)
    with system.seen(draft / "seen") as tree:
        filled = dict(content) | package_lists(tree)
        layer = _write_content(filled, draft / TREE, epoch)
        layers.write(layer, draft / layers.FILE_NAME)
        lower = [x for x, _ in containers.layers()]
        entries = layers.merge(system.entries(), *lower, layer)
        summary = inventory.write(entries, draft / inventory.FILE_NAME)
        found = collect(tree, entries, summary.sha256)
        found = dataclasses.replace(found, containers=tuple(made_of))
        components.write(found, draft / components.FILE_NAME)
    return {"content": filled, "rootfs": summary.to_json()}


def _write_content(content: Mapping[str, Any], tree: Path, epoch: int) -> Layer:
    path = tree / CONTENT[1:]
    path.parent.mkdir(parents=True)
    path.write_text(render_content(content))
    inventory.clamp_times(tree, epoch)
    found = {e.path: e for e in inventory.walk(tree)}
    return Layer((found[CONTENT.rpartition("/")[0]], found[CONTENT]))
