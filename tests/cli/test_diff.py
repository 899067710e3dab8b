"""`imagebuild diff`. Its output is contract."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from imagebuild import components, inventory
from imagebuild.cli.main import run
from imagebuild.cli.terminal import terminal
from imagebuild.manifest import ArtifactView, open_artifact
from tests.unit.made_up import TIME, make_artifact, make_tree

TEXT = """\
differences: 11 (4 packages, 1 profile key, 1 unit, 1 user, 1 image, 3 files)
before: {a}
after:  {b}
root filesystems: not the same
files: 1 added, 1 content, 1 removed

Packages (4)
name             change      before               after
libstdc++6:i386  removed     1:12.2.0-14+deb12u1  -
zlib1g           removed     1:1.2.13.dfsg-1      -
libstdc++6       downgraded  1:12.2.0-14+deb12u1  1:12.2.0-14
dpkg             upgraded    1.21.22              1.22

Enabled units (1)
name             change   before  after
apt-daily.timer  removed  masked  -

Users (1)
name    change   before                                       after
ubuntu  removed  uid 1000, gid 1000, /home/ubuntu, /bin/bash  -

Profile (1)
name       change   before  after
disk.size  changed  5G      8G

Image files (1)
format  before  after        difference
qcow2      5 B    5 B  0, other content

Directories (2)
directory    before     after  difference
/          14.9 KiB  14.9 KiB       -43 B
/etc          146 B     103 B       -43 B

Files (3)
path                                 differs in   size
/etc/passwd                          content     -43 B
/etc/new                             added           0
/etc/systemd/system/apt-daily.timer  removed         0
"""
SAME = """\
differences: 0
before: {a}
after:  {b}
root filesystems: the same
"""
MARKDOWN = """\
**differences: 10 (4 packages, 1 profile key, 1 image, 4 files)**

- before: `{a}`
- after: `{b}`
- root filesystems: not the same
- files: 2 added, 1 content, 1 removed

### Packages (4)

| name | change | before | after |
| --- | --- | --- | --- |
| `libstdc++6:i386` | removed | 1:12.2.0-14+deb12u1 | - |
| `zlib1g` | removed | 1:1.2.13.dfsg-1 | - |

… and 2 more

### Profile (1)

| name | change | before | after |
| --- | --- | --- | --- |
| `disk.size` | changed | 5G | 8G |

### Image files (1)

| format | before | after | difference |
| --- | ---: | ---: | ---: |
| `qcow2` | 5 B | 5 B | 0, other content |

### Directories (2)

| directory | before | after | difference |
| --- | ---: | ---: | ---: |
| `/` | 14.9 KiB | 16.6 KiB | +1.7 KiB |
| `/usr/bin` | 5.2 KiB | 6.8 KiB | +1.7 KiB |

### Files (4)

| path | differs in | size |
| --- | --- | ---: |
| `/usr/bin/dpkg` | content | +2.0 KiB |
| `/usr/bin/dpkg.real` | removed | -300 B |

