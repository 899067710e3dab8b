"""A package index on loopback (PEP 503) with tiny packages, for the tests of the agent."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def make_wheel(
    name: str, version: str, tag: str = "py3-none-any", requires: Sequence[str] = ()
) -> tuple[str, bytes]:
    """File name and bytes of a wheel with one module and its metadata."""
    needs = "".join(f"Requires-Dist: {r}\n" for r in requires)
    info = f"{name}-{version}.dist-info"
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as wheel:
        entries = {
            f"{name}.py": f"version = {version!r}\n",
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
            f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n",
            f"{info}/RECORD": "",
        }
        for entry, text in entries.items():
            wheel.writestr(zipfile.ZipInfo(entry), text)
    return f"{name}-{version}-{tag}.whl", out.getvalue()


def make_sdist(name: str, version: str, *extra: str) -> tuple[str, bytes]:
    """File name and bytes of an sdist; `extra` names more (empty) files in it."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for entry in ("PKG-INFO", "setup.py", *extra):
            tar.addfile(tarfile.TarInfo(f"{name}-{version}/{entry}"))
    return f"{name}-{version}.tar.gz", out.getvalue()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass
class LocalIndex:
    """What the server offers and what it was asked."""

    port: int = 0
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    requires: dict[str, str] = field(default_factory=dict)
    login: str = ""
    tell_hashes: bool = True
    failures: int = 0
    asked: list[str] = field(default_factory=list)

    def add(self, project: str, file: tuple[str, bytes], requires_python: str = "") -> str:
        """Offer a file; returns its sha256."""
        filename, data = file
        self.files.setdefault(project, {})[filename] = data
        if requires_python:
            self.requires[filename] = requires_python
        return sha256(data)

    @property
    def url(self) -> str:
        at = f"{self.login}@" if self.login else ""
        return f"http://{at}127.0.0.1:{self.port}/simple"

    def env(self, home: Path) -> dict[str, str]:
        """The environment that makes this the only index."""
        return {"PIP_INDEX_URL": self.url, "PIP_CONFIG_FILE": "/dev/null", "HOME": str(home)}

    def page(self, project: str) -> str:
        rows = []
        for filename, data in self.files[project].items():
            fragment = f"#sha256={sha256(data)}" if self.tell_hashes else ""
            python = self.requires.get(filename, "").replace(">", "&gt;")
            attribute = f' data-requires-python="{python}"' if python else ""
            rows.append(f'<a href="/files/{filename}{fragment}"{attribute}>{filename}</a>')
        return "<!DOCTYPE html><html><body>" + "\n".join(rows) + "</body></html>"


@contextlib.contextmanager
def serve() -> Iterator[LocalIndex]:
    """Run an index until the end of the block."""
    index = LocalIndex()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            index.asked.append(self.path)
            wanted = "Basic " + base64.b64encode(index.login.encode()).decode()
            if index.failures:
                index.failures -= 1
                return self._answer(503, b"", "text/plain")
            if index.login and self.headers.get("Authorization") != wanted:
                return self._answer(401, b"", "text/plain")
            kind, _, name = self.path.strip("/").partition("/")
            if kind == "simple" and name in index.files:
                return self._answer(200, index.page(name).encode(), "text/html")
            for files in index.files.values():
                if kind == "files" and name in files:
                    return self._answer(200, files[name], "application/octet-stream")
            return self._answer(404, b"", "text/plain")

        def _answer(self, status: int, body: bytes, content_type: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Keep the test's output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    index.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield index
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
