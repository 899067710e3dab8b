"""The lock file beside a list: what each tag was, and which tags of the target are ours.

It is YAML with sorted keys, for people to read and for git to compare. Two runs at once do not
lose what the other has written: `record` reads it anew under a lock (flock on its directory,
so that no file of ours stays there) before it writes.
"""

from __future__ import annotations

import datetime
import errno
import fcntl
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imagebuild.errors import ConfigError, PreflightError
from imagebuild.files import MIB, read_limited
from imagebuild.mirror.result import Outcome, Report, Result
from imagebuild.registry.reference import DIGEST, Reference

_VERSION = 1
_LARGEST = 16 * MIB
_HEAD = """\
# What the tags of the list were when they were last copied. Written by `imagebuild mirror sync`;
# keep it with the list: `--locked` copies these digests, `mirror prune` goes by `tags`.
"""
_GOOD = (Outcome.UNCHANGED, Outcome.COPIED, Outcome.REPLACED)


@dataclass(frozen=True)
class Locked:
    """One tag: `digest` of the source, `size` in bytes of all its blobs (0: not known), `when`
    it was first copied as this digest (UTC, ISO).
    """

    digest: str
    size: int = 0
    when: str = ""


@dataclass(frozen=True)
class Lock:
    """`sources`: full source name with tag -> what it was. `tags`: full target name with tag ->
    digest that we put there: what `prune` may remove. `made`: digest of an image that is not
    byte for byte the source's -> what it was made of (see `made_of`).
    """

    sources: dict[str, Locked] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    made: dict[str, str] = field(default_factory=dict)


def source_key(source: Reference) -> str:
    """What the lock calls a source: its name with the tag; with the digest when there is none."""
    return f"{source.name}:{source.tag}" if source.tag else f"{source.name}@{source.digest}"


def made_of(source_digest: str, platforms: tuple[str, ...], engine: str = "") -> str:
    """The recipe of an image that is not the source's byte for byte; `engine`: docker."""
    return " ".join((source_digest, *sorted(platforms), *filter(None, (engine,))))


def lock_path(list_path: Path) -> Path:
    """MIRROR.lock.yaml beside MIRROR.yaml."""
    return list_path.with_name(f"{list_path.stem}.lock.yaml")


def read_lock(path: Path) -> Lock:
    """An empty lock when there is no file. Raises ConfigError for a damaged one, PreflightError
    for one that cannot be read.
    """
    import yaml

    try:
        data = read_limited(path, _LARGEST)
    except (FileNotFoundError, NotADirectoryError):
        return Lock()
    except OSError as exc:
        raise PreflightError(
            "the lock file cannot be read", where=str(path), detail=exc.strerror or str(exc)
        ) from exc
    try:
        return _parse(yaml.safe_load(data))
    except (yaml.YAMLError, ValueError, RecursionError) as exc:
        raise ConfigError(
            "the lock file is damaged",
            where=str(path),
            detail=str(exc)[:500],
            hint="take it from your version control, or move it away: the next sync makes a new "
            "one, and prune forgets which tags are ours",
        ) from exc


def write_lock(path: Path, lock: Lock) -> None:
    """Atomically. Raises PreflightError when the disk does not let it. See `record`."""
    import yaml

    document = {
        "version": _VERSION,
        "sources": {
            name: {k: v for k, v in vars(locked).items() if v}
            for name, locked in lock.sources.items()
        },
        "tags": dict(lock.tags),
    }
    if lock.made:
        document["made"] = dict(lock.made)
    text = _HEAD + yaml.safe_dump(document, default_flow_style=False, width=1000)
    with _writing(path):
        # A link stays one: the file it points to is replaced.
        place = path.resolve()
        with tempfile.NamedTemporaryFile(
            "w", dir=place.parent, prefix=f".{place.name}-", delete=False, encoding="utf-8"
        ) as file:
            try:
                file.write(text)
                os.fchmod(file.fileno(), _mode(place))
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).replace(place)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise


