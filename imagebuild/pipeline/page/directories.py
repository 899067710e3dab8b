"""Size by directory: a treemap for wide pages, one for phones, and a table."""

from __future__ import annotations

from collections.abc import Mapping

from imagebuild.pipeline.facts import ImageFacts
from imagebuild.pipeline.page.html import Html, el, join
from imagebuild.pipeline.page.treemap import HEADER, Box, Tile, nodes, tiles
from imagebuild.pipeline.page.view import CellView, Room
from imagebuild.pipeline.page.words import size_change
from imagebuild.units import size

#: User units of the two pictures; which one is seen goes by the page's width.
_WIDE, _NARROW = Box(0, 0, 640, 420), Box(0, 0, 350, 460)
#: Letters are this wide, as a part of their height, in the widest of usual fonts.
_LETTER, _FONT, _LINE = 0.64, 11.0, 13.0
#: Hues: the directories at the top of the tree take turns.
_HUES = 6


def section(cell: CellView, room: Room) -> Html | None:
    """The picture and its table; nothing for an image whose files are not known."""
    facts = cell.facts
    if facts is None or not facts.directories:
        return None
    total = facts.rootfs or sum(b for _, b, depth in facts.directories if depth == 0)
    before = {path: b for path, b, _ in cell.before.directories} if cell.before else {}
    caption = join(
        f"{size(total)} of files in the root filesystem",
        el("span", ", ", change, f" since {cell.since_date}", class_="muted")
        if (change := size_change(cell.before.rootfs if cell.before else None, facts.rootfs))
        else None,
    )
    return el(
        "figure",
        el("figcaption", el("h4", "Size by directory"), el("p", caption)),
        _picture(cell.id, facts, total, _WIDE, before, room),
        _picture(cell.id, facts, total, _NARROW, before, room),
        _table(facts, total, before, room.directories),
        class_="treemap",
    )


def _picture(
    name: str, facts: ImageFacts, total: int, box: Box, before: Mapping[str, int], room: Room
) -> Html:
    tree = nodes(facts.directories, total)
    largest = ", ".join(f"{n.path} {size(n.bytes)}" for n in tree[:4] if n.path)
    return el(
        "svg",
        [_tile(tile, total, before) for tile in tiles(tree, box, room.levels)],
        viewBox=f"0 0 {box.width:g} {box.height:g}",
        class_="map wide" if box is _WIDE else "map narrow",
        role="img",
        aria_label=f"Size by directory of {name}: {largest}. The table below has more.",
    )


def _tile(tile: Tile, total: int, before: Mapping[str, int]) -> Html:
    box = tile.box
    what = tile.path if tile.label else f"all else in {tile.path or '/'}"
    share = f"{100 * tile.bytes / total:.1f} %" if total else ""
    title = f"{what}: {size(tile.bytes)}, {share}"
    old = before.get(tile.path) if tile.label else None
    if old is not None and abs(tile.bytes - old) >= 512 * 1024:
        sign = "+" if tile.bytes > old else "\N{MINUS SIGN}"
        title += f", {sign}{size(abs(tile.bytes - old))}"
    hue = f"h{tile.top % _HUES}" if tile.path else "hx"
    rect = el("rect", x=box.x, y=box.y, width=box.width, height=box.height, rx=2 if box.width > 8
              else None, class_="tg" if tile.is_group else "tl")  # fmt: skip
    return el("g", el("title", title), rect, _label(tile), class_=hue)


def _label(tile: Tile) -> Html | None:
    """The name, and the size below it or behind it, as far as there is room."""
    box, name, amount = tile.box, tile.label, size(tile.bytes)
    fits = int((box.width - 8) / (_FONT * _LETTER))
    if tile.is_group:
        both = f"{name} {amount}"
        return _words(box, both if len(both) <= fits else _cut(name, fits), "tn", HEADER - 5)
    if box.height < _LINE + 3:
        return None
    if not name:
        return _words(box, "other", "to", _LINE) if fits >= 5 else None
    shown = _cut(name, fits)
    if not shown:
        return None
    first = _words(box, shown, "tn", _LINE)
    if box.height >= 2 * _LINE + 4 and len(amount) <= fits:
        return join(first, _words(box, amount, "tb", 2 * _LINE))
    return first


def _words(box: Box, text: str, kind: str, down: float) -> Html | None:
    return el("text", text, x=box.x + 4, y=box.y + down, class_=kind) if text else None


def _cut(name: str, fits: int) -> str:
    """The name, or its end with an ellipsis; nothing where that would say nothing."""
    if len(name) <= fits:
        return name
    parts = name.split("/")
    for last in ("/".join((*parts[:2], "…", parts[-1])), f"…/{parts[-1]}"):
        if len(parts) > 3 and len(last) <= fits:
            return last
    return name[: fits - 1] + "…" if fits >= 6 else ""


def _table(facts: ImageFacts, total: int, before: Mapping[str, int], most: int) -> Html:
    rows = sorted(facts.directories, key=lambda d: (-d[1], d[0]))[:most]
    left = len(facts.directories) - len(rows)
    body = [
        el(
            "tr",
            el("th", el("code", path), scope="row"),
            el("td", size(number), class_="n"),
            el("td", f"{100 * number / total:.1f} %" if total else "", class_="n"),
            el("td", size_change(before.get(path), number), class_="n"),
        )
        for path, number, _ in rows
    ]
    head = el("tr", el("th", "Directory", scope="col"), [
        el("th", text, scope="col", class_="n") for text in ("Size", "Share", "Change")
    ])  # fmt: skip
    return el(
        "details",
        el("summary", "The largest directories as a table"),
        el("div", el("table", el("thead", head), el("tbody", body)), class_="scroll", tabindex=0,
           role="region", aria_label="The largest directories"),
        el("p", f"{left} smaller ones are not shown.", class_="muted") if left else None,
    )  # fmt: skip
