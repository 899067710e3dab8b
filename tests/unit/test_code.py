"""The agent's own code as a layer: its files, its byte code, and what is refused."""

from __future__ import annotations

import importlib.util
import io
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagebuild import layers
from imagebuild.digest import of_file
from imagebuild.errors import BuildError
from imagebuild.events import Event, StepFinished
from imagebuild.host.worker import Worker
from imagebuild.layers import Layer
from imagebuild.store.objects import TREE
from tests.unit.layer_objects import TIME, base_object

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts overlays: needs root")

#: Not later than this is any file of a layer.
EPOCH = TIME + 1000
VENV = "opt/guest-agent-venv"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
SITE = f"{VENV}/lib/python{PYTHON}/site-packages"
SOURCES = {
    "trove/__init__.py": "",
    "trove/guest.py": "def main() -> None:\n    print('the agent')\n",
    # No Python of any version: pip, too, leaves it without byte code.
    "trove/templates/broken.py": "{% if this %} is a template\n",
    "trove/templates/config.ini": "[x]\n",
    # The order of a constant set is the hashes', up to Python 3.10.
    **{
        f"trove/part{n}.py": f"names = ['a{n}', 'shared']\nhas = 'x' in {{'a', 'b', 'c{n}'}}\n"
        for n in range(20)
    },
}


def make_wheel(place: Path, **changes: str) -> Path:
    """The agent's wheel, with a command."""
    files = {**SOURCES, **{k.replace("__", "/"): v for k, v in changes.items()}}
    info = "trove-25.0.0.dist-info"
    files |= {
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: trove\nVersion: 25.0.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\ntrove-guestagent = trove.guest:main\n",
    }
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
        lines = "".join(f"{name},,\n" for name in (*files, f"{info}/RECORD"))
        wheel.writestr(f"{info}/RECORD", lines)
    path = place / "trove-25.0.0-py3-none-any.whl"
    path.write_bytes(out.getvalue())
    return path


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base with this Python in it, and a venv."""
    place = tmp_path_factory.mktemp("base") / "base"
    tree = place / TREE
    executable = Path(sys.executable).resolve()
    library = Path(os.__file__).parent
    shutil.copytree(
        library,
        tree / str(library)[1:],
        ignore=shutil.ignore_patterns(
            "test", "site-packages", "dist-packages", "__pycache__", "config-*"
        ),
    )
    linked = "".join(
        subprocess.run(["ldd", f], capture_output=True, text=True, check=False).stdout
        for f in (executable, *library.glob("lib-dynload/*.so"))
    )
    for path in {executable, *map(Path, re.findall(r"(/\S+) \(0x", linked))}:
        (tree / str(path)[1:]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, tree / str(path)[1:])
    return base_object(
        place,
        {f"{VENV}/bin/python": f"-> {executable}", f"{SITE}/": "", f"{VENV}/pyvenv.cfg": ""},
    )


@pytest.fixture(scope="module")
def events() -> list[Event]:
    return []


@pytest.fixture(scope="module")
def worker(events: list[Event]) -> Iterator[Worker]:
    with Worker(events.append) as started:
        yield started


def install(worker: Worker, base: Path, wheel: Path, place: Path, sha256: str = "") -> Layer:
    """Install a wheel; the layer's object is `place`."""
    place.mkdir()
    scratch = place.with_name(f"{place.name}-scratch")
    scratch.mkdir()
    worker.call(
        "install_code",
        below=[str(base)],
        wheel=str(wheel),
        sha256=sha256 or of_file(wheel),
        draft=str(place),
        scratch_dir=str(scratch),
        epoch=EPOCH,
        seconds=100,
    )
    assert list(scratch.iterdir()) == []
    return layers.read(place / layers.FILE_NAME)


