"""Checks and conversions of the single values that a profile holds.

What passes here ends up in shell-sourced files, apt's sources and argv, so every
check is an allow-list: a value that passes holds no quote, blank, `$`, backtick or
control character. Each check returns the value in its canonical form or raises
ValueError with a sentence that says what is allowed.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from urllib.parse import urlsplit, urlunsplit

KIB = 1024
MIB = KIB**2
GIB = KIB**3
TIB = KIB**4

_SIZE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?) ?(?:([KMGT])(?:iB)?)?", re.ASCII)
_UNITS = {"K": KIB, "M": MIB, "G": GIB, "T": TIB}
_DURATION = re.compile(r"(?:([0-9]{1,4})h)?(?:([0-9]{1,6})m)?(?:([0-9]{1,7})s)?", re.ASCII)
# `?`, `#` and `&` are left out on purpose: no archive needs them, and `&` is an
# operator in a shell-sourced file.
_URL = re.compile(r"[A-Za-z0-9._~:/@+,=%\[\]-]+", re.ASCII)
_PATH = re.compile(r"/[\w./@%+=,~-]*")
_USERINFO = re.compile(r"//\S*@")


def shown(value: object, limit: int = 60) -> str:
    """`value` as an error message may quote it: short, and without a URL's password."""
    if isinstance(value, str):
        text = repr(_USERINFO.sub("//***@", value))
        return text if len(text) <= limit else text[: limit - 1] + "…"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    return "a mapping" if isinstance(value, dict) else "a list"


def strip_userinfo(url: str) -> str:
    """The URL without `user:password@`. Text that is not a URL is returned as it is."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return _USERINFO.sub("//", url)
    if "@" not in parts.netloc:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def parse_size(value: object) -> int:
    """Bytes of `5G`, `800M`, `5GiB` or a bare number, which is GiB as trovestack has it."""
    match = _SIZE.fullmatch(str(value)) if isinstance(value, (str, int)) else None
    if match is None or isinstance(value, bool):
        raise ValueError(
            f"{shown(value)} is not a size: write 5G, 800M or 5GiB; a bare number is GiB"
        )
    number, unit = match.groups()
    size = round(float(number) * _UNITS[unit or "G"])
    if size % MIB:
        raise ValueError(f"{shown(value)} is not a whole number of MiB")
    return size


def format_size(size: int) -> str:
    """The shortest text that `parse_size` reads back as `size` bytes (whole MiB)."""
    for unit in ("T", "G"):
        if size % _UNITS[unit] == 0:
            return f"{size // _UNITS[unit]}{unit}"
    return f"{size // MIB}M"


def check_disk_size(value: object) -> str:
    """Canonical text of a disk's size, 256 MiB to 16 TiB."""
    size = parse_size(value)
    if not 256 * MIB <= size <= 16 * TIB:
        raise ValueError(f"{shown(value)} is out of range: 256M to 16T are allowed")
    return format_size(size)


def parse_duration(value: object) -> int:
    """Seconds of `90s`, `30m`, `2h` or `1h30m`."""
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if not value or match is None:
        raise ValueError(
            f"{shown(value)} is not a duration: write 90s, 30m, 2h or 1h30m; null is no limit"
        )
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    total = hours * 3600 + minutes * 60 + seconds
    if total == 0:
        raise ValueError("a duration of 0 would end everything at once; null is no limit")
    return total


def parse_age(value: str) -> int:
    """Seconds of `14d`, or of a duration."""
    days = re.fullmatch(r"([0-9]{1,5})d", value, re.ASCII)
    if days:
        return int(days[1]) * 86400
    try:
        return parse_duration(value)
    except ValueError as exc:
        raise ValueError(f"{shown(value)} is not an age: write 14d, 12h or 30m") from exc


def check_duration(value: object) -> str | None:
    """Canonical text of a duration (`90m` and `1h30m` are one); null or `none` is no limit."""
    if value is None or value == "none":
        return None
    minutes, seconds = divmod(parse_duration(value), 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "m"), (seconds, "s"))
    return "".join(f"{number}{unit}" for number, unit in parts if number)


