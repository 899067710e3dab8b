"""Runs in the environment of tests/services: files as oslo.config's own parser reads them.

In: [TEXT]. Out: for each its [[GROUP, NAME, VALUE]], or the line of the first mistake.
"""

import json
import sys

from oslo_config import iniparser  # type: ignore[import-not-found]


class Parser(iniparser.BaseParser):  # type: ignore[misc]
    """Keeps what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[list[str]] = []
        self.group = ""

    def assignment(self, key: str, value: list[str]) -> None:
        self.found.append([self.group, key, "\n".join(value)])

    def new_section(self, section: str) -> None:
        self.group = section


answers: list[object] = []
for text in json.load(sys.stdin):
    parser = Parser()
    try:
        parser.parse(text.split("\n"))
        answers.append(parser.found)
    except iniparser.ParseError as error:
        answers.append(error.lineno)
json.dump(answers, sys.stdout)
