"""Rules of configuration parameters: what the file says, what requests can carry."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuild.agent.locks import agent_lock
from imagebuild.agent.series import get_series
from imagebuild.datastore import rules as module
from imagebuild.datastore.rules import Rule, compare, parse, read
from imagebuild.errors import ConfigError, PreflightError


def document(*rules: dict[str, Any]) -> bytes:
    return json.dumps({"configuration-parameters": rules}).encode()


@pytest.mark.parametrize(
    ("rule", "obstacle"),
    [
        (Rule("a", "integer", False, 0, 10), None),
        (Rule("a", "integer", False, 10, 10), None),
        (Rule("a", "string", True), None),
        (Rule("a" * 128, "string", True), None),
        (Rule("a", "boolean", False), "type boolean"),
        (Rule("a", "float", False, 0, 1), "type float"),
        (Rule("a", "list", False), "type list"),
        (Rule("a", "integer", False, 0), "an integer without max"),
        (Rule("a", "integer", False, None, 5), "an integer without min"),
        (Rule("a", "integer", False), "an integer without min and max"),
        (Rule("a", "integer", False, 0, 1.5), "bounds that are not whole numbers"),
        (Rule("a", "integer", False, 6, 5), "max is less than min"),
        (Rule("a", "string", False, 0, 5), "a string with bounds"),
        (Rule("a" * 129, "string", True), "its name"),
        (Rule("--", "string", True), "its name"),
    ],
)
def test_what_requests_can_carry(rule: Rule, obstacle: str | None) -> None:
    assert rule.obstacle == obstacle


def test_a_request() -> None:
    rule = Rule("wait_timeout", "integer", True, 1, 18446744073709551615)
    assert rule.to_request() == {
        "name": "wait_timeout", "data_type": "integer", "restart_required": 1,
        "min_size": 1, "max_size": 18446744073709551615,
    }  # fmt: skip
    assert Rule("b", "string", False).to_request() == {
        "name": "b", "data_type": "string", "restart_required": 0,
    }  # fmt: skip


def test_the_last_rule_of_a_name_counts() -> None:
    one = {"name": "a", "type": "string", "restart_required": True}
    two = {"name": "a", "type": "integer", "restart_required": False, "min": 0, "max": 5}
    assert parse(document(one, two), "here").rules == (Rule("a", "integer", False, 0, 5),)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"[]", b"{}", b"null", b"\xff", b'{"configuration-parameters": 5}',
        b'{"configuration-parameters": [5]}',
        document({"name": "a", "type": "string"}),
        document({"name": "", "type": "string", "restart_required": True}),
        document({"name": "a", "type": 5, "restart_required": True}),
        document({"name": "a", "type": "string", "restart_required": "yes"}),
        document({"name": "a", "type": "integer", "restart_required": True, "min": "0"}),
        document({"name": "a", "type": "integer", "restart_required": True, "min": True}),
    ],
)  # fmt: skip
def test_what_is_no_file_of_rules(data: bytes) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(data, "here.json")
    assert caught.value.where == "here.json"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read(tmp_path / "no.json")


names = st.sampled_from(["a", "b", "c", "d"])
rule = st.builds(
    Rule, names, st.sampled_from(["integer", "string"]), st.booleans(),
    st.none() | st.integers(), st.none() | st.integers(),
)  # fmt: skip
rule_lists = st.lists(rule, unique_by=lambda r: r.name)


@given(rule_lists, rule_lists)
def test_loading_what_is_pending_leaves_nothing_pending(
    wanted: list[Rule], found: list[Rule]
) -> None:
    first = compare(wanted, found)
    assert {r.name for r in first.new}.isdisjoint(r.name for r in found)
    assert {r.name for r in first.changed} <= {r.name for r in found}
    after = {r.name: r for r in found} | {r.name: r for r in first.pending}
    second = compare(wanted, list(after.values()))
    assert second.pending == ()
    assert set(second.same) == set(wanted)
    assert second.extra == first.extra
    assert set(second.extra) == {r.name for r in found} - {r.name for r in wanted}


def test_what_trove_answers_is_a_rule_again() -> None:
    answer = {"name": "a", "type": "integer", "restart_required": True, "min_size": 0,
              "max_size": 5, "datastore_version_id": "v"}  # fmt: skip
    assert Rule.of_answer(answer) == Rule("a", "integer", True, 0, 5)


def release(cache: Path, monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    """A wheel in the cache, as a build leaves it; its hash passes for that of the lock."""
    pin = agent_lock(get_series("2025.2"), "3.10").pin("trove")
    sha256 = min(pin.hashes)
    wheel = cache / "sources/files" / sha256 / "trove-24.1.0-py3-none-any.whl"
    wheel.parent.mkdir(parents=True)
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("trove/templates/mysql/validation-rules.json", data)
        archive.writestr("trove/templates/mysql/config.template", b"")
    monkeypatch.setattr(module, "of_file", lambda _path: sha256)


@pytest.mark.alone
def test_rules_of_a_release_that_a_build_has_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release(tmp_path, monkeypatch, document({"name": "a", "type": "string", "restart_required": 1}))
    found = module.of_release("2025.2", "mysql", tmp_path, env={}, offline=True)
    assert found.rules == (Rule("a", "string", True),)
    assert found.source.startswith("trove 24.")
    assert found.source.endswith(" (2025.2)")
    with pytest.raises(ConfigError, match="no rules for the manager redis") as caught:
        module.of_release("2025.2", "redis", tmp_path, env={}, offline=True)
    assert caught.value.detail == "it has rules for: mysql"


def test_a_wheel_that_is_damaged_is_not_used(tmp_path: Path) -> None:
    pin = agent_lock(get_series("2025.2"), "3.10").pin("trove")
    wheel = tmp_path / "sources/files" / min(pin.hashes) / "trove-24.1.0-py3-none-any.whl"
    wheel.parent.mkdir(parents=True)
    wheel.write_bytes(b"cut")
    with pytest.raises(PreflightError, match="not in the cache"):
        module.of_release("2025.2", "mysql", tmp_path, env={}, offline=True)


def test_a_series_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no Trove series is called"):
        module.of_release("2019.1", "mysql", tmp_path, env={}, offline=True)
