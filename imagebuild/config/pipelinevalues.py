"""What values of a pipeline may be (imagebuild/config/pipeline.py)."""

from __future__ import annotations

from imagebuild.config.values import format_size, parse_size


def check_size(value: object) -> str:
    """A size: 600M, 2G; kept as it is written by `format_size`."""
    return format_size(parse_size(value))
