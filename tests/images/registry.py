"""A private registry on loopback: TLS by a CA of its own, a login, and one small image in it."""

from __future__ import annotations

from pathlib import Path

from tests import container_images
from tests.registry_server import RegistryServer

USER = "trove-guest"
#: A canary, too: it must be in the guest's docker configuration and nowhere else.
PASSWORD = "canary-registry-Zq9"  # noqa: S105 - of a registry that lives for a test
#: As the guest sees it (see `forwards` of the boot harness).
HOST = "10.0.2.100:5000"
IMAGE = f"{HOST}/trove-datastores/tiny:8.4"


class Registry(RegistryServer):
    """It answers on loopback; its certificate is good for the guest's address, too."""

    def __init__(self, directory: Path) -> None:
        names = f"IP:127.0.0.1,IP:{HOST.split(':')[0]}"
        super().__init__(directory, tls=names, login=(USER, PASSWORD))
        tiny = container_images.image([container_images.layer({"hello": b"hello"})])
        tiny.push(self, "trove-datastores/tiny", "8.4")
