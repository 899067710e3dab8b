"""Passwords and tokens from where people keep them: a file, or the environment.

None of them is ever quoted in an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from imagebuild.errors import ConfigError
from imagebuild.files import MIB, read_limited

#: The longest password line that is read, in characters.
_LONGEST = 4096


def read_file(path: Path, key: str) -> str:
    """The one line of a password file; `key` is what names it. Raises ConfigError."""
    try:
        data = read_limited(path, MIB)
    except OSError as exc:
        raise ConfigError(
            "cannot read a password file",
            where=str(path),
            detail=exc.strerror or str(exc),
            hint=f"check {key}",
        ) from exc
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = ""
    return _one_line(
        text, "a password file", str(path), f"write the password of {key} alone into that file"
    )


def read_environment(name: str, environ: Mapping[str, str], key: str) -> str:
    """The password in an environment variable; `key` is what names it. Raises ConfigError."""
    if name not in environ:
        raise ConfigError(
            f"the environment variable {name} is not set",
            where=key,
            hint=f"set it to the password, or name a file with it: {key.rpartition('.')[0]}"
            ".password_file",
        )
    return _one_line(
        environ[name],
        "a password",
        f"the environment variable {name}",
        f"set it to the password of {key} alone",
    )


def _one_line(text: str, what: str, where: str, hint: str) -> str:
    lines = text.splitlines()
    # A blank at an end, or what no screen shows, would be read otherwise than it was meant.
    if len(lines) != 1 or not lines[0].strip() or not lines[0].isprintable():
        raise ConfigError(
            f"{what} must hold one line of printable characters", where=where, hint=hint
        )
    if len(lines[0]) > _LONGEST:
        raise ConfigError(f"the password is longer than {_LONGEST} characters", where=where)
    return lines[0]
