"""junit.xml: each phase, each stage of a build and each check of an image a case.

The form is that of Ant's JUnit report as Jenkins' junit plugin documents it
(src/main/resources/hudson/tasks/junit in its repository) and GitLab's unit test reports read it.

    testsuite    ID of the cell; `run` for the run as a whole
    classname    PIPELINE.ID for phases, PIPELINE.ID.build for stages, PIPELINE.ID.LEVEL for
                 checks: the same every night, so that an engine can tell what is new
    failure      the image is bad, a policy says no, a step failed
    error        this host, or something outside, could not: exit codes 4, 75, 130, 143
    skipped      not asked for, published already, or held by what failed before
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any
from xml.etree import ElementTree as ET

from imagebuild.errors import ExitCode
from imagebuild.pipeline.cells import Phase
from imagebuild.pipeline.outcome import GOOD, CellReport, PhaseReport, RunReport, Status
from imagebuild.xmltext import plain

#: Characters of a message and of a text: engines read the whole file into memory.
_MESSAGE, _TEXT = 500, 20_000
#: Codes that say nothing of the image.
_ERRORS = (ExitCode.PREFLIGHT, ExitCode.TEMPORARY, ExitCode.INTERRUPTED, ExitCode.TERMINATED)
_OUTCOMES = {"failed": "failure", "unknown": "error", "skipped": "skipped"}


def render(report: RunReport, earlier: Sequence[RunReport] = ()) -> str:  # noqa: ARG001
    """The file's text. Pure; `earlier` is what other files of a report need."""
    root = ET.Element("testsuites", name=_plain(f"imagebuild pipeline {report.pipeline}"))
    _add_run(root, report)
    for cell in report.cells:
        _add_cell(root, report, cell)
    for name in ("tests", "failures", "errors"):
        root.set(name, str(sum(int(s.get(name, "0")) for s in root)))
    root.set("time", f"{report.seconds:.3f}")
    ET.indent(root)
    text = ET.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _add_run(root: ET.Element, report: RunReport) -> None:
    """One case for the whole: a run that was killed has nothing but good cells, maybe."""
    suite = _suite(root, "run", report, report.started)
    case = _case(suite, f"{_part(report.pipeline)}.run", "complete", report.seconds)
    if not report.complete:
        _add(case, "error", "the run did not come to its end", "it was killed, or goes on")
    elif report.exit_code and all(c.status in GOOD for c in report.cells):
        _add(case, "failure", f"the run's exit code is {int(report.exit_code)}", "")
    _count(suite, report.seconds)


def _add_cell(root: ET.Element, report: RunReport, cell: CellReport) -> None:
    started = min((p.started for p in cell.phases if p.started), default=report.started)
    suite = _suite(root, cell.id, report, started)
    name = f"{_part(report.pipeline)}.{_part(cell.id)}"
    for phase in cell.phases:
        _add_phase(suite, name, phase)
        if phase.phase is Phase.BUILD:
            _add_stages(suite, name, cell, phase)
        elif phase.phase is Phase.VERIFY:
            _add_checks(suite, name, cell, phase)
    _count(suite, sum(p.seconds for p in cell.phases))


def _add_phase(suite: ET.Element, classname: str, phase: PhaseReport) -> None:
    case = _case(suite, classname, f"{phase.phase.value} {phase.target}".rstrip(), phase.seconds)
    if phase.status in (Status.SKIPPED, Status.HELD):
        _add(case, "skipped", phase.why or phase.status.value, "")
    elif phase.status not in GOOD:
        error = phase.error or {}
        what = str(error.get("what") or phase.status.value)
        is_error = phase.status is Status.INTERRUPTED or phase.exit_code in _ERRORS
        lines = [str(error.get(k) or "") for k in ("where", "detail")]
        lines += [f"try: {error['hint']}"] if error.get("hint") else []
        lines.append(f"exit code {int(phase.exit_code)}")
        _add(case, "error" if is_error else "failure", what, "\n".join(filter(None, lines)))
    said = [" ".join(phase.command)] if phase.command else []
    said += [f"log: {phase.log}"] if phase.log else []
    said += [f"{len(phase.attempts)} tries"] if len(phase.attempts) > 1 else []
    said += [f"warning: {w}" for w in phase.warnings]
    if said:
        ET.SubElement(case, "system-out").text = _plain("\n".join(said))[:_TEXT]


def _add_stages(suite: ET.Element, name: str, cell: CellReport, build: PhaseReport) -> None:
    """The stages of tonight's build; those of an image that stood there took no time."""
    if build.status not in (Status.PASSED, Status.UNCHANGED):
        return
    for stage, seconds, is_reused in (cell.image or {}).get("stages", ()):
        took = seconds if build.status is Status.PASSED else 0.0
        case = _case(suite, f"{name}.build", stage, took)
        if is_reused or build.status is Status.UNCHANGED:
            ET.SubElement(case, "system-out").text = "from the store: not run again"


def _add_checks(suite: ET.Element, name: str, cell: CellReport, verify: PhaseReport) -> None:
    """What verify.json says; of an image that was proven before, no time was taken."""
    if verify.status not in (Status.PASSED, Status.UNCHANGED, Status.FAILED):
        return
    for check in (cell.image or {}).get("checks", ()):
        took = 0.0 if verify.status is Status.UNCHANGED else check.get("seconds") or 0.0
        case = _case(suite, f"{name}.{_part(check['level'])}", check["name"], took)
        lines = [*check.get("evidence", ())]
        lines += [f"try: {check['hint']}"] if check.get("hint") else []
        if kind := _OUTCOMES.get(check["outcome"]):
            _add(case, kind, check["what"], "\n".join(lines))
        elif check["outcome"] == "warning":
            text = "\n".join([f"warning: {check['what']}", *lines])
            ET.SubElement(case, "system-out").text = _plain(text)[:_TEXT]


def _suite(root: ET.Element, name: str, report: RunReport, started: float) -> ET.Element:
    # Without a zone, as the schema has it; UTC.
    when = datetime.fromtimestamp(started, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
    suite = ET.SubElement(root, "testsuite", name=_plain(name), timestamp=when)
    if report.host:
        suite.set("hostname", _plain(report.host))
    return suite


def _case(suite: ET.Element, classname: str, name: str, seconds: float) -> ET.Element:
    return ET.SubElement(
        suite, "testcase", classname=_plain(classname), name=_plain(name), time=f"{seconds:.3f}"
    )


def _add(case: ET.Element, kind: str, message: str, text: str) -> None:
    inner = ET.SubElement(case, kind, message=_plain(message)[:_MESSAGE])
    if kind != "skipped":
        inner.set("type", kind)
        inner.text = _plain(text)[:_TEXT]


def _count(suite: ET.Element, seconds: float) -> None:
    cases = suite.findall("testcase")
    suite.set("tests", str(len(cases)))
    for name, kind in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(name, str(sum(c.find(kind) is not None for c in cases)))
    suite.set("time", f"{seconds:.3f}")


def _part(text: str) -> str:
    """A part of a class's name: engines take it apart at the dots."""
    return text.replace(".", "_")


def _plain(value: Any) -> str:  # noqa: ANN401 - of a document
    return plain(str(value))
