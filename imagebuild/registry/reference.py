"""Names of container images, as docker writes and reads them.

The grammar and the rules of the short names are those of github.com/distribution/reference
(`regexp.go`, `normalize.go`), which docker and containerd use.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass

from imagebuild.errors import ConfigError

DOCKER_IO = "docker.io"
#: Docker Hub's registry does not answer under the name that images have.
_API_HOSTS = {DOCKER_IO: "registry-1.docker.io"}
_LEGACY_DOCKER_IO = "index.docker.io"
_OFFICIAL = "library/"
#: Of the name without tag and digest (distribution's RepositoryNameTotalLengthMax).
_LONGEST_NAME = 255

_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_REGISTRY = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?")
_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Reference:
    """What an image is called: `registry` is HOST or HOST:PORT; `tag` or `digest` may be empty.

    With both, the digest is what counts, as for docker.
    """

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read a name, short or full; the tag is `latest` when neither tag nor digest is given.

        Raises ConfigError that says which part of the name is wrong.
        """
        name, at, digest = text.partition("@")
        if at and not DIGEST.fullmatch(digest):
            raise _bad(text, f"{digest!r} is no digest: sha256: and 64 hexadecimal digits")
        registry, rest = _split_registry(name)
        repository, colon, tag = rest.partition(":")
        if colon and not _TAG.fullmatch(tag):
            raise _bad(
                text, f"{tag!r} is no tag: at most 128 letters, digits, '_', '.', '-', not first"
            )
        if not _REGISTRY.fullmatch(registry):
            raise _bad(text, f"{registry!r} is no registry: HOST or HOST:PORT")
        if registry == DOCKER_IO and "/" not in repository:
            repository = _OFFICIAL + repository
        if not _REPOSITORY.fullmatch(repository):
            raise _bad(
                text,
                f"{repository!r} is no repository: small letters and digits, with '.', '_', '-' "
                "between them, and '/' between its parts",
            )
        if len(registry) + 1 + len(repository) > _LONGEST_NAME:
            raise _bad(text, f"it is longer than {_LONGEST_NAME} characters")
        if not at and re.fullmatch(r"[0-9a-f]{64}", text):
            raise _bad(text, "it looks like the id of an image, which no registry knows")
        return cls(registry, repository, tag or ("" if digest else "latest"), digest)

    @property
    def name(self) -> str:
        """Registry and repository alone."""
        return f"{self.registry}/{self.repository}"

    @property
    def api_host(self) -> str:
        """The host that is asked; another one than `registry` for Docker Hub alone."""
        return _API_HOSTS.get(self.registry, self.registry)

    @property
    def familiar(self) -> str:
        """The short name that docker shows: `mysql:8.4`; the full one where that means another."""
        short = self.name.removeprefix(f"{DOCKER_IO}/")
        if short.count("/") == 1:
            short = short.removeprefix(_OFFICIAL)
        name = short if _split_registry(short) == (DOCKER_IO, short) else self.name
        return name + self._version

    def at(self, digest: str) -> Reference:
        """The same image by another digest; the tag stays, for people to read."""
        return dataclasses.replace(self, digest=digest)

    def __str__(self) -> str:
        """The full name: `docker.io/library/mysql:8.4`."""
        return self.name + self._version

    @property
    def _version(self) -> str:
        return (self.tag and f":{self.tag}") + (self.digest and f"@{self.digest}")


def _split_registry(name: str) -> tuple[str, str]:
    """What is before the first slash when that is a host, else docker.io; and the rest."""
    first, slash, rest = name.partition("/")
    if not slash:
        return DOCKER_IO, name
    if first == _LEGACY_DOCKER_IO:
        return DOCKER_IO, rest
    # A repository has no capitals, so a word with one can only be a host.
    if first == "localhost" or "." in first or ":" in first or first != first.lower():
        return first, rest
    return DOCKER_IO, name


def _bad(text: str, detail: str) -> ConfigError:
    return ConfigError(
        "this is no name of a container image",
        where=repr(text[:300]),
        detail=detail,
        hint="write it as docker pull takes it: [HOST[:PORT]/]NAME[:TAG][@sha256:DIGEST]",
    )
