"""The series of Trove that can be put into an image, and the Pythons that they run on."""

from __future__ import annotations

from dataclasses import dataclass

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from imagebuild.errors import ConfigError

#: Pythons of the supported guest releases that have lock files: jammy, bookworm, noble.
PYTHONS = ("3.10", "3.11", "3.12")


@dataclass(frozen=True)
class Series:
    """One coordinated release of OpenStack, as far as Trove is concerned.

    `requires_python` is what that major of trove declares on PyPI; `constraints` names
    the file in scripts/upper-constraints and `constraints_commit` the commit of
    openstack/requirements that it was taken from.
    """

    name: str
    major: int
    requires_python: str
    constraints: str
    constraints_commit: str

    @property
    def pythons(self) -> tuple[str, ...]:
        """The guest Pythons that this series runs on, oldest first."""
        allowed = SpecifierSet(self.requires_python)
        return tuple(p for p in PYTHONS if p in allowed)


#: Oldest first.
SERIES = (
    Series("2025.1", 23, ">=3.9", "2025.1.txt", "19088b84"),
    Series("2025.2", 24, ">=3.10", "2025.2.txt", "0e88245f"),
    Series("2026.1", 25, ">=3.10", "2026.1.txt", "0190a07f"),
    Series("2026.2", 26, ">=3.11", "2026.2.txt", "33536777"),
)


def get_series(name: str) -> Series:
    """The series of that name. Raises ConfigError naming those that exist."""
    for series in SERIES:
        if series.name == name:
            return series
    raise ConfigError(
        f"no Trove series is called {name}",
        where="trove series",
        hint=f"supported: {', '.join(s.name for s in SERIES)}",
    )


def series_for_python(python: str) -> tuple[Series, ...]:
    """The series that a guest Python (like "3.10") can run, oldest first."""
    return tuple(s for s in SERIES if python in s.pythons)


def newest_series(python: str) -> Series:
    """The newest series that a guest Python can run. Raises ConfigError when there is none."""
    fitting = series_for_python(python)
    if not fitting:
        raise _unknown_python(python)
    return fitting[-1]


def series_of_version(version: str) -> Series:
    """The series that a version of trove belongs to, by its major number.

    Raises ConfigError for a version that cannot be read or a major that is not supported.
    """
    try:
        major = Version(version).major
    except InvalidVersion:
        raise ConfigError(
            f"{version} is not a version of trove",
            where=f"trove {version}",
            hint="a version looks like 25.1.0",
        ) from None
    for series in SERIES:
        if series.major == major:
            return series
    known = ", ".join(f"{s.major} ({s.name})" for s in SERIES)
    raise ConfigError(
        f"trove {major} is not of a supported series",
        where=f"trove {version}",
        hint=f"supported majors: {known}",
    )


def check_python(series: Series, python: str, *, release: str = "") -> None:
    """Raise ConfigError when a guest Python cannot run a series, saying which series it can.

    `release` names the guest release for the message, like "ubuntu jammy".
    """
    if python not in PYTHONS:
        raise _unknown_python(python)
    if python not in series.pythons:
        raise unfit_python(f"trove {series.major}", series.requires_python, python, release=release)


def unfit_python(what: str, requires_python: str, python: str, *, release: str = "") -> ConfigError:
    """The error for an agent that the guest's Python cannot run; it names what fits."""
    fitting = series_for_python(python)
    guest = release or "the guest"
    needs = requires_python.replace(" ", "")
    if needs.startswith(">=") and "," not in needs:
        needs = needs[2:]
    return ConfigError(
        f"{what} needs Python {needs}; {guest} has {python} and takes "
        f"{fitting[-1].name if fitting else 'no series'} at most",
        where=what,
        detail=f"series that Python {python} can run: "
        + ", ".join(f"{s.name} (trove {s.major})" for s in fitting),
        hint="choose one of these series, or a guest release with a newer Python",
    )


def _unknown_python(python: str) -> ConfigError:
    return ConfigError(
        f"there are no lock files of the guest agent for Python {python}",
        where="the release's Python",
        hint=f"lock files exist for Python {', '.join(PYTHONS)}",
    )
