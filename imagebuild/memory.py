"""What the network said, kept for `--offline`: one small file for each answer.

    DIRECTORY/KIND-DIGEST.json     the answer to one question, and when it was learned

The name is a digest of the question, which must name everything that the answer follows
from. A file that is damaged counts as not there. No question and no answer may hold a
secret.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from imagebuild.digest import canonical, of_value
from imagebuild.files import MIB, read_limited

_T = TypeVar("_T")

#: To be raised when the form of any answer changes: older ones are forgotten.
_FORM = 1
#: Largest file that is read, in bytes; a keyring of 1 MiB in base64 has a third more.
_LARGEST = 2 * MIB


@dataclass(frozen=True)
class Fact:
    """Something that was not asked but remembered: words for it, and when it was learned
    (seconds since 1970).
    """

    what: str
    learned: int

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {"what": self.what, "learned": self.learned}


def age(fact: Fact, now: float) -> str:
    """How long ago it was learned, in words: 2 hours ago."""
    seconds = now - fact.learned
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if (number := int(seconds // size)) > 0:
            return f"{number} {unit}{'s' if number > 1 else ''} ago"
    return "a moment ago"


class Memory:
    """Asks the network and keeps what it says, or with `offline` says what it once said.

    Without a `directory` nothing is kept and nothing known. Threads may share one.
    """

    def __init__(self, directory: Path | None, *, offline: bool) -> None:
        self.offline = offline
        self._directory = directory
        self._used: set[Fact] = set()

    @property
    def used(self) -> tuple[Fact, ...]:
        """What was recalled, sorted."""
        return tuple(sorted(self._used, key=lambda fact: (fact.what, fact.learned)))

    def ask(self, kind: str, question: Any, what: str, learn: Callable[[], _T]) -> _T | None:  # noqa: ANN401 - any JSON value
        """What `learn` returns, a JSON value, which is remembered; offline what was remembered,
        or None.

        `what` are words for people. Raises what `learn` raises.
        """
        if not self.offline:
            answer = learn()
            self.remember(kind, question, answer)
            return answer
        known: _T | None = self.recall(kind, question, what)
        return known

    def remember(self, kind: str, question: Any, answer: Any) -> None:  # noqa: ANN401
        """Keep an answer in the place of an older one; where that cannot be written, do without."""
        if self._directory is None:
            return
        learned = int(time.time())
        digest = _digest(kind, question, answer, learned)
        document = {"answer": answer, "learned": learned, "sha256": digest}
        with contextlib.suppress(OSError):
            self._directory.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self._directory, prefix=".part-")
            try:
                with os.fdopen(handle, "wb") as out:
                    out.write(canonical(document))
                Path(name).chmod(0o644)
                Path(name).replace(self._directory / _name(kind, question))
            finally:
                Path(name).unlink(missing_ok=True)

    def recall(self, kind: str, question: Any, what: str) -> Any:  # noqa: ANN401
        """The answer that was remembered; None when it is not there, or not whole."""
        if self._directory is None:
            return None
        try:
            path = self._directory / _name(kind, question)
            document = json.loads(read_limited(path, _LARGEST))
            answer, learned = document["answer"], document["learned"]
            if document["sha256"] == _digest(kind, question, answer, learned):
                self._used.add(Fact(what, learned))
                return answer
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            pass  # not there, or damaged
        return None


def _name(kind: str, question: Any) -> str:  # noqa: ANN401
    return f"{kind}-{of_value([_FORM, question])}.json"


def _digest(kind: str, question: Any, answer: Any, learned: Any) -> str:  # noqa: ANN401
    return of_value([_FORM, kind, question, answer, learned])
