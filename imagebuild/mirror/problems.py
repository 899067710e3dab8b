"""Ends of items that are not their own fault, as errors; `result.outcome_of` reads them."""

from __future__ import annotations

from imagebuild.errors import PublishError


class MissingError(PublishError):
    """The source does not have what the list asks for: the outcome is MISSING."""


class GivenUpError(PublishError):
    """Not tried, since its registry does not serve anybody: the outcome is SKIPPED."""
