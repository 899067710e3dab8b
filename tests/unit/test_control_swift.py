"""The small Swift does what a backup asks of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from imagebuild.verify.control.swift import Swift

TOKEN = "the-token-of-the-run"  # noqa: S105 - of no server


@pytest.fixture
def swift(tmp_path: Path) -> Iterator[Swift]:
    server = Swift(tmp_path / "swift", TOKEN, "http://10.0.0.5:8080")
    yield server
    server.close()


class Caller:
    """Requests with the token."""

    def __init__(self, swift: Swift) -> None:
        self.base = f"http://127.0.0.1:{swift.port}"
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers["X-Auth-Token"] = TOKEN

    def __call__(
        self, method: str, path: str, data: object = None, **headers: str
    ) -> requests.Response:
        named = {k.replace("_", "-"): v for k, v in headers.items()}
        url = f"{self.base}/v1/AUTH_p{path}"
        return self.session.request(method, url, data=data, headers=named, timeout=10)  # type: ignore[arg-type]


@pytest.fixture
def call(swift: Swift) -> Caller:
    made = Caller(swift)
    assert made("PUT", "/backups").status_code == 201
    return made


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def test_an_object_with_metadata(call: Caller, swift: Swift) -> None:
    stored = call("PUT", "/backups/a%20b/c", b"text", X_Object_Meta_Lsn="7")
    assert (stored.status_code, stored.headers["Etag"]) == (201, md5(b"text"))
    head = call("HEAD", "/backups/a%20b/c")
    assert head.headers["X-Object-Meta-lsn"] == "7"
    assert head.headers["Content-Length"] == "4"
    assert call("GET", "/backups/a%20b/c").content == b"text"
    assert swift.objects() == {"AUTH_p/backups/a b/c": 4}
    assert call("DELETE", "/backups/a%20b/c").status_code == 204
    assert call("GET", "/backups/a%20b/c").status_code == 404
    assert swift.objects() == {}


def test_a_stream_of_unknown_length(call: Caller) -> None:
    blocks = [b"x" * 70_000, b"y" * 3, b"z"]
    stored = call("PUT", "/backups/stream", iter(blocks))
    assert stored.headers["Etag"] == md5(b"".join(blocks))
    assert call("GET", "/backups/stream").content == b"".join(blocks)


def test_a_copy_has_new_metadata_and_stays_when_its_source_goes(call: Caller) -> None:
    call("PUT", "/backups/segment", b"dump", X_Object_Meta_Old="1")
    copied = call(
        "PUT", "/backups/whole", b"", X_Copy_From="backups/segment", X_Object_Meta_New="2"
    )
    assert (copied.status_code, copied.headers["Etag"]) == (201, md5(b"dump"))
    call("DELETE", "/backups/segment")
    got = call("GET", "/backups/whole")
    assert (got.content, got.headers["X-Object-Meta-new"]) == (b"dump", "2")
    assert call("PUT", "/backups/x", b"", X_Copy_From="backups/none").status_code == 404


def test_a_large_object_is_its_segments(call: Caller, swift: Swift) -> None:
    """Etag as Swift has it: of the segments' etags, in quotes."""
    parts = [b"first", b"second"]
    rows = []
    for number, part in enumerate(parts):
        call("PUT", f"/backups/s_{number}", part)
        rows.append({"path": f"backups/s_{number}", "etag": md5(part), "size_bytes": len(part)})
    manifest = json.dumps(rows).encode()

    assert call("PUT", "/backups/all?multipart-manifest=put", manifest).status_code == 201

    head = call("HEAD", "/backups/all")
    assert head.headers["Etag"] == '"' + md5("".join(map(md5, parts)).encode()) + '"'
    assert head.headers["X-Static-Large-Object"] == "True"
    assert call("GET", "/backups/all").content == b"firstsecond"
    assert call("DELETE", "/backups/all?multipart-manifest=delete").json()["Number Deleted"] == 3
    assert swift.objects() == {}


def test_a_manifest_of_what_is_not_there(call: Caller, swift: Swift) -> None:
    call("PUT", "/backups/s_0", b"other")
    for row in ({"path": "backups/none"}, {"path": "backups/s_0", "etag": md5(b"mine")}):
        manifest = json.dumps([row]).encode()
        assert call("PUT", "/backups/all?multipart-manifest=put", manifest).status_code == 400
    assert list(swift.objects()) == ["AUTH_p/backups/s_0"]


def test_listings(call: Caller) -> None:
    for name in ("a1", "a2", "b"):
        call("PUT", f"/backups/{name}", b"..")
    rows = call("GET", "/backups?format=json&prefix=a&marker=a1").json()
    assert [(r["name"], r["bytes"]) for r in rows] == [("a2", 2)]
    assert call("GET", "/backups").text == "a1\na2\nb\n"
    assert call("GET", "?format=json").json()[0]["name"] == "backups"
    assert call("DELETE", "/backups").status_code == 409
    assert call("PUT", "/nowhere/a", b"").status_code == 404


def test_only_the_token_counts(call: Caller, swift: Swift) -> None:
    call.session.headers["X-Auth-Token"] = "another"
    assert call("PUT", "/backups/a", b"x").status_code == 401
    url = f"{call.base}/v3/auth/tokens"
    body = {"auth": {"identity": {"methods": ["token"], "token": {"id": "another"}}}}
    assert requests.post(url, json=body, timeout=10).status_code == 401
    assert swift.objects() == {}


def test_a_token_is_exchanged_for_one_with_the_guests_address(call: Caller) -> None:
    identity = {"methods": ["token"], "token": {"id": TOKEN}}
    body = {"auth": {"identity": identity, "scope": {"project": {"id": "p"}}}}
    answer = requests.post(f"{call.base}/v3/auth/tokens", json=body, timeout=10)
    assert (answer.status_code, answer.headers["X-Subject-Token"]) == (201, TOKEN)
    [service] = answer.json()["token"]["catalog"]
    assert service["type"] == "object-store"
    assert {e["url"] for e in service["endpoints"]} == {"http://10.0.0.5:8080/v1/AUTH_p"}


def test_names_stay_below_the_place(call: Caller, tmp_path: Path) -> None:
    for path in ("/../../etc/x", "/%2e%2e/x", "/backups/..%2f..%2f..%2fescaped"):
        request = requests.Request("PUT", f"{call.base}/v1/AUTH_p{path}", data=b"x").prepare()
        request.url = f"{call.base}/v1/AUTH_p{path}"
        request.headers["X-Auth-Token"] = TOKEN
        call.session.send(request, timeout=10)
    assert {p.name for p in tmp_path.iterdir()} == {"swift"}
    assert {p.name for p in (tmp_path / "swift").iterdir()} <= {"AUTH_p"}
