"""Texts without the secrets that they may have."""

from __future__ import annotations

import re

_SECRET = re.compile(r"((?:password|token|_key)[\"']?\s*[=:]\s*[\"']?)[^\s,;\"'}]+", re.IGNORECASE)
#: A login in an address: of an index, a message bus, a database.
_LOGIN = re.compile(r"(?<=://)[^/\s@]*@")


def masked(text: str) -> str:
    """The text without the passwords, tokens and keys that it may have, nor logins of URLs."""
    return _SECRET.sub(r"\1***", _LOGIN.sub("", text))
