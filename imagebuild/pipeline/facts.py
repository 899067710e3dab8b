"""What reports say of an image, taken from its artifact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imagebuild import sizes
from imagebuild.errors import ConfigError
from imagebuild.inventory import FILE_NAME as INVENTORY
from imagebuild.manifest import ArtifactView, open_artifact
from imagebuild.redaction import masked, redact

#: So many of the slowest hooks are told.
_HOOKS = 12
#: Directories from this part of all bytes on, but not smaller than so many bytes, and so many
#: levels of them: what a picture of them can show. Some 100 rows.
_PART, _SMALLEST, _DEPTH = 0.002, 1 << 20, 5
#: What is told of the agent's source.
_AGENT = ("kind", "requested", "name", "version", "series", "commit", "dirty", "python", "lock")
#: Lines of evidence of a check, characters of each.
_LINES, _LENGTH = 20, 400


@dataclass(frozen=True)
class ImageFacts:
    """An artifact, as far as reports go. Sizes in bytes, times in seconds.

    `created` is the end of its build (seconds since 1970; 0: not known). `files`: format →
    size of the file; `virtual_size` of the disk; `rootfs`: of all files in it.
    `packages`, `python_packages`: name → version. `stages`: (stage, seconds, reused) in
    order, `hooks`: the slowest (stage, phase, name, seconds), slowest first. `verdict`,
    `proven`, `boots` and `checks` are verify.json's: `boots`: machine → its milestones
    (name, seconds since its start) in order; `checks`: name, level, outcome, what, hint,
    evidence, seconds. `directories`: (path, bytes, depth), as sizes.tree has them.
    """

    name: str
    build_id: str
    created: float
    files: Mapping[str, int] = field(default_factory=dict)
    virtual_size: int | None = None
    rootfs: int | None = None
    agent: Mapping[str, Any] = field(default_factory=dict)
    packages: Mapping[str, str] = field(default_factory=dict)
    python_packages: Mapping[str, str] = field(default_factory=dict)
    stages: tuple[tuple[str, float, bool], ...] = ()
    hooks: tuple[tuple[str, str, str, float], ...] = ()
    verdict: str | None = None
    proven: str | None = None
    boots: Mapping[str, tuple[tuple[str, float], ...]] = field(default_factory=dict)
    checks: tuple[Mapping[str, Any], ...] = ()
    directories: tuple[tuple[str, int, int], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Shape used in report.json: tuples as lists, the rest as it is."""
        return {
            "name": self.name,
            "build_id": self.build_id,
            "created": round(self.created, 3),
            "files": dict(self.files),
            "virtual_size": self.virtual_size,
            "rootfs": self.rootfs,
            "agent": dict(self.agent),
            "packages": dict(self.packages),
            "python_packages": dict(self.python_packages),
            "stages": [list(s) for s in self.stages],
            "hooks": [list(h) for h in self.hooks],
            "verdict": self.verdict,
            "proven": self.proven,
            "boots": {name: [list(m) for m in marks] for name, marks in self.boots.items()},
            "checks": [dict(c) for c in self.checks],
            "directories": [list(d) for d in self.directories],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ImageFacts:
        """The inverse of `to_json`. Raises ConfigError."""
        try:
            return cls(
                name=str(data["name"]),
                build_id=str(data["build_id"]),
                created=float(data["created"]),
                files={str(k): int(v) for k, v in data["files"].items()},
                virtual_size=_whole(data["virtual_size"]),
                rootfs=_whole(data["rootfs"]),
                agent=dict(data["agent"]),
                packages=_versions(data["packages"]),
                python_packages=_versions(data["python_packages"]),
                stages=tuple((str(n), float(s), bool(r)) for n, s, r in data["stages"]),
                hooks=tuple(
                    (str(s), str(p), str(n), float(seconds)) for s, p, n, seconds in data["hooks"]
                ),
                verdict=_word(data["verdict"]),
                proven=_word(data["proven"]),
                boots={str(k): _milestones(v) for k, v in data["boots"].items()},
                checks=tuple(_known(c) for c in data["checks"]),
                directories=tuple((str(p), int(b), int(d)) for p, b, d in data["directories"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as exc:
            raise ConfigError(
                "these are not the facts of an image as `pipeline run` writes them",
                detail=f"{type(exc).__name__}: {exc}",
            ) from exc


def facts_of(artifact: Path) -> ImageFacts:
    """Read an artifact, or what a name below IMAGES_DIR links to.

    What an older one lacks is left empty, and so is what cannot be read beside the manifest:
    a report must not fail for a picture. Raises ConfigError for what is no artifact.
    """
    view = open_artifact(artifact)
    timing = _timing(view)
    verification = _verification(view)
    images = view.images
    return ImageFacts(
        name=view.name,
        build_id=view.build_id,
        created=_number(_number(timing.get("started")) + _number(timing.get("seconds"))),
        files={i.format: i.size for i in images},
        virtual_size=next((i.virtual_size for i in images), None),
        rootfs=_whole(view.manifest.get("rootfs", {}).get("bytes")),
        agent=_agent(view.content.get("agent")),
        packages=_versions(view.content.get("packages") or {}),
        python_packages=_versions(view.content.get("python_packages") or {}),
        stages=_stages(timing),
        hooks=_hooks(timing),
        verdict=_word(verification.get("verdict")),
        proven=_word(verification.get("proven")),
        boots=_boots(verification),
        checks=_checks(verification),
        directories=_directories(view),
    )


def _timing(view: ArtifactView) -> Mapping[str, Any]:
    try:
        return view.timing
    except ConfigError:
        return {}


def _verification(view: ArtifactView) -> Mapping[str, Any]:
    try:
        return view.verification or {}
    except ConfigError:
        return {}


def _agent(agent: object) -> dict[str, Any]:
    if not isinstance(agent, Mapping):
        return {}
    return {
        k: redact(v) if isinstance(v, str) else v for k in _AGENT if (v := agent.get(k)) is not None
    }


def _stages(timing: Mapping[str, Any]) -> tuple[tuple[str, float, bool], ...]:
    try:
        return tuple(
            (str(s["stage"]), _number(s["seconds"]), bool(s["reused"]))
            for s in timing.get("stages", ())
        )
    except (KeyError, TypeError, ValueError):
        return ()  # of an older version, or another's


def _hooks(timing: Mapping[str, Any]) -> tuple[tuple[str, str, str, float], ...]:
    try:
        found = [
            (str(stage), str(phase), str(name), _number(seconds))
            for stage, hooks in timing.get("hooks", {}).items()
            for phase, name, seconds in hooks
        ]
    except (AttributeError, TypeError, ValueError):
        return ()
    return tuple(sorted(found, key=lambda h: -h[3])[:_HOOKS])


def _boots(verification: Mapping[str, Any]) -> dict[str, tuple[tuple[str, float], ...]]:
    try:
        runs = verification.get("runs", ())
        return {str(r["name"]): _milestones(r["milestones"].items()) for r in runs}
    except (KeyError, AttributeError, TypeError, ValueError):
        return {}


def _checks(verification: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    try:
        return tuple(_check(c) for c in verification.get("checks", ()))
    except (KeyError, AttributeError, TypeError, ValueError):
        return ()


def _check(check: Mapping[str, Any]) -> dict[str, Any]:
    """A check without what only somebody who debugs it wants; no secrets of its machine."""
    return {
        "name": str(check["name"]),
        "level": str(check["level"]),
        "outcome": str(check["outcome"]),
        "what": masked(str(check["what"])),
        "hint": masked(str(check.get("hint") or "")),
        "evidence": [masked(str(e))[:_LENGTH] for e in check.get("evidence", ())[:_LINES]]
        if check["outcome"] not in ("passed", "skipped")
        else [],
        "seconds": None if check.get("seconds") is None else _number(check["seconds"]),
    }


def _known(check: Mapping[str, Any]) -> Mapping[str, Any]:
    """A check from a report: what readers take for granted is there."""
    return dict(check) | {k: str(check[k]) for k in ("name", "level", "outcome", "what")}


def _directories(view: ArtifactView) -> tuple[tuple[str, int, int], ...]:
    if not view.has(INVENTORY):
        return ()
    try:
        entries = view.inventory
    except ConfigError:
        return ()
    below = sizes.directories(entries)
    smallest = max(_SMALLEST, int(below.get("/", 0) * _PART))
    return tuple((d.path, d.bytes, d.depth) for d in sizes.tree(below, smallest, _DEPTH))


def _milestones(marks: Any) -> tuple[tuple[str, float], ...]:  # noqa: ANN401 - of a document
    return tuple((str(name), float(seconds)) for name, seconds in marks)


def _versions(found: Mapping[str, Any]) -> dict[str, str]:
    return {str(k): str(v) for k, v in found.items()}


def _word(value: object) -> str | None:
    return None if value is None else str(value)


def _whole(value: Any) -> int | None:  # noqa: ANN401 - of a document
    return None if value is None else int(value)


def _number(value: Any) -> float:  # noqa: ANN401 - of a document
    return round(float(value or 0), 3)
