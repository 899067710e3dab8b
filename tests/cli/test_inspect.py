"""`imagebuild inspect`. Its output is contract."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest

from imagebuild import components, inventory
from imagebuild.cli.main import run
from imagebuild.cli.terminal import terminal
from imagebuild.components import Container, ContainerPackage
from imagebuild.manifest import ArtifactView, open_artifact
from imagebuild.units import size
from tests.unit.made_up import make_artifact, make_tree

TEXT = """\
{name}
system       Debian GNU/Linux 12 (bookworm), amd64
profile      debian-bookworm
build id     {build_id}
root digest  {rootfs}
directory    {directory}
agent        trove 25.0.0 (2026.1), Python 3.11, from pypi:trove, mode inject
guest user   ubuntu
datasources  ConfigDrive, OpenStack
verified     no

Images
format  file  on disk  virtual  name
qcow2    5 B  {allocated:>7}  5.0 GiB  {name}.qcow2

Stages
stage       id                     time
base        {base}     1 min 02 s
agent       {agent}  already built
containers  {containers}              -
disk        {disk}          0.1 s
formats     {formats}              -

Package archives, by the digest of their Release files
suite                       digest        from
archive/bookworm            aaaaaaaaaaaa  http://deb.debian.org/debian
archive/bookworm-updates    bbbbbbbbbbbb  http://deb.debian.org/debian
security/bookworm-security  cccccccccccc  http://s.example/d
docker/bookworm             dddddddddddd  http://k.example/d

Packages: 4 of the distribution, 2 of Python
name    version
zlib1g  1:1.2.13.dfsg-1

Root filesystem: 14.9 KiB in files
   size              directory
9.0 KiB  █████████▋  /usr
5.2 KiB  █████▌        bin
3.6 KiB  ███▉          lib
3.9 KiB  ████▏       /boot
1.1 KiB  █▎          /var/lib/dpkg

Enabled units (2)
docker.socket, guest-agent.service

Masked units (1)
apt-daily.timer

Users with a shell (2 of 2)
root (0), ubuntu (1000)

Elements (9)
imagebuild-boot, imagebuild-clean, imagebuild-distro, imagebuild-seed,
imagebuild-tree, trove-cloud-init, trove-docker, trove-guest-agent,
trove-guest-base

Tools of the build
imagebuild 1.0, diskimage-builder 3.43, mmdebstrap 1.3.5, mke2fs 1.47.0, mtools
4.0.33, qemu-img 7.2
"""
WHY_BIG = """\
{name}

Root filesystem: 14.9 KiB in files
   size              directory
9.0 KiB  █████████▋  /usr
5.2 KiB  █████▌        bin
3.6 KiB  ███▉          lib
  800 B  ▉               i386
  209 B  ▎             share/doc/zlib1g
3.9 KiB  ████▏       /boot
1.1 KiB  █▎          /var/lib/dpkg
  202 B  ▎             info
  759 B  ▊           /opt/guest-agent-venv/lib/python3.11/site-packages
  313 B  ▍             oslo.x-1.0.dist-info
  250 B  ▎             oslo_x
  196 B  ▎             trove-25.0.0.dist-info

Packages: 9.0 KiB, the largest ones
   size  declared  files  package           version
7.0 KiB   2.0 KiB      4  zlib1g            1:1.2.13.dfsg-1
  900 B   3.0 KiB      1  libstdc++6:amd64  1:12.2.0-14+deb12u1
  800 B   3.0 KiB      1  libstdc++6:i386   1:12.2.0-14+deb12u1

Python packages of the agent: 565 B
 size  files  package  version
565 B      5  oslo-x   1.0
  0 B      0  trove    25.0.0

In no package: 5.4 KiB in 10 files
   size  file
3.9 KiB  /boot/initrd.img
  926 B  /var/lib/dpkg/status
  196 B  /opt/guest-agent-venv/lib/python3.11/site-packages/trove-25.0.0.dist-info/METADATA

The largest files
   size  package  file
