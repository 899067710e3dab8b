"""imagebuild config: what Trove's own configuration must say of images and registries."""

from __future__ import annotations

import click


@click.group("config")
def config() -> None:
    """Write and check the fragments of trove.conf and trove-guestagent.conf for a mirror."""
