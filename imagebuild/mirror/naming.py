"""How a Trove guest names its containers: images and tags, as the agent makes them.

Places, in Trove 23.1.0 … 26.0.0 (2025.1 … 2026.2), which a test runs beside this module:

- trove/common/cfg.py: `docker_image` and `backup_docker_image` of the groups mysql, mariadb and
  postgresql, and no other group that has code;
- trove/guestagent/datastore/{mysql_common,postgres}/service.py, `start_db`: the database's image;
- trove/guestagent/datastore/service.py and mysql/service.py, `get_backup_image`: the image that
  makes backups. Before 2026.2 it is one name; from 2026.2 on the guest asks the registry, and
  drops the tag's last part until something is there;
- trove/instance/models.py (`Instance.create`) hands out the version's number; of a rebuild,
  trove/taskmanager/models.py (`RebuildAction`) starts the database by the number, yet writes the
  name into guest_info.conf, by which all goes from then on. It writes the datastore's name
  where the manager's belongs, too.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

from imagebuild.agent.series import SERIES, get_series
from imagebuild.errors import ConfigError
from imagebuild.registry.reference import Reference

#: Trove's datastore managers that have containers; each is the name of its group, too.
DATASTORES = ("mysql", "mariadb", "postgresql")
#: `docker_image` where nothing is configured: images of Docker Hub.
DEFAULT_IMAGES = {"mysql": "mysql", "mariadb": "mariadb", "postgresql": "postgres"}
#: What people write who follow the admin guide; Trove has no such groups.
WRONG_DATASTORES = {"postgres": "postgresql", "pgsql": "postgresql", "maria": "mariadb"}

NEWEST = SERIES[-1].name
#: Majors of Trove from which the guest says what is missing, and from which it falls back.
_SAYS_SO, _FALLS_BACK = 24, 26
#: The beginning of semantic_version's Version.coerce, by which a MySQL guest reads a version.
_MAJOR_MINOR = re.compile(r"(\d+)(?:\.(\d+))?")


class End(enum.Enum):
    """What a guest does when none of the images is in the registry."""

    PULLS = "it pulls the image without asking before, and that fails"
    GIVES_UP = "it gives up: No backup image found with expected tags"
    CRASHES = "it crashes: for MySQL, get_backup_image takes no version to fall back to"
    LOOPS = "it asks for the same image again and again, until Python stops it"
    UNDEFINED = "it gives up: Backup image was not defined"
    BREAKS = "it crashes: get_backup_image finds no backup_docker_image"
    NO_VERSION = "it crashes: the version does not begin with a number"


@dataclass(frozen=True)
class Chain:
    """Images that a guest asks for one after the other, and how it ends when none is there."""

    images: tuple[str, ...]
    end: End

    @property
    def asks(self) -> bool:
        """Whether the guest asks the registry before it pulls."""
        return self.end in (End.GIVES_UP, End.CRASHES, End.LOOPS)


def has_tag(image: str) -> bool:
    """Whether Trove sees a tag in a name (`_image_has_tag`): a colon behind the last slash."""
    return image.split("/")[-1].find(":") > 0


def database_image(docker_image: str, version: str | None) -> str:
    """What a guest pulls for the database: there is no fallback."""
    return f"{docker_image}:{version or 'latest'}"


def backup_chain(
    manager: str, backup_docker_image: str | None, version: str | None, series: str = NEWEST
) -> Chain:
    """What a guest runs to make and to restore backups.

    `version` is what guest_info.conf has. Raises ConfigError for an unknown series.
    """
    major = get_series(series).major
    if backup_docker_image is None and (manager == "mysql" or major < _SAYS_SO):
        return Chain((), End.BREAKS)
    image = backup_docker_image or ""
    if not image and major >= _SAYS_SO:
        return Chain((), End.UNDEFINED)
    tagged = has_tag(image)
    if tagged and manager == "mysql":
        return _legacy_mysql(image, version)
    first = image if tagged else f"{image}:{version or 'latest'}"
    if major < _FALLS_BACK:
        return Chain((first,), End.PULLS)
    parts = first.split(":")[-1].split(".")
    if len(parts) == 1:
        return Chain((first,), End.GIVES_UP)
    if tagged:
        return Chain((first,), End.LOOPS)
    if manager == "mysql":
        return Chain((first,), End.CRASHES)
    shorter = (".".join(parts[:count]) for count in range(len(parts) - 1, 0, -1))
    return Chain((first, *(f"{image}:{tag or 'latest'}" for tag in shorter)), End.GIVES_UP)


def _legacy_mysql(image: str, version: str | None) -> Chain:
    """REPOSITORY:TAG becomes REPOSITORY8.4:TAG, "for backward compatibility"."""
    found = _MAJOR_MINOR.match(version or "")
    if not found:
        return Chain((), End.NO_VERSION)
    name, tag = image.rsplit(":", 1)
    return Chain((f"{name}{int(found[1])}.{int(found[2] or 0)}:{tag}",), End.PULLS)


def image_problem(image: str, *, tag_allowed: bool = False) -> str:
    """Why a name cannot be `docker_image`, "" when it can: Trove appends `:VERSION` to it.

    With `tag_allowed`, why it cannot be `backup_docker_image`: a tag stays there.
    """
    if not image:
        return "it is empty"
    if image != image.strip() or any(c.isspace() for c in image):
        return "it has a blank in it"
    if "://" in image:
        return "an image's name has no scheme: leave out what is before '://', and that, too"
    if "@" in image:
        return "it has a digest, and Trove appends :VERSION to it: that is no image's name"
    if re.fullmatch(r"[^/]+:[0-9]+/?", image):
        return "it is a registry alone (or has a tag): the repository is missing"
    if has_tag(image) and not tag_allowed:
        return "it has a tag, and Trove appends :VERSION to it: that is no image's name"
    try:
        Reference.parse(image)
    except ConfigError as exc:
        return exc.detail
    return ""


def suggestion(image: str) -> str:
    """What a name that cannot be used was perhaps meant to be, or ""."""
    bare = without_tag(image)
    is_host = re.fullmatch(r"[^/]+:[0-9]+/?", image)
    return "" if is_host or bare == image or image_problem(bare) else bare


def without_tag(image: str) -> str:
    """The name as Trove wants it: without scheme, digest and tag."""
    name = image.strip().rpartition("://")[2].partition("@")[0]
    return name.rsplit(":", 1)[0] if has_tag(name) else name


def registry_of(image: str) -> str:
    """The HOST[:PORT] that docker asks for an image. Raises ConfigError for no name."""
    return Reference.parse(image).registry
