"""What `mirror check` asks: the target's images, and what datastore versions need of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imagebuild.agent.series import get_series
from imagebuild.cli.live import live
from imagebuild.cli.mirror.options import client_of, items_of
from imagebuild.cli.mirror.view import Notes
from imagebuild.cli.terminal import Terminal, terminal
from imagebuild.cli.troveversions import chosen_versions
from imagebuild.errors import ImagebuildError, Interrupted, PreflightError
from imagebuild.mirror.answers import Answer, Guests, Seen, answer
from imagebuild.mirror.checking import Checker, Progress, Walk
from imagebuild.mirror.items import Item
from imagebuild.mirror.lockfile import Lock
from imagebuild.mirror.naming import NEWEST
from imagebuild.mirror.wants import Need, names_of_list, needs_of
from imagebuild.registry.reference import Reference

if TYPE_CHECKING:
    from imagebuild.mirror.loading import LoadedList


@dataclass(frozen=True)
class Question:
    """What the options of `mirror check` ask for, as they were given."""

    only: tuple[str, ...] = ()
    deep: bool = False
    datastores: tuple[str, ...] = ()
    cloud: str | None = None
    region: str | None = None
    series: str | None = None
    isolated: bool = True
    login_at: str | None = None


@dataclass(frozen=True)
class Checked:
    """One tag of the target. `expected` is the digest that we put there, "" if we do not know."""

    item: Item
    walk: Walk
    expected: str = ""

    @property
    def is_foreign(self) -> bool:
        """Whether somebody else has put another image there since."""
        return bool(self.expected and self.walk.digest and self.walk.digest != self.expected)


@dataclass(frozen=True)
class Found:
    """All that was found; `answers` are of datastore versions."""

    checked: tuple[Checked, ...]
    answers: tuple[Answer, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing is missing or damaged."""
        return all(c.walk.ok for c in self.checked) and all(a.ok for a in self.answers)


def run(loaded: LoadedList, known: Lock, question: Question) -> Found:
    """Ask. What Trove or the list cannot answer is raised, as its parts do; what an image's
    registry cannot, is the error of that image.
    """
    series = get_series(question.series or NEWEST).name
    versions = chosen_versions(question.datastores, question.cloud, question.region)
    # A list may have two images for one use, as long as nobody asks which one is meant.
    names = names_of_list(loaded.value) if versions else {}
    needs = needs_of(versions, names, series)
    with client_of(loaded.value, Notes(terminal)) as client:
        items = items_of(client, loaded, question.only)
        tags = [(item, reference) for item in items for reference in _targets(item)]
        with Checker(client, deep=question.deep) as checker, _progress(terminal) as progress:
            walks = checker.check_all([reference for _, reference in tags], progress)
            checked = tuple(
                Checked(item, walk, known.tags.get(str(reference), ""))
                for (item, reference), walk in zip(tags, walks, strict=True)
            )
            if not needs:
                return Found(checked)
            look = _look(checker, {c.walk.reference: c.walk for c in checked})
            login = _wants_login(loaded)
            guests = Guests(question.isolated, question.login_at)
            served = [n for n in needs if n.version.manager in names]
            answers = dict(zip(served, answer(served, look, login, guests), strict=True))
            return Found(checked, tuple(answers.get(n) or _unlisted(n) for n in needs))


def _targets(item: Item) -> list[Reference]:
    return [dataclasses.replace(item.target, tag=t) for t in (item.target.tag, *item.aliases)]


def _look(checker: Checker, known: dict[Reference, Walk]) -> Callable[[Reference], Seen]:
    def look(reference: Reference) -> Seen:
        walk = known.get(reference) or checker.check_all([reference])[0]
        if walk.error:
            # Not "missing", which would have the guest look further.
            return Seen("unknown", f"it cannot be looked at: {walk.error.what}")
        return Seen(walk.digest, walk.problem)

    return look


def _unlisted(need: Need) -> Answer:
    """A datastore that the list has nothing for: its guests go elsewhere."""
    manager, images = need.version.manager, " or ".join(need.chain.images)
    return Answer(
        need,
        ok=False,
        reason=f"the list has no image with 'datastore: {manager}'"
        + (f"; by default guests ask for {images}" if images else ""),
        hint="add it to the list, or say datastore and role of the image that is meant",
    )


def _wants_login(loaded: LoadedList) -> Callable[[str], bool]:
    """Asks a registry as a guest without a login does.

    For the list's own repositories: one with a token server (Harbor) lets anybody in, and
    refuses them the projects that are private.
    """
    from imagebuild.mirror.loading import registry_settings
    from imagebuild.registry.client import Client

    listed = loaded.value.registries
    bare = tuple(
        r.model_copy(update={"username": None, "password_file": None, "password_env": None})
        for r in listed
    )
    value = loaded.value.model_copy(update={"registries": bare})
    repository = Reference.parse(
        "/".join(filter(None, (loaded.value.target.registry, loaded.value.target.prefix,
                               loaded.value.images[0].repository)))
    )  # fmt: skip

    def wants(registry: str) -> bool:
        # A home without files of logins.
        nobody = {"HOME": "/nonexistent"}
        with Client(registry_settings(value, nobody), environ=nobody) as anonymous:
            try:
                anonymous.head_manifest(dataclasses.replace(repository, registry=registry))
            except Interrupted:
                raise
            except PreflightError:
                return True
            except ImagebuildError:
                return False  # what it is, the check of the images says
        return False

    return wants


@contextmanager
def _progress(to: Terminal) -> Iterator[Progress]:
    """Shows how many blobs have been asked for, where somebody is watching."""
    from imagebuild.units import size

    line = ["reading manifests"]

    def progress(done: int, total: int, read: int, whole: int) -> None:
        bytes_ = f", {size(read)} of {size(whole)}" if whole else ""
        line[0] = f"{done} of {total} blobs{bytes_}"

    with live(to, lambda: line[0]):
        yield progress
