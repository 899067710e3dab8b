"""Tags of ours that the list does not have any more: which of them may go, and their removal.

    lock, items, needs ──propose──▶ Proposal ──carry_out──▶ Pruned

What is ours the lock file says, by tag and digest: a tag that somebody else has put another
image under is theirs. Registries of distribution 2.8 delete digests alone, and with a digest
all of its tags go, and a child of an index that stays would be missing there; so of each
repository all tags are asked for, and what they have in common with those that go.
"""

from __future__ import annotations

import dataclasses
import enum
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from imagebuild.errors import (
    BuildError,
    ConfigError,
    ImagebuildError,
    Interrupted,
    PublishError,
)
from imagebuild.mirror.items import Item
from imagebuild.mirror.lockfile import Lock
from imagebuild.mirror.trees import parts_of
from imagebuild.mirror.wants import Need
from imagebuild.registry.manifest import INDEXES
from imagebuild.registry.reference import Reference

if TYPE_CHECKING:
    from imagebuild.registry.client import Client

#: Indexes in indexes that are followed.
_DEEPEST = 8


class Fate(enum.Enum):
    """What becomes of a tag that the lock file says is ours."""

    KEEP = "keep"  # the list has it, or guests need it
    REMOVE = "remove"
    SHARED = "shared"  # its image has another tag, or an index, that stays
    GONE = "gone"  # it is not in the registry any more
    FOREIGN = "foreign"  # somebody else has put another image there
    ELSEWHERE = "elsewhere"  # in another registry than the list's target


@dataclass(frozen=True)
class Verdict:
    """One tag, the digest that we put there, and why."""

    tag: Reference
    digest: str
    fate: Fate
    why: str = ""

    def to_json(self) -> dict[str, Any]:
        """Shape used by `--json`."""
        return {
            "image": str(self.tag),
            "digest": self.digest,
            "fate": self.fate.value,
            "why": self.why,
        }


@dataclass(frozen=True)
class Deletion:
    """One digest to be deleted, with all its tags, and those below it that nothing else has."""

    image: Reference
    tags: tuple[Reference, ...]
    children: tuple[str, ...] = ()


@dataclass(frozen=True)
class Proposal:
    """What would be done; verdicts by name."""

    verdicts: tuple[Verdict, ...]
    deletions: tuple[Deletion, ...]

    @property
    def gone(self) -> tuple[Reference, ...]:
        """Tags that the lock file may forget."""
        return tuple(v.tag for v in self.verdicts if v.fate is Fate.GONE)


@dataclass
class Pruned:
    """What was done: tags that were removed, manifests deleted below them, tags left, and why."""

    removed: list[Reference] = field(default_factory=list)
    manifests: int = 0
    left: list[Verdict] = field(default_factory=list)
    errors: list[ImagebuildError] = field(default_factory=list)


def propose(
    client: Client, registry: str, items: Iterable[Item], lock: Lock, needs: Sequence[Need]
) -> Proposal:
    """Look at all tags of ours in the list's target registry. Nothing is changed.

    Raises what the client raises, and PublishError for a list of tags that lacks some: who does
    not know what there is, removes nothing.
    """
    kept = _kept(items, needs)
    verdicts: list[Verdict] = []
    wanted: dict[str, list[Verdict]] = defaultdict(list)
    for name, digest in sorted(lock.tags.items()):
        tag = Reference.parse(name)
        if tag.registry != registry:
            why = f"the list's target is {registry}"
            verdicts.append(Verdict(tag, digest, Fate.ELSEWHERE, why))
        elif why := kept(tag):
            verdicts.append(Verdict(tag, digest, Fate.KEEP, why))
        else:
            wanted[tag.name].append(_look(client, tag, digest))
    deletions: list[Deletion] = []
    for found in wanted.values():
        judged, planned = _of_repository(client, found)
        verdicts += judged
        deletions += planned
    verdicts.sort(key=lambda v: str(v.tag))
    return Proposal(tuple(verdicts), tuple(deletions))


def carry_out(
    client: Client,
    proposal: Proposal,
    done: Pruned,
    tell: Callable[[str], None] = lambda _: None,
) -> None:
    """Delete what was proposed: first an image with its tags, then what was below it.

    Each tag is looked at once more before. What fails does not stop the others. `done` is
    brought up to date on the way, for who is interrupted (Interrupted).
    """
    for deletion in proposal.deletions:
        try:
            _delete(client, deletion, done)
        except Interrupted:
            raise
        except ImagebuildError as exc:
            done.errors.append(exc)
        else:
            tell(f"removed {', '.join(map(str, deletion.tags))}")


