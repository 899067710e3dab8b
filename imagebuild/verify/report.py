"""What a verification leaves behind: `verify.json`, `junit.xml`, and a timeline for people.

`verify.json` is what publishing reads: which image (by its digest), how far it is proven,
and the verdict. `junit.xml` is what pipelines show.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from imagebuild.errors import ConfigError, ExitCode
from imagebuild.manifest import VERIFICATION
from imagebuild.verify.results import Check, Level, Outcome, Run, verdict
from imagebuild.xmltext import plain

FILE_NAME = VERIFICATION
JUNIT_NAME = "junit.xml"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Subject:
    """The image that was verified. The digests are of the file: by `sha256` artifacts know it,
    `sha512` is what Glance makes of it when it is uploaded. The rest is None for an image
    that belongs to no artifact.
    """

    image: Path
    format: str
    size: int
    sha256: str
    sha512: str
    name: str | None = None
    build_id: str | None = None
    dev: bool = False

    def to_json(self) -> dict[str, Any]:
        """Shape used in verify.json: no path, for artifacts move."""
        return {
            "file": self.image.name,
            "format": self.format,
            "size": self.size,
            "sha256": self.sha256,
            "sha512": self.sha512,
            "name": self.name,
            "build_id": self.build_id,
            "dev": self.dev,
        }


@dataclass(frozen=True)
class Report:
    """The whole of a verification.

    `asked` is the level that was wanted; `started` a time in ISO 8601, `seconds` how long
    it took; `versions` are those of the programs that took part.
    """

    subject: Subject
    asked: Level
    started: str
    seconds: float
    checks: Sequence[Check]
    runs: Sequence[Run] = ()
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def verdict(self) -> Outcome:
        """One word for all checks."""
        return verdict(self.checks)

    @property
    def proven(self) -> Level | None:
        """The highest level of which, and below which, no check failed or could not tell.

        A level of which nothing was answered is not proven.
        """
        best = None
        for level in Level:
            answers = [c.outcome for c in self.checks if c.level is level]
            if not {Outcome.PASSED, Outcome.WARNING} & set(answers):
                break
            if {Outcome.FAILED, Outcome.UNKNOWN} & set(answers):
                break
            best = level
        return best

    @property
    def exit_code(self) -> ExitCode:
        """5 when the image is bad, 4 when this host cannot tell, else 0."""
        by_verdict = {Outcome.FAILED: ExitCode.VERIFY, Outcome.UNKNOWN: ExitCode.PREFLIGHT}
        return by_verdict.get(self.verdict, ExitCode.OK)

    def to_json(self) -> dict[str, Any]:
        """The document verify.json."""
        return {
            "schema_version": SCHEMA_VERSION,
            "image": self.subject.to_json(),
            "verdict": self.verdict.value,
            "asked": self.asked.label,
            "proven": self.proven.label if self.proven else None,
            "started": self.started,
            "seconds": round(self.seconds, 1),
            "versions": dict(self.versions),
            "checks": [c.to_json() for c in self.checks],
            "runs": [r.to_json() for r in self.runs],
        }


def write(report: Report, directory: Path) -> tuple[Path, Path]:
    """Write verify.json and junit.xml into a directory, each whole or not at all.

    Raises ConfigError when it cannot be written to.
    """
    text = json.dumps(report.to_json(), indent=2, ensure_ascii=False) + "\n"
    # Lone surrogates stand for bytes of names in the image that are no UTF-8.
    document = text.encode("utf-8", "backslashreplace")
    return (
        _place(directory / FILE_NAME, document),
        _place(directory / JUNIT_NAME, junit(report)),
    )


def junit(report: Report) -> bytes:
    """The checks in the form that Jenkins, GitLab, Zuul and GitHub's actions read.

    A suite a level, a case a check: `failure` is a bad image, `error` a host that cannot
    tell. The form is that of Ant's JUnit report, as Jenkins' junit plugin documents it.
    """
    root = ET.Element("testsuites", name="imagebuild verify")
    for level in Level:
        checks = [c for c in report.checks if c.level is level]
        if not checks:
            continue
        suite = ET.SubElement(
            root, "testsuite", name=level.label, tests=str(len(checks)),
            failures=_count(checks, Outcome.FAILED), errors=_count(checks, Outcome.UNKNOWN),
            skipped=_count(checks, Outcome.SKIPPED), timestamp=report.started,
            time=f"{sum(c.seconds or 0 for c in checks):.3f}",
        )  # fmt: skip
        for check in checks:
            _add_case(suite, check, report.subject.name or report.subject.image.name)
    ET.indent(root)
    text: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


_ELEMENTS = {
    Outcome.FAILED: "failure",
    Outcome.UNKNOWN: "error",
    Outcome.SKIPPED: "skipped",
}


def _add_case(suite: ET.Element, check: Check, image: str) -> None:
    case = ET.SubElement(
        suite, "testcase", classname=plain(f"{image}.{check.level.label}"),
        name=plain(check.name), time=f"{check.seconds or 0:.3f}",
    )  # fmt: skip
    text = "\n".join(explanation(check))
    if name := _ELEMENTS.get(check.outcome):
        inner = ET.SubElement(case, name, message=plain(check.what))
        inner.text = plain(text)
    elif check.outcome is Outcome.WARNING:
        ET.SubElement(case, "system-out").text = plain(f"warning: {check.what}\n{text}")


def explanation(check: Check) -> list[str]:
    """What stands below a check that did not pass: evidence, cause, what to try."""
    lines = list(check.evidence)
    if check.cause:
        lines += [f"cause: {check.cause.title}", check.cause.text]
        lines += [f"try: {a}" for a in check.cause.advice]
    if check.hint:
        lines.append(f"try: {check.hint}")
    return lines


def timeline(run: Run, width: int = 40) -> list[tuple[str, str, str]]:
    """`(milestone, time, bar)` of one machine, in the order of time.

    The bar shows from when to when the machine was on its way to the milestone.
    """
    marks = sorted(run.milestones, key=lambda m: m.seconds)
    whole = marks[-1].seconds if marks else 0
    rows, before = [], 0.0
    for mark in marks:
        start = int(before / whole * width) if whole else 0
        end = max(start + 1, round(mark.seconds / whole * width)) if whole else 1
        rows.append((mark.name, f"{mark.seconds:.1f} s", " " * start + "━" * (end - start)))
        before = mark.seconds
    return rows


def _count(checks: Sequence[Check], outcome: Outcome) -> str:
    return str(sum(c.outcome is outcome for c in checks))


def _place(path: Path, content: bytes) -> Path:
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            Path(name).chmod(0o644)
            Path(name).replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(name).unlink()
            raise
    except OSError as exc:
        raise ConfigError(
            "the result of the verification cannot be written",
            where=str(path),
            detail=str(exc),
            hint="--report DIR chooses another directory",
        ) from exc
    return path
