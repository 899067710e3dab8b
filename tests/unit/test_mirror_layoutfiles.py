"""Tar files of layouts that other programs have made."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from imagebuild.errors import ConfigError
from imagebuild.mirror.layoutfiles import entries_of, open_layout


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = size
    return member


def test_names_of_people_in_pax_headers(tmp_path: Path) -> None:
    """Python's tarfile and bsdtar note them so when they are not ASCII."""
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in (("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'),
                           ("index.json", b'{"schemaVersion":2,"manifests":[]}')):  # fmt: skip
            member = _member(name, len(data))
            member.uname = "jürgen"
            archive.addfile(member, io.BytesIO(data))
    files = open_layout(tmp_path / "x.tar")
    assert entries_of(files) == ()
    files.close()


@pytest.mark.parametrize("text", [b"9" * 5000 + b" path=x\n", b"5020 size=" + b"9" * 5009 + b"\n"])
def test_numbers_that_no_file_has(tmp_path: Path, text: bytes) -> None:
    header = _member("x", len(text))
    header.type = tarfile.XHDTYPE
    path = tmp_path / "x.tar"
    path.write_bytes(header.tobuf(tarfile.GNU_FORMAT) + text + bytes(-len(text) % 512 + 1024))
    with pytest.raises(ConfigError, match="damaged"):
        open_layout(path)
