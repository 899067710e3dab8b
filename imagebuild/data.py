"""Where the files are that travel with the tool: elements, profiles and lock files.

In an installed wheel they lie inside the package (`imagebuild/share`); in a source
checkout, which an editable install uses, elements and profiles are at the top level.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def _shared(name: str) -> Path:
    packed = _PACKAGE / "share" / name
    return packed if packed.is_dir() else _PACKAGE.parent / name


def elements_dir() -> Path:
    """Directory of our own diskimage-builder elements."""
    return _shared("elements")


def profiles_dir() -> Path:
    """Directory of the profiles that come with the tool."""
    return _shared("profiles")


def locks_dir() -> Path:
    """Directory of the guest agent's lock files, one per Trove series and guest Python."""
    return _PACKAGE / "locks"
