"""Whether what guests need is in the registry: asked, with a reason in words."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from imagebuild.mirror.naming import End, image_problem
from imagebuild.mirror.wants import Need
from imagebuild.registry.reference import Reference


@dataclass(frozen=True)
class Seen:
    """A reference in its registry: its `digest`, "" when there is no such tag.

    `problem` says what the image lacks: a blob, a manifest of its index.
    """

    digest: str = ""
    problem: str = ""


#: Asks a registry for one image, all of it. Raises as the registry's client does.
Look = Callable[[Reference], Seen]


@dataclass(frozen=True)
class Answer:
    """Whether a need is met: by `image`, "" when by none; `reason` and `hint` are for people."""

    need: Need
    ok: bool
    image: str = ""
    digest: str = ""
    reason: str = ""
    hint: str = ""

    def to_json(self) -> dict[str, Any]:
        """Shape used by `--json`."""
        version = self.need.version
        return {
            "datastore": version.datastore,
            "manager": version.manager,
            "version": version.name,
            "number": version.number,
            "purpose": self.need.purpose.value,
            "ok": self.ok,
            "wanted": list(self.need.chain.images),
            "image": self.image,
            "digest": self.digest,
            "reason": self.reason,
            "hint": self.hint,
        }


@dataclass(frozen=True)
class Guests:
    """How guests ask: `isolated` is Trove's [network] network_isolation, `login_at` the
    [guest_agent] container_registry, None when it is not known.
    """

    isolated: bool = True
    login_at: str | None = None


def answer(
    needs: Iterable[Need],
    look: Look,
    wants_login: Callable[[str], bool] = lambda _registry: False,
    guests: Guests = Guests(),
) -> tuple[Answer, ...]:
    """Whether each need is met by what is in the registries, in the order of the needs.

    `wants_login` says of a registry whether it refuses who has no login. Each image is looked
    at once. Raises what `look` and `wants_login` raise.
    """
    asking = _Asking(look, wants_login, guests)
    return tuple(asking.answer(need) for need in needs)


class _Asking:
    """The questions of one run, and what was answered before."""

    def __init__(self, look: Look, wants_login: Callable[[str], bool], guests: Guests) -> None:
        self._look = look
        self._wants_login = wants_login
        self._guests = guests
        self._seen: dict[Reference, Seen] = {}
        self._logins: dict[str, bool] = {}

    def answer(self, need: Need) -> Answer:
        if not need.chain.images:
            return _refused(need)
        problem = image_problem(need.configured, tag_allowed=need.is_backup)
        if problem:
            return Answer(
                need, ok=False, reason=f"{need.configured!r} cannot be used: {problem}",
                hint="write it as [HOST[:PORT]/]NAME",
            )  # fmt: skip
        for image in need.chain.images:
            reference = Reference.parse(image)
            seen = self._at(reference)
            if seen.digest:
                return self._found(need, image, reference, seen)
        return self._missing(need)

    def _found(self, need: Need, image: str, reference: Reference, seen: Seen) -> Answer:
        if seen.problem:
            # A guest asks for the manifest alone before it pulls: it does not fall back.
            return Answer(
                need, ok=False, image=image, digest=seen.digest,
                reason=f"{image} is not whole: {seen.problem}",
                hint="copy it again: imagebuild mirror sync",
            )  # fmt: skip
        reason, hint = self._login(need, reference)
        ok = not hint
        if ok and image != need.chain.images[0]:
            reason = f"{need.chain.images[0]} is not there, and the guest falls back to this"
        return Answer(need, ok, image, seen.digest, reason, hint)

    def _login(self, need: Need, reference: Reference) -> tuple[str, str]:
        """What a login of the registry does to guests; a hint where they cannot do it."""
        registry = reference.registry
        if not self._needs_login(registry):
            return "", ""
        if not need.is_backup and self._guests.isolated:
            return (
                f"{registry} wants a login, and under network_isolation the guest pulls the "
                "database's image without one (Trove: utils/docker.py makes another client)",
                "let the registry be read without a login on the management network, or put "
                "root's .docker/config.json into the guest image",
            )
        if self._guests.login_at is not None and self._guests.login_at != registry:
            said = self._guests.login_at or "not set"
            return (
                f"{registry} wants a login, and [guest_agent] container_registry is {said}",
                f"set container_registry = {registry}, and its username and password, in "
                "trove-guestagent.conf",
            )
        return f"{registry} wants a login: [guest_agent] container_registry must have it", ""

    def _missing(self, need: Need) -> Answer:
        first = Reference.parse(need.chain.images[0])
        reason = f"{' and '.join(need.chain.images)} {_are(need)} not in the registry"
        if need.chain.end is not End.PULLS:
            reason += f"; the guest asks, and then {need.chain.end.value}"
        near = self._near(first) if len(need.chain.images) == 1 else ""
        where = f"the tag {first.tag} of {first.name}"
        if near:
            hint = (
                f"{first.name}:{near} is there: publish it as the alias {first.tag} "
                f'(in the mirror list: aliases: {{"{near}": ["{first.tag}"]}})'
            )
        else:
            hint = f"publish {where}: add it to the mirror list, or build it"
        return Answer(need, ok=False, reason=reason, hint=hint)

    def _near(self, wanted: Reference) -> str:
        """A tag that is there, as wanted less its last parts: what an alias can be made of."""
        parts = wanted.tag.split(".")
        for count in range(len(parts) - 1, 0, -1):
            tag = ".".join(parts[:count])
            if self._at(Reference(wanted.registry, wanted.repository, tag)).digest:
                return tag
        return ""

    def _at(self, reference: Reference) -> Seen:
        if reference not in self._seen:
            self._seen[reference] = self._look(reference)
        return self._seen[reference]

    def _needs_login(self, registry: str) -> bool:
        if registry not in self._logins:
            self._logins[registry] = self._wants_login(registry)
        return self._logins[registry]


def _refused(need: Need) -> Answer:
    if need.chain.end is End.NO_VERSION:
        hint = "give the version a number as its name, or take the tag out of backup_docker_image"
    else:
        hint = f"set backup_docker_image in [{need.version.manager}] of trove-guestagent.conf"
    return Answer(need, ok=False, reason=f"there is no image: {need.chain.end.value}", hint=hint)


def _are(need: Need) -> str:
    return "is" if len(need.chain.images) == 1 else "are"
