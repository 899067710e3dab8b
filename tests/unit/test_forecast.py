"""What a plan would take from a store, and why it would make the rest."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from pathlib import Path

import pytest

from imagebuild.forecast import Forecast, forecast
from imagebuild.inputs import Inputs
from imagebuild.store.store import NEVER_MADE, Key, Store, Stores, open_stores
from tests.unit.store_objects import stored
from tests.unit.test_plan import MARIADB, make_agent, make_inputs, plan_of

NAMES = [
    "base", "environment", "code", MARIADB.target, "base-disk", "trunk", "base-qcow2", "qcow2",
    "formats",
]  # fmt: skip


def below(*names: str) -> str:
    return f"made anew below it: {', '.join(names)}"


def inputs_of(*sets: str, **changes: object) -> Inputs:
    return make_inputs(*sets, **{"preload": (MARIADB,), **changes})


@pytest.fixture
def stores(tmp_path: Path) -> Stores:
    return open_stores(tmp_path / "cache")


def fill(store: Store, place: Path, inputs: Inputs, without: Collection[str] = ()) -> None:
    """Put all that a build would make into the store."""
    plan = plan_of(inputs)
    for number, (_, kind, part) in enumerate(plan.objects):
        if part.name not in without:
            key = Key(kind, part.id)
            made = stored(store, place / str(number), key, part.own, tree=False)
            assert made.image == plan.link


def seen(inputs: Inputs, stores: Stores) -> dict[str, Forecast]:
    return {one.name: one for one in forecast(plan_of(inputs), stores)}


def made(found: dict[str, Forecast]) -> dict[str, tuple[str, ...]]:
    """What would be made, with the reasons."""
    return {name: tuple(one.reasons) for name, one in found.items() if not one.cached}


def test_with_an_empty_store_all_is_made_for_the_first_time(stores: Stores) -> None:
    found = forecast(plan_of(inputs_of()), stores)
    assert [one.name for one in found] == NAMES
    assert [one.stage for one in found] == [
        "base", "agent", "agent", "containers", "disk", "disk", "formats", "formats", "formats",
    ]  # fmt: skip
    assert not any(one.cached for one in found)
    assert found[0].reasons == (NEVER_MADE,)
    assert found[1].reasons == (below("base"),)
    assert found[2].reasons == (below("environment"),)
    # It rests on all of them.
    assert found[-1].reasons == (below(*NAMES[:-1]),)
    assert not (stores.main.root).exists(), "looking makes nothing"


def test_what_is_there_is_taken(stores: Stores, tmp_path: Path) -> None:
    fill(stores.main, tmp_path, inputs_of())
    found = forecast(plan_of(inputs_of()), stores)
    assert [(one.cached, tuple(one.reasons)) for one in found] == [(True, ())] * len(NAMES)
    plan = plan_of(inputs_of())
    assert [one.id for one in found] == [part.id for _, _, part in plan.objects]
    assert found[0].to_json() == {
        "stage": "base", "name": "base", "id": plan.stage("base").id, "cached": True,
        "reasons": [], "remote": False,
    }  # fmt: skip


def test_a_new_agent(stores: Stores, tmp_path: Path) -> None:
    fill(stores.main, tmp_path, inputs_of())
    found = seen(inputs_of(agent=make_agent(version="25.1.0", sha256="9" * 64)), stores)
    assert made(found) == {
        "code": ("sha256 changed", "version changed from 25.0.0 to 25.1.0"),
        "formats": (below("code"),),
    }


def test_a_security_update_upstream(stores: Stores, tmp_path: Path) -> None:
    fill(stores.main, tmp_path, inputs_of())
    archives = list(inputs_of().archives)
    suite = dataclasses.replace(archives[1].suites[0], sha256="9" * 64)
    archives[1] = dataclasses.replace(archives[1], suites=(suite,))
    found = seen(inputs_of(archives=tuple(archives)), stores)
    assert not any(one.cached for one in found.values())
    reasons = made(found)
    assert reasons["base"] == ("archives[security].suites.bookworm-security changed",)
    assert reasons["environment"] == (below("base"),)
    assert reasons["trunk"] == (below("environment", MARIADB.target, "base-disk"),)


def test_another_container(stores: Stores, tmp_path: Path) -> None:
    fill(stores.main, tmp_path, inputs_of())
    assert MARIADB.resolved
    part = dataclasses.replace(MARIADB.resolved.manifest, digest=f"sha256:{'9' * 64}")
    other = dataclasses.replace(
        MARIADB, resolved=dataclasses.replace(MARIADB.resolved, manifest=part)
    )
    reasons = made(seen(inputs_of(preload=(other,)), stores))
    assert list(reasons) == [MARIADB.target, "trunk", "qcow2", "formats"]
    assert reasons[MARIADB.target] == ("image.manifest changed",)
    assert reasons["trunk"] == (below(MARIADB.target),)


def test_two_reasons_are_both_said(stores: Stores, tmp_path: Path) -> None:
    """A stage whose own inputs changed, too, when what it rests on is another."""
    fill(stores.main, tmp_path, inputs_of())
    reasons = made(seen(inputs_of("packages=[less]", "disk.size=6G"), stores))
    assert reasons["base"] == ("environment.IMAGEBUILD_PACKAGES changed",)
    assert reasons["base-disk"] == (
        below("base"), f"size changed from {5 << 30} to {6 << 30}",
    )  # fmt: skip
    assert reasons["trunk"] == (below("environment", MARIADB.target, "base-disk"),)
    assert reasons["environment"] == (below("base"),)


def test_what_is_missing_alone(stores: Stores, tmp_path: Path) -> None:
    fill(stores.main, tmp_path, inputs_of(), without=["trunk"])
    # The disk of the base, of the same kind, is not what it is compared with.
    assert made(seen(inputs_of(), stores)) == {"trunk": (NEVER_MADE,)}


@pytest.mark.parametrize("harm", ["shorter", "gone", "document"])
def test_what_is_plainly_damaged_is_made_anew(stores: Stores, tmp_path: Path, harm: str) -> None:
    fill(stores.main, tmp_path, inputs_of())
    (code,) = (p for p in stores.main.root.glob("agent-*"))
    if harm == "shorter":
        (code / "list.json").write_text("")
    elif harm == "gone":
        (code / "disk.raw").unlink()
    else:
        (code / "object.json").write_text("{}")
    reasons = made(seen(inputs_of(), stores))
    assert reasons["code"][0].startswith("it is damaged: ")
    assert next(iter(reasons)) == "code"


def test_an_object_in_either_store_counts(tmp_path: Path) -> None:
    """Of a user who shares a store, and keeps what holds secrets in his own."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o2770)
    stores = open_stores(tmp_path / "cache", shared)
    assert stores.main != stores.own
    fill(stores.own, tmp_path / "a", inputs_of(), without=NAMES[2:])
    fill(stores.main, tmp_path / "b", inputs_of(), without=NAMES[:2])
    assert made(seen(inputs_of(), stores)) == {}
