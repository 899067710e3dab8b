"""`mirror export`, `import` and `prune` as people call them; killed at any point, too."""

from __future__ import annotations

import base64
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from imagebuild.mirror.carrying import Destination
from imagebuild.mirror.importing import opened
from imagebuild.mirror.lockfile import Lock, read_lock, write_lock
from tests.mirror.airgap import client, whole_index
from tests.registry_proxy import BLOBS, RegistryProxy
from tests.registry_server import LOOPBACK, RegistryServer

ROOT = Path(__file__).resolve().parents[2]
#: Bytes a second of one download.
RATE = 400_000


def _imagebuild(
    *words: str | Path, environ: Mapping[str, str] | None = None
) -> tuple[int, Any, str]:
    """Exit code, the JSON on stdout (None without), and what people see."""
    done = subprocess.run(
        [sys.executable, "-m", "imagebuild", "mirror", *map(str, words)],
        cwd=ROOT, capture_output=True, text=True, env=_environ() | dict(environ or {}),
    )  # fmt: skip
    return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr


def _environ() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith("IMAGEBUILD_")}


def _list(path: Path, source: str, target: str, *images: dict[str, object]) -> Path:
    host, _, prefix = target.partition("/")
    document = {
        "target": {"registry": host, "prefix": prefix},
        "images": [i | {"source": f"{source}/{i['source']}"} for i in images],
    }
    path.write_text(json.dumps(document))
    return path


@pytest.fixture(scope="module")
def deleting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    """A target that deletes."""
    with RegistryServer(tmp_path_factory.mktemp("deleting"), deletes=True) as server:
        yield server


def test_the_way_of_a_list(
    source: RegistryServer, deleting: RegistryServer, tmp_path: Path
) -> None:
    """Exported, imported, found by the list at the other site, and pruned."""
    made = {tag: whole_index(f"way {tag}") for tag in ("1", "2")}
    for tag, one in made.items():
        one.push(source, "way", tag)
    listed = _list(
        tmp_path / "list.yaml", source.host, f"{deleting.host}/site",
        {"source": "way", "tags": ["1", "2"], "aliases": {"2": ["2.0"]}},
    )  # fmt: skip
    tar, lock = tmp_path / "way.tar", tmp_path / "list.lock.yaml"
    code, plan, _ = _imagebuild("export", listed, "-o", tar, "--dry-run", "--json")
    assert (code, plan["images"]) == (0, 2)
    assert [i["action"] for i in plan["results"]] == ["copy"] * 2
    assert plan["results"][0]["bytes_to_fetch"] > 2000
    assert not tar.exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["list.yaml"]

    code, told, words = _imagebuild("export", listed, "-o", tar, "--json")
    assert (code, told["schema_version"], told["images"]) == (0, 1, 2)
    assert told["size"] < tar.stat().st_size < told["size"] + 40_000
    assert f"{tar}: 2 images" in words

    code, told, words = _imagebuild("import", tar, "--dry-run", "--json")
    assert code == 0
    assert all(i["ok"] for i in told["images"])
    code, told, _ = _imagebuild("import", tar, "--lock", lock, "--json")
    assert (code, [r["outcome"] for r in told["results"]]) == (0, ["copied"] * 2)
    assert set(read_lock(lock).tags) == {f"{deleting.host}/site/way:{t}" for t in ("1", "2", "2.0")}

    code, told, _ = _imagebuild("check", listed, "--json")
    assert code == 0, told

    shorter = _list(listed, source.host, f"{deleting.host}/site", {"source": "way", "tags": ["1"]})
    code, told, words = _imagebuild("prune", shorter, "--json")
    assert (code, told["dry_run"], told["removed"]) == (0, True, [])
    assert {t["image"].rpartition(":")[2]: t["fate"] for t in told["tags"]} == {
        "1": "keep", "2": "remove", "2.0": "remove",
    }  # fmt: skip
    assert "--apply wants --cloud" in words
    code, _, words = _imagebuild("prune", shorter, "--apply")
    assert code == 2
    assert "which images Trove's guests need" in words
    code, told, words = _imagebuild("prune", shorter, "--apply", "--ignore-datastores", "--json")
    assert (code, len(told["removed"]), told["manifests_deleted"]) == (0, 2, 4)
    assert "garbage-collect" in words
    assert set(read_lock(lock).tags) == {f"{deleting.host}/site/way:1"}
    code, told, _ = _imagebuild("check", shorter, "--json")
    assert code == 0, told


