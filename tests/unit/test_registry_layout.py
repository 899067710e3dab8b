"""Blobs on disk: whole or not there, whoever writes at the same time."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO

import pytest

from imagebuild.errors import PreflightError
from imagebuild.registry.layout import DamagedError, Layout, StoppedError
from imagebuild.registry.manifest import Descriptor
from imagebuild.registry.reference import Reference
from tests.container_images import sha256

DATA = b"layer" * 1000
BLOB = Descriptor("x", sha256(DATA), len(DATA))
GO_ON = threading.Event()


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "layout")


def bring(layout: Layout, *blocks: bytes) -> bool:
    """Write a blob; whether there was anything to write."""
    with layout.ingest(BLOB, GO_ON) as ingest:
        for block in blocks if ingest else ():
            assert ingest
            ingest.write(block)
        return ingest is not None


def pieces(layout: Layout) -> list[Path]:
    return list((layout.root / "ingest").iterdir())


def test_blob_is_there_when_it_is_whole(layout: Layout) -> None:
    with layout.ingest(BLOB, GO_ON) as ingest:
        assert ingest
        ingest.write(DATA[:100])
        assert not layout.has(BLOB)
        ingest.write(DATA[100:])
    assert layout.is_whole(BLOB)
    assert layout.path(BLOB.digest) == layout.root / "blobs/sha256" / BLOB.digest[7:]
    assert layout.path(BLOB.digest).read_bytes() == DATA
    assert pieces(layout) == []
    assert not bring(layout), "it is there already"


def test_wrong_bytes_never_get_a_name(layout: Layout) -> None:
    with pytest.raises(DamagedError):
        bring(layout, DATA[:-1], b"!")
    assert not layout.has(BLOB)
    assert pieces(layout) == [], "they would be continued"


def test_piece_is_continued(layout: Layout) -> None:
    with pytest.raises(ZeroDivisionError), layout.ingest(BLOB, GO_ON) as ingest:  # noqa: PT012
        assert ingest
        ingest.write(DATA[:100])
        raise ZeroDivisionError
    with layout.ingest(BLOB, GO_ON) as ingest:
        assert ingest
        assert ingest.size == 100
        ingest.write(DATA[100:])
    assert layout.is_whole(BLOB)


def test_piece_that_is_too_long_is_not_used(layout: Layout) -> None:
    (layout.root / "ingest").mkdir(parents=True)
    (layout.root / "ingest" / BLOB.digest[7:]).write_bytes(DATA + DATA)
    assert bring(layout, DATA)
    assert layout.is_whole(BLOB)


def test_damaged_blob_is_noticed_and_replaced(layout: Layout) -> None:
    bring(layout, DATA)
    layout.path(BLOB.digest).write_bytes(DATA[:-1] + b"!")
    assert layout.has(BLOB)
    assert not layout.is_whole(BLOB)
    assert layout.read(BLOB.digest) is None
    assert bring(layout, DATA)
    assert layout.is_whole(BLOB)


def test_small_blobs(layout: Layout) -> None:
    assert layout.read(BLOB.digest) is None
    assert layout.write(DATA) == BLOB.digest
    assert layout.read(BLOB.digest) == DATA
    layout.path(BLOB.digest).write_bytes(b"damaged")
    layout.write(DATA)
    assert layout.read(BLOB.digest) == DATA
    assert sorted(layout.path(BLOB.digest).parent.iterdir()) == [layout.path(BLOB.digest)]


@pytest.mark.parametrize("digest", ["", "../../etc/passwd", "sha256:..", "sha256:" + "A" * 64])
def test_only_a_digest_is_a_path(layout: Layout, digest: str) -> None:
    with pytest.raises(ValueError, match="no digest"):
        layout.path(digest)


def test_of_two_threads_one_brings_the_blob(layout: Layout) -> None:
    started, brought = threading.Event(), []

    def first() -> None:
        with layout.ingest(BLOB, GO_ON) as ingest:
            assert ingest
            ingest.write(DATA[:10])
            started.set()
            time.sleep(0.2)
            ingest.write(DATA[10:])
            brought.append("first")

    thread = threading.Thread(target=first)
    thread.start()
    assert started.wait(5)
    assert not bring(layout, b"never written")
    thread.join()
    assert brought == ["first"]
    assert layout.is_whole(BLOB)


def test_piece_that_another_drops_as_we_lock_it(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between opening and locking: what we hold then has no name any more."""
    real = fcntl.flock

    def flock(file: IO[bytes], how: int) -> None:
        monkeypatch.undo()
        (layout.root / "ingest" / BLOB.digest[7:]).unlink()
        real(file, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    assert bring(layout, DATA)
    assert layout.is_whole(BLOB)


def test_waiting_ends_when_it_is_to_stop(layout: Layout) -> None:
    stop = threading.Event()
    with layout.ingest(BLOB, GO_ON) as ingest:
        threading.Timer(0.1, stop.set).start()
        with pytest.raises(StoppedError), layout.ingest(BLOB, stop):
            pass
        assert ingest
        ingest.write(DATA)


def test_who_is_killed_leaves_a_piece_and_no_lock(layout: Layout) -> None:
    script = (
        "import sys, threading, time\n"
        "from pathlib import Path\n"
        "from imagebuild.registry.layout import Layout\n"
        "from imagebuild.registry.manifest import Descriptor\n"
        f"blob = Descriptor('x', {BLOB.digest!r}, {BLOB.size})\n"
        "with Layout(Path(sys.argv[1])).ingest(blob, threading.Event()) as ingest:\n"
        "    ingest.write(b'layer' * 10)\n"
        "    ingest._file.flush()\n"
        "    print('.', flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(layout.root)], stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:  # fmt: skip
        assert process.stdout
        assert process.stdout.read(2) == b".\n"
        process.send_signal(signal.SIGKILL)
    with layout.ingest(BLOB, GO_ON) as ingest:
        assert ingest
        assert ingest.size == 50
        ingest.write(DATA[50:])
    assert layout.is_whole(BLOB)


def test_names_are_remembered_as_an_image_layout_has_them(layout: Layout) -> None:
    mysql, other = Reference.parse("mysql:8.4"), Reference.parse("quay.io/a/mysql:8.4")
    assert layout.recall(mysql) is None
    second = Descriptor("y", sha256(b"second"), 6)
    layout.remember(mysql, BLOB)
    layout.remember(other, BLOB)
    layout.remember(mysql, second)
    assert layout.recall(mysql) == second
    assert layout.recall(other) == BLOB
    index = json.loads((layout.root / "index.json").read_text())
    assert [m["digest"] for m in index["manifests"]] == [second.digest, BLOB.digest]
    version = json.loads((layout.root / "oci-layout").read_text())
    assert version == {"imageLayoutVersion": "1.0.0"}


@pytest.mark.parametrize("text", ["", "[]", '{"manifests": 3}', '{"manifests": [1, {}]}'])
def test_index_that_is_damaged_is_made_anew(layout: Layout, text: str) -> None:
    layout.root.mkdir()
    (layout.root / "index.json").write_text(text)
    mysql = Reference.parse("mysql:8.4")
    assert layout.recall(mysql) is None
    layout.remember(mysql, BLOB)
    assert layout.recall(mysql) == BLOB


def test_disk_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    layout = Layout(tmp_path / "file")
    for write in (lambda: bring(layout, DATA), lambda: layout.write(DATA)):
        with pytest.raises(PreflightError, match="cannot be written") as caught:
            write()
        assert str(tmp_path / "file") in caught.value.where


def test_a_disk_that_is_full_when_the_file_is_closed(layout: Layout) -> None:
    """Its last bytes are written then: an error like any other, not the end of the tool."""
    with pytest.raises(PreflightError) as raised:
        _stop_on_a_full_disk(layout)
    assert raised.value.detail == "No space left on device"


def _stop_on_a_full_disk(layout: Layout) -> None:
    with layout.ingest(BLOB, threading.Event()) as ingest:
        assert ingest
        full = os.open("/dev/full", os.O_RDWR)
        os.dup2(full, ingest._file.fileno())
        os.close(full)
        ingest.write(DATA)
        raise StoppedError
