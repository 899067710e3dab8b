"""What all safety checks share: the image they look at, and how they say what they found."""

from __future__ import annotations

import enum
import posixpath
import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import yaml

from imagebuild.verify.search import Hit
from imagebuild.verify.tree import Node, Tree

#: Where docker and containerd keep images.
CONTAINER_STORES = ("/var/lib/docker", "/var/lib/containerd")

_KNOWN = Path(__file__).with_name("known.yaml")


class Severity(str, enum.Enum):
    """How bad a finding is: an image with an error must not be handed out."""

    ERROR = "error"
    WARNING = "warning"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Found:
    """What a check found: where, what, and, when it differs from the check's own, what to do."""

    path: str
    what: str
    todo: str = ""
    severity: Severity = Severity.ERROR


@dataclass(frozen=True)
class Expected:
    """What an image is meant to have, and any other must not.

    `guest_user` is the agent's user, who may use sudo without a password. `credentials` are
    the paths of files that hold credentials on purpose (those of private registries). The
    rest is a development image's: the path of its one private key, and whether root has a
    password.
    """

    guest_user: str
    credentials: tuple[str, ...] = ()
    dev_key: str | None = None
    root_password: bool = False

    def holds(self, path: str) -> bool:
        """Is the path one of those named here, or a directory on the way to one?"""
        named = (*self.credentials, *([self.dev_key] if self.dev_key else ()))
        return any(n == path or n.startswith(path + "/") for n in named)


@dataclass(frozen=True)
class Subject:
    """The image under examination, and what the caller knows of it.

    `secrets` are the values, by a name that may be shown, that must not be on the disk;
    `hits` is what the search of the disk found, by needle.
    """

    tree: Tree
    expected: Expected
    secrets: Mapping[str, bytes]
    hits: Mapping[bytes, Sequence[Hit]]

    @cached_property
    def own_nodes(self) -> Sequence[Node]:
        """Everything but what lies in preloaded container images.

        Those have owners, setuid files and whiteouts (devices) of their own, which nobody
        but root can reach as long as their store is closed; where it is open, they count.
        """
        closed = [
            node.path + "/"
            for node in map(self.tree.get, CONTAINER_STORES)
            if node and not node.permissions & (stat.S_IROTH | stat.S_IXOTH)
        ]
        return [n for n in self.tree.nodes.values() if not n.path.startswith(tuple(closed))]

    @cached_property
    def users(self) -> dict[str, list[str]]:
        """Fields of /etc/passwd by name."""
        return _table(self.tree.text_or_empty("/etc/passwd"), 7)

    @cached_property
    def groups(self) -> dict[str, list[str]]:
        """Fields of /etc/group by name."""
        return _table(self.tree.text_or_empty("/etc/group"), 4)

    def group_name(self, gid: int) -> str:
        """Name of a group; its number when it has none."""
        names = (n for n, fields in self.groups.items() if fields[2] == str(gid))
        return next(names, str(gid))

    def user_name(self, uid: int) -> str:
        """Name of a user; its number when it has none."""
        names = (n for n, fields in self.users.items() if fields[2] == str(uid))
        return next(names, str(uid))

    def present(self, patterns: Sequence[str]) -> Iterator[Node]:
        """What is at any of the paths; `*` stands for one part of a path or a piece of it."""
        for pattern in patterns:
            for path in self._matching(pattern):
                yield self.tree.nodes[path]

    def _matching(self, pattern: str) -> list[str]:
        if "*" not in pattern:
            node = self.tree.get(pattern)
            return [node.path] if node else []
        found = ["/"]
        for part in pattern.strip("/").split("/"):
            found = [
                posixpath.join(above, name)
                for above in found
                for name in self.tree.names(above)
                if glob_matches(name, part)
            ]
        real = (self.tree.get(path) for path in sorted(found))
        return [node.path for node in real if node]


@dataclass(frozen=True)
class Check:
    """One question to the image. `why` says what would happen if the answer were wrong."""

    id: str
    title: str
    why: str
    todo: str
    run: Callable[[Subject], Iterator[Found]]


@cache
def _globs(patterns: tuple[str, ...]) -> re.Pattern[str]:
    rules = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*"}
    split = (re.split(r"(\*\*/|\*\*|\*)", pattern) for pattern in patterns)
    joined = ("".join(rules.get(p, re.escape(p)) for p in parts) for parts in split)
    return re.compile("|".join(joined), re.DOTALL)


def glob_matches(path: str, *patterns: str) -> bool:
    """Does the whole path match any of the patterns?

    `*` stands for any characters but `/`, `**` for any at all, `**/` for nothing as well.
    """
    return _globs(patterns).fullmatch(path) is not None


@cache
def known() -> Mapping[str, Any]:
    """What is known to be in good images, with reasons: the file known.yaml."""
    data: dict[str, Any] = yaml.safe_load(_KNOWN.read_text())
    return data


def is_known(kind: str, path: str) -> bool:
    """Is the path in that list of known.yaml?"""
    return glob_matches(path, *_known_paths(kind))


@cache
def _known_paths(kind: str) -> tuple[str, ...]:
    return tuple(entry["path"] for entry in known()[kind])


def _table(text: str, fields: int) -> dict[str, list[str]]:
    rows = (line.split(":") for line in text.splitlines() if line and line[0] not in "#+-")
    return {row[0]: row for row in rows if len(row) >= fields}
