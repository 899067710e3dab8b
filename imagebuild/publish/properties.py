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
#: sha256 (hex) of the file that was uploaded.
SHA256 = f"{PREFIX}sha256"
#: The artifact's name.
ARTIFACT = f"{PREFIX}artifact"
#: "true" for an image that runs the agent of a developer's host, else "false".
DEV = f"{PREFIX}dev"
#: How far the image was proven: a level of `verify`, or "none".
PROVEN = f"{PREFIX}proven"
#: The tags that `promote` gives a candidate, separated by commas.
TAGS = f"{PREFIX}tags"

#: What Nova asks of the machine.
ARCHITECTURE = "architecture"
FIRMWARE = "hw_firmware_type"
RNG = "hw_rng_model"
#: What stands in the image.
OS_TYPE, OS_DISTRO, OS_VERSION = "os_type", "os_distro", "os_version"

#: A property that Glance's own import writes while it works; nobody's to change.
RESERVED_PREFIX = "os_glance_"
