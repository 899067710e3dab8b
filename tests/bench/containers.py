"""Container images of a database's size, in a registry on loopback."""

from __future__ import annotations

import gzip
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imagebuild.host.run import run
from tests.container_images import Image, image, layer
from tests.images.standin import Standin
from tests.registry_server import RegistryServer

#: Sizes of the layers above the system's: a database's programs and files, in MiB.
SERVER_MIB = 60


def system_layer(archive: Standin, arch: str = "amd64") -> bytes:
    """A layer with a small Debian, as database images have it below (about 190 MB unpacked)."""
    tree = run(
        ["mmdebstrap", "--variant=minbase", "--mode=root", f"--arch={arch}",
         f"--keyring={archive.keyring}", "--format=tar", "jammy", "-", archive.url],
        what="cannot make the system of a container",
    ).stdout  # fmt: skip
    return gzip.compress(tree, 1, mtime=0)


def database(system: bytes, seed: int) -> Image:
    """An image of two layers; another seed is another release of the same database."""
    noise = random.Random(seed)  # noqa: S311 - content, no secret
    files = {
        # Half of it compresses, as programs do.
        f"opt/db/part-{n}": noise.randbytes(1 << 19) + bytes(1 << 19)
        for n in range(SERVER_MIB)
    }
    return image([system, layer(files)])


@contextmanager
def registry(directory: Path, archive: Standin) -> Iterator[tuple[list[str], list[str]]]:
    """A registry with a database in two releases and a backup image.

    Yields the `--preload` options of both states.
    """
    system = system_layer(archive)
    with RegistryServer(directory) as server:
        for name, seed in (("db", 1), ("db", 2), ("backup", 3)):
            database(system, seed).push(server, name, str(seed))
        states = [
            [
                "--preload", f"{server.host}/db:{seed}=docker.io/library/db:8.4",
                "--preload", f"{server.host}/backup:3=docker.io/library/backup:1",
            ]
            for seed in (1, 2)
        ]  # fmt: skip
        yield states[0], states[1]
