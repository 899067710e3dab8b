"""A comparison as tables of words: what the command prints, and what a mail carries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from imagebuild.compare import Change, Comparison, FileChange, Kind, SizeChange
from imagebuild.mdtext import code, escaped, row
from imagebuild.units import size

#: Titles of the sections, in the order in which people want to know them.
_TITLES = {
    "agent": "Guest agent",
    "packages": "Packages",
    "python_packages": "Python packages",
    "containers": "Containers",
    "container_packages": "Packages in containers",
    "elements": "Elements",
    "units": "Enabled units",
    "users": "Users",
    "datasources": "Datasources",
    "profile": "Profile",
    "archives": "Package archives",
    "tools": "Tools of the build",
    "descriptions": "Files beside the images",
}
#: What the summary counts, and how one and several are called.
_NOUNS = {
    "packages": ("package", "packages"),
    "python_packages": ("Python package", "Python packages"),
    "agent": ("property of the agent", "properties of the agent"),
    "containers": ("container", "containers"),
    "container_packages": ("package in a container", "packages in containers"),
    "elements": ("element", "elements"),
    "units": ("unit", "units"),
    "users": ("user", "users"),
    "datasources": ("list of datasources", "lists of datasources"),
    "profile": ("profile key", "profile keys"),
    "archives": ("archive suite", "archive suites"),
    "tools": ("build tool", "build tools"),
    "descriptions": ("file beside the images", "files beside the images"),
    "images": ("image", "images"),
    "files": ("file", "files"),
}
#: Sections whose values are digests, of which the beginning is enough.
_DIGESTS = ("containers", "elements", "archives", "descriptions")
_DIGEST_KEYS = ("sha256", "wheel_sha256", "lock_sha256", "commit")
_RANK = {Kind.REMOVED: 0, Kind.DOWNGRADED: 1, Kind.ADDED: 2, Kind.UPGRADED: 3, Kind.CHANGED: 4}


@dataclass(frozen=True)
class Table:
    """A title, the columns' names, rows of words. `numeric` names columns set to the right."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[str, ...] = ()

    def cut(self, limit: int) -> tuple[tuple[tuple[str, ...], ...], int]:
        """The first rows, and how many more there are. One row too many is shown, not counted."""
        if limit <= 0 or len(self.rows) <= limit + 1:
            return self.rows, 0
        return self.rows[:limit], len(self.rows) - limit


def summary(comparison: Comparison) -> str:
    """One line: `differences: 14 (3 packages, 1 image, 10 files)`."""
    parts = [
        f"{count} {_NOUNS[name][count != 1]}" for name, count in comparison.counts.items() if count
    ]
    tail = f" ({', '.join(parts)})" if parts else ""
    return f"differences: {comparison.differences}{tail}"


def root_filesystems(comparison: Comparison) -> str:
    """One line: whether the root filesystems are the same."""
    if comparison.same_rootfs is None:
        return "root filesystems: not known to be the same (an artifact of an older version)"
    return f"root filesystems: {'the same' if comparison.same_rootfs else 'not the same'}"


def tables(comparison: Comparison) -> list[Table]:
    """Everything that differs, a table each; sections without a difference have none."""
    found = [
        _changes(title, comparison.sections.get(name, ()), digests=name in _DIGESTS)
        for name, title in _TITLES.items()
    ]
    found.append(_sizes("Image files", "format", comparison.images))
    found.append(_sizes("Directories", "directory", comparison.directories))
    found.append(_files(comparison.files))
    return [t for t in found if t.rows]


def markdown(comparison: Comparison, limit: int) -> str:
    """The report for a mail: the summary first, then tables of at most `limit` rows."""
    a, b = comparison.before, comparison.after
    lines = [
        f"**{summary(comparison)}**",
        "",
        f"- before: `{a.name}`",
        f"- after: `{b.name}`",
        f"- {root_filesystems(comparison)}",
    ]
    if comparison.files:
        lines.append(f"- {file_kinds(comparison)}")
    lines += [f"- not compared: {text}" for text in comparison.skipped]
    for table in tables(comparison):
        rows, more = table.cut(limit)
        rule = ("---:" if c in table.numeric else "---" for c in table.columns)
        lines += ["", f"### {table.title} ({len(table.rows)})", "", row(table.columns), row(rule)]
        lines += [row((code(cells[0]), *map(escaped, cells[1:]))) for cells in rows]
        if more:
            lines += ["", f"… and {more} more"]
    return "\n".join(lines) + "\n"


def file_kinds(comparison: Comparison) -> str:
    """One line: in what the files differ."""
    counts = comparison.file_counts
    return "files: " + ", ".join(f"{n} {kind}" for kind, n in counts.items())


def delta(number: int) -> str:
    """A change of bytes, with its sign: +3.2 KiB, -390 MiB, 0."""
    return "0" if number == 0 else ("+" if number > 0 else "-") + size(abs(number))


def _changes(title: str, changes: Sequence[Change], *, digests: bool) -> Table:
    ordered = sorted(changes, key=lambda c: (_RANK[c.kind], c.name))
    rows = tuple(
        (
            c.name,
            c.kind.value,
            *(_value(v, short=digests or c.name in _DIGEST_KEYS) for v in (c.before, c.after)),
        )
        for c in ordered
    )
    return Table(title, ("name", "change", "before", "after"), rows)


def _value(text: str | None, *, short: bool) -> str:
    if text is None:
        return "-"
    text = text.removeprefix("sha256:") if short else text
    return f"{text[:12]}…" if short and len(text) > 20 else text


def _sizes(title: str, name: str, sizes: Sequence[SizeChange]) -> Table:
    rows = tuple(
        (
            s.name,
            "-" if s.before is None else size(s.before),
            "-" if s.after is None else size(s.after),
            delta(s.delta) if s.delta or s.same_content else "0, other content",
        )
        for s in sizes
        if s.delta or (title == "Image files" and not s.same_content)
    )
    return Table(
        title, (name, "before", "after", "difference"), rows, ("before", "after", "difference")
    )


def _files(files: Sequence[FileChange]) -> Table:
    ordered = sorted(files, key=lambda f: (-abs(f.after - f.before), f.path))
    rows = tuple((f.path, ", ".join(f.differs), delta(f.after - f.before)) for f in ordered)
    return Table("Files", ("path", "differs in", "size"), rows, ("size",))
