"""imagebuild datastore create, against the real services."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import textwrap
from typing import Any

import pytest

from imagebuild.agent.series import series_of_version
from imagebuild.cli.datastore.options import control_of
from imagebuild.cloud.datastores import Datastores
from imagebuild.cloud.images import Images
from imagebuild.cloud.service import NotAllowedError, RefusedError, UnavailableError
from imagebuild.datastore.creation import Gates, Outcome, Proposal, carry_out, propose
from imagebuild.datastore.resolution import resolve
from imagebuild.datastore.skew import ControlSeries
from imagebuild.datastore.trovemanage import TroveManage
from imagebuild.datastore.wanted import Plan, Wanted
from imagebuild.errors import ImagebuildError, PolicyError, PublishError, UsageError
from tests.services.cloud import TestCloud, wait_until
from tests.services.datastores import (
    add_image,
    connected,
    datastores,
    run,
    start,
    trove_manage,
    versions,
)
from tests.services.proxy import Answer, Call, Delay, LoseAnswer, Rule

MYSQL = Wanted("mysql", "8.4", image_tags=("trove", "mysql"), is_active=True, is_default=True)
VERSIONS = r"/mgmt/datastore-versions"
ANY = Gates()


def create(
    cloud: TestCloud, wanted: Wanted, gates: Gates = ANY, name: str = "admin"
) -> tuple[Proposal, Outcome]:
    """Both steps, without waiting between tries."""
    connection = connected(cloud, name)
    proposal = propose(connection, wanted, gates)
    return proposal, carry_out(connection, proposal, delay=0.01)


def sent(cloud: TestCloud) -> list[str]:
    """What came to Trove through the proxy and was to change something."""
    return [str(r) for r in cloud.proxies.trove.seen() if r.method != "GET"]


def test_it_does_what_openstacks_client_does(cloud: TestCloud) -> None:
    add_image(cloud)
    argv = [
        *cloud.openstack("admin"), "datastore", "version", "create", "8.4", "mysql", "mysql", "",
        "--image-tags", "trove,mysql", "--active", "--default", "--version-number", "8.4",
    ]  # fmt: skip
    subprocess.run(argv, env=cloud.environ("admin"), check=True, capture_output=True)
    columns = (
        "SELECT v.name, version, manager, image_id, image_tags, packages, active, registry_ext, "
        "repl_strategy, d.name, d.default_version_id = v.id FROM datastore_versions v "
        "JOIN datastores d ON d.id = datastore_id"
    )
    theirs = cloud.sql(columns)
    cloud.reset()
    add_image(cloud)
    done = run(
        cloud, "create", "mysql", "8.4", "--image-tags", "trove,mysql", "--active", "--default",
        "--version-number", "8.4",
    )  # fmt: skip
    assert (done.code, done.err.splitlines()[-1]) == (0, "created mysql 8.4")
    assert done.out.strip() == versions(cloud)["mysql 8.4"].id
    assert [["" if c == "NULL" else c for c in r] for r in cloud.sql(columns)] == [
        ["" if c == "NULL" else c for c in row] for row in theirs
    ]


def test_run_again_it_changes_nothing_and_says_so(cloud: TestCloud) -> None:
    image = add_image(cloud, imagebuild_build_id="b" * 64, imagebuild_agent_version="26.0.0")
    create(cloud, MYSQL)
    done = run(cloud, "create", "mysql", "8.4", "--active", "--default", "--json",
               name="admin-proxied")  # fmt: skip
    assert done.code == 0
    assert done.err.startswith("cloud admin-proxied: mysql 8.4 is as wanted\n")
    assert sent(cloud) == []
    document = done.document
    assert document["schema_version"] == 1
    assert (document["created"], document["changed"], document["differences"]) == (False, False, [])
    assert document["image"]["id"] == image
    assert document["image"]["build_id"] == "b" * 64
    assert document["version"]["default"] is True


def test_it_converges_by_one_request_and_says_the_difference_first(cloud: TestCloud) -> None:
    old = add_image(cloud, age=60)
    new = add_image(cloud, name="by-id", tags=["other"])
    create(cloud, MYSQL)
    create(cloud, dataclasses.replace(MYSQL, name="8.0", is_default=None))
    argv = ["create", "mysql", "8.0", "--image", "by-id", "--default", "--packages", "a,b"]
    dry = run(cloud, *argv, "--dry-run", name="admin-proxied")
    assert (dry.code, dry.out, sent(cloud)) == (0, "", [])
    told = [" ".join(line.split()) for line in dry.err.splitlines()]
    assert told[0] == "cloud admin-proxied: mysql 8.0 will be changed"
    assert f"image none → {new}" in told
    assert "image tags trove, mysql → none" in told
    assert "default no → yes" in told
    assert "until now the default: mysql 8.4" in told
    done = run(cloud, *argv, "--json", name="admin-proxied")
    assert sent(cloud) == [
        f"PATCH /v1.0/{cloud.project_id('admin')}{VERSIONS}/"
        f"{versions(cloud)['mysql 8.0'].id} -> 202"
    ]
    assert done.document["changed"] is True
    now = versions(cloud)
    assert now["mysql 8.0"].image == new
    assert now["mysql 8.0"].image_tags == ()
    assert now["mysql 8.0"].packages == ("a", "b")
    assert (now["mysql 8.0"].is_default, now["mysql 8.4"].is_default) == (True, False)
    # And back again: the tags take the image away.
    proposal, _ = create(cloud, dataclasses.replace(MYSQL, name="8.0", is_active=False,
                                                    is_default=False, packages=()))  # fmt: skip
    assert {d.attribute for d in proposal.plan.differences} == {
        "image", "image_tags", "active", "default", "packages",
    }  # fmt: skip
    assert proposal.after.taken is not None
    assert proposal.after.taken.id == old
    back = versions(cloud)["mysql 8.0"]
    assert (back.image, back.image_tags, back.packages) == ("", ("trove", "mysql"), ())
    assert (back.is_active, back.is_default) == (False, False)


def test_another_manager_brings_its_class_along(cloud: TestCloud) -> None:
    add_image(cloud)
    create(cloud, MYSQL)
    proposal, _ = create(cloud, dataclasses.replace(MYSQL, manager="mariadb"))
    assert "the datastore is not called mariadb, as its manager" in proposal.notes[-1]
    now = versions(cloud)["mysql 8.4"]
    assert now.manager == "mariadb"
    assert now.registry_ext == "trove.guestagent.datastore.mariadb.manager.Manager"
    assert now.repl_strategy is not None
    assert "mariadb_gtid" in now.repl_strategy


#: Trove's own function with Trove's own credentials, for each list of tags that it reads.
THEIRS = """
    import json, sys
    from trove.common import cfg, clients_admin, context, exception, glance
    cfg.parse_args(["x", sys.argv[1]])
    found = []
    for tags in json.load(sys.stdin):
        client = clients_admin.glance_client_trove_admin(context.TroveContext())
        try:
            found.append(glance.get_image_id(client, None, ",".join(tags)))
        except exception.ImageNotFoundByTags:
            found.append(None)
    print(json.dumps(found))
