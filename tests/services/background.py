"""The cloud of a test session: made in the background of the tests that do without."""

from __future__ import annotations

import shutil
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from tests.services.cloud import TestCloud, new_cloud


class Background:
    """Starts the cloud in a thread of its own; asking for it waits for it."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="imagebuild-services-", dir="/var/tmp"))
        # The thread must last as long as the services: they end with it.
        self._pool = ThreadPoolExecutor(max_workers=1)
        self._future: Future[TestCloud] = self._pool.submit(new_cloud, self.directory)

    def cloud(self) -> TestCloud:
        """The cloud; raises what kept it from coming up."""
        return self._future.result()

    def close(self, *, keep: bool = False) -> None:
        """End the services, and remove what they had unless it is to be kept."""
        if not self._future.cancel() and not self._future.exception():
            self.cloud().close()
        self._pool.shutdown()
        if not keep:
            shutil.rmtree(self.directory, ignore_errors=True)
