"""Rectangles whose areas are sizes: squarified treemaps, nested. Pure geometry.

Bruls, Huizing, van Wijk: Squarified Treemaps (2000).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

#: A directory shows what is in it from this size on; its name stands above that.
_LEAST_WIDTH, _LEAST_HEIGHT, HEADER = 76.0, 52.0, 17.0


@dataclass(frozen=True)
class Box:
    """A rectangle in user units."""

    x: float
    y: float
    width: float
    height: float

    @property
    def area(self) -> float:
        """Of all of it."""
        return self.width * self.height


@dataclass
class Node:
    """A directory and those in it that are told. `bytes`: of all files below it; `path` of
    what is left over is "".
    """

    path: str
    bytes: int
    children: list[Node] = field(default_factory=list)


@dataclass(frozen=True)
class Tile:
    """A node and its place. `top`: the number of the first directory of its path; `label`
    is the path from the tile around it on. A group has tiles in it, below its name.
    """

    path: str
    label: str
    bytes: int
    box: Box
    top: int
    is_group: bool = False


def nodes(directories: Sequence[tuple[str, int, int]], total: int) -> list[Node]:
    """The tree of (path, bytes, depth), each before those in it, and what is left over."""
    root = Node("/", total)
    stack = [root]
    for path, size, depth in directories:
        del stack[max(depth, 0) + 1 :]
        node = Node(path, max(size, 0))
        stack[-1].children.append(node)
        stack.append(node)
    _complete(root)
    return root.children


def tiles(top: Sequence[Node], box: Box, levels: int = 3) -> list[Tile]:
    """All tiles, each before those in it, of so many levels of directories."""
    return [
        tile
        for number, (node, place) in enumerate(_placed(top, box))
        for tile in _tiles(node, place, "", number, levels)
    ]


def squarify(values: Sequence[float], box: Box) -> list[Box]:
    """Rectangles that fill the box, in the order of the values, which are positive and fall."""
    scale = box.area / (sum(values) or 1)
    areas = [v * scale for v in values]
    found: list[Box] = []
    while areas:
        side = min(box.width, box.height)
        count = 1
        while count < len(areas) and _worst(areas[: count + 1], side) <= _worst(
            areas[:count], side
        ):
            count += 1
        strip, areas = areas[:count], areas[count:]
        # What is last takes what is left, whatever rounding has made of it.
        placed, box = _strip(strip, box, is_last=not areas)
        found += placed
    return found


def _complete(node: Node) -> None:
    """Sort, and add what is not told of a directory that has others in it."""
    if not node.children:
        return
    for child in node.children:
        _complete(child)
    told = sum(c.bytes for c in node.children)
    node.bytes = max(node.bytes, told)
    node.children.sort(key=lambda c: (-c.bytes, c.path))
    if node.bytes > told:
        node.children.append(Node("", node.bytes - told))


def _placed(found: Sequence[Node], box: Box) -> Iterator[tuple[Node, Box]]:
    shown = sorted((n for n in found if n.bytes > 0), key=lambda n: (-n.bytes, not n.path, n.path))
    return zip(shown, squarify([n.bytes for n in shown], box), strict=True)


def _tiles(node: Node, box: Box, above: str, top: int, levels: int) -> Iterator[Tile]:
    label = node.path.removeprefix(above + "/") if above else node.path
    inside = box.width >= _LEAST_WIDTH and box.height >= _LEAST_HEIGHT
    if not (node.children and inside and levels > 1):
        yield Tile(node.path or above, label if node.path else "", node.bytes, box, top)
        return
    yield Tile(node.path, label, node.bytes, box, top, is_group=True)
    below = Box(box.x + 2, box.y + HEADER, box.width - 4, box.height - HEADER - 2)
    for child, place in _placed(node.children, below):
        yield from _tiles(child, place, node.path, top, levels - 1)


def _worst(areas: Sequence[float], side: float) -> float:
    """How far the longest rectangle of a strip is from a square."""
    total = sum(areas) or 1e-9
    return max(side**2 * max(areas) / total**2, total**2 / (side**2 * (min(areas) or 1e-9)))


def _strip(areas: Sequence[float], box: Box, *, is_last: bool) -> tuple[list[Box], Box]:
    """A strip along the shorter side of the box, and the box that is left."""
    upright = box.width >= box.height
    side, other = (box.height, box.width) if upright else (box.width, box.height)
    thick = other if is_last else min(sum(areas) / side if side else 0, other)
    found, at = [], 0.0
    for area in areas:
        length = side * area / (sum(areas) or 1)
        if upright:
            found.append(Box(box.x, box.y + at, thick, length))
        else:
            found.append(Box(box.x + at, box.y, length, thick))
        at += length
    if upright:
        return found, Box(box.x + thick, box.y, box.width - thick, box.height)
    return found, Box(box.x, box.y + thick, box.width, box.height - thick)
