"""What a datastore version is wanted to be, and the plan that leads there."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuild.cloud.datastores import DatastoreVersion
from imagebuild.datastore import wanted as wants
from imagebuild.datastore.managers import MANAGERS
from imagebuild.datastore.wanted import Difference, Wanted, complete, find, plan
from imagebuild.errors import UsageError
from tests.unit.trove_model import NoUniqueMatchError, Trove

IMAGES = ("11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222")


def version(
    name: str = "8.4", number: str = "", id_: str = "v0", datastore: str = "mysql"
) -> DatastoreVersion:
    return DatastoreVersion(
        id=id_,
        datastore_id=datastore,
        datastore=datastore,
        name=name,
        number=number or name,
        manager="mysql",
        image="",
        image_tags=("trove", "mysql"),
        packages=(),
        is_active=True,
        is_default=False,
        registry_ext=MANAGERS["mysql"].registry_ext,
        repl_strategy=MANAGERS["mysql"].repl_strategy,
    )


tags = st.lists(st.sampled_from(["trove", "mysql", "a", "b"]), min_size=1, unique=True).map(tuple)
packages = st.lists(st.sampled_from(["one", "two"]), unique=True).map(tuple)
names, numbers = st.sampled_from(["8.0", "8.4"]), st.sampled_from(["8.0", "8.4", "8.4.3"])


@st.composite
def troves(draw: st.DrawFn) -> Trove:
    """Any state that requests can bring about."""
    keys = draw(st.lists(st.tuples(names, numbers), unique=True, max_size=4))
    found = []
    for number, (name, numbered) in enumerate(keys):
        image = draw(st.sampled_from(["", *IMAGES]))
        found.append(
            dataclasses.replace(
                version(name, numbered, f"v{number}"),
                manager=draw(st.sampled_from(sorted(MANAGERS))),
                image=image,
                image_tags=draw(tags) if not image or draw(st.booleans()) else (),
                packages=draw(packages),
                is_active=draw(st.booleans()),
                registry_ext=draw(st.sampled_from(["own", *(m.registry_ext for m in
                                                            MANAGERS.values())])),
            )
        )  # fmt: skip
    active = [v for v in found if v.is_active]
    if draw(st.booleans()) and active:
        chosen = draw(st.sampled_from(active))
        found = [dataclasses.replace(v, is_default=v == chosen) for v in found]
    return Trove(tuple(found))


@st.composite
def wishes(draw: st.DrawFn) -> Wanted:
    by = draw(st.sampled_from(["image", "tags", "neither"]))
    is_active = draw(st.sampled_from([None, True, False]))
    return Wanted(
        datastore="mysql",
        name=draw(names),
        number=draw(st.none() | numbers),
        manager=draw(st.none() | st.sampled_from(sorted(MANAGERS))),
        image=draw(st.sampled_from(IMAGES)) if by == "image" else None,
        image_tags=draw(tags) if by == "tags" else None,
        is_active=is_active,
        is_default=draw(st.sampled_from([None, True, False] if is_active else [None, False])),
        packages=draw(st.none() | packages),
        registry_ext=draw(st.sampled_from([None, "some.Class"])),
    )


@given(troves(), wishes())
def test_a_plan_leads_to_what_is_wanted(trove: Trove, wish: Wanted) -> None:
    try:
        found = find(trove.all, wish)
        wanted = complete(wish, found, trove.all)
    except UsageError:
        return
    first = plan(wanted, found, trove.all)
    others = {v.id: v for v in trove.all if v != found}
    if first.creates:
        trove.create(first.creates)
    if first.changes and found:
        trove.patch(found.id, first.changes)
    now = find(trove.all, wanted)
    assert now is not None
    left = plan(wanted, now, trove.all)
    if first.default_left:
        assert [d.attribute for d in left.differences] == ["default"]
        assert left.default_left
        assert left.changes is None
    else:
        assert left.is_empty, left
        assert left.changes is None
    # What was asked for is there, whatever the plan says.
    if wish.image:
        assert (now.image, now.image_tags) == (wish.image, ())
    if wish.image_tags:
        assert (now.image, set(now.image_tags)) == ("", set(wish.image_tags))
    if wish.is_default and not first.default_left:
        assert now.is_default
    # Of other versions nothing changes but the default.
    for version_id, before in others.items():
        after = trove.versions[version_id]
        assert dataclasses.replace(after, is_default=before.is_default) == before


@given(troves(), wishes())
def test_a_version_that_is_there_changes_in_nothing_that_was_not_asked_for(
    trove: Trove, wish: Wanted
) -> None:
    try:
        found = find(trove.all, wish)
        wanted = complete(wish, found, trove.all)
    except UsageError:
        return
    if not found:
        return
    changed = {d.attribute for d in plan(wanted, found, trove.all).differences}
    asked = {
        "image": wish.image or wish.image_tags,
        "image_tags": wish.image or wish.image_tags,
        "active": wish.is_active is not None,
        "default": wish.is_default is not None,
        "manager": wish.manager,
        "packages": wish.packages is not None,
        "registry_ext": wish.registry_ext or wish.manager,
        "repl_strategy": wish.manager,
    }
    assert not {a for a in changed if not asked[a]}


def test_the_model_has_the_trap_that_plans_avoid() -> None:
    trove = Trove((version("8.4", "8.4.2"),))
    body = plan(
        complete(Wanted("mysql", "8.4", "8.4.3", is_active=True, is_default=True), None, trove.all),
        None,
        trove.all,
    ).creates
    assert body is not None
    assert body["default"] is False
    with pytest.raises(NoUniqueMatchError):
        trove.create({**body, "default": True})
    assert len(trove.all) == 2


def test_a_new_version_has_defaults() -> None:
    wanted = complete(Wanted("mysql", "8.4"), None, [])
    body = plan(wanted, None, []).creates
    assert body == {
        "datastore_name": "mysql", "name": "8.4", "version": "8.4", "datastore_manager": "mysql",
        "image_tags": ["trove", "mysql"], "active": False, "default": False, "packages": [],
    }  # fmt: skip


def test_another_manager_brings_its_class_along() -> None:
    found = version()
    wanted = complete(Wanted("mysql", "8.4", manager="mariadb"), found, [found])
    changes = plan(wanted, found, [found]).changes
    assert changes == {
        "datastore_manager": "mariadb",
        "registry_ext": MANAGERS["mariadb"].registry_ext,
        "repl_strategy": MANAGERS["mariadb"].repl_strategy,
    }


def test_tags_in_another_order_are_the_same() -> None:
    found = version()
    wanted = complete(Wanted("mysql", "8.4", image_tags=("mysql", "trove")), found, [found])
    assert plan(wanted, found, [found]).is_empty


def test_an_image_takes_the_tags_away_and_tags_the_image() -> None:
    found = version()
    by_id = complete(Wanted("mysql", "8.4", image=IMAGES[0]), found, [found])
    first = plan(by_id, found, [found])
    assert first.changes == {"image": IMAGES[0], "image_tags": []}
    assert first.differences[0] == Difference("image", "", IMAGES[0])
    # An image by PATCH alone leaves the tags: asked for the tags again, the image must go.
    both = dataclasses.replace(found, image=IMAGES[0])
    by_tags = complete(Wanted("mysql", "8.4", image_tags=("trove", "mysql")), both, [both])
    assert plan(by_tags, both, [both]).changes == {"image_tags": ["trove", "mysql"]}


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (Wanted("mysql", "8.4", image_tags=("a", "b", "c", "d", "e", "f")), "6 tags"),
        (Wanted("mysql", "8.4", image_tags=("x" * 21,)), "21 characters"),
        (Wanted("mysql", "8.4", image_tags=("--",)), "does not take the tag"),
        (Wanted("mysql", "8.4", image_tags=("a", "a")), "twice"),
        (Wanted("mysql", "8.4", image_tags=()), "no tag"),
        (Wanted("mysql", "8.4", image_tags=("a",), image=IMAGES[0]), "choose one"),
        (Wanted("mysql", "x" * 256), "not a name"),
        (Wanted("", "8.4"), "not a name"),
        (Wanted("mysql", "8.4", is_active=False, is_default=True), "cannot be the default"),
    ],
)
def test_what_trove_refuses_is_refused_before(wanted: Wanted, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        wanted.check()


def test_five_tags_of_twenty_characters_are_within_the_limits() -> None:
    Wanted("mysql", "8.4", image_tags=tuple(c * 20 for c in "abcde")).check()


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (Wanted("mydb", "1"), "which manager"),
        (Wanted("mysql", "8.4", manager="mysqll"), "no manager mysqll"),
        (Wanted("redis", "7", manager="redis"), "no manager redis"),
        (Wanted("x", "1", manager="x", registry_ext="a.B"), "no manager x"),
        (Wanted("mysql", "8.4", is_default=True), "not active"),
    ],
)
def test_what_cannot_be_completed(wanted: Wanted, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        complete(wanted, None, [])


@pytest.mark.parametrize(
    "wanted",
    [
        Wanted("redis", "7", manager="redis", registry_ext="a.B"),
        Wanted("x", "1", manager="x", registry_ext="a.B", repl_strategy="c.D"),
        Wanted("percona-of-us", "8", manager="mysql"),
    ],
)
def test_managers_of_ones_own(wanted: Wanted) -> None:
    assert complete(wanted, None, []).manager == wanted.manager


def test_the_manager_is_that_of_the_other_versions() -> None:
    other = version("8.0", datastore="mydb")
    assert complete(Wanted("mydb", "8.4"), None, [other]).manager == "mysql"


def test_which_version_is_meant() -> None:
    one = version("8.4", "8.4.3", "v1")
    assert find([one], Wanted("mysql", "8.4")) == one
    assert find([one], Wanted("mysql", "8.4", "8.4")) is None
    two = version("8.4", "8.4.4", "v2")
    with pytest.raises(UsageError, match="several versions") as caught:
        find([one, two], Wanted("mysql", "8.4"))
    assert caught.value.detail == "their numbers: 8.4.3, 8.4.4"
    plain = version("8.4", "8.4", "v3")
    assert find([one, two, plain], Wanted("mysql", "8.4")) == plain
    with pytest.raises(UsageError, match="does not tell it from"):
        find([one], Wanted("MySQL", "8.4"))


def test_ids_are_told_from_names() -> None:
    assert wants.is_uuid(IMAGES[0])
    assert not wants.is_uuid("trove-guest-debian-bookworm-amd64-e7daf152")
