"""Pipelines: what their files hold, how they are found, and every mistake with its line."""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from imagebuild.config.pipeline import PIPELINE, Level, file_schema
from imagebuild.config.pipelinevalues import check_cron, parse_percent
from imagebuild.config.words import Series
from imagebuild.errors import ConfigError
from imagebuild.pipeline.loading import LoadedPipeline, list_pipelines, load_pipeline


@pytest.fixture(autouse=True)
def _own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the files of whoever runs the tests out of them."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))
    return path


def load(tmp_path: Path, text: str, target: str | None = None) -> LoadedPipeline:
    return load_pipeline(str(write(tmp_path / "night.yaml", text)), target=target)


def fail(tmp_path: Path, text: str, target: str | None = None) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, target)
    return caught.value


JAMMY = "images: [{profiles: ubuntu-jammy}]\n"


# --- the pipeline that comes with the tool --------------------------------------------


def test_the_shipped_one_can_be_run_as_it_is() -> None:
    loaded = load_pipeline("nightly")
    ids = [c.id for c in loaded.cells]
    assert ids == ["ubuntu-jammy-amd64", "ubuntu-noble-amd64", "debian-bookworm-amd64"]
    assert loaded.value.publish == ()
    (note,) = loaded.notes
    assert "trove is left out" in note
    assert loaded.places[0].endswith(".yaml:18")


def test_its_mirror_list_is_synced_as_soon_as_somebody_says_where_to() -> None:
    loaded = load_pipeline("nightly", target="reg.example:5000/trove")
    assert loaded.notes == ()
    mirror, *images = loaded.cells
    assert mirror.id == "mirror-trove"
    assert {cell.after for cell in images} == {("mirror-trove",)}


def test_what_is_published_wants_its_mirror(tmp_path: Path) -> None:
    text = "extends: nightly\npublish: [{cloud: prod}]\n"
    error = fail(tmp_path, text)
    assert "mirrors[0].target: it is not said where copies go" in str(error)
    assert load(tmp_path, text, target="reg.example:5000").notes == ()


def test_list(tmp_path: Path) -> None:
    write(tmp_path / "config/imagebuild/pipeline/mine.yaml", "extends: nightly\nimages: [{}]\n")
    write(tmp_path / "more/pipeline/other.yaml", JAMMY)
    found = {n.name: n for n in list_pipelines([tmp_path / "more"])}
    assert list(found) == ["mine", "nightly", "other"]
    assert (found["nightly"].cells, found["nightly"].error) == (3, "")
    assert found["other"].cells == 1
    assert "images[0].profiles: this key is missing" in found["mine"].error


# --- where things are -----------------------------------------------------------------


def test_relative_paths_start_at_the_file(tmp_path: Path) -> None:
    write(tmp_path / "profiles/own.yaml", "extends: ubuntu-jammy\n")
    write(tmp_path / "more/named.yaml", "extends: debian-bookworm\n")
    write(tmp_path / "ca.pem", "")
    write(tmp_path / "lists/m.yaml", "extends: trove\ntarget: {registry: r.example}\n")
    loaded = load(
        tmp_path,
        """\
        profiles_path: [more]
        mirrors: [{list: lists/m.yaml}]
        images:
          - profiles: [profiles/own.yaml, named]
            set:
              agent: {source: src}
              ca_certificates+: [ca.pem]
              elements.path: [elements]
        extra_images: [{profiles: ./profiles/own.yaml, name: again}]
        """,
    )
    mirror, own, named, again = loaded.cells
    assert mirror.id == "mirror-m"
    assert mirror.step.list == str(tmp_path / "lists/m.yaml")  # type: ignore[union-attr]
    assert (own.id, named.id, again.id) == ("own-amd64", "named-amd64", "again-amd64")
    assert own.search == (tmp_path / "more",)  # type: ignore[union-attr]
    assert dict(own.set) == {  # type: ignore[union-attr]
        "agent.source": str(tmp_path / "src"),
        "ca_certificates+": [str(tmp_path / "ca.pem")],
        "elements.path": [str(tmp_path / "elements")],
    }


def test_a_file_of_ones_own_changes_what_it_says(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        """\
        extends: nightly
        mirrors: []
        verify: {level: database, databases: mysql:8.4, networks: bridge}
        extra_images: [{profiles: debian-bookworm, series: 2025.2, arches: [amd64, arm64]}]
        """,
    )
    assert [c.id for c in loaded.cells][3:] == [
        "debian-bookworm-2025-2-amd64", "debian-bookworm-2025-2-arm64",
    ]  # fmt: skip
    assert loaded.value.name == "night"
    assert loaded.value.verify.level is Level.DATABASE
    assert loaded.value.verify.databases == ("mysql:8.4",)
    assert loaded.value.gates.verified is Level.BOOT


