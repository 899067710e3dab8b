"""What verbs that talk to services need of the process."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def connections() -> Iterator[None]:
    """A connection that its other side has closed is an error, which can be dealt with.

    Elsewhere SIGPIPE ends the tool (`imagebuild … | head`); a service that hangs up in the
    middle of an upload would do that, too, without a word and without any clearing up.
    """
    before = signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGPIPE, before)
