"""Which of a repository's tags a rule means: lists, regular expressions, ranges of versions.

A tag is a version when it says nothing else: `8.4.6` and `v17`, and `12rc1` where a range asks
for releases before the final one. `8.4-oracle` and `11.4-noble` are variants, `8.4-1` another
packaging of a version: no range finds them, a regular expression does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from imagebuild.config.mirrorlist import TagRule


def version_of(tag: str) -> Version | None:
    """The version that a tag is (PEP 440), None for a tag that is more or less than that."""
    try:
        version = Version(tag)
    except InvalidVersion:
        return None
    # PEP 440 reads 8.4-1 as a post-release: of a tag it is a variant's number.
    return None if version.is_postrelease or version.is_devrelease else version


def find(rule: TagRule, tags: Sequence[str]) -> tuple[str, ...]:
    """The tags that the rule finds, newest first; what is no version comes last.

    `newest` counts versions alone.
    """
    found = [tag for tag in dict.fromkeys(tags) if _fits(rule, tag)] if rule.asks else []
    found.sort(key=_by_version, reverse=True)
    if rule.newest is not None:
        found = [tag for tag in found if version_of(tag) is not None][: rule.newest]
    return tuple(found)


def _fits(rule: TagRule, tag: str) -> bool:
    if rule.regex is not None and not re.fullmatch(rule.regex, tag):
        return False
    version = version_of(tag)
    if rule.versions is None:
        # The newest of all is a release; who asks for others by a pattern gets them.
        return rule.newest is None or rule.regex is not None or not _is_early(version)
    allowed = SpecifierSet(rule.versions)
    if version is None or (_is_early(version) and not allowed.prereleases):
        return False
    return allowed.contains(version, prereleases=True)


def _is_early(version: Version | None) -> bool:
    """Whether it was made before the release of this number."""
    return version is not None and version.is_prerelease


def _by_version(tag: str) -> tuple[bool, Version, int, str]:
    version = version_of(tag)
    # Of 8.4 and 8.4.0, which are one version, the longer tag is the more exact.
    return version is not None, version or Version("0"), len(tag), tag
