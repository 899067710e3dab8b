"""Whether a verification that was made earlier proves what is wanted now. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from imagebuild.config.pipeline import Level, Network, Verify
from imagebuild.manifest import ArtifactView, Image
from imagebuild.verify import bootlevel, choice
from imagebuild.verify.bootlevel import CONFIG_DRIVE, METADATA
from imagebuild.verify.firmware import Firmware

#: The machines of the level boot; others belong to an instance of Trove each.
_BOOTS = [bootlevel.run_name(h, f) for h in (CONFIG_DRIVE, METADATA) for f in Firmware]
_ORDER = tuple(Level)
_GOOD = ("passed", "warning")


def subject(view: ArtifactView, wanted: Sequence[str | None]) -> Image | None:
    """The image of an artifact that is verified, and published: its raw one where all clouds
    want that (`wanted`: a format for each, None: the usual), else as `verify` chooses.
    """
    formats = {f.format: f for f in reversed(view.images)}
    if wanted and set(map(str, wanted)) == {"raw"} and "raw" in formats:
        return formats["raw"]
    return formats.get("qcow2") or formats.get("raw")


def lacks(document: Mapping[str, Any] | None, view: ArtifactView, image: Image, wanted: Verify,
          arch: str = "amd64") -> str:  # fmt: skip
    """What a verify.json lacks for what is wanted of that image; "" when it proves it all."""
    if document is None:
        return "it was never verified"
    if (document.get("image") or {}).get("sha256") != image.sha256:
        return "another file was verified"
    if document.get("verdict") not in _GOOD:
        return "it did not pass"
    proven = document.get("proven")
    if proven not in [str(x) for x in _ORDER[_ORDER.index(wanted.level) :]]:
        return f"it is proven to {proven or 'no level'}; {wanted.level} is wanted"
    runs = document.get("runs") or ()
    if wanted.level is not Level.STATIC:
        firmwares = [str(f) for f in wanted.firmwares]
        firmwares = firmwares or (["uefi"] if arch == "arm64" else ["bios", "uefi"])
        booted = {r["firmware"] for r in runs if r["name"] in _BOOTS}
        if missing := {firmwares[0], firmwares[-1]} - booted:
            return f"it was not booted by {', '.join(sorted(missing))}"
    return _lacks_instances(runs, view, wanted)


def _lacks_instances(runs: Sequence[Mapping[str, Any]], view: ArtifactView, wanted: Verify) -> str:
    if wanted.level not in (Level.AGENT, Level.DATABASE):
        return ""
    facts = [r.get("facts") or {} for r in runs if r["name"] not in _BOOTS]
    found = {(f.get("datastore"), f.get("network_isolation")) for f in facts}
    networks = [n is Network.ISOLATION for n in wanted.networks] or [True]
    if wanted.databases:
        databases = [choice.of_spec(d) for d in wanted.databases]
    else:
        databases = choice.of_content(view.content)
    if wanted.level is Level.AGENT:
        # One machine says it all: the agent answers before it has a database.
        databases, networks = [], networks[:1]
        if not any(isolated is networks[0] for _, isolated in found):
            return "its agent was not asked in that network"
    for database in databases:
        for isolated in networks:
            name = f"{database.datastore} {database.version}"
            if (name, isolated) not in found:
                where = "network isolation" if isolated else "a bridge network"
                return f"{name} was not run in it, with {where}"
    return ""