def test_a_registry_with_a_ca_and_a_login(source: RegistryServer, tmp_path: Path) -> None:
    whole_index("guarded").push(source, "guarded", "1")
    with RegistryServer(tmp_path / "guarded", tls=LOOPBACK, login=("user", "secret")) as guarded:
        listed = _list(
            tmp_path / "list.yaml", source.host, guarded.host,
            {"source": "guarded", "tags": ["1"]},
        )  # fmt: skip
        assert _imagebuild("export", listed, "-o", tmp_path / "export")[0] == 0
        code, _, words = _imagebuild("import", tmp_path / "export")
        assert (code, "certificate is not trusted" in words) == (6, True), words
        code, _, words = _imagebuild("import", tmp_path / "export", "--ca", guarded.ca)
        assert (code, "wants a login" in words) == (6, True), words
        auth = base64.b64encode(b"user:secret").decode()
        (tmp_path / "config.json").write_text(json.dumps({"auths": {guarded.host: {"auth": auth}}}))
        code, told, words = _imagebuild(
            "import", tmp_path / "export", "--ca", guarded.ca, "--json",
            environ={"DOCKER_CONFIG": str(tmp_path)},
        )  # fmt: skip
        assert (code, told["results"][0]["outcome"]) == (0, "copied"), words


def test_versions_keep_their_images(
    source: RegistryServer, deleting: RegistryServer, tmp_path: Path
) -> None:
    one, two = whole_index("versions 8.4"), whole_index("versions 5.7")
    one.push(deleting, "mysql", "8.4")
    two.push(deleting, "mysql", "5.7")
    one.push(source, "mysql", "9.0")
    listed = _list(
        tmp_path / "list.yaml", source.host, deleting.host,
        {"source": "mysql", "tags": ["9.0"], "datastore": "mysql"},
    )  # fmt: skip
    tags = {f"{deleting.host}/mysql:8.4": one.digest, f"{deleting.host}/mysql:5.7": two.digest}
    write_lock(tmp_path / "list.lock.yaml", Lock(tags=tags))
    code, told, _ = _imagebuild("prune", listed, "--datastore", "mysql:8.4", "--apply", "--json")
    assert code == 0
    assert [t.rpartition(":")[2] for t in told["removed"]] == ["5.7"]


def test_partly_is_6(source: RegistryServer, target: RegistryServer, tmp_path: Path) -> None:
    whole_index("partly").push(source, "partly", "1")
    listed = _list(
        tmp_path / "list.yaml", source.host, target.host,
        {"source": "partly", "tags": ["1", "none"]},
    )  # fmt: skip
    code, plan, _ = _imagebuild("export", listed, "-o", tmp_path / "x.tar", "--dry-run", "--json")
    assert (code, [i["action"] for i in plan["results"]]) == (6, ["copy", "missing"])
    code, told, words = _imagebuild("export", listed, "-o", tmp_path / "x.tar", "--json")
    assert (code, told["images"]) == (6, 1)
    assert "the source does not have the tag" in words
    data = bytearray((tmp_path / "x.tar").read_bytes())
    data[600] ^= 1
    (tmp_path / "x.tar").write_bytes(bytes(data))
    code, told, words = _imagebuild("import", tmp_path / "x.tar", "--dry-run", "--json")
    assert (code, told["images"][0]["ok"]) == (6, False)
    code, told, words = _imagebuild("import", tmp_path / "x.tar", "--json")
    assert (code, told["results"][0]["outcome"]) == (6, "failed")
    assert "damaged" in words


def test_mistakes_are_told(tmp_path: Path) -> None:
    (tmp_path / "list.yaml").write_text('{"target": {"registry": "r:5000"}, "images": [{"source": '
                                        '"r.example/x", "tags": ["1"]}]}')  # fmt: skip
    for words, code, said in (
        (("export", tmp_path / "list.yaml", "-o", tmp_path / "x.tar.gz"), 2, "not compressed"),
        (("export", tmp_path / "list.yaml", "-o", tmp_path), 2, "something else in it"),
        (("export", tmp_path / "list.yaml", "-o", tmp_path / "no/x.tar"), 2, "no such directory"),
        (("import", tmp_path / "none.tar"), 3, "no such directory or file"),
        (("import", tmp_path / "list.yaml"), 3, "damaged, or not what it should be"),
        (("import", tmp_path / "none.tar", "--target", "ftp://x"), 2, "no place to import to"),
    ):
        found, _, told = _imagebuild(*words)
        assert (found, said in told) == (code, True), told
    assert [p.name for p in tmp_path.iterdir()] == ["list.yaml"]


