"""promote and rollback against the real Keystone, Glance and Trove."""

from __future__ import annotations

import pytest

from imagebuild.datastore import rotation
from imagebuild.datastore.rotation import Gates, carry_out
from imagebuild.datastore.skew import ControlSeries
from imagebuild.errors import PolicyError, PublishError
from imagebuild.publish import properties
from tests.services import state
from tests.services.cloud import TestCloud
from tests.services.rotating import BOTH, Site, Watch, build_id, connection


@pytest.fixture
def site(cloud: TestCloud) -> Site:
    return Site(cloud, connection(cloud, "admin"))


def promote(site: Site, image: str, name: str | None = "8.4", gates: Gates = Gates()) -> list[str]:  # noqa: B008
    said: list[str] = []
    proposal = rotation.propose_promotion(site.admin, "mysql", name, image, gates)
    carry_out(site.admin, proposal, said.append)
    return said


def roll_back(site: Site, name: str | None = "8.4", gates: Gates = Gates()) -> list[str]:  # noqa: B008
    said: list[str] = []
    proposal = rotation.propose_rollback(site.admin, "mysql", name, gates)
    carry_out(site.admin, proposal, said.append)
    return said


@pytest.mark.parametrize("by", ["tags", "id"])
def test_there_is_an_image_at_every_moment(site: Site, by: str) -> None:
    old = site.image("old")
    version = site.version() if by == "tags" else site.version(image=old)
    new = site.image("new", tags=())
    with Watch(site.cloud, version) as watch:
        promote(site, new)
    assert site.taken(version) == new
    assert None not in watch.seen
    assert [watch.seen[0], watch.seen[-1]] == [old, new]
    with Watch(site.cloud, version) as watch:
        roll_back(site)
    assert None not in watch.seen
    assert [watch.seen[0], watch.seen[-1]] == [new, old]
    assert len(watch.seen) > 3


def test_an_older_image_is_promoted_over_newer_ones(site: Site) -> None:
    oldest = site.image("oldest", tags=())
    middle, newest = site.image("middle"), site.image("newest")
    version = site.version()
    assert site.taken(version) == newest
    with Watch(site.cloud, version) as watch:
        promote(site, oldest)
    assert site.taken(version) == oldest
    assert set(watch.seen) == {newest, oldest}, "the one between them was never taken"
    for left in (middle, newest):
        assert not set(BOTH) <= site.get(left).tags
        assert properties.WITHDRAWN in site.get(left).properties
    roll_back(site)
    assert site.taken(version) == newest
    assert properties.WITHDRAWN not in site.get(newest).properties


def test_promoted_again_nothing_is_done(site: Site) -> None:
    site.image("old")
    version = site.version()
    new = site.image("new", tags=())
    assert promote(site, new)
    before = site.state()
    assert promote(site, new) == []
    assert site.state() == before
    assert site.taken(version) == new


def test_a_second_rollback_stays_and_says_how_to_go_further(site: Site) -> None:
    first = site.image("first")
    version = site.version(image=first)
    second, third = site.image("second"), site.image("third")
    promote(site, second)
    promote(site, third)
    roll_back(site)
    assert site.taken(version) == second
    assert roll_back(site) == []
    assert site.taken(version) == second
    proposal = rotation.propose_rollback(site.admin, "mysql", None, Gates())
    assert any(f"datastore promote {first} mysql 8.4" in note for note in proposal.notes)


def test_a_rollback_reactivates(site: Site) -> None:
    old = site.image("old")
    version = site.version()
    promote(site, site.image("new", tags=()))
    site.images.deactivate(old)
    with pytest.raises(PolicyError, match="deactivated"):
        roll_back(site)
    roll_back(site, gates=Gates(force=True))
    assert site.taken(version) == old
    assert site.get(old).status == "active"


def test_without_anything_before_there_is_no_rollback(site: Site) -> None:
    site.version(image=site.image("only"))
    with pytest.raises(PublishError, match=r"no image that mysql 8\.4 had before"):
        roll_back(site)


def test_other_versions_with_the_tags_are_named(site: Site) -> None:
    old = site.image("old", tags=("trove", "mysql", "mariadb"))
    site.version("8.4")
    other = site.version("8.0")
    maria = site.version("11.4", datastore_name="mariadb", datastore_manager="mariadb",
                         image_tags=["trove", "mariadb"])  # fmt: skip
    new = site.image("new", tags=())
    proposal = rotation.propose_promotion(site.admin, "mysql", "8.4", new, Gates())
    assert [e.version.label for e in proposal.effects] == ["mysql 8.4", "mysql 8.0"]
    carry_out(site.admin, proposal)
    assert site.taken(other) == new
    assert site.taken(maria) == old


