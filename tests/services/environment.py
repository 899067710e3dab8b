"""The services' packages: one environment, pinned by hash, kept from session to session."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import platformdirs

from imagebuild.agent.pipconf import PipSettings, pip_settings
from imagebuild.digest import of_value
from imagebuild.host.run import network_env
from imagebuild.host.scratch import lock
from imagebuild.redaction import redact

#: Made from requirements.in, which says how.
REQUIREMENTS = Path(__file__).with_name("requirements.txt")
#: In the key of what is kept: raise it when this module makes something else of them.
_FORM = 2


def cache() -> Path:
    """Where environments and states are kept. It may be removed when no test runs."""
    return platformdirs.user_cache_path("imagebuild-tests") / "services"


def environment(directory: Path, requirements: Path = REQUIREMENTS) -> Path:
    """The environment's directory, below `directory`; made when it is not there.

    `requirements` is a lock file with digests.

    Raises RuntimeError with the installer's words when its packages cannot be had.
    """
    python = "{}.{}".format(*sys.version_info)
    key = of_value([_FORM, requirements.read_text(), python])[:16]
    final = directory / f"environment-{python}-{key}"
    with lock(directory / f".{final.name}.lock"):
        if not final.is_dir():
            draft = directory / f".{final.name}.partial"
            shutil.rmtree(draft, ignore_errors=True)
            _make(draft, requirements)
            draft.rename(final)
    return final


def _make(draft: Path, requirements: Path) -> None:
    env = network_env() | installer_env(os.environ)
    # Its scripts find their Python by where they lie: the directory gets another name.
    _uv(env, "venv", "--relocatable", "--python", sys.executable, str(draft))
    (draft / "home").mkdir()
    _uv(
        env, "pip", "install", "--python", str(draft / "bin/python"), "--require-hashes",
        "-r", str(requirements),
    )  # fmt: skip


def installer_env(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment that makes uv ask the indexes that pip would, as pip would."""
    settings = pip_settings(environ)
    env = {k: environ[k] for k in ("PATH", "HOME", "TMPDIR") if k in environ}
    if settings.index_urls:
        first, *more = (_with_login(settings, url) for url in settings.index_urls)
        env |= {"UV_DEFAULT_INDEX": first, "UV_INDEX": " ".join(more)}
    else:
        env["UV_NO_INDEX"] = "1"
    env |= {
        # pip takes the best of all of them, and the hashes say what is right.
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": ",".join(settings.find_links),
        "UV_INSECURE_HOST": " ".join(settings.trusted_hosts),
        "UV_HTTP_TIMEOUT": str(max(60, int(settings.timeout))),
    }
    if settings.ca_file:
        env["SSL_CERT_FILE"] = settings.ca_file
    if settings.client_cert:
        env["SSL_CLIENT_CERT"] = settings.client_cert
    for scheme, proxy in settings.proxies.items():
        env[f"{scheme}_proxy"] = proxy
    if settings.no_proxy:
        env["no_proxy"] = ",".join(settings.no_proxy)
    return {name: value for name, value in env.items() if value}


def _with_login(settings: PipSettings, url: str) -> str:
    """The index's URL with user and password in it again: it goes into an environment only."""
    header = settings.authorization(url)
    if not header:
        return url
    user, _, password = base64.b64decode(header.removeprefix("Basic ")).decode().partition(":")
    parts = urlsplit(url)
    login = f"{quote(user, safe='')}:{quote(password, safe='')}"
    return urlunsplit(parts._replace(netloc=f"{login}@{parts.netloc}"))


def _uv(env: Mapping[str, str], *words: str) -> None:
    argv = [sys.executable, "-m", "uv", "--no-config", "--no-python-downloads", "--no-cache"]
    done = subprocess.run([*argv, "--quiet", *words], env=env, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"uv {words[0]}: {redact(done.stderr)[-3000:]}")