def check_url(value: str) -> str:
    """An http, https or file URL, without a slash at its end."""
    allowed = "an http://, https:// or file:// URL is expected"
    if not _URL.fullmatch(value):
        raise ValueError(f"{shown(value)}: {allowed}, without blanks, quotes, '?', '#', '&' or '$'")
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname, parts.port
    except ValueError as exc:
        raise ValueError(f"{shown(value)}: {allowed} ({exc})") from exc
    if parts.scheme not in ("http", "https", "file"):
        raise ValueError(f"{shown(value)}: {allowed}")
    if parts.scheme == "file" and (host or not parts.path.startswith("/")):
        raise ValueError(f"{shown(value)}: a file URL has three slashes: file:///srv/mirror")
    if parts.scheme != "file" and not host:
        raise ValueError(f"{shown(value)}: the URL names no host")
    return value.rstrip("/") if parts.path.strip("/") or parts.scheme != "file" else value


def check_path(value: str) -> str:
    """An absolute path that needs no quoting anywhere."""
    if not value.startswith("/"):
        raise ValueError(f"{shown(value)} is not an absolute path")
    # ':' would split DIB's ELEMENTS_PATH; blanks and quotes break its hooks.
    if not _PATH.fullmatch(value):
        raise ValueError(
            f"{shown(value)}: a path may hold letters, digits and . _ - / @ % + = , ~ only"
        )
    # Linux's NAME_MAX and PATH_MAX.
    if len(value.encode()) >= 4096 or any(len(p.encode()) > 255 for p in value.split("/")):
        raise ValueError(f"{shown(value)} is too long for a path")
    return value


def check_controller_path(value: str) -> str:
    """A directory on the controller that a read-only rsync module may be made of."""
    check_path(value)
    # rsyncd.conf(5) puts variables in the place of %NAME%.
    if "%" in value or ".." in value.split("/") or not value.strip("/"):
        raise ValueError(
            f"{shown(value)}: the controller's directory of Trove's source must not be '/' and "
            "must not hold '%' or '..'"
        )
    return value


def check_snapshot_url(value: str) -> str:
    """A URL with {snapshot} where the point in time belongs."""
    if value.count("{snapshot}") != 1:
        raise ValueError(f"{shown(value)}: {{snapshot}} must stand once, where the time belongs")
    check_url(value.replace("{snapshot}", "20250101T000000Z"))
    return value


def check_url_or_path(value: str) -> str:
    """A URL, or an absolute path."""
    return check_path(value) if value.startswith("/") else check_url(value)


def _by_pattern(pattern: str, what: str) -> Callable[[str], str]:
    compiled = re.compile(pattern, re.ASCII)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            raise ValueError(f"{shown(value)} is not {what}")
        return value

    return check


check_profile_name = _by_pattern(
    r"[a-z0-9][a-z0-9-]{0,62}", "a profile name: small letters, digits and '-'"
)
#: Debian Policy 5.6.1. A '-' at the end is refused: apt takes it for "remove".
check_package = _by_pattern(
    r"[a-z0-9][a-z0-9+.-]*[a-z0-9+.]",
    "a package name: small letters, digits, '+', '-', '.', without a version",
)
check_release = _by_pattern(r"[a-z][a-z0-9.-]{0,30}", "a release's code name, like jammy")
check_python = _by_pattern(r"3\.[0-9]{1,2}", "a Python version, like 3.10")
check_suite = _by_pattern(
    r"[A-Za-z0-9](?:[A-Za-z0-9._~+/-]*[A-Za-z0-9/])?", "a suite, like jammy-updates"
)
check_component = _by_pattern(
    r"[A-Za-z0-9](?:[A-Za-z0-9./-]*[A-Za-z0-9])?", "an archive component, like main"
)
check_element = _by_pattern(
    r"[A-Za-z0-9][A-Za-z0-9._-]*", "an element name: letters, digits, '.', '_', '-'"
)
#: ext4 has room for 16 bytes (mke2fs(8), option -L).
check_label = _by_pattern(
    r"[A-Za-z0-9._-]{1,16}", "a filesystem label: 1 to 16 letters, digits, '.', '_', '-'"
)
check_time_server = _by_pattern(
    r"[A-Za-z0-9](?:[A-Za-z0-9.:-]*[A-Za-z0-9])?", "a host name or address"
)
_check_user = _by_pattern(
    r"[a-z_][a-z0-9_-]{0,31}",
    "a user name: small letters, digits, '_', '-', at most 32, a letter or '_' first",
)

