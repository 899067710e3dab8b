"""Software bills of materials: what is in an image, in the two common formats."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imagebuild.components import Components

SPDX = "sbom.spdx.json"
CYCLONEDX = "sbom.cdx.json"


def prepare() -> None:
    """Import what `write` needs, ahead of time: it takes half a second."""
    from imagebuild.sbom import cyclonedx, parts, spdx  # noqa: F401


def write(directory: Path, manifest: Mapping[str, Any], components: Components, epoch: int) -> None:
    """Write both SBOMs of an image. The same arguments give the same bytes."""
    # Half a second of imports, which nothing else needs.
    from imagebuild.sbom import cyclonedx, parts, spdx

    bill = parts.make_bill(manifest, components, epoch)
    for name, document in (
        (SPDX, spdx.document(bill)),
        (CYCLONEDX, cyclonedx.document(bill)),
    ):
        text = json.dumps(document, indent=1, ensure_ascii=False)
        (directory / name).write_text(text + "\n", encoding="utf-8")
