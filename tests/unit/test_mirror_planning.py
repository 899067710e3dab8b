"""Plans: what is made of what both sides have, for any list and any state of them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuild.errors import ConfigError, PreflightError, TemporaryError
from imagebuild.mirror.giveup import Registries
from imagebuild.mirror.items import Item
from imagebuild.mirror.lockfile import Lock, Locked
from imagebuild.mirror.planning import make_plan
from imagebuild.mirror.problems import GivenUpError, MissingError
from imagebuild.mirror.result import Outcome, outcome_of
from imagebuild.registry.client import Client
from imagebuild.registry.credentials import NoLoginError
from imagebuild.registry.manifest import MANIFESTS, Descriptor
from imagebuild.registry.reference import Reference

DIGESTS = [f"sha256:{c * 64}" for c in "abcd"]


class Tags:
    """Both registries, as far as HEADs see them; `asked` counts them."""

    def __init__(self, there: dict[str, str]) -> None:
        self.there = there
        self.asked: Counter[str] = Counter()

    def head_manifest(self, reference: Reference) -> Descriptor | None:
        self.asked[str(reference)] += 1
        digests = {d for n, d in self.there.items() if n.startswith(f"{reference.name}:")}
        if reference.digest:
            digest = reference.digest if reference.digest in digests else None
        else:
            digest = self.there.get(str(reference))
        return Descriptor(MANIFESTS[0], digest, 10) if digest else None


def item(source: str, target: str, *aliases: str) -> Item:
    return Item(Reference.parse(source), Reference.parse(target), aliases)


TAGS = ["1", "2", "3"]
STATE = st.dictionaries(st.sampled_from(TAGS), st.sampled_from(DIGESTS))


@given(STATE, STATE, st.dictionaries(st.sampled_from(TAGS), st.sampled_from(DIGESTS)))
def test_model(source: dict[str, str], target: dict[str, str], locked: dict[str, str]) -> None:
    """Each item's outcome is what its digests say; each name is asked for once."""
    names = {f"src:1/db:{t}": d for t, d in source.items()}
    names |= {f"dst:1/db:{t}": d for t, d in target.items()}
    # All three tags have one alias: what one of them puts there is another's business.
    items = [item(f"src:1/db:{t}", f"dst:1/db:{t}", f"{t}-alias") for t in TAGS]
    for lock in (None, Lock({f"src:1/db:{t}": Locked(d) for t, d in locked.items()})):
        tags = Tags(names)
        client = cast(Client, tags)
        if lock and set(locked) != set(TAGS):
            with pytest.raises(ConfigError, match="does not know a tag"):
                make_plan(client, items, lock=lock)
            continue
        plan = make_plan(client, items, lock=lock)
        assert set(tags.asked.values()) == {1}
        for tag, planned in zip(TAGS, plan.planned, strict=True):
            wanted = locked[tag] if lock else source.get(tag)
            if lock and wanted not in source.values():
                wanted = None
            there = target.get(tag)
            assert (planned.wanted.digest if planned.wanted else None) == wanted
            if wanted is None:
                assert planned.outcome is Outcome.MISSING
                assert not planned.stale_tags
                continue
            stale = ([tag] if there != wanted else []) + [f"{tag}-alias"]
            assert planned.stale_tags == tuple(stale)
            assert planned.outcome is (
                Outcome.REPLACED if there and there != wanted else Outcome.COPIED
            )


def test_a_pin_that_is_not_the_lock() -> None:
    pinned = item(f"src:1/db:1@{DIGESTS[0]}", "dst:1/db:1")
    lock = Lock({"src:1/db:1": Locked(DIGESTS[1])})
    with pytest.raises(ConfigError, match="pins another digest"):
        make_plan(cast(Client, Tags({})), [pinned], lock=lock)


class TestGivingUp:
    """Errors that everybody would get, and those of one image."""

    @pytest.mark.parametrize(
        ("error", "gives_up"),
        [
            (TemporaryError("cannot reach the registry", where="https://r:1"), True),
            (PreflightError("the certificate is not trusted", where="https://r:1"), True),
            (TemporaryError("the registry limits our requests", where="https://r:1"), True),
            (TemporaryError("the registry fails", where="https://r:1"), False),
            (PreflightError("the registry refuses access", where="r:1/db:1"), False),
            (ConfigError("the registry does not have the manifest", where="https://r:1"), False),
        ],
    )  # fmt: skip
    def test_what_gives_up(self, error: Exception, gives_up: bool) -> None:
        registries = Registries()
        with pytest.raises(type(error)), registries.asked("r:1"):
            raise error
        if gives_up:
            with pytest.raises(GivenUpError) as caught, registries.asked("r:1"):
                raise AssertionError("it was asked")
            assert str(error.args[0]) in caught.value.detail
        with registries.asked("other:1"):
            pass

    def test_the_inner_one_is_to_blame(self) -> None:
        registries = Registries()
        error = TemporaryError("cannot reach the registry", where="https://source:1")
        with pytest.raises(TemporaryError), registries.asked("target:1"):  # noqa: SIM117
            with registries.asked("source:1"):
                raise error
        with registries.asked("target:1"):
            pass

    @pytest.mark.parametrize("let_in", [False, True])
    def test_wrong_logins_are_not_tried_on_and_on(self, let_in: bool) -> None:
        registries = Registries()
        if let_in:
            with registries.asked("r:1"):
                pass
        for n in range(3):
            with pytest.raises(PreflightError), registries.asked("r:1"):
                raise PreflightError("the registry refuses access", where=f"r:1/db{n}:1")
        if let_in:
            with registries.asked("r:1"):
                return
        with pytest.raises(GivenUpError), registries.asked("r:1"):
            raise AssertionError("it was asked")

    def test_who_has_no_login_may_have_the_next_image(self) -> None:
        """Nobody can be locked out, and what is private, or misspelt, says nothing of others."""
        registries = Registries()
        for n in range(4):
            with pytest.raises(PreflightError), registries.asked("r:1"):
                raise NoLoginError("the registry wants a login", where=f"r:1/db{n}:1")
        with registries.asked("r:1"):
            pass

    def test_outcomes(self) -> None:
        assert outcome_of(MissingError("x")) is Outcome.MISSING
        assert outcome_of(GivenUpError("x")) is Outcome.SKIPPED
        assert outcome_of(TemporaryError("x")) is Outcome.FAILED


def test_platforms_of_what_is_no_index_are_not_asked_for() -> None:
    """A plan for a single image stays with HEADs; whether it fits is seen when it is copied."""
    tags = Tags({"src:1/db:1": DIGESTS[0], "dst:1/db:1": DIGESTS[0]})
    wanted = dataclasses.replace(item("src:1/db:1", "dst:1/db:1"), platforms=("linux/amd64",))
    [planned] = make_plan(cast(Client, tags), [wanted]).planned
    assert planned.outcome is Outcome.UNCHANGED