def test_values_in_their_canonical_form(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        """\
        images:
          - profiles: ubuntu-jammy
            series: 2025.1
            publish:
              - cloud: prod
                properties: {a: true, b: 3, c: null, d: x}
                versions: [{datastore: postgresql, version: 17}]
                retire: {grace: 2d}
        gates: {size: 1024M, growth: 20 %, deny_packages: [telnetd, "python:set*"]}
        timeouts: {build: 90m, verify: null}
        engines: {schedule: "*/15  1-5 * * mon,FRI"}
        """,
    ).value
    (publish,) = loaded.images[0].publish or ()
    assert publish.properties == {"a": "true", "b": "3", "c": "", "d": "x"}
    assert publish.versions[0].version == "17"
    assert publish.retire
    assert publish.retire.grace_seconds == 2 * 86400
    assert loaded.images[0].series == (Series.S2025_1,)
    assert (loaded.gates.size, loaded.gates.growth) == ("1G", "20%")
    assert parse_percent("20%") == pytest.approx(0.2)
    assert (loaded.timeouts.build, loaded.timeouts.verify) == ("1h30m", None)
    assert loaded.engines.schedule == "*/15 1-5 * * mon,FRI"


# --- mistakes -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "where", "said"),
    [
        ("name: x", "", "there is nothing to do"),
        ("images: [{}]", ":1", "images[0].profiles: this key is missing"),
        ("images: [{profiles: []}]", ":1", "at least one profile"),
        ("images: [{profiles: ubuntu-jamy}]", ":1", "did you mean 'ubuntu-jammy'?"),
        ("images: [{profiles: [ubuntu-jammy, ubuntu-jammy]}]", ":1", "listed twice"),
        (JAMMY + "extra_images: [{profiles: ubuntu-jammy}]", ":2",
         "two cells are called ubuntu-jammy-amd64; the other one is of images[0]"),
        ("images:\n- profiles: [ubuntu-jammy, ubuntu-noble]\n  name: x", ":2", "this row"),
        ("images:\n- profiles: ubuntu-jammy\n  series: 2026.2", ":3",
         "Trove 2026.2 does not run on Python 3.10"),
        ("images:\n- profiles: ubuntu-jammy\n  series: 2025", ":3", "2025.1, 2025.2"),
        ("images:\n- profiles: ubuntu-jammy\n  set: {disk.sise: 6G}", ":3",
         "images[0].set.disk.sise: unknown key"),
        ("images:\n- profiles: ubuntu-jammy\n  set:\n    disk:\n      size: 1T5", ":5",
         "images[0].set.disk.size: '1T5' is not a size"),
        ("images:\n- profiles: ubuntu-jammy\n  set: {disk.size: 6G, disk: {size: 7G}}", ":3",
         "'disk.size' is set twice"),
        ("images:\n- profiles: ubuntu-jammy\n  set: {arch: arm64}", ":2", "arches"),
        ("images:\n- profiles: ubuntu-jammy\n  set: {agent: {series: 2025.2}}", ":2", "series"),
        (JAMMY + "mirrors: [{list: trov}]", ":2", "did you mean 'trove'?"),
        (JAMMY + "mirrors: [{list: trove, target: 'ftp://x'}]", ":2", "mirrors[0].target"),
        (JAMMY + "mirrors: [{list: trove, target: r.example, locked: true}]", ":2", "lock file"),
        (JAMMY + "mirrors: [{list: trove, target: r.example, only: ['mysql:8*', mysq]}]", ":2",
         "mirrors[0].only[1]: nothing in the list is called 'mysq'"),
        (JAMMY + "mirrors:\n- &x {list: trove}", ":3", "anchors"),
        (JAMMY + "mirrors: [{list: trove, target: a.example}, {list: trove, target: b.example}]",
         ":2", "two of them are called mirror-trove"),
        (JAMMY + "verify: {level: boots}", ":2", "did you mean 'boot'?"),
        (JAMMY + "verify: {databases: [mysq:8.4]}", ":2", "did you mean 'mysql'?"),
        (JAMMY + "verify: {databases: ['mysql:8.4=x:1']}", ":2", "the image of a database has a"),
        (JAMMY + "verify: {registries: ['reg:5000']}", ":2", "not a registry"),
        (JAMMY + "verify: {timeouts: [doker=5m]}", ":2", "did you mean 'docker'?"),
        (JAMMY + "verify: {timeouts: [docker=5]}", ":2", "not a duration"),
        (JAMMY + "verify: {level: database}", ":2", "the image brings none"),
        (JAMMY + "verify: {level: database, databases: mysql:8.4, backup_images: mariadb=x}", ":2",
         "a datastore that is not verified"),
        (JAMMY + "verify: {accelerator: kwm}", ":2", "did you mean 'kvm'?"),
        (JAMMY + "gates:\n  verified: agent", ":3", "agent is never proven"),
        (JAMMY + "gates: {growth: 20}", ":2", "write 20%"),
        (JAMMY + "gates: {size: 0}", ":2", "no image is that small"),
        (JAMMY + "gates: {deny_packages: ['telnetd (>= 1)']}", ":2", "no package and no pattern"),
        (JAMMY + "gates: {mirrors: holt}", ":2", "did you mean 'hold'?"),
        (JAMMY + "publish: [{cloud: a}, {cloud: a}]", ":2", "the cloud a is listed twice"),
        (JAMMY + "publish: [{}, {}]", ":2", "OS_* variables is listed twice"),
        (JAMMY + "publish: [{cloud: 'a b'}]", ":2", "no name of a cloud"),
        (JAMMY + "publish: [{visibility: publik}]", ":2", "did you mean 'public'?"),
        (JAMMY + "publish: [{tags: [a], datastores: [mysql]}]", ":2", "say one of them"),
        (JAMMY + "publish: [{tags: ['a,b']}]", ":2", "a tag with a comma"),
        (JAMMY + "publish: [{properties: {imagebuild_x: 1}}]", ":2", "is not to be chosen"),
        (JAMMY + "publish: [{properties: {owner: x}}]", ":2", "is no property"),
        (JAMMY + "publish: [{convert: true, format: qcow2}]", ":2", "convert makes a raw image"),
        (JAMMY + "publish: [{format: vmdk}]", ":2", "ubuntu-jammy makes no vmdk"),
        (JAMMY + "publish: [{method: web-download}]", ":2", "glance-direct"),
        (JAMMY + "publish: [{retire: {}}]", ":2", "retire goes by the datastores of versions"),
        (JAMMY + "publish: [{promote: false}]", ":2", "promote: false is about versions"),
        ("images: [{profiles: ubuntu-jammy, series: 2025.1}]\n"
         "publish: [{control_plane_series: 2025.2}]", ":2", "of 2025.1, the cloud of 2025.2"),
        ("images: [{profiles: ubuntu-jammy, set: {agent.mode: dev}}]\n"
         "publish: [{visibility: public}]", ":2", "dev images, which are never public"),
        ("images: [{profiles: ubuntu-jammy, set: {agent.mode: dev}}]\n"
         "publish: [{versions: [{datastore: mysql, version: 8.4}]}]", ":2", "not promoted"),
        (JAMMY + "publish: [{versions: [{datastore: mysql}]}]", ":2", "version: this key"),
        (JAMMY + "publish: [{versions: [{datastore: mysql, version: '-'}]}]", ":2",
         "not a name that Trove takes"),
        (JAMMY + "publish: [{versions: [{datastore: mysql, version: 8, manager: mysgl}]}]", ":2",
         "did you mean 'mysql'?"),
        (JAMMY + "publish: [{versions: [{datastore: m, version: 8, image_tags: ['a,b']}]}]", ":2",
         "separates tags by commas"),
        (JAMMY + "publish: [{versions: [{datastore: m, version: 8, image_tags: [a, b, c, d, e, f]"
         "}]}]", ":2", "Trove takes 5 at most"),
        (JAMMY + "publish: [{versions: [{datastore: m, version: 8}, {datastore: M, version: '8'}]"
         "}]", ":2", "is listed twice"),
        (JAMMY + "publish: [{versions: [{datastore: m, version: 8, default: true}, {datastore: m, "
         "version: 9, default: true}]}]", ":2", "one version is the default"),
        ("images: [{profiles: [ubuntu-jammy, ubuntu-noble]}]\n"
         "publish: [{versions: [{datastore: m, version: 8}]}]", ":2", "would both give their"),
        ("images:\n- profiles: ubuntu-jammy\n  publish: [{versions: [{datastore: m, version: 8, "
         "image_tags: [a]}]}]\n- profiles: ubuntu-noble\n  publish: [{versions: [{datastore: m, "
         "version: 9, image_tags: [a, b]}]}]", ":5", "would both give the tags a"),
        (JAMMY + "retry: {wait: 60}", ":2", "write 60s"),
        (JAMMY + "retry: {wait: null}", ":2", "no time to wait"),
        (JAMMY + "retry: {attempts: 0}", ":2", "greater than or equal to 1"),
        (JAMMY + "retention: {artifacts: 0}", ":2", "greater than or equal to 1"),
        (JAMMY + "timeouts: {build: 0s}", ":2", "0 would end everything"),
        (JAMMY + "engines: {schedule: '@daily'}", ":2", "five"),
        (JAMMY + "engines: {install: \"a\\nb\"}", ":2", "one line for a shell"),
        (JAMMY + "engines: {github: {runs_on: 'x;y'}}", ":2", "letters, digits"),
        (JAMMY + "profiles_path: [more]", ":2", "more is not a directory"),
        (JAMMY + "profiles_path: more", ":2", "a list is expected"),
        (JAMMY + "extends: nightli", ":2", "did you mean 'nightly'?"),
        (JAMMY + "imags: []", ":2", "did you mean 'images'?"),
    ],
)  # fmt: skip
def test_a_mistake_has_its_line_and_what_to_try(
    tmp_path: Path, text: str, where: str, said: str
) -> None:
    error = fail(tmp_path, text)
    assert error.where.endswith(f"night.yaml{where}"), error.where
    assert said in f"{error.what} {error.detail} {error.hint}", (error.what, error.hint)
    assert "\n" not in error.what


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    error = fail(
        tmp_path,
        """\
        images:
          - profiles: [ubuntu-jammy, ubuntu-jamy]
            verify: {level: static, timeouts: [x=1m]}
          - profiles: debian-bookworm
            set: {disc.size: 5G}
        mirrors: [{list: nothing}]
        gates: {verified: boot}
        publish: [{cloud: a}, {cloud: a, format: vhd}]
        """,
    )
    assert error.what == "the pipeline night has 7 mistakes"
    lines = error.detail.splitlines()
    assert sorted(int(line.split(":")[1]) for line in lines) == [2, 3, 3, 5, 6, 8, 8]
    for key in ("images[0].profiles[1]", "images[0].verify.timeouts[0]",
                "images[0].verify.level", "images[1].set.disc.size", "mirrors[0].list",
                "publish[1].cloud", "publish[1].format"):  # fmt: skip
        assert any(f" {key}: " in line for line in lines), key


