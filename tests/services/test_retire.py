"""retire against the real Keystone, Glance and Trove; Nova is a stand-in."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest

from imagebuild.datastore import retirement, rotation
from imagebuild.datastore.retirement import Fate, Retirement, Rules
from imagebuild.datastore.rotation import Gates
from imagebuild.datastore.world import RETIRED
from imagebuild.errors import PublishError
from tests.services.cloud import TestCloud
from tests.services.rotating import Nova, Site, compute, connection


@pytest.fixture
def nova(cloud: TestCloud) -> Iterator[Nova]:
    with compute(cloud) as found:
        yield found


@pytest.fixture
def site(cloud: TestCloud) -> Site:
    return Site(cloud, connection(cloud, "admin"))


def fates(found: Retirement) -> dict[str, str]:
    return {v.image.image.name: v.fate.value for v in found.verdicts}


def why(found: Retirement, name: str) -> str:
    return next(v.why for v in found.verdicts if v.image.image.name == name)


def propose(site: Site, keep: int = 1, **rules: timedelta) -> Retirement:
    return retirement.propose(site.admin, "mysql", None, Rules(keep, **rules))


@pytest.mark.usefixtures("nova")
def test_older_images_are_deactivated_and_deleted_by_the_next_run(site: Site) -> None:
    names = ("oldest", "older", "old", "current")
    ids = {name: site.image(name) for name in names}
    version = site.version()
    first = propose(site)
    assert fates(first) == {
        "current": "keep", "old": "keep", "older": "deactivate", "oldest": "deactivate",
    }  # fmt: skip
    assert why(first, "current") == "current: mysql 8.4"
    assert site.get(ids["oldest"]).status == "active", "a proposal changes nothing"
    outcome = retirement.carry_out(site.admin, first)
    assert outcome.deactivated == [ids["older"], ids["oldest"]]
    assert site.get(ids["older"]).status == "deactivated"
    second = propose(site)
    assert fates(second)["older"] == "delete"
    assert retirement.carry_out(site.admin, second).deleted == [ids["older"], ids["oldest"]]
    assert {i.name for i in site.images.find()} == {"old", "current"}
    assert not site.cloud.image_file(ids["older"]).exists()
    assert retirement.carry_out(site.admin, propose(site)) == retirement.Outcome()
    assert site.taken(version) == ids["current"]


@pytest.mark.usefixtures("nova")
def test_grace_is_waited_for(site: Site) -> None:
    site.image("old")
    site.image("current")
    site.version()
    retirement.carry_out(site.admin, propose(site, 0))
    week = timedelta(days=7)
    assert fates(propose(site, 0, grace=week))["old"] == "wait"
    later = datetime.now(timezone.utc) + timedelta(days=8)
    found = retirement.propose(site.admin, "mysql", "8.4", Rules(0, week), later)
    assert fates(found)["old"] == "delete"


@pytest.mark.usefixtures("nova")
def test_a_retired_image_can_be_promoted_back(site: Site) -> None:
    old = site.image("old")
    site.image("current")
    version = site.version()
    retirement.carry_out(site.admin, propose(site, 0))
    assert site.get(old).status == "deactivated"
    proposal = rotation.propose_rollback(site.admin, "mysql", None, Gates())
    rotation.carry_out(site.admin, proposal)
    assert site.taken(version) == old
    assert RETIRED not in site.get(old).properties


def test_what_stays(nova: Nova, site: Site) -> None:
    """Each for its own reason, however old it is and however few are kept."""
    ids = {
        name: site.image(name)
        for name in ("used", "protected", "referred", "theirs-off", "plain", "current")
    }
    site.image("foreign", by="demo", days=300)
    site.images.patch(ids["protected"], [{"op": "replace", "path": "/protected", "value": True}])
    site.images.deactivate(ids["theirs-off"])
    site.image("candidate", tags=())
    site.version()
    site.version("5.7", image=ids["referred"], active=False)
    nova.put({"server-1": ids["used"]})
    try:
        found = propose(site, 0)
        assert fates(found) == {
            "candidate": "keep", "current": "keep", "plain": "deactivate", "theirs-off": "keep",
            "referred": "keep", "protected": "keep", "used": "keep",
        }  # fmt: skip
        assert why(found, "used") == "in use: 1 server"
        assert why(found, "protected") == "protected"
        assert why(found, "referred") == "current: mysql 5.7 (inactive)"
        assert why(found, "theirs-off") == "somebody has deactivated it"
        assert why(found, "candidate") == "newer than the current image of mysql 5.7, mysql 8.4"
        (note,) = found.notes
        assert "mysql 5.7 is inactive and nothing uses it, yet it holds referred" in note
        assert "openstack datastore version delete" in note
        retirement.carry_out(site.admin, found)
        assert [i.name for i in site.images.find(status="deactivated")].count("used") == 0
        assert site.get(ids["plain"]).status == "deactivated"
    finally:
        off = [{"op": "replace", "path": "/protected", "value": False}]
        site.images.patch(ids["protected"], off)


@pytest.mark.usefixtures("nova")
def test_an_inactive_version_that_backups_were_made_of(site: Site) -> None:
    image = site.image("old")
    version = site.version("5.7", image=image, active=False)
    site.cloud.add_backup(version)
    site.cloud.add_instance(version)
    (note,) = propose(site).notes
    assert note == "mysql 5.7 is inactive, but has 1 instance, 1 backup: its image stays"


@pytest.mark.usefixtures("nova")
def test_the_image_that_rollback_leads_to_is_kept_first(site: Site) -> None:
    first = site.image("first")
    site.image("second")
    site.image("third")
    site.version(image=first)
    fourth = site.image("fourth")
    proposal = rotation.propose_promotion(site.admin, "mysql", "8.4", fourth, Gates())
    rotation.carry_out(site.admin, proposal)
    found = propose(site, 1)
    assert fates(found) == {
        "fourth": "keep", "third": "deactivate", "second": "deactivate", "first": "keep",
    }  # fmt: skip
    assert why(found, "first") == "rollback of mysql 8.4 leads to it"


def test_without_compute_what_may_be_in_use_stays(site: Site) -> None:
    site.image("old")
    site.image("current")
    version = site.version()
    site.cloud.add_instance(version)
    found = propose(site, 0)
    assert fates(found)["old"] == "keep"
    assert why(found, "old").startswith("may be in use: the cloud has no compute to ask")


def test_what_changes_meanwhile_is_left(nova: Nova, site: Site) -> None:
    old = site.image("old")
    older = site.image("older", days=200)
    site.image("current")
    site.version()
    found = propose(site, 0)
    assert set(fates(found).values()) == {"keep", "deactivate"}
    nova.put({"server-1": older})
    site.images.add_tag(old, "precious")
    outcome = retirement.carry_out(site.admin, found)
    assert outcome.deactivated == []
    assert [text.rpartition(": ")[2] for text in outcome.left] == [
        "it has changed since", "a server was made of it",
    ]  # fmt: skip
    assert site.get(old).status == site.get(older).status == "active"


def test_a_version_that_is_not_there(site: Site) -> None:
    with pytest.raises(PublishError, match=r"no datastore version mysql 9\.9"):
        retirement.propose(site.admin, "mysql", "9.9", Rules())


@pytest.mark.usefixtures("nova")
def test_on_the_command_line(site: Site) -> None:
    old = site.image("old")
    current = site.image("current")
    site.version()
    dry = site.run("retire", "mysql", "--keep", "0", "--dry-run", "--json")
    assert dry.code == 0, dry.err
    assert dry.json["dry_run"] is True
    assert [(i["image"]["id"], i["fate"]) for i in dry.json["images"]] == [
        (current, Fate.KEEP.value), (old, Fate.DEACTIVATE.value),
    ]  # fmt: skip
    assert site.get(old).status == "active"
    done = site.run("retire", "mysql", "--keep", "0", "--json")
    assert done.json["deactivated"] == [old]
    assert "beyond the newest 0" in done.err
    assert site.run("retire", "mysql", "--keep", "0", "--grace", "7d").err.count("wait") == 1
