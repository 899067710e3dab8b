"""promote, rollback and retire that are cut off anywhere, and simply run again."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from imagebuild.cloud.connection import Cloud
from imagebuild.cloud.service import Service
from imagebuild.datastore import retirement, rotation
from imagebuild.datastore.retirement import Rules
from imagebuild.datastore.rotation import Gates
from tests.services.cloud import TestCloud
from tests.services.proxy import CutRequest, LoseAnswer, Rule
from tests.services.rotating import Site, compute, connection


class KilledError(BaseException):
    """As SIGKILL: nothing of ours runs after it."""


class Counted(Service):
    """A service that kills us right after the request that counts down to nothing was done.

    Only requests that change something count: being killed after one that does not is being
    killed before the next that does.
    """

    left: list[int]

    def request(self, method: str, path: str, **options: Any) -> Any:  # noqa: ANN401
        answer = super().request(method, path, **options)
        if method != "GET":
            self.left[0] -= 1
            if self.left[0] == 0:
                raise KilledError(f"{method} {path}")
        return answer


def killed_after(cloud: TestCloud, count: int) -> tuple[Cloud, list[int]]:
    """A connection that dies after so many changes; the list has how many are left."""
    made, left = connection(cloud, "admin"), [count]
    for name in ("image", "database"):
        service = getattr(made, name)
        counted = Counted(service.cloud, service.name, service._adapter)
        counted.left = left
        made.__dict__[name] = counted
    return made, left


def by_tags(site: Site) -> str:
    """A candidate that is older than two images with the version's tags."""
    site.image("candidate", tags=("trove",))
    site.image("middle")
    site.image("current")
    return site.version()


def by_id(site: Site) -> str:
    current = site.image("current")
    site.image("candidate", tags=())
    return site.version(image=current)


def by_id_retired(site: Site) -> str:
    """The candidate was retired: it is to be reactivated, too."""
    version = by_id(site)
    (candidate,) = site.images.find(name="candidate")
    site.images.patch(
        candidate.id, [{"op": "add", "path": "/imagebuild_retired", "value": "2026-01-01T00:00:00"}]
    )
    site.images.deactivate(candidate.id)
    return version


def promote(cloud: Cloud) -> None:
    proposal = rotation.propose_promotion(cloud, "mysql", "8.4", "candidate", Gates())
    rotation.carry_out(cloud, proposal)


def roll_back(cloud: Cloud) -> None:
    rotation.carry_out(cloud, rotation.propose_rollback(cloud, "mysql", "8.4", Gates()))


def promoted(setup: Callable[[Site], str]) -> Callable[[Site], str]:
    """The same, with the candidate promoted."""

    def made(site: Site) -> str:
        version = setup(site)
        promote(site.admin)
        return version

    return made


def retire(cloud: Cloud) -> None:
    retirement.carry_out(cloud, retirement.propose(cloud, "mysql", None, Rules(keep=1)))


def with_many(site: Site) -> str:
    for name in ("oldest", "older", "old", "current"):
        site.image(name)
    return site.version()


def named(site: Site) -> str:
    """The state, with names for ids."""
    text = json.dumps(site.state(), sort_keys=True)
    for image in [i for h in ("false", "true") for i in site.images.find(os_hidden=h)]:
        text = text.replace(image.id, image.name)
    for version in site.datastores.versions():
        text = text.replace(version.id, version.name)
    images, versions = json.loads(text)
    return json.dumps([sorted(images.items()), versions], indent=1, sort_keys=True)


@pytest.mark.parametrize(
    ("setup", "command", "changes"),
    [
        (by_tags, promote, 3),
        (by_id, promote, 2),
        (by_id_retired, promote, 4),
        (promoted(by_tags), roll_back, 1),
        (promoted(by_id), roll_back, 2),
    ],
    ids=["promote-tags", "promote-id", "promote-retired", "rollback-tags", "rollback-id"],
)
def test_killed_after_each_change_and_run_again(
    cloud: TestCloud, setup: Callable[[Site], str], command: Callable[[Cloud], None], changes: int
) -> None:
    ends = []
    # The last time the limit is never reached: that run is the undisturbed one.
    for count in range(1, changes + 2):
        site = Site(cloud, connection(cloud, "admin"))
        version = setup(site)
        dying, left = killed_after(cloud, count)
        try:
            command(dying)
        except KilledError:
            assert site.taken(version), "no instance could be made"
            command(site.admin)
        else:
            assert left == [1], "there are more changes than are tested"
        ends.append(named(site))
        cloud.reset()
    assert len({*ends}) == 1, "\n".join(ends)


def test_retire_killed_after_each_change_and_run_again(cloud: TestCloud) -> None:
    """Two images go: marked and deactivated each, then deleted by the next run."""
    with compute(cloud):
        ends = []
        for count in range(1, 4 + 2):
            site = Site(cloud, connection(cloud, "admin"))
            version = with_many(site)
            dying, left = killed_after(cloud, count)
            try:
                retire(dying)
            except KilledError:
                assert site.taken(version)
                names = {i.name for i in site.images.find()}
                assert names >= {"current", "old"}
            else:
                assert left == [1]
            # One that was deactivated by the first run is deleted by the second already.
            retire(site.admin)
            retire(site.admin)
            ends.append(named(site))
            cloud.reset()
        assert len({*ends}) == 1, "\n".join(ends)
        assert '"old"' in ends[0]
        assert '"older"' not in ends[0]


@pytest.mark.parametrize("service", ["glance", "trove"])
def test_an_answer_that_is_lost_is_asked_for_again(cloud: TestCloud, service: str) -> None:
    """The request is done, and nobody hears of it: sent again, it does no more."""
    site = Site(cloud, connection(cloud, "admin"))
    version = by_id(site)
    proxy = getattr(cloud.proxies, service)
    rule = proxy.add(Rule("PATCH", "", LoseAnswer()))
    done = site.run("promote", "candidate", "mysql", "8.4", through="admin-proxied")
    assert done.code == 0, done.err
    assert rule.hits == 1
    assert site.taken(version) == done.out.strip()
    assert site.get(done.out.strip()).name == "candidate"


def test_a_service_that_goes_away_ends_it_with_75(cloud: TestCloud) -> None:
    site = Site(cloud, connection(cloud, "admin"))
    version = by_id(site)
    before = site.taken(version)
    rule = cloud.proxies.trove.add(Rule("PATCH", "", CutRequest(), times=None))
    done = site.run("promote", "candidate", "mysql", "8.4", through="admin-proxied")
    assert done.code == 75
    assert "run the same command again later" in done.err
    assert rule.hits > 1, "it was not tried again"
    assert site.taken(version) == before
    cloud.proxies.trove.reset()
    done = site.run("promote", "candidate", "mysql", "8.4", through="admin-proxied")
    assert done.code == 0
    assert site.taken(version) == done.out.strip()
