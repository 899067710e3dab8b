"""Make the stand-in archive: Debian's packages under Ubuntu's suite and package names.

What it can prove is how we compose an image: names, suites, signatures, hooks. It
cannot prove anything about Ubuntu's own packages, since every binary is Debian's.
"""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import lzma
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.utils import format_datetime, parsedate_to_datetime
from pathlib import Path
from typing import IO

from imagebuild.errors import UsageError
from tests.images.standin import deb, mirror
from tests.images.standin.packages import RELEASES, Package, Packages, Release
from tests.images.standin.sign import Key, keys

COMPONENTS = ("main", "restricted", "universe", "multiverse")
POCKETS = ("", "-updates", "-security", "-backports")
#: Packages of Ubuntu's universe that an image may ask for: a build that forgets the
#: component must fail here as it would there. Everything else is put into main.
UNIVERSE = frozenset({"docker.io", "ifupdown", "python3-venv", "python3.11-venv"})

_STANZAS = re.compile(r"\n\n+")


@dataclass(frozen=True)
class Archive:
    """A finished archive on disk; `pool` is the cache of Debian's package files.

    As long as `in_use` is open, no other run removes the archive.
    """

    root: Path
    pool: Path
    mirrors: Mapping[str, str]
    in_use: IO[str]

    @property
    def keyring(self) -> Path:
        return self.root / "keys/ubuntu-archive-keyring.gpg"

    @property
    def made(self) -> str:
        """The date of its Release files, as snapshot services write times."""
        release = next((self.root / "ubuntu/dists").glob("*/Release"))
        match = re.search(r"^Date: (.+)$", release.read_text(), re.MULTILINE)
        assert match
        return parsedate_to_datetime(match[1]).strftime("%Y%m%dT%H%M%SZ")

    @property
    def docker_key(self) -> Path:
        return self.root / "docker/gpg"

    @property
    def docker_fingerprint(self) -> str:
        return (self.root / "keys/docker.fingerprint").read_text()


