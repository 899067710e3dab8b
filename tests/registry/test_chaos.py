"""Many blobs through networks and registries that fail at random, in all ways at once."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from imagebuild.errors import ImagebuildError
from imagebuild.registry.client import Client
from imagebuild.registry.manifest import Descriptor
from imagebuild.registry.reference import Reference
from imagebuild.registry.settings import RegistrySettings
from tests.registry.blobs import blob_of
from tests.registry_proxy import RegistryProxy
from tests.registry_server import RegistryServer
from tests.services.proxy import (
    Action,
    Answer,
    Call,
    CutAnswer,
    CutRequest,
    Damage,
    LoseAnswer,
    Request,
    Rule,
)
from tests.token_server import SERVICE, TokenServer

_LARGEST = 2_000_000
_BLOBS = 60


def faults(chance: random.Random, tokens: TokenServer) -> Rule:
    """One request of five meets one of them."""
    challenge = f'Bearer realm="{tokens.realm}",service="{SERVICE}"'

    def choose(_: Request) -> Action | None:
        at = chance.randrange(1, _LARGEST // 4)
        actions: list[Action] = [
            Answer(429, b"", (("Retry-After", "1"),)),
            Answer(chance.choice((500, 502, 503, 504)), after=at),
            Answer(401, b"", (("WWW-Authenticate", challenge),)),
            CutRequest(at),
            CutAnswer(at),
            LoseAnswer(),
            Damage(at, request=True),
        ]
        return chance.choice(actions) if chance.random() < 0.2 else None

    return Rule("*", "", Call(choose), times=None)


@pytest.mark.full("mirror")
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_nothing_wrong_is_kept_and_nearly_all_arrives(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - no secret
    datas = [chance.randbytes(chance.randrange(_LARGEST)) for _ in range(_BLOBS)]
    with (
        TokenServer(tmp_path / "tokens", {"me": "hunter2"}) as tokens,
        RegistryServer(tmp_path / "source") as source,
        RegistryServer(tmp_path / "target", tokens=tokens) as target,
        RegistryProxy(source) as near_source,
        RegistryProxy(target) as near_target,
    ):
        for data in datas:
            source.blob("a", data)
        cut = Call(lambda _: CutAnswer(1000) if chance.random() < 0.1 else None)
        near_source.add(Rule("GET", "/blobs/", cut, times=None))
        near_target.add(faults(chance, tokens))
        settings = (
            RegistrySettings(near_source.host, plain_http=True),
            RegistrySettings(near_target.host, plain_http=True, username="me", password="hunter2"),  # noqa: S106
        )
        origin = Reference.parse(f"{near_source.host}/a:1")
        with Client(settings, first_wait=0.02) as client:

            def move(data: bytes) -> bool:
                blob: Descriptor = blob_of(data)
                where = Reference.parse(f"{near_target.host}/copies/{len(data) % 5}:1")

                def read(start: int) -> Iterator[bytes]:
                    return client.open_blob(origin, blob, start)

                try:
                    client.push_blob(where, blob, read)
                except ImagebuildError:
                    return False
                return True

            with ThreadPoolExecutor(16) as pool:
                arrived = list(pool.map(move, datas))
        assert sum(arrived) >= _BLOBS * 0.9
        for data, is_there in zip(datas, arrived, strict=True):
            kept = target.blob_file(blob_of(data).digest)
            assert kept.exists() or not is_there
            assert not kept.exists() or kept.read_bytes() == data
