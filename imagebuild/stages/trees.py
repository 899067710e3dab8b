"""Trees: DIB's run as root, and the finished tree's way into the store.

Both the base and the agent stage end here; they differ in elements and environment only.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from imagebuild import components, debian, dib, inventory
from imagebuild.errors import BuildError
from imagebuild.events import Emit, StepFinished, StepStarted
from imagebuild.host.namespace import remove_tree
from imagebuild.host.run import base_env


def compose(
    stage: str,
    argv: Sequence[str],
    environment: Mapping[str, str],
    elements: Sequence[tuple[str, Path]],
    paths: Mapping[str, str],
    *,
    emit: Emit,
    seconds: float | None,
    content: Mapping[str, Any] | None,
    owner: tuple[int, int],
    epoch: int,
) -> dict[str, Any]:
    """Compose the tree of a stage with DIB and rename it into the store.

    `paths` gives the values of the placeholders in `argv` and `environment` (`scratch`,
    `cache`, …), `entry`, the store's place for the result, and `image`, what it is a tree
    of. With `content`, package lists are added to it, it is written to
    /etc/imagebuild/content.json in the tree, and inventory and components of the tree are
    taken. Times after `epoch` (seconds) are set back to it.
    Returns `{"content", "rootfs", "hooks"}`. Raises BuildError.
    """
    scratch = Path(paths["scratch"])
    tree = scratch / f"{stage}-tree"
    work = scratch / f"{stage}-tmp"
    work.mkdir()
    env = dib_env(environment, paths, tree, work)
    deadline = None if seconds is None else time.monotonic() + seconds
    hooks = dib.run(stage, fill(argv, paths), env, elements, emit, deadline)
    if not (tree / "etc/os-release").exists():
        raise BuildError("diskimage-builder ended well but left no tree", where=str(tree))
    remove_tree(work)
    filled = dict(content) if content else {}
    if content is not None:
        filled |= package_lists(tree)
        place = tree / "etc/imagebuild"
        place.mkdir(exist_ok=True)
        (place / "content.json").write_text(render_content(filled))
    inventory.clamp_times(tree, epoch)
    whole = scratch / f"{Path(paths['entry']).name}.entry"
    # The guest user's uid is somebody's here, too, who is not to read its keys and logins.
    whole.mkdir(mode=0o700)
    os.chown(whole, *owner)
    answer = {"content": filled, "rootfs": {}, "hooks": hooks}
    if content is not None:
        answer["rootfs"] = _take_inventory(tree, whole, emit, stage)
    (whole / "meta.json").write_text(json.dumps({"image": paths["image"], **answer}))
    tree.rename(whole / "tree")
    _seal(whole, Path(paths["entry"]))
    return answer


def entry_files(content: Mapping[str, Any] | None) -> tuple[str, ...]:
    """The files that the store's entry of a tree has, beside the tree; `content` as in `compose`.

    An entry that an older version of the tool made may lack some.
    """
    names = ("meta.json",)
    return names if content is None else (*names, inventory.FILE_NAME, components.FILE_NAME)


def _take_inventory(tree: Path, entry: Path, emit: Emit, stage: str) -> dict[str, Any]:
    from imagebuild.stages.collect import collect

    emit(StepStarted(stage, "inventory", "files"))
    started = time.monotonic()
    files = list(inventory.walk(tree))
    summary = inventory.write(files, entry / inventory.FILE_NAME)
    components.write(collect(tree, files, summary.sha256), entry / components.FILE_NAME)
    seconds = round(time.monotonic() - started, 2)
    emit(StepFinished(stage, "inventory", "files", seconds))
    return summary.to_json()


def render_content(content: Mapping[str, Any]) -> str:
    """The text of content.json: what the manifest's `content` part must equal."""
    return json.dumps(content, indent=1, sort_keys=True) + "\n"


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


def _seal(whole: Path, entry: Path) -> None:
    """Rename a finished entry into the store."""
    entry.parent.mkdir(parents=True, exist_ok=True)
    if entry.exists():
        remove_tree(entry)
    whole.rename(entry)
