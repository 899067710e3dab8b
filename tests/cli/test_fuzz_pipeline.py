"""Pipelines that are nearly right, or nothing at all: words and a code, never a traceback."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from imagebuild.config.pipeline import PIPELINE
from imagebuild.errors import ConfigError
from imagebuild.pipeline.cells import ImageCell, expand, profile_of
from imagebuild.pipeline.loading import load_pipeline
from imagebuild.pipeline.needs import needs
from tests.cli.fuzz import check, examples, invoke, own_environment
from tests.cli.fuzz_profiles import NASTY, anything, arguments

WHOLE = """\
mirrors: [{list: trove, target: "reg.example:5000/trove", only: ["mysql*"]}]
images:
  - profiles: [ubuntu-jammy, debian-bookworm]
    series: [2025.1, 2025.2]
    arches: [amd64]
    set: {disk: {size: 6G}, packages+: [strace], mirror.url: http://m.example}
    gates: {size: 1G, growth: 20%, verified: static, deny_packages: ["telnet*"]}
  - profiles: ubuntu-noble
    name: other
    verify: {level: database, databases: ["mysql:8.4=r.example/mysql"], networks: [bridge],
             firmwares: [uefi], timeouts: [docker=5m], registries: ["10.0.0.1:5000=5000"]}
    publish:
      - cloud: prod
        visibility: public
        datastores: [mysql]
        properties: {a: b}
        versions: [{datastore: mysql, version: 8.4, image_tags: [trove, mysql]}]
        retire: {keep: 1, grace: 7d}
retry: {attempts: 3, wait: 60s}
retention: {artifacts: 3, reports: 14}
timeouts: {build: 2h}
engines: {schedule: "17 2 * * *", github: {runs_on: [a]}, zuul: {nodeset: b}}
extra_images: [{profiles: debian-bookworm, name: third}]
"""


@pytest.fixture(autouse=True)
def _own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_environment(monkeypatch, tmp_path)


def _places(tree: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:  # noqa: ANN401
    """The place of every value."""
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree)
    found = []
    for key, value in pairs:
        found.append((*above, key))
        if isinstance(value, (dict, list)):
            found += _places(value, (*above, key))
    return found


@st.composite
def pipelines(draw: st.DrawFn) -> str:
    """A whole pipeline with some values dropped, changed, or under another name."""
    tree = yaml.load(WHOLE, yaml.BaseLoader)  # noqa: S506 - text stays text
    for _ in range(draw(st.integers(0, 3))):
        *above, last = draw(st.sampled_from(_places(tree)))
        at = tree
        for key in above:
            at = at[key]
        what = draw(st.sampled_from(["drop", "change", "nasty", "wrap", "add", "double"]))
        if what == "drop":
            del at[last]
        elif what == "wrap":
            at[last] = draw(st.sampled_from([[at[last]], {"x": at[last]}]))
        elif what == "double" and isinstance(at, list):
            at.append(at[last])
        elif what == "add" and isinstance(at, dict):
            names = [p.rpartition(".")[2] for p in PIPELINE.known_paths()]
            at[draw(st.sampled_from([*NASTY, *names, "extends"]))] = draw(anything)
        else:
            at[last] = draw(anything if what == "change" else st.sampled_from(NASTY))
        if not tree:
            break
    Dumper = type("Dumper", (yaml.SafeDumper,), {"ignore_aliases": lambda _s, _d: True})  # noqa: N806
    return str(yaml.dump(tree, Dumper=Dumper, allow_unicode=draw(st.booleans()), sort_keys=False))


def test_the_whole_one_is_right(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(WHOLE)
    assert len(load_pipeline(str(tmp_path / "p.yaml")).cells) == 7


@examples(100)
@given(text=pipelines())
def test_a_pipeline_that_is_nearly_right(tmp_path: Path, text: str) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(text, errors="surrogatepass")
    error: ConfigError | None = None
    try:
        loaded = load_pipeline(str(path))
    except ConfigError as exc:
        error = exc
    if error:
        assert error.what
        assert error.where
        return
    ids = [cell.id for cell in loaded.cells]
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(r"[a-z][a-z0-9-]*", i) for i in ids)
    assert loaded.cells == expand(loaded.value)
    for cell in loaded.cells:
        assert all(needs(cell, job).disk > 0 for job in cell.jobs)
        if isinstance(cell, ImageCell):
            assert profile_of(cell).profile.arch is cell.arch


@examples(40)
@given(text=pipelines(), word=arguments)
def test_the_command_with_a_pipeline_that_is_nearly_right(
    tmp_path: Path, text: str, word: str
) -> None:
    (tmp_path / "p.yaml").write_text(text, errors="surrogatepass")
    # No cell is called that: nothing is looked at.
    ended = check(
        invoke(["pipeline", "plan", str(tmp_path / "p.yaml"), "--offline", f"--cell= {word}"])
    )
    assert ended.code in (2, 3)


@examples(40)
@given(name=arguments)
def test_a_pipeline_of_any_name(name: str) -> None:
    ended = check(invoke(["pipeline", "plan", "--offline", "--cell", " ", "--", name]))
    assert ended.code in (2, 3)
