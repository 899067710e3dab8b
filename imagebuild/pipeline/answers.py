"""What a verb's --json and its exit code say: how the phase ended, and what reports keep of it.

Pure. A verb that failed has an error document; upload, verify and mirror sync have their errors
in what they print, one a cloud, check or image.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from imagebuild.errors import ExitCode, ImagebuildError
from imagebuild.pipeline.cells import Phase
from imagebuild.pipeline.outcome import Status
from imagebuild.pipeline.process import Ended

#: So many of a list of errors stand in one.
_MOST = 8
_VERBS = {
    Phase.MIRROR: "mirror sync", Phase.BUILD: "build", Phase.VERIFY: "verify",
    Phase.UPLOAD: "upload", Phase.REGISTER: "datastore create",
    Phase.PROMOTE: "datastore promote", Phase.RETIRE: "datastore retire",
}  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """The end of a phase: `result` is what reports keep; `why` is for SKIPPED."""

    status: Status
    result: Mapping[str, Any] = field(default_factory=dict)
    error: Mapping[str, Any] | None = None
    why: str = ""
    warnings: tuple[str, ...] = ()


def read(phase: Phase, ended: Ended) -> Answer:
    """The answer of a verb that ran to its end."""
    document = ended.document or {}
    try:
        result = _RESULTS[phase](document) if document else {}
    except (KeyError, TypeError, IndexError, AttributeError, ValueError):
        result, document = {}, {}
    if ended.code != 0 or ended.is_late:
        return Answer(Status.FAILED, result, error_of(phase, ended, document))
    if not document:
        error = ImagebuildError(
            f"`imagebuild {_VERBS[phase]}` says nothing that can be read",
            detail="\n".join(ended.tail),
        )
        return Answer(Status.FAILED, {}, error.to_json())
    if left := document.get("left_alone"):
        return Answer(Status.SKIPPED, result, why=str(left), warnings=(str(left),))
    return Answer(Status.UNCHANGED if _is_unchanged(phase, result) else Status.PASSED, result)


def error_of(phase: Phase, ended: Ended, document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Why a verb failed, as an error document."""
    if ended.is_late:
        return _error(
            f"{phase.value} took longer than its limit and was ended",
            detail="\n".join(ended.tail[-5:]),
            hint="timeouts in the pipeline's file raise it",
        )
    if ended.code < 0 or ended.code in (ExitCode.INTERRUPTED, ExitCode.TERMINATED):
        return _killed(phase, ended)
    if ended.error and _is_whole(ended.error):
        return ended.error
    try:
        found = _ERRORS[phase](document) if phase in _ERRORS else None
    except (KeyError, TypeError, IndexError, AttributeError):
        found = None
    if found:
        return {**found, "exit_code": int(_known(ended.code))}
    return _error(
        f"`imagebuild {_VERBS[phase]}` ended with status {ended.code}",
        detail="\n".join(ended.tail),
        code=_known(ended.code),
    )


def _killed(phase: Phase, ended: Ended) -> Mapping[str, Any]:
    signals = {ExitCode.INTERRUPTED: signal.SIGINT, ExitCode.TERMINATED: signal.SIGTERM}
    number = -ended.code if ended.code < 0 else signals[ExitCode(ended.code)]
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    is_kill = number == signal.SIGKILL
    return _error(
        f"somebody has ended {phase.value} ({name})",
        detail="\n".join(ended.tail[-5:]),
        hint="was the host out of memory? `dmesg` says so" if is_kill else "",
    )


def _error(
    what: str, *, detail: str = "", hint: str = "", code: ExitCode = ExitCode.FAILED
) -> Mapping[str, Any]:
    return {**ImagebuildError(what, detail=detail, hint=hint).to_json(), "exit_code": int(code)}


def _known(code: int) -> ExitCode:
    try:
        return ExitCode(code)
    except ValueError:
        return ExitCode.FAILED


def _is_whole(error: Mapping[str, Any]) -> bool:
    texts = all(isinstance(error.get(k), str) for k in ("error", "what", "where", "detail", "hint"))
    return texts and error.get("exit_code") in {int(c) for c in ExitCode}


# Results: what reports keep


def _mirror(document: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "list": document["list"],
        "target": document["target"],
        "totals": dict(document["totals"]),
        "notes": list(document["notes"]),
        "bad": [
            {"image": r["target"], "outcome": r["outcome"], "what": r["error"]["what"]}
            for r in document["results"]
            if r["error"]
        ],
    }


