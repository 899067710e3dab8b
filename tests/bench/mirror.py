"""A mirror by `imagebuild mirror sync`, by `skopeo copy --all` and by docker, side by side.

The same images go from one registry of this host to another, which is empty each time. The
tools take turns, and the turns rotate, so that what others do on the machine, and what its
disks remember, is for all the same.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from imagebuild.host.run import PATH, need, run
from tests.container_images import DOCKER, Image, descriptor, image, layer, sha256
from tests.images.engine import Engine, engine
from tests.registry_server import RegistryServer

MIB = 1 << 20
#: Of the layers, unpacked: a base that both images have, and what each has of its own.
BASE, DATABASE, BACKUP = 250 * MIB, 750 * MIB, 400 * MIB
ROUNDS = 3
#: docker takes too long for more.
DOCKER_ROUNDS = 1
NAMES = ("mysql", "db-backup-mysql")
_PIECE = MIB


@dataclass(frozen=True)
class Run:
    """What a command took: seconds on the clock, of processors, and KiB at its peak."""

    seconds: float
    cpu_seconds: float
    peak_kib: int


def measure_mirror(directory: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """All three tools, below `directory`: 4 GB and three minutes. Needs root, for docker.

    Returns for each its best run; of ours also one with nothing to do (`nothing`), with its
    requests, and the memory of one with tiny images (`ours.small_peak_kib`).
    """
    directory.mkdir(parents=True, exist_ok=True)
    bench = _Bench(directory)
    with RegistryServer(directory / "source") as source, engine() as docker:
        say("mirror: making images")
        bench.source = source
        digests = _push_images(source, directory)
        tools: dict[str, Callable[[RegistryServer], tuple[list[str], dict[str, str]]]] = {
            "ours": bench.ours,
            "skopeo": bench.skopeo,
        }
        bench.warm_up()
        runs: dict[str, list[Run]] = {name: [] for name in (*tools, "docker")}
        nothing: dict[str, Any] = {}
        for number in range(ROUNDS):
            for name in sorted(tools, reverse=bool(number % 2)):
                say(f"mirror: {name}, round {number + 1}")
                with bench.target() as target:
                    runs[name].append(bench.run(*tools[name](target)))
                    bench.check(target, digests)
                    if name == "ours" and number == ROUNDS - 1:
                        nothing = bench.nothing(target)
            if number < DOCKER_ROUNDS:
                say("mirror: docker pull, tag, push")
                with bench.target() as target:
                    runs["docker"].append(bench.run(*bench.docker(target, docker)))
                bench.forget(docker)
        small = bench.small()
    found: dict[str, Any] = {name: _best(took) for name, took in runs.items()}
    found["ours"]["small_peak_kib"] = small
    size = sum(p.stat().st_size for p in (directory / "source/data").rglob("data") if p.is_file())
    return found | {
        "nothing": nothing,
        "bytes": size,
        "rounds": {name: [r.seconds for r in took] for name, took in runs.items()},
    }


def _best(runs: Sequence[Run]) -> dict[str, Any]:
    """The least of each measure: others on the machine only ever add to it."""
    rows = [asdict(run) for run in runs]
    return {key: min(row[key] for row in rows) for key in rows[0]}


class _Bench:
    source: RegistryServer

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._count = 0

    @contextmanager
    def target(self) -> Iterator[RegistryServer]:
        """An empty registry, whose disk is quiet."""
        self._count += 1
        place = self._directory / f"target-{self._count}"
        os.sync()
        with RegistryServer(place) as started:
            yield started
        shutil.rmtree(place)

    def run(self, argv: Sequence[str], env: Mapping[str, str]) -> Run:
        """A command, which must work."""
        report = self._directory / "measured.json"
        launcher = [sys.executable, "-IS", str(Path(__file__).with_name("measured.py"))]
        done = subprocess.run([*launcher, str(report), *argv], env=env, capture_output=True)
        assert done.returncode == 0, done.stderr.decode()
        self.said = done.stdout.decode()
        return Run(**json.loads(report.read_text()))

    def ours(
        self, target: RegistryServer, names: Sequence[str] = NAMES
    ) -> tuple[list[str], dict[str, str]]:
        listed = self._directory / f"mirror-{target.port}.yaml"
        images = [{"source": f"{self.source.host}/{n}", "tags": ["1"]} for n in names]
        listed.write_text(json.dumps({"target": {"registry": target.host}, "images": images}))
        argv = [sys.executable, "-m", "imagebuild", "mirror", "sync", str(listed), "--json"]
        return argv, dict(os.environ) | {"HOME": str(self._directory)}

    def skopeo(self, target: RegistryServer) -> tuple[list[str], dict[str, str]]:
        script = "; ".join(
            f"{need('skopeo')} copy --quiet --all --src-tls-verify=false --dest-tls-verify=false "
            f"docker://{self.source.host}/{name}:1 docker://{target.host}/{name}:1"
            for name in NAMES
        )
        # It remembers where it has seen blobs: by root's HOME or /var/lib, for all runs alike.
        return [need("sh"), "-ec", script], {"PATH": PATH, "HOME": str(self._directory)}

    def docker(self, target: RegistryServer, docker: Engine) -> tuple[list[str], dict[str, str]]:
        """As Trove's administrator's guide has it (building_guest_images.rst)."""
        program = need("docker", "docker.io")
        script = "; ".join(
            f"{program} pull -q {self.source.host}/{name}:1; "
            f"{program} tag {self.source.host}/{name}:1 {target.host}/{name}:1; "
            f"{program} push -q {target.host}/{name}:1"
            for name in NAMES
        )
        env = {"PATH": PATH, "HOME": str(self._directory), "DOCKER_HOST": docker.socket}
        return [need("sh"), "-ec", script], env

    def forget(self, docker: Engine) -> None:
        """Images that an earlier round has pulled."""
        for found in docker.api.images.list():
            docker.api.images.remove(found.id, force=True)

    def check(self, target: RegistryServer, digests: Mapping[str, str]) -> None:
        """What has been copied is the same, digest by digest."""
        for name, digest in digests.items():
            assert _head(target, name) == digest, name

    def nothing(self, target: RegistryServer) -> dict[str, Any]:
        """A run with nothing to do, the better of two."""
        runs = [self.run(*self.ours(target)) for _ in range(2)]
        told = json.loads(self.said)["totals"]
        return _best(runs) | {
            "requests": told["requests"],
            "bytes": told["bytes_copied"] + told["bytes_mounted"],
        }

    def warm_up(self) -> None:
        """The first run compiles modules, and is not counted."""
        with self.target() as target:
            self.run(*self.ours(target, ["small"]))

    def small(self) -> int:
        """KiB at the peak of a run with a tiny image: what memory goes with the size."""
        with self.target() as target:
            return self.run(*self.ours(target, ["small"])).peak_kib


def _push_images(server: RegistryServer, directory: Path) -> dict[str, str]:
    """A database's image and one for its backups, and a tiny one; digests of the first two."""
    base = _big_layer(directory, "base", BASE)
    made = {
        name: _image(server, name, [base, _big_layer(directory, name, size)])
        for name, size in zip(NAMES, (DATABASE, BACKUP), strict=True)
    }
    image([layer({"small": b"x"})]).push(server, "small", "1")
    return made


