"""imagebuild datastore load-parameters DATASTORE VERSION."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from imagebuild.cli import complete
from imagebuild.cli.datastore.options import (
    cloud_option,
    dry_run_option,
    region_option,
    trove_manage_of,
    trove_manage_option,
    trove_manage_timeout_option,
)
from imagebuild.cli.options import absolute, cache_option, json_option
from imagebuild.cli.terminal import terminal

if TYPE_CHECKING:
    from imagebuild.cloud.connection import Cloud
    from imagebuild.datastore.loading import Loaded, Loading, Missing


@click.command(
    "load-parameters",
    epilog="Example: imagebuild datastore load-parameters mysql 8.4 --trove-manage "
    "'ssh ctl docker exec -i trove_api trove-manage'",
)
@click.argument("datastore")
@click.argument("version")
@click.option(
    "--version-number", metavar="NUMBER", envvar="IMAGEBUILD_DATASTORE_VERSION_NUMBER",
    show_envvar=True, help="Which one, where several have the name VERSION.",
)  # fmt: skip
@click.option(
    "--file", "rules", type=click.Path(path_type=Path, dir_okay=False), metavar="RULES",
    envvar="IMAGEBUILD_DATASTORE_RULES", show_envvar=True, shell_complete=complete.place("file"),
    help="Rules of your own, in the form of Trove's validation-rules.json.",
)  # fmt: skip
@click.option(
    "--trove-series", metavar="SERIES", envvar="IMAGEBUILD_TROVE_SERIES", show_envvar=True,
    shell_complete=complete.word("Series"),
    help="Take the rules of this series. [default: the series of the image's guest agent]",
)  # fmt: skip
@trove_manage_option
@trove_manage_timeout_option
@click.option(
    "--offline", is_flag=True, envvar="IMAGEBUILD_OFFLINE", show_envvar=True,
    help="Take the release from the cache only.",
)  # fmt: skip
@cloud_option
@region_option
@cache_option
@dry_run_option
@json_option
def load_parameters(
    datastore: str,
    version: str,
    version_number: str | None,
    rules: Path | None,
    trove_series: str | None,
    trove_manage: str | None,
    trove_manage_timeout: float,
    offline: bool,
    cloud: str | None,
    region: str | None,
    cache_dir: Path,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Load the rules of configuration parameters, by which users may set a database's options.

    Trove's requests take part of them: no booleans, no floats, no integers without both
    bounds. --trove-manage loads all. What could not be loaded is listed by name, and ends
    with 6. What is there already is left alone.
    """
    import os

    from imagebuild.cloud.connection import connect
    from imagebuild.datastore import loading
    from imagebuild.datastore import rules as files

    via = trove_manage_of(trove_manage, trove_manage_timeout)
    given = files.read(absolute(rules, "--file")) if rules else None
    connected = connect(cloud, region)
    found = loading.locate(connected, datastore, version, version_number)
    if given is None:
        series = trove_series or loading.series_of(connected, found)
        given = files.of_release(series, found.manager, cache_dir, env=os.environ, offline=offline)
    plan = loading.propose(connected, found, given, via)
    _show(connected.name, plan)
    loaded = None
    if not dry_run:
        loaded = _load(connected, plan, via)
    if as_json:
        terminal.json(_document(connected.name, plan, loaded))
    missing = loaded.missing if loaded else ()
    if missing:
        raise _incomplete(connected.name, plan, missing, has_via=via is not None)


def _load(cloud: Cloud, plan: Loading, via: Any) -> Loaded:  # noqa: ANN401 - TroveManage, lazily
    from imagebuild.datastore import loading

    if not terminal.is_interactive or terminal.verbosity < 0 or via or not plan.pending:
        loaded = loading.carry_out(cloud, plan, via)
    else:
        with terminal.console.status("loading") as status:
            loaded = loading.carry_out(
                cloud, plan, via, lambda n, of: status.update(f"loading {n} of {of}")
            )
    if loaded.written:
        terminal.info(f"loaded: {_count(loaded.written)}")
    if not loaded.is_verified:
        terminal.warning(
            "what was loaded cannot be read back: Trove fails to list parameters whose bounds "
            "have a fraction"
        )
    return loaded


def _show(cloud: str, plan: Loading) -> None:
    """What will be loaded."""
    version, comparison = plan.version, plan.comparison
    terminal.info(
        f"cloud {cloud}: {version.label}: {_count(len(plan.file.rules))} of {plan.file.source}"
    )
    if comparison is None:
        terminal.info(f"  to load: {len(plan.pending)}; Trove cannot list what is there")
        return
    terminal.info(
        f"  new: {len(comparison.new)}, changed: {len(comparison.changed)}, "
        f"there already: {len(comparison.same)}"
    )
    for rule in comparison.changed:
        terminal.detail(f"  changed: {rule.name}")
    if comparison.extra:
        terminal.info(f"  not in the rules, left as they are: {', '.join(comparison.extra)}")
    if plan.left:
        terminal.info(f"  Trove's requests cannot carry {len(plan.left)} of them")


def _count(number: int) -> str:
    return f"{number} rule" + ("" if number == 1 else "s")


def _incomplete(
    cloud: str, plan: Loading, missing: Sequence[Missing], *, has_via: bool
) -> Exception:
    from imagebuild.errors import PublishError

    by_reason: dict[str, list[str]] = {}
    for one in missing:
        by_reason.setdefault(one.why, []).append(one.name)
    hint = "run the same command again" if has_via else "--trove-manage COMMAND loads all of them"
    return PublishError(
        f"{len(missing)} of {_count(len(plan.file.rules))} could not be loaded",
        where=f"cloud {cloud}, {plan.version.label}",
        detail="\n".join(f"{why}: {', '.join(names)}" for why, names in sorted(by_reason.items())),
        hint=hint,
    )


def _document(cloud: str, plan: Loading, loaded: Loaded | None) -> dict[str, Any]:
    from imagebuild.cli.datastore import view

    comparison = plan.comparison
    return {
        "schema_version": view.SCHEMA_VERSION,
        "cloud": cloud,
        "dry_run": loaded is None,
        "version": view.version_json(plan.version),
        "source": plan.file.source,
        "rules": len(plan.file.rules),
        "new": [r.name for r in comparison.new] if comparison else None,
        "changed": [r.name for r in comparison.changed] if comparison else None,
        "extra": list(comparison.extra) if comparison else None,
        "not_by_request": [{"name": r.name, "why": why} for r, why in plan.left],
        "loaded": loaded.written if loaded else 0,
        "verified": bool(loaded and loaded.is_verified),
        "missing": [{"name": m.name, "why": m.why} for m in loaded.missing] if loaded else None,
    }
