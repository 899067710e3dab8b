"""Whatever stands in a profile or behind --set: a profile, or a ConfigError."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imagebuild.config.load import load_profile, parse_set
from imagebuild.config.problems import known_paths
from imagebuild.config.profile import Profile
from imagebuild.errors import ConfigError

FILES = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["5G", "amd64", "jammy", "http://a.example/x", "/srv/x", "~", "~x/y", "\0"])
)
anything = st.recursive(
    scalars,
    lambda below: (
        st.lists(below, max_size=3)
        | st.dictionaries(
            st.sampled_from(["url", "size", "x"]) | st.text(max_size=8), below, max_size=3
        )
    ),
    max_leaves=6,
)
paths = st.sampled_from(known_paths()).map(lambda path: path.split("."))


@pytest.fixture(autouse=True)
def _own_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def outcome(name: str, sets: tuple[str, ...] = ()) -> Profile | ConfigError:
    try:
        return load_profile(name, [parse_set(text) for text in sets]).profile
    except ConfigError as exc:
        error = exc
    assert error.what  # a reason
    assert error.where  # and a place, always
    return error


def put(tree: dict[str, Any], keys: list[str], value: object) -> None:
    for key in keys[:-1]:
        below = tree.get(key)
        if not isinstance(below, dict):
            below = tree[key] = {}
        tree = below
    tree[keys[-1]] = value


@FILES
@given(changes=st.lists(st.tuples(paths | st.lists(st.text(max_size=6), min_size=1, max_size=3),
                                  anything), min_size=1, max_size=4))  # fmt: skip
def test_changed_profiles(tmp_path: Path, changes: list[tuple[list[str], Any]]) -> None:
    tree = load_profile("debian-bookworm").profile.model_dump(mode="json")
    for keys, value in changes:
        put(tree, keys, copy.deepcopy(value))
    path = tmp_path / "changed.yaml"
    path.write_text(yaml.safe_dump(tree, allow_unicode=True), errors="replace")
    result = outcome(str(path))
    if isinstance(result, Profile):
        assert Profile.model_validate(result.model_dump(mode="json")) == result


@FILES
@given(
    data=st.binary(max_size=80)
    | st.text(alphabet="ab:-[]{}&*!|>#'\"\n ,?%@~", max_size=60).map(str.encode)
)
def test_any_bytes_as_a_file(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "any.yaml"
    path.write_bytes(data)
    assert isinstance(outcome(str(path)), ConfigError)  # nothing this small is whole


@FILES
@given(text=st.text(max_size=60))
def test_any_text_behind_set(text: str) -> None:
    outcome("ubuntu-jammy", (text,))


@FILES
@given(
    keys=paths,
    sign=st.sampled_from(["=", "+="]),
    value=st.text(max_size=40) | anything.map(lambda v: yaml.safe_dump(v, default_flow_style=True)),
)
def test_any_value_for_a_known_key(keys: list[str], sign: str, value: str) -> None:
    outcome("ubuntu-jammy", (f"{'.'.join(keys)}{sign}{value}", "disk.label=x"))


@FILES
@given(name=st.text(max_size=30))
def test_any_name(name: str) -> None:
    outcome(name)


@pytest.mark.parametrize(
    "text", ["disk=" + "[" * 3000, "packages=" + "9" * 5000, "disk.size=" + "9" * 9]
)
def test_values_that_are_too_much(text: str) -> None:
    assert isinstance(outcome("ubuntu-jammy", (text,)), ConfigError)
