"""imagebuild backup-image: Trove's backup container images."""

from __future__ import annotations

import click


@click.group("backup-image")
def backup_image() -> None:
    """Build the container images that a guest makes backups with."""
