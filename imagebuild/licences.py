"""Licences of packages as SPDX expressions, where they are certain; else an empty text."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from email.message import Message

from license_expression import ExpressionError, Licensing, get_spdx_licensing

from imagebuild import debian

_FORMAT = re.compile(r"https?://www\.debian\.org/doc/packaging-manuals/copyright-format/1\.0/?$")
#: Short names of the copyright format that SPDX calls otherwise (its section "Short names").
#: "MIT" is left out: the format itself says that it stands for several texts.
_SHORT_NAMES = {
    "apache-2.0": "Apache-2.0",
    "bsd-2-clause": "BSD-2-Clause",
    "bsd-3-clause": "BSD-3-Clause",
    "bsd-4-clause": "BSD-4-Clause",
    "cc0": "CC0-1.0",
    "expat": "MIT",
    "zlib": "Zlib",
}
_AMBIGUOUS = {"mit", "x11", "artistic", "python", "perl", "gfdl"}
#: GPL-2+, LGPL-2.1, GFDL-NIV-1.3+; the GNU licences are the ones that SPDX names by
#: "only" and "or later".
_GNU = re.compile(r"(AGPL|LGPL|GPL|GFDL|GFDL-NIV)-(\d)(?:\.(\d))?(\+?)", re.IGNORECASE)

_WORD = re.compile(r"[^\s()]+")

#: What the field License of a Python distribution says, and means beyond doubt.
_PYTHON_NAMES = {
    "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "isc license": "ISC",
    "mit license": "MIT",
    "the mit license": "MIT",
}
#: Trove classifiers that stand for one licence (PEP 639 lists those that do not).
_CLASSIFIERS = {
    "GNU Affero General Public License v3": "AGPL-3.0-only",
    "GNU Affero General Public License v3 or later (AGPLv3+)": "AGPL-3.0-or-later",
    "GNU General Public License v2 (GPLv2)": "GPL-2.0-only",
    "GNU General Public License v2 or later (GPLv2+)": "GPL-2.0-or-later",
    "GNU General Public License v3 (GPLv3)": "GPL-3.0-only",
    "GNU General Public License v3 or later (GPLv3+)": "GPL-3.0-or-later",
    "GNU Lesser General Public License v2 or later (LGPLv2+)": "LGPL-2.0-or-later",
    "GNU Lesser General Public License v3 (LGPLv3)": "LGPL-3.0-only",
    "GNU Lesser General Public License v3 or later (LGPLv3+)": "LGPL-3.0-or-later",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "MIT No Attribution License (MIT-0)": "MIT-0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
    "Zope Public License": "ZPL-2.1",
    "zlib/libpng License": "Zlib",
}


def of_copyright(text: str) -> str:
    """The licence that a Debian copyright file declares: of all its files together.

    Certain only in the machine-readable format 1.0 (DEP-5), and when SPDX knows each of the
    licences named there.
    """
    header, *rest = list(debian.paragraphs(text)) or [{}]
    if not _FORMAT.match(header.get("Format", "")):
        return ""
    files = [p for p in rest if "Files" in p]
    if not files or not all("License" in p for p in files):
        return ""
    named = [p["License"] for p in [header, *files] if "License" in p]
    return _together(_synopsis(value.split("\n")[0].strip()) for value in named)


def of_expression(text: str) -> str:
    """What is meant to be an SPDX expression, in SPDX's own writing; empty when it is none."""
    return _known(text)


def of_python(metadata: Message) -> str:
    """The licence of a Python distribution: License-Expression, License, or its classifier."""
    expression = str(metadata.get("License-Expression", "")).strip()
    if expression:
        return _known(expression)
    field = str(metadata.get("License", "")).strip()
    if found := _PYTHON_NAMES.get(field.lower()) or _known(field):
        return found
    prefix = "License :: "
    named = [str(c) for c in metadata.get_all("Classifier", []) if str(c).startswith(prefix)]
    last = {c.split(" :: ")[-1] for c in named} - {"OSI Approved"}
    return _CLASSIFIERS.get(last.pop(), "") if len(last) == 1 else ""


def _together(found: Iterable[str]) -> str:
    """All of them at once; empty when one is not certain."""
    parts = sorted(set(found))
    if not parts or "" in parts:
        return ""
    if len(parts) == 1:
        return parts[0]
    return _known(" AND ".join(f"({p})" if " OR " in p else p for p in parts))


def _synopsis(text: str) -> str:
    """The first line of a field License. Its `and` binds before `or`, a comma after both."""
    for separator, word in ((", and ", "AND"), (", or ", "OR"), (" or ", "OR"), (" and ", "AND")):
        if separator in text:
            parts = [_synopsis(part.strip()) for part in text.split(separator)]
            if "" in parts:
                return ""
            return f" {word} ".join(f"({p})" if " " in p else p for p in parts)
    return _one(text)


def _one(name: str) -> str:
    if match := _GNU.fullmatch(name):
        family, major, minor, later = match.groups()
        family = family.upper().replace("GFDL-NIV", "GFDL")
        wording = "-no-invariants" if "NIV" in name.upper() else ""
        suffix = "or-later" if later else "only"
        return _known(f"{family}-{major}.{minor or 0}{wording}-{suffix}")
    if name.lower() in _AMBIGUOUS:
        return ""
    return _SHORT_NAMES.get(name.lower()) or (_known(name) if " " not in name else "")


@functools.cache
def _known(text: str) -> str:
    """The expression in SPDX's own writing, each licence once; empty unless all are known."""
    # More than an expression is a licence's whole text.
    if not text or len(text) > 400:
        return ""
    licensing = _licensing()
    try:
        parsed = licensing.parse(text, validate=True, strict=True)
    except (ExpressionError, ValueError, TypeError):
        return ""
    if parsed is None:
        return ""
    # The library knows other names, too ("GPL" as any version of it): those are guesses.
    words = {w.lower() for w in _WORD.findall(text)} - {"and", "or", "with"}
    if words != {k.lower() for k in licensing.license_keys(parsed)}:
        return ""
    expression = str(licensing.dedup(parsed))
    return "" if "LicenseRef" in expression else expression


@functools.cache
def _licensing() -> Licensing:
    return get_spdx_licensing()
