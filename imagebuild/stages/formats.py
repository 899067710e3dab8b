"""The formats stage: a raw disk image becomes the files that are handed out."""

from __future__ import annotations

import re
from pathlib import Path

from imagebuild.config.words import Compression, Format
from imagebuild.errors import BuildError, PreflightError
from imagebuild.host.run import need, run, sparse_copy_argv
from imagebuild.stages import fileids

#: qemu-img and hypervisors learned zstd in qcow2 files with this version.
ZSTD_SINCE = (5, 1)

#: qemu-img's own limit on coroutines (`-m`).
MAX_THREADS = 16


#: qemu-img's names of the formats (qemu-img(1)), and what each needs:
#: `streamOptimized`, the one VMDK subformat that vSphere and Glance import, is compressed
#: and written in one pass; `force_size` keeps vpc from rounding the disk's size to a
#: geometry of cylinders, heads and sectors, which Hyper-V and Azure do not use.
_DRIVERS = {Format.QCOW2: "qcow2", Format.VMDK: "vmdk", Format.VHD: "vpc"}
_OPTIONS = {
    Format.QCOW2: "compat=1.1",
    Format.VMDK: "subformat=streamOptimized,adapter_type=lsilogic",
    Format.VHD: "subformat=dynamic,force_size=on",
}


def formats_argv(
    raw: Path, out: Path, fmt: Format, compression: Compression, *, threads: int
) -> list[str]:
    """The command that turns `raw` into `out`; a pure function, so that a plan can show it.

    qemu-img's `-W` (clusters out of order) is left out: the file would differ from run to
    run. For 1.3 GB of content on 2 cores with zstd and `-m 2` it bought nothing that could
    be told from noise (without 8.3 and 9.7 s, with 9.0 and 7.9 s).
    """
    if fmt is Format.RAW:
        return sparse_copy_argv(raw, out)
    argv = ["qemu-img", "convert", "-f", "raw", "-O", _DRIVERS[fmt]]
    options = _OPTIONS[fmt]
    if fmt is Format.QCOW2 and compression is not Compression.NONE:
        argv.append("-c")
        # zlib is the default, and the option's name is unknown before QEMU 5.1.
        if compression is Compression.ZSTD:
            options += ",compression_type=zstd"
    argv += ["-o", options, "-m", str(max(1, min(threads, MAX_THREADS)))]
    return [*argv, str(raw), str(out)]


def convert(
    raw: Path,
    out: Path,
    fmt: Format,
    compression: Compression,
    *,
    threads: int,
    seed: str,
    epoch: int,
    timeout: float | None = None,
) -> None:
    """Write `raw` to `out` in the given format. `out` appears only when it is whole.

    `timeout` in seconds. Ids and times in the file come from `seed` (any text) and `epoch`
    (seconds): the same disk gives the same bytes. `compression` matters for qcow2 alone.
    Raises PreflightError when qemu-img is missing or too old for zstd, BuildError when the
    conversion fails or takes too long.
    """
    if fmt is not Format.RAW:
        need("qemu-img", "qemu-utils")
    if fmt is Format.QCOW2 and compression is Compression.ZSTD:
        _require_zstd()
    if not raw.is_file():
        raise BuildError("there is no raw image to convert", where=str(raw))
    partial = out.with_name(f".{out.name}.partial")
    try:
        run(
            formats_argv(raw, partial, fmt, compression, threads=threads),
            what=f"could not write {out.name}",
            timeout=timeout,
        )
        if fmt is Format.VMDK:
            fileids.settle_vmdk(partial, out.name, seed)
        elif fmt is Format.VHD:
            fileids.settle_vhd(partial, seed, epoch)
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)


def qemu_img_version() -> tuple[int, int]:
    """Major and minor version of the host's qemu-img. Raises PreflightError."""
    text = run([need("qemu-img", "qemu-utils"), "--version"]).stdout.decode(errors="replace")
    match = re.search(r"version (\d+)\.(\d+)", text)
    if match is None:
        raise PreflightError(
            "cannot tell the version of qemu-img",
            detail=text[:200],
            hint="reinstall qemu-utils",
        )
    return int(match[1]), int(match[2])


def _require_zstd() -> None:
    major, minor = qemu_img_version()
    if (major, minor) < ZSTD_SINCE:
        raise PreflightError(
            f"qemu-img {major}.{minor} cannot write qcow2 files with zstd",
            detail="zstd needs QEMU 5.1 or newer",
            hint="install a newer qemu-utils, or set formats.compression: zlib",
        )