@pytest.mark.parametrize(
    "line",
    ["* * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8", "5-1 * * * *",
     "*/0 * * * *", "a * * * *", "1,, * * * *", "1/2 * * * *", "-1 * * * *", "* * * foo *",
     "² * * * *", "*/² * * * *", "1-2-3 * * * *", "*/ * * * *"],
)  # fmt: skip
def test_cron_lines_that_are_none(line: str) -> None:
    with pytest.raises(ValueError, match="cron line"):
        check_cron(line)


@pytest.mark.parametrize("line", ["0 0 1 1 0", "*/5 * * * *", "1,2-4,8-20/3 * * jan-mar sun,7"])
def test_cron_lines(line: str) -> None:
    assert check_cron(f" {line} ") == line


def test_editors_take_what_we_take(tmp_path: Path) -> None:
    directory = Path(__file__).parents[2] / "profiles/pipeline"
    (example,) = re.findall(r"```yaml\n(.*?)```", (directory / "README.md").read_text(), re.DOTALL)
    own = """
images: [{profiles: ubuntu-jammy, series: 2025.1, arches: amd64, set: {disk: {size: 6G}}}]
verify: {networks: bridge, firmwares: [bios], timeouts: docker=5m}
publish:
- {properties: {a: true, b: 3, c: null}, versions: [{datastore: mysql, version: 8.4}]}
gates: {size: 600M, growth: 20%}
retry: {wait: 5m}
"""
    for text in ((directory / "nightly.yaml").read_text(), example, own):
        load(tmp_path, text)
        jsonschema.validate(yaml.safe_load(text), file_schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"images": [{"profile": "x"}]}, file_schema())


def test_the_schema_says_all_keys() -> None:
    text = json.dumps(file_schema())
    for path in PIPELINE.known_paths():
        assert f'"{path.rpartition(".")[2]}"' in text, path
    assert "extra_images" in text
    descriptions = _descriptions(file_schema())
    assert all(descriptions), "a key without a description"


def _descriptions(schema: dict[str, Any]) -> list[str]:
    parts = [schema, *schema["$defs"].values()]
    return [key.get("description", "") for p in parts for key in p.get("properties", {}).values()]


def test_the_readme_s_example_is_one(tmp_path: Path) -> None:
    readme = Path(__file__).parents[2] / "profiles/pipeline/README.md"
    (text,) = re.findall(r"```yaml\n(.*?)```", readme.read_text(), re.DOTALL)
    loaded = load(tmp_path, text)
    assert loaded.notes == ()
    assert len(loaded.value.publish or loaded.value.images[0].publish or ()) >= 1