@pytest.fixture(scope="module")
def installed(base: Path, worker: Worker, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The object of a layer with the agent's code."""
    place = tmp_path_factory.mktemp("installed")
    install(worker, base, make_wheel(place), place / "code")
    return place / "code"


def test_only_what_the_wheel_brings_is_in_the_layer(installed: Path, events: list[Event]) -> None:
    layer = layers.read(installed / layers.FILE_NAME)
    assert layer.removed == ()
    files = {e.path[1:] for e in layer.entries if e.kind != "dir"}
    info = f"{SITE}/trove-25.0.0.dist-info"
    byte_code = {
        f"{SITE}/{importlib.util.cache_from_source(name)}"
        for name in SOURCES
        if name.endswith(".py") and "broken" not in name
    }
    assert files == {
        *(f"{SITE}/{name}" for name in SOURCES),
        *(f"{info}/{n}" for n in ("METADATA", "WHEEL", "RECORD", "INSTALLER", "entry_points.txt")),
        f"{VENV}/bin/trove-guestagent",
        *byte_code,
    }
    assert {e.mtime <= EPOCH for e in layer.entries} == {True}
    assert {(e.uid, e.gid) for e in layer.entries} == {(0, 0)}
    found = [p for p in (installed / TREE).rglob("*") if not p.is_dir()]
    assert {str(p.relative_to(installed / TREE)) for p in found} == files
    script = (installed / TREE / VENV / "bin/trove-guestagent").read_text()
    assert script.startswith(f"#!/{VENV}/bin/python\n")
    assert (installed / TREE / VENV / "bin/trove-guestagent").stat().st_mode & 0o111 == 0o111
    steps = [e.name for e in events if isinstance(e, StepFinished)]
    assert steps[:2] == ["install", "compile"]


def test_byte_code_is_bound_to_its_source_by_digest(installed: Path) -> None:
    """PEP 552: checked-hash; a clock that is wrong, or a source that changed, is no matter."""
    site = installed / TREE / SITE
    for name in ("trove/guest.py", "trove/part3.py"):
        source = (site / name).read_bytes()
        code = (site / importlib.util.cache_from_source(name)).read_bytes()
        assert code[:4] == importlib.util.MAGIC_NUMBER
        assert int.from_bytes(code[4:8], "little") == 0b11
        assert code[8:16] == importlib.util.source_hash(source)


def test_the_same_wheel_gives_the_same_layer(
    installed: Path, base: Path, worker: Worker, tmp_path: Path
) -> None:
    install(worker, base, make_wheel(tmp_path), tmp_path / "code")
    again = (tmp_path / "code" / layers.FILE_NAME).read_bytes()
    assert again == (installed / layers.FILE_NAME).read_bytes()
    other = install(worker, base, make_wheel(tmp_path, trove__guest="x = 1\n"), tmp_path / "other")
    assert other != layers.read(installed / layers.FILE_NAME)


def test_another_file_than_was_collected_is_refused(
    base: Path, worker: Worker, tmp_path: Path
) -> None:
    wheel = make_wheel(tmp_path)
    digest = of_file(wheel)
    make_wheel(tmp_path, trove__evil="import os\n")
    with pytest.raises(BuildError, match="the agent's wheel changed during the build"):
        install(worker, base, wheel, tmp_path / "code", digest)
    assert list((tmp_path / "code").iterdir()) == []


@pytest.mark.parametrize("content", [b"no archive", b""])
def test_a_file_that_is_no_wheel_is_refused(
    base: Path, worker: Worker, tmp_path: Path, content: bytes
) -> None:
    wheel = make_wheel(tmp_path)
    wheel.write_bytes(content)
    with pytest.raises(BuildError) as caught:
        install(worker, base, wheel, tmp_path / "code")
    assert caught.value.what == "cannot install the agent"
    assert caught.value.where == wheel.name


@pytest.mark.parametrize("name", ["../../../../../etc/evil", "/etc/evil"])
def test_a_wheel_writes_nowhere_but_in_the_venv(
    base: Path, worker: Worker, tmp_path: Path, name: str
) -> None:
    wheel = make_wheel(tmp_path, **{name.replace("/", "__"): "x"})
    with pytest.raises(BuildError, match="cannot install the agent"):
        install(worker, base, wheel, tmp_path / "code")
    assert not Path("/etc/evil").exists()
    assert list((tmp_path / "code").iterdir()) == []
