"""A process to be killed: it pushes an object, or pulls it, as a build does.

python -m tests.pipeline.remote_program push|pull URL STORE SCRATCH
"""

from __future__ import annotations

import sys
from pathlib import Path

from imagebuild.store.remote.address import RemoteAddress
from imagebuild.store.remote.sharing import Sharing
from imagebuild.store.store import Store
from tests.pipeline.remotes import KEY, fetched


def main(what: str, url: str, store: Store, scratch: Path) -> None:
    """Say `ready` before the work, and `done` after it."""
    sharing = Sharing(RemoteAddress.parse(url), scratch, lambda event: print(event, flush=True))
    print("ready", flush=True)
    if what == "pull":
        assert fetched(sharing, store)
    else:
        found = store.look(KEY)
        assert found
        with store.hold(KEY):
            sharing.offer(found)
            sharing.finish()
    sharing.close()
    print("done", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Store(Path(sys.argv[3])), Path(sys.argv[4]))
