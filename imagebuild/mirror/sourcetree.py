"""The image of an item as the source has it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from imagebuild.errors import ConfigError
from imagebuild.mirror.items import Item
from imagebuild.mirror.problems import MissingError
from imagebuild.mirror.source import Source
from imagebuild.mirror.trees import Tree, fits_platform, no_platform, read_tree, select
from imagebuild.registry.manifest import IMAGE_CONFIGS, Descriptor, Manifest, image_config
from imagebuild.registry.reference import Reference

#: Asks a function for each of many, in their order.
Each = Callable[[Callable[[Descriptor], Manifest], Sequence[Descriptor]], Sequence[Manifest]]


def read_source(
    source: Source, item: Item, digest: str, index: Manifest | None = None, each: Each | None = None
) -> Tree:
    """The image that the source has by this digest, with the item's platforms alone; `index`: what
    has been made of its index for that, where it is known.

    Raises MissingError when it is not there (any more), or is of another platform than the
    item's; ConfigError for what cannot be copied; and what the client raises.
    """
    where = str(item.source)

    def get(wanted: Descriptor) -> Manifest:
        return source.get_manifest(item.source.at(wanted.digest))

    root = index or _root(source, item.source.at(digest))
    if item.platforms and root.is_index:
        # Of one that a lock file knows, the plan has made none.
        root = select(root, item.platforms, where)
    tree = read_tree(root, lambda wanted: (each or _in_turn)(get, wanted), where)
    if item.platforms and not root.is_index:
        _check_platform(source, item, tree)
    return tree


def _in_turn(
    get: Callable[[Descriptor], Manifest], wanted: Sequence[Descriptor]
) -> Sequence[Manifest]:
    return [get(d) for d in wanted]


def _root(source: Source, reference: Reference) -> Manifest:
    try:
        return source.get_manifest(reference)
    except ConfigError as exc:
        if source.head_manifest(reference) is None:
            raise MissingError(
                "the source does not have the image any more",
                where=str(reference),
                detail="it was there when it was asked for first",
                hint="run it again: the tag may be another image now",
            ) from exc
        raise


def _check_platform(source: Source, item: Item, tree: Tree) -> None:
    """A single image must be of a wanted platform; an artifact has none."""
    configs = [b for b in tree.blobs if b.media_type in IMAGE_CONFIGS]
    if not configs:
        return
    where = str(item.source)
    there = image_config(source.get_blob(item.source, configs[0]), where).platform
    if not any(fits_platform(there, p) for p in item.platforms):
        raise no_platform(item.platforms, [there], where)
