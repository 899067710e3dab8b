"""What a shell completes: names that a look into a directory tells, and closed choices.

Each function has the form of click's `shell_complete`. What cannot be read completes to
nothing: a shell that waits for a key is no place for an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

Complete = Callable[[click.Context, click.Parameter, str], "list[CompletionItem]"]


def target(context: click.Context, _parameter: object, incomplete: str) -> list[CompletionItem]:
    """OS RELEASE, a profile's name or its file."""
    from imagebuild.config.finding import named_profiles, search_path
    from imagebuild.config.words import Os
    from imagebuild.errors import ConfigError

    given: Sequence[str] = context.params.get("target") or ()
    if len(given) > 1 or "/" in incomplete:
        return [] if given else _items((), incomplete, "file")
    try:
        names = named_profiles(search_path(context.params.get("profiles_path") or ()))
    except (ConfigError, OSError):
        return []
    pairs = [(system, release) for system, _, release in (n.partition("-") for n in names)]
    pairs = [(system, release) for system, release in pairs if release and system in set(Os)]
    if given:
        return _items((release for system, release in pairs if system == given[0]), incomplete)
    return _items([*(system for system, _ in pairs), *names], incomplete, "file")


def artifact(context: click.Context, _parameter: object, incomplete: str) -> list[CompletionItem]:
    """An artifact in --images-dir, or a file."""
    images = Path(context.params.get("images_dir") or "~/images")
    try:
        names = [p.name for p in images.expanduser().iterdir() if p.is_dir()]
    except (OSError, RuntimeError):
        names = []
    return _items((n for n in names if not n.startswith(".")), incomplete, "file")


def mirror_list(_context: object, _parameter: object, incomplete: str) -> list[CompletionItem]:
    """A mirror list's name, or its file."""
    from imagebuild.config.finding import mirror_lists_path, named_profiles
    from imagebuild.errors import ConfigError

    if "/" in incomplete:
        return _items((), incomplete, "file")
    try:
        names = named_profiles(mirror_lists_path())
    except (ConfigError, OSError):
        names = {}
    return _items(names, incomplete, "file")


def pipeline(context: click.Context, _parameter: object, incomplete: str) -> list[CompletionItem]:
    """A pipeline's name, or its file."""
    from imagebuild.config.finding import named_profiles, pipelines_path
    from imagebuild.errors import ConfigError

    if "/" in incomplete:
        return _items((), incomplete, "file")
    try:
        names = named_profiles(pipelines_path(context.params.get("profiles_path") or ()))
    except (ConfigError, OSError):
        names = {}
    return _items(names, incomplete, "file")


def cell(context: click.Context, _parameter: object, incomplete: str) -> list[CompletionItem]:
    """The id of a cell of the pipeline that the line names."""
    from imagebuild.cli.pipeline.options import load
    from imagebuild.errors import ImagebuildError

    # Before an option that has no value yet, click leaves words as it found them.
    named = context.params.get("pipeline") or next(iter(context.args), None)
    if not named or named == "-":
        return []
    try:
        loaded = load(named, tuple(context.params.get("profiles_path") or ()))
    except (ImagebuildError, click.ClickException, OSError):
        return []
    given = context.params.get("cells") or ()
    return _items((c.id for c in loaded.cells if c.id not in given), incomplete)


def word(name: str) -> Complete:
    """A closed choice of a profile: the name of its class in config/words.py."""

    def complete(_context: object, _parameter: object, incomplete: str) -> list[CompletionItem]:
        from imagebuild.config import words

        return _items(map(str, getattr(words, name)), incomplete)

    return complete


def place(kind: str) -> Complete:
    """A path: kind is `file` or `dir`."""
    return lambda _context, _parameter, incomplete: _items((), incomplete, kind)


def _items(values: Iterable[str], incomplete: str, path: str = "") -> list[CompletionItem]:
    """The values that begin like this, each once, sorted; and paths, which the shell knows."""
    from click.shell_completion import CompletionItem

    found = [CompletionItem(v) for v in sorted(set(values)) if v.startswith(incomplete)]
    # First: click's script for bash forgets what came before it.
    return [CompletionItem(incomplete, type=path), *found] if path else found