def obtain(workdir: Path, release: str) -> Archive:
    """The archive for what the Debian mirror holds now, made unless it is there already.

    Archives are named by the digest of the upstream Release files and of this package's
    code. Older ones that no server uses are removed. Safe to call from several processes.
    """
    if release not in RELEASES:
        raise UsageError(f"no stand-in for {release}", hint=f"one of {', '.join(RELEASES)}")
    suites = mirror.suites()
    digest = hashlib.sha256(release.encode())
    for body in (*(s.in_release for s in suites), *_own_code()):
        digest.update(hashlib.sha256(body).digest())
    root = workdir / "archives" / f"{release}-{digest.hexdigest()[:16]}"
    root.parent.mkdir(parents=True, exist_ok=True)
    pool = workdir / "pool"
    with (workdir / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _drop_unused(root.parent, keep=root, release=release)
        if not root.exists():
            scratch = Path(tempfile.mkdtemp(prefix=".making-", dir=root.parent))
            try:
                _Maker(RELEASES[release], suites, pool, scratch).make()
                scratch.chmod(0o755)
                scratch.rename(root)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
        in_use = (root / "in-use").open("a")
        fcntl.flock(in_use, fcntl.LOCK_SH)
    return Archive(root, pool, {suite.archive: suite.base for suite in suites}, in_use)


def _own_code() -> Iterator[bytes]:
    for path in sorted(Path(__file__).parent.glob("*.py")):
        yield path.read_bytes()


def _drop_unused(parent: Path, *, keep: Path, release: str) -> None:
    """Under the lock: what is being made is an orphan, what a server uses is flocked."""
    for orphan in parent.glob(".making-*"):
        shutil.rmtree(orphan)
    for old in parent.glob(f"{release}-*"):
        if old == keep:
            continue
        with (old / "in-use").open("a") as use:
            try:
                fcntl.flock(use, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            shutil.rmtree(old)


class _Maker:
    """One archive in the making, written below `root`."""

    def __init__(
        self, release: Release, suites: Sequence[mirror.Suite], pool: Path, root: Path
    ) -> None:
        self.release = release
        self.root = root
        self.date = max(suite.date for suite in suites)
        self.when = int(self.date.timestamp())
        self.upstream = [(s, _STANZAS.split(s.packages().strip())) for s in suites]
        self.packages = Packages(release, self.upstream, pool, self.when)

    def make(self) -> None:
        owners = (
            "Stand-in archive <archive@standin.invalid>",
            "Stand-in Docker repository <docker@standin.invalid>",
        )
        (self.root / "keys").mkdir()
        with keys(owners, self.release.born, self.date) as (archive_key, docker_key):
            keyring = archive_key.gpg("--export", archive_key.fingerprint)
            self._write("keys/ubuntu-archive-keyring.gpg", keyring)
            armored = docker_key.gpg("--armor", "--export", docker_key.fingerprint)
            self._write("docker/gpg", armored)
            self._write("keys/docker.fingerprint", docker_key.fingerprint.encode())
            self._ubuntu(keyring, archive_key)
            self._docker(docker_key)

    def _ubuntu(self, keyring: bytes, key: Key) -> None:
        made = self.packages.ubuntu(keyring)
        replaced = {fields["Package"] for fields, _ in made} | {"ubuntu-archive-keyring"}
        indices: dict[tuple[str, str], list[str]] = {}
        for suite, stanzas in self.upstream:
            target = suite.name.replace(mirror.CODENAME, self.release.suite)
            main = indices.setdefault((target, "main"), [])
            universe = indices.setdefault((target, "universe"), [])
            into = f"\nFilename: pool/{suite.archive}/"
            for stanza in stanzas:
                name = stanza[len("Package: ") : stanza.index("\n")]
                if name not in replaced:
                    moved = stanza.replace("\nFilename: pool/", into, 1)
                    (universe if name in UNIVERSE else main).append(moved)
        indices[self.release.suite, "main"] += self._publish(made, "ubuntu", "pool/standin")
        for pocket in POCKETS:
            suite_name = self.release.suite + pocket
            contents = {
                f"{component}/binary-amd64/Packages": indices.get((suite_name, component), [])
                for component in COMPONENTS
            }
            head = {
                "Origin": "Ubuntu",
                "Label": "Ubuntu",
                "Suite": suite_name,
                "Version": self.release.version,
                "Codename": self.release.suite,
            }
            self._suite(f"ubuntu/dists/{suite_name}", head, contents, key)

    def _docker(self, key: Key) -> None:
        dist = f"dists/{self.release.suite}"
        made = self._publish(self.packages.docker(), "docker", f"{dist}/pool/stable/amd64")
        head = {"Origin": "Docker", "Label": "Docker CE", "Suite": self.release.suite}
        contents = {"stable/binary-amd64/Packages": made}
        self._suite(f"docker/{dist}", head, contents, key)

    def _publish(self, packages: Sequence[Package], area: str, folder: str) -> list[str]:
        """Write package files; returns their stanzas for the index."""
        stanzas = []
        for control, package in packages:
            # As everywhere, a file name leaves the epoch out.
            version = control["Version"].split(":")[-1]
            filename = f"{folder}/{control['Package']}_{version}_amd64.deb"
            self._write(f"{area}/{filename}", package)
            entry = control | {
                "Filename": filename,
                "Size": str(len(package)),
                "MD5sum": hashlib.md5(package, usedforsecurity=False).hexdigest(),
                "SHA256": hashlib.sha256(package).hexdigest(),
            }
            stanzas.append(deb.render(entry).rstrip("\n"))
        return stanzas

    def _suite(
        self, where: str, head: Mapping[str, str], contents: Mapping[str, list[str]], key: Key
    ) -> None:
        """Write the indices of a suite and its signed Release files."""
        sums: dict[str, bytes] = {}
        for name, stanzas in contents.items():
            text = "".join(f"{stanza}\n\n" for stanza in stanzas).encode()
            # The fastest levels: these are read once or twice, over loopback.
            packed = lzma.compress(text, preset=0)
            for path, body in (
                (name, text),
                (f"{name}.gz", gzip.compress(text, 1, mtime=0)),
                (f"{name}.xz", packed),
            ):
                self._write(f"{where}/{path}", body)
                sums[path] = body
        fields = {
            **head,
            "Date": format_datetime(self.date).replace("+0000", "UTC"),
            "Architectures": "amd64",
            "Components": " ".join(dict.fromkeys(name.split("/")[0] for name in contents)),
            "Description": "stand-in made of Debian's packages, for tests alone",
        }
        release = deb.render(fields)
        for title, algorithm in (("MD5Sum", "md5"), ("SHA256", "sha256")):
            release += f"{title}:\n" + "".join(
                f" {hashlib.new(algorithm, body, usedforsecurity=False).hexdigest()}"
                f" {len(body):16} {path}\n"
                for path, body in sums.items()
            )
        self._write(f"{where}/Release", release.encode())
        base = self.root / where
        sign = ("--local-user", key.fingerprint, "--output")
        key.gpg(*sign, base / "InRelease", "--clearsign", base / "Release")
        key.gpg(*sign, base / "Release.gpg", "--armor", "--detach-sign", base / "Release")
        for name in ("InRelease", "Release.gpg"):
            os.utime(base / name, (self.when, self.when))

    def _write(self, name: str, body: bytes) -> None:
        """Write a file, as old as the newest of Debian's Release files (Last-Modified)."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
        os.utime(path, (self.when, self.when))
