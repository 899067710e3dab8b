"""Mirror lists that are nearly right, or nothing at all: words and a code, never a traceback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from imagebuild.config.mirrorlist import MIRROR_LIST
from imagebuild.errors import ConfigError
from imagebuild.mirror.items import expand
from imagebuild.mirror.loading import load_list, registry_settings
from tests.cli.fuzz import check, examples, invoke, own_environment
from tests.cli.fuzz_profiles import NASTY, anything, arguments

WHOLE = """\
target: {registry: "reg.example:5000", prefix: trove}
defaults: {platforms: [linux/amd64], referrers: true, backup: "{tag}-previous"}
registries:
  - {host: "reg.example:5000", tls: verify, ca: ca.pem, username: u, password_file: pw}
  - {host: quay.io, tls: insecure, concurrency: 2, requests_per_second: 0.5}
images:
  - source: quay.io/o/mysql
    tags: {names: [lts], regex: '8.*', versions: ">=8", newest: 3}
    aliases: {lts: [8.4.9]}
    datastore: mysql
    role: backup
  - {source: postgres, target: pg, tags: [17, 18], platforms: [linux/arm64]}
extra_images: [{source: mariadb, tags: 11.4}]
"""
TAGS = ["8.4", "8.4.6", "8.0-oracle", "latest", "8.4-1", "lts", "8rc1", "x" * 128]


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
def lists(draw: st.DrawFn) -> str:
    """A whole list with some values dropped, changed, or under another name."""
    tree = yaml.load(WHOLE, yaml.BaseLoader)  # noqa: S506 - text stays text
    for _ in range(draw(st.integers(1, 3))):
        *above, last = draw(st.sampled_from(_places(tree)))
        at = tree
        for key in above:
            at = at[key]
        what = draw(st.sampled_from(["drop", "change", "nasty", "wrap", "add"]))
        if what == "drop":
            del at[last]
        elif what == "wrap":
            at[last] = draw(st.sampled_from([[at[last]], {"x": at[last]}]))
        elif what == "add" and isinstance(at, dict):
            names = [p.rpartition(".")[2] for p in MIRROR_LIST.known_paths()]
            at[draw(st.sampled_from([*NASTY, *names, "extends"]))] = draw(anything)
        else:
            at[last] = draw(anything if what == "change" else st.sampled_from(NASTY))
        if not tree:
            break
    return yaml.safe_dump(tree, allow_unicode=draw(st.booleans()), sort_keys=False)


@examples(150)
@given(text=lists())
def test_a_list_that_is_nearly_right(tmp_path: Path, text: str) -> None:
    path = tmp_path / "list.yaml"
    path.write_text(text, errors="surrogatepass")
    error: ConfigError | None = None
    try:
        loaded = load_list(str(path))
        items = expand(loaded.value, lambda _: TAGS, loaded.places)
        registry_settings(loaded.value, {})
    except ConfigError as exc:
        error = exc
    if error:
        assert error.what
        assert error.where
        return
    names = [f"{i.target.name}:{tag}" for i in items for tag in (i.target.tag, *i.aliases)]
    assert len(names) == len(set(names))
    assert len(loaded.places) == len(loaded.value.images)


@examples(60)
@given(text=lists(), word=arguments)
def test_the_command_with_a_list_that_is_nearly_right(tmp_path: Path, text: str, word: str) -> None:
    (tmp_path / "list.yaml").write_text(text, errors="surrogatepass")
    # That pattern and that target end it before a registry is asked.
    ended = check(
        invoke(
            ["mirror", "plan", str(tmp_path / "list.yaml"), "--target", "no host", "--only", word]
        )
    )
    assert ended.code in (2, 3)


@examples(60)
@given(word=arguments)
def test_any_word_as_a_list_or_a_target(word: str) -> None:
    for argv in (["plan", "--", word], ["plan", "trove", f"--target={word} "]):
        ended = check(invoke(["mirror", *argv]))
        assert ended.code in (2, 3)
