"""What we say of the names of images, beside Trove's own code of every series."""

from __future__ import annotations

import ast
import itertools
from pathlib import Path
from typing import Any

import pytest

from imagebuild.mirror.naming import (
    DEFAULT_IMAGES,
    End,
    backup_chain,
    database_image,
    has_tag,
)
from tests.mirror import upstream

VERSIONS = (
    "8.4", "8.4.3", "8", "5.7.44", "10.11.9", "10.11", "11", "17", "12.4.1.2", "latest", "8.0-lts",
    "8.0.rc1", "v8.4", "10.", "08.04", "8.4.", "", None,
)  # fmt: skip
BACKUPS = (
    None, "", "backup", "reg.example/b", "reg.example:5000/trove/db-backup", "b:1.1.0", "b:v2",
    "reg.example:5000/trove/db-backup:1.1", "reg.example/b:latest", "host:5000",
)  # fmt: skip
#: What is in the registry, as how many of the version's parts the tag has; 0: nothing.
THERE = (0, 1, 2, 3)

#: The exception that Trove ends with.
RAISED = {
    End.GIVES_UP: "TroveError",
    End.UNDEFINED: "TroveError",
    End.CRASHES: "TypeError",
    End.LOOPS: "RecursionError",
    End.BREAKS: "AttributeError",
    End.NO_VERSION: None,
}


def cases() -> list[dict[str, Any]]:
    made = []
    for manager, backup, version, parts in itertools.product(
        DEFAULT_IMAGES, BACKUPS, VERSIONS, THERE
    ):
        if parts and (not backup or version is None):
            continue
        tag = ".".join((version or "latest").split(".")[:parts])
        there = [f"{backup}:{tag}", str(backup)] if parts else []
        made.append({"manager": manager, "image": f"reg.example:5000/{manager}",
                     "backup": backup, "version": version, "there": there})  # fmt: skip
    return made


@pytest.mark.parametrize("series", upstream.NAMES)
def test_names_are_those_of_the_guest(series: str, tmp_path: Path) -> None:
    wanted = cases()
    config = tmp_path / "guest_info.conf"
    config.write_text("[DEFAULT]\ndatastore_version = 7.7\ndatastore_manager = mysql\n")
    found = upstream.ask(series, "guest_program.py", {"config": str(config), "cases": wanted})
    # Where it is a default of the method, it must have been read before: else it is `latest`.
    assert found["imported"] == ("7.7" if series == "2026.2" else None)
    assert len(found["answers"]) == len(wanted) > 1000
    ends, databases = set(), set()
    for case, answer in zip(wanted, found["answers"], strict=True):
        manager, version = case["manager"], case["version"]
        if answer["database"]:
            assert answer["database"] == database_image(case["image"], version), case
            databases.add((manager, version))
        chain = backup_chain(manager, case["backup"], version, series)
        ends.add(chain.end)
        used = next((i for i in chain.images if i in case["there"]), None)
        if chain.end is End.PULLS:
            assert (answer["backup"], answer["asked"]) == (chain.images[0], []), case
        elif used:
            assert answer["backup"] == used, case
            assert tuple(answer["asked"]) == chain.images[: chain.images.index(used) + 1], case
        else:
            expected = RAISED[chain.end]
            assert expected in (answer["backup"], None), case
            assert "/" not in answer["backup"], case
            assert tuple(answer["asked"]) == chain.images, case
    assert databases == set(itertools.product(DEFAULT_IMAGES, VERSIONS))
    if series == "2026.2":
        assert ends == set(End)
    else:
        assert End.CRASHES not in ends
        assert End.LOOPS not in ends


@pytest.mark.parametrize("series", upstream.NAMES)
def test_a_rebuild_goes_by_names(series: str) -> None:
    """guest_info.conf gets the names of datastore and version; the database starts by number."""
    tree = ast.parse((upstream.tree(series) / "trove/taskmanager/models.py").read_text())
    (action,) = (
        n for n in ast.walk(tree) if isinstance(n, ast.ClassDef) and n.name == "RebuildAction"
    )
    calls = [
        (ast.unparse(n.func), [ast.unparse(a) for a in n.args])
        for n in ast.walk(action)
        if isinstance(n, ast.Call)
    ]
    named = ["self.instance.datastore.name", "self.instance.datastore_version.name"]
    assert ("self.instance.get_injected_files", named) in calls
    numbered = ["self.instance.datastore_version.version"]
    assert ("self.instance.guest.rebuild", numbered) in calls


@pytest.mark.parametrize("series", upstream.NAMES)
def test_defaults_are_those_of_cfg(series: str) -> None:
    found = upstream.ask(series, "cfg_program.py", {"files": [], "wanted": [
        [group, option] for group in DEFAULT_IMAGES
        for option in ("docker_image", "backup_docker_image")
    ]})  # fmt: skip
    for group, image in DEFAULT_IMAGES.items():
        assert found["values"][f"{group}.docker_image"] == image
        assert found["values"][f"{group}.backup_docker_image"] is None


def test_what_trove_sees_as_a_tag() -> None:
    # From the documentation of Trove's own function.
    assert has_tag("example.domain:5000/repo/image_name:tag")
    assert has_tag("example.domain/repo/image-name:tag-tag")
    assert not has_tag("example.domain:5000/repo/image-name")
    assert not has_tag("example.domain/repo/image_name")


@pytest.mark.parametrize("series", upstream.NAMES)
def test_an_isolated_guest_pulls_without_its_login(series: str) -> None:
    """The agent logs in with one client (docker_client.login); another one pulls."""
    found = upstream.ask(series, "pull_program.py", {})
    isolated, bridged = found["isolated"], found["bridged"]
    assert "pull['reg.example/mysql:8.4']" in isolated["other"]
    assert not [c for c in isolated["agent"] if "pull" in c or c == "containers.run"]
    assert "login" not in isolated["other"]
    # Without isolation it is the agent's own.
    assert "containers.run" in bridged["agent"]
    assert bridged["other"] == []
    # After a rebuild it is given the datastore's name for its manager: MariaDB is none.
    assert {"mysql", "mariadb", "postgresql"} <= set(found["managers"])
    assert not [m for m in found["managers"] if m != m.lower()]
