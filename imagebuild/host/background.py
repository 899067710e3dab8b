"""Calls that run at the same time, for what waits: programs and servers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")


def start(call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
    """Start a call in a thread of its own; `result()` waits for it and raises what it raised.

    Not an executor: that would be waited for at the end, whatever happens. Who waits for a
    result hears ^C at once, and the process ends without the threads; with them end the
    programs that they run (host/run.py).
    """
    future: Future[_T] = Future()

    def work() -> None:
        try:
            future.set_result(call(*args, **kwargs))
        except BaseException as exc:  # noqa: BLE001 - raised where it is waited for
            future.set_exception(exc)

    threading.Thread(target=work, daemon=True).start()
    return future
