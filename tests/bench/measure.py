"""One run of the bench: the plain recipe and imagebuild, one after the other."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from imagebuild.agent.locks import AGENT, read_lock
from imagebuild.data import locks_dir
from imagebuild.verify import accel
from tests.bench import machine, plain
from tests.bench.mirror import measure_mirror
from tests.bench.ours import Builder, Result
from tests.bench.pipeline import measure_pipeline
from tests.bench.upload import measure_upload
from tests.images import standin
from tests.images.boots import boot

SCHEMA_VERSION = 1
#: The Python of the stand-in's packages.
PYTHON = "3.11"
#: A file of the agent that is edited: what its developer does ten times a day.
EDITED = "trove/guestagent/api.py"

Say = Callable[[str], None]


def measure(directory: Path, say: Say) -> dict[str, Any]:
    """Measure everything in `directory` (new or empty), some gigabytes and 20 minutes.

    Returns the document of bench.json, without the verdicts. Each measured build is
    preceded by one that fills the caches of packages and wheels. Needs root.
    """
    results: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "machine": machine.describe()}
    series, version = _release()
    results["trove"] = version
    with standin.start(directory / "standin") as archive:
        source = plain.trove(directory, version)
        edited = directory / "agent"
        shutil.copytree(source, edited, symlinks=True)
        builder = Builder(directory / "ours", archive, ["--agent", str(edited)])
        say("imagebuild: filling its caches of packages")
        builder.build("first")
        with plain.prepare(
            directory / "plain", archive, source=source, series=series, wheels=builder.wheels
        ) as recipe:
            say("the plain recipe: filling its caches of packages")
            recipe.run("first").image.unlink()
            say("the plain recipe")
            recipe_s = recipe.run("second")
        results["plain"] = recipe_s.to_json()
        builder.forget()
        say("imagebuild: from nothing but packages")
        cold = builder.build("cold")
        results["cold"] = cold.to_json()
        say("imagebuild: nothing changed")
        results["nothing_changed"] = _best(builder, "nothing", 3).to_json()
        say("imagebuild: the agent's code changed")
        results["agent_changed"] = _changed_agent(builder, edited).to_json()
        if builder.can("--preload"):
            say("imagebuild: a container changed")
            results["container_changed"] = _changed_container(directory, builder, archive)
        say("boots")
        results["accelerator"] = accel.choose().name
        results["boot"] = _boots({"plain": recipe_s.image, "ours": cold.image}, directory / "boots")
    results["upload"] = measure_upload(directory / "upload", say)
    results["mirror"] = measure_mirror(directory / "mirror", say)
    results["pipeline"] = measure_pipeline(directory / "pipeline", say)
    return results


def _release() -> tuple[str, str]:
    """The newest series that there is a lock of, and its Trove."""
    lock = max(locks_dir().glob(f"20*-py{PYTHON}.txt"))
    pin = read_lock(lock).pin(AGENT)
    return lock.name.partition("-")[0], pin.version


def _best(builder: Builder, name: str, times: int) -> Result:
    runs = [builder.build(f"{name}-{n}") for n in range(times)]
    return min(runs, key=lambda r: r.seconds)


def _changed_agent(builder: Builder, source: Path) -> Result:
    """The second of two edits: whatever is made only once was made by the first."""
    for edit in (1, 2):
        with (source / EDITED).open("a") as file:
            file.write(f"# edit {edit}\n")
        result = builder.build(f"agent-{edit}")
    return result


def _changed_container(
    directory: Path, builder: Builder, archive: standin.Standin
) -> dict[str, Any]:
    """The database's release changes, the backup container beside it does not."""
    from tests.bench.containers import registry

    with registry(directory / "registry", archive) as (before, after):
        first = builder.build("containers", *before)
        changed = builder.build("container-changed", *after)
    return changed.to_json() | {"first": first.to_json()}


def _boots(images: dict[str, Path], directory: Path) -> dict[str, float]:
    """Seconds from qemu's start until cloud-init is done: the better of two boots, in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in images}
    for _ in range(2):
        for name, image in images.items():
            result = boot(image, directory, firmware="bios")
            seconds[name].append(result.seconds["cloud-init-done"])
    return {name: min(found) for name, found in seconds.items()}
