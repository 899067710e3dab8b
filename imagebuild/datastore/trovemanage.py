"""`trove-manage` of the control plane, through a command that the operator gives.

The command is a prefix, `ssh ctl docker exec -i trove_api trove-manage` say, split as a
shell would; no shell is run. What is added to it are words of ours and ids, nothing that an
ssh in between could take for more than one word.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence

from imagebuild.errors import BuildError, PublishError, UsageError
from imagebuild.host.run import run
from imagebuild.redaction import masked

#: Seconds that one call may take.
LIMIT = 300.0
_LINES = 15
_VERSION = re.compile(r"^\d+\.\d+[\w.+-]*$", re.MULTILINE)
_ID = re.compile(r"[0-9a-f-]{36}")
_WORD = re.compile(r"\w[\w.+-]*", re.ASCII)
#: What is said of a standard input that cannot be opened by its name: ssh without a terminal
#: gives a socket, sudo a pipe of another user's.
_STDIN = re.compile(r"(No such device or address|Permission denied).*/dev/stdin")


class TroveManage:
    """The program behind a prefix. `env` is what the prefix's command runs with; it is the
    operator's own command, so their whole environment. `limit` is in seconds.
    """

    def __init__(
        self, prefix: str, *, env: Mapping[str, str] | None = None, limit: float = LIMIT
    ) -> None:
        try:
            self._argv = shlex.split(prefix)
        except ValueError as exc:
            raise UsageError(
                f"--trove-manage: {exc}", where=masked(prefix), hint="write it as in a shell"
            ) from exc
        if not self._argv:
            raise UsageError("--trove-manage names no command")
        self._env = dict(os.environ if env is None else env)
        self._limit = limit

    @property
    def label(self) -> str:
        """The command, for people."""
        return masked(shlex.join(self._argv))

    def version(self) -> str:
        """The version of trove that it belongs to. Raises PublishError."""
        said = self._run(["--version"])
        if not (found := _VERSION.findall(said)):
            raise PublishError(
                "trove-manage does not tell its version",
                where=self.label,
                detail=masked(said.strip())[-500:],
                hint="--control-plane-series says it instead",
            )
        return str(found[-1])

    def load_parameters(self, datastore_id: str, version_id: str, rules: bytes) -> None:
        """Create or change a version's configuration parameters by a file of rules.

        It reads them from its standard input. Raises PublishError when it fails.
        """
        action = "db_load_datastore_config_parameters"
        self._run([action, _id(datastore_id), _id(version_id), "/dev/stdin"], rules)

    def set_default(self, datastore: str, version_id: str) -> None:
        """Make a version the default of its datastore, which goes by its name.

        It may fail without a word: look after. Raises PublishError when it says so, and for a
        name that could be taken for more than one word on the way.
        """
        if not _WORD.fullmatch(datastore):
            raise PublishError(f"the name {datastore!r} cannot be handed to trove-manage safely")
        self._run(["datastore_update", datastore, _id(version_id)])

    def _run(self, arguments: Sequence[str], stdin: bytes | None = None) -> str:
        argv = [*self._argv, *arguments]
        where = masked(shlex.join(argv))[:300]
        try:
            done = run(argv, env=self._env, input=stdin, check=False, timeout=self._limit)
        except BuildError as exc:
            raise PublishError(
                f"trove-manage took longer than {self._limit:.0f} seconds",
                where=where,
                hint="it may be working still; --trove-manage-timeout raises the limit",
            ) from exc
        if done.returncode == 0:
            return done.stdout.decode(errors="replace")
        # Its log may go to either; the traceback goes to the first, the last word to the second.
        said = (done.stderr + b"\n" + done.stdout).decode(errors="replace")
        lines = [line for line in masked(said).splitlines() if line.strip()]
        raise PublishError(
            f"trove-manage failed with status {done.returncode}",
            where=where,
            detail="\n".join(lines[-_LINES:]),
            hint=_hint(said),
        )


def _id(text: str) -> str:
    """An id as it is: what reads the command line on the other side finds one word."""
    if not _ID.fullmatch(text):
        raise PublishError(f"Trove gave an id that is none: {text!r}")
    return text


def _hint(said: str) -> str:
    if _STDIN.search(said):
        return (
            "put a pipe before it, which it can open: "
            "--trove-manage \"ssh HOST 'cat | trove-manage'\""
        )
    if "not a TTY" in said or "not a tty" in said:
        return "leave the option -t away: docker exec -i"
    return "run it by hand with the same prefix"
