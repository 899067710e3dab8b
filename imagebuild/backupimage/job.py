"""One backup image, from the words of a request to a tag in a registry.

Everything that can be found out before a build is, by `prepare`; what it returns is what
`--dry-run` shows and `build` does.
"""

from __future__ import annotations

import enum
import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imagebuild import __version__
from imagebuild.backupimage import builder as builders
from imagebuild.backupimage import checking
from imagebuild.backupimage.context import Context, get_context
from imagebuild.backupimage.datastores import (
    Datastore,
    Tool,
    check_version,
    get_datastore,
    needed_tools,
)
from imagebuild.backupimage.dockerfile import (
    Dockerfile,
    check_arch,
    read_dockerfile,
    without_download,
)
from imagebuild.backupimage.image import BackupImage, assemble
from imagebuild.backupimage.installer import check_support
from imagebuild.backupimage.redirects import FILES, REDIRECTED, Redirects
from imagebuild.errors import ConfigError, PreflightError
from imagebuild.events import Emit, Note, Output, StageFinished, StageStarted, Transferred
from imagebuild.host import scratch
from imagebuild.host.namespace import remove_tree
from imagebuild.host.run import network_env
from imagebuild.registry.layout import Layout
from imagebuild.registry.pull import PulledImage, Resolved, pull, resolve
from imagebuild.registry.reference import Reference

if TYPE_CHECKING:
    from imagebuild.registry.client import Client

#: Names of scratch directories begin so.
SCRATCH = "backup-image"
_NOT_REDIRECTED = (
    "none of the base image's packages came from --apt-mirror: its sources are not at the "
    "addresses of Ubuntu or Debian; --redirect takes any others"
)
_LABEL = "org.opencontainers.image"


class Packages(str, enum.Enum):
    """Where a datastore's tools come from."""

    UPSTREAM = "upstream"
    DISTRIBUTION = "distribution"


class BuilderName(str, enum.Enum):
    """What builds."""

    AUTO = "auto"
    DOCKER = "docker"
    BUILDAH = "buildah"


@dataclass(frozen=True)
class Request:
    """What is wanted. `arch` is docker's word, "" for this host's; `seconds` the build's limit.

    `base` is "" for what the source's Dockerfile names. `targets` are all tags that the image
    gets, of one repository; none: it is not pushed. `epoch` is SOURCE_DATE_EPOCH.
    """

    datastore: str
    version: str
    source: str | None = None
    series: str | None = None
    base: str = ""
    packages: Packages = Packages.UPSTREAM
    builder: BuilderName = BuilderName.AUTO
    arch: str = ""
    redirects: Redirects = field(default_factory=Redirects)
    targets: tuple[Reference, ...] = ()
    output: Path | None = None
    seconds: float = 3600
    epoch: int | None = None


@dataclass(frozen=True)
class Prepared:
    """What a build will do. `base` is pinned; `note` is for people, "" when there is nothing."""

    request: Request
    datastore: Datastore
    context: Context
    dockerfile: Dockerfile
    tools: tuple[Tool, ...]
    base: Resolved
    builder: str
    arch: str
    note: str

    @property
    def arguments(self) -> dict[str, str]:
        """Build arguments; not a secret among them."""
        return {"DATASTORE": self.datastore.name, "DATASTORE_VERSION": self.request.version}

    @property
    def repository(self) -> str:
        """What the image is called, registry and prefix aside."""
        return f"db-backup-{self.datastore.name}"

    @property
    def created(self) -> int:
        """When the image says that it was made, in seconds since 1970."""
        return self.request.epoch if self.request.epoch is not None else self.context.date

    @property
    def labels(self) -> dict[str, str]:
        """What the image says of itself (annotations.md of the OCI image specification)."""
        from datetime import datetime, timezone

        when = datetime.fromtimestamp(self.created, timezone.utc)
        said = {
            f"{_LABEL}.title": self.repository,
            f"{_LABEL}.created": when.strftime("%Y-%m-%dT%H:%M:%SZ"),
            f"{_LABEL}.source": self.context.url,
            f"{_LABEL}.revision": self.context.commit + "-dirty" * self.context.dirty,
            f"{_LABEL}.version": self.context.version,
            f"{_LABEL}.base.name": str(self.base.reference).partition("@")[0],
            f"{_LABEL}.base.digest": self.base.manifest.digest,
            "imagebuild.datastore": self.datastore.name,
            "imagebuild.datastore-version": self.request.version,
            "imagebuild.trove-version": self.context.version,
            "imagebuild.trove-commit": self.context.commit,
            "imagebuild.packages-from": self.request.packages.value,
            "imagebuild.version": __version__,
        }
        return {k: v for k, v in said.items() if v}

    def text(self, base: str, inserted: Sequence[str]) -> str:
        """The Dockerfile as the builder gets it."""
        return self.dockerfile.ready(base, inserted)

    def to_json(self) -> dict[str, Any]:
        """What would be done, as JSON values."""
        request = self.request
        return {
            "datastore": self.datastore.name,
            "version": request.version,
            "trove": self.context.to_json(),
            "packages_from": request.packages.value,
            "base": {"name": str(self.base.reference), "digest": self.base.manifest.digest},
            "builder": self.builder,
            "arch": self.arch,
            "arguments": self.arguments,
            "tools": [" or ".join(t.names) for t in self.tools],
            "labels": self.labels,
            "targets": [str(t) for t in request.targets],
            "output": str(request.output) if request.output else None,
            "note": self.note or None,
        }