… and 2 more
"""
PACKAGES = {"dpkg": "1.22", "libstdc++6": "1:12.2.0-14"}


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [n for n in os.environ if n.startswith("IMAGEBUILD_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("IMAGEBUILD_IMAGES_DIR", str(tmp_path / "images"))
    terminal.configure(verbosity=0, no_color=True)


@pytest.fixture
def a(tmp_path: Path) -> ArtifactView:
    return open_artifact(make_artifact(make_tree(tmp_path / "a"), tmp_path / "images"))


@pytest.fixture
def b(tmp_path: Path) -> ArtifactView:
    """Another disk size, another image, other packages and files."""
    files = {"usr/bin/dpkg": "e" * 7000, "etc/new|x": "", "etc/`y`": "", "usr/bin/dpkg.real": None}
    tree = make_tree(tmp_path / "b", **files)
    made = make_artifact(
        tree, tmp_path / "images", "disk.size=8G", image="imago", packages=PACKAGES
    )
    return open_artifact(made)


def printed(capsys: pytest.CaptureFixture[str], *argv: str, code: int = 0) -> str:
    assert run(["diff", *argv]) == code
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def test_text(a: ArtifactView, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {"etc/passwd": "root:x:0:0:root:/root:/bin/bash\n", "etc/new": ""}
    tree = make_tree(tmp_path / "b", **files)
    (tree / "etc/systemd/system/apt-daily.timer").unlink()
    os.utime(tree / "etc/systemd/system", (TIME, TIME))
    made = make_artifact(
        tree, tmp_path / "images", "disk.size=8G", image="imago", packages=PACKAGES
    )
    assert printed(capsys, a.name, made.name) == TEXT.format(a=a.name, b=made.name)


def test_the_same(a: ArtifactView, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = make_artifact(make_tree(tmp_path / "b"), tmp_path / "elsewhere")
    out = printed(capsys, a.name, str(other), "--exit-code")
    assert out == SAME.format(a=a.name, b=other.name)


def test_markdown(a: ArtifactView, b: ArtifactView, capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(capsys, a.name, b.name, "--markdown", "--limit", "2")
    assert out == MARKDOWN.format(a=a.name, b=b.name)
    whole = printed(capsys, a.name, b.name, "--markdown", "--limit", "0")
    # What would end a cell, or a piece of code, cannot.
    assert "| `/etc/new\\|x` | added | 0 |\n" in whole
    assert "| `/etc/'y'` | added | 0 |\n" in whole
    assert "more" not in whole


def test_one_row_too_many_is_no_reason_to_cut(
    a: ArtifactView, b: ArtifactView, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "more" not in printed(capsys, a.name, b.name, "--limit", "3")
    assert printed(capsys, a.name, b.name, "--limit", "1").count("  … and 3 more\n") == 2


def test_json(a: ArtifactView, b: ArtifactView, capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads(printed(capsys, a.name, b.name, "--json", "--limit", "1"))
    assert document["schema_version"] == 1
    assert document["differences"] == 10
    assert document["counts"]["files"] == len(document["files"]) == 4
    assert document["same_rootfs"] is False
    assert document["packages"][0] == {
        "name": "dpkg", "kind": "upgraded", "before": "1.21.22", "after": "1.22",
    }  # fmt: skip


def test_exit_code(a: ArtifactView, b: ArtifactView, capsys: pytest.CaptureFixture[str]) -> None:
    assert "differences: 10 " in printed(capsys, a.name, b.name)
    assert "differences: 10 " in printed(capsys, a.name, b.name, "--exit-code", code=1)


def test_manifests_of_older_artifacts(
    a: ArtifactView, b: ArtifactView, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (inventory.FILE_NAME, components.FILE_NAME):
        (a.directory / name).unlink()
    out = printed(capsys, str(a.directory / "manifest.json"), str(b.directory / "manifest.json"))
    assert out.startswith("differences: 6 (4 packages, 1 profile key, 1 image)\n")
    # Wrapped, as every line that is not a table's.
    lines = " ".join(out.split("\n\n")[0].split())
    assert f"not compared: files, units and directories: no rootfs.jsonl.gz in {a.name}" in lines
    assert f"not compared: users and containers: no components.json.gz in {a.name}" in lines


def test_what_cannot_be_compared(
    a: ArtifactView, b: ArtifactView, capsys: pytest.CaptureFixture[str]
) -> None:
    (b.directory / inventory.FILE_NAME).write_bytes(b"damaged")
    assert run(["diff", a.name, b.name, "--json"]) == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: cannot read the inventory of a root filesystem\n")
    document = json.loads((a.directory / "manifest.json").read_text())
    (a.directory / "manifest.json").write_text(json.dumps(document | {"schema_version": 2}))
    assert run(["diff", a.name, b.name]) == 3
    assert "schema_version is 2, known: 1" in capsys.readouterr().err
    assert run(["diff", b.name, b.name, "--json", "--markdown"]) == 2
