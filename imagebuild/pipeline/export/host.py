"""What systemd's units and cron's line have in common: a host that does all of it by itself."""

from __future__ import annotations

import re

from imagebuild.errors import UsageError
from imagebuild.pipeline.export.source import Source

STATE, CACHE = "/var/lib/imagebuild", "/var/cache/imagebuild"
#: A venv of its own comes first; install(1) and python3 -m venv make it.
PATH = "/opt/imagebuild/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: Variables that tell where it works; the same for both.
ENVIRONMENT = {
    "PATH": PATH,
    "IMAGEBUILD_CACHE_DIR": CACHE,
    "IMAGEBUILD_IMAGES_DIR": f"{STATE}/images",
}
#: What both headers say.
NOTES = (
    f"The tool is in {PATH.split(':')[0]} or on the usual PATH. Clouds are in",
    "/etc/openstack/clouds.yaml, logins of registries in /root/.docker/config.json, both",
    "readable by root alone.",
)
_NAME = re.compile(r"[a-z0-9-]+", re.ASCII)


def command(source: Source) -> str:
    """The run. Raises UsageError for a path that only makes sense in a repository."""
    if not source.file.startswith("/") and not _NAME.fullmatch(source.file):
        raise UsageError(
            "on a host, the pipeline's file is named by its absolute path",
            where=source.file,
            hint=f"--file /etc/imagebuild/{source.pipeline.name}.yaml, and put it there",
        )
    return f"imagebuild --quiet pipeline run {source.file} --reports {STATE}/reports"


def report(source: Source) -> str:
    """The newest report, for people."""
    return f"{STATE}/reports/{source.pipeline.name}/latest/report.md"
