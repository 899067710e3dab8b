"""Licences: certain ones only."""

from __future__ import annotations

from email.message import Message

import pytest

from imagebuild import licences

FORMAT = "https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/"


def dep5(*named: str, header: str = FORMAT) -> str:
    files = "".join(
        f"\nFiles: {n}\nCopyright: me\nLicense: {name}\n text\n" for n, name in enumerate(named)
    )
    return f"Format: {header}\n{files}\nLicense: Unknown-1\n stands alone\n"


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        (["Expat"], "MIT"),
        (["GPL-2+"], "GPL-2.0-or-later"),
        (["GPL-2"], "GPL-2.0-only"),
        (["LGPL-2.1+", "LGPL-2.1+"], "LGPL-2.1-or-later"),
        (["GFDL-NIV-1.3+"], "GFDL-1.3-no-invariants-or-later"),
        (["BSD-3-clause", "Apache-2.0"], "Apache-2.0 AND BSD-3-Clause"),
        (["GPL-2+ or Expat", "Zlib"], "(GPL-2.0-or-later OR MIT) AND Zlib"),
        # `and` binds before `or`, and a comma after both.
        (["Expat or ISC and Zlib"], "MIT OR (ISC AND Zlib)"),
        (["Expat or ISC, and Zlib"], "(MIT OR ISC) AND Zlib"),
        # What SPDX does not know, or what several texts are called by.
        (["MIT"], ""),
        (["Artistic"], ""),
        (["GPL"], ""),
        (["BSD-3-clause-with-weird-numbering"], ""),
        (["GPL-2+ with OpenSSL exception"], ""),
        (["Expat", "unheard-of"], ""),
        (["Expat or unheard-of"], ""),
        ([], ""),
    ],
)
def test_copyright_files(named: list[str], expected: str) -> None:
    assert licences.of_copyright(dep5(*named)) == expected


def test_other_copyright_files_say_nothing_certain() -> None:
    assert licences.of_copyright(dep5("Expat", header="http://example.org/1")) == ""
    assert licences.of_copyright("This is GPL-2+, see /usr/share/common-licenses") == ""
    assert licences.of_copyright("") == ""
    assert licences.of_copyright(f"Format: {FORMAT}\n\nFiles: *\nCopyright: me\n") == ""


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"License-Expression": "MIT AND PSF-2.0"}, "MIT AND PSF-2.0"),
        ({"License-Expression": "LicenseRef-Own"}, ""),
        ({"License": "Apache-2.0"}, "Apache-2.0"),
        ({"License": "Apache License, Version 2.0"}, "Apache-2.0"),
        ({"License": "BSD", "Classifier": "License :: OSI Approved :: BSD License"}, ""),
        ({"License": "see file", "Classifier": "License :: OSI Approved :: MIT License"}, "MIT"),
        # PEP 639: it stands for any version of it.
        ({"Classifier": "License :: OSI Approved :: Apache Software License"}, ""),
        ({"License": "Permission is hereby granted, " * 50}, ""),
        ({}, ""),
    ],
)
def test_python_metadata(fields: dict[str, str], expected: str) -> None:
    message = Message()
    for name, value in fields.items():
        message[name] = value
    assert licences.of_python(message) == expected


def test_two_classifiers_leave_it_open() -> None:
    message = Message()
    message["Classifier"] = "License :: OSI Approved"
    message["Classifier"] = "License :: OSI Approved :: MIT License"
    assert licences.of_python(message) == "MIT"
    message["Classifier"] = "License :: OSI Approved :: BSD License"
    assert licences.of_python(message) == ""
