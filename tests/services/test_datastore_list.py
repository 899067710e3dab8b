"""imagebuild datastore list, against the real services."""

from __future__ import annotations

import dataclasses

from imagebuild.cloud.datastores import Datastores
from imagebuild.cloud.images import Images
from imagebuild.datastore.creation import Gates, carry_out, propose
from imagebuild.datastore.overview import State, overview
from imagebuild.datastore.wanted import Wanted
from tests.services.cloud import TestCloud
from tests.services.datastores import add_image, connected, run
from tests.services.proxy import Answer, Rule


def create(cloud: TestCloud, name: str, image: str | None = None, *tags: str) -> None:
    connection = connected(cloud)
    wanted = Wanted("mysql", name, image=image, image_tags=tags or None, is_active=True)
    carry_out(connection, propose(connection, wanted, Gates(force=True)))


def states(cloud: TestCloud) -> dict[str, State]:
    return {r.version.name: r.state for r in overview(connected(cloud)).rows}


def test_what_is_behind_each_version(cloud: TestCloud) -> None:
    old = add_image(
        cloud, ["a"], age=3 * 86400 + 60, name="old", imagebuild_build_id="0123456789" * 6 + "0123",
        imagebuild_agent_version="24.1.0", imagebuild_agent_series="2025.2",
    )  # fmt: skip
    create(cloud, "8.10", old)
    create(cloud, "8.4", None, "a")
    table = run(cloud, "list")
    assert table.code == 0
    lines = table.out.splitlines()
    assert lines[1] == "cloud admin"
    assert lines[2].split() == [
        "version", "state", "image", "chosen", "by", "build", "agent", "age", "active",
    ]  # fmt: skip
    assert [" ".join(line.split()) for line in lines[3:]] == [
        f"mysql 8.4 current old ({old[:8]}) tags a 01234567 24.1.0 (2025.2) 3 days yes",
        f"mysql 8.10 current old ({old[:8]}) id 01234567 24.1.0 (2025.2) 3 days yes",
    ]


def test_the_states(cloud: TestCloud) -> None:
    images = Images(connected(cloud).image)
    old = add_image(cloud, ["a"], age=90, name="old")
    create(cloud, "1-by-id", old)
    create(cloud, "2-by-tags", None, "a")
    assert states(cloud) == {"1-by-id": State.CURRENT, "2-by-tags": State.CURRENT}
    new = add_image(cloud, ["a"], age=60, name="new")
    assert states(cloud) == {"1-by-id": State.OUTDATED, "2-by-tags": State.CURRENT}
    (first, second) = overview(connected(cloud)).rows
    assert first.newest is not None
    assert second.resolution.taken is not None
    assert (first.newest.id, second.resolution.taken.id) == (new, new)
    add_image(cloud, ["a"], owner="demo")
    assert states(cloud)["2-by-tags"] is State.FOREIGN
    images.deactivate(old)
    assert states(cloud)["1-by-id"] is State.UNUSABLE
    listed = run(cloud, "list", "mysql").out
    assert "deactivated" in listed
    assert f"of project {cloud.project_id('demo')[:8]}" in listed
    images.delete(old)
    for image in images.find(tags=["a"]):
        images.delete(image.id)
    assert set(states(cloud).values()) == {State.GONE}


def test_as_json(cloud: TestCloud) -> None:
    old = add_image(cloud, ["a"], age=60)
    new = add_image(cloud, ["a"])
    create(cloud, "8.4", old)
    document = run(cloud, "list", "mysql", "--json").document
    assert (document["schema_version"], document["cloud"]) == (1, "admin")
    (version,) = document["versions"]
    assert (version["state"], version["image"], version["image_tags"]) == ("outdated", old, [])
    assert (version["taken"]["id"], version["newest"]["id"]) == (old, new)
    assert (version["active"], version["default"], version["instances"]) == (True, False, None)


def test_one_datastore_and_those_without_versions(cloud: TestCloud) -> None:
    add_image(cloud, ["a"])
    create(cloud, "8.4", None, "a")
    connection = connected(cloud)
    for name in ("other", "empty"):
        wanted = Wanted(name, "1", manager="mysql", image_tags=("a",))
        carry_out(connection, propose(connection, wanted, Gates()))
    datastores = Datastores(connection.database)
    (gone,) = [v for v in datastores.versions() if v.datastore == "empty"]
    datastores.delete(gone.id)
    every = overview(connection)
    assert [r.version.label for r in every.rows] == ["mysql 8.4", "other 1"]
    assert every.empty == ("empty",)
    one = overview(connection, "other")
    assert [r.version.label for r in one.rows] == ["other 1"]
    assert one.empty == ()
    done = run(cloud, "list", "empty")
    assert (done.code, done.out) == (0, "")
    assert done.err.splitlines() == [
        "cloud admin: no datastore version", "note: the datastore empty has no version",
    ]  # fmt: skip


def test_instances_of_all_projects_are_counted(cloud: TestCloud) -> None:
    add_image(cloud, ["a"])
    for name in ("8.0", "8.4", "9.0"):
        create(cloud, name, None, "a")
    ids = {r.version.name: r.version.id for r in overview(connected(cloud)).rows}
    for number in range(23):
        cloud.add_instance(ids["8.4"], f"one-{number}", project="other" if number % 2 else "demo")
    cloud.add_instance(ids["8.4"], "gone", deleted=True)
    cloud.add_instance(ids["8.0"])
    found = overview(connected(cloud), count=True, page=10)
    assert found.notes == ()
    assert {r.version.name: r.instances for r in found.rows} == {"8.0": 1, "8.4": 23, "9.0": 0}


def test_instances_that_cannot_be_counted(cloud: TestCloud) -> None:
    add_image(cloud, ["a"])
    create(cloud, "8.4", None, "a")
    cloud.proxies.trove.add(Rule("GET", "/mgmt/instances", Answer(500), times=None))
    connection = connected(cloud, "admin-proxied")
    found = overview(connection, count=True)
    assert [r.instances for r in found.rows] == [None]
    (note,) = found.notes
    assert note.startswith("instances cannot be counted: HTTP 500")
    assert dataclasses.replace(found, notes=()) == overview(connection)
