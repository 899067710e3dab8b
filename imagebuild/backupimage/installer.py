"""What `backup/install.sh` of a source can install, read from its text: it is never run here."""

from __future__ import annotations

import re

from imagebuild.backupimage.datastores import Datastore
from imagebuild.errors import ConfigError

_BRANCH = re.compile(
    r'^(?:el)?if \[ "\$\{?OPT_DATASTORE\}?" = "(\w+)" \]; then$(.*?)(?=^elif \[ |^else$|^fi$)',
    re.MULTILINE | re.DOTALL,
)
_VERSION = re.compile(r'\[ "\$\{?OPT_DATASTORE_VERSION\}?" = "([^"]+)" \]')
_ARCHES = re.compile(r"\[[^\]]*\barch=([\w,]+)[^\]]*\]")


def check_support(text: str, datastore: Datastore, version: str, arch: str, where: str) -> None:
    """Raise ConfigError for what the script would refuse, in minutes, or silently not do.

    Not every branch says its versions: then what the third party has is left to find out.
    """
    branches = dict(_BRANCH.findall(text))
    if datastore.name not in branches:
        raise ConfigError(
            f"this source cannot install the tools of {datastore.name}",
            where=where,
            detail=f"it knows: {', '.join(branches) or 'no datastore'}",
            hint="take another release of Trove: --trove-series, or --packages-from distribution",
        )
    branch = branches[datastore.name]
    versions = tuple(dict.fromkeys(_VERSION.findall(branch)))
    if versions and version not in versions:
        raise ConfigError(
            f"this source has no tools for {datastore.name} {version}",
            where=where,
            detail=f"it knows: {', '.join(versions)}",
            hint=_hint(version, versions),
        )
    arches = {a for names in _ARCHES.findall(branch) for a in names.split(",")}
    if arches and arch not in arches:
        raise ConfigError(
            f"this source has no tools for {datastore.name} on {arch}",
            where=where,
            detail=f"its package repository is for {', '.join(sorted(arches))} alone ([arch=…])",
            hint="--packages-from distribution takes the tools from the base image's distribution",
        )


def _hint(version: str, versions: tuple[str, ...]) -> str:
    for known in versions:
        if version.startswith(f"{known}."):
            return f"build {known}, with --tag {version} for guests that ask for it"
    return "another release of Trove may know it: --trove-series"
