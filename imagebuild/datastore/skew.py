"""The guard against an image whose guest agent is of another series than the control plane.

Agent and control plane speak to each other in the RPC of one release; upstream tests no
other pair. Trove's API does not tell its version (its version document is "v1.0" since
2012), so the operator says it, or `trove-manage --version` does.
"""

from __future__ import annotations

from dataclasses import dataclass

from imagebuild.agent.series import get_series, series_of_version
from imagebuild.datastore.resolution import Candidate
from imagebuild.errors import PolicyError


@dataclass(frozen=True)
class ControlSeries:
    """The control plane's series, "2025.2" say, and who says so, for people."""

    series: str
    source: str

    @classmethod
    def of_option(cls, name: str) -> ControlSeries:
        """As the operator says. Raises ConfigError for a series that is not known."""
        return cls(get_series(name).name, "--control-plane-series")

    @classmethod
    def of_version(cls, version: str, source: str) -> ControlSeries:
        """From the version of a trove package. Raises ConfigError for an unknown one."""
        return cls(series_of_version(version).name, source)


def check_skew(image: Candidate, control: ControlSeries | None) -> str | None:
    """None when the image's agent is of the control plane's series; a note when that cannot
    be told. Raises PolicyError when it is of another.
    """
    agent = image.agent_series
    if not agent:
        return f"{image.label} does not say which series its guest agent is of"
    if control is None:
        return (
            f"the agent of {image.label} is of {agent}; the control plane's series is not known "
            "(--control-plane-series)"
        )
    if agent == control.series:
        return None
    raise PolicyError(
        f"the image's guest agent is of {agent}, the control plane of {control.series}",
        where=image.label,
        detail=f"agent: trove {image.agent_version or 'of unknown version'}\n"
        f"control plane: {control.series}, says {control.source}",
        hint=f"use an image that was built with --trove-series {control.series}",
    )
