"""The plans of promote and rollback, on the value alone: an image at every moment."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuild.datastore import turning
from imagebuild.datastore.turning import Effect, Way, steps_to
from imagebuild.datastore.world import (
    REPLACES,
    RETIRED,
    ROLLED_BACK,
    Adopt,
    Entry,
    Point,
    Reactivate,
    Step,
    Version,
    Withdraw,
    World,
)
from imagebuild.errors import PolicyError
from imagebuild.publish import properties

BOTH = frozenset({"trove", "mysql"})
MYSQL = Version("v-mysql", tags=BOTH)
MARIADB = Version("v-mariadb", tags=frozenset({"trove", "mariadb"}))


def image(name: str, *tags: str, **more: object) -> Entry:
    return Entry(name, frozenset(tags), **more)  # type: ignore[arg-type]


def world(*images: Entry, versions: tuple[Version, ...] = (MYSQL,)) -> World:
    return World(images, versions)


def test_a_candidate_gets_all_tags_at_one_moment() -> None:
    before = world(image("new"), image("old", *BOTH))
    (step,) = steps_to(before, "v-mysql", "new", Way.PROMOTE)
    assert isinstance(step, Adopt)
    assert step.tags == BOTH
    after = before.after([step])
    assert after.outcome() == {"v-mysql": "new"}
    assert after.image("old") == before.image("old"), "the previous one stays as it is"
    assert step.set[f"{REPLACES}v-mysql"] == "old"
    assert steps_to(after, "v-mysql", "new", Way.PROMOTE) == []


def test_an_older_image_has_all_tags_before_a_newer_one_loses_one() -> None:
    before = world(image("new", *BOTH), image("old", "trove"))
    adopt, withdraw = steps_to(before, "v-mysql", "old", Way.PROMOTE)
    assert isinstance(adopt, Adopt)
    assert adopt.tags == {"mysql"}
    assert isinstance(withdraw, Withdraw)
    after = before.after([adopt, withdraw])
    assert after.outcome() == {"v-mysql": "old"}
    gone = after.image("new")
    assert gone
    assert gone.withdrawn == {withdraw.tag}


def test_the_current_one_of_several_newer_ones_goes_last() -> None:
    """Until then a second run finds the same image to write down as replaced."""
    before = world(image("a", *BOTH), image("b", *BOTH), image("c", *BOTH), image("d", *BOTH))
    steps = steps_to(before, "v-mysql", "d", Way.PROMOTE)
    assert [s.image for s in steps] == ["d", "c", "b", "a"]
    for cut in range(len(steps)):
        again = steps_to(before.after(steps[:cut]), "v-mysql", "d", Way.PROMOTE)
        assert again == steps[cut:]


def test_a_version_with_an_id_is_changed_by_one_request_after_the_record() -> None:
    by_id = Version("v-id", image="old", tags=BOTH)
    before = world(image("new"), image("old"), versions=(by_id,))
    adopt, point = steps_to(before, "v-id", "new", Way.PROMOTE)
    assert isinstance(adopt, Adopt)
    assert adopt.tags == frozenset(), "tags do not matter where there is an id"
    assert adopt.set[f"{REPLACES}v-id"] == "old"
    assert point == Point("v-id", "new")
    assert before.after([adopt]).outcome() == {"v-id": "old"}
    assert before.after([adopt, point]).outcome() == {"v-id": "new"}


def test_the_tag_that_disturbs_fewest_is_taken() -> None:
    """Without the tag trove, mariadb would get another image, too."""
    both = ("trove", "mysql", "mariadb")
    before = world(image("new", *both), image("old", *both), versions=(MYSQL, MARIADB))
    (adopt, step) = steps_to(before, "v-mysql", "old", Way.PROMOTE)
    assert isinstance(step, Withdraw)
    assert step.tag == "mysql"
    assert before.after([adopt, step]).outcome() == {"v-mysql": "old", "v-mariadb": "new"}


def test_a_tag_is_never_taken_when_a_version_would_find_none() -> None:
    every = Version("v-every", tags=frozenset({"trove"}))
    my = Version("v-my", tags=frozenset({"mysql"}))
    versions = (MYSQL, every, my)
    before = world(image("new", *BOTH), image("old", *BOTH), versions=versions)
    steps = steps_to(before, "v-mysql", "old", Way.PROMOTE)
    assert before.after(steps).outcome()["v-mysql"] == "old"
    # Nothing else has mysql and rare: whichever tag the newer one loses, one version has none.
    rare = Version("v-rare", tags=BOTH | {"rare"})
    alone = world(image("new", *BOTH, "rare"), image("old", *BOTH), versions=(MYSQL, rare))
    with pytest.raises(PolicyError) as caught:
        steps_to(alone, "v-mysql", "old", Way.PROMOTE)
    assert "1 other versions would find no image" in caught.value.detail


def test_what_was_withdrawn_comes_back_when_it_is_promoted() -> None:
    marked = {properties.WITHDRAWN: "mysql,other"}
    before = world(image("new", "trove", properties=marked), image("old", *BOTH))
    after = before.after(steps_to(before, "v-mysql", "new", Way.PROMOTE))
    new = after.image("new")
    assert new
    assert new.withdrawn == {"other"}
    assert after.outcome() == {"v-mysql": "new"}


def test_a_deactivated_image_is_reactivated_before_newer_ones_go() -> None:
    before = world(image("new", *BOTH), image("old", *BOTH, status="deactivated"))
    steps = steps_to(before, "v-mysql", "old", Way.ROLLBACK)
    kinds = [type(s) for s in steps]
    assert kinds == [Adopt, Reactivate, Withdraw]


def test_that_retire_had_deactivated_it_is_forgotten_after_that() -> None:
    """Else a run that is cut off in between would not know who had."""
    marks = {RETIRED: "2026-01-01T00:00:00+00:00"}
    before = world(image("new", *BOTH), image("old", *BOTH, status="deactivated", properties=marks))
    _, reactivate, forget, _ = steps = steps_to(before, "v-mysql", "old", Way.ROLLBACK)
    assert reactivate == Reactivate("old")
    assert forget == Adopt("old", frozenset(), {RETIRED: None})
    old = before.after(steps).image("old")
    assert old
    assert RETIRED not in old.properties


def test_a_hidden_image_is_shown() -> None:
    before = world(image("new", *BOTH, is_hidden=True), image("old", *BOTH))
    assert before.outcome() == {"v-mysql": "old"}
    after = before.after(steps_to(before, "v-mysql", "new", Way.PROMOTE))
    assert after.outcome() == {"v-mysql": "new"}


def test_a_rollback_goes_to_what_was_replaced_and_a_second_stays() -> None:
    first = world(image("third", *BOTH), image("second", *BOTH), image("first", *BOTH))
    promoted = first.after(steps_to(first, "v-mysql", "first", Way.PROMOTE))
    assert turning.previous(promoted, MYSQL) == "third"
    back = promoted.after(steps_to(promoted, "v-mysql", "third", Way.ROLLBACK))
    assert back.outcome() == {"v-mysql": "third"}
    assert turning.was_rolled_back(back, MYSQL) == "first"
    # Promoted again, it may be rolled back again.
    again = back.after(steps_to(back, "v-mysql", "first", Way.PROMOTE))
    assert turning.was_rolled_back(again, MYSQL) is None
    assert turning.previous(again, MYSQL) == "third"


def test_what_a_version_was_taken_back_from_is_known_until_it_is_promoted_again() -> None:
    by_id = Version("v-id", image="old")
    before = world(
        image("new", *BOTH), image("old", *BOTH), image("oldest", *BOTH), versions=(MYSQL, by_id)
    )
    for version, way in ((MYSQL, Way.ROLLBACK), (MYSQL, Way.PROMOTE), (by_id, Way.ROLLBACK)):
        id_ = version.id
        on = before.after(steps_to(before, id_, "new", Way.PROMOTE))
        assert not turning.was_taken_back(on, on.version(id_), "new"), "it has it"
        back = on.after(steps_to(on, id_, "old", way))
        assert turning.was_taken_back(back, back.version(id_), "new"), (version, way)
        assert not turning.was_taken_back(back, back.version(id_), "oldest")
        again = back.after(steps_to(back, id_, "new", Way.PROMOTE))
        assert not turning.was_taken_back(again, again.version(id_), "new")


def test_an_older_image_by_id_counts_as_taken_back_a_newer_one_does_not() -> None:
    by_id = Version("v-id", image="mid")
    before = world(image("new"), image("mid"), image("old"), versions=(by_id,))
    up = before.after(steps_to(before, "v-id", "new", Way.PROMOTE))
    assert not turning.was_taken_back(up, up.version("v-id"), "mid"), "replaced as every night"
    down = before.after(steps_to(before, "v-id", "old", Way.PROMOTE))
    assert turning.was_taken_back(down, down.version("v-id"), "mid")
    broken = down.with_image("old", lambda i: dataclasses.replace(i, status="deactivated"))
    assert not turning.was_taken_back(broken, broken.version("v-id"), "mid"), "nothing to keep"


def test_without_a_record_the_next_older_one_of_ours_is_the_previous() -> None:
    found = world(image("new", *BOTH), image("theirs", *BOTH, is_foreign=True), image("o", *BOTH))
    assert turning.previous(found, MYSQL) == "o"
    gone = image("new", *BOTH, properties={f"{REPLACES}v-mysql": "gone"})
    assert turning.previous(world(gone, image("o", *BOTH)), MYSQL) == "o"
    by_id = Version("v-id", image="new")
    assert turning.previous(world(image("new"), image("o"), versions=(by_id,)), by_id) is None


def test_effects_name_other_versions() -> None:
    shared = Version("v-8.0", tags=BOTH)
    before = world(image("new"), image("old", *BOTH), versions=(MYSQL, shared))
    after = before.after(steps_to(before, "v-mysql", "new", Way.PROMOTE))
    assert turning.effects(before, after) == [
        Effect("v-mysql", "old", "new"), Effect("v-8.0", "old", "new"),
    ]  # fmt: skip


# Whatever the world is like.

TAGS = ("trove", "mysql", "mariadb", "x")
IDS = [f"i{n}" for n in range(6)]


@st.composite
def worlds(draw: st.DrawFn) -> tuple[World, str, str]:
    """A world, a version of it, and an image of it that it may get."""
    tags = st.frozensets(st.sampled_from(TAGS))
    count = draw(st.integers(1, len(IDS)))
    names = IDS[:count]
    versions = []
    for number in range(draw(st.integers(1, 4))):
        by_id = draw(st.sampled_from(["", "", *names, "gone"]))
        wanted = draw(st.frozensets(st.sampled_from(TAGS), min_size=0 if by_id else 1))
        versions.append(Version(f"v{number}", by_id, wanted))
    keys = [f"{k}{v.id}" for k in (REPLACES, ROLLED_BACK) for v in versions] + [RETIRED]
    marks = st.dictionaries(st.sampled_from(keys), st.sampled_from([*names, "gone"]), max_size=3)
    images = tuple(
        Entry(
            name, draw(tags), draw(st.sampled_from(["active", "active", "deactivated"])),
            is_foreign=draw(st.booleans()), is_hidden=draw(st.integers(0, 4)) == 0,
            properties=draw(marks)
            | ({properties.WITHDRAWN: draw(st.sampled_from(TAGS))} if draw(st.booleans()) else {}),
        )
        for name in names
    )  # fmt: skip
    return (
        World(images, tuple(versions)),
        draw(st.sampled_from(versions)).id,
        draw(st.sampled_from(names)),
    )


def planned(found: World, plan: Callable[[World], list[Step]]) -> list[Step]:
    try:
        return plan(found)
    except PolicyError:
        return []


def check_steps(found: World, plan: Callable[[World], list[Step]], version: str) -> World:
    """Between any two steps all is well, and a run that is cut off there is taken up."""
    steps = planned(found, plan)
    done = found.after(steps)
    had = {v for v, i in found.outcome().items() if i}
    seen = []
    for cut in range(len(steps) + 1):
        now = found.after(steps[:cut])
        outcome = now.outcome()
        assert had <= {v for v, i in outcome.items() if i}, f"after {steps[:cut]}"
        seen.append(outcome[version])
        # Sent twice, a step does no more.
        assert now.after(steps[max(cut - 1, 0) : cut]) == now
        if steps:
            assert now.after(plan(now)) == done, f"cut after {steps[:cut]}"
    # What the version has changes once.
    assert seen == sorted(seen, key=lambda i: i == seen[-1])
    assert len({*seen}) <= 2
    return done


@given(worlds())
def test_promote_whatever_there_is(case: tuple[World, str, str]) -> None:
    found, version, target = case

    def plan(now: World) -> list[Step]:
        return steps_to(now, version, target, Way.PROMOTE)

    steps = planned(found, plan)
    done = check_steps(found, plan, version)
    if steps:
        assert done.outcome()[version] == target
        replaced = found.taken(found.version(version))
        became = done.image(target)
        assert became
        if replaced and replaced.id != target:
            assert became.properties[f"{REPLACES}{version}"] == replaced.id


@given(worlds())
def test_rollback_whatever_there_is(case: tuple[World, str, str]) -> None:
    found, version, _ = case

    def plan(now: World) -> list[Step]:
        model = now.version(version)
        current = now.taken(model)
        back = turning.was_rolled_back(now, model)
        target = current.id if current and back else turning.previous(now, model)
        return steps_to(now, version, target, Way.ROLLBACK) if target else []

    before = planned(found, plan)
    done = check_steps(found, plan, version)
    if before:
        assert plan(done) == [], "a second rollback stays"
