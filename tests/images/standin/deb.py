"""Make and remake Debian packages in memory, without dpkg-deb and without root.

A package is an `ar` file of three members: `debian-binary`, `control.tar.*` and
`data.tar.*` (deb(5)). Rewriting only the member that changes keeps owners, modes and
times of everything else, and leaves the large data member of a package compressed.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterable, Mapping

from imagebuild.errors import BuildError

_MAGIC = b"!<arch>\n"
_HEADER = 60


def parse(stanza: str) -> dict[str, str]:
    """Fields of one control stanza; continuation lines stay part of their value."""
    fields: dict[str, str] = {}
    last = ""
    for line in stanza.splitlines():
        if line[:1] in (" ", "\t"):
            fields[last] += "\n" + line
        elif ":" in line:
            last, _, value = line.partition(":")
            fields[last] = value.strip()
    return fields


def render(fields: Mapping[str, str]) -> str:
    """The stanza that `parse` reads, with a newline at its end."""
    return "".join(f"{name}: {value}\n" for name, value in fields.items())


def make(control: Mapping[str, str], files: Mapping[str, bytes], when: int) -> bytes:
    """A new package of `files` (path without leading slash → content), owned by root.

    `when` is the modification time, in seconds, of everything inside.
    """
    info = {"control": render(control).encode()}
    if files:
        info["md5sums"] = b"".join(_md5_line(name, body) for name, body in files.items())
    return _write_ar(
        {
            "debian-binary": b"2.0\n",
            "control.tar.xz": _tar_of(info, when),
            "data.tar.xz": _tar_of(files, when),
        }
    )


def control_of(package: bytes) -> dict[str, str]:
    """Control fields of a package."""
    name, body = _member(_read_ar(package), "control.tar")
    return parse(_read_tar(name, body)["./control"][1].decode())


def repack(
    package: bytes, control: Mapping[str, str], files: Mapping[str, bytes], when: int
) -> bytes:
    """The same package with the control fields replaced and `files` replaced or added."""
    members = _read_ar(package)
    control_name, control_body = _member(members, "control.tar")
    info = _read_tar(control_name, control_body)
    new_info = {"./control": render(control).encode()}
    if files and "./md5sums" in info:
        kept = [
            line + b"\n"
            for line in info["./md5sums"][1].splitlines()
            if line.partition(b"  ")[2].decode() not in files
        ]
        added = [_md5_line(name, body) for name, body in files.items()]
        new_info["./md5sums"] = b"".join(kept + added)
    data_name, data_body = _member(members, "data.tar")
    if files:
        changes = {f"./{name}": body for name, body in files.items()}
        data_body = _change_tar(_read_tar(data_name, data_body), changes, when)
        data_name = "data.tar.xz"
    return _write_ar(
        {
            "debian-binary": members["debian-binary"],
            "control.tar.xz": _change_tar(info, new_info, when),
            data_name: data_body,
        }
    )


def _md5_line(name: str, body: bytes) -> bytes:
    return f"{hashlib.md5(body, usedforsecurity=False).hexdigest()}  {name}\n".encode()


def _member(members: Mapping[str, bytes], prefix: str) -> tuple[str, bytes]:
    for name, body in members.items():
        if name.startswith(prefix):
            return name, body
    raise BuildError("not a Debian package", detail=f"it has no member {prefix}*")


def _read_ar(package: bytes) -> dict[str, bytes]:
    if not package.startswith(_MAGIC):
        raise BuildError("not a Debian package", detail="it is no ar file")
    members: dict[str, bytes] = {}
    at = len(_MAGIC)
    while at + _HEADER <= len(package):
        header = package[at : at + _HEADER]
        size = int(header[48:58])
        at += _HEADER
        members[header[:16].decode().strip().rstrip("/")] = package[at : at + size]
        at += size + size % 2
    return members


def _write_ar(members: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    out.write(_MAGIC)
    for name, body in members.items():
        out.write(f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(body):<10}`\n".encode())
        out.write(body + b"\n" * (len(body) % 2))
    return out.getvalue()


def _read_tar(name: str, body: bytes) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
    try:
        with tarfile.open(fileobj=io.BytesIO(body), mode="r:*") as tar:
            found = {}
            for entry in tar:
                stream = tar.extractfile(entry) if entry.isreg() else None
                # dpkg-deb writes "./etc/issue", other tools "etc/issue".
                name = "./" + entry.name.removeprefix(".").removeprefix("/")
                found[name] = (entry, b"" if stream is None else stream.read())
            return found
    except tarfile.TarError as exc:
        raise BuildError(f"cannot read {name} of a package", detail=str(exc)) from exc


def _change_tar(
    entries: Mapping[str, tuple[tarfile.TarInfo, bytes]],
    changes: Mapping[str, bytes],
    when: int,
) -> bytes:
    def stream() -> Iterable[tuple[tarfile.TarInfo, bytes]]:
        for name, (info, body) in entries.items():
            new = changes.get(name, body)
            info.size = len(new) if info.isreg() else 0
            yield info, new
        for name, body in changes.items():
            if name not in entries:
                yield _file(name, body, when), body

    return _tar(stream())


def _tar_of(files: Mapping[str, bytes], when: int) -> bytes:
    directories = {"."}
    for name in files:
        parts = name.split("/")[:-1]
        directories |= {"./" + "/".join(parts[: i + 1]) for i in range(len(parts))}

    def stream() -> Iterable[tuple[tarfile.TarInfo, bytes]]:
        for name in sorted(directories):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode, entry.mtime = tarfile.DIRTYPE, 0o755, when
            yield entry, b""
        for name, body in files.items():
            yield _file(f"./{name}", body, when), body

    return _tar(stream())


def _file(name: str, body: bytes, when: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = len(body), 0o644, when
    entry.uname = entry.gname = "root"
    return entry


def _tar(entries: Iterable[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:xz", format=tarfile.GNU_FORMAT, preset=1) as tar:
        for info, body in entries:
            tar.addfile(info, io.BytesIO(body) if info.isreg() else None)
    return out.getvalue()