def record(path: Path, report: Report, now: datetime.datetime | None = None) -> Lock:
    """Bring the results of a run into the lock file; what others wrote meanwhile stays.

    Returns what is in it now. Raises as `read_lock` and `write_lock` do.
    """
    with _locked(path):
        before = read_lock(path)
        after = update_lock(before, report, now)
        if after != before or not path.exists():
            write_lock(path, after)
        return after


def update_lock(lock: Lock, report: Report, now: datetime.datetime | None = None) -> Lock:
    """The lock after a run: what ended well is brought in, what was removed is taken out."""
    when = (now or datetime.datetime.now(datetime.timezone.utc)).strftime("%Y-%m-%dT%H:%M:%SZ")
    sources, tags, made = dict(lock.sources), dict(lock.tags), dict(lock.made)
    for result in report.results:
        if result.outcome in _GOOD:
            key = source_key(result.item.source)
            sources[key] = _newer(sources.get(key), result, when)
            tags |= _tags(result)
            if result.made_as:
                made[result.digest] = result.made_as
    for gone in report.removed:
        tags.pop(f"{gone.name}:{gone.tag}", None)
    there = set(tags.values())
    return Lock(sources, tags, {d: what for d, what in made.items() if d in there})


def _newer(known: Locked | None, result: Result, when: str) -> Locked:
    """An entry stays as it is as long as the digest does: the file changes when images do."""
    digest = result.source_digest or result.digest
    if known and known.digest == digest:
        return known if known.size or not result.size else Locked(digest, result.size, known.when)
    return Locked(digest, result.size, when)


def _tags(result: Result) -> dict[str, str]:
    name = result.item.target.name
    ours = {result.item.target.tag, *result.item.aliases} - {""}
    tags = {f"{name}:{tag}": result.digest for tag in ours}
    if result.backup:
        tags[f"{name}:{result.backup}"] = result.before
    return tags


def _parse(document: object) -> Lock:
    if document is None:
        return Lock()
    if not isinstance(document, dict):
        raise ValueError("it is no mapping")
    version = document.get("version")
    if version != _VERSION:
        raise ValueError(f"its version is {version!r}, and {_VERSION} is what can be read")
    sources = {name: _entry(name, e) for name, e in _mapping(document, "sources").items()}
    tags = {name: _digest(name, digest) for name, digest in _mapping(document, "tags").items()}
    made = {_digest("made", d): str(what) for d, what in _mapping(document, "made").items()}
    return Lock(sources, tags, made)


def _mapping(document: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = document.get(key) or {}
    if not isinstance(value, dict) or not all(isinstance(k, str) for k in value):
        raise ValueError(f"{key} is no mapping of names")
    return value


def _entry(name: str, entry: object) -> Locked:
    if not isinstance(entry, dict):
        raise ValueError(f"{name}: no mapping")
    return Locked(
        _digest(name, entry.get("digest")), _size(name, entry), str(entry.get("when", ""))
    )


def _digest(name: str, digest: object) -> str:
    if not isinstance(digest, str) or not DIGEST.fullmatch(digest):
        raise ValueError(f"{name}: {str(digest)[:100]!r} is no digest")
    return digest


def _size(name: str, entry: Mapping[str, Any]) -> int:
    size = entry.get("size", 0)
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise ValueError(f"{name}: {str(size)[:100]!r} is no size")
    return size


def _mode(place: Path) -> int:
    """The file's mode, or what the process gives new files."""
    try:
        return place.stat().st_mode & 0o777
    except FileNotFoundError:
        return 0o644


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with _writing(path):
        descriptor = os.open(path.resolve().parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise PreflightError(
            "the lock file cannot be written",
            where=str(path),
            detail=exc.strerror or str(exc),
            hint="make room on that disk"
            if exc.errno in (errno.ENOSPC, errno.EDQUOT)
            else "check who owns the directory; --lock names another file",
        ) from exc
