"""`imagebuild profile`: list, show and check profiles."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from imagebuild.cli import complete
from imagebuild.cli.options import (
    ProfileRequest,
    image_options,
    json_option,
    profile_options,
    search_option,
)
from imagebuild.cli.terminal import one_line, terminal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SCHEMA_VERSION = 1


@click.group()
def profile() -> None:
    """List, show and check profiles: what a guest image is made from."""


@profile.command("list")
@search_option
@json_option
def list_(profiles_path: tuple[Path, ...], as_json: bool) -> None:
    """List the profiles that can be built."""
    from imagebuild.config.load import list_profiles

    found = list_profiles(profiles_path)
    if as_json:
        keys = ("name", "os", "release", "python", "error")
        rows = [{k: getattr(p, k) for k in keys} | {"path": str(p.path)} for p in found]
        terminal.json({"schema_version": SCHEMA_VERSION, "profiles": rows})
        return
    table = [["NAME", "OS", "RELEASE", "PYTHON", "FILE"]]
    for p in found:
        cells = [p.name, p.os or "invalid", p.release or "-", p.python or "-", str(p.path)]
        table.append([one_line(cell) for cell in cells])
    widths = [max(len(row[column]) for row in table) for column in range(4)]
    for row in table:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        terminal.data("  ".join([*cells, row[4]]))
    for broken in (p for p in found if p.error):
        terminal.info(f"{broken.name} is not valid: {broken.error}")


@profile.command()
@click.argument(
    "target",
    nargs=-1,
    required=True,
    metavar="OS RELEASE | NAME | FILE",
    shell_complete=complete.target,
)
@click.option(
    "--origin", is_flag=True, envvar="IMAGEBUILD_ORIGIN", show_envvar=True,
    help="Say who set each key: a file and line, a flag, the environment, or the default.",
)  # fmt: skip
@json_option
@profile_options
@image_options
def show(target: tuple[str, ...], origin: bool, as_json: bool, request: ProfileRequest) -> None:
    """Show a profile as a build would use it: inheritance and overrides applied.

    Passwords inside URLs are left out.
    """
    loaded = request.load(target)
    tree = _without_userinfo(loaded.profile.model_dump(mode="json"))
    if as_json:
        document = {"schema_version": SCHEMA_VERSION, "profile": tree}
        terminal.json(document | {"path": str(loaded.path), "origins": dict(loaded.origins)})
        return
    lines = list(_yaml_lines(tree, ""))
    width = max(len(text) for text, _ in lines if len(text) <= 60)
    for text, key in lines:
        note = loaded.origins.get(key, "") if origin else ""
        terminal.data(f"{text.ljust(width)}  # {one_line(note)}" if note else text)


@profile.command()
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE..."
)
@search_option
@json_option
def validate(files: tuple[Path, ...], profiles_path: tuple[Path, ...], as_json: bool) -> None:
    """Check profile files; every mistake is named with its line.

    Of a file whose name begins with '_', a parent for others, keys may be missing.
    """
    from imagebuild.config.load import check_file
    from imagebuild.errors import ConfigError

    errors: list[ConfigError] = []
    rows: list[dict[str, Any]] = []
    for file in files:
        row: dict[str, Any] = {"file": str(file), "valid": True, "error": None}
        try:
            check_file(file, profiles_path)
        except ConfigError as exc:
            errors.append(exc)
            row |= {"valid": False, "error": exc.to_json()}
        rows.append(row)
        if not as_json:
            terminal.data(f"{one_line(str(file))}: {'valid' if row['valid'] else 'NOT valid'}")
    if as_json:
        terminal.json({"schema_version": SCHEMA_VERSION, "files": rows})
    if len(errors) > 1:
        for error in errors:
            terminal.error(error)
        raise ConfigError(f"{len(errors)} of {len(files)} files are not valid")
    if errors:
        raise errors[0]


@profile.command()
@json_option
def schema(as_json: bool) -> None:  # noqa: ARG001 - it is JSON in any case
    """Print the JSON schema of profile files; editors use it for completion."""
    from imagebuild.config.profilekind import file_schema

    terminal.json({"schema_version": SCHEMA_VERSION} | file_schema())


def _without_userinfo(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    from imagebuild.config.values import strip_userinfo

    if isinstance(value, dict):
        return {key: _without_userinfo(below) for key, below in value.items()}
    if isinstance(value, list):
        return [_without_userinfo(item) for item in value]
    return strip_userinfo(value) if isinstance(value, str) else value


def _yaml_lines(tree: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    """Lines of YAML, each with the dotted key it shows; lists stay on one line."""
    import yaml

    indent = "  " * prefix.count(".")
    for key, value in tree.items():
        if isinstance(value, dict):
            yield f"{indent}{key}:", ""
            yield from _yaml_lines(value, f"{prefix}{key}.")
            continue
        # Inside a list, so that a bare scalar comes without the "..." of a whole document.
        text = yaml.safe_dump([value], default_flow_style=True, width=10**6, allow_unicode=True)
        yield f"{indent}{key}: {text.strip()[1:-1]}", f"{prefix}{key}"
