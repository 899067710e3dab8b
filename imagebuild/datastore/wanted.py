"""What a datastore version is wanted to be, and what leads there from what is.

Everything here is a pure function of the two. The rules that Trove checks or lets slip are
those of trove/common/apischema.py (mgmt_datastore_version) and
trove/extensions/mgmt/datastores/service.py.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from imagebuild.cloud.datastores import LONGEST_TAG, MOST_TAGS, DatastoreVersion
from imagebuild.datastore import managers
from imagebuild.errors import UsageError

_LONGEST_NAME = 255
_HAS_WORD = re.compile(r"[0-9a-zA-Z]")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


@dataclass(frozen=True)
class Wanted:
    """A version as it is wanted; None leaves an attribute as it is, or to its default.

    `number` is what the guest pulls, `name` what users see. The image is one by id, or the
    newest with all of `image_tags`.
    """

    datastore: str
    name: str
    number: str | None = None
    manager: str | None = None
    image: str | None = None
    image_tags: tuple[str, ...] | None = None
    is_active: bool | None = None
    is_default: bool | None = None
    packages: tuple[str, ...] | None = None
    registry_ext: str | None = None
    repl_strategy: str | None = None

    @property
    def label(self) -> str:
        """For people, as a version's own."""
        suffix = f" ({self.number})" if self.number not in (None, self.name) else ""
        return f"{self.datastore} {self.name}{suffix}"

    def check(self) -> None:
        """Raise UsageError for what Trove's schema refuses, before anything is sent."""
        for what, text in (
            ("datastore", self.datastore), ("version", self.name),
            ("--version-number", self.number), ("--manager", self.manager),
            ("--registry-ext", self.registry_ext), ("--repl-strategy", self.repl_strategy),
            *(("--packages", p) for p in self.packages or ()),
        ):  # fmt: skip
            if text is not None and not is_word(text, _LONGEST_NAME):
                raise UsageError(
                    f"{what}: {text!r} is not a name that Trove takes",
                    detail=f"1 to {_LONGEST_NAME} characters, a letter or digit among them",
                )
        if self.image is not None and self.image_tags is not None:
            raise UsageError("a version has an image or image tags; choose one")
        if self.image_tags is not None:
            _check_tags(self.image_tags)
        if self.is_default and self.is_active is False:
            raise UsageError("a version that is not active cannot be the default")


def is_uuid(text: str) -> bool:
    """Whether it is an id as OpenStack's services give them."""
    return _UUID.fullmatch(text) is not None


def is_word(text: str, longest: int) -> bool:
    """Whether Trove's schema takes it as a name of at most `longest` characters."""
    return len(text) <= longest and _HAS_WORD.search(text) is not None


def _check_tags(tags: Sequence[str]) -> None:
    if not tags:
        raise UsageError("--image-tags names no tag")
    if len(tags) > MOST_TAGS:
        raise UsageError(
            f"--image-tags has {len(tags)} tags; Trove takes {MOST_TAGS} at most",
            detail=", ".join(tags),
        )
    if len(set(tags)) < len(tags):
        raise UsageError("--image-tags names a tag twice", detail=", ".join(tags))
    for tag in tags:
        if not is_word(tag, LONGEST_TAG):
            raise UsageError(
                f"--image-tags: Trove does not take the tag {tag!r} ({len(tag)} characters)",
                detail=f"1 to {LONGEST_TAG} characters, a letter or digit among them",
            )


def find(versions: Sequence[DatastoreVersion], wanted: Wanted) -> DatastoreVersion | None:
    """The version that is meant; None when it is new.

    Without a number it is the one of that name, whatever its number. Raises UsageError when
    that leaves several, and when a name differs in the case of letters only: Trove's database
    would take it for the same.
    """
    same = [v for v in versions if v.datastore.lower() == wanted.datastore.lower()]
    if same and same[0].datastore != wanted.datastore:
        raise UsageError(
            f"there is a datastore {same[0].datastore}, and Trove does not tell it from "
            f"{wanted.datastore}",
            hint=f"name it {same[0].datastore}",
        )
    named = [v for v in same if v.name == wanted.name]
    if wanted.number is not None:
        return next((v for v in named if v.number == wanted.number), None)
    if len(named) > 1:
        named = [v for v in named if v.number == wanted.name] or named
    if len(named) > 1:
        raise UsageError(
            f"{wanted.datastore} has several versions {wanted.name}",
            detail="their numbers: " + ", ".join(sorted(v.number for v in named)),
            hint="--version-number says which is meant",
        )
    return named[0] if named else None


