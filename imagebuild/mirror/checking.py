"""Whether images are in a registry whole: every manifest read, every blob asked for.

A registry answers a HEAD of a tag from a link; that what it links to is there, and below it
all children, configurations and layers, is known only to whoever asks for each of them. A
blob is asked for once per repository, however many images have it. `deep` reads the blobs,
too, each once per registry, since its repositories share them.
"""

from __future__ import annotations

import enum
import hashlib
import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from imagebuild.errors import BuildError, ConfigError, ImagebuildError
from imagebuild.mirror.source import Source
from imagebuild.mirror.trees import Parts, parts_of
from imagebuild.mirror.workers import Workers, wait_for
from imagebuild.registry.manifest import Descriptor, Manifest
from imagebuild.registry.reference import Reference

#: Questions at a time; what a single registry is asked is limited by its settings.
_AT_ONCE = 8
#: Manifests below one name, and indexes in indexes, that are looked at.
_MOST_MANIFESTS = 1000
_DEEPEST = 8


class Holder(Source, Protocol):
    """Where images are: a registry, by its client, or a layout (layoutsource.py)."""

    def has_blob(self, reference: Reference, blob: Descriptor, /) -> bool:
        """Whether the blob is there, with its size."""
        ...


class Flaw(enum.Enum):
    """What can be wrong with a part of an image."""

    NO_MANIFEST = "the manifest is not there"
    BAD_MANIFEST = "the manifest is damaged"
    NO_BLOB = "the blob is not there, or has another size"
    BAD_BLOB = "the blob is damaged"


@dataclass(frozen=True)
class Problem:
    """One part that is missing or wrong. `named_by` is the digest of the manifest that names
    it, "" for the image itself; `said` is what the registry, or its bytes, say.
    """

    flaw: Flaw
    part: Descriptor
    named_by: str = ""
    said: str = ""

    def __str__(self) -> str:
        words = f"{self.part.digest} ({self.part.media_type}): {self.flaw.value}"
        return f"{words}: {self.said}" if self.said else words

    def to_json(self) -> dict[str, Any]:
        """Shape used by `--json`."""
        return {
            "problem": self.flaw.name.lower().replace("_", "-"),
            "digest": self.part.digest,
            "media_type": self.part.media_type,
            "size": self.part.size,
            "named_by": self.named_by,
            "text": str(self),
        }


@dataclass(frozen=True)
class Walk:
    """What was found of one image. `digest` is "" when there is no such tag.

    `manifests` are digests, the image's own first; `blobs` and `size` (bytes) are of unique
    blobs. `error`: the registry could not be asked, and nothing is known.
    """

    reference: Reference
    digest: str = ""
    problems: tuple[Problem, ...] = ()
    manifests: tuple[str, ...] = ()
    blobs: int = 0
    size: int = 0
    error: ImagebuildError | None = None

    @property
    def ok(self) -> bool:
        """Whether the image is there, all of it."""
        return bool(self.digest) and not self.problems and not self.error

    @property
    def problem(self) -> str:
        """The first problem and how many there are, for one line; "" when there is none."""
        if not self.problems:
            return ""
        more = len(self.problems) - 1
        return f"{self.problems[0]}" + (f", and {more} more" if more else "")

    def to_json(self) -> dict[str, Any]:
        """Shape used by `--json`."""
        return {
            "image": str(self.reference),
            "ok": self.ok,
            "digest": self.digest,
            "manifests": len(self.manifests),
            "blobs": self.blobs,
            "size": self.size,
            "problems": [p.to_json() for p in self.problems],
            "error": self.error.to_json() if self.error else None,
        }


#: Told how many blobs, and bytes of them where they are read, have been looked at, and in all.
Progress = Callable[[int, int, int, int], None]


@dataclass
class _Found:
    """An image while it is looked at."""

    reference: Reference
    root: Descriptor | None = None
    problems: list[Problem] = field(default_factory=list)
    manifests: dict[str, None] = field(default_factory=dict)
    #: By digest, with the digest of the first manifest that names it.
    blobs: dict[str, tuple[Descriptor, str]] = field(default_factory=dict)
    error: ImagebuildError | None = None


