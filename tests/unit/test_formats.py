"""Conversion keeps the content, appears whole or not at all, and says when it cannot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from imagebuild.config.profile import Compression, Format
from imagebuild.errors import BuildError, PreflightError
from imagebuild.host import run as host_run
from imagebuild.host.run import run
from imagebuild.stages.formats import convert, formats_argv

MIB = 1 << 20


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    path = tmp_path / "disk.raw"
    with path.open("wb") as file:
        file.write(b"imagebuild" * 100_000)
        file.truncate(64 * MIB)
        file.seek(40 * MIB)
        file.write(bytes(range(256)) * 4096)
    return path


def info(path: Path) -> dict[str, object]:
    data: dict[str, object] = json.loads(run(["qemu-img", "info", "--output=json", path]).stdout)
    return data


@pytest.mark.parametrize("compression", list(Compression))
def test_qcow2_holds_the_same_bytes(raw: Path, tmp_path: Path, compression: Compression) -> None:
    out = tmp_path / "disk.qcow2"
    convert(raw, out, Format.QCOW2, compression, threads=2)
    assert b"identical" in run(["qemu-img", "compare", "-f", "raw", raw, out]).stdout
    back = tmp_path / "back.raw"
    run(["qemu-img", "convert", "-O", "raw", out, back])
    assert back.read_bytes() == raw.read_bytes()
    specific = info(out)["format-specific"]
    assert isinstance(specific, dict)
    assert specific["data"]["compat"] == "1.1"
    wanted = "zstd" if compression is Compression.ZSTD else "zlib"
    assert specific["data"]["compression-type"] == wanted
    if compression is Compression.NONE:
        assert out.stat().st_size > 2 * MIB
    else:
        assert out.stat().st_size < MIB


def test_qcow2_is_deterministic(raw: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        convert(raw, tmp_path / name, Format.QCOW2, Compression.ZSTD, threads=2)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_raw_is_copied_sparse(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "copy.raw"
    convert(raw, out, Format.RAW, Compression.NONE, threads=1)
    assert out.read_bytes() == raw.read_bytes()
    assert out.stat().st_blocks * 512 < 8 * MIB


def test_a_failure_leaves_what_was_there(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    target = out / "disk.qcow2"
    target.write_text("the image of yesterday")
    with pytest.raises(BuildError, match="no raw image"):
        convert(raw.with_name("gone.raw"), target, Format.QCOW2, Compression.ZLIB, threads=1)
    assert target.read_text() == "the image of yesterday"
    with pytest.raises(BuildError):
        convert(raw, out / "no/such/dir.qcow2", Format.QCOW2, Compression.ZLIB, threads=1)
    assert [p.name for p in out.iterdir()] == ["disk.qcow2"]


def test_zlib_is_written_without_an_option_that_old_qemu_lacks() -> None:
    argv = formats_argv(Path("a"), Path("b"), Format.QCOW2, Compression.ZLIB, threads=99)
    assert argv == [
        "qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c",
        "-o", "compat=1.1", "-m", "16", "a", "b",
    ]  # fmt: skip


def test_zstd_needs_qemu_5_1(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    fake = bin_dir / "qemu-img"
    fake.write_text("#!/bin/sh\necho 'qemu-img version 4.2.1 (Debian 1:4.2-3ubuntu6.30)'\n")
    fake.chmod(0o755)
    monkeypatch.setattr(host_run, "PATH", f"{bin_dir}:{host_run.PATH}")
    with pytest.raises(PreflightError, match=r"qemu-img 4\.2 cannot write") as error:
        convert(raw, tmp_path / "x.qcow2", Format.QCOW2, Compression.ZSTD, threads=1)
    assert "formats.compression: zlib" in error.value.hint