def _kept(items: Iterable[Item], needs: Sequence[Need]) -> Callable[[Reference], str]:
    """Why a tag stays, "" when nothing speaks for it."""
    listed: dict[str, str] = {}
    for item in items:
        name = item.target.name
        if item.backup:
            listed[f"{name}:{item.backup}"] = f"the backup of {item.target.tag}"
        listed |= {f"{name}:{a}": f"an alias of {item.target.tag}" for a in item.aliases}
        listed[str(item.target)] = "in the list"
    needed: dict[str, str] = {}
    for need in needs:
        for image in need.chain.images:
            try:
                needed[str(Reference.parse(image))] = need.version.label
            except ConfigError:
                continue  # a name that no guest can pull either
    # What guests are configured with may be another name for the same registry: the tag that
    # a version asks for stays in every repository that is not the list's.
    repositories = {item.target.name for item in items}
    tags = {n.rpartition(":")[2]: v for n, v in needed.items()}

    def why(tag: Reference) -> str:
        if reason := listed.get(str(tag), ""):
            return reason
        if version := needed.get(str(tag), ""):
            return f"the datastore version {version} needs it"
        if tag.name not in repositories and (version := tags.get(tag.tag, "")):
            return f"guests of the datastore version {version} may ask for it by another name"
        return ""

    return why


def _look(client: Client, tag: Reference, digest: str) -> Verdict:
    there = client.head_manifest(tag)
    if there is None:
        return Verdict(tag, digest, Fate.GONE, "it is not in the registry any more")
    if there.digest != digest:
        why = f"it is {there.digest} now, which we have not put there"
        return Verdict(tag, digest, Fate.FOREIGN, why)
    return Verdict(tag, digest, Fate.REMOVE, "not in the list, and no guest needs it")


def _of_repository(
    client: Client, found: Sequence[Verdict]
) -> tuple[list[Verdict], list[Deletion]]:
    """Which digests of one repository can go with no other tag of it taking harm."""
    going = {v.tag.tag: v for v in found if v.fate is Fate.REMOVE}
    verdicts = [v for v in found if v.fate is not Fate.REMOVE]
    if not going:
        return verdicts, []
    repository = dataclasses.replace(found[0].tag, tag="", digest="")
    #: Digest -> what stays and has it, or names it.
    stays: dict[str, str] = {}
    tags = client.tags(repository)
    if unlisted := sorted(going.keys() - tags):
        raise PublishError(
            "the registry's list of tags is not whole: nothing is removed",
            where=repository.name,
            detail=f"{', '.join(unlisted[:20])}: there, and not in the list of {len(tags)} tags",
            hint="other tags may have the same images; run it again when nobody else changes the "
            "repository, and ask whether a proxy before the registry answers for it",
        )
    for tag in tags:
        if tag in going:
            continue
        there = client.head_manifest(dataclasses.replace(repository, tag=tag))
        if there:
            stays.setdefault(there.digest, f"the tag {tag}")
            if there.media_type in INDEXES:
                for child in _below(client, repository, there.digest):
                    stays.setdefault(child, f"the index of the tag {tag}")
    deletions: list[Deletion] = []
    by_digest: dict[str, list[Verdict]] = defaultdict(list)
    for verdict in going.values():
        by_digest[verdict.digest].append(verdict)
    below = {d: _below_if_whole(client, repository, d) for d in by_digest}
    # An index that goes may name an image that goes, too: the index first.
    for digest in sorted(by_digest, key=lambda d: sum(d in b for b in below.values())):
        tagged = by_digest[digest]
        if digest in stays:
            why = f"{stays[digest]} stays, and has the same image"
            verdicts += [dataclasses.replace(v, fate=Fate.SHARED, why=why) for v in tagged]
            continue
        verdicts += tagged
        children = [c for c in below[digest] if c not in stays and c not in by_digest]
        taken = {c for d in deletions for c in d.children}
        deletions.append(
            Deletion(
                repository.at(digest),
                tuple(v.tag for v in tagged),
                tuple(c for c in children if c not in taken),
            )
        )
    return verdicts, _apart(deletions, below)


def _apart(deletions: list[Deletion], below: dict[str, list[str]]) -> list[Deletion]:
    """The same, each child with the last index that names it: those before may fail."""
    last = {c: d.image.digest for d in deletions for c in below[d.image.digest]}
    named = {c for d in deletions for c in d.children}
    return [
        dataclasses.replace(
            d,
            children=tuple(
                c for c in below[d.image.digest] if c in named and last[c] == d.image.digest
            ),
        )
        for d in deletions
    ]


def _below(client: Client, repository: Reference, digest: str, depth: int = 0) -> list[str]:
    """Digests of manifests below an index; [] for what is none.

    Raises what the client raises for what is damaged: what it names is not known then.
    """
    children = parts_of(client.get_manifest(repository.at(digest)), str(repository)).children
    found = [c.digest for c in children]
    for child in children:
        if child.media_type in INDEXES and depth < _DEEPEST:
            found += _below(client, repository, child.digest, depth + 1)
    return list(dict.fromkeys(found))


def _below_if_whole(client: Client, repository: Reference, digest: str) -> list[str]:
    """The same of what is to go, damaged or not."""
    try:
        return _below(client, repository, digest)
    except (ConfigError, BuildError):
        return []


def _delete(client: Client, deletion: Deletion, done: Pruned) -> None:
    for tag in deletion.tags:
        there = client.head_manifest(tag)
        if there and there.digest != deletion.image.digest:
            why = f"it is {there.digest} now: put there just before"
            done.left.append(Verdict(tag, deletion.image.digest, Fate.FOREIGN, why))
            return
    client.delete_manifest(deletion.image)
    done.removed += deletion.tags
    done.manifests += 1
    for child in deletion.children:
        done.manifests += client.delete_manifest(deletion.image.at(child))
