"""The error of a verb, as a document for who has started it: $IMAGEBUILD_ERROR_FILE.

A verb that fails says why as text, for people. Whoever runs it as a child and sets the
variable finds the same there, as ImagebuildError.to_json has it; after a verb that did not
fail the file is not there.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from imagebuild.errors import ImagebuildError

VARIABLE = "IMAGEBUILD_ERROR_FILE"


def write(error: ImagebuildError, environ: Mapping[str, str] | None = None) -> None:
    """Write it, whole or not at all, where somebody wants it. What hinders that is no reason
    to hide the error itself.
    """
    name = (os.environ if environ is None else environ).get(VARIABLE)
    if not name:
        return
    path = Path(name)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    # Bytes of names that are no UTF-8 stand as lone surrogates: \udcXX in JSON.
    text = json.dumps(error.to_json(), indent=2)
    with contextlib.suppress(OSError):
        try:
            partial.write_text(text + "\n", encoding="ascii")
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def clear(environ: Mapping[str, str] | None = None) -> None:
    """Remove what an earlier verb has left there."""
    name = (os.environ if environ is None else environ).get(VARIABLE)
    if name:
        with contextlib.suppress(OSError):
            Path(name).unlink(missing_ok=True)
