"""Names of the properties by which an image's record says what it is.

Those of Nova and Glance are theirs (docs.openstack.org/glance, "useful image properties");
what only this tool reads begins with `imagebuild_`.
"""

from __future__ import annotations

PREFIX = "imagebuild_"
#: The build that the image is of: 64 hexadecimal digits.
BUILD_ID = f"{PREFIX}build_id"
#: The guest agent's series, "2025.2" say, and its version.
AGENT_SERIES = f"{PREFIX}agent_series"
AGENT_VERSION = f"{PREFIX}agent_version"
#: The format of the file that was sent (Glance may have made another of it), its sha256
#: (hex), and that of the artifact's file that it was converted from.
FORMAT = f"{PREFIX}format"
SHA256 = f"{PREFIX}sha256"
SOURCE_SHA256 = f"{PREFIX}source_sha256"
#: The artifact's name.
ARTIFACT = f"{PREFIX}artifact"
#: "true" for an image that runs the agent of a developer's host, else "false".
DEV = f"{PREFIX}dev"
#: How far the image was proven: a level of `verify`, or "none".
PROVEN = f"{PREFIX}proven"
#: The tags that the image is meant to have in the end, separated by commas: a candidate's
#: get to it by `datastore promote`.
TAGS = f"{PREFIX}tags"
#: Who is uploading: only while there is no whole image yet.
UPLOADING = f"{PREFIX}uploading"
#: The tags that were taken away on purpose, separated by commas: an upload does not give
#: them back.
WITHDRAWN = f"{PREFIX}withdrawn"

#: What Nova asks of the machine.
ARCHITECTURE = "architecture"
FIRMWARE = "hw_firmware_type"
RNG = "hw_rng_model"
#: What stands in the image.
OS_TYPE, OS_DISTRO, OS_VERSION = "os_type", "os_distro", "os_version"
