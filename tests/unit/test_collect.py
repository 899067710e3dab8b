"""Components of a tree, and the file that they are kept in."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from imagebuild import components, inventory
from imagebuild.components import Components
from imagebuild.errors import ConfigError
from imagebuild.inventory import Entry
from imagebuild.stages.collect import collect
from tests.unit.made_up import SITE, make_tree


def collected(tree: Path) -> tuple[list[Entry], Components]:
    entries = list(inventory.walk(tree))
    return entries, collect(tree, entries, "1" * 64)


@pytest.fixture
def made(tmp_path: Path) -> tuple[list[Entry], Components]:
    return collected(make_tree(tmp_path / "t"))


def owners(made: tuple[list[Entry], Components]) -> dict[str, str]:
    entries, found = made
    named = {}
    for number, entry in enumerate(entries):
        if owner := found.owner(number):
            arch = getattr(owner, "arch", "python")
            named[entry.path] = f"{owner.name} {arch}"
    return named


def test_every_file_has_its_package(made: tuple[list[Entry], Components]) -> None:
    assert owners(made) == {
        # dpkg's own is diverted by zlib1g.
        "/usr/bin/dpkg": "zlib1g amd64",
        "/usr/bin/dpkg.real": "dpkg amd64",
        "/usr/lib/libz.so.1": "zlib1g amd64",
        "/usr/lib/libz.so.2": "zlib1g amd64",
        "/usr/lib/libstdc++.so.6": "libstdc++6 amd64",
        "/usr/lib/i386/libstdc++.so.6": "libstdc++6 i386",
        "/usr/share/doc/zlib1g/copyright": "zlib1g amd64",
        f"/{SITE}/oslo_x/__init__.py": "oslo-x python",
        f"/{SITE}/oslo_x/__pycache__/__init__.cpython-311.pyc": "oslo-x python",
        f"/{SITE}/oslo.x-1.0.dist-info/METADATA": "oslo-x python",
        f"/{SITE}/oslo.x-1.0.dist-info/RECORD": "oslo-x python",
        "/opt/guest-agent-venv/bin/oslo-x": "oslo-x python",
    }


def test_packages_of_two_architectures_are_two(made: tuple[list[Entry], Components]) -> None:
    debs = made[1].debs
    assert [(d.name, d.arch) for d in debs] == [
        ("dpkg", "amd64"), ("libstdc++6", "amd64"), ("libstdc++6", "i386"), ("zlib1g", "amd64"),
    ]  # fmt: skip
    assert (debs[1].source, debs[1].source_version) == ("gcc-12", "12.2.0-14+deb12u1")
    assert (debs[3].source, debs[3].source_version) == ("zlib", "1:1.2.13.dfsg-1")
    assert debs[3].maintainer == "Mark Brown <broonie@debian.org>"
    assert debs[3].installed_size == 2048


def test_licences_by_links_inside_the_tree(made: tuple[list[Entry], Components]) -> None:
    licence = "(GPL-2.0-or-later OR MIT) AND Zlib"
    # libstdc++6's directory is a link, dpkg's an absolute one.
    assert {d.licence for d in made[1].debs} == {licence}


def test_links_do_not_lead_out_of_the_tree(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "copyright").write_text("Format: x")
    tree = make_tree(tmp_path / "t")
    link = tree / "usr/share/doc/dpkg"
    link.unlink()
    link.symlink_to(outside)
    loop = tree / "usr/share/doc/libstdc++6"
    loop.unlink()
    loop.symlink_to("libstdc++6")
    found = collected(tree)[1]
    assert [d.licence == "" for d in found.debs] == [True, True, True, False]


def test_python_packages(made: tuple[list[Entry], Components]) -> None:
    first, second = made[1].pythons
    assert (first.name, first.version, first.licence) == ("oslo-x", "1.0", "Apache-2.0")
    assert first.homepage == "https://docs.example/oslo.x"
    assert first.author == "Open Stack <openstack-discuss@lists.openstack.org>"
    assert (second.name, second.version) == ("trove", "25.0.0")


def test_users_and_system(made: tuple[list[Entry], Components]) -> None:
    assert [(u.name, u.uid) for u in made[1].users] == [("root", 0), ("ubuntu", 1000)]
    assert made[1].os["VERSION_ID"] == "12"
    assert made[1].os["PRETTY_NAME"] == "Debian GNU/Linux 12 (bookworm)"


def test_a_tree_without_the_agent(tmp_path: Path) -> None:
    tree = tmp_path / "t"
    (tree / "var/lib/dpkg").mkdir(parents=True)
    (tree / "var/lib/dpkg/status").write_text(
        "Package: a\nStatus: install ok installed\nVersion: 1\n"
    )
    found = collected(tree)[1]
    assert [(d.name, d.arch, d.licence) for d in found.debs] == [("a", "all", "")]
    assert (found.pythons, found.users, found.os) == ((), (), {})


def test_stored_components_read_back(made: tuple[list[Entry], Components], tmp_path: Path) -> None:
    components.write(made[1], tmp_path / "a.gz")
    os.utime(tmp_path / "a.gz", (1, 1))
    components.write(made[1], tmp_path / "b.gz")
    assert components.read(tmp_path / "a.gz") == made[1]
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


@pytest.mark.parametrize(
    "data", [b"", b"not gzip", gzip.compress(b"[1]"), gzip.compress(b'{"schema_version": 2}')]
)
def test_damaged_components_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(data)
    if data == b"":
        path.unlink()
    with pytest.raises(ConfigError, match="cannot read the list of an image's components"):
        components.read(path)