def _build(document: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "artifact": document["artifact"],
        "build_id": document["manifest"]["build_id"],
        "name": document["manifest"]["name"],
        "unchanged": bool(document["unchanged"]),
    }


def _verify(document: Mapping[str, Any]) -> dict[str, Any]:
    return {k: document[k] for k in ("verdict", "asked", "proven", "seconds")} | {
        "file": document["image"]["file"]
    }


def _upload(document: Mapping[str, Any]) -> dict[str, Any]:
    return {k: document["clouds"][0][k] for k in ("cloud", "status", "image", "name", "bytes")}


def _register(document: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "version": document["version"]["id"],
        "created": document["created"],
        "changed": document["changed"],
        "notes": list(document["notes"]),
    }


def _promote(document: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "changed": document["changed"],
        "before": (document["before"] or {}).get("id"),
        "image": document["after"]["id"],
        "steps": list(document["steps"]),
        "notes": list(document["notes"]),
    }


def _retire(document: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "deactivated": len(document["deactivated"]),
        "deleted": len(document["deleted"]),
        "left": len(document["left"]),
        "images": len(document["images"]),
    }


_RESULTS = {
    Phase.MIRROR: _mirror, Phase.BUILD: _build, Phase.VERIFY: _verify, Phase.UPLOAD: _upload,
    Phase.REGISTER: _register, Phase.PROMOTE: _promote, Phase.RETIRE: _retire,
}  # fmt: skip


def _is_unchanged(phase: Phase, result: Mapping[str, Any]) -> bool:
    """Whether the verb found nothing to do."""
    if phase is Phase.MIRROR:
        outcomes = result["totals"]["outcomes"]
        return not sum(n for name, n in outcomes.items() if name != "unchanged")
    if phase is Phase.BUILD:
        return bool(result["unchanged"])
    if phase is Phase.UPLOAD:
        return bool(result["status"] == "present")
    if phase is Phase.RETIRE:
        return not (result["deactivated"] or result["deleted"])
    return phase in (Phase.REGISTER, Phase.PROMOTE) and not result["changed"]


# Errors that stand in what a verb prints


def _mirror_error(document: Mapping[str, Any]) -> Mapping[str, Any] | None:
    bad = [r for r in document["results"] if r["error"]]
    if not bad:
        return None
    if len(bad) == 1:
        return dict(bad[0]["error"])
    lines = [f"{r['target']}: {r['error']['what']}" for r in bad]
    hints = {r["error"]["hint"] for r in bad}
    return {
        **_error(f"{len(bad)} of {len(document['results'])} images are missing in the target"),
        "error": "PublishError",
        "where": document["target"],
        "detail": "\n".join(_first(lines)),
        "hint": hints.pop() if len(hints) == 1 else "",
    }


def _verify_error(document: Mapping[str, Any]) -> Mapping[str, Any] | None:
    wanted = "failed" if document["verdict"] == "failed" else "unknown"
    bad = [c for c in document["checks"] if c["outcome"] == wanted]
    if not bad:
        return None
    checks = f"{len(bad)} check{'' if len(bad) == 1 else 's'}"
    what = f"the image is bad: {checks} failed"
    if wanted == "unknown":
        what = f"this host cannot tell whether the image is good: {checks} without an answer"
    first = bad[0]
    lines = [f"{c['name']}: {c['what']}" for c in bad]
    found = {
        **_error(what, detail="\n".join(_first(lines)), hint=first["hint"]),
        "error": "VerifyError" if wanted == "failed" else "PreflightError",
        "where": document["image"]["name"] or document["image"]["file"],
    }
    if first.get("cause"):
        found["cause"] = first["cause"]
    return found


def _upload_error(document: Mapping[str, Any]) -> Mapping[str, Any] | None:
    return next((dict(c["error"]) for c in document["clouds"] if c["error"]), None)


_ERRORS = {
    Phase.MIRROR: _mirror_error,
    Phase.VERIFY: _verify_error,
    Phase.UPLOAD: _upload_error,
}


def _first(lines: Sequence[str]) -> list[str]:
    more = len(lines) - _MOST
    return [*lines[:_MOST], *([f"and {more} more"] if more > 0 else [])]
