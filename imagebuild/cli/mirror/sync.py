"""imagebuild mirror sync MIRROR: the target gets what it does not have yet."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from imagebuild.cli import complete
from imagebuild.cli.mirror.options import (
    client_of,
    engine_option,
    items_of,
    jobs_option,
    list_argument,
    load,
    lock_option,
    lock_place,
    locked_option,
    only_option,
    read_locks,
    target_option,
)
from imagebuild.cli.options import json_option
from imagebuild.cli.terminal import terminal

if TYPE_CHECKING:
    from imagebuild.cli.mirror.view import View
    from imagebuild.mirror.loading import LoadedList
    from imagebuild.mirror.planning import MirrorPlan
    from imagebuild.mirror.result import Report
    from imagebuild.registry.client import Client


@click.command(
    epilog="Example: imagebuild mirror sync trove --target registry.example.org:5000/trove "
    "--metrics /var/lib/prometheus/node-exporter/mirror.prom"
)
@list_argument
@target_option
@only_option
@locked_option
@lock_option
@click.option(
    "--deep", is_flag=True, envvar="IMAGEBUILD_MIRROR_DEEP", show_envvar=True,
    help="Look at all of the images whose tags are the same, too, and send what the target has "
    "lost of them. Asks for more than tags.",
)  # fmt: skip
@click.option(
    "--new-referrers", is_flag=True, envvar="IMAGEBUILD_MIRROR_NEW_REFERRERS", show_envvar=True,
    help="Look for signatures that came to images since they were copied.",
)  # fmt: skip
@engine_option
@jobs_option
@click.option(
    "--metrics", type=click.Path(path_type=Path), metavar="FILE",
    envvar="IMAGEBUILD_MIRROR_METRICS", show_envvar=True, shell_complete=complete.place("file"),
    help="Write what became of the run for Prometheus's node_exporter (FILE.prom in its textfile "
    "directory).",
)  # fmt: skip
@click.option(
    "--report", type=click.Path(path_type=Path), metavar="FILE",
    envvar="IMAGEBUILD_MIRROR_REPORT", show_envvar=True, shell_complete=complete.place("file"),
    help="Write the document of --json to a file, whatever the run's end.",
)  # fmt: skip
@click.option(
    "--dry-run", is_flag=True, envvar="IMAGEBUILD_DRY_RUN", show_envvar=True,
    help="Ask both sides, say what would be done, change nothing (as `mirror plan`).",
)  # fmt: skip
@json_option
@click.pass_context
def sync(
    context: click.Context,
    /,
    mirror_list: str,
    target: str | None,
    only: tuple[str, ...],
    locked: bool,
    lock: Path | None,
    deep: bool,
    new_referrers: bool,
    engine: str,
    jobs: int,
    metrics: Path | None,
    report: Path | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Copy what the registry does not have yet.

    MIRROR is a file, `-` for one from a pipe, or the name of a list: `trove`. A run with nothing
    to do asks for tags alone, which costs no pull. A tag changes last, when all below it is
    there. What was copied is in the lock file, after a failure and an interrupt, too. Ends with
    6 when anything is missing in the target, with 75 when all of that may be there later: a
    registry was away. The others are done nevertheless.
    """
    from imagebuild.cli.mirror import planview
    from imagebuild.errors import UsageError
    from imagebuild.outfile import check_place

    if engine == "docker" and (deep or new_referrers):
        raise UsageError("--deep and --new-referrers are for --engine registry alone")
    loaded = load(mirror_list, target)
    place = lock_place(loaded, lock)
    if dry_run:
        made = planview.make(loaded, only, place, engine, locked=locked)
        if as_json:
            terminal.json(planview.document(loaded, made, locked=locked, engine=engine))
        else:
            planview.show(terminal, loaded, made)
        context.exit(int(planview.exit_code(made)))
    if place and not lock:
        # Of a list that comes with the tool, it is among the user's state.
        with contextlib.suppress(OSError):  # told next
            place.parent.mkdir(parents=True, exist_ok=True)
    if place:
        check_place(place, "the lock file says which tags are ours: --lock FILE puts it elsewhere")
    for file in filter(None, (metrics, report)):
        check_place(file)
    run = _Run(loaded, place, engine, metrics, report, as_json=as_json)
    done = run.go(only, locked=locked, deep=deep, new_referrers=new_referrers, jobs=jobs)
    context.exit(int(done.exit_code))