def complete(
    wanted: Wanted, found: DatastoreVersion | None, versions: Sequence[DatastoreVersion]
) -> Wanted:
    """With defaults for what nobody said: of a version that is there, nothing changes; a new
    one has its name as number, its datastore's manager, the tags "trove" and its datastore,
    and is inactive.

    Raises UsageError when there is no such default, and for a manager that Trove lacks.
    """
    manager = wanted.manager or (found.manager if found else _usual_manager(wanted, versions))
    if not found or manager != found.manager:
        managers.check(manager, wanted.registry_ext, wanted.repl_strategy)
    if found:
        number = found.number
        if manager != found.manager and (known := managers.MANAGERS.get(manager)):
            # Trove would keep the other manager's class and replication (edit() in its
            # service), and has no request that brings the defaults back.
            wanted = dataclasses.replace(
                wanted,
                registry_ext=wanted.registry_ext or known.registry_ext,
                repl_strategy=wanted.repl_strategy or known.repl_strategy,
            )
        done = dataclasses.replace(wanted, number=number, manager=manager)
        is_active = found.is_active if done.is_active is None else done.is_active
    else:
        no_image = wanted.image is None and wanted.image_tags is None
        done = dataclasses.replace(
            wanted,
            number=wanted.number or wanted.name,
            manager=manager,
            image_tags=("trove", wanted.datastore) if no_image else wanted.image_tags,
            is_active=bool(wanted.is_active),
            is_default=bool(wanted.is_default),
            packages=wanted.packages or (),
        )
        is_active = bool(done.is_active)
    if done.is_default and not is_active:
        raise UsageError(
            f"{done.label} is not active, so it cannot be the default", hint="add --active"
        )
    done.check()
    return done


def _usual_manager(wanted: Wanted, versions: Sequence[DatastoreVersion]) -> str:
    used = {v.manager for v in versions if v.datastore == wanted.datastore}
    if len(used) == 1:
        return used.pop()
    if wanted.datastore in managers.MANAGERS and not used:
        return wanted.datastore
    detail = f"versions of {wanted.datastore} have: {', '.join(sorted(used))}" if used else ""
    raise UsageError(
        f"which manager is {wanted.label} to have?",
        detail=detail,
        hint=f"--manager NAME, one of {', '.join(sorted(managers.MANAGERS))}",
    )


@dataclass(frozen=True)
class Difference:
    """An attribute that will change; `before` is None for a version that is new."""

    attribute: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Plan:
    """What leads from what is to what is wanted.

    `creates` is the body of the request that makes the version, `changes` of the one that
    changes it; at most one is there. `default_left`: it is to be the default, and the
    requests cannot say so, because another version has its name and Trove looks for the
    default by name.
    """

    creates: Mapping[str, Any] | None
    changes: Mapping[str, Any] | None
    differences: tuple[Difference, ...]
    default_left: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether everything is as wanted."""
        return not self.differences


def plan(
    wanted: Wanted, found: DatastoreVersion | None, versions: Sequence[DatastoreVersion]
) -> Plan:
    """The way from `found` to `wanted`, which must be complete; `versions` are all there are."""
    namesakes = [
        v
        for v in versions
        if (v.datastore, v.name) == (wanted.datastore, wanted.name) and v.number != wanted.number
    ]
    if found is None:
        return _creation(wanted, is_unique=not namesakes)
    changes: dict[str, Any] = {}
    differences: list[Difference] = []

    def differ(attribute: str, before: object, after: object, **body: object) -> None:
        if after is not None and after != before:
            differences.append(Difference(attribute, before, after))
            changes.update(body)

    if wanted.image is not None:
        # An image leaves the tags where they are, unless they are taken away.
        differ("image", found.image, wanted.image, image=wanted.image)
        differ("image_tags", found.image_tags, (), image=wanted.image, image_tags=[])
    elif wanted.image_tags is not None:
        # Tags alone take the image away, also where they are those it has.
        tags = list(wanted.image_tags)
        if set(found.image_tags) != set(wanted.image_tags):
            differ("image_tags", found.image_tags, wanted.image_tags, image_tags=tags)
        differ("image", found.image, "", image_tags=tags)
    differ("active", found.is_active, wanted.is_active, active=wanted.is_active)
    differ("manager", found.manager, wanted.manager, datastore_manager=wanted.manager)
    for attribute in ("registry_ext", "repl_strategy"):
        after = getattr(wanted, attribute)
        differ(attribute, getattr(found, attribute), after, **{attribute: after})
    packages = None if wanted.packages is None else list(wanted.packages)
    differ("packages", found.packages, wanted.packages, packages=packages)
    left = bool(namesakes) and wanted.is_default is True and not found.is_default
    body = {} if left else {"default": wanted.is_default}
    differ("default", found.is_default, wanted.is_default, **body)
    return Plan(None, changes or None, tuple(differences), left)


def _creation(wanted: Wanted, *, is_unique: bool) -> Plan:
    body: dict[str, Any] = {
        "datastore_name": wanted.datastore,
        "name": wanted.name,
        "version": wanted.number,
        "datastore_manager": wanted.manager,
    }
    if wanted.image is not None:
        body["image"] = wanted.image
    else:
        body["image_tags"] = list(wanted.image_tags or ())
    body["active"] = bool(wanted.is_active)
    body["default"] = bool(wanted.is_default) and is_unique
    body["packages"] = list(wanted.packages or ())
    for attribute in ("registry_ext", "repl_strategy"):
        if (value := getattr(wanted, attribute)) is not None:
            body[attribute] = value
    shown = {
        "number": wanted.number,
        "manager": wanted.manager,
        "image": wanted.image,
        "image_tags": wanted.image_tags,
        "active": bool(wanted.is_active),
        "default": bool(wanted.is_default),
        "packages": wanted.packages or None,
        "registry_ext": wanted.registry_ext,
        "repl_strategy": wanted.repl_strategy,
    }
    differences = tuple(Difference(k, None, v) for k, v in shown.items() if v is not None)
    return Plan(body, None, differences, bool(wanted.is_default) and not is_unique)
