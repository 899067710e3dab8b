"""What may not be published. Pure: it looks at the artifact and at what is asked, no more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from imagebuild.errors import PolicyError
from imagebuild.manifest import ArtifactView

#: Visibilities that let projects use an image that it was not shared with.
OPEN = ("public", "community")
_GOOD = ("passed", "warning")


@dataclass(frozen=True)
class Pass:
    """What may go up. `proven` is the level that verify.json says, None without one;
    `warning` is what was let through although it should not have been.
    """

    proven: str | None
    warning: str | None = None


def check_dev(view: ArtifactView, visibility: str | None) -> None:
    """Raise PolicyError for a dev image that everybody would get. There is no way around it:
    whoever controls its controller is root in every guest.
    """
    if view.is_dev and visibility in OPEN:
        raise PolicyError(
            f"a dev image is never {visibility}",
            where=view.name,
            detail="its agent fetches code from one developer's host at every start",
            hint="build it without --dev; --private or --shared is allowed",
        )


def check_series(view: ArtifactView, control_plane: str | None) -> None:
    """Raise PolicyError when the agent is of another series than the control plane: by tags,
    Trove takes an image as soon as it is there. ConfigError for a series that is not known.
    """
    if control_plane is None:
        return
    from imagebuild.agent.series import get_series

    wanted = get_series(control_plane).name
    agent = view.content.get("agent")
    found = agent.get("series") if isinstance(agent, Mapping) else None
    if found and found != wanted:
        raise PolicyError(
            f"the image's guest agent is of {found}, the control plane of {wanted}",
            where=view.name,
            hint=f"build it with --trove-series {wanted}",
        )


def check_verified(view: ArtifactView, sha256: str, *, unverified: bool) -> Pass:
    """Whether the image of that digest is proven.

    Raises PolicyError when verify.json is missing, is about another image, or does not say
    that the image is good; with `unverified` the pass has a warning instead.
    """
    found = view.verification
    problem, hint = _problem(view, found, sha256)
    if not problem:
        return Pass(str((found or {}).get("proven") or "none"))
    if unverified:
        return Pass(None, f"{problem}: it is published all the same (--unverified)")
    raise PolicyError(problem, where=view.name, hint=f"{hint}; --unverified publishes it as it is")


def is_verified(view: ArtifactView, sha256: str) -> bool:
    """Whether `check_verified` would let the image pass."""
    return not _problem(view, view.verification, sha256)[0]


def _problem(view: ArtifactView, found: Mapping[str, Any] | None, sha256: str) -> tuple[str, str]:
    """What is wrong and what to try; two empty texts when all is well."""
    again = f"imagebuild verify {view.directory}"
    image = next((i for i in view.images if i.sha256 == sha256), None)
    if image and image.path.suffix != ".qcow2":
        again = f"imagebuild verify {image.path}"
    if found is None:
        return "the image was never verified", again
    verdict = found.get("verdict")
    if verdict == "failed":
        return "the image failed its verification", f"{again} says what is wrong"
    if verdict not in _GOOD:
        return "the verification could not tell whether the image is good", again
    if found["image"].get("sha256") != sha256:
        name = found["image"].get("file")
        return f"another file of the artifact was verified: {name}", again
    return "", ""
