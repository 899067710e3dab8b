"""imagebuild explain LOG: what a log means, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

import click

from imagebuild.cli.options import json_option
from imagebuild.cli.terminal import terminal, visible

if TYPE_CHECKING:
    from imagebuild.explain import Explanation, Scope


@click.command(
    epilog="Exits with 1 when nothing was recognised, as grep does. "
    "Example: imagebuild explain ~/.cache/imagebuild/logs/*.log"
)
@click.argument("logs", nargs=-1, metavar="LOG...", type=click.File("rb"))
@click.option(
    "--scope", type=click.Choice(["build", "boot", "agent", "control", "publish"]),
    envvar="IMAGEBUILD_SCOPE", show_envvar=True,
    help="Whose log it is: a build's, a guest's console, the guest agent's, Trove's own "
    "services', an upload's. [default: any]",
)  # fmt: skip
@click.option(
    "--list", "as_list", is_flag=True, envvar="IMAGEBUILD_LIST", show_envvar=True,
    help="List what is known, and explain nothing.",
)  # fmt: skip
@json_option
def explain(
    logs: tuple[BinaryIO, ...],
    scope: str | None,
    as_list: bool,
    as_json: bool,
) -> None:
    """Say what a log means, and what to do: the log of a build (diskimage-builder's own, too),
    of a guest's console, of the guest agent, of Trove. LOG is a file, or - for stdin.
    """
    from imagebuild.errors import ImagebuildError, UsageError
    from imagebuild.explain import Scope
    from imagebuild.explain import explain as search

    wanted = Scope(scope) if scope else None
    if as_list:
        _list(wanted, as_json)
        return
    if not logs:
        raise UsageError("which log is to be explained?", hint="name a file, or - for stdin")
    found = [(log.name, search(log.read().decode(errors="replace"), wanted)) for log in logs]
    is_any = any(explanations for _, explanations in found)
    if as_json:
        documents = [{"log": n, "explanations": [e.to_json() for e in es]} for n, es in found]
        terminal.json({"schema_version": 1, "logs": documents})
    if not is_any:
        raise ImagebuildError(
            "nothing in the log is in the pattern book",
            where=", ".join(name for name, _ in found),
            hint="imagebuild explain --list shows what is known",
        )
    for name, explanations in [] if as_json else found:
        if not explanations:
            terminal.info(f"{name}: nothing recognised")
        for explanation in explanations:
            terminal.data(_text(name, explanation))


def _text(log: str, explanation: Explanation) -> str:
    lines = [
        f"{log}:{explanation.number}: {explanation.line}",
        f"  cause: {explanation.title}  [{explanation.id}]",
        f"         {explanation.cause}",
        *(f"  try: {advice}" for advice in explanation.advice),
        *(f"  see: {source}" for source in explanation.source),
    ]
    # The log may hold anything, and a terminal would obey some of it.
    return visible("\n".join(lines)) + "\n"


def _list(scope: Scope | None, as_json: bool) -> None:
    from imagebuild.explain import load_book

    entries = [e for e in load_book().entries if scope is None or scope in e.scope]
    if as_json:
        documents = [
            {
                "id": e.id,
                "scope": [str(s) for s in e.scope],
                "rank": e.rank.name.lower(),
                "temporary": e.temporary,
                "title": e.title,
                "cause": e.cause.strip(),
                "advice": list(e.advice),
                "source": list(e.source),
                "patterns": [p.source for p in e.any],
            }
            for e in entries
        ]
        terminal.json({"schema_version": 1, "entries": documents})
        return
    width = max((len(e.id) for e in entries), default=0)
    where = max((len(_scopes(e.scope)) for e in entries), default=0)
    for entry in entries:
        terminal.data(f"{entry.id:{width}}  {_scopes(entry.scope):{where}}  {entry.title}")


def _scopes(scopes: tuple[Scope, ...]) -> str:
    return ",".join(map(str, scopes))
