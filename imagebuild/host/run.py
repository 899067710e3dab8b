"""Run other programs: argv lists only, a clean environment, stdin closed.

One `spawn()` below everything, one `run()` for commands that are waited for. The
environment of a child is what the caller passes, never what the tool inherited: what
was not planned must not influence a build.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from imagebuild.errors import BuildError, PreflightError

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

#: Names of the environment variables that lead to the network. They are passed to the
#: children that download, and to nothing else; their values never reach an image.
NETWORK_ENV = (
    "http_proxy", "https_proxy", "no_proxy", "all_proxy",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
    "PIP_CERT", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX",
    "PIP_TRUSTED_HOST", "PIP_CONFIG_FILE", "PIP_DEFAULT_TIMEOUT", "PIP_CLIENT_CERT",
    "PIP_PROXY", "GIT_SSL_CAINFO", "NETRC",
)  # fmt: skip


def network_env(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The subset of the environment that `NETWORK_ENV` names."""
    source = os.environ if environ is None else environ
    return {k: source[k] for k in NETWORK_ENV if source.get(k)}


def base_env(**extra: str) -> dict[str, str]:
    """The environment that every child starts from: a fixed PATH and the C.UTF-8 locale."""
    return {
        "PATH": PATH,
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "HOME": "/",
        "TZ": "UTC",
    } | extra


def which(tool: str) -> str | None:
    """Path of a program on the tool's own PATH (with the sbin directories), or None."""
    return shutil.which(tool, path=PATH)


def need(tool: str, package: str = "") -> str:
    """Like `which`, but raises PreflightError naming the package to install."""
    found = which(tool)
    if found is None:
        raise PreflightError(
            f"{tool} is not installed",
            where=f"PATH={PATH}",
            hint=f"apt-get install {package or tool}",
        )
    return found


def sparse_copy_argv(source: Path, target: Path) -> list[str]:
    """The command that copies an image: holes stay holes, blocks are shared where they can be."""
    return ["cp", "--sparse=always", "--reflink=auto", "--", str(source), str(target)]


def spawn(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: int | IO[bytes] = subprocess.DEVNULL,
    stdout: int | IO[bytes] | None = None,
    stderr: int | IO[bytes] | None = None,
    new_session: bool = False,
    pass_fds: Sequence[int] = (),
    die_with_parent: bool = False,
) -> subprocess.Popen[bytes]:
    """Start a program. Raises PreflightError when it is not there.

    With `die_with_parent` the kernel ends it when the calling thread ends (prctl(2),
    PR_SET_PDEATHSIG): also when the tool is killed.
    """
    args = [os.fspath(a) for a in argv]
    whole = dict(base_env() if env is None else env)
    setpriv = which("setpriv") if die_with_parent else None
    # setpriv would not tell a program that is missing from one that failed.
    if setpriv and shutil.which(args[0], path=whole.get("PATH")):
        args = [setpriv, "--pdeathsig", "KILL", "--", *args]
    try:
        return subprocess.Popen(
            args,
            env=whole,
            cwd=cwd,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=new_session,
            pass_fds=pass_fds,
        )
    except FileNotFoundError as exc:
        raise PreflightError(
            f"cannot run {args[0]}",
            detail=str(exc),
            hint="is it installed, and on the PATH that the tool uses (" + PATH + ")?",
        ) from exc


def run(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    input: bytes | None = None,  # noqa: A002 - subprocess's own word
    check: bool = True,
    what: str = "",
    timeout: float | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run a program to its end and return its output (both streams captured, as bytes).

    Raises BuildError with the last lines it printed when it fails and `check` is set, and
    when it takes longer than `timeout` seconds; `what` replaces the default sentence.
    """
    process = spawn(
        argv,
        env=env,
        cwd=cwd,
        stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        die_with_parent=True,
    )
    with process:
        try:
            out, err = process.communicate(input, timeout)
        except subprocess.TimeoutExpired as exc:
            process.kill()
            raise BuildError(
                f"{Path(os.fspath(argv[0])).name} took longer than its limit",
                where=" ".join(os.fspath(a) for a in argv)[:300],
                hint="--timeout STAGE=DURATION raises the limit, STAGE=none lifts it",
            ) from exc
        except BaseException:
            process.kill()
            raise
    if check and process.returncode != 0:
        name = Path(os.fspath(argv[0])).name
        lines = (err or out).decode(errors="replace").strip().splitlines()
        raise BuildError(
            what or f"{name} failed with status {process.returncode}",
            where=" ".join(os.fspath(a) for a in argv)[:300],
            detail="\n".join(lines[-15:]),
        )
    return subprocess.CompletedProcess(list(argv), process.returncode, out, err)
