"""The image file itself."""

from __future__ import annotations

from imagebuild.verify.static.question import Question

QUESTIONS: tuple[Question, ...] = ()
