"""Reads artifacts: what verbs that look at a finished image begin with."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagebuild import components, inventory
from imagebuild.components import Components
from imagebuild.digest import of_file
from imagebuild.errors import ConfigError
from imagebuild.inventory import Entry

FILE_NAME = "manifest.json"
SUMS = "SHA256SUMS"
#: What `imagebuild verify` leaves beside the images (imagebuild/verify/report.py).
VERIFICATION = "verify.json"
#: The versions of manifest.json that this version of the tool reads.
SCHEMA_VERSIONS = (1,)
#: What a manifest must have at least, and of which type.
_REQUIRED: dict[str, type] = {
    "build_id": str, "name": str, "profile": dict, "stages": list, "tools": dict,
    "content": dict, "outputs": list,
}  # fmt: skip
_OUTPUT: dict[str, type] = {"file": str, "format": str, "size": int, "sha256": str}


@dataclass(frozen=True)
class Image:
    """An image file, as the manifest describes it.

    `size` is the file's in bytes, `virtual_size` the disk's that a guest sees (None: the
    manifest does not say); the file itself may be gone.
    """

    path: Path
    format: str
    size: int
    virtual_size: int | None
    sha256: str

    @property
    def allocated(self) -> int | None:
        """Bytes that the file takes on its filesystem, holes left out; None when it is gone."""
        try:
            return self.path.stat().st_blocks * 512
        except OSError:
            return None


@dataclass(frozen=True)
class Unit:
    """A systemd unit that /etc/systemd/system enables for `targets`, or masks."""

    name: str
    targets: tuple[str, ...]
    is_masked: bool = False


@dataclass(frozen=True, eq=False)
class ArtifactView:
    """An artifact, read only. Its larger files are read when they are asked for.

    Those properties raise ConfigError when the file is damaged or not there; `has` asks
    before.
    """

    directory: Path
    manifest: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The artifact's name, which its images' names begin with."""
        return str(self.manifest["name"])

    @property
    def build_id(self) -> str:
        """The digest of all that went in."""
        return str(self.manifest["build_id"])

    @property
    def content(self) -> Mapping[str, Any]:
        """The part that stands in the image, too, as /etc/imagebuild/content.json."""
        content: Mapping[str, Any] = self.manifest["content"]
        return content

    @property
    def is_dev(self) -> bool:
        """Whether the image must not be used in production."""
        return bool(self.content.get("dev"))

    @property
    def rootfs(self) -> str | None:
        """The digest of the root filesystem; artifacts of older versions have none."""
        digest = self.manifest.get("rootfs", {}).get("sha256")
        return None if digest is None else str(digest)

    def stage(self, name: str) -> Mapping[str, Any]:
        """The manifest's part of a stage; empty when it had none of that name."""
        found: Mapping[str, Any] = next(
            (s for s in self.manifest["stages"] if s.get("name") == name), {}
        )
        return found

    @property
    def images(self) -> tuple[Image, ...]:
        """The image files."""
        disk = self.stage("disk")
        # Artifacts of before the stages had parts have it in the stage itself.
        inputs = [x.get("inputs", {}) for x in (*disk.get("parts", ()), disk)]
        size = next((i["size"] for i in inputs if "size" in i), None)
        return tuple(
            Image(self.directory / o["file"], o["format"], o["size"], size, o["sha256"])
            for o in self.manifest["outputs"]
        )

    def has(self, name: str) -> bool:
        """Whether the artifact has a file of that name."""
        return (self.directory / name).is_file()

    @functools.cached_property
    def inventory(self) -> list[Entry]:
        """Every file of the root filesystem."""
        path = self.directory / inventory.FILE_NAME
        found = inventory.read(path)
        self._check_entries(path, len(found))
        return found

    @functools.cached_property
    def components(self) -> Components:
        """Its packages and accounts, and whom each entry of `inventory` belongs to."""
        path = self.directory / components.FILE_NAME
        found = components.read(path)
        if self.rootfs is not None and found.rootfs != self.rootfs:
            raise ConfigError(
                "the list of components is of another image",
                where=str(path),
                detail=f"it is of the root filesystem {found.rootfs[:12]}…, "
                f"the manifest of {self.rootfs[:12]}…",
                hint="copy artifacts as whole directories",
            )
        self._check_entries(path, len(found.owners))
        return found

    def _check_entries(self, path: Path, number: int) -> None:
        wanted = self.manifest.get("rootfs", {}).get("entries", number)
        if number != wanted:
            raise ConfigError(
                "a file of the artifact is of another image",
                where=str(path),
                detail=f"it knows {number} files, the manifest {wanted}",
                hint="copy artifacts as whole directories",
            )

    @functools.cached_property
    def timing(self) -> Mapping[str, Any]:
        """How long the stages took (timing.json)."""
        return _read_json(self.directory / "timing.json")

    @property
    def verification(self) -> Mapping[str, Any] | None:
        """What `imagebuild verify` found last (verify.json); None when it was never asked, or
        about a file that is none of these images.
        """
        path = self.directory / VERIFICATION
        if not path.is_file():
            return None
        document = _read_json(path)
        image = document.get("image")
        known = {i.sha256 for i in self.images}
        is_ours = isinstance(image, dict) and image.get("sha256") in known
        return document if is_ours else None

    def sbom(self, name: str) -> Mapping[str, Any]:
        """An SBOM's document; `name` as in imagebuild.sbom."""
        return _read_json(self.directory / name)

    @functools.cached_property
    def sums(self) -> Mapping[str, str]:
        """`{file name: sha256}` of SHA256SUMS, as sha256sum(1) writes it."""
        path = self.directory / SUMS
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, ValueError) as exc:
            raise _unreadable(path, str(exc)) from exc
        found = {}
        for line in text.splitlines():
            match = re.fullmatch(r"([0-9a-f]{64}) [ *]([^/].*)", line)
            if not match or ".." in match[2].split("/"):
                raise _unreadable(path, f"not a line of sha256sum: {line[:80]!r}")
            found[match[2]] = match[1]
        return found

    def wrong_sums(self) -> dict[str, str]:
        """What is not as SHA256SUMS says: `{file name: "differs" or "missing"}`.

        Reads every file whole.
        """
        wrong = {}
        for name, digest in self.sums.items():
            path = self.directory / name
            if not path.is_file():
                wrong[name] = "missing"
            elif of_file(path) != digest:
                wrong[name] = "differs"
        return wrong


