"""A pipeline with all that it needs: a real cloud, two registries, two images of real builds.

    plain-amd64     debian bookworm as the session builds it; mysql 8.4 goes by its tags
    large-amd64     the same on a larger disk; mariadb 11.8 goes by its id
    mirror-trove    two small images, from one registry to another one, which wants a login

What is proven of the images is the static level, which takes seconds.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from imagebuild.cloud.images import Image
from imagebuild.pipeline.cells import Phase
from imagebuild.pipeline.outcome import RunReport
from imagebuild.publish import properties
from tests.container_images import image, noise
from tests.images import standin, witness
from tests.registry_proxy import RegistryProxy
from tests.registry_server import RegistryServer
from tests.services.cloud import TestCloud
from tests.services.rotating import Site, compute, connection
from tests.services.settings import PASSWORD

REPO = Path(__file__).resolve().parents[2]
MIRROR, PLAIN, LARGE = "mirror-trove", "plain-amd64", "large-amd64"
IMAGES = (PLAIN, LARGE)
#: Words that must be in no output, page or process list.
LOGIN = ("mirror", "canary-registry-Yw3")
SECRETS = (LOGIN[1], PASSWORD)
_MIRRORED = {"trove/mysql": "8.4", "trove/mariadb": "11.8"}
#: Seconds after which a night is taken for one that hangs; two emulated boots on a busy host fit.
_SECONDS = 1500
#: What a run may leave of others' times.
_IDS = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TIMES = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)?")


@dataclass(frozen=True)
class Night:
    """A run that has ended; `seconds` on the clock."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def report(self) -> RunReport:
        """What it printed (--json)."""
        return RunReport.from_json(json.loads(self.out))

    @property
    def cells(self) -> dict[str, str]:
        """Cells by id, with their status."""
        return {c.id: c.status.value for c in self.report.cells}

    def phases(self, cell_id: str) -> dict[str, str]:
        """Phases of a cell with their status, the worst where there are several of one."""
        cell = self.report.cell(cell_id)
        assert cell, f"no cell {cell_id}"
        order = ["skipped", "unchanged", "passed", "held", "interrupted", "failed"]
        found: dict[str, str] = {}
        for phase in cell.phases:
            known = found.get(phase.phase.value, "skipped")
            found[phase.phase.value] = max(known, phase.status.value, key=order.index)
        return found

    def why(self, cell_id: str, phase: Phase) -> str:
        """What is said of a phase, of each of its targets."""
        cell = self.report.cell(cell_id)
        assert cell
        return "\n".join(p.why for p in cell.phases if p.phase is phase)

    def error(self, cell_id: str, phase: Phase) -> Mapping[str, Any]:
        """The error of a phase that failed."""
        cell = self.report.cell(cell_id)
        assert cell
        (found,) = [p.error for p in cell.phases if p.phase is phase and p.error]
        return found


