"""A ConfigDrive as Nova writes it: ISO 9660 with Joliet and Rock Ridge, label config-2."""

from __future__ import annotations

import tempfile
from pathlib import Path

from imagebuild.errors import PreflightError
from imagebuild.host.run import need, run
from imagebuild.verify import metadata


def make_config_drive(iso: Path, instance: metadata.Instance) -> Path:
    """Write the ISO file for an instance. Raises PreflightError without a program that can."""
    with tempfile.TemporaryDirectory(dir=iso.parent) as tree:
        latest = Path(tree, "openstack/latest")
        latest.mkdir(parents=True)
        for name, content in metadata.openstack(instance).items():
            (latest / name).write_bytes(content)
        options = ["-quiet", "-J", "-r", "-V", "config-2", "-o", str(iso), tree]
        try:
            run([need("genisoimage"), *options])
        except PreflightError:
            run([need("xorriso"), "-as", "mkisofs", *options])
    return iso
