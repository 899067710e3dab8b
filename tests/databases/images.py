"""Make the images, or take them from where an earlier session has put them.

An image has two layers: Debian's packages, which take their time and are kept, and our own
files, which are made anew each time. No docker is needed, but root is, or user namespaces.
"""

from __future__ import annotations

import dataclasses
import fcntl
import gzip
import hashlib
import io
import json
import re
import shlex
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from imagebuild.agent.files import FileCache
from imagebuild.agent.locks import agent_lock
from imagebuild.agent.series import get_series
from imagebuild.digest import of_value
from imagebuild.host.run import base_env, need, network_env, run
from tests.container_images import DOCKER, Image, descriptor, sha256
from tests.databases.recipes import (
    BACKUP_CODE,
    BACKUPS,
    MARIADB_SERVER,
    POSTGRESQL_SERVER,
    Recipe,
)
from tests.images.standin import mirror

#: In the key of what is kept: raise it when this module makes something else of a recipe.
_FORM = 1
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Layer:
    """A compressed layer, and the digest of what it is uncompressed."""

    data: bytes
    diff_id: str


def cache() -> Path:
    """Where layers are kept from one session to the next. It may be removed at any time."""
    return platformdirs.user_cache_path("imagebuild-tests") / "databases"


def make_mariadb(directory: Path) -> Image:
    """MariaDB's server, as the official image `mariadb` behaves. Kept below `directory`.

    Raises TemporaryError when the mirror does not deliver, BuildError when packages do not
    install, PreflightError when the host lacks a program. So do the others.
    """
    return make_image(MARIADB_SERVER, directory, {})


def make_postgresql(directory: Path) -> Image:
    """PostgreSQL's server, as the official image `postgres` behaves. Kept below `directory`."""
    return make_image(POSTGRESQL_SERVER, directory, {})


def make_backup(datastore: str, directory: Path, series: str = "2026.2") -> Image:
    """Trove's `db-backup` for "mariadb" or "postgresql". Kept below `directory`.

    Its code is that of the release of Trove that a guest of `series` gets.
    """
    return make_image(BACKUPS[datastore], directory, _backup_code(directory, series))


def make_image(recipe: Recipe, directory: Path, code: Mapping[str, bytes]) -> Image:
    """The image of a recipe, with further files in its own layer. Kept below `directory`."""
    layers = [_system(recipe, directory), _own({**recipe.files(), **code})]
    settings = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": recipe.config,
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        }
    ).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": DOCKER["manifest"],
        "config": descriptor(settings, DOCKER["config"]),
        "layers": [descriptor(layer.data, DOCKER["layer"]) for layer in layers],
    }
    blobs = (settings, *(layer.data for layer in layers))
    return Image(json.dumps(manifest).encode(), DOCKER["manifest"], blobs)


def _own(files: Mapping[str, bytes]) -> Layer:
    """A layer with these files, all of which may be run: the same bytes each time."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for name, data in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o755
            archive.addfile(entry, io.BytesIO(data))
    return Layer(gzip.compress(plain.getvalue(), 1, mtime=0), sha256(plain.getvalue()))


def _system(recipe: Recipe, directory: Path) -> Layer:
    """The layer of Debian's packages: kept until one of them has another version."""
    suites = mirror.suites()
    key = of_value([_FORM, recipe.packages, recipe.hooks, recipe.dropped, _state(recipe, suites)])
    place = directory / "layers"
    name = recipe.layer or recipe.name
    with _locked(place / f"{name}.lock"):
        names = place / f"{name}_{key}.tar.gz", place / f"{name}_{key}.diff-id"
        if not all(part.exists() for part in names):
            for old in place.glob(f"{name}_*"):
                old.unlink()
            _install(recipe, suites, *names)
        return Layer(names[0].read_bytes(), names[1].read_text())


def _state(recipe: Recipe, suites: list[mirror.Suite]) -> list[str]:
    """What the mirror has of a recipe: the whole index of a release, which stays for months,
    and of security updates, which change daily, the versions of the packages that we name.
    """
    found = []
    for suite in suites:
        if suite.archive == "debian":
            index = re.escape(mirror.INDEX.encode())
            digest = re.search(rb"^ ([0-9a-f]{64}) +[0-9]+ " + index, suite.in_release, re.M)
            found.append(digest[1].decode() if digest else "")
            continue
        for stanza in suite.packages().split("\n\n"):
            name = re.search(r"^Package: (.*)$", stanza, re.MULTILINE)
            version = re.search(r"^Version: (.*)$", stanza, re.MULTILINE)
            if name and version and name[1] in recipe.packages:
                found.append(f"{name[1]} {version[1]}")
    return found


def _install(recipe: Recipe, suites: list[mirror.Suite], target: Path, diff_id: Path) -> None:
    """Make a layer of a recipe's packages, whole or not at all."""
    drop = " ".join(f'"$1"{pattern}' for pattern in recipe.dropped)
    hooks = [*recipe.hooks, f"rm -rf {drop}"]
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".making-") as scratch:
        tree, layer = Path(scratch, "tree.tar"), Path(scratch, "layer")
        run(
            [need("mmdebstrap"), "--variant=essential", f"--keyring={mirror.KEYRING}",
             f"--include={','.join(recipe.packages)}",
             "--aptopt=Apt::Install-Recommends false",
             *(f"--customize-hook={hook}" for hook in hooks),
             "--format=tar", mirror.CODENAME, tree,
             *(f"deb {suite.base} {suite.name} main" for suite in suites)],
            env=base_env(
                SOURCE_DATE_EPOCH=str(int(suites[0].date.timestamp())),
                DEBIAN_FRONTEND="noninteractive",
                **network_env(),
            ),
            what=f"cannot install {shlex.join(recipe.packages)}",
        )  # fmt: skip
        plain = hashlib.sha256()
        with tree.open("rb") as source, layer.open("wb") as raw, \
             gzip.GzipFile("", "wb", 1, raw, mtime=0) as packed:  # fmt: skip
            while block := source.read(_BLOCK):
                plain.update(block)
                packed.write(block)
        layer.replace(target)
        diff_id.write_text(f"sha256:{plain.hexdigest()}")


def _backup_code(directory: Path, series: str) -> dict[str, bytes]:
    """The directory `backup` of Trove's source, without its tests."""
    lock = agent_lock(get_series(series), "3.11")
    pin = next(p for p in lock.pins if p.name == "trove")
    # Of the release's two files, the one that is not the wheel: only it has that directory.
    hashes = frozenset(pin.hashes) - {lock.header["agent-wheel"]}
    pin = dataclasses.replace(pin, hashes=hashes)
    files = FileCache(directory / "sources", "3.11", "x86_64", env=network_env(), offline=False)
    try:
        sdist = files.fetch([pin], sdists={"trove"})[0]
    finally:
        files.close()
    found = {}
    with tarfile.open(sdist.path) as archive:
        for member in archive:
            inner = member.name.partition("/backup/")[2]
            top = member.name.count("/") == inner.count("/") + 2
            content = archive.extractfile(member) if top and inner else None
            if content and not inner.startswith("tests/"):
                found[f"{BACKUP_CODE}/{inner}"] = content.read()
    assert f"{BACKUP_CODE}/main.py" in found, sdist.path
    return found


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
