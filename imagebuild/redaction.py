"""Texts without the secrets that they may have."""

from __future__ import annotations

import re

#: A value by its name: of a setting, a header, a query (an object store's signed address).
_SECRET = re.compile(
    r"""((?:passw(?:or)?d|token|secret|signature|_sig|_key)["']?\s*[=:]\s*["']?"""
    r"""|authorization["']?\s*[=:]\s*["']?(?:basic|bearer)\s+)[^\s,;"'}]+""",
    re.IGNORECASE,
)
#: A login in an address: of a package index, a message bus, a database.
_LOGIN = re.compile(r"(?<=://)[^/\s@]*@")


def redact(text: str) -> str:
    """A text with the userinfo of every URL in it taken out."""
    return _LOGIN.sub("", text)


def masked(text: str) -> str:
    """The text without the passwords, tokens and keys that it may have, nor logins of URLs."""
    return _SECRET.sub(r"\1***", redact(text))
