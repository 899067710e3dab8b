"""What a command line of trovestack and its environment mean in imagebuild's words.

`trovestack` (openstack/trove, integration/scripts) builds guest images by positional arguments
and environment variables. `translate` says which commands of imagebuild do the same, and in a
line each what is done otherwise. It asks nothing itself: what it must know of the host is a
`Host`. What trovestack does is read from its scripts trovestack, functions_qemu and
trovestack.rc, from devstack/plugin.sh, and from Trove's own elements.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from imagebuild.errors import UsageError

#: Verbs that are done here; `upload-image` is trovestack's own name of the second.
BUILD_IMAGE, UPLOAD_IMAGE = "build-image", "upload-image"
VERBS = {
    BUILD_IMAGE: BUILD_IMAGE,
    UPLOAD_IMAGE: UPLOAD_IMAGE,
    "build-and-upload-image": UPLOAD_IMAGE,
}
#: Verbs of trovestack that build an image on their way, by functions of their own.
BUILDING_VERBS = frozenset({"gate-tests", "dsvm-gate-tests", "run-ci"})
#: Words of a command that are known only while it runs: the artifact's directory, and the
#: file that root's password is in.
ARTIFACT, ROOT_PASSWORD_FILE = "{artifact}", "{root-password-file}"

_TROVE = "https://opendev.org"
_CLOUD = "devstack-admin"
#: Variables that trovestack sets itself before its elements see them.
_OVERWRITTEN = frozenset({"DIB_RELEASE", "DIB_CLOUD_INIT_ETC_HOSTS", "DIB_PASSWORD"})
#: Variables beginning with DIB_ that have a meaning here.
_KNOWN = frozenset({
    "DIB_CLOUD_INIT_DATASOURCES", "DIB_DEBUG_TRACE", "DIB_DISTRIBUTION_MIRROR",
    "DIB_LOCAL_ELEMENTS_PATH", "DIB_PYPI_MIRROR_URL", "DIB_REPOLOCATION_guest_agent",
    "DIB_REPOLOCATION_upper_constraints", "DIB_REPOREF_guest_agent", "DIB_TROVE_DOCKER_IMAGES",
})  # fmt: skip
#: Variables that older trovestacks or its elements read, and why they do nothing here.
_IGNORED = {
    "GUEST_CACHEDIR": "imagebuild's own cache is used, and kept: IMAGEBUILD_CACHE_DIR moves it",
    "GUEST_WORKING_DIR": "work is done in imagebuild's cache: IMAGEBUILD_CACHE_DIR moves it",
    "GUEST_IMAGETYPE": "the output file's ending chooses the format",
    "QEMU_IMG_OPTIONS": "`compression` in a profile is what can be chosen",
    "GUEST_LOGDIR": "the agent's log is in /var/log/trove",
    "DATASTORE_PKG_LOCATION": "databases run in containers; nothing of them is installed",
    "REBUILD_IMAGE": "what has changed is built again, and nothing else",
    "DIB_USE_HWE_KERNEL": "`kernel` in a profile names the kernel's package",
    "EXTRA_ELEMENTS": "imagebuild's option --element adds elements (IMAGEBUILD_ELEMENT)",
    "USE_TMPFS": "the cache's file system is used",
    "DIB_REPOLOCATION_upper_constraints":
        "the agent's requirements are those of the series' lock file",
}  # fmt: skip


@dataclass(frozen=True)
class Host:
    """What is to be known of the host. `called_as` is the path that the script was called by,
    `head` the commit that a directory of git is at (None: it is no checkout), `which` finds
    programs.
    """

    user: str
    home: Path
    called_as: Path
    head: Callable[[Path], str | None]
    exists: Callable[[Path], bool]
    which: Callable[[str], str | None]


@dataclass(frozen=True)
class KeyPlace:
    """Where the controller lets a dev image in: the user, and the directory of
    authorized_keys; None: .ssh in the user's home.
    """

    user: str
    directory: Path | None


@dataclass(frozen=True)
class Translation:
    """Commands of imagebuild, one after the other; `notes` say what is done otherwise.

    `key` is set when a dev image's key is to be let in after the build. `environ` is added to
    the commands' environment, `secrets` are variables that are taken out of it. Only the file
    that stands for ROOT_PASSWORD_FILE holds `root_password`.
    """

    build: tuple[str, ...]
    publish: tuple[tuple[str, ...], ...] = ()
    key: KeyPlace | None = None
    environ: Mapping[str, str] = dataclasses.field(default_factory=dict)
    secrets: frozenset[str] = frozenset({"TROVE_ROOT_PASSWORD", "DIB_PASSWORD"})
    root_password: str | None = dataclasses.field(default=None, repr=False)
    notes: tuple[str, ...] = ()


def translate(argv: Sequence[str], environ: Mapping[str, str], host: Host) -> Translation:
    """The meaning of `argv`, a verb of `VERBS` and its arguments. Raises UsageError."""
    verb, *words = argv
    request = _Request(VERBS[verb], words, environ, host)
    return request.translation()


def trove_path(environ: Mapping[str, str], called_as: Path) -> Path:
    """PATH_TROVE: the checkout that the script stands in, two directories up."""
    said = environ.get("PATH_TROVE")
    return Path(said).absolute() if said else called_as.absolute().parents[2]


class _Request:
    """One call. The methods return words of the command line and leave their notes."""

    def __init__(
        self, verb: str, words: Sequence[str], environ: Mapping[str, str], host: Host
    ) -> None:
        given = [*words, *[""] * 5]
        self.verb = verb
        self.env = environ
        self.host = host
        self.os = given[0] or "ubuntu"
        self.release = given[1] or "jammy"
        # What the scripts compare is the text in small letters; everything else is not dev.
        self.is_dev = (given[2] or "true").lower() == "true"
        self.username = given[3] or "ubuntu"
        self.place = given[4]
        self.trove = trove_path(environ, host.called_as)
        self.notes: list[str] = []
        self.extra_environ: dict[str, str] = {}
        for word in words[5:]:
            self.note(f"argument {word!r}", "ignored", "trovestack takes five and drops the rest")

    def note(self, asked: str, done: str, why: str) -> None:
        self.notes.append(f"{asked}: {done} ({why})")

    def value(self, name: str) -> str:
        return self.env.get(name, "").strip()

    def translation(self) -> Translation:
        self.check_arguments()
        build = (
            *(["-v"] if self.value("DIB_DEBUG_TRACE").strip("0") else []),
            "build", self.os, self.release,
            "--guest-username", self.username,
            "-o", str(self.output()),
            *self.mode(), *self.agent(), *self.size(), *self.datasources(), *self.preload(),
            *self.elements(), *self.mirrors(), *self.root_password(),
        )  # fmt: skip
        publish = tuple(self.publish()) if self.verb == UPLOAD_IMAGE else ()
        self.note_ignored()
        return Translation(
            build=build,
            publish=publish,
            key=self.key() if self.is_dev else None,
            environ=self.extra_environ,
            root_password=self.env.get("TROVE_ROOT_PASSWORD") or None,
            notes=tuple(self.notes),
        )

    def check_arguments(self) -> None:
        if self.os.startswith("-"):
            raise UsageError(
                f"{self.os} is no operating system",
                where=f"trovestack {self.verb}",
                hint="trovestack has no options: OS RELEASE DEV_MODE GUEST_USERNAME OUTPUT",
            )
        if (said := self.value("GUEST_USERNAME")) and said != self.username:
            self.note(
                f"GUEST_USERNAME={said}", f"the user is {self.username}",
                "the fourth argument, or its default ubuntu, counts: as in trovestack",
            )  # fmt: skip
        if (said := self.value("DEV_MODE")) and (said.lower() == "true") != self.is_dev:
            self.note(
                f"DEV_MODE={said}", f"dev mode is {'on' if self.is_dev else 'off'}",
                "the third argument, or its default true, counts: as in trovestack",
            )  # fmt: skip

    def output(self) -> Path:
        name = f"trove-guest-{self.os}-{self.release}"
        if self.verb == UPLOAD_IMAGE:
            return Path(self.place or self.host.home / "images") / f"{name}.qcow2"
        if self.place:
            return Path(self.place)
        return self.host.home / "images" / f"{name}{'-dev' if self.is_dev else ''}.qcow2"

    def mode(self) -> Iterator[str]:
        if not self.is_dev:
            return
        yield "--dev"
        yield from ("--set", f"agent.controller.username={self.controller_user()}")
        yield from ("--set", f"agent.controller.path={self.trove}")
        self.note(
            "dev mode: the private key of this host's user in the image",
            "a key of the image's own, which may read one directory and do nothing else",
            "who has the image has the key",
        )
        if self.value("SYNC_LOG_TO_CONTROLLER").lower() == "true":
            self.note(
                "SYNC_LOG_TO_CONTROLLER=True", "the guest's logs are not copied to the controller",
                "its key cannot write there; the console and Trove's log API have them",
            )  # fmt: skip

    def controller_user(self) -> str:
        return self.value("HOST_SCP_USERNAME") or self.host.user

    def key(self) -> KeyPlace:
        directory = self.value("SSH_DIR")
        return KeyPlace(self.controller_user(), Path(directory) if directory else None)

    def agent(self) -> Iterator[str]:
        """Where the agent's code is from: what is said, else this checkout, else upstream."""
        location, ref = (self.value(f"DIB_{k}_guest_agent") for k in ("REPOLOCATION", "REPOREF"))
        if not location:
            head = self.host.head(self.trove)
            if head:
                yield from ("--agent", f"git+file://{self.trove}@{head}")
                return
            base = self.value("GIT_BASE") or _TROVE
            location = self.value("TROVE_REPO") or f"{base}/openstack/trove"
            branch = self.value("TROVE_BRANCH")
            if not ref and branch:
                self.note(
                    f"TROVE_BRANCH={branch}", "the agent is of that branch",
                    "trovestack would take master, whatever the control plane is",
                )  # fmt: skip
                ref = branch
        if location.startswith("/"):
            location = f"file://{location}"
        yield from ("--agent", f"git+{location}@{ref or 'master'}")

    def size(self) -> Iterator[str]:
        if said := self.value("GUEST_IMAGESIZE"):
            yield from ("--image-size", said)

    def datasources(self) -> Iterator[str]:
        for word in re.split(r"[,\s\[\]\"']+", self.value("DIB_CLOUD_INIT_DATASOURCES")):
            if word:
                yield from ("--datasource", word)

    def preload(self) -> Iterator[str]:
        """DIB_TROVE_DOCKER_IMAGES: [SOURCE=]TARGET, apart by blanks."""
        entries = self.value("DIB_TROVE_DOCKER_IMAGES").split()
        for entry in entries:
            # The same cuts as the element's: before the first and after the last sign.
            source, target = entry.partition("=")[0], entry.rpartition("=")[2]
            names = [_tagged(source)] + ([_tagged(target)] if target != source else [])
            yield from ("--preload", "=".join(names))
        if entries:
            self.note(
                "DIB_TROVE_DOCKER_IMAGES", "the containers come from their registries, by digest",
                "no docker is asked on this host, nor what it has already",
            )  # fmt: skip

    def elements(self) -> Iterator[str]:
        for directory in self.value("DIB_LOCAL_ELEMENTS_PATH").split(":"):
            if directory:
                yield from ("--elements-path", directory)

    def mirrors(self) -> Iterator[str]:
        if url := self.value("DIB_DISTRIBUTION_MIRROR"):
            yield from ("--mirror", url)
        if url := self.value("DIB_PYPI_MIRROR_URL"):
            self.extra_environ["PIP_INDEX_URL"] = url
        if self.host.exists(Path("/etc/ci/mirror_info.sh")):
            self.note(
                "/etc/ci/mirror_info.sh", "its mirrors are not used",
                "they are not signed; IMAGEBUILD_MIRROR and IMAGEBUILD_KEYRING name one that is",
            )  # fmt: skip

    def root_password(self) -> Iterator[str]:
        if not self.env.get("TROVE_ROOT_PASSWORD"):
            return
        yield from ("--root-password-file", ROOT_PASSWORD_FILE)
        self.note(
            "TROVE_ROOT_PASSWORD", "root has it on the console, not by ssh; it is a dev image",
            "an image with a known password must not be handed out",
        )  # fmt: skip

    def publish(self) -> Iterator[tuple[str, ...]]:
        """trovestack's order: the image, the datastore version, its parameters. Before it the
        image is looked into, in seconds: what was never verified is not published.
        """
        datastore, version = self.value("DATASTORE_TYPE"), self.value("DATASTORE_VERSION")
        if not datastore or not version:
            raise UsageError(
                "which datastore is the image for?",
                where=f"trovestack {self.verb}",
                hint="set DATASTORE_TYPE and DATASTORE_VERSION: DATASTORE_TYPE=mysql "
                "DATASTORE_VERSION=8.4",
            )
        cloud = ("--cloud", self.value("OS_CLOUD") or _CLOUD)
        self.note(
            "an image with the tag trove that is there already", "it is not used as it is",
            "what has changed is built and uploaded, the same build only once",
        )  # fmt: skip
        private = self.is_dev or bool(self.env.get("TROVE_ROOT_PASSWORD"))
        if private:
            self.note(
                "a public image", "it is private to the project of the cloud's user",
                "a dev image is not for others; Trove, an administrator, sees it",
            )  # fmt: skip
        visibility = "--private" if private else "--public"
        yield ("verify", ARTIFACT, "--level", "static")
        yield ("upload", ARTIFACT, *cloud, "--tag", "trove", visibility)
        yield (
            "datastore", "create", datastore, version, *cloud, "--image-tags", "trove",
            "--active", "--default",
        )  # fmt: skip
        rules = self.trove / "trove/templates" / datastore / "validation-rules.json"
        if self.host.exists(rules):
            yield (
                "datastore", "load-parameters", datastore, version, *cloud,
                "--file", str(rules), *self.trove_manage(),
            )  # fmt: skip

    def trove_manage(self) -> Iterator[str]:
        beside = self.trove / "bin/trove-manage"
        found = str(beside) if self.host.exists(beside) else self.host.which("trove-manage")
        if not found:
            self.note(
                "trove-manage", "the configuration parameters go over Trove's API",
                "it is not on this host; what the API cannot take is listed",
            )  # fmt: skip
            return
        directory = self.value("TROVE_CONF_DIR") or "/etc/trove"
        yield from ("--trove-manage", f"{found} --config-file={directory}/trove.conf")

    def note_ignored(self) -> None:
        for name, why in _IGNORED.items():
            if self.value(name):
                self.note(f"{name}={self.value(name)}", "not used", why)
        known = _KNOWN | _OVERWRITTEN | _IGNORED.keys()
        for name in sorted(self.env):
            if name.startswith("DIB_") and name not in known:
                self.note(name, "not used", "imagebuild's elements do not know it")


def _tagged(image: str) -> str:
    """The image's name, with the tag that docker adds where there is none and no digest."""
    is_whole = "@" in image or ":" in image.rpartition("/")[2]
    return image if is_whole else f"{image}:latest"
