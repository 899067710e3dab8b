"""What of the environment the verbs of a pipeline get.

A pipeline's file says what is done, so IMAGEBUILD_TAG, IMAGEBUILD_UNVERIFIED and the like of the
caller's shell are not for its children. What they keep says where a runner is: its archive, its
registry, and whatever else of a profile it overrides, which `pipeline plan` goes by, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from imagebuild.cli.options import FLAG_VARIABLES

_PREFIX = "IMAGEBUILD_"
_KEPT = frozenset({
    *FLAG_VARIABLES, "IMAGEBUILD_SET", "IMAGEBUILD_PROFILES_PATH", "IMAGEBUILD_MIRROR_TARGET",
    "IMAGEBUILD_ACCEL", "IMAGEBUILD_DEBUG",
})  # fmt: skip
#: What `pipeline run` itself hears, or hands on as options; and the launcher's own.
_OWN = frozenset(
    f"{_PREFIX}{name}"
    for name in (
        "CACHE_DIR", "IMAGES_DIR", "REPORTS", "STORE", "STORE_SIZE", "STORE_REMOTE", "JSON",
        "DRY_RUN", "VERBOSE", "QUIET", "NO_COLOR", "WAIT", "ERROR_FILE", "PYTHON", "WHEELHOUSE",
    )
)  # fmt: skip


def for_children(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment without what would change what a pipeline's file says."""
    return {k: v for k, v in environ.items() if not k.startswith(_PREFIX) or k in _KEPT}


def unheard(environ: Mapping[str, str]) -> Sequence[str]:
    """The variables that somebody may mean to be heard."""
    names = (k for k, v in environ.items() if k.startswith(_PREFIX) and v)
    return sorted(
        n for n in names if n not in _KEPT | _OWN and not n.startswith(f"{_PREFIX}PIPELINE_")
    )
