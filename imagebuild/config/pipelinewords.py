"""The words and single values of pipelines' files (imagebuild/config/pipeline.py)."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, WithJsonSchema

from imagebuild.config import pipelinevalues as checks
from imagebuild.config.mirrorvalues import words
from imagebuild.config.values import check_profile_name
from imagebuild.config.words import Arch, Series, Word


class Part(BaseModel):
    """A mapping of the file: frozen, without keys that nobody knows."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=False)


class Level(Word):
    """How far an image is proven (imagebuild.verify.results.Level)."""

    STATIC = "static"
    BOOT = "boot"
    AGENT = "agent"
    DATABASE = "database"


class Visibility(Word):
    """Who may use an image in Glance."""

    PRIVATE = "private"
    SHARED = "shared"
    COMMUNITY = "community"
    PUBLIC = "public"


class Network(Word):
    """Trove's network_isolation, as `verify --network` has it."""

    ISOLATION = "isolation"
    BRIDGE = "bridge"


class OnMirrorFailure(Word):
    """What a mirror list that is not whole means for the images."""

    HOLD = "hold"  # nothing is promoted: guests might not find their containers
    GO_ON = "go-on"


class Firmware(Word):
    """What starts a machine."""

    BIOS = "bios"
    UEFI = "uefi"


class Accelerator(Word):
    """What runs a machine."""

    KVM = "kvm"
    TCG = "tcg"


class Method(Word):
    """How an image's bytes get to Glance; a download by the cloud needs a URL of each file."""

    DIRECT = "direct"
    GLANCE_DIRECT = "glance-direct"


#: The order of the levels: each includes the ones before.
LEVELS = (Level.STATIC, Level.BOOT, Level.AGENT, Level.DATABASE)

#: One word may stand without its list; a number is text here (see yamlmarks.py).
_LIST = {"type": ["array", "string", "number"], "items": {"type": ["string", "number"]}}
_BARE = WithJsonSchema(_LIST)


def _choices(of: type[Word], *more: dict[str, Any]) -> WithJsonSchema:
    """The schema of a list of words, of which one may stand without its list."""
    one = {"anyOf": [{"enum": [str(word) for word in of]}, *more]}
    return WithJsonSchema({"anyOf": [one, {"type": "array", "items": one}]})


Name = Annotated[str, AfterValidator(check_profile_name)]
Text = Annotated[str, AfterValidator(checks.check_text)]
Size = Annotated[
    str,
    BeforeValidator(checks.check_size),
    WithJsonSchema({"type": ["string", "integer"], "examples": ["600M", "2G"]}),
]
Percent = Annotated[
    str,
    BeforeValidator(checks.check_percent),
    WithJsonSchema({"type": "string", "examples": ["20%"]}),
]
Age = Annotated[
    str,
    BeforeValidator(checks.check_age),
    WithJsonSchema({"type": "string", "examples": ["7d", "12h"]}),
]
Wait = Annotated[
    str,
    BeforeValidator(checks.check_wait),
    WithJsonSchema({"type": "string", "examples": ["60s", "5m"]}),
]
Words = Annotated[tuple[Text, ...], BeforeValidator(words), AfterValidator(checks.unique), _BARE]
Labels = Annotated[
    tuple[Annotated[str, AfterValidator(checks.check_label)], ...],
    BeforeValidator(words),
    AfterValidator(checks.unique),
    _BARE,
]
Label = Annotated[str, AfterValidator(checks.check_label)]
Packages = Annotated[
    tuple[Annotated[str, AfterValidator(checks.check_packages)], ...],
    BeforeValidator(words),
    AfterValidator(checks.unique),
    _BARE,
]
#: 8.4 is text in any case; 11 would be a number.
Version = Annotated[
    Text,
    BeforeValidator(checks.check_version),
    WithJsonSchema({"type": ["string", "number"], "examples": ["8.4", 17]}),
]
Cloud = Annotated[str, AfterValidator(checks.check_cloud)]
#: Closed choices, of which one may stand without its list.
SeriesList = Annotated[
    tuple[Series, ...],
    BeforeValidator(words),
    AfterValidator(checks.unique),
    _choices(Series, {"type": "number"}),
]
Arches = Annotated[
    tuple[Arch, ...], BeforeValidator(words), AfterValidator(checks.unique), _choices(Arch)
]
Networks = Annotated[
    tuple[Network, ...], BeforeValidator(words), AfterValidator(checks.unique), _choices(Network)
]
Firmwares = Annotated[
    tuple[Firmware, ...], BeforeValidator(words), AfterValidator(checks.unique), _choices(Firmware)
]
Properties = Annotated[
    dict[str, Annotated[str, BeforeValidator(checks.check_property)]],
    WithJsonSchema(
        {
            "type": "object",
            "additionalProperties": {"type": ["string", "number", "boolean", "null"]},
        }
    ),
]
