"""What must not stand in a report that goes to mails, comments and pages.

Commands, errors and warnings are written by others: an address may carry a login, a message a
password. What a program says may hold bytes that are no text, and those stop no report either.
"""

from __future__ import annotations

import re
from typing import Any

from imagebuild.pipeline.outcome import RunReport
from imagebuild.redaction import masked

#: An option whose value, the next word, is a secret.
_SECRET_OPTION = re.compile(r"--?[\w-]*(password|token|secret|api-key)", re.IGNORECASE)
_SURROGATE = re.compile("[\ud800-\udfff]")


def cleaned(report: RunReport) -> RunReport:
    """The report without logins, passwords, tokens and what is no UTF-8. Cleaning twice is
    cleaning once.
    """
    return RunReport.from_json(_cleaned(report.to_json()))


def clean_text(text: str) -> str:
    """A text, or a line of a log, without them."""
    if _SURROGATE.search(text):
        text = text.encode("utf-8", "backslashreplace").decode()
    return masked(text)


def _cleaned(value: Any, key: str = "") -> Any:  # noqa: ANN401 - any JSON
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, dict):
        return {clean_text(k): _cleaned(v, k) for k, v in value.items()}
    if isinstance(value, list):
        if key == "command":
            value = _without_values(value)
        return [_cleaned(v) for v in value]
    return value


def _without_values(words: list[str]) -> list[str]:
    """A command line without the words that follow an option of a secret's name."""
    return [
        "***" if before and _SECRET_OPTION.fullmatch(before) else word
        for before, word in zip(["", *words], words, strict=False)
    ]