@dataclass(frozen=True)
class _Layer:
    path: Path
    digest: str
    diff_id: str


def _big_layer(directory: Path, name: str, size: int) -> _Layer:
    """A layer like those of databases: what is packed already, and twice as much text."""
    path = directory / f"{name}.tar.gz"
    plain, packed = hashlib.sha256(), hashlib.sha256()
    squeeze = zlib.compressobj(1, zlib.DEFLATED, 31)
    source = random.Random(name)  # noqa: S311 - the same each time
    with path.open("wb") as file:

        def add(data: bytes) -> None:
            plain.update(data)
            out = squeeze.compress(data)
            packed.update(out)
            file.write(out)

        member = tarfile.TarInfo(f"usr/lib/{name}")
        member.size, member.mode = size, 0o644
        add(member.tobuf())
        # gzip looks back 32 KiB: to it, the same text a megabyte later is another one.
        words = [b"%x " % source.getrandbits(40) for _ in range(5000)]
        text = b"".join(source.choices(words, k=_PIECE // 8))[: _PIECE - _PIECE // 4]
        for _ in range(size // _PIECE):
            add((source.randbytes(_PIECE // 4) + text).ljust(_PIECE, b"\n"))
        add(bytes(1024))
        rest = squeeze.flush()
        packed.update(rest)
        file.write(rest)
    return _Layer(path, f"sha256:{packed.hexdigest()}", f"sha256:{plain.hexdigest()}")


def _image(server: RegistryServer, name: str, layers: Sequence[_Layer]) -> str:
    config = json.dumps({
        "os": "linux", "architecture": "amd64", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [x.diff_id for x in layers]},
    }).encode()  # fmt: skip
    for part in layers:
        server.blob(name, part.path.read_bytes())
    manifest = json.dumps({
        "schemaVersion": 2,
        "mediaType": DOCKER["manifest"],
        "config": descriptor(config, DOCKER["config"]),
        "layers": [
            {"mediaType": DOCKER["layer"], "size": x.path.stat().st_size, "digest": x.digest}
            for x in layers
        ],
    }).encode()  # fmt: skip
    Image(manifest, DOCKER["manifest"], (config,)).push(server, name, "1")
    return sha256(manifest)


def _head(server: RegistryServer, name: str) -> str:
    argv = ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{server.host}/{name}:1"]
    return sha256(run(argv).stdout)