def test_a_list_without_a_target_is_exported(source: RegistryServer, tmp_path: Path) -> None:
    """The list that comes with the tool has none: whoever imports says one."""
    whole_index("homeless").push(source, "homeless", "1")
    listed = tmp_path / "list.yaml"
    images = [{"source": f"{source.host}/homeless", "tags": ["1"]}]
    listed.write_text(json.dumps({"target": {"prefix": "below"}, "images": images}))
    code, _, words = _imagebuild("export", listed, "-o", tmp_path / "export")
    assert code == 0, words
    [entry] = json.loads((tmp_path / "export/index.json").read_bytes())["manifests"]
    assert entry["annotations"]["imagebuild.mirror.prefix"] == "below"
    code, _, words = _imagebuild("import", tmp_path / "export")
    assert code == 2
    assert "--target REGISTRY" in words


@pytest.mark.parametrize(
    ("form", "seed", "kills"),
    [
        ("directory", 1, 3),
        ("tar", 2, 2),
        *(pytest.param("directory", n, 8, marks=pytest.mark.full("mirror")) for n in range(3, 6)),
        *(pytest.param("tar", n, 8, marks=pytest.mark.full("mirror")) for n in range(6, 9)),
    ],
)
def test_killed_and_resumed(
    source: RegistryServer, tmp_path: Path, form: str, seed: int, kills: int
) -> None:
    """kill -9 at random points: what has an entry is whole, and what has come is not asked for
    again.
    """
    chance = random.Random(seed)  # noqa: S311 - when to kill
    made = {str(n): whole_index(f"killed {seed} {n}", 150_000) for n in range(3)}
    for tag, one in made.items():
        one.push(source, f"killed-{seed}", tag)
    total = _size(made.values())
    place = tmp_path / ("x.tar" if form == "tar" else "x")
    with RegistryProxy(source) as before:
        before.slow(RATE, "GET", BLOBS)
        listed = _list(
            tmp_path / "list.yaml", before.host, "registry.invalid:5000/trove",
            {"source": f"killed-{seed}", "tags": list(made)},
        )  # fmt: skip
        argv = [sys.executable, "-m", "imagebuild", "mirror", "export", str(listed), "-o",
                str(place)]  # fmt: skip
        cut = 0
        for number in range(kills):
            goal = before.bytes_out("GET", BLOBS) + chance.uniform(0, total / (kills - number + 1))
            process = subprocess.Popen(argv, cwd=ROOT, stderr=subprocess.DEVNULL, env=_environ())
            while before.bytes_out("GET", BLOBS) < goal and process.poll() is None:
                time.sleep(0.005)
            cut += process.poll() is None
            process.send_signal(signal.SIGKILL)
            process.wait()
            if form == "tar":
                assert not place.exists()
            elif (place / "index.json").exists():
                _assert_whole(place)
        code, _, words = _imagebuild("export", listed, "-o", place)
        assert code == 0, words
        assert cut
        # Of six downloads at a time, what was in memory is lost; whole blobs are not.
        largest = 160_000
        assert before.bytes_out("GET", BLOBS) < total + cut * 6 * largest
    assert _assert_whole(place) == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["list.yaml", place.name]


def test_interrupted(source: RegistryServer, tmp_path: Path) -> None:
    whole_index("interrupted", 400_000).push(source, "interrupted", "1")
    with RegistryProxy(source) as before:
        before.slow(RATE, "GET", BLOBS)
        listed = _list(
            tmp_path / "list.yaml", before.host, "registry.invalid:5000",
            {"source": "interrupted", "tags": ["1"]},
        )  # fmt: skip
        argv = [sys.executable, "-m", "imagebuild", "mirror", "export", str(listed), "-o",
                str(tmp_path / "x.tar")]  # fmt: skip
        process = subprocess.Popen(argv, cwd=ROOT, stderr=subprocess.PIPE, env=_environ())
        while before.bytes_out("GET", BLOBS) < 100_000:
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        _, words = process.communicate(timeout=20)
    assert process.returncode == 130
    assert b"1 skipped" in words
    assert b"what has come is kept" in words
    assert not (tmp_path / "x.tar").exists()


def _size(images: Any) -> int:  # noqa: ANN401
    blobs = {b for i in images for child in i.children for b in child.blobs}
    return sum(map(len, blobs))


def _assert_whole(place: Path) -> int:
    """How many images an export has; all are whole."""
    with client() as asked, opened(asked, place, Destination("registry.invalid")) as found:
        walks = found.verify()
    assert all(w.ok for w in walks), [w.problem for w in walks]
    return len(walks)
