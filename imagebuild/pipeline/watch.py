"""Who is told of a run while it goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ParamSpec

from imagebuild.errors import Interrupted
from imagebuild.pipeline.cells import Phase
from imagebuild.pipeline.outcome import PhaseReport

_P = ParamSpec("_P")


@dataclass(frozen=True)
class Watch:
    """Who is told, by several threads: at the start of a phase (cell's id, phase, target), with
    each line that it says (cell's id, phase, line), at its end, and when it is tried again
    (cell's id, phase, a sentence).
    """

    started: Callable[[str, Phase, str], None]
    line: Callable[[str, Phase, str], None]
    ended: Callable[[str, PhaseReport], None]
    again: Callable[[str, Phase, str], None] = lambda _cell, _phase, _text: None

    def guarded(self) -> Watch:
        """One that never raises: a terminal that is gone is no reason to stop."""
        return Watch(
            _quiet(self.started), _quiet(self.line), _quiet(self.ended), _quiet(self.again)
        )


def _quiet(call: Callable[_P, None]) -> Callable[_P, None]:
    def quiet(*args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            call(*args, **kwargs)
        except Interrupted:
            raise
        # rich ends the program (SystemExit) when nobody reads any more what it prints.
        except (Exception, SystemExit):  # noqa: BLE001, S110 - whatever it is
            pass

    return quiet