@dataclass
class Nightly:
    """The file and its surroundings. Change `document` and call `write`; then `run`."""

    directory: Path
    cloud: TestCloud
    site: Site
    source: RegistryServer
    target: RegistryServer
    proxy: RegistryProxy
    cache: Path
    images: Path
    store: Path | None = None
    document: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.home = self.directory / "home"
        self.home.mkdir(parents=True, exist_ok=True)
        for repository, tag in _MIRRORED.items():
            image([noise(len(repository), 300_000)]).push(self.source, repository, tag)
        password = self.directory / "registry-password"
        password.write_text(f"{LOGIN[1]}\n")
        password.chmod(0o600)
        self.mirror_list = self.directory / "trove.yaml"
        self.mirror_list.write_text(
            json.dumps({
                "target": {"registry": self.proxy.host, "prefix": "mirror"},
                "registries": [{
                    "host": self.proxy.host, "username": LOGIN[0], "password_file": str(password),
                }],
                "images": [
                    {"source": f"{self.source.host}/{repository}", "tags": tag}
                    for repository, tag in _MIRRORED.items()
                ],
            })
        )  # fmt: skip
        self.clouds(prod="admin-proxied")
        main, security = standin.host_debian_mirror()
        sets = {"mirror.url": main, "mirror.security.url": security}
        self.document = {
            "name": "nightly",
            "mirrors": [{"list": str(self.mirror_list)}],
            "images": [
                self._row("plain", sets, "mysql", "8.4", ["trove", "mysql"]),
                self._row("large", {**sets, "disk.size": "6G"}, "mariadb", "11.8", []),
            ],
            "verify": {"level": "static"},
            "retry": {"attempts": 3, "wait": "1s"},
        }
        self.write()

    def _row(
        self, name: str, sets: Mapping[str, Any], datastore: str, version: str, tags: list[str]
    ) -> dict[str, Any]:
        return {
            "profiles": ["debian-bookworm"], "name": name, "set": dict(sets),
            "publish": [{
                "cloud": "prod", "datastores": [datastore],
                "versions": [{"datastore": datastore, "version": version, "image_tags": tags}],
                "retire": {"keep": 1},
            }],
        }  # fmt: skip

    # The file.

    @property
    def file(self) -> Path:
        return self.directory / "nightly.yaml"

    @property
    def reports(self) -> Path:
        return self.directory / "reports"

    def row(self, name: str) -> dict[str, Any]:
        """The images' row of that name."""
        found: dict[str, Any] = next(r for r in self.document["images"] if r["name"] == name)
        return found

    def only(self, *names: str, mirrors: bool = False) -> None:
        """Leave out all other rows, and the mirror."""
        self.document["images"] = [r for r in self.document["images"] if r["name"] in names]
        if not mirrors:
            self.document.pop("mirrors", None)
        self.write()

    def add(self, name: str, **sets: Any) -> None:  # noqa: ANN401 - of the profile
        """One more row: `plain` with other keys (`__` is a dot), for a postgresql."""
        plain, version = self.row("plain"), str(14 + len(self.document["images"]))
        row = self._row(name, plain["set"], "postgresql", version, [])
        row["set"] |= {k.replace("__", "."): v for k, v in sets.items()}
        self.document["images"].append(row)
        self.write()

    def write(self) -> None:
        """Write the file (JSON is YAML)."""
        self.file.write_text(json.dumps(self.document, indent=1))

    def clouds(self, **names: str) -> None:
        """Write clouds.yaml: these names, for people of the test cloud."""
        entries = {name: self.cloud.cloud(person) for name, person in names.items()}
        path = self.directory / "clouds.yaml"
        path.write_text(json.dumps({"clouds": entries}))
        path.chmod(0o600)

    # The command.

    def environ(self, **more: str) -> dict[str, str]:
        """The command's environment: nothing of the caller's own settings."""
        kept = {
            k: v for k, v in os.environ.items()
            if not k.startswith(("OS_", "IMAGEBUILD_", "XDG_", "GITHUB_", "CI"))
        }  # fmt: skip
        return kept | {
            "HOME": str(self.home), "PYTHONPATH": str(REPO), "NO_COLOR": "1",
            "OS_CLIENT_CONFIG_FILE": str(self.directory / "clouds.yaml"),
            "IMAGEBUILD_CACHE_DIR": str(self.cache), "IMAGEBUILD_IMAGES_DIR": str(self.images),
            "IMAGEBUILD_REPORTS": str(self.reports),
        } | more  # fmt: skip

    def start(self, *options: str, verb: str = "run", **env: str) -> subprocess.Popen[str]:
        """`imagebuild pipeline run FILE --json`, running; what it says goes to files."""
        argv = [sys.executable, "-m", "imagebuild", "pipeline", verb, str(self.file), "--json"]
        out, err = (self.directory / f"run.{name}" for name in ("out", "err"))
        with out.open("w") as stdout, err.open("w") as stderr:
            return subprocess.Popen(
                [*argv, *options], env=self.environ(**env), cwd=self.home, text=True,
                stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr,
            )  # fmt: skip

    def wait(self, process: subprocess.Popen[str], started: float = 0.0) -> Night:
        """The end of a run."""
        try:
            code = process.wait(_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        seconds = time.monotonic() - started
        out, err = ((self.directory / f"run.{name}").read_text() for name in ("out", "err"))
        assert "Traceback" not in err, err
        return Night(code, out, err, seconds)

    def run(self, *options: str, code: int = 0, **env: str) -> Night:
        """`imagebuild pipeline run FILE --json` to its end."""
        started = time.monotonic()
        night = self.wait(self.start(*options, **env), started)
        assert night.code == code, f"{night.code}\n{night.err}\n{night.out[-3000:]}\n{self.logs()}"
        return night

    def plan(self, *options: str, code: int = 0) -> Any:  # noqa: ANN401 - JSON
        """`imagebuild pipeline plan FILE --json`."""
        night = self.wait(self.start(*options, verb="plan"))
        assert night.code == code, night.err
        return json.loads(night.out)

    def tool(self, *argv: str, code: int = 0, **env: str) -> str:
        """Another verb of the tool; what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "imagebuild", *argv], env=self.environ(**env), cwd=self.home,
            text=True, capture_output=True, timeout=_SECONDS, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        return done.stdout

    def logs(self) -> str:
        """The ends of the last run's logs, for a person who reads a failed test."""
        found = sorted(self.reports.glob("nightly/*/cells/*/*.log"))
        return "\n".join(f"--- {p}\n{p.read_text(errors='replace')[-1500:]}" for p in found[-8:])

    def latest(self) -> Path:
        """The directory of the newest run, whole or not."""
        runs = [p for p in (self.reports / "nightly").iterdir() if not p.is_symlink()]
        return max((p for p in runs if p.is_dir() and p.name[0] != "."), key=lambda p: p.name)

    # What came of it.

    def glance(self) -> list[Image]:
        """All images of the cloud, hidden ones too."""
        return [i for h in ("false", "true") for i in self.site.images.find(os_hidden=h)]

    def named(self, cell: str, night: Night) -> list[Image]:
        """The images that Glance has of a cell's build."""
        found = night.report.cell(cell)
        assert found
        assert found.build_id
        return [i for i in self.glance() if i.properties.get(properties.BUILD_ID) == found.build_id]

    def current(self) -> dict[str, str]:
        """The build that Trove would take now for each datastore version; "" is none."""
        builds = {i.id: i.properties[properties.BUILD_ID] for i in self.glance()}
        found = {}
        for version in self.site.datastores.versions():
            taken = self.site.taken(version.id)
            found[version.label] = builds[taken] if taken else ""
        return found

    def mirrored(self) -> dict[str, str]:
        """The target's tags: digest of each that is there."""
        found = {}
        for repository, tag in _MIRRORED.items():
            for name in (f"mirror/{repository}", f"mirror/{repository.rpartition('/')[2]}"):
                answer = requests.get(
                    f"http://{self.target.host}/v2/{name}/manifests/{tag}", auth=LOGIN, timeout=30,
                    headers={"Accept": "application/vnd.docker.distribution.manifest.v2+json"},
                )  # fmt: skip
                if answer.ok:
                    found[f"{repository}:{tag}"] = answer.headers["Docker-Content-Digest"]
        return found

    def state(self) -> str:
        """All that a run may change outside, with names for ids and without times."""
        images, versions = self.site.state()
        text = json.dumps([images, versions], sort_keys=True)
        builds = {}
        for one in self.glance():
            builds[one.id] = one.properties.get(properties.BUILD_ID, one.name)
            text = text.replace(one.id, builds[one.id])
        for version in self.site.datastores.versions():
            text = text.replace(version.id, version.label)
        # An image that is gone has no name any more.
        text = _IDS.sub("GONE", _TIMES.sub("TIME", text))
        whole = {builds[i.id]: self.cloud.image_file(i.id).stat().st_size == i.size
                 for i in self.glance() if i.status == "active"}  # fmt: skip
        artifacts = sorted(p.name for p in self.images.glob("*")) if self.images.exists() else []
        found = [json.loads(text), whole, self.mirrored(), artifacts]
        return json.dumps(found, indent=1, sort_keys=True)

    def forget(self) -> None:
        """Glance and Trove as they were before the first night; the registry keeps its tags."""
        self.cloud.forget_images()
        self.cloud.forget_datastores()


@contextlib.contextmanager
def nightly(directory: Path, cloud: TestCloud, cache: Path, images: Path) -> Iterator[Nightly]:
    """One, with registries and a compute service of its own."""
    directory.mkdir(parents=True, exist_ok=True)
    with (
        compute(cloud),
        RegistryServer(directory / "source") as source,
        RegistryServer(directory / "target", login=LOGIN, deletes=True) as target,
        RegistryProxy(target) as proxy,
    ):
        site = Site(cloud, connection(cloud, "admin"))
        yield Nightly(directory, cloud, site, source, target, proxy, cache, images)


def left_of(cache: Path, before: set[tuple[int, str]]) -> list[str]:
    """What a killed run has left that lives: processes, mounts, loop devices."""
    deadline = time.monotonic() + 10
    while witness.living(before) and time.monotonic() < deadline:
        time.sleep(0.05)
    found = []
    for pid in witness.living(before):
        with contextlib.suppress(OSError):
            line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
            found.append(line.decode(errors="replace"))
    return [*found, *witness.mounts_of(cache), *filter(None, [witness.loops_of(cache)])]


class Killer:
    """Sends SIGKILL to a run when a request of it comes by a proxy, which passes it on.

    The processes that the run had by then are in `before`.
    """

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None
        self.before: set[tuple[int, str]] = set()
        self.has_killed = threading.Event()

    def __call__(self, _request: object = None) -> None:
        if self.process and not self.has_killed.is_set():
            self.before = witness.family(self.process.pid)
            self.process.send_signal(signal.SIGKILL)
            self.has_killed.set()

    def when(self, is_true: Callable[[], bool], what: str, after: float = 0.0) -> None:
        """Kill when something is so."""
        assert self.process

        def reached() -> bool:
            assert self.process
            assert self.process.poll() is None, f"the run ended before {what}"
            return is_true()

        witness.wait_for(reached, 120, what)
        time.sleep(after)
        self()


class Commands:
    """Samples the command lines of a process and its descendants while a block runs."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.seen: set[str] = set()
        self._pid = process.pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        while not self._over.wait(0.02):
            for pid, _ in witness.family(self._pid):
                with contextlib.suppress(OSError):
                    line = Path(f"/proc/{pid}/cmdline").read_bytes()
                    self.seen.add(line.replace(b"\0", b" ").decode(errors="replace"))

    def __enter__(self) -> Commands:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
