"""Registries that fail for everybody: the first failure is told, the others do not wait for it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from imagebuild.errors import ExitCode, ImagebuildError, PreflightError, TemporaryError
from imagebuild.mirror.problems import GivenUpError
from imagebuild.registry.credentials import NoLoginError

#: A login may be for some repositories alone; one that is wrong is not to be tried until the
#: registry locks its owner out.
_REFUSALS = 3


class Registries:
    """Which registries of a run are not asked any more, and why."""

    def __init__(self) -> None:
        self._failed: dict[str, ImagebuildError] = {}
        #: How often a registry that has never let us in has refused to.
        self._refusals: Counter[str] = Counter()
        self._open: set[str] = set()
        #: Errors that a registry has been found for.
        self._blamed: list[ImagebuildError] = []
        self._lock = threading.Lock()

    @contextmanager
    def asked(self, registry: str) -> Iterator[None]:
        """Around requests to a registry. Raises GivenUpError in place of making them.

        Where one such block is in another, an error is that of the inner one's registry.
        """
        with self._lock:
            failed = self._failed.get(registry)
        if failed:
            error = GivenUpError(
                "not tried: the registry has been given up",
                where=registry,
                detail="\n".join(filter(None, (failed.what, failed.detail))),
                hint=failed.hint,
            )
            if failed.exit_code is ExitCode.TEMPORARY:
                error.exit_code = ExitCode.TEMPORARY  # as for the one that it was given up for
            raise error
        try:
            yield
            self._open.add(registry)
        except (PreflightError, TemporaryError) as exc:
            with self._lock:
                if not any(exc is e for e in self._blamed):
                    self._blamed.append(exc)
                    self._blame(registry, exc)
            raise

    def _blame(self, registry: str, exc: ImagebuildError) -> None:
        is_login = isinstance(exc, PreflightError) and not isinstance(exc, NoLoginError)
        if is_login and registry not in self._open:
            self._refusals[registry] += 1
        if concerns_all(exc) or self._refusals[registry] == _REFUSALS:
            self._failed[registry] = exc


def concerns_all(error: ImagebuildError) -> bool:
    """Whether whoever asks this registry next will hear the same.

    The client's errors name a server (a URL) where it is the server that fails: not reached,
    not trusted, no token for our login, too many requests; and an image or blob where it is
    that which it does not give. A server's error (5xx) may be one of a single blob.
    """
    is_server = error.where.startswith(("http://", "https://"))
    return is_server and error.what != "the registry fails"