@dataclass(frozen=True)
class Result:
    """What a build has made. `sent` is bytes, 0 when the registry had it all."""

    image: BackupImage
    tools: tuple[checking.Found, ...]
    sent: int
    seconds: Mapping[str, float]
    log: Path

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "digest": self.image.manifest.digest,
            "size": self.image.size,
            "tools": [t.to_json() for t in self.tools],
            "bytes_sent": self.sent,
            "seconds": {k: round(v, 1) for k, v in self.seconds.items()},
            "log": str(self.log),
        }


@contextmanager
def workplace(cache: Path, environ: Mapping[str, str]) -> Iterator[Path]:
    """A scratch directory for one build; it goes at the end, and what dead builds left, now."""
    root = cache / "scratch"
    sweep(root, environ)
    with scratch.directory(root, SCRATCH) as directory:
        directory.chmod(0o700)
        try:
            yield directory
        finally:
            remove_tree(directory)
            (root / f"{directory.name}.lock").unlink(missing_ok=True)


def sweep(root: Path, environ: Mapping[str, str]) -> None:
    """Remove what builds have left that were killed: of ours what we may, and docker's.

    `imagebuild clean` does the rest, as root.
    """
    import contextlib

    from imagebuild.backupimage import buildah, dockerengine
    from imagebuild.errors import BuildError, TemporaryError

    for path in scratch.abandoned(root):
        lock = root / f"{path.name}.lock"
        if path.name.startswith(f"{SCRATCH}-"):
            with contextlib.suppress(BuildError, TemporaryError, OSError), \
                 scratch.lock(lock, wait=False):  # fmt: skip
                buildah.remove_storage(path)
                remove_tree(path)
                lock.unlink(missing_ok=True)
    dockerengine.remove(environ, dockerengine.leftovers(environ))


def prepare(
    client: Client, request: Request, cache: Path, directory: Path, environ: Mapping[str, str]
) -> Prepared:
    """Find everything out. `directory` is scratch space, `cache` keeps what is fetched.

    Raises ConfigError, PreflightError, TemporaryError and UsageError.
    """
    datastore, note = get_datastore(request.datastore)
    version = check_version(request.version)
    arch = request.arch or builders.host_arch()
    context = get_context(
        request.source, request.series, directory / "context",
        cache=cache / "sources", env=network_env(environ),
    )  # fmt: skip
    where = f"trove {context.version} ({context.requested}), backup/"
    original = context.text("Dockerfile")
    if request.packages is Packages.DISTRIBUTION:
        if not datastore.in_distributions:
            raise ConfigError(
                f"no distribution has the tools of {datastore.name}",
                where="--packages-from distribution",
                hint="Percona's XtraBackup comes from Percona alone: --redirect leads to a mirror "
                "of https://repo.percona.com",
            )
        original = without_download(original)
        script = (FILES / "install.sh").read_text()
    else:
        check_support(context.text("install.sh"), datastore, version, arch, f"{where}install.sh")
        check_arch(original, arch, f"{where}Dockerfile")
        script = request.redirects.rewrite(context.text("install.sh"))
    dockerfile = read_dockerfile(request.redirects.rewrite(original), f"{where}Dockerfile")
    base = request.base or dockerfile.base
    if not base:
        raise ConfigError(
            "the Dockerfile does not say its base image in a way that is understood",
            where=f"{where}Dockerfile",
            hint="say it with --base-image",
        )
    builders.check_arch(arch)
    chosen = choose_builder(request.builder, environ)
    (context.root / "install.sh").write_text(script)
    (context.root / "install.sh").chmod(0o755)
    layout = Layout(cache / "containers")
    if request.targets:
        note = "; ".join(filter(None, (note, _ask_target(client, request.targets[0]))))
    return Prepared(
        request, datastore, context, dockerfile, needed_tools(datastore, context.drivers()),
        resolve(client, Reference.parse(base), arch, layout=layout), chosen, arch, note,
    )  # fmt: skip