def test_the_tag_of_others_stays_when_a_newer_image_is_withdrawn(site: Site) -> None:
    older = site.image("older")
    newer = site.image("newer", tags=("trove", "mysql", "mariadb"))
    version = site.version("8.4")
    maria = site.version("11.4", datastore_name="mariadb", datastore_manager="mariadb",
                         image_tags=["trove", "mariadb"])  # fmt: skip
    promote(site, older)
    assert site.taken(version) == older
    assert site.taken(maria) == newer
    assert site.get(newer).tags == {"trove", "mariadb"}


def test_somebody_elses_newer_image_is_said_and_left(site: Site) -> None:
    site.image("ours")
    version = site.version()
    mine = site.image("mine", tags=())
    theirs = site.image("theirs", by="other")
    assert site.taken(version) == theirs, "Trove takes whoever's is the newest"
    before = site.state()
    with pytest.raises(PolicyError, match="belongs to another project"):
        promote(site, mine)
    assert site.state() == before
    promote(site, mine, gates=Gates(force=True))
    assert site.taken(version) == mine


def test_images_that_may_not_be_promoted(site: Site) -> None:
    site.image("old")
    site.version()
    before_new = site.state()
    assert before_new
    dev = site.image("dev", tags=(), more={properties.DEV: "true"})
    with pytest.raises(PolicyError, match="dev image"):
        promote(site, dev)
    half = site.image("half", tags=(), more={properties.UPLOADING: "somebody"})
    with pytest.raises(PolicyError, match="whole"):
        promote(site, half)
    foreign = site.image("foreign", tags=(), by="demo")
    with pytest.raises(PolicyError, match="another project"):
        promote(site, foreign)
    skewed = site.image("skewed", tags=())
    control = ControlSeries.of_option("2025.2")
    with pytest.raises(PolicyError, match=r"agent is of 2026.1, the control plane of 2025.2"):
        promote(site, skewed, gates=Gates(control=control))
    off = site.image("off", tags=())
    site.images.deactivate(off)
    with pytest.raises(PolicyError, match="deactivated"):
        promote(site, off)
    empty = site.images.create({"name": "empty", "disk_format": "raw", "container_format": "bare"})
    with pytest.raises(PublishError, match="has no data yet"):
        promote(site, empty.id)
    with pytest.raises(PublishError, match="no image nonesuch"):
        promote(site, "nonesuch")


def test_on_the_command_line(site: Site) -> None:
    """By the artifact's build; a dry run changes nothing, and the steps are said in order."""
    old = site.image("old")
    version = site.version()
    shared = site.version("8.0")
    new = site.image("new", tags=())
    before = site.state()
    words = ("promote", build_id("new"), "mysql", "8.4", "--control-plane-series", "2026.1")
    dry = site.run(*words, "--dry-run", "--json")
    assert dry.code == 0, dry.err
    assert site.state() == before
    said = dry.json
    assert (said["dry_run"], said["changed"]) == (True, False)
    assert (said["before"]["id"], said["after"]["id"]) == (old, new)
    assert [e["version"]["name"] for e in said["effects"]] == ["8.4", "8.0"]
    assert len(said["steps"]) == 1
    assert "not mysql 8.4 alone is changed: mysql 8.0 too" in dry.err
    refused = site.run("promote", new, "mysql", "8.4", "--control-plane-series", "2025.2")
    assert refused.code == 7
    done = site.run(*words)
    assert (done.code, done.out) == (0, f"{new}\n")
    assert site.taken(version) == site.taken(shared) == new
    which = site.run("rollback", "mysql")
    assert which.code == 2
    assert "which version of mysql is meant?" in which.err
    back = site.run("rollback", "mysql", "8.4", "--json")
    assert back.json["after"]["id"] == old
    assert site.taken(version) == old


def test_images_of_one_second(site: Site) -> None:
    """Which of them Glance lists first is Glance's affair; what was promoted is taken."""
    images = [site.image(f"twin-{n}", tags=(), days=1) for n in range(4)]
    site.cloud.sql(f"UPDATE {state.GLANCE}.images SET created_at = '2026-01-02 03:04:05'")  # noqa: S608
    site.images.add_tag(images[0], "trove")
    site.images.add_tag(images[0], "mysql")
    version = site.version()
    for image in (*images, *reversed(images)):
        promote(site, image)
        assert site.taken(version) == image
