"""The database and backup containers that a profile puts into the image: resolved, fetched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from imagebuild import containerparts
from imagebuild.components import Container
from imagebuild.config.profile import Preload, Profile
from imagebuild.errors import PreflightError
from imagebuild.inputs import Inputs, Registry
from imagebuild.registry.layout import Layout
from imagebuild.registry.pull import PulledImage, Resolved, pull, resolve
from imagebuild.registry.reference import Reference
from imagebuild.registry.settings import RegistrySettings
from imagebuild.stages.imagetar import LocalImage


@dataclass(frozen=True)
class PreloadImage:
    """A container image for the guest: `source` as the profile has it, `target` its full name
    in the guest. `resolved` is None where the registry was not asked.
    """

    source: str
    target: str
    resolved: Resolved | None

    @property
    def label(self) -> str:
        """What people call it in lists of stages and of what is not resolved."""
        return f"container {self.source}"

    def to_json(self) -> dict[str, Any]:
        """What ids and manifests have of it: names and digests, no secret."""
        document: dict[str, Any] = {"source": self.source, "target": self.target}
        if self.resolved:
            document |= {
                "index": self.resolved.target.digest,
                "manifest": self.resolved.manifest.digest,
                "config": self.resolved.config.digest,
                "layers": [layer.digest for layer in self.resolved.layers],
                "bytes": self.resolved.total_bytes,
            }
        return document


def registry_settings(
    profile: Profile, registries: Sequence[Registry]
) -> tuple[RegistrySettings, ...]:
    """How this host speaks to the registries that the profile names, `registries` of its inputs.

    For any other registry the client looks at the host's own logins and certificates.
    """
    return tuple(
        RegistrySettings(host=key.host, ca=key.ca, username=entry.username, password=entry.password)
        for key, entry in zip(profile.docker.registries, registries, strict=True)
    )


def resolve_preload(
    profile: Profile,
    registries: Sequence[Registry],
    layout: Layout,
    *,
    offline: bool = False,
) -> tuple[PreloadImage, ...]:
    """Pin the profile's containers, in its order. Manifests are kept in `layout`.

    With `offline` a name stands for what it last stood for; what `layout` does not know is not
    resolved. Raises what registry.pull.resolve raises.
    """
    if not profile.preload:
        return ()
    arch = str(profile.arch)
    if offline:
        return tuple(_remembered(entry, arch, layout) for entry in profile.preload)
    from imagebuild.registry.client import Client

    with Client(registry_settings(profile, registries)) as client:
        return tuple(
            _image(entry, resolve(client, Reference.parse(entry.source), arch, layout=layout))
            for entry in profile.preload
        )


def _remembered(entry: Preload, arch: str, layout: Layout) -> PreloadImage:
    try:
        found = resolve(None, Reference.parse(entry.source), arch, layout=layout)
    except PreflightError:
        return _image(entry, None)
    return _image(entry, found)


def _image(entry: Preload, resolved: Resolved | None) -> PreloadImage:
    return PreloadImage(entry.source, str(Reference.parse(entry.target)), resolved)


def fetch(image: PreloadImage, inputs: Inputs, kept: Layout) -> PulledImage:
    """Have a container's blobs in `kept`; raises what registry.pull.pull raises."""
    assert image.resolved is not None  # noqa: S101 - such a plan is provisional
    if inputs.offline:
        return pull(None, image.resolved, kept)
    from imagebuild.registry.client import Client

    with Client(registry_settings(inputs.profile, inputs.registries)) as client:
        return pull(client, image.resolved, kept)


def local_image(image: PreloadImage, pulled: PulledImage, layout: Layout) -> LocalImage:
    """What the containers stage loads (see stages/containers.py)."""
    found = pulled.resolved
    return LocalImage(
        name=image.target,
        layout=str(layout.root),
        manifest=found.manifest,
        config=found.config,
        layers=found.layers,
        diff_ids=pulled.image.diff_ids,
    )


def describe(image: PreloadImage, pulled: PulledImage) -> Container:
    """What is in a container, for the SBOMs: read from its layers. Raises BuildError."""
    found = pulled.resolved
    digests = {
        "index": found.target.digest,
        "manifest": found.manifest.digest,
        "config": found.config.digest,
    }
    return containerparts.describe(image.target, image.source, digests, pulled.layers)
