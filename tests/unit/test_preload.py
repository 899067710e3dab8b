"""Containers of a profile: how they are written, and how they are pinned."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from imagebuild import preload
from imagebuild.config.load import load_profile, parse_set
from imagebuild.config.profile import Preload, Profile
from imagebuild.errors import ConfigError
from imagebuild.registry.client import Client
from imagebuild.registry.layout import Layout
from imagebuild.registry.manifest import Descriptor
from imagebuild.registry.pull import Resolved
from imagebuild.registry.reference import Reference
from imagebuild.trust import resolve_registries

DIGEST = f"sha256:{'a' * 64}"


def profile_with(*entries: object, registries: object = ()) -> Profile:
    """debian-bookworm with these containers."""
    return load_profile(
        "debian-bookworm",
        [
            parse_set(f"preload={json.dumps(entries)}"),
            parse_set(f"docker.registries={json.dumps(registries)}"),
        ],
    ).profile


@pytest.mark.parametrize(
    ("entry", "source", "target"),
    [
        ("quay.io/a/mysql:8.4", "quay.io/a/mysql:8.4", "quay.io/a/mysql:8.4"),
        ("mysql:8.4=r:5000/x/mysql:8.4", "mysql:8.4", "r:5000/x/mysql:8.4"),
        (f"mysql:8.4@{DIGEST}", f"mysql:8.4@{DIGEST}", "mysql:8.4"),
        (f"mysql@{DIGEST}=mysql:8.4", f"mysql@{DIGEST}", "mysql:8.4"),
        ({"source": "a:1"}, "a:1", "a:1"),
        ({"source": "a:1", "target": None}, "a:1", "a:1"),
        ({"source": "a:1", "target": "b:2"}, "a:1", "b:2"),
        ("[::1]:5000/a:1", "[::1]:5000/a:1", "[::1]:5000/a:1"),
    ],
)
def test_how_a_container_may_be_written(entry: object, source: str, target: str) -> None:
    assert profile_with(entry).preload == (Preload(source=source, target=target),)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("mysql", "has no tag and no digest"),
        (f"mysql@{DIGEST}", "no target is said"),
        ("mysql:8.4=mysql", "a tag is needed"),
        (f"mysql:8.4=mysql:8.4@{DIGEST}", "a digest is not possible"),
        ("mysql:8.4=", "is no name of a container image"),
        ("=mysql:8.4", "is no name of a container image"),
        ("MySQL:8.4", "is no repository"),
        ("a b:1", "is no repository"),
        (f"a:1@{DIGEST}0", "is no digest"),
        ({"source": 3}, "text is expected"),
        ({"target": "a:1"}, "this key is missing"),
        ({"source": "a:1", "tag": "x"}, "unknown key"),
        (3, "a mapping is expected"),
    ],
)
def test_what_is_refused_and_why(entry: object, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        profile_with(entry)
    assert words in caught.value.what
    assert caught.value.what.startswith("preload[0]")


def test_one_name_stands_for_one_image() -> None:
    with pytest.raises(ConfigError, match=r"docker\.io/library/mysql:8\.4' is listed twice"):
        profile_with("a:1=mysql:8.4", "b:1=docker.io/library/mysql:8.4")
    assert len(profile_with("a:1=mysql:8.4", "a:1=mysql:8").preload) == 2


def descriptor(letter: str, size: int = 1) -> Descriptor:
    return Descriptor("application/x", f"sha256:{letter * 64}", size)


class Asked:
    """Stands for the registry: what was asked, by whom."""

    def __init__(self) -> None:
        self.settings: list[object] = []
        self.names: list[str] = []

    def resolve(
        self, client: Client | None, reference: Reference, arch: str, *, layout: Layout
    ) -> Resolved:
        assert client is not None
        assert layout.root.name == "layout"
        self.names.append(f"{reference} {arch}")
        one, two, three = (descriptor(x) for x in "123")
        return Resolved(reference, arch, one, two, three, (descriptor("4", 5),))


def test_names_become_digests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked()
    monkeypatch.setattr(preload, "resolve", asked.resolve)
    profile = profile_with("mysql:8.4", "quay.io/a/b:1=r:5000/b:2")
    one, two = preload.resolve_preload(profile, (), Layout(tmp_path / "layout"))
    assert asked.names == ["docker.io/library/mysql:8.4 amd64", "quay.io/a/b:1 amd64"]
    # Docker shows it as mysql:8.4; its store has the whole name.
    assert (one.target, two.target) == ("docker.io/library/mysql:8.4", "r:5000/b:2")
    assert two.to_json() == {
        "source": "quay.io/a/b:1",
        "target": "r:5000/b:2",
        "index": f"sha256:{'1' * 64}",
        "manifest": f"sha256:{'2' * 64}",
        "config": f"sha256:{'3' * 64}",
        "layers": [f"sha256:{'4' * 64}"],
        "bytes": 6,
    }


def test_offline_only_what_is_known(tmp_path: Path) -> None:
    profile = profile_with("r.example/a:1")
    (found,) = preload.resolve_preload(profile, (), Layout(tmp_path / "layout"), offline=True)
    assert found.resolved is None
    assert found.to_json() == {"source": "r.example/a:1", "target": "r.example/a:1"}
    assert found.label == "container r.example/a:1"


def test_the_profiles_registries_are_logged_in_to(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("canary\n")
    entry = {"host": "r:5000", "username": "u", "password_file": str(password)}
    profile = profile_with("r:5000/a:1", registries=[entry])
    (found,) = preload.registry_settings(profile, resolve_registries(profile))
    assert (found.host, found.username, found.password, found.ca) == ("r:5000", "u", "canary", None)
    assert "canary" not in repr(found)
