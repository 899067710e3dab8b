"""The guard against agents of another series than the control plane's."""

from __future__ import annotations

import pytest

from imagebuild.cloud.images import Image
from imagebuild.datastore.resolution import Candidate
from imagebuild.datastore.skew import ControlSeries, check_skew
from imagebuild.errors import ConfigError, PolicyError


def candidate(**properties: str) -> Candidate:
    document = {
        "id": "11111111-1111-4111-8111-111111111111", "name": "guest", "status": "active",
        "visibility": "private", "owner": "us", "created_at": "2026-01-02T03:04:05Z",
        "updated_at": "2026-01-02T03:04:05Z",
    }  # fmt: skip
    return Candidate(Image.of(document | properties), is_foreign=False)


IMAGE = candidate(imagebuild_agent_series="2025.2", imagebuild_agent_version="24.1.0")


def test_the_same_series_passes() -> None:
    assert check_skew(IMAGE, ControlSeries.of_option("2025.2")) is None
    assert check_skew(IMAGE, ControlSeries.of_version("24.0.1.dev7", "it")) is None


@pytest.mark.parametrize("series", ["2025.1", "2026.1"])
def test_another_series_is_refused(series: str) -> None:
    with pytest.raises(PolicyError) as caught:
        check_skew(IMAGE, ControlSeries.of_option(series))
    assert caught.value.what == (
        f"the image's guest agent is of 2025.2, the control plane of {series}"
    )
    assert "trove 24.1.0" in caught.value.detail
    assert f"--trove-series {series}" in caught.value.hint


def test_what_is_not_known_is_noted() -> None:
    note = check_skew(IMAGE, None)
    assert note
    assert "--control-plane-series" in note
    note = check_skew(candidate(), ControlSeries.of_option("2025.2"))
    assert note == "guest (11111111) does not say which series its guest agent is of"


def test_a_control_plane_of_an_unknown_release() -> None:
    with pytest.raises(ConfigError, match="no Trove series"):
        ControlSeries.of_option("2019.1")
    with pytest.raises(ConfigError, match="not of a supported series"):
        ControlSeries.of_version("12.0.0", "it")
