"""The two production builds that the image tests look at, and their boots.

Each is made once a session, the way its user would: `debian bookworm` from the source
tree; `ubuntu jammy` from an installed wheel, by an unprivileged user with sudo, against
the stand-in archive. Both run at the same time, in the background of the other tests.

What the jammy build proves is our composition under Ubuntu's names and layout, not
Ubuntu's packages: those of the stand-in are Debian's.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagebuild.host.run import network_env, run
from imagebuild.host.worker import Worker
from imagebuild.store.store import Store
from imagebuild.verify.bootlevel import CONFIG_DRIVE, METADATA
from tests.databases.images import cache
from tests.databases.registry import DatabaseRegistry
from tests.images import standin
from tests.images.boots import BootReport, boot
from tests.images.elements import write_hook
from tests.images.fs import ImageFs
from tests.images.registry import DATABASE, HOST, PASSWORD, USER, Registry
from tests.images.verifying import Verified, database, verify

REPO = Path(__file__).resolve().parents[2]
#: Values that must be in no output: planted in the environment of the jammy build.
CANARIES = ("canary-proxy-Zq7", "canary-index-Zq8", PASSWORD)
BUILDER_UID = 20000
#: As the session found it: a test may change it for a while.
_ENVIRON = dict(os.environ)

# What makes the process a user with sudo, in a private view of /etc: the host's own
# accounts and sudo rules stay as they are.
_AS_BUILDER = """
set -eu
mount -t overlay overlay -o "lowerdir=/etc,upperdir=$1/etc-up,workdir=$1/etc-work" /etc
echo "builder:x:$2:$2::$1/home:/bin/sh" >> /etc/passwd
echo "builder:x:$2:" >> /etc/group
echo 'builder:*:20000:0:99999:7:::' >> /etc/shadow
mkdir -p /etc/sudoers.d
echo 'builder ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/imagebuild-test
chmod 0440 /etc/sudoers.d/imagebuild-test
cd "$1/home"
directory=$1; uid=$2; shift 2
exec setpriv --reuid "$uid" --regid "$uid" --clear-groups \
    env HOME="$directory/home" USER=builder LOGNAME=builder "$@"
"""


@dataclass(frozen=True)
class Built:
    """A finished build: what it printed, its artifact, its disk as a raw file."""

    name: str
    stderr: str
    seconds: float
    artifact: Path
    images_dir: Path
    cache: Path
    manifest: Mapping[str, Any]
    fs: ImageFs

    @property
    def qcow2(self) -> Path:
        return next(self.artifact.glob("*.qcow2"))

    @property
    def store(self) -> Store:
        """What its stages made."""
        return Store(self.cache / "store")

    def object(self, stage: str, name: str = "") -> Path:
        """Where the store has what a stage, or a part of it, made; it is there."""
        found = next(s for s in self.manifest["stages"] if s["name"] == stage)
        if name:
            found = next(p for p in found["parts"] if p["name"] == name)
        (path,) = self.store.root.glob(f"*-{found['id'][:32]}")
        return path

    def forget_others(self) -> None:
        """Remove from its store what was made by other builds: each takes some GB."""
        stages = self.manifest["stages"]
        own = {x["id"][:32] for s in stages for x in (s, *s["parts"])}
        others = [o.path for o in self.store.objects() if o.key.id[:32] not in own]
        if others:
            with Worker(lambda _event: None) as worker:
                worker.call("discard_objects", paths=[str(p) for p in others])


def installed_wheel(directory: Path) -> Path:
    """Build the project's wheel, install it in a venv of its own, return its command."""
    wheels = directory / "wheels"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    env = dict(_ENVIRON)
    subprocess.run([*pip, "wheel", "--no-deps", "-w", wheels, REPO], check=True, env=env)
    wheel = next(wheels.glob("imagebuild-*.whl"))
    python = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable
    subprocess.run([python, "-m", "venv", directory / "venv"], check=True)
    subprocess.run(
        [directory / "venv/bin/pip", "--disable-pip-version-check", "-q", "install", wheel],
        check=True,
        env=env,
    )
    return directory / "venv/bin/imagebuild"


