"""From an open registry into one with TLS by a CA of its own and a login, as sites have it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from imagebuild.mirror.result import Outcome
from imagebuild.registry.client import Client
from imagebuild.registry.settings import RegistrySettings
from tests.container_images import image, layer, noise
from tests.mirror.mirrors import item, sync
from tests.registry_server import LOOPBACK, RegistryServer

LOGIN = ("mirror", "s3cret")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    directory = tmp_path_factory.mktemp("guarded")
    with RegistryServer(directory, tls=LOOPBACK, login=LOGIN) as server:
        yield server


def settings_of(server: RegistryServer) -> RegistrySettings:
    return RegistrySettings(server.host, ca=server.ca, username=LOGIN[0], password=LOGIN[1])


def test_copied(source: RegistryServer, guarded: RegistryServer) -> None:
    base = noise(1, 100_000)
    made = [image([base, layer({f"{n}": b"1"})]) for n in range(2)]
    for n in range(2):
        made[n].push(source, f"guarded/{n}", "1")
    items = [item(f"{source.host}/guarded/{n}:1", f"{guarded.host}/guarded/{n}:1")
             for n in range(2)]  # fmt: skip
    with Client([settings_of(guarded)], environ={}) as client:
        results = sync(client, *items)
        assert [r.outcome for r in results] == [Outcome.COPIED] * 2
        assert sum(r.bytes_mounted for r in results) == len(base)
        assert [r.outcome for r in sync(client, *items)] == [Outcome.UNCHANGED] * 2
    for n in range(2):
        url = f"https://{guarded.host}/v2/guarded/{n}/manifests/1"
        answer = requests.get(
            url, auth=LOGIN, verify=str(guarded.ca), timeout=30,
            headers={"Accept": made[n].media_type},
        )  # fmt: skip
        assert answer.content == made[n].manifest


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"password": "wrong"}, "refuses access"),
        ({"username": "", "password": ""}, "wants a login"),
        ({"ca": None}, "certificate is not trusted"),
    ],
)
def test_refused(
    source: RegistryServer, guarded: RegistryServer, change: dict[str, object], why: str,
    tmp_path: Path,
) -> None:  # fmt: skip
    image([layer({"r": b"1"})]).push(source, "refused", "1")
    settings = dataclasses.replace(settings_of(guarded), **change)  # type: ignore[arg-type]
    with Client([settings], environ={"HOME": str(tmp_path)}) as client:
        wanted = item(f"{source.host}/refused:1", f"{guarded.host}/refused:1")
        [result] = sync(client, wanted)
    assert result.outcome is Outcome.FAILED
    assert result.error
    assert why in result.error["what"]
    assert LOGIN[1] not in str(result.to_json())
