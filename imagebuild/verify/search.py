"""Searches a whole disk for byte strings: files, free blocks and the ends of blocks alike.

What was deleted while an image was made can still stand on its disk, so the disk is
searched as it is, in one pass, and only then asked what a hit belongs to. Holes of the
sparse file hold zeros and are skipped. Compressed content (`.gz`, the initramfs) is not
unpacked.
"""

from __future__ import annotations

import base64
import errno
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from urllib.parse import quote, quote_plus

import ahocorasick_rs

from imagebuild.verify.tree import Place, Tree

_CHUNK = 16 << 20
#: Shorter base64 turns up by chance: 64**8 is 280,000 times the bytes of a 1 GB image.
_LEAST_BASE64 = 8


@dataclass(frozen=True)
class Hit:
    """`needle`, by its index, found at `place`."""

    needle: int
    place: Place


def forms(secret: bytes) -> set[bytes]:
    """The ways in which a secret is commonly written: plain, quoted in a URL, in base64.

    Base64 of a text that holds the secret (`user:secret`) has one of three forms for it,
    by its place in the text; the characters that its neighbours have a part in are left out.
    """
    found = {secret, quote(secret, safe="").encode(), quote_plus(secret).encode()}
    # curl and git quote the same with lower-case digits.
    found |= {f for text in list(found) if (f := _lower_escapes(text)) != text}
    for before, dropped in ((0, 0), (1, 2), (2, 3)):
        whole = base64.b64encode(bytes(before) + secret)
        form = whole[dropped : (before + len(secret)) * 8 // 6]
        if len(form) >= _LEAST_BASE64:
            found |= {form, form.translate(bytes.maketrans(b"+/", b"-_"))}
    return found


def _lower_escapes(text: bytes) -> bytes:
    parts = text.split(b"%")
    return b"%".join([parts[0], *(p[:2].lower() + p[2:] for p in parts[1:])])


def search(tree: Tree, needles: Sequence[bytes]) -> list[Hit]:
    """Every occurrence of each needle on the disk, in the order of the disk.

    A needle that runs over the border between two pieces of a fragmented file is found, too.
    """
    if not needles:
        return []
    automaton = ahocorasick_rs.BytesAhoCorasick(needles)
    longest = max(map(len, needles))
    hits = [Hit(index, tree.place(at)) for at, index in _on_disk(tree, automaton, longest)]
    return [*hits, *_over_borders(tree, automaton, longest)]


def _on_disk(
    tree: Tree, automaton: ahocorasick_rs.BytesAhoCorasick, longest: int
) -> Iterator[tuple[int, int]]:
    """Byte of the disk and index of the needle."""
    fd = os.open(tree.raw, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for start, end in _data(fd):
            tail = b""
            for at in range(start, end, _CHUNK):
                chunk = tail + os.pread(fd, min(_CHUNK, end - at), at)
                first = at - len(tail)
                for index, low, high in _matches(automaton, chunk, longest):
                    if high > len(tail):
                        yield first + low, index
                tail = chunk[len(chunk) - longest + 1 :] if longest > 1 else b""
    finally:
        os.close(fd)


def _matches(
    automaton: ahocorasick_rs.BytesAhoCorasick, text: bytes, longest: int
) -> Iterator[tuple[int, int, int]]:
    """Index, start and end of all matches, also those that overlap.

    The search for overlapping ones is ten times slower, so it is made only around what
    the fast one finds: nothing can hide but behind a match that is found.
    """
    told = 0
    for _, low, high in automaton.find_matches_as_indexes(text):
        start, end = max(low - longest, 0), high + longest
        found = automaton.find_matches_as_indexes(text[start:end], overlapping=True)
        for index, first, last in found:
            if start + last > told:
                yield index, start + first, start + last
        told = max(told, min(end, len(text)))


def _data(fd: int) -> Iterator[tuple[int, int]]:
    """The parts of a file that are no holes."""
    at = 0
    while True:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as exc:
            if exc.errno == errno.ENXIO:
                return
            raise
        at = os.lseek(fd, start, os.SEEK_HOLE)
        yield start, at


def _over_borders(
    tree: Tree, automaton: ahocorasick_rs.BytesAhoCorasick, longest: int
) -> Iterator[Hit]:
    size = tree.fs.block_size
    seen: set[int] = set()
    for node in tree.files():
        if node.size <= size or node.inode.number in seen:
            continue
        seen.add(node.inode.number)
        extents = tree.extents(node)
        for one, other in pairwise(extents):
            if other.physical == one.physical + one.count:
                continue
            border = other.logical * size
            first = max(border - longest + 1, 0)
            text = tree.content(node, first, 2 * (longest - 1))
            for index, low, high in automaton.find_matches_as_indexes(text, overlapping=True):
                if first + low < border < first + high:
                    yield Hit(index, Place(node, first + low, node.path))