def as_builder(directory: Path, argv: list[str], env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a command as an unprivileged user with sudo and a home below `directory`.

    When the tests themselves run unprivileged, that user is the one.
    """
    log = (directory / "build.out").open("wb")
    if os.geteuid() != 0:
        whole = {**_ENVIRON, **env, "HOME": str(directory / "home")}
        return subprocess.Popen(argv, env=whole, stdout=log, stderr=log, cwd=directory / "home")
    for name in ("etc-up", "etc-work"):
        (directory / name).mkdir(exist_ok=True)
    shell = ["unshare", "--mount", "--propagation", "private", "sh", "-c", _AS_BUILDER]
    shell += ["sh", str(directory), str(BUILDER_UID), *argv]
    whole = {"PATH": _ENVIRON["PATH"], "LANG": "C.UTF-8", **env}
    return subprocess.Popen(shell, env=whole, stdout=log, stderr=log)


class Session:
    """Starts the builds and boots in the background; asks for one wait for it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._pool = ThreadPoolExecutor(max_workers=8)
        # Boots are watched by our own code, which a test of this process may be changing.
        self._watchers = multiprocessing.get_context("spawn").Pool(2)
        self._futures: dict[str, Future[Any]] = {}
        self._processes: list[subprocess.Popen[bytes]] = []
        self.standin: standin.Standin | None = None
        self.jammy_options: list[str] = []
        self.registry: Registry | None = None
        self._kept = cache()

    def start(self) -> None:
        """Start everything that the image tests will ask for."""
        self._submit("bookworm", self._build_bookworm)
        self._submit("jammy", self._build_jammy)
        self._submit("boot-bookworm", lambda: self._boot("bookworm", "bios", CONFIG_DRIVE))
        self._submit("boot-jammy", lambda: self._boot("jammy", "uefi", METADATA))
        self._submit("databases", self._make_databases)
        self._submit("verify", self._verify)

    def build_again(self, built: Built) -> Built:
        """jammy once more, with nothing of the first build: by another user, in another place,
        from the source tree. Made when it is first asked for.
        """
        assert built.name == "jammy"
        if "jammy-again" not in self._futures:
            self._submit("jammy-again", self._build_jammy_again)
        return self.build("jammy-again")

    def _submit(self, name: str, work: Any) -> None:  # noqa: ANN401 - any callable
        self._futures[name] = self._pool.submit(work)

    def build(self, name: str) -> Built:
        """The build of that name; raises what it raised."""
        built: Built = self._futures[name].result()
        return built

    def finished(self, name: str) -> Built | None:
        """The build of that name when it has ended well."""
        future = self._futures.get(name)
        has_ended = future is not None and future.done() and not future.exception()
        return self.build(name) if has_ended else None

    def booted(self, name: str) -> BootReport:
        """The boot of that build's image."""
        result: BootReport = self._futures[f"boot-{name}"].result()
        return result

    def databases(self) -> DatabaseRegistry:
        """A registry with container images of databases, and of their backups."""
        found: DatabaseRegistry = self._futures["databases"].result()
        return found

    def verified(self) -> Verified:
        """bookworm, proven to the last level with MariaDB and network isolation."""
        found: Verified = self._futures["verify"].result()
        return found

    def close(self) -> None:
        """End what still runs, stop the stand-in, remove all files (some are root's)."""
        for process in self._processes:
            process.terminate()
        self._pool.shutdown(cancel_futures=True)
        self._watchers.close()
        self._watchers.join()
        if self.standin:
            self.standin.stop()
        if self.registry:
            self.registry.stop()
        made = self._futures.get("databases")
        if made and made.done() and not made.cancelled() and not made.exception():
            self.databases().stop()
        sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
        run([*sudo, "rm", "-rf", self.directory], check=False)

    def _boot(self, name: str, firmware: str, how: str) -> BootReport:
        from tests.images.questions import COMMANDS, REGISTRY_COMMANDS

        built = self.build(name)
        commands, forwards = dict(COMMANDS), {}
        if name == "jammy" and self.registry:
            commands |= REGISTRY_COMMANDS
            forwards = {HOST: self.registry.port}
        return self._watchers.apply(
            boot,
            (built.qcow2, self.directory / f"boot-{name}"),
            {
                "firmware": firmware,
                "how": how,
                "questions": commands,
                "forwards": forwards,
                "content": built.manifest["content"],
            },
        )

    def _make_databases(self) -> DatabaseRegistry:
        return DatabaseRegistry(self.directory / "databases", kept=self._kept)

    def _verify(self) -> Verified:
        image = self.build("bookworm").artifact
        # One after the other: emulated machines that share two processors only wait longer.
        wait([self._futures[n] for n in ("boot-bookworm", "boot-jammy", "databases")])
        options = database(self.databases(), "mariadb")
        return verify(image, self.directory / "verify", *options, "--json")

    def _build_bookworm(self) -> Built:
        home = self.directory / "bookworm"
        home.mkdir()
        env = {**_ENVIRON, "HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")}
        env["PYTHONPATH"] = str(REPO)
        argv = bookworm_argv("-o", str(home / "placed/guest.raw"))
        started = time.monotonic()
        log = (home / "build.out").open("wb")
        process = subprocess.Popen(argv, env=env, stdout=log, stderr=log, cwd=home)
        return self._finish("bookworm", process, home, home / "cache/imagebuild", started)

    def _build_jammy(self) -> Built:
        directory = self.directory / "jammy"
        home = directory / "home"
        home.mkdir(parents=True)
        self.standin = standin.start(self.directory / "standin")
        self.registry = Registry(self.directory / "registry")
        command = installed_wheel(directory)
        options = self.jammy_options = [
            *standin_options(self.standin), *pinned(self.standin), *own_things(directory),
            *private_registry(self.registry, directory),
            "--preload", f"{self.registry.database_source}={DATABASE}",
        ]  # fmt: skip
        if os.geteuid() == 0:
            os.chown(home, BUILDER_UID, BUILDER_UID)
        port = self.standin.url.split(":")[2].split("/")[0]
        # The docker repository's certificate is known to the environment's bundle alone.
        bundle = directory / "bundle.pem"
        known = Path("/etc/ssl/certs/ca-certificates.crt").read_text()
        bundle.write_text(known + self.standin.ca.read_text() + self.registry.ca.read_text())
        bundles = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT")
        env = network_env(_ENVIRON) | dict.fromkeys(bundles, str(bundle))
        env["DOCKER_CONFIG"] = str(self.registry.login(directory / "docker"))
        env |= {
            # Names a proxy that is never asked, and an index that has nothing.
            "http_proxy": f"http://someone:{CANARIES[0]}@127.0.0.1:9",
            "no_proxy": "127.0.0.1",
            "PIP_EXTRA_INDEX_URL": f"http://someone:{CANARIES[1]}@127.0.0.1:{port}/simple",
        }
        argv = [str(command), "build", "ubuntu", "jammy", *options]
        started = time.monotonic()
        process = as_builder(directory, argv, env)
        return self._finish("jammy", process, home, home / ".cache/imagebuild", started)

    def _build_jammy_again(self) -> Built:
        home = self.directory / "jammy-again"
        home.mkdir()
        bundle = self.directory / "jammy/bundle.pem"
        env = {**_ENVIRON, "HOME": str(home), "PYTHONPATH": str(REPO)}
        env |= dict.fromkeys(
            ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT"), str(bundle)
        )
        env["DOCKER_CONFIG"] = str(self.directory / "jammy/docker")
        argv = [sys.executable, "-m", "imagebuild", "build", "ubuntu", "jammy"]
        argv += ["--cache-dir", str(home / "cache"), *self.jammy_options]
        started = time.monotonic()
        log = (home / "build.out").open("wb")
        process = subprocess.Popen(argv, env=env, stdout=log, stderr=log, cwd=home)
        return self._finish("jammy-again", process, home, home / "cache", started)

    def _finish(
        self, name: str, process: subprocess.Popen[bytes], home: Path, cache: Path, started: float
    ) -> Built:
        self._processes.append(process)
        status = process.wait()
        out = home / "build.out"
        stderr = (out if out.exists() else home.parent / "build.out").read_text()
        assert status == 0, f"the {name} build ended with status {status}:\n{stderr[-4000:]}"
        images = home / "images"
        link = next(p for p in images.iterdir() if p.is_symlink())
        artifact = link.resolve()
        raw = self.directory / f"{name}.raw"
        qcow2 = next(artifact.glob("*.qcow2"))
        run(["qemu-img", "convert", "-O", "raw", qcow2, raw])
        return Built(
            name=name,
            stderr=stderr,
            seconds=time.monotonic() - started,
            artifact=artifact,
            images_dir=images,
            cache=cache,
            manifest=json.loads((artifact / "manifest.json").read_text()),
            fs=ImageFs(raw),
        )


