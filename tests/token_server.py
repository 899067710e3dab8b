"""A token server before a real registry (distribution's "Token Authentication Specification").

    with TokenServer(directory, {"me": "secret"}) as tokens:
        with RegistryServer(directory / "registry", tokens=tokens) as server:
            ...

Its tokens are JWTs by its own key, whose certificate the registry trusts.
"""

from __future__ import annotations

import base64
import datetime
import json
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

ISSUER = "imagebuild test tokens"
SERVICE = "imagebuild test registry"
#: A registry takes a token for so long after its end (distribution's registry/auth/token).
_LEEWAY = 60


@dataclass(frozen=True)
class Asked:
    """One token that was asked for: by whom ("" is nobody), for which scopes, in which way."""

    user: str
    scopes: tuple[str, ...]
    method: str
    status: int


class TokenServer:
    """Gives tokens until `stop()` or the end of the block.

    `users`: their passwords, which serve as refresh tokens, too; each may do all. Who has no
    login may do `anonymous` (actions, such as "pull"); with none, 401. `denied`: actions that
    nobody gets; `hidden`: repositories that nobody may read. `expired`: so many of the next
    tokens have ended before they are given, though the answer says otherwise.
    """

    def __init__(
        self, directory: Path, users: Mapping[str, str], *, anonymous: tuple[str, ...] = ()
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.certificate = directory / "tokens.pem"
        self.users = dict(users)
        self.anonymous = anonymous
        self.denied: tuple[str, ...] = ()
        self.hidden: tuple[str, ...] = ()
        self.expired = 0
        self.lifetime = 300
        self.asked: list[Asked] = []
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._der = self._certify()
        handler = type("Handler", (_Handler,), {"tokens": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self.realm = f"http://127.0.0.1:{self._server.server_address[1]}/token"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )
        self._thread.start()

    def __enter__(self) -> TokenServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def settings(self) -> dict[str, Any]:
        """The registry's `auth.token`."""
        return {
            "realm": self.realm,
            "service": SERVICE,
            "issuer": ISSUER,
            "rootcertbundle": str(self.certificate),
        }

    def scopes(self) -> list[str]:
        """All scopes that tokens were given for, in the order of their coming."""
        return [scope for asked in self.asked if asked.status == 200 for scope in asked.scopes]

    def answer(self, method: str, login: tuple[str, str] | None, fields: list[tuple[str, str]]
               ) -> tuple[int, dict[str, Any]]:  # fmt: skip
        """Status and JSON for a request."""
        form = dict(fields)
        # A parameter each in a query, one with blanks between them in a form.
        given = tuple(value for name, value in fields if name == "scope")
        scopes = tuple(" ".join(given).split()) if method == "POST" else given
        user = login[0] if login else ""
        if method == "POST":
            token = form.get("refresh_token", "")
            user = next((u for u, p in self.users.items() if p == token), "")
            known = bool(user) and form.get("grant_type") == "refresh_token"
        elif login:
            known = self.users.get(user) == login[1]
        else:
            known = bool(self.anonymous)
        status = 200 if known and form.get("service") == SERVICE else 401
        self.asked.append(Asked(user, scopes, method, status))
        if status != 200:
            return status, {"errors": [{"code": "UNAUTHORIZED", "message": "no token"}]}
        name = "access_token" if method == "POST" else "token"
        return status, {name: self._token(user, scopes), "expires_in": self.lifetime}

    def _token(self, user: str, scopes: tuple[str, ...]) -> str:
        now = int(time.time())
        ends = now + self.lifetime
        if self.expired:
            self.expired -= 1
            ends = now - _LEEWAY - 60
        access = []
        for scope in scopes:
            kind, name, actions = scope.split(":", 2)
            allowed = [
                a
                for a in actions.split(",")
                if a not in self.denied
                and (a != "pull" or name not in self.hidden)
                and (user or a in self.anonymous)
            ]
            access.append({"type": kind, "name": name, "actions": allowed})
        header = {"typ": "JWT", "alg": "ES256", "x5c": [base64.b64encode(self._der).decode()]}
        claims = {"iss": ISSUER, "sub": user, "aud": SERVICE, "exp": ends, "nbf": now - 600,
                  "iat": now - 600, "jti": uuid.uuid4().hex, "access": access}  # fmt: skip
        signed = ".".join(_base64(json.dumps(part).encode()) for part in (header, claims))
        pair = decode_dss_signature(self._key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{_base64(b''.join(n.to_bytes(32, 'big') for n in pair))}"

    def _certify(self) -> bytes:
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, ISSUER)])
        now = datetime.datetime.now(datetime.timezone.utc)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return certificate.public_bytes(serialization.Encoding.DER)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    tokens: TokenServer

    def do_GET(self) -> None:
        self._answer(urlsplit(self.path).query)

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers.get("Content-Length", 0))).decode())

    def _answer(self, form: str) -> None:
        scheme, _, words = self.headers.get("Authorization", "").partition(" ")
        login = None
        if scheme == "Basic":
            user, _, password = base64.b64decode(words).decode().partition(":")
            login = user, password
        status, document = self.tokens.answer(self.command, login, parse_qsl(form))
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Keep the test's output clean."""


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