"""


def test_the_image_is_the_one_that_trove_takes(cloud: TestCloud) -> None:
    admin = connected(cloud)
    add_image(cloud, ["a", "b"], age=50)
    newest = add_image(cloud, ["a", "b", "c"], age=40)
    add_image(cloud, ["a", "b", "hidden"], age=30, os_hidden=True)
    add_image(cloud, ["a", "b", "queued"], age=20, is_active=False)
    Images(admin.image).deactivate(add_image(cloud, ["a", "b", "off"], age=10))
    private = add_image(cloud, ["p"], owner="demo", age=5)
    add_image(cloud, ["p"], age=50)
    shared = add_image(cloud, ["s"], owner="demo", visibility="shared")
    for owner in ("demo", "admin"):
        add_image(cloud, ["m", owner], owner=owner, visibility="community")
    twins = [add_image(cloud, ["twin"]) for _ in range(4)]
    cases = {
        ("a", "b"): newest, ("b", "a"): newest, ("a",): newest, ("c",): newest,
        ("hidden",): None, ("queued",): None, ("off",): None, ("a", "none"): None,
        ("p",): private, ("s",): shared, ("m", "demo"): None,
        ("m", "admin"): None,
    }  # fmt: skip
    ours = {}
    for tags in (*cases, ("twin",)):
        found = resolve(Images(admin.image), admin.project_id, tags=tags)
        ours[tags] = found.taken.id if found.taken else None
        if tags in (("p",), ("s",)):
            assert found.taken is not None
            assert found.taken.is_foreign
    assert ours.pop(("twin",)) in twins
    assert ours == cases
    with pytest.raises(PublishError, match="no active image") as caught:
        propose(admin, Wanted("mysql", "8.4", image_tags=("m",)), ANY)
    assert "is a community image: Trove finds none of those by tags" in caught.value.detail
    conf = f"--config-file={cloud.directory / 'trove.conf'}"
    theirs = subprocess.run(
        [str(cloud.venv / "bin/python"), "-c", textwrap.dedent(THEIRS), conf],
        input=json.dumps(list(cases)), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert dict(zip(cases, json.loads(theirs.stdout), strict=True)) == cases


def test_another_projects_newer_private_image(cloud: TestCloud) -> None:
    ours = add_image(cloud, age=60)
    theirs = add_image(cloud, owner="demo", name="sneaky")
    argv = ["create", "mysql", "8.4", "--active"]
    refused = run(cloud, *argv)
    assert refused.code == 7
    lines = [line.strip(" |") for line in refused.err.splitlines()]
    assert lines[0] == (
        "error: the newest image with the tags trove, mysql belongs to another project, and Trove "
        "takes it"
    )
    assert lines[2].endswith(f"{theirs}  sneaky  (private, of project {cloud.project_id('demo')})")
    assert lines[3].endswith(f"{ours}  guest")
    assert datastores(cloud) == set()
    forced = run(cloud, *argv, "--force", "--json")
    assert forced.code == 0
    assert forced.document["image"]["id"] == theirs
    assert forced.document["image"]["foreign"] is True
    assert [c["id"] for c in forced.document["candidates"]] == [theirs, ours]
    assert "is not ours" in forced.err
    # It is refused as long as it is so; what has nothing to do with the image is not.
    with pytest.raises(PolicyError, match="belongs to another project"):
        propose(connected(cloud), MYSQL, ANY)
    create(cloud, Wanted("mysql", "8.4", is_active=False))
    assert not versions(cloud)["mysql 8.4"].is_active
    # By its id, ours is taken whatever others do.
    create(cloud, Wanted("mysql", "8.4", image=ours))
    assert versions(cloud)["mysql 8.4"].image == ours


def test_several_matches_and_neighbours_are_told(cloud: TestCloud) -> None:
    add_image(cloud, age=60, name="older")
    newer = add_image(cloud, name="newer")
    create(cloud, dataclasses.replace(MYSQL, name="8.0"))
    proposal = propose(connected(cloud), MYSQL, ANY)
    first, second, *_ = proposal.notes
    lines = first.splitlines()
    assert lines[0] == "2 images have the tags trove, mysql; Trove takes the newest:"
    assert lines[1].endswith(f"{newer}  newer")
    assert lines[2].endswith("older")
    assert second == "mysql 8.0 goes by the same tags, so by the same image"


def test_no_image_matches(cloud: TestCloud) -> None:
    add_image(cloud, ["trove", "postgresql"])
    done = run(cloud, "create", "mysql", "8.4", name="admin-proxied")
    assert done.code == 6
    assert done.err.startswith("error: no active image has the tags trove, mysql\n")
    assert sent(cloud) == []


def test_images_by_name(cloud: TestCloud) -> None:
    one = add_image(cloud, ["a"], name="one")
    add_image(cloud, ["a"], name="two")
    add_image(cloud, ["a"], name="two", age=60)
    off = add_image(cloud, ["a"], name="off")
    Images(connected(cloud).image).deactivate(off)
    wanted = Wanted("mysql", "8.4")
    create(cloud, dataclasses.replace(wanted, image="one"))
    assert versions(cloud)["mysql 8.4"].image == one
    for name, said in (
        ("two", "2 images are called two"),
        ("off", "the image off is deactivated, not active"),
        (off, "is deactivated, not active"),
        ("none", "there is no image none"),
        ("11111111-1111-4111-8111-111111111111", "there is no image 1"),
    ):
        with pytest.raises(PublishError, match=said):
            propose(connected(cloud), dataclasses.replace(wanted, image=name), ANY)


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        ({"image_tags": tuple("abcdef")}, 2, "--image-tags has 6 tags; Trove takes 5 at most"),
        ({"image_tags": ("x" * 21,)}, 2, "(21 characters)"),
        ({"manager": "mysqll"}, 2, "Trove has no manager mysqll"),
        ({"is_active": None}, 2, "is not active, so it cannot be the default"),
        ({"number": "8.4.3"}, 7, "the version's name 8.4 is not its number 8.4.3"),
        ({}, 7, "the image's guest agent is of 2025.2, the control plane of 2025.1"),
    ],
)
def test_what_is_refused_before_anything_is_sent(
    cloud: TestCloud, change: dict[str, Any], code: int, said: str
) -> None:
    add_image(cloud, imagebuild_agent_series="2025.2")
    gates = Gates(control=ControlSeries.of_option("2025.1"))
    with pytest.raises(ImagebuildError) as caught:
        create(cloud, dataclasses.replace(MYSQL, **change), gates, "admin-proxied")
    assert caught.value.exit_code == code
    assert said in caught.value.what
    assert sent(cloud) == []
    assert datastores(cloud) == set()


def test_an_image_whose_upload_was_cut_off(cloud: TestCloud) -> None:
    image = add_image(cloud, imagebuild_uploading="somebody")
    for wanted in (MYSQL, Wanted("mysql", "8.4", image=image)):
        with pytest.raises(PolicyError, match="data are whole"):
            propose(connected(cloud), wanted, ANY)


def test_the_limits_are_troves(cloud: TestCloud) -> None:
    tags = tuple(c * 20 for c in "abcde")
    add_image(cloud, tags)
    create(cloud, Wanted("mysql", "8.4", image_tags=tags))
    body = {"name": "x", "datastore_name": "mysql", "datastore_manager": "mysql", "active": True}
    for wrong in ([*tags, "f"], ["x" * 21], ["--"]):
        with pytest.raises(RefusedError) as caught:
            Datastores(connected(cloud).database).create({**body, "image_tags": wrong})
        assert caught.value.status == 400


def test_the_control_planes_series_is_that_of_trove_manage(cloud: TestCloud) -> None:
    control = control_of(None, TroveManage(trove_manage(cloud)))
    assert control is not None
    (package,) = cloud.venv.glob("lib/python3*/site-packages/trove-*.dist-info")
    assert control.series == series_of_version(package.name.split("-")[1].split(".dist")[0]).name
    add_image(cloud, imagebuild_agent_series="2025.1", age=60)
    with pytest.raises(PolicyError) as caught:
        propose(connected(cloud), MYSQL, Gates(control=control))
    said = f"control plane: {control.series}, says trove-manage --version"
    assert said in caught.value.detail
    assert control_of("2025.2", TroveManage("false")) == ControlSeries.of_option("2025.2")
    assert control_of(None, None) is None
    # Of an image that is not chosen anew, nobody asks.
    add_image(cloud, ["fit"], imagebuild_agent_series=control.series)
    wanted = Wanted("mysql", "8.4", image_tags=("fit",))
    proposal, _ = create(cloud, wanted, Gates(control=control))
    assert proposal.notes == ("mysql 8.4 is not active: users do not see it (--active)",)
    # The tags lead to another one meanwhile: that is seen, too.
    add_image(cloud, ["fit"], imagebuild_agent_series="2025.1", age=-5)
    with pytest.raises(PolicyError, match=r"agent is of 2025\.1"):
        propose(connected(cloud), wanted, Gates(control=control))
    propose(connected(cloud), Wanted("mysql", "8.4", is_active=True), Gates(control=control))


def test_an_unknown_manager_leaves_no_datastore_behind(cloud: TestCloud) -> None:
    add_image(cloud)
    connection = connected(cloud)
    body = {"name": "1", "datastore_name": "left", "datastore_manager": "nonesuch",
            "image_tags": ["trove"], "active": True}  # fmt: skip
    with pytest.raises(UnavailableError) as caught:
        Datastores(connection.database).create(body)
    assert caught.value.status == 500
    assert datastores(cloud) == {"left"}, "the trap is gone"
    # Ours knows the managers; where it does not, as one that a later release drops, it tidies up.
    with pytest.raises(UsageError, match="no manager nonesuch"):
        propose(connection, Wanted("right", "1", manager="nonesuch"), ANY)
    proposal = propose(connection, dataclasses.replace(MYSQL, datastore="right",
                                                       manager="mysql"), ANY)  # fmt: skip
    creates = {**(proposal.plan.creates or {}), "datastore_manager": "nonesuch"}
    spoiled = dataclasses.replace(proposal, plan=Plan(creates, None, proposal.plan.differences))
    with pytest.raises(UnavailableError) as caught:
        carry_out(connection, spoiled, delay=0.01)
    assert "the empty datastore right that Trove had made is removed" in caught.value.detail
    assert datastores(cloud) == {"left"}
    # An empty datastore that was there before is not ours to remove.
    found = dataclasses.replace(spoiled, is_new_datastore=False)
    with pytest.raises(UnavailableError):
        carry_out(connection, found, delay=0.01)
    assert datastores(cloud) == {"left", "right"}


def test_the_same_name_with_another_number(cloud: TestCloud) -> None:
    """Trove answers 400 "Multiple datastore versions found", and has made the version."""
    add_image(cloud)
    create(cloud, dataclasses.replace(MYSQL, number="8.4"))
    body = {"name": "8.4", "version": "8.4.1", "datastore_name": "mysql", "active": True,
            "datastore_manager": "mysql", "image_tags": ["trove"], "default": True}  # fmt: skip
    with pytest.raises(RefusedError, match="Multiple datastore versions found") as caught:
        Datastores(connected(cloud).database).create(body)
    assert caught.value.status == 400
    assert "mysql 8.4 (8.4.1)" in versions(cloud), "the trap is gone"
    # Ours does not fall into it, and says what the requests cannot do.
    argv = ["create", "mysql", "8.4", "--version-number", "8.4.3", "--active", "--default"]
    done = run(cloud, *argv, "--allow-different-name")
    assert done.code == 6
    made = versions(cloud)["mysql 8.4 (8.4.3)"]
    assert not made.is_default
    assert "note: Trove's requests cannot make mysql 8.4 (8.4.3) the default" in done.err
    assert f"trove-manage datastore_update mysql {made.id}" in done.err
    assert versions(cloud)["mysql 8.4"].is_default
    connection = connected(cloud)
    wanted = dataclasses.replace(MYSQL, number="8.4.3")
    told: list[str] = []
    via = TroveManage(trove_manage(cloud))
    carry_out(connection, propose(connection, wanted, ANY), via=via, tell=told.append)
    assert told == ["made mysql 8.4 (8.4.3) the default, by trove-manage"]
    assert versions(cloud)["mysql 8.4 (8.4.3)"].is_default
    assert not versions(cloud)["mysql 8.4"].is_default


def test_a_version_that_trove_makes_although_it_says_400(cloud: TestCloud) -> None:
    """Somebody else makes one of the same name between our look and our request."""
    add_image(cloud)
    direct = connected(cloud)
    wanted = dataclasses.replace(MYSQL, number="8.4")
    proposal = propose(connected(cloud, "admin-proxied"), wanted, ANY)

    def meanwhile(_request: object) -> None:
        create(cloud, dataclasses.replace(MYSQL, number="8.4.9"), Gates(allow_different_name=True))

    cloud.proxies.trove.add(Rule("POST", VERSIONS, Call(meanwhile)))
    with pytest.raises(PublishError, match="is there, but not as wanted") as caught:
        carry_out(connected(cloud, "admin-proxied"), proposal, delay=0.01)
    assert sent(cloud)[0].endswith("-> 400")
    assert caught.value.detail == "default is False, wanted is True"
    made = versions(cloud)["mysql 8.4"]
    # Run again, it is what it was: there, and not the default.
    with pytest.raises(PublishError, match="but not as wanted"):
        carry_out(direct, propose(direct, wanted, ANY))
    assert versions(cloud)["mysql 8.4"].id == made.id


def test_somebody_else_was_faster(cloud: TestCloud) -> None:
    add_image(cloud)
    proposal = propose(connected(cloud, "admin-proxied"), MYSQL, ANY)

    def meanwhile(_request: object) -> None:
        create(cloud, dataclasses.replace(MYSQL, is_active=False, is_default=False))

    cloud.proxies.trove.add(Rule("POST", VERSIONS, Call(meanwhile)))
    outcome = carry_out(connected(cloud, "admin-proxied"), proposal, delay=0.01)
    assert [r.rpartition(" ")[2] for r in sent(cloud)] == ["400", "202"]
    assert (outcome.version.is_active, outcome.version.is_default) == (True, True)
    assert len(versions(cloud)) == 1


@pytest.mark.parametrize("status", [500, 503])
def test_a_service_that_is_down_for_a_moment(cloud: TestCloud, status: int) -> None:
    add_image(cloud)
    cloud.proxies.trove.add(Rule("POST", VERSIONS, Answer(status), times=2))
    cloud.proxies.trove.add(Rule("GET", VERSIONS, Answer(status)))
    _, outcome = create(cloud, MYSQL, name="admin-proxied")
    assert outcome.is_created
    assert outcome.notes == []


def test_a_service_that_stays_down(cloud: TestCloud) -> None:
    add_image(cloud)
    rule = cloud.proxies.trove.add(Rule("POST", VERSIONS, Answer(503), times=None))
    with pytest.raises(UnavailableError):
        create(cloud, MYSQL, name="admin-proxied")
    assert rule.hits == 3
    assert datastores(cloud) == set()
    create(cloud, MYSQL)
    cloud.proxies.trove.add(Rule("PATCH", VERSIONS, Answer(503), times=None))
    done = run(cloud, "create", "mysql", "8.4", "--inactive", "--no-default",
               name="admin-proxied")  # fmt: skip
    assert done.code == 75
    assert versions(cloud)["mysql 8.4"].is_active
    create(cloud, Wanted("mysql", "8.4", is_active=False, is_default=False))
    assert not versions(cloud)["mysql 8.4"].is_active


@pytest.mark.parametrize("status", [None, 500, 504])
def test_an_answer_that_is_lost(cloud: TestCloud, status: int | None) -> None:
    add_image(cloud)
    cloud.proxies.trove.add(Rule("POST", VERSIONS, LoseAnswer(status)))
    _, outcome = create(cloud, MYSQL, name="admin-proxied")
    assert cloud.proxies.trove.count("POST", VERSIONS) == 1
    (note,) = outcome.notes
    assert note.startswith("Trove made mysql 8.4, although it answered ")
    assert outcome.version.is_default
    cloud.proxies.trove.add(Rule("PATCH", VERSIONS, LoseAnswer(status), times=None))
    _, outcome = create(cloud, Wanted("mysql", "8.4", is_default=False), name="admin-proxied")
    (note,) = outcome.notes
    assert note.startswith("Trove changed mysql 8.4, although it answered ")
    assert not versions(cloud)["mysql 8.4"].is_default


def test_a_token_that_expires(cloud: TestCloud) -> None:
    add_image(cloud)
    cloud.proxies.trove.add(Rule("POST", VERSIONS, Answer(401)))
    create(cloud, MYSQL, name="admin-proxied")
    assert len({r.token for r in cloud.proxies.trove.seen()}) == 2
    assert "mysql 8.4" in versions(cloud)


def test_who_is_no_administrator(cloud: TestCloud) -> None:
    done = run(cloud, "create", "mysql", "8.4", name="demo")
    assert done.code == 4
    assert done.err.startswith("error: Trove lets administrators alone do this\n")
    assert "role admin" in done.err
    with pytest.raises(NotAllowedError):
        propose(connected(cloud, "demo"), MYSQL, ANY)


@pytest.mark.parametrize("action", [Delay(20.0), LoseAnswer()])
def test_interrupted_and_run_again(cloud: TestCloud, action: Delay | LoseAnswer) -> None:
    add_image(cloud)
    rule = cloud.proxies.trove.add(Rule("POST", VERSIONS, action))
    # Nobody hears the version's list after the answer was lost, until it is interrupted.
    cloud.proxies.trove.add(Rule("GET", VERSIONS, Delay(20.0), nth=2))
    argv = ["create", "mysql", "8.4", "--active", "--default"]
    with start(cloud, *argv, name="admin-proxied") as process:
        wait_until(lambda: rule.hits or process.poll() is not None, 30)
        if isinstance(action, LoseAnswer):
            wait_until(lambda: versions(cloud), 30)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
    cloud.proxies.trove.reset()
    wait_until(lambda: all(r.finished for r in cloud.proxies.trove.requests))
    create(cloud, MYSQL)
    assert versions(cloud)["mysql 8.4"].is_default
    assert len(versions(cloud)) == 1


def test_errors_have_a_place(cloud: TestCloud) -> None:
    cloud.stop("trove")
    with pytest.raises(ImagebuildError) as caught:
        propose(connected(cloud), MYSQL, ANY)
    assert isinstance(caught.value, UnavailableError)
    assert caught.value.where == "cloud admin"
