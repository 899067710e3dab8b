"""What a pipeline's file asks of the verbs, looked at by the verbs' own code before midnight.

    values of verify, publish, versions ─▶ verify.choice, publish.describe, datastore.wanted
    rows ─▶ their profiles             mirrors ─▶ their lists

Each function yields mistakes: (key, sentence, what to try). Nothing is asked of any service.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from imagebuild.agent.series import get_series, series_for_python
from imagebuild.config.pipeline import (
    LEVELS,
    Gates,
    Publish,
    Verify,
    VersionToPromote,
    Visibility,
)
from imagebuild.config.problems import nearest_hint
from imagebuild.config.profile import Profile
from imagebuild.config.values import shown
from imagebuild.config.words import Series
from imagebuild.config.yamlmarks import Loc
from imagebuild.datastore import managers
from imagebuild.datastore.wanted import Wanted
from imagebuild.errors import ConfigError, ImagebuildError, Interrupted
from imagebuild.publish.describe import Choice, check_choice
from imagebuild.publish.gate import OPEN
from imagebuild.verify import choice
from imagebuild.verify.dialect import DIALECTS
from imagebuild.verify.instance import SECONDS
from imagebuild.verify.results import Level
from imagebuild.verify.watch import MILESTONES


@dataclass(frozen=True)
class Mistake:
    """A mistake at a key of the file, below whatever mapping was looked at."""

    loc: Loc
    text: str
    hint: str = ""


def below(loc: Loc, mistakes: Iterator[Mistake]) -> Iterator[Mistake]:
    """The same mistakes, seen from above `loc`."""
    return (Mistake((*loc, *m.loc), m.text, m.hint) for m in mistakes)


def check_verify(value: Verify) -> Iterator[Mistake]:
    """What `verify` would refuse, whatever the image is."""
    for number, text in enumerate(value.databases):
        near = nearest_hint(text.partition(":")[0], DIALECTS)
        yield from _asked(("databases", number), partial(choice.of_spec, text), near)
    for number, text in enumerate(value.registries):
        ask = partial(choice.registries, [text], insecure=False)
        yield from _asked(("registries", number), ask)
    for number, text in enumerate(value.timeouts):
        near = nearest_hint(text.partition("=")[0], (*MILESTONES, *SECONDS))
        yield from _asked(("timeouts", number), partial(choice.limits, [text]), near)


def check_content(value: Verify, profile: Profile) -> Iterator[Mistake]:
    """What `verify` would refuse of images of this profile."""
    try:
        for text in value.databases:
            choice.of_spec(text)
    except ImagebuildError:
        return  # told by `check_verify`
    content: Mapping[str, Any] = {"containers": [{"target": p.target} for p in profile.preload]}
    if value.level.value not in ("agent", "database"):
        return
    level = Level.of(value.level.value)
    key = "backup_images" if value.backup_images else "level"
    yield from _asked(
        (key,),
        lambda: choice.databases(
            profile.name, content, level, specs=value.databases, backups=value.backup_images
        ),
    )


def check_gates(gates: Gates, verify: Verify) -> Iterator[Mistake]:
    """A level that is never reached lets nothing pass."""
    if gates.verified and LEVELS.index(gates.verified) > LEVELS.index(verify.level):
        yield Mistake(
            ("verified",),
            f"{gates.verified} is never proven: verify goes as far as {verify.level}",
            f"verify: {{level: {gates.verified}}}",
        )


def check_publish(value: Publish) -> Iterator[Mistake]:
    """What `upload` and `datastore create` would refuse, whatever the image is."""
    asked = Choice(
        name=value.name,
        tags=value.tags,
        datastores=value.datastores,
        properties={k: v or None for k, v in value.properties.items()},
    )
    yield from _asked((), lambda: check_choice(asked))
    for number, version in enumerate(value.versions):
        loc: Loc = ("versions", number)
        yield from _asked(loc, wanted(version).check)
        for place, tag in enumerate(version.image_tags):
            if "," in tag:
                yield Mistake(
                    (*loc, "image_tags", place), f"{shown(tag)}: Trove separates tags by commas"
                )
        if name := version.manager:
            near = nearest_hint(name, managers.MANAGERS)
            yield from _asked((*loc, "manager"), partial(managers.check, name, None, None), near)


def check_clouds(found: Sequence[Publish]) -> Iterator[Mistake]:
    """Each cloud once: two entries would undo each other's work."""
    for number, one in enumerate(found):
        if one.cloud in [other.cloud for other in found[:number]]:
            what = f"the cloud {one.cloud}" if one.cloud else "the cloud of the OS_* variables"
            yield Mistake((number, *(["cloud"] if one.cloud else [])), f"{what} is listed twice")


