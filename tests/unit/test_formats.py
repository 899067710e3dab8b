"""Conversion keeps the content, appears whole or not at all, and says when it cannot."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imagebuild.config.words import Compression, Format
from imagebuild.errors import BuildError, PreflightError
from imagebuild.host import run as host_run
from imagebuild.host.run import run
from imagebuild.stages import fileids
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


def make(
    raw: Path,
    out: Path,
    fmt: Format,
    compression: Compression = Compression.ZSTD,
    **other: Any,  # noqa: ANN401 - convert's
) -> None:
    values: dict[str, Any] = {"threads": 2, "seed": "0123", "epoch": 1_740_823_200, **other}
    convert(raw, out, fmt, compression, **values)


def info(path: Path) -> dict[str, object]:
    data: dict[str, object] = json.loads(run(["qemu-img", "info", "--output=json", path]).stdout)
    return data


@pytest.mark.parametrize("compression", list(Compression))
def test_qcow2_holds_the_same_bytes(raw: Path, tmp_path: Path, compression: Compression) -> None:
    out = tmp_path / "disk.qcow2"
    make(raw, out, Format.QCOW2, compression, threads=2)
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
        make(raw, tmp_path / name, Format.QCOW2, Compression.ZSTD, threads=2)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize("fmt", [Format.VMDK, Format.VHD])
def test_other_formats_hold_the_same_bytes(raw: Path, tmp_path: Path, fmt: Format) -> None:
    out = tmp_path / f"disk.{fmt}"
    make(raw, out, fmt)
    driver = {"vmdk": "vmdk", "vhd": "vpc"}[str(fmt)]
    assert b"identical" in run(["qemu-img", "compare", "-f", "raw", "-F", driver, raw, out]).stdout
    assert info(out)["format"] == driver
    # A size that is rounded to a geometry would not be the profile's.
    assert info(out)["virtual-size"] == 64 * MIB
    assert out.stat().st_size < 8 * MIB


def test_vmdk_is_stream_optimized_and_names_itself(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "guest.vmdk"
    make(raw, out, Format.VMDK)
    specific = info(out)["format-specific"]
    assert isinstance(specific, dict)
    assert specific["data"]["create-type"] == "streamOptimized"
    assert specific["data"]["parent-cid"] == 0xFFFFFFFF
    assert b'SPARSE "guest.vmdk"' in out.read_bytes()[:8192]
    assert b"partial" not in out.read_bytes()[:8192]


def test_vhd_has_the_epoch_and_a_right_checksum(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "guest.vhd"
    make(raw, out, Format.VHD)
    data = out.read_bytes()
    assert data[:512] == data[-512:]
    assert int.from_bytes(data[24:28], "big") == 1_740_823_200 - 946_684_800
    total = sum(data[:64]) + sum(data[68:512])
    assert int.from_bytes(data[64:68], "big") == ~total & 0xFFFFFFFF


@pytest.mark.parametrize("fmt", [Format.VMDK, Format.VHD])
def test_ids_come_from_the_seed(raw: Path, tmp_path: Path, fmt: Format) -> None:
    found = []
    for directory, seed in (("a", "0123"), ("b", "0123"), ("c", "4567")):
        (tmp_path / directory).mkdir()
        make(raw, tmp_path / directory / "guest", fmt, seed=seed)
        found.append((tmp_path / directory / "guest").read_bytes())
    assert found[0] == found[1]
    assert found[0] != found[2]


def test_short_content_id_of_qemu_img_is_replaced(raw: Path, tmp_path: Path) -> None:
    """qemu-img does not write leading zeros."""
    out = tmp_path / "guest.vmdk"
    make(raw, out, Format.VMDK)
    data = out.read_bytes()
    start = data.index(b"CID=")
    short = data[:start] + b"CID=1a2b3c\n" + data[start + 13 :]
    end = short.index(b"\0", start)
    out.write_bytes(short[:end] + b"\0\0" + short[end:])
    fileids.settle_vmdk(out, "guest.vmdk", "0123")
    assert out.read_bytes() == data


@pytest.mark.parametrize("settle", [
    lambda p: fileids.settle_vmdk(p, "x", "0"), lambda p: fileids.settle_vhd(p, "0", 0),
])  # fmt: skip
def test_other_files_are_left_alone(raw: Path, settle: Callable[[Path], None]) -> None:
    before = raw.read_bytes()
    with pytest.raises(BuildError):
        settle(raw)
    assert raw.read_bytes() == before


def test_raw_is_copied_sparse(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "copy.raw"
    make(raw, out, Format.RAW, Compression.NONE, threads=1)
    assert out.read_bytes() == raw.read_bytes()
    assert out.stat().st_blocks * 512 < 8 * MIB


def test_a_failure_leaves_what_was_there(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    target = out / "disk.qcow2"
    target.write_text("the image of yesterday")
    with pytest.raises(BuildError, match="no raw image"):
        make(raw.with_name("gone.raw"), target, Format.QCOW2, Compression.ZLIB, threads=1)
    assert target.read_text() == "the image of yesterday"
    with pytest.raises(BuildError):
        make(raw, out / "no/such/dir.qcow2", Format.QCOW2, Compression.ZLIB, threads=1)
    assert [p.name for p in out.iterdir()] == ["disk.qcow2"]


def test_zlib_is_written_without_an_option_that_old_qemu_lacks() -> None:
    argv = formats_argv(Path("a"), Path("b"), Format.QCOW2, Compression.ZLIB, threads=99)
    assert argv == [
        "qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c",
        "-o", "compat=1.1", "-m", "16", "a", "b",
    ]  # fmt: skip


@pytest.mark.alone
def test_zstd_needs_qemu_5_1(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    fake = bin_dir / "qemu-img"
    fake.write_text("#!/bin/sh\necho 'qemu-img version 4.2.1 (Debian 1:4.2-3ubuntu6.30)'\n")
    fake.chmod(0o755)
    monkeypatch.setattr(host_run, "PATH", f"{bin_dir}:{host_run.PATH}")
    with pytest.raises(PreflightError, match=r"qemu-img 4\.2 cannot write") as error:
        make(raw, tmp_path / "x.qcow2", Format.QCOW2, Compression.ZSTD, threads=1)
    assert "formats.compression: zlib" in error.value.hint
