"""The rules of configuration parameters: validation-rules.json of a release of Trove.

What a rule may hold is what trove/configuration/models.py reads of it; what the requests
take of that is less (trove/common/apischema.py, mgmt_configuration, and
trove/extensions/mgmt/configuration/service.py).
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagebuild.agent.files import FileCache
from imagebuild.agent.locks import AGENT, Pin, agent_lock
from imagebuild.agent.series import get_series
from imagebuild.digest import of_file
from imagebuild.errors import ConfigError

#: Types that the requests take; trove-manage takes any, and Trove then checks boolean, too.
_REST_TYPES = frozenset({"integer", "string"})
_LONGEST_NAME = 128
#: The wheel is the same for any machine; a lock needs one to be asked for.
_ARCH = "x86_64"


@dataclass(frozen=True)
class Rule:
    """One parameter: its type (integer, string, boolean, float, list), its bounds, and
    whether the database must be restarted for it.
    """

    name: str
    type: str
    restart_required: bool
    min: int | float | None = None
    max: int | float | None = None

    @property
    def obstacle(self) -> str | None:
        """Why Trove's requests cannot carry it; None when they can."""
        if self.type not in _REST_TYPES:
            return f"type {self.type}"
        if len(self.name) > _LONGEST_NAME or not any(
            c.isascii() and c.isalnum() for c in self.name
        ):
            return "its name"
        bounds = (self.min, self.max)
        if self.type == "string":
            return "a string with bounds" if bounds != (None, None) else None
        missing = [n for n, b in zip(("min", "max"), bounds, strict=True) if b is None]
        if missing:
            return f"an integer without {' and '.join(missing)}"
        if not (isinstance(self.min, int) and isinstance(self.max, int)):
            return "bounds that are not whole numbers"
        return "max is less than min" if self.max < self.min else None

    def to_request(self) -> dict[str, Any]:
        """The request's body; `obstacle` must be None."""
        body: dict[str, Any] = {
            "name": self.name,
            "data_type": self.type,
            "restart_required": int(self.restart_required),
        }
        if self.type == "integer":
            body |= {"min_size": self.min, "max_size": self.max}
        return body

    @classmethod
    def of_answer(cls, document: Mapping[str, Any]) -> Rule:
        """As Trove tells a parameter to administrators."""
        return cls(
            name=str(document["name"]),
            type=str(document["type"]),
            restart_required=bool(document["restart_required"]),
            min=document.get("min_size"),
            max=document.get("max_size"),
        )


@dataclass(frozen=True)
class RuleFile:
    """Rules, each name once, the file's own bytes, and where they are from, for people."""

    rules: tuple[Rule, ...]
    data: bytes
    source: str


def parse(data: bytes, source: str) -> RuleFile:
    """Rules from a file. Of a name that is there twice the last one counts, as for Trove.

    Raises ConfigError naming what is wrong.
    """
    try:
        listed = json.loads(data)["configuration-parameters"]
        rules = [_rule(r) for r in listed]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise ConfigError(
            "this is no file of rules for configuration parameters",
            where=source,
            detail=str(exc) if isinstance(exc, ValueError) else f"{type(exc).__name__}: {exc}",
            hint='it has {"configuration-parameters": [{"name": …, "type": …, '
            '"restart_required": …, "min": …, "max": …}]}',
        ) from exc
    return RuleFile(tuple({r.name: r for r in rules}.values()), data, source)


def _rule(entry: Mapping[str, Any]) -> Rule:
    name, kind, restart = entry["name"], entry["type"], entry["restart_required"]
    if not isinstance(name, str) or not name or not isinstance(kind, str):
        raise ValueError(f"name and type must be texts: {entry}"[:200])
    if restart not in (True, False):
        raise ValueError(f"{name}: restart_required must be true or false")
    bounds = [entry.get("min"), entry.get("max")]
    for bound in bounds:
        if bound is not None and (isinstance(bound, bool) or not isinstance(bound, int | float)):
            raise ValueError(f"{name}: bounds must be numbers")
    return Rule(name, kind, bool(restart), *bounds)


def read(path: Path) -> RuleFile:
    """Rules of a file of the operator's. Raises ConfigError."""
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise ConfigError(
            "the file of rules cannot be read", where=str(path), detail=exc.strerror or str(exc)
        ) from exc
    return parse(data, str(path))


def of_release(
    series: str, manager: str, cache: Path, *, env: Mapping[str, str], offline: bool = False
) -> RuleFile:
    """The rules that a series' release has for a manager, from its wheel.

    `cache` is the tool's cache directory, where a build leaves the wheel; else it is fetched.
    Raises ConfigError for an unknown series, or a manager that the release has no rules for,
    and as `FileCache.fetch` does.
    """
    release = get_series(series)
    lock = agent_lock(release, release.pythons[0])
    pin = lock.pin(AGENT)
    wheel = _kept(pin, cache / "sources")
    if wheel is None:
        files = FileCache(
            cache / "sources", release.pythons[0], _ARCH, env=env, offline=offline
        )  # fmt: skip
        try:
            wheel = files.fetch([pin])[0].path
        finally:
            files.close()
    source = f"trove {pin.version} ({release.name})"
    return parse(_member(wheel, manager, source), source)


def _kept(pin: Pin, sources: Path) -> Path | None:
    """The release's wheel, if a build for whatever Python has fetched it (see agent/files)."""
    for sha256 in sorted(pin.hashes):
        for path in (sources / "files" / sha256).glob("*.whl"):
            if of_file(path) == sha256:
                return path
    return None


def _member(wheel: Path, manager: str, source: str) -> bytes:
    prefix, name = "trove/templates/", "validation-rules.json"
    with zipfile.ZipFile(wheel) as archive:
        try:
            return archive.read(f"{prefix}{manager}/{name}")
        except KeyError:
            known = sorted(
                n.split("/")[2] for n in archive.namelist()
                if n.startswith(prefix) and n.endswith(f"/{name}")
            )  # fmt: skip
    raise ConfigError(
        f"{source} has no rules for the manager {manager}",
        where=f"manager {manager}",
        detail="it has rules for: " + ", ".join(known),
        hint="--file RULES gives rules of your own",
    )


@dataclass(frozen=True)
class Comparison:
    """Rules against what a version has, by name: `new` ones, `changed` ones, the `same`, and
    what it has beyond the rules (`extra`), which stays.
    """

    new: tuple[Rule, ...]
    changed: tuple[Rule, ...]
    same: tuple[Rule, ...]
    extra: tuple[str, ...]

    @property
    def pending(self) -> tuple[Rule, ...]:
        """What is still to be loaded."""
        return self.new + self.changed


def compare(rules: Sequence[Rule], found: Sequence[Rule]) -> Comparison:
    """What is to be done, so that the version has the rules."""
    there = {r.name: r for r in found}
    new = tuple(r for r in rules if r.name not in there)
    changed = tuple(r for r in rules if r.name in there and there[r.name] != r)
    same = tuple(r for r in rules if there.get(r.name) == r)
    return Comparison(new, changed, same, tuple(sorted(set(there) - {r.name for r in rules})))
