"""What is in a container image: its system, and the packages that package managers know of."""

from __future__ import annotations

import email
import posixpath
import re
import sqlite3
import struct
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from imagebuild import containerfiles, debian, licences
from imagebuild.components import Container, ContainerPackage
from imagebuild.osrelease import parse as parse_os_release

_RPM = r"(?:var/lib/rpm|usr/lib/sysimage/rpm|usr/share/rpm)"
_WANTED = re.compile(
    r"(?:etc|usr/lib)/os-release"
    r"|var/lib/dpkg/status(?:\.d/[^/]+)?"
    r"|usr/share/doc/[^/]+/copyright"
    r"|(?:usr/)?lib/apk/db/installed"
    rf"|{_RPM}/(?:rpmdb\.sqlite|Packages|Packages\.db)"
    r"|.*\.dist-info/METADATA|.*\.egg-info(?:/PKG-INFO)?"
)
_IS_PYTHON = re.compile(r"\.dist-info/METADATA$|\.egg-info(?:/PKG-INFO)?$")
#: Python packages of the distribution's own, which its package manager lists already.
_OWN_PYTHON = "usr/lib/python3/dist-packages/"


def describe(
    target: str, source: str, digests: Mapping[str, str], layers: Sequence[Path]
) -> Container:
    """Look into an image: `layers` are its blobs, the lowest first.

    `digests` has those of `index`, `manifest` and `config`. Raises BuildError.
    """
    files = containerfiles.read(layers, _WANTED)
    system = parse_os_release(
        _text(files.get("etc/os-release") or files.get("usr/lib/os-release") or b"")
    )
    packages: set[ContainerPackage] = set()
    unread = []
    for path, parser in _databases(files):
        try:
            packages.update(parser(path, files))
        except (ValueError, KeyError, IndexError, struct.error, sqlite3.Error) as exc:
            unread.append(f"/{path}: {exc}")
    return Container(
        target=target,
        source=source,
        index=digests["index"],
        manifest=digests["manifest"],
        config=digests["config"],
        os=system,
        packages=tuple(sorted(packages)),
        unread=tuple(unread),
    )


_Parser = Callable[[str, Mapping[str, bytes]], Iterator[ContainerPackage]]


def _databases(files: Mapping[str, bytes]) -> Iterator[tuple[str, _Parser]]:
    """Each file that lists packages, and who can read it."""
    for path in sorted(files):
        name = posixpath.basename(path)
        if path.startswith("var/lib/dpkg/status") and not name.endswith(".md5sums"):
            yield path, _debs
        elif path.endswith("lib/apk/db/installed"):
            yield path, _apks
        elif name == "rpmdb.sqlite":
            yield path, _rpms
        elif name in ("Packages", "Packages.db"):
            yield path, _old_rpms
        elif _IS_PYTHON.search(path) and not path.startswith(_OWN_PYTHON):
            yield path, _python


def _debs(path: str, files: Mapping[str, bytes]) -> Iterator[ContainerPackage]:
    text = _text(files[path])
    # Of distroless images: a file for each package, which has no Status.
    apart = "/status.d/" in path
    for fields in debian.paragraphs(text) if apart else debian.installed(text):
        name, version = fields["Package"], fields["Version"]
        source, _, own = fields.get("Source", name).partition(" ")
        yield ContainerPackage(
            kind="deb",
            name=name,
            version=version,
            arch=fields.get("Architecture", "all"),
            source=source,
            source_version=own.strip("()") or version,
            licence=licences.of_copyright(_text(files.get(f"usr/share/doc/{name}/copyright", b""))),
        )


def _apks(path: str, files: Mapping[str, bytes]) -> Iterator[ContainerPackage]:
    """Alpine's database (apk-tools, doc/apk-package.5): a letter, a colon, a value."""
    for block in _text(files[path]).split("\n\n"):
        fields = {line[0]: line[2:] for line in block.splitlines() if line[1:2] == ":"}
        if fields:
            yield ContainerPackage(
                kind="apk",
                name=fields["P"],
                version=fields["V"],
                arch=fields.get("A", ""),
                source=fields.get("o", fields["P"]),
                source_version=fields["V"],
                licence=licences.of_expression(fields.get("L", "")),
            )


#: Tags of a header (rpm, include/rpm/rpmtag.h).
_RPM_TAGS = {
    1000: "name", 1001: "version", 1002: "release", 1003: "epoch", 1014: "licence",
    1022: "arch", 1044: "source",
}  # fmt: skip
_INT32 = 4
_STRINGS = (6, 8, 9)


def _rpms(path: str, files: Mapping[str, bytes]) -> Iterator[ContainerPackage]:
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory, "rpmdb.sqlite")
        copy.write_bytes(files[path])
        # immutable: it was written with a journal that is not there any more.
        connection = sqlite3.connect(f"file:{copy}?mode=ro&immutable=1", uri=True)
        try:
            rows = connection.execute("SELECT blob FROM Packages").fetchall()
        finally:
            connection.close()
    for (blob,) in rows:
        fields = _rpm_header(blob)
        if fields["name"] == "gpg-pubkey":  # a key, no package
            continue
        version = f"{fields['version']}-{fields['release']}"
        epoch = fields.get("epoch")
        yield ContainerPackage(
            kind="rpm",
            name=fields["name"],
            version=version if epoch is None else f"{epoch}:{version}",
            arch=fields.get("arch", "noarch"),
            source=fields.get("source", ""),
            source_version="",
            licence=licences.of_expression(fields.get("licence", "")),
        )


def _rpm_header(blob: bytes) -> dict[str, Any]:
    """The tags of a header in rpm's database (rpm, docs/manual/format_header.md)."""
    entries, length = struct.unpack_from(">II", blob)
    store = 8 + 16 * entries
    if store + length > len(blob):
        raise ValueError("a header is cut off")
    fields: dict[str, Any] = {}
    for number in range(entries):
        tag, kind, offset, _ = struct.unpack_from(">IIiI", blob, 8 + 16 * number)
        name = _RPM_TAGS.get(tag)
        if name and kind == _INT32:
            (fields[name],) = struct.unpack_from(">I", blob, store + offset)
        elif name and kind in _STRINGS:
            start = store + offset
            fields[name] = _text(blob[start : blob.index(b"\0", start)])
    return fields


def _old_rpms(path: str, files: Mapping[str, bytes]) -> Iterator[ContainerPackage]:  # noqa: ARG001
    raise ValueError("a database of rpm in a form that cannot be read (Berkeley DB or ndb)")


def _python(path: str, files: Mapping[str, bytes]) -> Iterator[ContainerPackage]:
    metadata = email.message_from_string(_text(files[path]).partition("\n\n")[0])
    if metadata["Name"] and metadata["Version"]:
        yield ContainerPackage(
            kind="pypi",
            name=canonicalize_name(metadata["Name"]),
            version=metadata["Version"],
            arch="",
            source="",
            source_version="",
            licence=licences.of_python(metadata),
        )


def _text(data: bytes) -> str:
    return data.decode(errors="replace")
