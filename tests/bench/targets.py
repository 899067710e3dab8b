"""What the bench promises: each figure as a part of the plain recipe's, from one run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Target:
    """One promise. `measure` and `against` are paths into the results.

    The limit is a ratio of the two, or seconds where `against` is empty.
    """

    name: str
    measure: str
    against: str
    limit: float
    said: str


_PLAIN = "plain.seconds"
TARGETS = (
    Target("nothing changed", "nothing_changed.seconds", "", 2.0, "2 s"),
    Target("only the agent's code changed", "agent_changed.seconds", _PLAIN, 1 / 20, "1/20"),
    Target("one database container changed", "container_changed.seconds", _PLAIN, 1 / 6, "1/6"),
    Target("from nothing but packages", "cold.seconds", _PLAIN, 1 / 2, "1/2"),
    Target("image", "cold.image_bytes", "plain.image_bytes", 2 / 3, "2/3"),
    Target("boot to cloud-init done", "boot.ours", "boot.plain", 2 / 3, "2/3"),
    # Against `openstack image create`, and against itself with a small image.
    Target("upload of 1 GiB, client's processors",
           "upload.ours.cpu_seconds", "upload.openstack.cpu_seconds", 1 / 2, "1/2"),
    Target("upload of 1 GiB, memory",
           "upload.ours.peak_kib", "upload.openstack.peak_kib", 1.0, "1"),
    Target("upload of 1 GiB, memory to that of 32 MiB",
           "upload.ours.peak_kib", "upload.ours.small_peak_kib", 1.1, "1.1"),
    # Against `skopeo copy --all`, and docker pull, tag, push, of the same images.
    Target("mirror, all new, to skopeo", "mirror.ours.seconds", "mirror.skopeo.seconds", 1.0, "1"),
    Target("mirror, all new, client's processors, to skopeo",
           "mirror.ours.cpu_seconds", "mirror.skopeo.cpu_seconds", 1.0, "1"),
    Target("mirror, all new, to docker",
           "mirror.ours.seconds", "mirror.docker.seconds", 1 / 10, "1/10"),
    Target("mirror, nothing changed", "mirror.nothing.seconds", "", 2.0, "2 s"),
    Target("mirror, memory", "mirror.ours.peak_kib", "", 100e6 / 1024, "100 MB"),
    Target("mirror, memory to that of a tiny image",
           "mirror.ours.peak_kib", "mirror.ours.small_peak_kib", 1.25, "1.25"),
    # Two images and a mirror list, with nothing to do.
    Target("nightly, --skip-unchanged", "pipeline.skip.seconds", "", 8.0, "8 s"),
    Target("nightly, --skip-unchanged, requests", "pipeline.skip.requests", "", 40, "40"),
    Target("nightly, beside its commands", "pipeline.nothing.overhead_seconds", "", 2.0, "2 s"),
)  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """A target and what was measured; `None` where it was not."""

    target: Target
    ours: float | None
    plain: float | None

    @property
    def ratio(self) -> float | None:
        """Ours as a part of the plain recipe's, or seconds for a target without one."""
        if self.ours is None:
            return None
        if not self.target.against:
            return self.ours
        return None if not self.plain else self.ours / self.plain

    @property
    def met(self) -> bool | None:
        """Whether the promise was kept."""
        return None if self.ratio is None else self.ratio < self.target.limit

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.target.name,
            "ours": self.ours,
            "plain": self.plain,
            "ratio": None if self.ratio is None else round(self.ratio, 4),
            "limit": round(self.target.limit, 4),
            "met": self.met,
        }


def verdicts(results: Mapping[str, Any]) -> list[Verdict]:
    """All targets against the results of one run."""
    return [Verdict(t, _at(results, t.measure), _at(results, t.against)) for t in TARGETS]


def _at(results: Mapping[str, Any], path: str) -> float | None:
    value: Any = results
    for name in path.split("."):
        if not isinstance(value, Mapping) or name not in value:
            return None
        value = value[name]
    return float(value)


def table(results: Mapping[str, Any]) -> str:
    """The results as a table in Markdown, with the machine they are of."""
    lines = [
        "| | plain recipe | imagebuild | ratio | target |",
        "|---|---|---|---|---|",
    ]
    for verdict in verdicts(results):
        target = verdict.target
        unit = next((u for end, u in _UNITS.items() if target.measure.endswith(end)), _seconds)
        plain = "" if verdict.plain is None else unit(verdict.plain)
        ours = "not measured" if verdict.ours is None else unit(verdict.ours)
        ratio = "" if verdict.ratio is None or not target.against else f"{verdict.ratio:.3f}"
        mark = {None: "", True: "", False: " (missed)"}[verdict.met]
        lines.append(f"| {target.name} | {plain} | {ours} | {ratio} | under {target.said}{mark} |")
    machine = results["machine"]
    load = machine["load"][0]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    lines += [
        "",
        f"{machine['cpus']} x {machine['model']}, {machine['memory_mib'] // 1024} GiB,"
        f" {machine['system']}, load {load} at the start; {versions}."
        f" Boots: qemu, {results.get('accelerator', 'tcg')}, 2 processors, 2 GiB.",
    ]
    return "\n".join(lines) + "\n"


def _megabytes(size: float) -> str:
    return f"{size / 1e6:.0f} MB"


def _mebibytes(size: float) -> str:
    return f"{size / 1024:.0f} MiB"


def _seconds(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    return f"{whole} s" if whole < 90 else f"{whole // 60} min {whole % 60:02} s"


#: By how a measure's name ends; others are seconds.
_UNITS = {"bytes": _megabytes, "kib": _mebibytes, "requests": "{:.0f}".format}
