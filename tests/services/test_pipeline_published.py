"""Whether clouds have a build as a pipeline wants it, against the real Glance and Trove."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagebuild.config.pipeline import Pipeline
from imagebuild.datastore import rotation
from imagebuild.datastore.rotation import Gates, carry_out
from imagebuild.manifest import ArtifactView, open_artifact
from imagebuild.pipeline import commands
from imagebuild.pipeline.cells import ImageCell, Places, expand
from imagebuild.pipeline.published import Clouds
from imagebuild.pipeline.published import Published as Found
from imagebuild.plan import Plan
from imagebuild.publish import properties
from tests.services.cloud import TestCloud
from tests.services.publishing import Published, make
from tests.services.rotating import Site, connection

pytestmark = pytest.mark.services

VERSION = {"datastore": "mysql", "version": "8.4", "image_tags": ["trove", "mysql"]}


class Night:
    """One cell, its artifact, and a cloud that it is published in."""

    def __init__(self, cloud: TestCloud, directory: Path) -> None:
        self.published: Published = make(cloud, directory)
        self.site = Site(cloud, connection(cloud, "admin"))
        self.directory = directory
        manifest = self.published.manifest
        profile = {"formats": ["qcow2"]}
        self.plan = Plan(manifest["build_id"], manifest["name"], "", profile, (), {}, {}, ())
        self.places = Places(directory / "images", directory / "cache", directory)
        self.view = open_artifact(self.published.artifact)

    def cell(self, level: str = "boot", **publish: object) -> ImageCell:
        keys = {"cloud": "admin", "datastores": ["mysql"], **publish}
        (cell,) = expand(
            Pipeline.model_validate({
                "name": "x", "images": [{"profiles": "ubuntu-jammy"}], "publish": [keys],
                "verify": {"level": level},
            })
        )  # fmt: skip
        assert isinstance(cell, ImageCell)
        return cell

    def look(self, cell: ImageCell) -> Found:
        """With the artifact and without it: both find the same, but for what it alone says."""
        found = self._look(cell, self.view)
        without = self._look(cell, None)
        assert bool(without.missing) == bool(found.missing), (found, without)
        assert without.rolled_back == found.rolled_back
        return found

    def _look(self, cell: ImageCell, view: ArtifactView | None) -> Found:
        clouds = Clouds({"admin": self.site.admin})
        return clouds.look(cell, self.plan, view, self.places.cache)

    def upload(self, cell: ImageCell, *, candidate: bool | None = None) -> str:
        """As a run does it; the image's id."""
        argv = commands.upload(
            cell, cell.publish[0], self.places, str(self.published.artifact), candidate=candidate
        ).argv
        done = self.published.upload(*argv[2:])
        assert done.code == 0, done.err
        (image,) = self.published.images("admin")
        return image.id


@pytest.fixture
def night(cloud: TestCloud, tmp_path: Path) -> Night:
    return Night(cloud, tmp_path)


def test_an_image_is_there_when_upload_would_change_nothing(night: Night) -> None:
    cell = night.cell(visibility="shared", properties={"a": "b"})
    assert night.look(cell).missing == ["admin: the image is not there"]
    image = night.upload(cell)
    found = night.look(cell)
    assert found.missing == []
    assert found.images == [("admin", image)]
    for wanted in (
        night.cell(visibility="private", properties={"a": "b"}),
        night.cell(visibility="shared", properties={"a": "c"}),
        night.cell(visibility="shared", datastores=["mysql", "mariadb"]),
        night.cell(name="other"),
    ):
        assert "to be changed" in night.look(wanted).missing[0]
    (text,) = night.look(night.cell("agent")).missing
    assert text == "admin: the image is proven to boot only"
    images = night.site.images
    images.patch(image, [{"op": "add", "path": f"/{properties.UPLOADING}", "value": "x"}])
    assert "cut off" in night.look(cell).missing[0]
    images.patch(image, [{"op": "remove", "path": f"/{properties.UPLOADING}"}])
    images.deactivate(image)
    assert "somebody has withdrawn it" in night.look(cell).missing[0]


def test_every_version_has_the_image_or_was_taken_back_from_it(night: Night) -> None:
    site = night.site
    older = site.image("older")
    cell = night.cell(versions=[VERSION], retire={"keep": 0})
    image = night.upload(cell)
    assert night.look(cell).missing == ["admin: the datastore version mysql 8.4 is not there"]
    site.version()
    (text,) = night.look(cell).missing
    assert text.startswith("admin: mysql 8.4 has older (")
    assert night.look(night.cell(versions=[VERSION], promote=False)).missing == []
    # What a person is to do is nothing that the run would have to do every night.
    for by_hand in (VERSION | {"default": True}, VERSION | {"version": "9.7"}):
        assert night.look(night.cell(versions=[by_hand], promote=False)).missing == []
    differs = night.cell(versions=[VERSION | {"default": True}])
    assert "admin: mysql 8.4: to be changed: default" in night.look(differs).missing

    promote = rotation.propose_promotion(site.admin, "mysql", "8.4", image, Gates())
    carry_out(site.admin, promote)
    assert night.look(cell).missing == ["admin: 1 older image of mysql to be retired"]
    keeps = night.cell(versions=[VERSION], retire={"keep": 1})
    assert night.look(keeps).missing == []

    carry_out(site.admin, rotation.propose_rollback(site.admin, "mysql", "8.4", Gates()))
    found = night.look(keeps)
    assert found.missing == [], "what somebody has taken back is not to be promoted again"
    (text,) = found.rolled_back
    assert text.startswith("admin: mysql 8.4 was taken back from this build: it keeps older (")
    again = Gates(unless_taken_back=True)
    refused = rotation.propose_promotion(site.admin, "mysql", "8.4", image, again)
    assert (refused.steps, refused.after.id) == ((), older), "a run's promote says the same"
