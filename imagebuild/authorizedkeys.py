"""The line that lets a dev image in, in the authorized_keys of a user of this host (sshd(8)).

What is written belongs to that user, and it is the user who writes it: root would follow links
that the user had laid.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import secrets
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from imagebuild.errors import ConfigError, PreflightError

FILE_NAME = "authorized_keys"
#: A line's comment, which is the image's name: what it is called, and the build's id.
_COMMENT = re.compile(r"restrict,command=.* ssh-ed25519 [A-Za-z0-9+/=]+ (\S+)-[0-9a-f]{8}")


def install(line: str, user: str, directory: Path | None = None) -> Path:
    """Let a dev image in: put its line into authorized_keys, in the place of the line of an
    earlier build of the same image. Returns the file.

    `directory` is ~/.ssh of the user when not said; it is made when it is not there, 0700, and
    the file is 0600. Nothing is written when the line is there. Raises ConfigError when there
    is no such user, PreflightError when it cannot be written.
    """
    try:
        account = pwd.getpwnam(user)
    except KeyError as exc:
        raise ConfigError(
            f"this host has no user {user}, whom the guests log in as",
            hint="HOST_SCP_USERNAME names the user of the controller",
        ) from exc
    file = (directory or Path(account.pw_dir) / ".ssh") / FILE_NAME
    if os.geteuid() not in (0, account.pw_uid):
        raise PreflightError(
            f"only {user} and root can let a dev image in",
            where=str(file),
            detail=line.rstrip("\n"),
            hint=f"add this line as {user}, or run the command as {user}",
        )
    try:
        _as(account, lambda: _write(file, line))
    except OSError as exc:
        raise PreflightError(
            f"the dev image's key could not be let in: {exc.strerror or exc}",
            where=str(exc.filename or file),
            detail=line.rstrip("\n"),
            hint=f"add this line as {user}",
        ) from exc
    return file


def merged(content: str, line: str) -> str:
    """The content with the line in it, once, and without those of earlier builds of the image.

    An image's name ends with the build's id; lines that are not of the same image, or not of
    this form, stay as they are.
    """
    wanted = line.rstrip("\n")
    image = _image(wanted)
    lines: list[str] = []
    for old in content.splitlines():
        is_earlier = image is not None and old != wanted and _image(old) == image
        if not is_earlier and not (old == wanted and wanted in lines):
            lines.append(old)
    if wanted not in lines:
        lines.append(wanted)
    return "\n".join(lines) + "\n"


def _image(line: str) -> str | None:
    found = _COMMENT.fullmatch(line)
    return found and found[1]


def _write(file: Path, line: str) -> None:
    # A link that the user has made is the user's own wish: what it leads to is replaced.
    file = Path(os.path.realpath(file))
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    content = file.read_text(encoding="utf-8", errors="surrogateescape") if file.exists() else ""
    wanted = merged(content, line)
    if wanted == content:
        file.chmod(0o600)
        return
    fresh = file.with_name(f".{FILE_NAME}.{secrets.token_hex(4)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as out:
            out.write(wanted)
            out.flush()
            os.fsync(out.fileno())
        fresh.replace(file)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            fresh.unlink()
        raise


def _as(account: pwd.struct_passwd, work: Callable[[], None]) -> None:
    """Do it as that user: in a child, when the process is another's. Raises OSError."""
    if os.geteuid() == account.pw_uid:
        work()
        return
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reader)
            os.initgroups(account.pw_name, account.pw_gid)
            os.setgid(account.pw_gid)
            os.setuid(account.pw_uid)
            work()
            code = 0
        except OSError as exc:
            with contextlib.suppress(OSError):
                os.write(writer, f"{exc.errno or 0}\n{exc.strerror}\n{exc.filename}".encode())
        except BaseException:  # noqa: BLE001 - nothing may come out of the child
            traceback.print_exc(file=sys.stderr)
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader, "rb") as answers:
        said = answers.read().decode(errors="replace")
    _, status = os.waitpid(child, 0)
    if said:
        number, text, name = said.split("\n", 2)
        raise OSError(int(number), text, name)
    if status:
        raise OSError(0, "the child ended badly")
