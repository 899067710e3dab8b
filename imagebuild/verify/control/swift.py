"""A small Swift, with as much of Keystone as a backup needs: where backups go.

It serves what Trove and its backup container use of the object storage API: accounts,
containers, objects with metadata, copies by X-Copy-From, static large objects. Tokens can
be exchanged at /v3/auth/tokens (Identity API v3), as agents before 2026.1 do. Objects are
files below one directory; nothing is held in memory.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import shutil
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

_BLOCK = 1 << 16
_LIMIT = 8 << 30
_META = "x-object-meta-"
_REGION = "RegionOne"
_DATE = "Thu, 01 Jan 2026 00:00:00 GMT"


class Swift:
    """A server on a port of 127.0.0.1, in threads of the tool.

    `token` is the only one it takes; `public` is how the guest reaches it
    (http://ADDRESS:PORT), for the catalog.
    """

    def __init__(self, place: Path, token: str, public: str) -> None:
        self.place = place
        self.token = token
        self.public = public
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        swift = self

        class Handler(_Handler):
            server_of = swift

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.2,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the server; the objects stay."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def objects(self) -> dict[str, int]:
        """The objects (ACCOUNT/CONTAINER/NAME) and their sizes in bytes."""
        found = {}
        for path in sorted(self.place.glob("*/*/*.json")):
            facts = json.loads(path.read_text())
            account, container = path.parts[-3:-1]
            found[f"{unquote(account)}/{unquote(container)}/{facts['name']}"] = int(facts["bytes"])
        return found


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        """A client that went away is no news."""


class _TooLargeError(Exception):
    """More than the place may hold."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "imagebuild"
    timeout = 600
    server_of: Swift

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002, ANN401
        """Quiet: URLs and headers hold the token."""

    def _dispatch(self) -> None:
        url = urlsplit(self.path)
        parts = [unquote(p) for p in url.path.split("/", 4)[1:] if p]
        query = parse_qs(url.query, keep_blank_values=True)
        try:
            if parts[:1] == ["v3"]:
                self._identity(parts)
            elif parts[:1] != ["v1"] or len(parts) < 2 or {".", ".."} & set(parts):
                self._answer(404)
            elif not self._known(self.headers.get("X-Auth-Token", "")):
                self._answer(401)
            else:
                kind = ("account", "container", "object")[len(parts) - 2]
                getattr(self, f"_{kind}")(parts, query)
        except _TooLargeError:
            self.close_connection = True
            self._answer(413)
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _dispatch  # noqa: N815

    # --- Identity -------------------------------------------------------------------------

    def _known(self, token: str) -> bool:
        return hmac.compare_digest(token.encode(), self.server_of.token.encode())

    def _identity(self, parts: list[str]) -> None:
        if parts == ["v3", "auth", "tokens"] and self.command == "POST":
            self._tokens()
            return
        self._drain()
        url = f"{self.server_of.public}/v3"
        links = [{"rel": "self", "href": url}]
        version = {"id": "v3.14", "status": "stable", "links": links}
        self._json(200, {"version": version | {"updated": "2020-04-07T00:00:00Z"}})

    def _tokens(self) -> None:
        """A token for another: unscoped or not, ours is of the one project there is."""
        try:
            asked = json.loads(b"".join(self._body()))
            token = str(asked["auth"]["identity"]["token"]["id"])
            project = str(asked["auth"].get("scope", {}).get("project", {}).get("id", ""))
        except (ValueError, KeyError, TypeError, AttributeError):
            self._answer(400)
            return
        if not self._known(token):
            self._answer(401)
            return
        url = f"{self.server_of.public}/v1/AUTH_{project}"
        endpoints = [
            {"id": kind, "interface": kind, "region": _REGION, "region_id": _REGION, "url": url}
            for kind in ("public", "internal", "admin")
        ]
        catalog = [{"id": "s", "type": "object-store", "name": "swift", "endpoints": endpoints}]
        domain = {"id": "default", "name": "Default"}
        self._json(
            201,
            {
                "token": {
                    "methods": ["token"], "catalog": catalog, "audit_ids": ["verify"],
                    "issued_at": "2026-01-01T00:00:00.000000Z",
                    "expires_at": "2099-01-01T00:00:00.000000Z",
                    "user": {"id": "verify", "name": "verify", "domain": domain},
                    "project": {"id": project, "name": "verify", "domain": domain},
                    "roles": [{"id": "admin", "name": "admin"}],
                }
            },
            {"X-Subject-Token": self.server_of.token},
        )  # fmt: skip

    # --- accounts and containers ----------------------------------------------------------

    def _account(self, parts: list[str], query: dict[str, list[str]]) -> None:
        self._drain()
        top = self.server_of.place / _file(parts[1])
        names = sorted(unquote(p.name) for p in top.glob("*")) if top.is_dir() else []
        headers = {"X-Account-Container-Count": str(len(names)), "X-Account-Object-Count": "0"}
        headers |= {"X-Account-Bytes-Used": "0"}
        self._listing([{"name": n, "count": 0, "bytes": 0} for n in names], query, headers)

    def _container(self, parts: list[str], query: dict[str, list[str]]) -> None:
        self._drain()
        place = self.server_of.place / _file(parts[1]) / _file(parts[2])
        if self.command in ("PUT", "POST"):
            is_new = not place.is_dir()
            place.mkdir(parents=True, exist_ok=True)
            self._answer(201 if is_new else 202)
            return
        if not place.is_dir():
            self._answer(404)
            return
        found = [json.loads(p.read_text()) for p in place.glob("*.json")]
        if self.command == "DELETE":
            if found:
                self._answer(409)
                return
            shutil.rmtree(place)
            self._answer(204)
            return
        prefix, marker = (query.get(k, [""])[0] for k in ("prefix", "marker"))
        rows = [
            {"name": f["name"], "hash": f["etag"], "bytes": f["bytes"],
             "content_type": f["type"], "last_modified": "2026-01-01T00:00:00.000000"}
            for f in sorted(found, key=lambda f: str(f["name"]))
            if f["name"].startswith(prefix) and f["name"] > marker
        ]  # fmt: skip
        used = sum(int(f["bytes"]) for f in found)
        headers = {"X-Container-Object-Count": str(len(found))}
        self._listing(rows, query, headers | {"X-Container-Bytes-Used": str(used)})

    def _listing(
        self, rows: list[dict[str, Any]], query: dict[str, list[str]], headers: dict[str, str]
    ) -> None:
        if query.get("format") == ["json"]:
            self._json(200, rows, headers)
        elif rows:
            text = "".join(f"{row['name']}\n" for row in rows)
            self._answer(200, text.encode(), headers | {"Content-Type": "text/plain"})
        else:
            self._answer(204, headers=headers)

    # --- objects --------------------------------------------------------------------------

    def _object(self, parts: list[str], query: dict[str, list[str]]) -> None:
        _, account, container, name = parts
        place = self.server_of.place / _file(account) / _file(container)
        if not place.is_dir():
            self._drain()
            self._answer(404)
        elif self.command == "PUT":
            self._put(place, account, name, query)
        elif (facts := _facts(place, name)) is None:
            self._drain()
            self._answer(404)
        else:
            self._drain()
            getattr(self, f"_{self.command.lower()}")(place, facts, query)

    def _put(self, place: Path, account: str, name: str, query: dict[str, list[str]]) -> None:
        facts: dict[str, Any] = {
            "name": name,
            "type": self.headers.get("Content-Type") or "application/octet-stream",
            "meta": self._metadata(),
        }
        if self.headers.get("X-Copy-From"):
            self._drain()
            source = _object_of(self.server_of.place / _file(account), self.headers["X-Copy-From"])
            if source is None:
                self._answer(404)
                return
            directory, original = source
            facts["meta"] = original["meta"] | facts["meta"]
            facts |= {k: original[k] for k in ("etag", "bytes", "segments") if k in original}
            with _new_file(place) as part:
                shutil.copyfile(_data(directory, original["name"]), part)
                _keep(place, facts, part)
        else:
            with _new_file(place) as part:
                self._receive(part, facts)
                if query.get("multipart-manifest") == ["put"] and not self._manifest(
                    part, account, facts
                ):
                    self._answer(400)
                    return
                _keep(place, facts, part)
        self._answer(201, headers={"Etag": facts["etag"], "Last-Modified": _DATE})

    def _receive(self, part: Path, facts: dict[str, Any]) -> None:
        digest, size = hashlib.md5(usedforsecurity=False), 0
        with part.open("wb") as file:
            for block in self._body():
                size += len(block)
                if size > _LIMIT:
                    raise _TooLargeError
                digest.update(block)
                file.write(block)
        facts |= {"etag": digest.hexdigest(), "bytes": size}

    def _manifest(self, part: Path, account: str, facts: dict[str, Any]) -> bool:
        """Turn what was sent into a static large object of the segments that it names."""
        try:
            segments = json.loads(part.read_text())
            paths = [str(s["path"]) for s in segments]
        except (ValueError, KeyError, TypeError):
            return False
        top = self.server_of.place / _file(account)
        found = [_object_of(top, path) for path in paths]
        etags = [f[1]["etag"] for f in found if f]
        given = [s.get("etag") or e for s, e in zip(segments, etags, strict=False)]
        if len(etags) != len(paths) or given != etags:
            return False
        facts["segments"] = paths
        facts["bytes"] = sum(int(f[1]["bytes"]) for f in found if f)
        whole = hashlib.md5("".join(etags).encode(), usedforsecurity=False).hexdigest()
        facts["etag"] = f'"{whole}"'
        part.write_bytes(b"")
        return True

    def _get(self, place: Path, facts: dict[str, Any], query: dict[str, list[str]]) -> None:
        del query
        self.send_response(200)
        for key, value in self._object_headers(facts).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        for path in _files(place, facts):
            with path.open("rb") as file:
                shutil.copyfileobj(file, self.wfile, _BLOCK)

    _head = _get

    def _post(self, place: Path, facts: dict[str, Any], query: dict[str, list[str]]) -> None:
        del query
        facts["meta"] = self._metadata()
        _write(place, facts)
        self._answer(202)

    def _delete(self, place: Path, facts: dict[str, Any], query: dict[str, list[str]]) -> None:
        doomed = [(place, facts)]
        is_whole = query.get("multipart-manifest") == ["delete"]
        if is_whole:
            found = (_object_of(place.parent, p) for p in facts.get("segments", ()))
            doomed += [f for f in found if f]
        for directory, one in doomed:
            _data(directory, one["name"]).unlink(missing_ok=True)
            _data(directory, one["name"]).with_suffix(".json").unlink(missing_ok=True)
        if is_whole:
            self._json(200, {"Number Deleted": len(doomed), "Number Not Found": 0,
                             "Response Status": "200 OK", "Errors": []})  # fmt: skip
        else:
            self._answer(204)

    def _object_headers(self, facts: dict[str, Any]) -> dict[str, str]:
        headers = {
            "Content-Length": str(facts["bytes"]),
            "Content-Type": str(facts["type"]),
            "Etag": str(facts["etag"]),
            "Last-Modified": _DATE,
            "Accept-Ranges": "none",
        }
        if "segments" in facts:
            headers["X-Static-Large-Object"] = "True"
        return headers | {f"X-Object-Meta-{k}": v for k, v in facts["meta"].items()}

    def _metadata(self) -> dict[str, str]:
        return {
            k.lower()[len(_META) :]: v
            for k, v in self.headers.items()
            if k.lower().startswith(_META)
        }

    # --- requests and answers -------------------------------------------------------------

    def _body(self) -> Iterator[bytes]:
        """What the client sends, in blocks."""
        if "chunked" not in self.headers.get("Transfer-Encoding", "").lower():
            left = int(self.headers.get("Content-Length") or 0)
            while left:
                block = self.rfile.read(min(left, _BLOCK))
                if not block:
                    raise ConnectionError
                left -= len(block)
                yield block
            return
        while True:
            line = self.rfile.readline(64)
            if not line.endswith(b"\n"):
                raise ConnectionError
            left = int(line.split(b";")[0], 16)
            if not left:
                break
            while left:
                block = self.rfile.read(min(left, _BLOCK))
                if not block:
                    raise ConnectionError
                left -= len(block)
                yield block
            self.rfile.readline(8)
        while self.rfile.readline(_BLOCK).strip():
            pass  # trailers

    def _drain(self) -> None:
        for _ in self._body():
            pass

    def _json(self, status: int, document: object, headers: dict[str, str] | None = None) -> None:
        kind = {"Content-Type": "application/json; charset=utf-8"}
        self._answer(status, json.dumps(document).encode(), kind | (headers or {}))

    def _answer(
        self, status: int, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _file(name: str) -> str:
    """A name of an account or container as that of a directory."""
    from urllib.parse import quote

    return quote(name, safe="")


def _data(place: Path, name: str) -> Path:
    return place / f"{hashlib.sha256(name.encode()).hexdigest()}.data"


def _facts(place: Path, name: str) -> dict[str, Any] | None:
    try:
        facts: dict[str, Any] = json.loads(_data(place, name).with_suffix(".json").read_text())
    except OSError:
        return None
    return facts


def _object_of(top: Path, path: str) -> tuple[Path, dict[str, Any]] | None:
    """The object that CONTAINER/NAME names in an account's directory."""
    container, _, name = unquote(path).lstrip("/").partition("/")
    facts = _facts(top / _file(container), name) if name else None
    return (top / _file(container), facts) if facts else None


def _files(place: Path, facts: dict[str, Any]) -> Iterator[Path]:
    """The files that hold an object's bytes."""
    if "segments" not in facts:
        yield _data(place, facts["name"])
        return
    for path in facts["segments"]:
        if found := _object_of(place.parent, path):
            yield from _files(*found)


@contextlib.contextmanager
def _new_file(place: Path) -> Iterator[Path]:
    handle, name = tempfile.mkstemp(dir=place, suffix=".part")
    part = Path(name)
    try:
        with open(handle, "wb"):  # noqa: PTH123 - a descriptor
            pass
        yield part
    finally:
        part.unlink(missing_ok=True)


def _keep(place: Path, facts: dict[str, Any], part: Path) -> None:
    part.rename(_data(place, facts["name"]))
    _write(place, facts)


def _write(place: Path, facts: dict[str, Any]) -> None:
    path = _data(place, facts["name"]).with_suffix(".json")
    part = path.with_suffix(f".{threading.get_ident()}.part")
    part.write_text(json.dumps(facts))
    part.rename(path)
