"""What is in a container: found in its layers, whatever its distribution."""

from __future__ import annotations

import re
import sqlite3
import struct
from pathlib import Path

import pytest

from imagebuild import containerfiles, containerparts
from imagebuild.components import Container
from imagebuild.errors import BuildError
from tests.unit.container_images import Files, compress, layer

DIGESTS = {"index": "sha256:1", "manifest": "sha256:2", "config": "sha256:3"}
DEB = "Package: {}\nStatus: install ok installed\nArchitecture: amd64\nVersion: {}\n"


def paths(tmp_path: Path, *layers: Files, compression: str = "gzip") -> list[Path]:
    found = []
    for number, files in enumerate(layers):
        path = tmp_path / f"layer{number}"
        path.write_bytes(compress(layer(files), compression))
        found.append(path)
    return found


def describe(tmp_path: Path, *layers: Files) -> Container:
    return containerparts.describe("t:1", "s:1", DIGESTS, paths(tmp_path, *layers))


def listed(container: Container) -> list[tuple[str, str, str]]:
    return [(p.kind, p.name, p.version) for p in container.packages]


@pytest.mark.parametrize("compression", ["", "gzip", "zstd"])
def test_the_last_layer_wins(tmp_path: Path, compression: str) -> None:
    layers = paths(
        tmp_path,
        {"a/x": b"1", "a/y": b"1", "b/x": b"1", "b/c/x": b"1", "c/x": b"1", "d/x": b"1", "x": b"1"},
        {
            "./a/x": b"2",
            "a/.wh.y": b"",
            # What a layer brings itself, its whiteouts do not concern.
            "b/new/x": b"2",
            "b/.wh..wh..opq": b"",
            "c": b"a file now",
            ".wh.d": b"",
            "x": "-> a/x",
        },
        compression=compression,
    )
    found = containerfiles.read(layers, re.compile(r".*[xy]"))
    assert found == {"a/x": b"2", "b/new/x": b"2"}


def test_a_hard_link_is_a_file(tmp_path: Path) -> None:
    import tarfile

    (path,) = paths(tmp_path, {"a/x": b"1"}, compression="")
    with tarfile.open(path, "a") as archive:
        entry = tarfile.TarInfo("b/x")
        entry.type, entry.linkname = tarfile.LNKTYPE, "a/x"
        archive.addfile(entry)
    assert containerfiles.read([path], re.compile(r".*x")) == {"a/x": b"1", "b/x": b"1"}


@pytest.mark.parametrize("compression", ["", "gzip", "zstd"])
def test_a_damaged_layer(tmp_path: Path, compression: str) -> None:
    (path,) = paths(tmp_path, {"a": bytes(100_000)}, compression=compression)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(BuildError) as caught:
        containerfiles.read([path], re.compile("a"))
    assert caught.value.where == str(path)


def test_debian(tmp_path: Path) -> None:
    found = describe(
        tmp_path,
        {
            "etc/os-release": "-> ../usr/lib/os-release",
            "usr/lib/os-release": 'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian 12"\nX=1\n',
            "var/lib/dpkg/status": DEB.format("zlib1g", "1:1.2") + "Source: zlib (1.1)\n\n"
            "Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n",
            "usr/share/doc/zlib1g/copyright": "Format: https://www.debian.org/doc/"
            "packaging-manuals/copyright-format/1.0/\n\nFiles: *\nLicense: Zlib\n",
            "usr/lib/python3/dist-packages/a-1.egg-info/PKG-INFO": "Name: a\nVersion: 1\n\nx",
            "usr/local/lib/python3.11/site-packages/B_c-2.dist-info/METADATA": "Name: B_c\n"
            "Version: 2\nLicense: MIT\n\nName: no\n",
        },
    )
    assert found.os == {"ID": "debian", "VERSION_ID": "12", "PRETTY_NAME": "Debian 12"}
    assert listed(found) == [("deb", "zlib1g", "1:1.2"), ("pypi", "b-c", "2")]
    (zlib, python) = found.packages
    assert (zlib.source, zlib.source_version, zlib.licence) == ("zlib", "1.1", "Zlib")
    assert python.licence == "MIT"
    assert (found.target, found.source, found.config) == ("t:1", "s:1", "sha256:3")
    assert found.unread == ()
    assert Container.from_json(found.to_json()) == found


