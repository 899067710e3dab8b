"""The JSON schema of report.json (2020-12), for programs of others that read it.

Readers may count on these keys as long as `schema_version` is the same; others may be added.
"""

from __future__ import annotations

from typing import Any

from imagebuild.errors import ExitCode
from imagebuild.pipeline.cells import Phase
from imagebuild.pipeline.outcome import SCHEMA_VERSION, Status


def _object(described: dict[str, Any], *, optional: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": described,
        "required": [k for k in described if k not in optional],
    }


def _text(description: str = "", **more: Any) -> dict[str, Any]:  # noqa: ANN401
    return _described({"type": "string"} | more, description)


def _number(description: str) -> dict[str, Any]:
    return _described({"type": "number"}, description)


def _whole(description: str) -> dict[str, Any]:
    return _described({"type": "integer"}, description)


def _list(items: dict[str, Any], description: str) -> dict[str, Any]:
    return _described({"type": "array", "items": items}, description)


def _map(values: dict[str, Any], description: str) -> dict[str, Any]:
    return _described({"type": "object", "additionalProperties": values}, description)


def _row(description: str, *items: str) -> dict[str, Any]:
    """Rows of a fixed form: a list of lists."""
    row = {
        "type": "array",
        "prefixItems": [{"type": t} for t in items],
        "minItems": len(items),
        "maxItems": len(items),
    }
    return _list(row, description)


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    kind = schema.pop("type")
    return {"type": [kind, "null"]} | schema


def _described(schema: dict[str, Any], description: str) -> dict[str, Any]:
    return schema | ({"description": description} if description else {})


_EXIT_CODE = {
    "type": "integer",
    "enum": [int(c) for c in ExitCode],
    "description": "As the tool's own exit codes.",
}
_STATUS = {"type": "string", "enum": [s.value for s in Status]}


def report_schema() -> dict[str, Any]:
    """The schema."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What became of a run of a pipeline: report.json",
        **_object(
            {
                "schema_version": {"const": SCHEMA_VERSION},
                "pipeline": _text("Name of the pipeline."),
                "run": _text("Name of the run, and of its directory: its time, in UTC."),
                "started": _number("Seconds since 1970."),
                "seconds": _number("How long it took."),
                "complete": {
                    "type": "boolean",
                    "description": "False while it goes on, and of one that was killed.",
                },
                "exit_code": _EXIT_CODE,
                "tool": _text("Version of imagebuild."),
                "host": _text("Name of the machine, or of several."),
                "totals": _object({s.value: {"type": "integer"} for s in Status}),
                "notes": _list(_text(), "What one should know of the run as a whole."),
                "parts": _list(_text(), "Reports that it was merged from; none: its own."),
                "cells": _list(_cell(), "Images and mirror lists."),
            }
        ),
    }


def _cell() -> dict[str, Any]:
    return _object(
        {
            "id": _text("NAME[-SERIES]-ARCH of an image, mirror-NAME of a mirror list."),
            "kind": _text(enum=["image", "mirror"]),
            "status": _STATUS | {"description": "The worst of its phases'."},
            "profile": _text("Name or file of the profile."),
            "series": _text("OpenStack series."),
            "arch": _text("Architecture."),
            "build_id": _text("Digest of all that went into the image."),
            "artifact": _text("Directory of the artifact on the machine that has built it."),
            "phases": _list(_phase(), "What was done, in order."),
            "image": _or_null(_image()),
        }
    )


def _phase() -> dict[str, Any]:
    attempt = _object(
        {
            "started": _number("Seconds since 1970."),
            "seconds": _number("How long it took."),
            "exit_code": _whole("Of the child process; negative: the signal that ended it."),
        }
    )
    return _object(
        {
            "phase": _text(enum=[p.value for p in Phase]),
            "status": _STATUS,
            "target": _text("Cloud, or CLOUD/DATASTORE/VERSION; empty where there is one."),
            "started": _number("Seconds since 1970; 0 when it was not tried."),
            "seconds": _number("How long it took, waits between tries included."),
            "attempts": _list(attempt, "Tries: more than one after exit code 75 alone."),
            "command": _list(_text(), "What to type to do the same by hand."),
            "log": _text("File with all that it said, relative to report.json."),
            "error": _or_null(_error()),
            "why": _text("Why it was skipped or held."),
            "warnings": _list(_text(), "What did not stop it."),
            "result": {
                "type": "object",
                "description": "What the verb's --json says, shortened.",
            },
        }
    )


def _error() -> dict[str, Any]:
    described = {
        "error": _text("Kind of error."),
        "exit_code": _whole("As the tool's own exit codes."),
        "what": _text("One sentence."),
        "where": _text("File, address, element or key."),
        "detail": _text("Lines that show why."),
        "hint": _text("What to try."),
        "cause": {"type": "object", "description": "What the lines mean, where it is known."},
    }
    return _object(described, optional=tuple(k for k in described if k != "what"))


def _image() -> dict[str, Any]:
    check = _object(
        {
            "name": _text("Stable: static/fstab, boot/metadata/cloud-init."),
            "level": _text(enum=["static", "boot", "agent", "database"]),
            "outcome": _text(enum=["passed", "warning", "failed", "unknown", "skipped"]),
            "what": _text("One sentence."),
            "hint": _text("What to try."),
            "evidence": _list(_text(), "Lines that show it, of what did not pass."),
            "seconds": _or_null(_number("How long it took.")),
        }
    )
    rows = {
        "stages": _row("Stage, seconds, from the store?", "string", "number", "boolean"),
        "hooks": _row(
            "The slowest: stage, phase, name, seconds.", "string", "string", "string", "number"
        ),
        "directories": _row("Path, bytes of all below it, depth.", "string", "integer", "integer"),
    }
    boots = _row("Milestone, seconds since the machine's start.", "string", "number")
    return _described(
        _object(
            {
                "name": _text("Name of the artifact."),
                "build_id": _text("Digest of all that went in."),
                "created": _number("End of its build, seconds since 1970; 0: not known."),
                "files": _map({"type": "integer"}, "Format → bytes of the file."),
                "virtual_size": _or_null(_whole("Bytes of the disk.")),
                "rootfs": _or_null(_whole("Bytes of all files in it.")),
                "agent": {"type": "object", "description": "Where the guest agent is from."},
                "packages": _map(_text(), "Debian package → version."),
                "python_packages": _map(_text(), "Package of the agent's venv → version."),
                "verdict": _or_null(_text("Of verify, all checks together.")),
                "proven": _or_null(_text("Highest level that is proven.")),
                "boots": _map(boots, "Machine → its milestones."),
                "checks": _list(check, "What verify has asked."),
                **rows,
            }
        ),
        "What the artifact holds; null for mirror lists, and where there is none.",
    )
