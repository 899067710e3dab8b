"""Distribution files by hash: found on the indexes once, kept in a cache, checked on use.

    cache/files/SHA256/FILENAME   the file
    cache/picks/KEY.json          which file serves a pin on a Python and architecture

A pick follows from the pin's hashes, the Python and the architecture, so it never grows
stale; with it and the file, nothing is asked of the network.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from imagebuild.agent.locks import Pin
from imagebuild.digest import of_file, of_value
from imagebuild.errors import BuildError, PreflightError

if TYPE_CHECKING:
    from imagebuild.agent.index import Index, IndexFile

_THREADS = 4


@dataclass(frozen=True)
class DistFile:
    """A wheel or sdist in the cache, its hash checked."""

    name: str
    version: str
    path: Path
    sha256: str

    @property
    def is_wheel(self) -> bool:
        """Whether it can be installed without being built."""
        return self.path.name.endswith(".whl")


class FileCache:
    """Fetches the files of pins. `python` and `arch` are the guest's."""

    def __init__(
        self, cache: Path, python: str, arch: str, *, env: Mapping[str, str], offline: bool
    ) -> None:
        self._cache = cache
        self._python = python
        self._arch = arch
        self._offline = offline
        self._index: Index | None = None
        if not offline:
            from imagebuild.agent.index import Index

            self._index = Index(env)
        for part in ("files", "picks"):
            (cache / part).mkdir(parents=True, exist_ok=True)

    def fetch(self, pins: Collection[Pin], *, sdists: Collection[str] = ()) -> list[DistFile]:
        """One file for each pin, in the pins' order: the best wheel, else the sdist.

        Only the packages in `sdists` may come as an sdist: where the lock knows of a
        wheel, an index that has none must not make us compile silently. Raises BuildError
        when the index has nothing that the lock allows, PreflightError when offline and
        the cache lacks files, and as `Index` does.
        """
        if self._offline:
            missing = [p for p in pins if self._kept(p) is None]
            if missing:
                raise PreflightError(
                    f"{len(missing)} of {len(pins)} packages of the agent are not in the cache",
                    where=str(self._cache),
                    detail=", ".join(f"{p.name}=={p.version}" for p in missing),
                    hint="run the same command once without --offline",
                )
        with ThreadPoolExecutor(_THREADS) as pool:
            try:
                found = list(pool.map(self._fetch_one, pins))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        for file in found:
            if not file.is_wheel and file.name not in sdists:
                raise BuildError(
                    f"the index offers no wheel of {file.name} {file.version}, "
                    "of which the lock knows one",
                    where=f"Python {self._python}, {self._arch}",
                    hint="use an index that has the project's wheels (PIP_INDEX_URL)",
                )
        return found

    def close(self) -> None:
        """End the connections to the indexes."""
        if self._index:
            self._index.close()

    def _fetch_one(self, pin: Pin) -> DistFile:
        kept = self._kept(pin)
        if kept:
            return kept
        if self._index is None:
            # It was there a moment ago, when fetch() looked.
            raise PreflightError(f"the cache lost {pin.name} {pin.version}", where=str(self._cache))
        offered = self._index.files(pin.name, pin.version, self._python, self._arch)
        for candidate in offered:
            # An index need not tell hashes; then only the content can.
            if candidate.sha256 is None or candidate.sha256 in pin.hashes:
                file = self._download(pin, candidate)
                if file:
                    self._remember(pin, file)
                    return file
        raise BuildError(
            f"the index has no file of {pin.name} {pin.version} that the lock allows",
            where=", ".join(self._index.settings.index_urls),
            detail="\n".join(
                f"{f.filename} sha256:{f.sha256 or 'of its content is not in the lock'}"
                for f in offered
            )
            or f"it offers none for Python {self._python} on {self._arch}",
            hint="the index serves other files than PyPI did when the lock was made",
        )

    def _download(self, pin: Pin, candidate: IndexFile) -> DistFile | None:
        """Fetch a file into the cache; None when its content is not in the lock."""
        if self._index is None:
            raise AssertionError("offline")
        handle, name = tempfile.mkstemp(dir=self._cache / "files", prefix=".part-")
        os.close(handle)
        part = Path(name)
        try:
            self._index.download(candidate, part)
            sha256 = of_file(part)
            if sha256 not in pin.hashes:
                if candidate.sha256 is None:
                    return None
                raise BuildError(
                    f"{candidate.filename} is not the file that the lock names",
                    where=candidate.url,
                    detail=f"sha256 is {sha256}, the index says {candidate.sha256}",
                    hint="the download was tampered with or cut; try again",
                )
            path = self._cache / "files" / sha256 / candidate.filename
            path.parent.mkdir(exist_ok=True)
            part.chmod(0o644)
            part.rename(path)
        finally:
            part.unlink(missing_ok=True)
        return DistFile(pin.name, pin.version, path, sha256)

    def _pick_path(self, pin: Pin) -> Path:
        key = of_value([pin.name, sorted(pin.hashes), self._python, self._arch])
        return self._cache / "picks" / f"{key}.json"

    def _remember(self, pin: Pin, file: DistFile) -> None:
        handle, name = tempfile.mkstemp(dir=self._cache / "picks")
        with os.fdopen(handle, "w") as out:
            json.dump({"filename": file.path.name, "sha256": file.sha256}, out)
        Path(name).rename(self._pick_path(pin))

    def _kept(self, pin: Pin) -> DistFile | None:
        """The file that the cache has for a pin, if it has it whole."""
        try:
            pick = json.loads(self._pick_path(pin).read_text())
            sha256 = str(pick["sha256"])
            path = self._cache / "files" / sha256 / Path(str(pick["filename"])).name
            if sha256 in pin.hashes and of_file(path) == sha256:
                return DistFile(pin.name, pin.version, path, sha256)
            path.unlink(missing_ok=True)
        except (OSError, ValueError, KeyError, TypeError):
            pass  # not there, or cut short by a crash: it is fetched again
        return None
