"""What GitHub's runner reads: groups and annotations in the log, a summary, outputs of the step.

docs.github.com, "Workflow commands for GitHub Actions".
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imagebuild.pipeline.outcome import RunReport

#: Bytes that a step's summary may have, less something for what others write.
_LONGEST = 900_000


def is_here(environ: Mapping[str, str]) -> bool:
    """Whether GitHub runs us."""
    return environ.get("GITHUB_ACTIONS") == "true"


def group(title: str) -> str:
    """Begins a part of the log that is folded."""
    return f"::group::{_data(title)}"


END_GROUP = "::endgroup::"


def plain(text: str) -> str:
    """What others say, as lines that are no commands: the runner takes `::` at the beginning of
    a line, spaces or not, and `##[` anywhere.
    """
    lines = text.replace("##[", "## [").splitlines()
    return "\n".join(f"| {x}" if x.lstrip().startswith("::") else x for x in lines)


def annotation(kind: str, title: str, text: str) -> str:
    """`kind` is error or warning: it stands above the log, and in the pull request."""
    return f"::{kind} title={_property(title)}::{_data(text)}"


def write_outputs(environ: Mapping[str, str], report: RunReport, summary: Path) -> None:
    """report.md as the step's summary; `artifact` and `build_id` of a run of one image. What
    cannot be written is not missed so much that the step should fail.
    """
    cells = [c for c in report.cells if c.kind == "image" and c.artifact]
    if len(cells) == 1:
        values = {"artifact": cells[0].artifact, "build_id": cells[0].build_id}
        _append(environ.get("GITHUB_OUTPUT"), "".join(_output(k, v) for k, v in values.items()))
    with contextlib.suppress(OSError):
        text = summary.read_bytes()[:_LONGEST].decode(errors="ignore")
        _append(environ.get("GITHUB_STEP_SUMMARY"), text + "\n")


def _append(name: str | None, text: str) -> None:
    if name:
        with contextlib.suppress(OSError), Path(name).open("a", encoding="utf-8") as file:
            file.write(text)


def _output(name: str, value: str) -> str:
    mark = f"end-{uuid.uuid4()}"
    return f"{name}<<{mark}\n{value}\n{mark}\n"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def error_text(error: Mapping[str, Any]) -> str:
    """An error in some lines."""
    lines = [str(error["what"]), *str(error["detail"]).splitlines()[:5]]
    return "\n".join([*lines, *([f"try: {error['hint']}"] if error["hint"] else [])])
