"""The schema of report.json says what is written, all of it."""

from __future__ import annotations

import copy
from typing import Any

import jsonschema
import pytest

from imagebuild.pipeline.reportschema import report_schema
from tests.cli.fuzz import invoke
from tests.pipeline import sample

VALIDATOR = jsonschema.Draft202012Validator(report_schema())


@pytest.mark.parametrize("report", [sample.tonight(), sample.bad_night(), sample.killed()])
def test_reports_are_as_their_schema_says(report: Any) -> None:  # noqa: ANN401
    VALIDATOR.check_schema(VALIDATOR.schema)
    VALIDATOR.validate(report.to_json())


def test_the_schema_knows_every_key() -> None:
    """What is written and not described is refused here, though readers must not mind it."""

    def closed(schema: Any) -> Any:  # noqa: ANN401
        if isinstance(schema, list):
            return [closed(s) for s in schema]
        if not isinstance(schema, dict):
            return schema
        made = {k: closed(v) for k, v in schema.items()}
        if "required" in made and "properties" in made:
            made["additionalProperties"] = False
        return made

    strict = jsonschema.Draft202012Validator(closed(report_schema()))
    document = sample.bad_night().to_json()
    strict.validate(document)
    for path in ((), ("cells", 2), ("cells", 2, "phases", 0), ("cells", 2, "image")):
        more = copy.deepcopy(document)
        place: Any = more
        for key in path:
            place = place[key]
        place["unknown"] = 1
        assert not strict.is_valid(more)
        del place["unknown"]
        for key in list(place):
            value = place.pop(key)
            assert not VALIDATOR.is_valid(more), key
            place[key] = value


def test_the_verb_prints_it() -> None:
    ended = invoke(["pipeline", "schema", "--report"])
    assert ended.code == 0
    assert ended.document == {"schema_version": 1} | report_schema()