4.9 KiB  zlib1g   /usr/bin/dpkg
3.9 KiB  -        /boot/initrd.img
2.0 KiB  zlib1g   /usr/lib/libz.so.1
"""


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [n for n in os.environ if n.startswith("IMAGEBUILD_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    terminal.configure(verbosity=0, no_color=True)


@pytest.fixture
def view(tmp_path: Path) -> ArtifactView:
    """An artifact in the directory where images go."""
    tree = make_tree(tmp_path / "tree")
    return open_artifact(make_artifact(tree, tmp_path / "home/images", "packages=[zlib1g]"))


def filled(text: str, view: ArtifactView) -> str:
    ids = {s["name"]: s["id"][:12] for s in view.manifest["stages"]}
    return text.format(
        name=view.name,
        build_id=view.build_id,
        rootfs=view.rootfs,
        directory=view.directory,
        allocated=size(view.images[0].allocated or 0),
        **ids,
    )


def printed(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert run(["inspect", *argv]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def test_text(view: ArtifactView, capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, view.name) == filled(TEXT, view)


def test_why_big(view: ArtifactView, capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(capsys, str(view.directory), "--why-big", "--limit", "3")
    assert out == filled(WHY_BIG, view)


def test_what_verify_found_is_said_of_these_images_alone(
    view: ArtifactView, capsys: pytest.CaptureFixture[str]
) -> None:
    def verified(digest: str) -> object:
        report = {"image": {"sha256": digest}, "checks": [], **found}
        (view.directory / "verify.json").write_text(json.dumps(report))
        return json.loads(printed(capsys, view.name, "--json"))["verified"]

    found = {"verdict": "passed", "asked": "agent", "proven": "agent", "started": "2026-01-02"}
    assert verified(view.images[0].sha256) == found
    line = "verified     passed, proven: agent, 2026-01-02\n"
    assert line in printed(capsys, view.name)
    assert verified("0" * 64) is None


def test_every_package(view: ArtifactView, capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(capsys, view.name, "--packages")
    assert out == filled(TEXT, view) + (
        "\nPackages (4)\n"
        "name             version\n"
        "dpkg             1.21.22\n"
        "libstdc++6       1:12.2.0-14+deb12u1\n"
        "libstdc++6:i386  1:12.2.0-14+deb12u1\n"
        "zlib1g           1:1.2.13.dfsg-1\n"
        "\nPython packages (2)\n"
        "name    version\n"
        "oslo-x  1.0\n"
        "trove   25.0.0\n"
    )


def test_containers(view: ArtifactView, capsys: pytest.CaptureFixture[str]) -> None:
    path = view.directory / components.FILE_NAME
    package = ContainerPackage("apk", "musl", "1.2", "", "", "", "")
    found = Container(
        "r.example/db:1", "quay.io/db:1", "i", "m", f"sha256:{'3' * 64}",
        {"PRETTY_NAME": "Alpine"}, (package,), ("/x: why",),
    )  # fmt: skip
    components.write(dataclasses.replace(components.read(path), containers=(found,)), path)
    out = printed(capsys, view.name, "--packages")
    assert (
        "\nContainers (1)\n"
        "name            image id      system  packages  from\n"
        "r.example/db:1  333333333333  Alpine         1  quay.io/db:1\n"
        "r.example/db:1: not readable: /x: why\n"
    ) in out
    assert out.endswith(
        "\nPackages in r.example/db:1 (1)\nname  version  kind\nmusl  1.2      apk\n"
    )
    document = json.loads(printed(capsys, view.name, "--json"))
    assert document["containers"] == [json.loads(json.dumps(found.to_json()))]


def test_json(view: ArtifactView, capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads(printed(capsys, view.name, "--json"))
    assert document["schema_version"] == 1
    assert document["agent"]["version"] == "25.0.0"
    assert document["images"][0]["virtual_size"] == 5 << 30
    assert document["units"][0] == {"name": "apt-daily.timer", "targets": [], "is_masked": True}
    assert [s["reused"] for s in document["stages"]] == [False, True, None, False, None]
    assert document["packages"] == view.content["packages"]
    big = json.loads(printed(capsys, view.name, "--json", "--why-big"))
    assert big["bytes"] == view.manifest["rootfs"]["bytes"]
    assert (
        big["packages_bytes"] + big["python_packages_bytes"] + big["unowned"]["bytes"]
        == (big["bytes"])
    )
    assert big["largest_files"][0] == {"path": "/usr/bin/dpkg", "bytes": 5000, "package": "zlib1g"}


def test_a_dev_image_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = make_artifact(make_tree(tmp_path / "tree"), tmp_path, dev=True)
    assert "A dev image: not for production" in printed(capsys, str(made))


def test_older_artifacts_tell_what_they_know(
    view: ArtifactView, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (inventory.FILE_NAME, components.FILE_NAME, "timing.json"):
        (view.directory / name).unlink()
    out = printed(capsys, view.name)
    assert "not known: units and directories: there is no rootfs.jsonl.gz\n" in out
    assert "not known: users and containers: there is no components.json.gz\n" in out
    assert "system       debian bookworm, amd64\n" in out
    assert "Enabled units" not in out
    assert run(["inspect", view.name, "--why-big"]) == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: cannot read the inventory of a root filesystem\n")


@pytest.mark.parametrize("options", [[], ["--why-big"], ["--json"]])
def test_no_artifact(
    tmp_path: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["inspect", "nothing-there", *options]) == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        "error: there is no such artifact\n"
        "  where: nothing-there\n"
        f"  | nothing of that name is here or in {tmp_path / 'home/images'}\n"
        "  try: name an artifact's directory, its manifest.json or one of its images\n"
    )


def test_names_in_an_image_cannot_write_to_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {"etc/\x1b[31mred[bold]": "x" * 9999}
    made = make_artifact(make_tree(tmp_path / "tree", **files), tmp_path)
    out = printed(capsys, str(made), "--why-big")
    assert "\x1b" not in out
    assert "/etc/\\x1b[31mred[bold]" in out