class _Run:
    """One sync: where its results go, however it ends."""

    def __init__(
        self,
        loaded: LoadedList,
        lock: Path | None,
        engine: str,
        metrics: Path | None,
        report: Path | None,
        *,
        as_json: bool,
    ) -> None:
        self._loaded = loaded
        self._lock = lock
        self._engine = engine
        self._metrics = metrics
        self._report = report
        self._as_json = as_json

    def go(
        self, only: tuple[str, ...], *, locked: bool, deep: bool, new_referrers: bool, jobs: int
    ) -> Report:
        from imagebuild.cli.mirror import planview
        from imagebuild.cli.mirror.view import Notes, View, asking
        from imagebuild.mirror.copier import run_plan
        from imagebuild.mirror.planning import make_plan
        from imagebuild.mirror.result import RunInterrupted

        began = time.monotonic()
        known, held = read_locks(self._lock, locked=locked)
        with client_of(self._loaded.value, Notes(terminal)) as client:
            with asking(terminal):
                items = items_of(client, self._loaded, only, go_on=True)
                plan = make_plan(
                    client, items, lock=held, known=known,
                    engine=planview.engine_name(self._engine),
                )  # fmt: skip
            target = self._loaded.value.target.name
            terminal.info(f"to {target}")
            view = View(terminal, len(items), target)
            try:
                with view.live():
                    report = (
                        _with_docker(client, plan, view)
                        if plan.engine
                        else run_plan(
                            client, plan, emit=view, deep=deep, new_referrers=new_referrers,
                            jobs=jobs,
                        )
                    )  # fmt: skip
            except RunInterrupted as exc:
                self._finish(exc.report, view, began, interrupted=True)
                raise
        self._finish(report, view, began)
        return report

    def _finish(
        self, report: Report, view: View, began: float, *, interrupted: bool = False
    ) -> None:
        """Tell, and write, what became of it: the lock first, for it cannot be had again."""
        from imagebuild.errors import ImagebuildError, Interrupted
        from imagebuild.mirror import metrics
        from imagebuild.mirror.lockfile import record
        from imagebuild.outfile import put

        failed: ImagebuildError | None = None
        try:
            if self._lock:
                record(self._lock, report)
        except Interrupted:
            raise
        except ImagebuildError as exc:
            failed = exc  # a full disk: what became of the images is told nevertheless
        # The questions before the run are most of one that has nothing to do.
        report = dataclasses.replace(report, seconds=time.monotonic() - began)
        document = self._document(report, interrupted=interrupted)
        view.summary(report)
        if self._lock:
            terminal.detail(f"lock file: {self._lock}")
        if self._as_json:
            terminal.json(document)
        if self._report:
            put(self._report, json.dumps(document, indent=2) + "\n")
        if self._metrics:
            labels = {"list": self._loaded.path.stem, "target": document["target"]}
            metrics.write(self._metrics, report, labels, time.time())
        if failed:
            raise failed

    def _document(self, report: Report, *, interrupted: bool) -> dict[str, Any]:
        from imagebuild.cli.mirror.planview import SCHEMA_VERSION

        told = report.to_json()
        return {
            "schema_version": SCHEMA_VERSION,
            "list": str(self._loaded.path),
            "target": self._loaded.value.target.name,
            "lock": str(self._lock) if self._lock else None,
            "engine": self._engine,
            "dry_run": False,
            "interrupted": interrupted,
            "results": told.pop("results"),
            "quotas": told.pop("quotas"),
            "notes": told.pop("notes"),
            "totals": {"images": len(report.results)}
            | {k: v for k, v in told.items() if k != "removed"},
        }


def _with_docker(client: Client, plan: MirrorPlan, view: View) -> Report:
    from imagebuild.cli.mirror.planview import warn_of_docker
    from imagebuild.mirror.dockerengine import run_with_docker

    warn_of_docker(terminal)
    return run_with_docker(client, plan, emit=view)