def test_debian_without_a_package_manager(tmp_path: Path) -> None:
    """Distroless images have a file for each package, without its Status."""
    found = describe(
        tmp_path,
        {
            "var/lib/dpkg/status.d/libc6": "Package: libc6\nVersion: 2.36\nArchitecture: amd64\n",
            "var/lib/dpkg/status.d/libc6.md5sums": "0  usr/lib/x\n",
        },
    )
    assert listed(found) == [("deb", "libc6", "2.36")]
    assert (found.os, found.unread) == ({}, ())


def test_alpine(tmp_path: Path) -> None:
    text = (
        "C:Q1=\nP:musl\nV:1.2.5-r0\nA:x86_64\nL:MIT\no:musl\n\nP:musl-utils\nV:1.2.5-r0\no:musl\n"
    )
    found = describe(tmp_path, {"lib/apk/db/installed": text})
    assert listed(found) == [("apk", "musl", "1.2.5-r0"), ("apk", "musl-utils", "1.2.5-r0")]
    assert [(p.arch, p.source, p.licence) for p in found.packages] == [
        ("x86_64", "musl", "MIT"),
        ("", "musl", ""),
    ]


def rpm_header(**fields: str | int) -> bytes:
    tags = {name: tag for tag, name in containerparts._RPM_TAGS.items()}
    index, data = b"", b""
    for name, value in fields.items():
        kind = 4 if isinstance(value, int) else 6
        index += struct.pack(">IIiI", tags[name], kind, len(data), 1)
        data += struct.pack(">I", value) if isinstance(value, int) else value.encode() + b"\0"
        data += bytes(-len(data) % 4)
    return struct.pack(">II", len(fields), len(data)) + index + data


def rpm_database(tmp_path: Path, *headers: bytes) -> bytes:
    path = tmp_path / "rpmdb.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob BLOB NOT NULL)")
    connection.executemany("INSERT INTO Packages (blob) VALUES (?)", [(h,) for h in headers])
    connection.commit()
    connection.close()
    return path.read_bytes()


def test_rpm(tmp_path: Path) -> None:
    source = {"source": "bash-5.2-1.src.rpm", "arch": "x86_64", "licence": "MIT"}
    data = rpm_database(
        tmp_path,
        rpm_header(name="bash", version="5.2", release="1.fc40", **source),
        rpm_header(name="shadow", version="4", release="2", epoch=2, **source),
        rpm_header(name="gpg-pubkey", version="1", release="1"),
    )
    assert data[18:20] == b"\x02\x02", "its journal is a file of its own, as rpm's is"
    found = describe(tmp_path, {"usr/lib/sysimage/rpm/rpmdb.sqlite": data})
    assert listed(found) == [("rpm", "bash", "5.2-1.fc40"), ("rpm", "shadow", "2:4-2")]
    assert found.packages[0].source == "bash-5.2-1.src.rpm"
    assert found.unread == ()


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("var/lib/rpm/Packages", b"\0\0\0\0"),
        ("usr/lib/sysimage/rpm/Packages.db", b"RpmP"),
        ("var/lib/rpm/rpmdb.sqlite", b"no database"),
        ("lib/apk/db/installed", b"P:without-version\n"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path: Path, path: str, content: bytes) -> None:
    found = describe(tmp_path, {path: content, "var/lib/dpkg/status": DEB.format("a", "1")})
    assert listed(found) == [("deb", "a", "1")]
    (text,) = found.unread
    assert text.startswith(f"/{path}: ")


def test_a_header_that_is_cut_off(tmp_path: Path) -> None:
    header = rpm_header(name="bash", version="5.2", release="1")
    data = rpm_database(tmp_path, header[:-4])
    found = describe(tmp_path, {"var/lib/rpm/rpmdb.sqlite": data})
    assert found.packages == ()
    assert found.unread == ("/var/lib/rpm/rpmdb.sqlite: a header is cut off",)
