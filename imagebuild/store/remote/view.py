"""What the store's remote has, for those who only look."""

from __future__ import annotations

from imagebuild.errors import ImagebuildError, Interrupted
from imagebuild.store.objects import Key
from imagebuild.store.remote.address import RemoteAddress
from imagebuild.store.remote.sharing import SHARED, client_of, remote_of, words


class RemoteView:
    """Asks for names alone; use `with`. `failure` says why it could not be asked, "" otherwise:
    then it has nothing.
    """

    def __init__(self, address: RemoteAddress) -> None:
        self._address = address
        self._client = client_of(address)
        self._remote = remote_of(address, self._client)
        self.failure = ""

    def __enter__(self) -> RemoteView:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def has(self, key: Key) -> bool:
        """Whether an object of that key seems to be there: one HEAD."""
        if self.failure or key.kind not in SHARED:
            return False
        try:
            return self._remote.has(key)
        except Interrupted:
            raise
        except ImagebuildError as exc:
            self.failure = f"the store's remote {self._address} cannot be asked: {words(exc)}"
            return False