check_registry_host = _by_pattern(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?",
    "a registry: HOST or HOST:PORT, without a scheme and a path",
)
# RFC 7617: a user name of Basic authentication has no colon. '$' is Harbor's, for robots.
check_registry_user = _by_pattern(
    r"[A-Za-z0-9._$+@%=~/-]{1,128}", "a registry's user name: no blanks, quotes or colons"
)
check_host_user = _by_pattern(
    r"[A-Za-z_][A-Za-z0-9._-]{0,31}", "a user name: letters, digits, '.', '_', '-'"
)


def check_username(value: str) -> str:
    """A user name that the guest user may have."""
    # The guest agent makes the user `database` itself, for the containers.
    if value in ("root", "database"):
        raise ValueError(f"{shown(value)} is taken in the guest; another name is needed")
    return _check_user(value)


def check_fingerprint(value: str) -> str:
    """An OpenPGP fingerprint: 40 hexadecimal digits; blanks between them are dropped."""
    digits = value.replace(" ", "").upper()
    if not re.fullmatch(r"[0-9A-F]{40}", digits):
        raise ValueError(
            f"{shown(value)} is not a fingerprint: all 40 hexadecimal digits are needed"
        )
    return digits


#: A point in time as the snapshot services write it.
_SNAPSHOT = "%Y%m%dT%H%M%SZ"


def parse_snapshot(value: str) -> int:
    """Seconds since 1970 of a point in time like 20250101T000000Z."""
    moment = datetime.datetime.strptime(value, _SNAPSHOT)
    return int(moment.replace(tzinfo=datetime.timezone.utc).timestamp())


def check_snapshot(value: str) -> str:
    """A point in time as snapshot archives write it, 20250101T000000Z; of a day, its start."""
    # strptime is generous with the number of digits.
    for form, shape in ((_SNAPSHOT, r"\d{8}T\d{6}Z"), ("%Y-%m-%d", r"\d{4}-\d\d-\d\d")):
        if re.fullmatch(shape, value, re.ASCII):
            try:
                moment = datetime.datetime.strptime(value, form)
            except ValueError:
                break
            return moment.strftime(_SNAPSHOT)
    raise ValueError(f"{shown(value)} is not a point in time: write 20250101T000000Z or 2025-01-01")


def check_kernel(value: str) -> str:
    """A package name in which `{arch}` stands for the architecture."""
    check_package(value.replace("{arch}", "amd64"))
    return value


_PYPI = re.compile(r"pypi:trove==[0-9A-Za-z][0-9A-Za-z.!+_-]*", re.ASCII)
_REF = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/-]*", re.ASCII)


def check_agent_source(value: str) -> str:
    """Where the guest agent comes from: `pypi:trove==V`, `git+URL@REF` or a local path."""
    allowed = "write pypi:trove==VERSION, git+URL@REF or a path"
    if value.startswith("/"):
        return check_path(value)
    if value.startswith("git+"):
        return "git+" + _check_git(value[4:], allowed)
    if not _PYPI.fullmatch(value):
        raise ValueError(f"{shown(value)} is not a source of the guest agent: {allowed}")
    return value


def _check_git(value: str, allowed: str) -> str:
    url, _, ref = value.rpartition("@")
    # Without a ref, what is split off is the host behind the user's name, or all of it.
    if not _URL.fullmatch(url) or not _REF.fullmatch(ref) or ".." in ref:
        raise ValueError(f"{shown(value)} names no branch, tag or commit: {allowed}")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as exc:
        raise ValueError(f"{shown(value)} is not a git URL ({exc}): {allowed}") from exc
    if parts.scheme not in ("http", "https", "ssh", "git", "file"):
        raise ValueError(f"{shown(value)}: git over http, https, ssh, git or file: {allowed}")
    if not parts.path.strip("/") or (parts.scheme != "file" and not host):
        raise ValueError(f"{shown(value)} names no branch, tag or commit: {allowed}")
    return value
