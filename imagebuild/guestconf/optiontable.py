"""The options that each series of Trove knows, libraries' ones included: options.json."""

from __future__ import annotations

import difflib
import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagebuild.agent.series import get_series
from imagebuild.errors import ConfigError

_FILE = Path(__file__).with_name("options.json")
#: As near as a word must be to be the one that was meant; difflib's ratio.
_NEAR = 0.75


@dataclass(frozen=True)
class Option:
    """An option: `type` as oslo.config names it (integer, boolean, list, …), in small letters.

    `was` are further names that it is read by, as GROUP.NAME.
    """

    group: str
    name: str
    type: str
    was: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class OptionTable:
    """All options of one series, by group and name."""

    series: str
    groups: Mapping[str, Mapping[str, Option]]

    @functools.cached_property
    def _former(self) -> dict[str, Option]:
        return {
            was: option for group in self.groups.values() for option in group.values()
            for was in option.was
        }  # fmt: skip

    def find(self, group: str, name: str) -> Option | None:
        """The option that a line in a file sets, by whichever of its names."""
        known = self.groups.get(group, {})
        return known.get(name) or known.get(name.replace("-", "_")) or self._former.get(
            f"{group}.{name}"
        )  # fmt: skip

    def require(self, group: str, name: str) -> None:
        """Raise ConfigError when the series has no such option."""
        if self.find(group, name) is None:
            raise ConfigError(
                f"Trove of {self.series} has no option {name}",
                where=f"[{group}] {name}",
                hint="leave it out, or choose the series that the control plane runs",
            )

    def nearest_group(self, group: str) -> str:
        """The group that was perhaps meant, or ""."""
        small = {name.lower(): name for name in self.groups}
        found = difflib.get_close_matches(group.lower()[:100], small, n=1, cutoff=_NEAR)
        return small[found[0]] if found else ""

    def nearest(self, group: str, name: str) -> tuple[str, str]:
        """Group and name of the option that was perhaps meant; ("", "") when there is none.

        The same name in another group comes first: that is what people mix up.
        """
        elsewhere = [g for g in ("DEFAULT", *sorted(self.groups)) if name in self.groups.get(g, {})]
        if elsewhere:
            return elsewhere[0], name
        known = self.groups.get(group, {})
        found = difflib.get_close_matches(name.lower()[:100], known, n=1, cutoff=_NEAR)
        return (group, found[0]) if found else ("", "")


@functools.cache
def _document() -> dict[str, Any]:
    return json.loads(_FILE.read_text())  # type: ignore[no-any-return]


@functools.cache
def option_table(series: str) -> OptionTable:
    """The table of a series. Raises ConfigError for an unknown one."""
    name = get_series(series).name
    groups = {
        group: {
            option: Option(
                group,
                option,
                _type(entry["type"], name),
                tuple(entry.get("was", ())),
                tuple(entry.get("choices", ())),
            )
            for option, entry in options.items()
            if name in entry.get("series", (name,))
        }
        for group, options in _document()["groups"].items()
    }
    return OptionTable(name, {group: options for group, options in groups.items() if options})


def _type(told: str | Mapping[str, str], series: str) -> str:
    """An option's type; it may have changed from one series to the next."""
    return told if isinstance(told, str) else told[series]
