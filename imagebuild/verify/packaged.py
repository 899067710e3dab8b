"""Is a file in an image still what its package brought?

Asked of the packages' own lists: dpkg's md5sums (policy manual, appendix) and the RECORD
of an installed Python distribution (PEP 376, PEP 627). Both were checked against a
signed index or a lock file when they were installed. MD5 is what dpkg has: it tells a
file that a build changed, not one that somebody forged.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import posixpath
import re
from functools import cached_property

from imagebuild.verify.tree import Node, Tree

_DPKG_INFO = "/var/lib/dpkg/info"


class Packaged:
    """The lists of one image, read when they are first needed."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._records: dict[str, dict[str, str]] = {}

    def unchanged(self, node: Node) -> bool:
        """Is the file one that a package brought, with the content that it brought?

        A compiled Python file counts when its source does: pip and dpkg's triggers make
        it on the spot, and no list has its hash.
        """
        source = source_of(node.path)
        if source:
            origin = self._tree.get(source)
            return origin is not None and self.unchanged(origin)
        if not node.is_file:
            return False
        return self._by_dpkg(node) or self._by_record(node)

    def _by_dpkg(self, node: Node) -> bool:
        wanted = self._md5.get(node.path)
        if not wanted:
            return False
        have = hashlib.md5(self._tree.content(node), usedforsecurity=False).hexdigest()
        return have in wanted

    @cached_property
    def _md5(self) -> dict[str, set[str]]:
        sums: dict[str, set[str]] = {}
        for name in self._tree.names(_DPKG_INFO):
            if name.endswith(".md5sums"):
                for line in self._tree.read_text(f"{_DPKG_INFO}/{name}").splitlines():
                    digest, _, path = line.partition("  ")
                    node = self._tree.get("/" + path)
                    if node:
                        sums.setdefault(node.path, set()).add(digest)
        return sums

    def _by_record(self, node: Node) -> bool:
        match = re.match(r"(.*/(?:site|dist)-packages)/(.+)", node.path)
        if not match:
            return False
        wanted = self._record(match[1]).get(match[2])
        if not wanted or not wanted.startswith("sha256="):
            return False
        have = hashlib.sha256(self._tree.content(node)).digest()
        return wanted[7:] == base64.urlsafe_b64encode(have).rstrip(b"=").decode()

    def _record(self, site: str) -> dict[str, str]:
        """Hashes by path, of all distributions in a site-packages directory."""
        if site not in self._records:
            hashes: dict[str, str] = {}
            for name in self._tree.names(site):
                path = f"{site}/{name}/RECORD"
                if name.endswith(".dist-info") and self._tree.exists(path):
                    for row in csv.reader(self._tree.read_text(path).splitlines()):
                        if len(row) >= 2:
                            hashes[posixpath.normpath(row[0])] = row[1]
            self._records[site] = hashes
        return self._records[site]


def source_of(path: str) -> str | None:
    """Path of the source of a compiled Python file (PEP 3147); None for all other files."""
    match = re.fullmatch(r"(.*/)__pycache__/([^/]+?)\.[^/.]+-\d+(?:\.opt-\d)?\.pyc", path)
    return f"{match[1]}{match[2]}.py" if match else None
