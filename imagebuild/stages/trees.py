"""Trees: DIB's run as root, and what it left: a whole tree, or a layer over another.

Base, environment and the user's own elements end here; they differ in elements and
environment only.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from imagebuild import debian, dib, inventory, layers
from imagebuild.errors import BuildError
from imagebuild.events import Emit, StepFinished, StepStarted
from imagebuild.host import ram
from imagebuild.host.namespace import remove_tree
from imagebuild.host.run import base_env, run
from imagebuild.stages.overlay import close, workshop
from imagebuild.stages.stack import Stack
from imagebuild.store.objects import TREE

#: So much memory must be free for a base to be composed in half of it, in bytes.
MEMORY = 8 << 30


def compose(
    name: str,
    argv: Sequence[str],
    environment: Mapping[str, str],
    elements: Sequence[tuple[str, Path]],
    paths: Mapping[str, str],
    *,
    below: Stack | None,
    draft: Path,
    emit: Emit,
    seconds: float | None,
    epoch: int,
) -> list[tuple[str, str, float]]:
    """Compose a tree with DIB; put it, or what it adds to the stack `below`, into `draft`.

    `paths` gives the values of the placeholders in `argv` and `environment` (`scratch`,
    `cache`, …); `{seed}` is the tree of the stack. Times after `epoch` (seconds) are set
    back to it. Returns (phase, hook, seconds) of each hook. Raises BuildError.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    place = Path(paths["scratch"]) / f"{name}-tmp"

    def run_in(work: Path) -> tuple[Path, list[tuple[str, str, float]]]:
        values = {**paths, "seed": str(work / TREE)}
        tree = work / "out"
        env = dib_env(environment, values, tree, work)
        hooks = dib.run(name, fill(argv, values), env, elements, emit, deadline)
        if not (tree / "etc/os-release").exists():
            raise BuildError("diskimage-builder ended well but left no tree", where=str(tree))
        return tree, hooks

    if below is None:
        place.mkdir()
        in_memory = _use_memory(place)
        tree, hooks = run_in(place)
        (tree / "etc/imagebuild").mkdir(mode=0o755, exist_ok=True)
        inventory.clamp_times(tree, epoch)
        if in_memory:
            run(["cp", "--archive", tree, draft / TREE], what="cannot keep the tree")
        else:
            tree.rename(draft / TREE)
        remove_tree(place)
        return hooks
    with workshop(list(reversed(below.objects)), place) as (work, upper):
        tree, hooks = run_in(work)
        emit(StepStarted(name, "layer", "difference"))
        started = time.monotonic()
        if layers.has_moved(upper / tree.name):
            _take_difference(tree, below, draft, place, epoch)
        else:
            close(work)
            keep_upper(upper / tree.name, below, draft, epoch)
    emit(StepFinished(name, "layer", "difference", round(time.monotonic() - started, 2)))
    return hooks


def _use_memory(place: Path) -> bool:
    """Compose in memory where there is plenty: dpkg writes each file several times."""
    found = ram.measure()
    if min(found.available, found.limit or found.available) < MEMORY:
        return False
    run(["mount", "-t", "tmpfs", "-o", f"mode=700,size={MEMORY // 2}", "tmpfs", place])
    return True


def keep_upper(upper: Path, below: Stack, draft: Path, epoch: int) -> None:
    """Make a layer's object of an overlay's upper directory, which is no longer mounted."""
    inventory.clamp_times(upper, epoch)
    layers.write(layers.of_upper(upper, below.entries()), draft / layers.FILE_NAME)
    try:
        upper.rename(draft / TREE)
    except OSError as exc:
        if exc.errno != errno.EXDEV:
            raise
        run(["cp", "-a", upper, draft / TREE])


def _take_difference(tree: Path, below: Stack, draft: Path, place: Path, epoch: int) -> None:
    """The same when a hook moved a directory of the tree below: all of the tree is compared."""
    whole = place.with_name(f"{place.name}-whole")
    run(["cp", "-a", "--reflink=auto", tree, whole])
    inventory.clamp_times(whole, epoch)
    old = below.entries()
    layer = layers.difference(old, inventory.walk(whole))
    layers.take(whole, layer, draft / TREE, old)
    layers.write(layer, draft / layers.FILE_NAME)
    remove_tree(whole)


def fill(argv: Sequence[str], paths: Mapping[str, str]) -> list[str]:
    """Put real paths in the place of `{name}`."""
    out = []
    for word in argv:
        for name, value in paths.items():
            word = word.replace("{" + name + "}", value)
        out.append(word)
    return out


def dib_env(
    environment: Mapping[str, str], paths: Mapping[str, str], tree: Path, work: Path
) -> dict[str, str]:
    """The whole environment of a DIB run: the plan's variables and where things lie."""
    names = list(environment)
    values = fill([environment[n] for n in names], paths)
    env = base_env(**dict(zip(names, values, strict=True)))
    # DIB calls sudo: inside the worker everything is root already.
    shims = work / "bin"
    shims.mkdir()
    (shims / "sudo").symlink_to(Path(__file__).parents[1] / "host/sudo-as-root")
    env["PATH"] = f"{shims}:{env['PATH']}"
    env |= {
        "HOME": str(work),
        "TMP_DIR": str(work),
        "TMPDIR": str(work),
        "DIB_NO_TIMESTAMP": "1",
        "DIB_LOCKFILES": str(work / "locks"),
        "DIB_MANIFEST_SAVE_DIR": str(work / "manifests"),
        "IMAGEBUILD_TREE_OUT": str(tree),
        "DEBIAN_FRONTEND": "noninteractive",
    }
    return env


def package_lists(tree: Path) -> dict[str, Any]:
    """What dpkg and the agent's venv hold, by name and version."""
    from imagebuild.agent.wheels import installed

    venv = next(iter((tree / "opt/guest-agent-venv/lib").glob("python3*/site-packages")), None)
    return {
        "packages": dpkg_list(tree),
        "python_packages": dict(installed(venv)) if venv else {},
    }


def dpkg_list(tree: Path) -> dict[str, str]:
    """`{name: version}` of the installed packages, from dpkg's status file (deb-control(5)).

    A package of another architecture than the system's is `name:arch`, as dpkg writes it.
    """
    found = debian.installed((tree / "var/lib/dpkg/status").read_text(encoding="utf-8"))
    native = {p.get("Architecture", "all") for p in found if p["Package"] == "dpkg"} | {"all"}
    packages = {}
    for package in found:
        arch = package.get("Architecture", "all")
        foreign = len(native) > 1 and arch not in native
        packages[package["Package"] + (f":{arch}" if foreign else "")] = package["Version"]
    return dict(sorted(packages.items()))
