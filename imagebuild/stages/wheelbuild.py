"""Wheels for what has none: compiled in a throw-away copy of the base tree.

The compiler, its headers and pip's caches live and die in an overlay; the image never
sees them. The image's own Python builds, so the wheels fit it.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imagebuild.errors import BuildError
from imagebuild.events import Emit, StepFinished, StepStarted
from imagebuild.host.run import base_env, run
from imagebuild.stages.overlay import overlay
from imagebuild.stages.stack import Stack

#: What a C extension needs beside the interpreter.
COMPILER_PACKAGES = (
    "gcc", "g++", "make", "libc6-dev", "python3-dev", "libffi-dev", "libssl-dev", "libyaml-dev",
    "libxml2-dev", "libxslt1-dev", "zlib1g-dev",
)  # fmt: skip

# A build frontend (PEP 517, PEP 518) in few words: the tools are there, and pip would spend
# as much time on a venv of its own and on asking for metadata first as the build takes.
_FRONTEND = """
import importlib, os, sys
source, out = sys.argv[1:]
os.chdir(source)
table = {}
if os.path.exists("pyproject.toml"):
    try:
        import tomllib
    except ImportError:  # Python 3.10
        from pip._vendor import tomli as tomllib
    with open("pyproject.toml", "rb") as file:
        table = tomllib.load(file).get("build-system", {})
sys.path[:0] = [os.path.abspath(p) for p in table.get("backend-path", [])]
name, _, parts = table.get("build-backend", "setuptools.build_meta:__legacy__").partition(":")
backend = importlib.import_module(name)
for part in filter(None, parts.split(".")):
    backend = getattr(backend, part)
sys.argv = ["setup.py"]
backend.build_wheel(out)
"""


def build(
    below: Stack,
    scratch: Path,
    request: Mapping[str, Any],
    apt: Mapping[str, str],
    emit: Emit,
) -> list[Path]:
    """Build a wheel from each source of `request` and return their paths below `out`.

    `request` is agent.wheels.BuildRequest as JSON. `apt` holds the directory of the
    build's apt settings (`apt_dir`), used when a compiler is needed. Raises BuildError
    with the build's own last lines.
    """
    emit(StepStarted("agent", "wheels", "compile"))
    started = time.monotonic()
    with overlay(below.trees, scratch / "wheels-tree") as (root, _):
        work = root / "build"
        work.mkdir()
        for wheel in sorted(Path(request["tools"]).glob("*.whl")):
            shutil.unpack_archive(wheel, work / "tools", "zip")
        if request["needs_compiler"]:
            _install_compiler(root, apt)
        wheels = [
            _one(root, work, Path(source), request["environment"], Path(request["out"]))
            for source in request["sources"]
        ]
    emit(StepFinished("agent", "wheels", "compile", round(time.monotonic() - started, 2)))
    return wheels


def _install_compiler(root: Path, apt: Mapping[str, str]) -> None:
    given = Path(apt["apt_dir"])
    shutil.copyfile(given / "target.conf", root / "etc/apt/apt.conf.d/99imagebuild-build")
    if (given / "build-ca.pem").exists():
        shutil.copyfile(given / "build-ca.pem", root / "etc/apt/imagebuild-build-ca.pem")
    resolv = root / "etc/resolv.conf"
    resolv.unlink(missing_ok=True)
    if Path("/etc/resolv.conf").exists():
        shutil.copyfile("/etc/resolv.conf", resolv)
    policy = root / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    env = base_env(DEBIAN_FRONTEND="noninteractive")
    for argv in (
        ["apt-get", "update"],
        ["apt-get", "install", "-y", "--no-install-recommends", *COMPILER_PACKAGES],
    ):
        run(
            ["chroot", root, *argv],
            env=env,
            what="cannot install a compiler in the throw-away copy",
        )


def _one(root: Path, work: Path, source: Path, environment: Mapping[str, str], out: Path) -> Path:
    name = source.name
    target = work / "src" / name
    target.parent.mkdir(exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True)
    else:
        target = _unpack(root, source, target)
    wheels = work / "wheels" / name
    wheels.mkdir(parents=True)
    env = base_env(HOME="/build", PYTHONPATH="/build/tools") | dict(environment)
    run(
        ["chroot", root, "/usr/bin/python3", "-c", _FRONTEND,
         f"/{target.relative_to(root)}", f"/{wheels.relative_to(root)}"],
        env=env,
        what=f"cannot build a wheel from {name}",
    )  # fmt: skip
    made = list(wheels.glob("*.whl"))
    if len(made) != 1:
        raise BuildError(f"building {name} made {len(made)} wheels instead of one")
    out.mkdir(parents=True, exist_ok=True)
    final = out / made[0].name
    shutil.copyfile(made[0], final)
    return final


def _unpack(root: Path, sdist: Path, target: Path) -> Path:
    """Unpack an sdist into the new directory `target` of the tree; its one directory there.

    By the tree's own programs: nothing in the archive can lead out of it.
    """
    target.mkdir()
    copy = target.with_name(f"{target.name}.sdist")
    shutil.copyfile(sdist, copy)
    inside = [f"/{p.relative_to(root)}" for p in (copy, target)]
    if sdist.suffix == ".zip":
        argv = ["/usr/bin/python3", "-m", "zipfile", "-e", *inside]
    else:
        argv = ["tar", "-xf", inside[0], "-C", inside[1]]
    run(["chroot", root, *argv], what=f"cannot unpack {sdist.name}")
    (directory,) = target.iterdir()
    return directory