def open_artifact(path: Path, images_dir: Path | None = None) -> ArtifactView:
    """The artifact that `path` names: its directory, its manifest, or one of its images.

    A bare name that is not there is looked for in `images_dir`, and so is an image that has
    no manifest beside it (a copy placed by `build -o`): by its digest. Links are followed.
    Raises ConfigError.
    """
    found = _find(path, images_dir)
    if found.is_dir():
        return _open(found / FILE_NAME)
    if not found.is_file():
        raise ConfigError(
            "this is no artifact",
            where=str(path),
            detail="it is neither a directory nor a regular file",
            hint="name an artifact's directory, its manifest.json or one of its images",
        )
    if found.suffix == ".json":
        return _open(found)
    return _of_image(found, images_dir)


def units(entries: Iterable[Entry]) -> list[Unit]:
    """The units that the administrator's directory enables or masks (systemctl(1)), sorted."""
    targets: dict[str, list[str]] = {}
    masked = set()
    prefix = "/etc/systemd/system/"
    for entry in entries:
        if entry.kind != "link" or not entry.path.startswith(prefix):
            continue
        target, _, name = entry.path[len(prefix) :].rpartition("/")
        if target.endswith((".wants", ".requires")):
            targets.setdefault(name, []).append(target.rpartition(".")[0])
        elif not target and entry.data == "/dev/null":
            masked.add(name)
    found = [Unit(n, tuple(sorted(t)), n in masked) for n, t in targets.items()]
    found += [Unit(n, (), True) for n in masked - set(targets)]
    return sorted(found, key=lambda u: u.name)


def _find(path: Path, images_dir: Path | None) -> Path:
    if path.exists():
        return path.resolve()
    if images_dir is not None and len(path.parts) == 1 and (images_dir / path).exists():
        return (images_dir / path).resolve()
    looked = f" or in {images_dir}" if images_dir is not None and len(path.parts) == 1 else ""
    raise ConfigError(
        "there is no such artifact",
        where=str(path),
        detail=f"nothing of that name is here{looked}",
        hint="name an artifact's directory, its manifest.json or one of its images",
    )


def _open(path: Path) -> ArtifactView:
    if not path.exists():
        raise ConfigError(
            "this is no artifact",
            where=str(path.parent),
            detail=f"it has no {FILE_NAME}",
            hint="name a directory that `imagebuild build` has made",
        )
    document = _read_json(path)
    version = document.get("schema_version")
    if version not in SCHEMA_VERSIONS:
        raise ConfigError(
            "the manifest is of a kind that this version does not know",
            where=str(path),
            detail=f"schema_version is {version!r}, known: " + ", ".join(map(str, SCHEMA_VERSIONS)),
            hint="use the version of imagebuild that made it, or a newer one",
        )
    problems = [f"{key} is missing or of a wrong type" for key in _lacking(document, _REQUIRED)]
    if not problems:
        for number, output in enumerate(document["outputs"]):
            bad = _lacking(output, _OUTPUT) if isinstance(output, dict) else list(_OUTPUT)
            problems += [f"outputs[{number}].{key} is missing or of a wrong type" for key in bad]
    if problems:
        raise ConfigError(
            "the manifest is not whole",
            where=str(path),
            detail="\n".join(problems),
            hint="build the image anew",
        )
    return ArtifactView(path.parent.resolve(), document)


def _lacking(document: Mapping[str, Any], wanted: Mapping[str, type]) -> list[str]:
    return [k for k, kind in wanted.items() if not isinstance(document.get(k), kind)]


def _of_image(image: Path, images_dir: Path | None) -> ArtifactView:
    beside = image.parent / FILE_NAME
    if beside.exists():
        view = _open(beside)
        if image.name in (i.path.name for i in view.images):
            return view
    size, digest = image.stat().st_size, ""
    manifests = images_dir.glob(f"*/{FILE_NAME}") if images_dir else iter(())
    for path in sorted(manifests):
        try:
            view = _open(path)
        except ConfigError:
            continue  # somebody else's manifest
        for known in view.images:
            if known.size == size:
                digest = digest or of_file(image)
                if known.sha256 == digest:
                    return view
    raise ConfigError(
        "no manifest describes this file",
        where=str(image),
        detail=f"none beside it, and no artifact{f' in {images_dir}' if images_dir else ''} "
        "has an image of these bytes",
        hint="name the artifact's directory, or where artifacts are with --images-dir",
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise _unreadable(path, str(exc)) from exc
    if not isinstance(document, dict):
        raise _unreadable(path, "it is no JSON object")
    return document


def _unreadable(path: Path, detail: str) -> ConfigError:
    return ConfigError(
        "cannot read a file of the artifact",
        where=str(path),
        detail=detail,
        hint="copy the artifact anew, or build the image anew",
    )
