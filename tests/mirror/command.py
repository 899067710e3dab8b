"""`imagebuild mirror` as tests call it: a list, two registries, and what came of it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.cli.fuzz import Ended, invoke
from tests.container_images import Image, image, layer
from tests.mirror.mirrors import digest_of
from tests.registry_server import RegistryServer


def fresh(size: int = 400) -> Image:
    """An image that nobody has."""
    return image([layer({"file": os.urandom(size)})])


@dataclass
class Mirror:
    """A directory with lists, and repositories of one test in both registries."""

    directory: Path
    source: RegistryServer
    target: RegistryServer
    name: str
    #: Registries as lists name them; a proxy may stand in for one.
    hosts: dict[str, str] = field(default_factory=dict)

    @property
    def source_host(self) -> str:
        return self.hosts.get("source", self.source.host)

    @property
    def target_host(self) -> str:
        return self.hosts.get("target", self.target.host)

    def push(self, repository: str, *tags: str, made: Image | None = None) -> Image:
        """An image in the source."""
        made = made or fresh()
        made.push(self.source, f"{self.name}/{repository}", *tags)
        return made

    def image(self, repository: str, rest: str) -> str:
        """An entry of `images`."""
        return f"  - {{source: {self.source_host}/{self.name}/{repository}, {rest}}}\n"

    def write(self, *images: str, more: str = "", file: str = "mirror.yaml") -> Path:
        """A list with these entries."""
        text = f"target: {{registry: '{self.target_host}', prefix: {self.name}}}\n{more}images:\n"
        path = self.directory / file
        path.write_text(text + "".join(images))
        return path

    def run(self, verb: str, *args: object, code: int = 0) -> Ended:
        """The verb with the list mirror.yaml."""
        ended = invoke(["mirror", verb, str(self.directory / "mirror.yaml"), *map(str, args)])
        assert ended.code == code, ended
        assert "Traceback" not in ended.err
        return ended

    def json(self, verb: str, *args: object, code: int = 0) -> Any:  # noqa: ANN401
        document = self.run(verb, *args, "--json", code=code).document
        assert document["schema_version"] == 1
        assert document["list"] == str(self.directory / "mirror.yaml")
        return document

    def digest(self, repository: str, tag: str) -> str:
        """What a tag of the target stands for; "" when it is not there."""
        return digest_of(self.target.host, f"{self.name}/{repository}", tag)


def by_tag(document: Any, key: str) -> dict[str, Any]:  # noqa: ANN401
    """Of each result its `key`, by repository and tag of the target."""
    return {r["target"].rpartition("/")[2]: r[key] for r in document["results"]}


_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_LABEL = r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"'
_SAMPLE = re.compile(rf"({_NAME})\{{({_LABEL}(?:,{_LABEL})*)\}} (\S+)")


def samples(text: str) -> Callable[..., float | None]:
    """Read Prometheus's text format strictly; gives a look-up by name and some labels.

    As promtool has it: HELP and TYPE before the samples of a name, all of these together,
    none twice, a unit at the end of the name, and a line's end at the end of the file.
    """
    assert text.endswith("\n")
    found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    typed: list[str] = []
    helped: list[str] = []
    for line in text.splitlines():
        if line.startswith("# HELP "):
            helped.append(line.split(" ", 3)[2])
            assert line.split(" ", 3)[3].endswith(".")
            continue
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert kind == "gauge"
            assert helped[-1] == name
            assert name not in typed
            typed.append(name)
            continue
        match = _SAMPLE.fullmatch(line)
        assert match, line
        assert match[1] == typed[-1]
        labels = dict(re.findall(_LABEL, match[2]))
        key = (match[1], frozenset(labels.items()))
        assert key not in found, line
        found[key] = float(match[match.lastindex or 0])
    assert set(typed) == {name for name, _ in found}

    def look_up(name: str, **labels: str) -> float | None:
        values = [
            v for (n, have), v in found.items()
            if n == f"imagebuild_mirror_{name}" and set(labels.items()) <= have
        ]  # fmt: skip
        assert len(values) < 2, name
        return values[0] if values else None

    return look_up


def outcomes(document: Mapping[str, Any]) -> dict[str, int]:
    """Outcomes of a sync that any image has."""
    return {name: n for name, n in document["totals"]["outcomes"].items() if n}
