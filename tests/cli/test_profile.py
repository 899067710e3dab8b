"""`imagebuild profile`: its output is contract."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner, Result

from imagebuild.cli.options import ProfileRequest, image_options, profile_options
from imagebuild.cli.profile import profile
from imagebuild.data import profiles_dir
from imagebuild.errors import ConfigError, UsageError


@pytest.fixture(autouse=True)
def _own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def run(*args: str, env: dict[str, str] | None = None) -> Result:
    result = CliRunner().invoke(profile, args, env=env or {})
    assert not isinstance(result.exception, Exception), result.exception
    return result


def run_json(*args: str, env: dict[str, str] | None = None) -> Any:  # noqa: ANN401
    result = run(*args, "--json", env=env)
    document = json.loads(result.stdout)
    assert document["schema_version"] == 1
    return document


def fail(*args: str) -> ConfigError:
    result = CliRunner().invoke(profile, args)
    assert isinstance(result.exception, ConfigError)
    assert "Traceback" not in result.output
    return result.exception


def test_list() -> None:
    shipped = profiles_dir()
    assert run("list").stdout == (
        "NAME             OS      RELEASE   PYTHON  FILE\n"
        f"debian-bookworm  debian  bookworm  3.11    {shipped}/debian-bookworm.yaml\n"
        f"ubuntu-jammy     ubuntu  jammy     3.10    {shipped}/ubuntu-jammy.yaml\n"
        f"ubuntu-noble     ubuntu  noble     3.12    {shipped}/ubuntu-noble.yaml\n"
    )


def test_list_json_tells_what_is_broken(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("os: beos\n")
    profiles = run_json("list", "--profiles-path", str(tmp_path))["profiles"]
    assert [p["name"] for p in profiles] == [
        "bad", "debian-bookworm", "ubuntu-jammy", "ubuntu-noble",
    ]  # fmt: skip
    assert str(tmp_path / "bad.yaml") in profiles[0]["error"]
    assert profiles[1] == {
        "name": "debian-bookworm", "os": "debian", "release": "bookworm", "python": "3.11",
        "error": "", "path": str(profiles_dir() / "debian-bookworm.yaml"),
    }  # fmt: skip


def test_list_shows_a_broken_profile(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("os: beos\n")
    result = run("list", env={"IMAGEBUILD_PROFILES_PATH": str(tmp_path)})
    assert f"bad              invalid  -         -       {tmp_path}/bad.yaml" in result.stdout
    assert "bad is not valid" in result.stderr


def test_show_is_a_profile_file_again(tmp_path: Path) -> None:
    shown = run("show", "ubuntu", "jammy").stdout
    assert yaml.safe_load(shown)["docker"]["repository"]["suite"] == "jammy"
    (tmp_path / "again.yaml").write_text(shown)
    assert run("show", str(tmp_path / "again.yaml")).stdout == shown
    assert run("show", "ubuntu-jammy").stdout == shown


def test_show_origin_says_who_won() -> None:
    lines = run(
        "show", "debian", "bookworm", "--origin", "--image-size", "8",
        env={"IMAGEBUILD_MIRROR": "http://m.example/d", "IMAGEBUILD_IMAGE_SIZE": "7",
             "IMAGEBUILD_SET": "disk.label=a;python=3.12", "IMAGEBUILD_PACKAGE": "vim less"},
    ).stdout.splitlines()  # fmt: skip
    origins = {
        line.split(":")[0].strip(): tuple(part.strip() for part in line.split("  # "))
        for line in lines
        if "  # " in line
    }
    assert origins["size"] == ("size: 8G", "flag --image-size")
    assert origins["label"] == ("label: a", "environment IMAGEBUILD_SET disk.label")
    assert origins["python"] == ("python: '3.12'", "environment IMAGEBUILD_SET python")
    assert any("username: ubuntu" in x and f"# {profiles_dir()}/_common.yaml:" in x for x in lines)
    assert origins["arch"] == ("arch: amd64", "default")
    assert any("url: 'http://m.example/d'" in x and "IMAGEBUILD_MIRROR" in x for x in lines)
    assert origins["packages"][0].endswith("xfsprogs, vim, less]")
    assert origins["packages"][1].endswith(" + environment IMAGEBUILD_PACKAGE")


def test_show_json_has_profile_and_origins() -> None:
    document = run_json("show", "ubuntu", "noble", "--set", "disk.size=8G")
    assert document["profile"]["disk"]["size"] == "8G"
    assert document["origins"]["disk.size"] == "--set disk.size"
    assert document["path"] == str(profiles_dir() / "ubuntu-noble.yaml")


def test_show_leaves_passwords_out() -> None:
    result = run("show", "ubuntu", "jammy", "--origin", "--mirror", "http://me:s3cret@m.example/u")
    assert "s3cret" not in result.output
    assert "http://m.example/u" in result.stdout


def test_show_of_what_is_not_there() -> None:
    error = fail("show", "ubuntu", "jamy")
    assert error.hint == "did you mean 'ubuntu jammy'?"
    too_many = CliRunner().invoke(profile, ["show", "a", "b", "c"])
    assert isinstance(too_many.exception, UsageError)


def test_show_of_a_misspelt_key() -> None:
    error = fail("show", "ubuntu", "jammy", "--set", "disk.siz=8G")
    assert (error.where, error.hint) == ("--set disk.siz", "did you mean 'disk.size'?")


def test_validate() -> None:
    files = sorted(str(path) for path in profiles_dir().glob("*.yaml"))
    assert run("validate", *files).stdout == "".join(f"{file}: valid\n" for file in files)


def test_validate_reports_every_file(tmp_path: Path) -> None:
    good, bad, worse = (tmp_path / f"{name}.yaml" for name in ("good", "bad", "worse"))
    good.write_text("extends: debian-bookworm\n")
    bad.write_text("extends: debian-bookworm\ndisc: {size: 5G}\n")
    worse.write_text("extends: [\n")
    result = CliRunner().invoke(profile, ["validate", str(good), str(bad), str(worse)])
    assert result.stdout == f"{good}: valid\n{bad}: NOT valid\n{worse}: NOT valid\n"
    assert isinstance(result.exception, ConfigError)
    assert result.exception.what == "2 of 3 files are not valid"
    assert "did you mean 'disk'?" in result.stderr
    assert f"{bad}:2" in result.stderr.replace("\n", "")


def test_validate_json_of_one_bad_file(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("extends: debian-bookworm\narch: arm46\n")
    result = CliRunner().invoke(profile, ["validate", "--json", str(bad)])
    assert isinstance(result.exception, ConfigError)
    (row,) = json.loads(result.stdout)["files"]
    assert row["valid"] is False
    assert row["error"]["where"] == f"{bad}:2"
    assert row["error"]["exit_code"] == 3
    assert row["error"]["hint"] == "did you mean 'arm64'?"


def test_schema() -> None:
    document = run_json("schema")
    assert document["properties"]["disk"]["description"]
    assert document["properties"]["arch"]["default"] == "amd64"
    assert "required" not in document
    assert json.loads(run("schema").stdout) == document


def every_command(group: click.Group) -> list[tuple[str, click.Command]]:
    return sorted(group.commands.items())


@pytest.mark.parametrize("name", [name for name, _ in every_command(profile)])
def test_every_option_names_its_variable_in_help(name: str) -> None:
    command = profile.commands[name]
    text = " ".join(run(name, "--help").stdout.split())
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert isinstance(parameter.envvar, str)
            assert parameter.envvar.startswith("IMAGEBUILD_")
            assert parameter.envvar in text


def requested(*args: str, env: dict[str, str] | None = None) -> list[tuple[str, object, str]]:
    """Overrides that a command with all of the options gets."""
    got: list[ProfileRequest] = []

    @click.command()
    @profile_options
    @image_options
    @click.option("--other", default="x")
    def command(other: str, request: ProfileRequest) -> None:
        assert other == "x"
        got.append(request)

    result = CliRunner().invoke(command, args, env=env or {}, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return [(o.path, o.value, o.origin) for o in got[0].overrides]


def test_each_flag_sets_its_key() -> None:
    assert requested(
        "--arch", "arm64", "--guest-username", "me", "--image-size", "8",
        "--agent", "pypi:trove==25.0.0", "--trove-series", "2025.1",
        "--datasource", "NoCloud", "--datasource", "Ec2", "--mirror", "http://m/x",
        "--keyring", "k.gpg", "--elements-path", "e", "--element", "one",
        "--element", "agent:two", "--package", "vim", "--timeout", "3h",
        "--timeout", "base=none", "--set", "packages+=less",
    ) == [
        ("arch", "arm64", "flag --arch"),
        ("guest.username", "me", "flag --guest-username"),
        ("disk.size", "8", "flag --image-size"),
        ("agent.source", "pypi:trove==25.0.0", "flag --agent"),
        ("agent.series", "2025.1", "flag --trove-series"),
        ("cloud_init.datasources", ["NoCloud", "Ec2"], "flag --datasource"),
        ("mirror.url", "http://m/x", "flag --mirror"),
        ("mirror.keyring", "k.gpg", "flag --keyring"),
        ("elements.path", ["e"], "flag --elements-path"),
        ("elements.base", ["one"], "flag --element"),
        ("elements.agent", ["two"], "flag --element"),
        ("packages", ["vim"], "flag --package"),
        ("timeout.build", "3h", "flag --timeout"),
        ("timeout.base", "none", "flag --timeout"),
        ("packages", "less", "--set packages"),
    ]  # fmt: skip


def test_environment_then_flags_then_set() -> None:
    env = {"IMAGEBUILD_ARCH": "arm64", "IMAGEBUILD_SET": "disk.size=7G"}
    origins = [origin for _, _, origin in requested("--image-size", "8", env=env)]
    assert origins == [
        "environment IMAGEBUILD_ARCH",
        "environment IMAGEBUILD_SET disk.size",
        "flag --image-size",
    ]
    assert requested("--set", "disk.size=9G", "--image-size", "8")[-1][1] == "9G"


def test_no_options_no_overrides() -> None:
    assert requested() == []