class Checker:
    """Looks at images; what was asked for one of them is known for the next.

    May not be used by several threads at once. Close it, or use `with`.
    """

    def __init__(self, client: Holder, *, deep: bool = False) -> None:
        self._client = client
        self._deep = deep
        self._stop = threading.Event()
        self._workers = Workers(_AT_ONCE, self._stop)
        self._manifests: dict[tuple[str, str], tuple[Manifest, Parts] | Problem] = {}
        #: What is wrong with a blob; "" where nothing is.
        self._blobs: dict[tuple[str, str], tuple[Flaw, str] | None] = {}
        self._read: dict[tuple[str, str], tuple[Flaw, str] | None] = {}

    def __enter__(self) -> Checker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the threads after what they are doing."""
        self._stop.set()

    def check(self, reference: Reference) -> Walk:
        """Look at one image. Raises what the client raises when the registry cannot be asked."""
        walk = self.check_all([reference])[0]
        if walk.error:
            raise walk.error
        return walk

    def check_all(
        self, references: Iterable[Reference], progress: Progress | None = None
    ) -> tuple[Walk, ...]:
        """Look at images, in their order. `progress` is told in the caller's thread."""
        found = self._workers.map(self._look, list(dict.fromkeys(references)))
        wanted: dict[tuple[str, str], tuple[Reference, Descriptor]] = {}
        for image in found:
            for blob, _ in image.blobs.values():
                key = (image.reference.name, blob.digest)
                if key not in self._blobs:
                    wanted.setdefault(key, (image.reference, blob))
        errors = self._ask(list(wanted.values()), progress)
        for image in found:
            for blob, named_by in image.blobs.values():
                key = (image.reference.name, blob.digest)
                image.error = image.error or errors.get(key)
                if wrong := self._blobs.get(key):
                    image.problems.append(Problem(wrong[0], blob, named_by, wrong[1]))
        walks = {image.reference: _walk(image) for image in found}
        return tuple(walks[r] for r in references)

    def _look(self, reference: Reference) -> _Found:
        """The manifests of an image."""
        found = _Found(reference)
        try:
            found.root = self._client.head_manifest(reference)
            if found.root:
                self._descend(found, found.root, "", _DEEPEST)
        except ImagebuildError as exc:
            found.error = exc
        return found

    def _descend(self, found: _Found, wanted: Descriptor, named_by: str, depth: int) -> None:
        if wanted.digest in found.manifests:
            return
        found.manifests[wanted.digest] = None
        manifest = self._manifest(found.reference, wanted, named_by)
        if isinstance(manifest, Problem):
            found.problems.append(manifest)
            return
        parts = manifest[1]
        for blob in parts.blobs:
            found.blobs.setdefault(blob.digest, (blob, wanted.digest))
        if parts.children and (not depth or len(found.manifests) > _MOST_MANIFESTS):
            raise ConfigError(
                "the image has more manifests than any real one", where=str(found.reference)
            )
        for child in parts.children:
            self._descend(found, child, wanted.digest, depth - 1)

    def _manifest(
        self, reference: Reference, wanted: Descriptor, named_by: str
    ) -> tuple[Manifest, Parts] | Problem:
        key = (reference.name, wanted.digest)
        if key not in self._manifests:
            self._manifests[key] = self._get(reference.at(wanted.digest), wanted, named_by)
        known = self._manifests[key]
        if isinstance(known, Problem):
            return Problem(known.flaw, known.part, named_by, known.said)
        size = len(known[0].data)
        if size != wanted.size:
            said = f"it has {size} bytes, and {wanted.size} are promised"
            return Problem(Flaw.BAD_MANIFEST, wanted, named_by, said)
        return known

    def _get(
        self, reference: Reference, wanted: Descriptor, named_by: str
    ) -> tuple[Manifest, Parts] | Problem:
        try:
            manifest = self._client.get_manifest(reference)
        except BuildError as exc:
            return Problem(Flaw.BAD_MANIFEST, wanted, named_by, exc.detail or exc.what)
        except ConfigError as exc:
            # Not there, or not the form of one: a HEAD tells.
            if self._client.head_manifest(reference) is None:
                return Problem(Flaw.NO_MANIFEST, wanted, named_by)
            return Problem(Flaw.BAD_MANIFEST, wanted, named_by, exc.detail or exc.what)
        try:
            return manifest, parts_of(manifest, str(reference))
        except ConfigError as exc:
            return Problem(Flaw.BAD_MANIFEST, wanted, named_by, exc.detail or exc.what)

    def _ask(
        self, wanted: Sequence[tuple[Reference, Descriptor]], progress: Progress | None
    ) -> dict[tuple[str, str], ImagebuildError]:
        """Ask for blobs; what is wrong with them goes to `_blobs`. Returns what could not be
        asked, and why.
        """
        errors: dict[tuple[str, str], ImagebuildError] = {}
        news: queue.SimpleQueue[int | tuple[str, str]] = queue.SimpleQueue()
        #: Of each registry's blob, where it is read: the first repository that has it.
        first: dict[tuple[str, str], tuple[str, str]] = {}

        def one(reference: Reference, blob: Descriptor) -> None:
            key, shared = (reference.name, blob.digest), (reference.registry, blob.digest)
            try:
                wrong = None if self._client.has_blob(reference, blob) else (Flaw.NO_BLOB, "")
                if self._deep and not wrong and first.setdefault(shared, key) == key:
                    wrong = self._read[shared] = self._read_blob(reference, blob, news.put)
                self._blobs[key] = wrong
            except BuildError as exc:
                self._blobs[key] = (Flaw.BAD_BLOB, exc.detail or exc.what)
            except ImagebuildError as exc:
                errors[key] = exc
            except Exception as exc:  # noqa: BLE001 - the thread must go on; whoever waits is told
                errors[key] = BuildError(
                    "a blob cannot be asked for", where="@".join(key), detail=repr(exc)
                )
            news.put(key)

        for reference, blob in wanted:
            self._workers.put(lambda r=reference, b=blob: one(r, b), blob.size)  # type: ignore[misc]
        done = read = 0
        total = sum({(r.registry, b.digest): b.size for r, b in wanted}.values())
        while done < len(wanted):
            told = wait_for(news, self._stop)
            if isinstance(told, int):
                read += told
            else:
                done += 1
            if progress:
                progress(done, len(wanted), read, total if self._deep else 0)
        if self._deep:
            for reference, blob in wanted:
                # What was read in one repository is the same in the others.
                key = (reference.name, blob.digest)
                shared = (reference.registry, blob.digest)
                if key in self._blobs and self._blobs[key] is None:
                    self._blobs[key] = self._read.get(shared)
        return errors

    def _read_blob(
        self, reference: Reference, blob: Descriptor, told: Callable[[int], None]
    ) -> tuple[Flaw, str] | None:
        sha256 = hashlib.sha256()
        for block in self._client.open_blob(reference, blob):
            sha256.update(block)
            told(len(block))
            if self._stop.is_set():
                break
        digest = f"sha256:{sha256.hexdigest()}"
        return None if digest == blob.digest else (Flaw.BAD_BLOB, f"its bytes are {digest}")


def check_images(
    client: Holder,
    references: Iterable[Reference],
    *,
    deep: bool = False,
    progress: Progress | None = None,
) -> tuple[Walk, ...]:
    """Look at images, in their order; `deep` reads their blobs, too."""
    with Checker(client, deep=deep) as checker:
        return checker.check_all(list(references), progress)


def _walk(found: _Found) -> Walk:
    blobs = [blob for blob, _ in found.blobs.values()]
    return Walk(
        found.reference,
        found.root.digest if found.root else "",
        tuple(found.problems),
        tuple(found.manifests),
        len(blobs),
        sum(b.size for b in blobs),
        found.error,
    )
