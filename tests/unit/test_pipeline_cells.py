"""Cells: their ids, their profiles as a child's build has them, what their jobs need."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import click
import pytest

from imagebuild.cli.options import (
    ProfileRequest,
    environment_request,
    image_options,
    profile_options,
)
from imagebuild.cli.upload import upload as upload_verb
from imagebuild.config.pipeline import Pipeline
from imagebuild.doctor.check import Need
from imagebuild.doctor.machine import MEMORY
from imagebuild.errors import ConfigError, UsageError
from imagebuild.host.preflight import SCRATCH_SPACE
from imagebuild.pipeline import commands
from imagebuild.pipeline.cells import (
    ImageCell,
    Job,
    Phase,
    Places,
    choose,
    expand,
    mirror_cells,
    profile_of,
)
from imagebuild.pipeline.needs import needs
from imagebuild.pipeline.published import choice_of

PLACES = Places(images=Path("/images"), cache=Path("/cache"), reports=Path("/reports"))
#: GitHub's rule for the ids of jobs (workflow syntax), the strictest of the three engines'.
JOB_ID = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


def pipeline(*rows: dict[str, object], **keys: object) -> Pipeline:
    return Pipeline.model_validate({"name": "x", "images": list(rows), **keys})


def image(row: dict[str, object], **keys: object) -> ImageCell:
    (cell,) = expand(pipeline({"profiles": "ubuntu-jammy", **row}, **keys))
    assert isinstance(cell, ImageCell)
    return cell


def test_a_cell_for_every_combination_in_a_stable_order() -> None:
    wanted = pipeline(
        {
            "profiles": ["ubuntu-noble", "debian-bookworm"],
            "series": ["2025.1", "2025.2"],
            "arches": ["arm64", "amd64"],
        },
        mirrors=[{"list": "trove", "name": "main"}, {"list": "/x/My.List.yaml"}],
    )
    cells = expand(wanted)
    ids = [c.id for c in cells]
    assert ids[:4] == [
        "mirror-main", "mirror-my-list", "ubuntu-noble-2025-1-arm64",
        "ubuntu-noble-2025-1-amd64",
    ]  # fmt: skip
    assert len(ids) == len(set(ids)) == 10
    assert ids == [c.id for c in expand(wanted)]
    assert all(JOB_ID.fullmatch(i) for i in ids)
    assert all(c.after == ("mirror-main", "mirror-my-list") for c in cells[2:])
    assert mirror_cells(wanted) == cells[:2]


def test_ids_are_of_letters_that_jobs_may_have(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("extends: ubuntu-jammy\nname: 9-a--\n")
    cell = image({"profiles": str(tmp_path / "p.yaml")})
    assert cell.id == "image-9-a-amd64"
    assert JOB_ID.fullmatch(cell.id)


def test_two_of_one_id_are_a_mistake() -> None:
    with pytest.raises(ConfigError, match="two cells are called ubuntu-jammy-amd64"):
        expand(pipeline({"profiles": "ubuntu-jammy"}, {"profiles": "ubuntu-jammy"}))


def test_choose() -> None:
    cells = expand(pipeline({"profiles": ["ubuntu-jammy", "ubuntu-noble"]}))
    assert choose(cells, ()) == cells
    assert choose(cells, ["ubuntu-noble-amd64"]) == cells[1:]
    with pytest.raises(UsageError) as caught:
        choose(cells, ["ubuntu-nobel-amd64"])
    assert caught.value.hint == "did you mean 'ubuntu-noble-amd64'?"


def test_what_a_row_says_stands_in_place_of_the_file_s() -> None:
    keys = {
        "verify": {"level": "static"},
        "publish": [{"cloud": "a"}],
        "gates": {"size": "1G"},
    }
    plain = image({}, **keys)
    assert (str(plain.verify.level), plain.publish[0].cloud, plain.gates.size) == (
        "static", "a", "1G",
    )  # fmt: skip
    own = image({"verify": {}, "publish": [], "gates": {}}, **keys)
    assert (str(own.verify.level), own.publish, own.gates.size) == ("boot", (), None)


def test_phases_and_jobs() -> None:
    nothing = image({})
    assert nothing.phases == (Phase.BUILD, Phase.VERIFY, Phase.GATES)
    assert nothing.jobs == (Job.BUILD, Job.VERIFY)
    assert image({"gates": {"size": "1G"}}).jobs == (Job.BUILD, Job.VERIFY, Job.PUBLISH)
    version = {"datastore": "mysql", "version": "8.4"}
    for publish, last in (
        ({}, Phase.UPLOAD),
        ({"versions": [version]}, Phase.PROMOTE),
        ({"versions": [version], "retire": {}}, Phase.RETIRE),
    ):
        cell = image({"publish": [publish]})
        assert cell.phases[-1] is last
        assert cell.jobs == (Job.BUILD, Job.VERIFY, Job.PUBLISH)


# --- a child's build sees the very same ------------------------------------------------


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("rest", nargs=-1, type=click.UNPROCESSED)
@image_options
@profile_options
def _options_of_build(rest: tuple[str, ...], request: ProfileRequest) -> ProfileRequest:
    assert rest
    return request


SETS = {
    "disk": {"size": "6G", "label": "x"},
    "packages+": ["strace", "gdb"],
    "docker": {"source": "docker.io", "repository": None},
    "preload": ["registry.example/mysql:8.4=mysql:8.4"],
    "mirror.url": "http://mirror.example/ubuntu",
    "timeout.build": None,
    "cloud_init.datasources": ["OpenStack"],
}


@pytest.mark.parametrize("variables", [
    {},
    {"IMAGEBUILD_ARCH": "arm64", "IMAGEBUILD_PACKAGE": "vim less", "IMAGEBUILD_DEV": "1"},
    {"IMAGEBUILD_SET": "disk.size=9G;packages+=htop", "IMAGEBUILD_TROVE_SERIES": "2025.1"},
])  # fmt: skip
@pytest.mark.parametrize("row", [
    {"set": SETS},
    {"series": "2025.2", "arches": "amd64"},
    {"set": {"packages": []}, "series": "2025.2"},
    {},
])  # fmt: skip
def test_the_profile_is_that_of_the_command_line(
    monkeypatch: pytest.MonkeyPatch, row: dict[str, object], variables: dict[str, str]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    wanted = pipeline({"profiles": "ubuntu-jammy", **row})
    (cell,) = expand(wanted, environment_request().overrides)
    assert isinstance(cell, ImageCell)
    argv = [*commands.build(cell, PLACES).argv[1:]]
    request = _options_of_build.main(argv, standalone_mode=False)
    assert request.load([cell.profile]).profile == profile_of(cell).profile
    assert str(profile_of(cell).profile.arch) == str(cell.arch) == cell.id.rpartition("-")[2]


@pytest.mark.parametrize("publish", [
    {},
    {"name": "n", "visibility": "shared", "protected": True,
     "properties": {"a": "b", "os_type": None}},
    {"datastores": ["mysql"],
     "versions": [{"datastore": "mysql", "version": "8", "image_tags": ["trove", "mysql"]}]},
    {"datastores": ["mysql"],
     "versions": [{"datastore": "mysql", "version": "8", "image_tags": ["a", "trove"]}]},
    {"tags": ["z"], "versions": [{"datastore": "mysql", "version": "8", "image_tags": ["a"]}]},
    {"versions": [{"datastore": "mysql", "version": "8"}]},
])  # fmt: skip
def test_what_is_looked_for_is_what_upload_is_asked_for(publish: dict[str, object]) -> None:
    cell = image({}, publish=[publish])
    argv = commands.upload(cell, cell.publish[0], PLACES, "/artifact").argv
    params = upload_verb.make_context("upload", list(argv[1:])).params
    choice = choice_of(cell.publish[0])
    assert choice.name == params["name"]
    assert choice.tags == params["tags"]
    assert choice.datastores == params["datastores"]
    assert choice.candidate == params["candidate"]
    assert choice.protected == params["protected"]
    said = dict(text.split("=", 1) for text in params["properties"])
    assert {k: v or "" for k, v in choice.properties.items()} == said
    flags = [v for v in ("private", "shared", "community", "public") if params[f"is_{v}"]]
    assert choice.visibility == next(iter(flags), None)


# --- needs ----------------------------------------------------------------------------


def test_needs_are_those_that_doctor_judges_by() -> None:
    cell = image({})
    build = needs(cell, Job.BUILD)
    assert build.memory == MEMORY[Need.BUILD][0]
    assert build.disk > SCRATCH_SPACE
    assert (build.root, build.kvm) == (True, False)
    for level, need, kvm in (
        ("static", None, False), ("boot", Need.BOOT, True), ("agent", Need.VERIFY, True),
    ):  # fmt: skip
        found = needs(image({"verify": {"level": level}}), Job.VERIFY)
        assert found.kvm is kvm
        assert found.memory < MEMORY[Need.BOOT][0] if need is None else MEMORY[need][0]
    assert not needs(image({"verify": {"accelerator": "tcg"}}), Job.VERIFY).kvm


def test_containers_and_conversions_need_room() -> None:
    plain = image({"publish": [{}]})
    preloaded = image({"set": {"preload": ["docker.io/library/mysql:8.4"]}})
    assert needs(preloaded, Job.BUILD).disk > needs(plain, Job.BUILD).disk
    raw = dataclasses.replace(
        plain, publish=(plain.publish[0].model_copy(update={"convert": True}),)
    )
    assert needs(raw, Job.PUBLISH).disk > needs(plain, Job.PUBLISH).disk
    assert not needs(mirror_cells(pipeline(mirrors=[{"list": "trove"}]))[0], Job.MIRROR).root
