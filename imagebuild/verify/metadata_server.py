"""The OpenStack metadata service for one connection, on standard input and output.

    metadata_server.py DIRECTORY LOG

qemu starts it (as a script, with any Python) for each connection of the guest to
169.254.169.254. DIRECTORY is made by `verify.metadata`; each answer adds a line to LOG:
seconds since the epoch, status, path. The paths are those of Nova's service (OpenStack's
administration guide, "Metadata service"): /openstack/VERSION/..., /VERSION/meta-data/...
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

#: What Nova offers, oldest first (nova/api/metadata/base.py).
VERSIONS = (
    "2012-08-10", "2013-04-04", "2013-10-17", "2015-10-15", "2016-06-30", "2016-10-06",
    "2017-02-22", "2018-08-27", "2020-10-14", "latest",
)  # fmt: skip
EC2_VERSIONS = (
    "1.0", "2007-01-19", "2007-03-01", "2007-08-29", "2007-10-10", "2007-12-15", "2008-02-01",
    "2008-09-01", "2009-04-04", "latest",
)  # fmt: skip
#: Status, body and type of an answer.
Answer = tuple[int, bytes, str]
#: More than any client sends; whoever sends more is no client.
_LONGEST = 1 << 16


def answer(root: str, method: str, path: str) -> Answer:
    """Status, body and type of the answer to a request."""
    if method not in ("GET", "HEAD"):
        return 405, b"Method Not Allowed", "text/plain"
    words = [w for w in path.partition("?")[0].split("/") if w]
    if any(w.startswith(".") for w in words):
        return 404, b"Not Found", "text/plain"
    if not words:
        return 200, "\n".join(EC2_VERSIONS).encode(), "text/plain"
    if words[0] == "openstack":
        if len(words) == 1:
            return 200, "\n".join(VERSIONS).encode(), "text/plain"
        return _file(root, "openstack", VERSIONS, words[1:])
    return _file(root, "ec2", EC2_VERSIONS, words)


def _file(root: str, tree: str, versions: tuple[str, ...], words: list[str]) -> Answer:
    file = Path(root, tree, *words[1:])
    if words[0] not in versions or not file.exists():
        return 404, b"Not Found", "text/plain"
    if file.is_dir():
        if file.name == "public-keys":  # the one place that names what it lists
            return 200, b"0=imagebuild", "text/plain"
        names = (f"{entry.name}/" if entry.is_dir() else entry.name for entry in file.iterdir())
        return 200, "\n".join(sorted(names)).encode(), "text/plain"
    kind = "application/json" if file.suffix == ".json" else "text/plain"
    return 200, file.read_bytes(), kind


def serve(root: str, log: str) -> None:
    """Read one request, answer it, end the connection."""
    head = b""
    while b"\r\n\r\n" not in head:
        data = os.read(0, 4096)
        if not data or len(head) > _LONGEST:
            return
        head += data
    words = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
    method, path = words[0], words[1] if len(words) > 1 else ""
    status, body, kind = answer(root, method, path)
    reason = {200: "OK", 404: "Not Found", 405: "Method Not Allowed"}[status]
    header = (
        f"HTTP/1.1 {status} {reason}\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    line = f"{time.time():.2f} {status} {path}\n".encode()
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(file, line)  # one write: several servers append to it
    data = header.encode() + (b"" if method == "HEAD" else body)
    while data:
        data = data[os.write(1, data) :]


if __name__ == "__main__":
    serve(*sys.argv[1:3])