def _ask_target(client: Client, target: Reference) -> str:
    """Find out before the build what would keep it from being pushed; a note, or "".

    Whether we may push to a repository that is not there yet, a registry does not always say.
    """
    try:
        client.head_manifest(target)
    except PreflightError as exc:
        if "TLS" in exc.what or "certificate" in exc.what:
            raise
        return f"{target.registry}: {exc.what}; the push may be refused"
    return ""


def choose_builder(wanted: BuilderName, environ: Mapping[str, str]) -> str:
    """The builder that is there. Raises PreflightError that says what each of them lacks."""
    from imagebuild.backupimage import dockerengine
    from imagebuild.backupimage.buildah import Buildah

    checks: dict[BuilderName, Callable[[], None]] = {
        BuilderName.DOCKER: lambda: dockerengine.check(environ),
        BuilderName.BUILDAH: Buildah.check,
    }
    if wanted is not BuilderName.AUTO:
        checks[wanted]()
        return str(wanted.value)
    lacking = []
    for name, test in checks.items():
        try:
            test()
        except PreflightError as exc:
            lacking.append(f"{name.value}: {exc.what} ({exc.detail or exc.where})")
        else:
            return name.value
    raise PreflightError(
        "nothing here can build container images",
        where="--builder auto",
        detail="\n".join(lacking),
        hint="start docker, or apt-get install buildah and run this as root",
    )


def build(
    client: Client,
    prepared: Prepared,
    cache: Path,
    directory: Path,
    environ: Mapping[str, str],
    emit: Emit,
) -> Result:
    """Build, look whether it is good, and push it. Until the very end nothing has a tag.

    Raises BuildError, VerifyError for an image that cannot do its work, and what pulls and
    pushes raise.
    """
    request = prepared.request
    seconds: dict[str, float] = {}
    layout = Layout(cache / "containers")
    with _stage("base", seconds, emit):
        report = functools.partial(_transferred, emit, "base image")
        base = pull(client, prepared.base, layout, progress=report)
    helper = directory / "lent"
    request.redirects.write(helper)
    place = cache / "logs" / f"backup-image-{prepared.datastore.name}-{request.version}.log"
    secrets = request.redirects.secrets
    log = builders.Log(place, secrets, lambda x: emit(Output("build", x)), _hint(prepared))
    made = _builder(prepared.builder, environ)
    with ExitStack() as ends:
        ends.callback(made.close)
        ends.callback(log.close)
        deadline = time.monotonic() + request.seconds
        job = builders.Job(
            directory, prepared.context.root, helper, prepared.text, prepared.arguments, base,
            layout.root, prepared.arch, deadline,
        )  # fmt: skip
        with _stage("build", seconds, emit):
            made.build(job, log)
        if request.redirects.apt_mirror and REDIRECTED not in log.lines:
            emit(Note(_NOT_REDIRECTED, warning=True))
        with _stage("check", seconds, emit):
            found = checking.check(made, prepared.datastore, prepared.tools, request.version)
        with _stage("pack", seconds, emit):
            image = _pack(made, prepared, base, directory)
    sent = 0
    if request.output:
        from imagebuild.backupimage.pushing import write_tar

        names = [str(t) for t in request.targets] or [_name(prepared)]
        write_tar(image, names, request.output)
    if request.targets:
        from imagebuild.backupimage.pushing import push

        with _stage("push", seconds, emit):
            report = functools.partial(_transferred, emit, "push")
            sent = push(client, image, request.targets, report)
    return Result(image, found, sent, seconds, place)


def _pack(
    made: builders.Builder, prepared: Prepared, base: PulledImage, directory: Path
) -> BackupImage:
    built = made.export()
    return assemble(built, base, prepared.labels, prepared.created, directory / "blobs")


def _hint(prepared: Prepared) -> str:
    hint = "the whole log is in that file"
    if prepared.request.packages is Packages.DISTRIBUTION:
        return hint
    ways = "--redirect leads to a mirror of the repository that install.sh has"
    if prepared.datastore.in_distributions:
        ways += ", and --packages-from distribution does without it"
    return f"{hint}; {ways}"


def _name(prepared: Prepared) -> str:
    return f"{prepared.repository}:{prepared.request.version}"


def _builder(name: str, environ: Mapping[str, str]) -> builders.Builder:
    if name == BuilderName.DOCKER.value:
        from imagebuild.backupimage.dockerengine import DockerEngine

        return DockerEngine(environ)
    from imagebuild.backupimage.buildah import Buildah

    return Buildah()


@contextmanager
def _stage(name: str, seconds: dict[str, float], emit: Emit) -> Iterator[None]:
    emit(StageStarted(name, ""))
    start = time.monotonic()
    yield
    seconds[name] = time.monotonic() - start
    emit(StageFinished(name, seconds[name]))


def _transferred(emit: Emit, what: str, done: int, total: int) -> None:
    emit(Transferred("", what, done, total))
