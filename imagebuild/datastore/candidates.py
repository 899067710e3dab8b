"""Which image is meant, and whether it may be given to a datastore version."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from imagebuild.cloud.connection import Cloud
from imagebuild.cloud.images import Image, Images
from imagebuild.datastore.resolution import Candidate
from imagebuild.datastore.wanted import is_uuid
from imagebuild.datastore.world import RETIRED
from imagebuild.errors import PolicyError, PublishError
from imagebuild.manifest import open_artifact
from imagebuild.publish import properties

_BUILD_ID = re.compile(r"[0-9a-f]{64}")
#: Formats of which Nova makes a bootable disk.
_FORMATS = ("qcow2", "raw", "vmdk", "vhd", "vhdx", "vdi", "ploop")


def find(cloud: Cloud, text: str, images_dir: Path | None, like: Image | None = None) -> Candidate:
    """The image that is meant by Glance's id, a build id, an artifact (its directory, or name in
    `images_dir`) or a name.

    Of a build with images in several formats it is the one in the format of `like`. Raises
    PublishError when there is not just one, ConfigError for an artifact that is damaged.
    """
    images = Images(cloud.image)
    where = f"cloud {cloud.name}"
    if is_uuid(text):
        image = images.get(text)
        found = [image] if image else []
    elif build_id := _build_id(text, images_dir):
        found = list(images.find(imagebuild_build_id=build_id, owner=cloud.project_id))
    else:
        found = list(images.find(name=text)) or list(images.find(imagebuild_artifact=text))
    whole = [i for i in found if i.status in ("active", "deactivated")]
    if len(whole) > 1 and like and len({i.disk_format for i in whole}) > 1:
        whole = [i for i in whole if i.disk_format == like.disk_format] or whole
    if len(whole) == 1:
        return Candidate(whole[0], whole[0].owner != cloud.project_id)
    if whole:
        raise PublishError(
            f"{len(whole)} images may be meant by {text}", where=where, detail=_lines(whole),
            hint="give the id of the one",
        )  # fmt: skip
    if found:
        raise PublishError(
            f"the image {text} is {found[0].status}: it has no data yet", where=where,
            hint="imagebuild upload ends what was begun",
        )  # fmt: skip
    raise PublishError(f"there is no image {text}", where=where, hint="imagebuild upload")


def check(candidate: Candidate, *, force: bool = False, dev: bool = False) -> None:
    """Raise PolicyError for an image that instances should not get. `force` lets pass what
    somebody else may change or has deactivated, `dev` a dev image; what would not start is
    never let pass.
    """
    image = candidate.image
    where = candidate.label
    if properties.UPLOADING in image.properties:
        raise PolicyError(
            "nobody has said that the image's data are whole", where=where,
            hint="its upload is under way, or was cut off: run it again",
        )  # fmt: skip
    if not image.os_hash_value:
        raise PolicyError(
            "Glance has no hash of the image's data", where=where,
            hint="upload it again; Nova could not prove what it downloads",
        )  # fmt: skip
    if image.disk_format not in _FORMATS or image.document.get("container_format") != "bare":
        shape = f"{image.disk_format} in {image.document.get('container_format')}"
        raise PolicyError(f"Nova makes no disk of this image: {shape}", where=where)
    if image.properties.get(properties.DEV) == "true" and not dev:
        raise PolicyError(
            "it is a dev image", where=where,
            detail="its agent fetches code from one developer's host at every start",
            hint="--dev promotes it all the same",
        )  # fmt: skip
    if candidate.is_foreign and not force:
        raise PolicyError(
            "the image belongs to another project", where=where,
            detail="its owner may change or remove it",
            hint="upload one of your own; --force takes it as it is",
        )  # fmt: skip
    if image.status == "deactivated" and RETIRED not in image.properties and not force:
        raise PolicyError(
            "somebody has deactivated the image", where=where,
            hint="find out why; --force reactivates it",
        )  # fmt: skip


def _build_id(text: str, images_dir: Path | None) -> str | None:
    if _BUILD_ID.fullmatch(text):
        return text
    places = [Path(text), *([images_dir.expanduser() / text] if images_dir else [])]
    for place in places:
        if (place / "manifest.json").is_file():
            return open_artifact(place).build_id
    return None


def _lines(images: Sequence[Image]) -> str:
    return "\n".join(
        f"{i.id}  {i.created:%Y-%m-%d %H:%M} UTC  {i.disk_format}  {i.name}" for i in images
    )