def wanted(version: VersionToPromote, image: str | None = None) -> Wanted:
    """What `datastore create` is asked for; `image` where the version goes by id."""
    return Wanted(
        datastore=version.datastore,
        name=version.version,
        number=version.number,
        manager=version.manager,
        image=None if version.image_tags else image,
        image_tags=version.image_tags or None,
        is_default=version.default,
    )


def check_series(profile: Profile, series: Series | None) -> Iterator[Mistake]:
    """A series that the guest's Python does not run has no lock file."""
    chosen = series or profile.agent.series
    if chosen and profile.python not in get_series(str(chosen)).pythons:
        known = ", ".join(s.name for s in series_for_python(profile.python))
        yield Mistake((), f"Trove {chosen} does not run on Python {profile.python} of "
                      f"{profile.name}", f"it runs: {known}")  # fmt: skip


def check_cell(publish: Publish, profile: Profile, series: Series | None) -> Iterator[Mistake]:
    """What would be refused of images of this profile every night."""
    formats = [str(f) for f in profile.formats]
    if publish.format and not publish.convert and str(publish.format) not in formats:
        yield Mistake(
            ("format",),
            f"the profile {profile.name} makes no {publish.format}: {', '.join(formats)}",
            f"set: {{formats: [{', '.join([*formats, str(publish.format)])}]}}",
        )
    if publish.convert and not {"qcow2", "raw"} & set(formats):
        yield Mistake(("convert",), f"the profile {profile.name} makes no qcow2 and no raw image")
    control = publish.control_plane_series
    if control and series and control != series:
        yield Mistake(
            ("control_plane_series",),
            f"images of {profile.name} are of {series}, the cloud of {control}: nothing of them "
            "is let in",
            f"series: {control}",
        )
    if not profile.is_dev:
        return
    if str(publish.visibility) in OPEN:
        yield Mistake(
            ("visibility",), f"{profile.name} makes dev images, which are never "
            f"{publish.visibility}", f"visibility: {Visibility.PRIVATE}",
        )  # fmt: skip
    if publish.versions and publish.promote:
        yield Mistake(
            ("versions",),
            f"{profile.name} makes dev images, which are not promoted by a pipeline",
            "promote: false",
        )


class Takers:
    """Who gives images to which datastore versions: two cells would do so in turn every night."""

    def __init__(self) -> None:
        self._seen: dict[str | None, list[tuple[VersionToPromote, str]]] = {}

    def check(self, publish: Publish, cell_id: str) -> Iterator[Mistake]:
        """Look at what one cell promotes in one cloud."""
        seen = self._seen.setdefault(publish.cloud, [])
        if not publish.promote:
            return
        for number, version in enumerate(publish.versions):
            for other, taker in seen:
                if taker == cell_id or not (text := _clash(version, other)):
                    continue
                yield Mistake(
                    ("versions", number),
                    f"{taker} and {cell_id} would both give {text} every night, in turn",
                    "give the rows a publish of their own each, or promote: false",
                )
                break
        seen += [(version, cell_id) for version in publish.versions]


def _clash(one: VersionToPromote, other: VersionToPromote) -> str:
    """What two cells would both give their image to; "" when nothing."""
    keys = [(v.datastore.lower(), v.version.lower(), v.number or v.version) for v in (one, other)]
    if keys[0] == keys[1]:
        return f"their image to {one.label}"
    tags = [set(v.image_tags) for v in (one, other)]
    if all(tags) and (tags[0] <= tags[1] or tags[1] <= tags[0]):
        return f"the tags {', '.join(sorted(tags[0] & tags[1]))} to their image"
    return ""


def _asked(loc: Loc, ask: Callable[[], object], near: str = "") -> Iterator[Mistake]:
    """What a verb's own code says, as a mistake; `near` is a better hint than its own."""
    try:
        ask()
    except Interrupted:
        raise
    except ImagebuildError as exc:
        exc.hint = near or exc.hint
        yield mistake_of(exc, loc)


def mistake_of(error: ImagebuildError, loc: Loc) -> Mistake:
    """An error of one thing, on one line."""
    lines = [line.strip() for line in error.detail.splitlines() if line.strip()]
    more = f" and {len(lines) - 3} more" if len(lines) > 3 else ""
    text = ": ".join(filter(None, (error.what, "; ".join(lines[:3]) + more)))
    is_elsewhere = isinstance(error, ConfigError) and error.where
    return Mistake(loc, f"{text} ({error.where})" if is_elsewhere else text, error.hint)


def unique(found: Sequence[Mistake]) -> list[Mistake]:
    """Each mistake once: what the file says once may be looked at for many rows."""
    return list(dict.fromkeys(found))