def bookworm_argv(*options: str) -> list[str]:
    """The command that builds debian bookworm from the mirror that the host's apt uses."""
    main, security = standin.host_debian_mirror()
    return [
        sys.executable, "-m", "imagebuild", "build", "debian", "bookworm",
        "--mirror", main, "--set", f"mirror.security.url={security}", *options,
    ]  # fmt: skip


def standin_options(archive: standin.Standin) -> list[str]:
    """What a profile must say to be built from the stand-in: mirror, keyring, docker's
    repository and key, the Python that its packages bring.
    """
    return [
        "--mirror", archive.url,
        "--keyring", str(archive.keyring),
        "--set", f"docker.repository.url={archive.docker_url}",
        "--set", f"docker.repository.key={archive.docker_key}",
        "--set", f"docker.repository.fingerprint={archive.docker_fingerprint}",
        "--set", "python=3.11",
    ]  # fmt: skip


def pinned(archive: standin.Standin) -> list[str]:
    """Options that pin both archives to the state that the stand-in has."""
    options = ["--snapshot", archive.made]
    for key, url in archive.snapshots.items():
        options += ["--set", f"{key}={url}"]
    return options


def private_registry(registry: Registry, directory: Path) -> list[str]:
    """The option that lets the guest pull from a registry with a CA and a login."""
    password = directory / "registry-password"
    password.write_text(f"{PASSWORD}\n")
    entry = f"host: '{HOST}', ca: {registry.ca}, username: {USER}, password_file: {password}"
    return ["--set", f"docker.registries=[{{{entry}}}]"]


def own_things(directory: Path) -> list[str]:
    """What a site adds: elements for both stages, a package, a CA, time servers."""
    elements = directory / "elements"
    for name, stage in (("site-base", "install.d"), ("site-agent", "post-install.d")):
        write_hook(elements, f"{name}/{stage}/60-site", f"echo {name} > /etc/{name}")
    ca = directory / "site-ca.pem"
    run(
        ["openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-days", "30",
         "-subj", "/CN=imagebuild test site CA", "-keyout", "/dev/null", "-out", ca]
    )  # fmt: skip
    return [
        "--elements-path", str(elements),
        "--element", "site-base", "--element", "agent:site-agent",
        "--package", "less",
        "--set", f"ca_certificates=[{ca}]",
        "--set", "time.servers=[ntp.site.example]",
    ]  # fmt: skip
