"""Builds on top of the bookworm build's stages: what goes wrong, other agents, upgrades."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from imagebuild.agent.files import FileCache
from imagebuild.events import Event
from imagebuild.host.run import network_env, run
from imagebuild.host.worker import Worker
from tests.images.agents import MARKER, SITE, agent_source
from tests.images.boots import boot
from tests.images.builds import REPO, Built, Session, bookworm_argv, standin_options
from tests.images.elements import write_hook
from tests.images.fs import ImageFs

pytestmark = pytest.mark.image


def build(built: Built, tmp_path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Build bookworm again with other options; stages of the first build are used again."""
    images = str(tmp_path / "images")
    argv = bookworm_argv("--cache-dir", str(built.cache), "--images-dir", images, *options)
    return subprocess.run(argv, capture_output=True, text=True, check=False, cwd=REPO)


def test_too_small_a_disk_is_refused_and_leaves_nothing(bookworm: Built, tmp_path: Path) -> None:
    done = build(bookworm, tmp_path, "--image-size", "512M", "-o", str(tmp_path / "x.raw"))
    assert done.returncode == 1
    assert "disk.size" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "x.raw").exists()
    assert not list((tmp_path / "images").glob("*"))
    assert not list((tmp_path / "images").glob(".*partial*"))
    assert not [p for p in (bookworm.cache / "scratch").iterdir() if p.is_dir()]


def test_dry_run_shows_the_plan_that_was_run(bookworm: Built, tmp_path: Path) -> None:
    images = bookworm.images_dir
    # -o adds a format, and with it the id of the formats stage.
    options = ("-o", str(tmp_path / "guest.raw"), "--images-dir", str(images))
    shown = [build(bookworm, tmp_path, "--dry-run", "--json", *options) for _ in range(2)]
    assert shown[0].stdout == shown[1].stdout
    plan = json.loads(shown[0].stdout)
    assert plan["build_id"] == bookworm.manifest["build_id"]
    assert [s["id"] for s in plan["stages"]] == [s["id"] for s in bookworm.manifest["stages"]]
    assert plan["outputs"]["artifact"] == str(bookworm.artifact)


def test_failing_hook_is_named_with_its_lines(bookworm: Built, tmp_path: Path) -> None:
    script = "echo 'the disk of plates is empty'\nexit 3"
    write_hook(tmp_path / "elements", "site-broken/install.d/60-broken", script)
    done = build(
        bookworm, tmp_path, "--elements-path", str(tmp_path / "elements"),
        "--element", "agent:site-broken",
    )  # fmt: skip
    assert done.returncode == 1
    assert "already built" in done.stderr.split("✓ base")[1].splitlines()[0]
    assert "error: element site-broken: hook install.d/60-broken failed" in done.stderr
    assert "| the disk of plates is empty" in done.stderr
    log = Path(done.stderr.split("the whole log: ")[1].strip())
    assert "the disk of plates is empty" in log.read_text()
    assert not list((tmp_path / "images").glob("*"))


def test_stage_over_its_time_is_ended(bookworm: Built, tmp_path: Path) -> None:
    # Before the tree is seeded: DIB's first hook.
    write_hook(tmp_path / "elements", "site-slow/root.d/05-slow", "sleep 4242")
    done = build(
        bookworm, tmp_path, "--elements-path", str(tmp_path / "elements"),
        "--element", "agent:site-slow", "--timeout", "agent=30s",
    )  # fmt: skip
    assert done.returncode == 1
    assert "stage agent took longer than its limit" in done.stderr
    assert "root.d/05-slow" in done.stderr
    processes = run(["ps", "-eo", "args"]).stdout.decode()
    assert "sleep 4242" not in processes


@pytest.fixture
def agent_repository(bookworm: Built, tmp_path: Path) -> Path:
    """A git repository with the agent's released source, tagged, one commit ahead."""
    source = agent_source(bookworm, tmp_path / "trove", "from git")

    def git(*words: str) -> None:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run(["git", "-C", source, *identity, *words], check=True, capture_output=True)

    git("init", "-q", "-b", "work")
    git("add", "-A")
    git("commit", "-q", "-m", "release")
    git("tag", "26.0.0")
    git("commit", "-q", "--allow-empty", "-m", "one more")
    return source


def test_agent_from_git_replaces_only_the_agent(
    bookworm: Built, agent_repository: Path, tmp_path: Path
) -> None:
    bases = set(bookworm.store.root.glob("base-*"))
    raw = tmp_path / "guest.raw"
    done = build(
        bookworm, tmp_path, "--agent", f"git+file://{agent_repository}@work", "-o", str(raw)
    )
    assert done.returncode == 0, done.stderr
    assert "already built" in done.stderr.split("✓ base")[1].splitlines()[0]
    assert set(bookworm.store.root.glob("base-*")) == bases
    fs = ImageFs(raw)
    assert fs.read(f"{SITE}/{MARKER}") == "MARK = 'from git'\n"
    content = json.loads(fs.read("/etc/imagebuild/content.json"))
    head = run(["git", "-C", agent_repository, "rev-parse", "HEAD"]).stdout.decode().strip()
    assert content["agent"]["commit"] == head
    assert content["agent"]["version"] == "26.0.1.dev1"
    assert content["python_packages"]["trove"] == "26.0.1.dev1"


def test_extension_is_compiled_beside_the_image(bookworm: Built, tmp_path: Path) -> None:
    """A C extension without a wheel: built by the image's Python in a throw-away copy."""
    source = tmp_path / "hello-1.0"
    source.mkdir()
    (source / "hello.c").write_text(
        "#include <Python.h>\n"
        'static struct PyModuleDef m = {PyModuleDef_HEAD_INIT, "hello"};\n'
        "PyMODINIT_FUNC PyInit_hello(void) { return PyModule_Create(&m); }\n"
    )
    (source / "setup.py").write_text(
        "from setuptools import Extension, setup\n"
        "setup(name='hello', version='1.0', ext_modules=[Extension('hello', ['hello.c'])])\n"
    )
    base = bookworm.object("base")
    tools = _build_tools(bookworm, tmp_path / "tools")
    scratch = bookworm.cache / "scratch" / "wheel-test"
    scratch.mkdir()
    packages_before = (base / "tree/var/lib/dpkg/status").stat()
    seen: list[Event] = []
    with _apt_settings(tmp_path) as apt, Worker(seen.append) as worker:
        answer = worker.call(
            "build_wheels",
            below=[str(base)],
            scratch_dir=str(scratch),
            request={
                "sources": [str(source)], "tools": str(tools), "out": str(tmp_path / "out"),
                "needs_compiler": True, "environment": {},
            },
            network={"apt_dir": str(apt)},
            owner=[os.getuid(), os.getgid()],
        )  # fmt: skip
        worker.call("remove", paths=[str(scratch)])
    assert [Path(w).name for w in answer["wheels"]] == ["hello-1.0-cp311-cp311-linux_x86_64.whl"]
    after = (base / "tree/var/lib/dpkg/status").stat()
    assert (after.st_size, after.st_mtime_ns) == (
        packages_before.st_size, packages_before.st_mtime_ns,
    )  # fmt: skip
    assert not (base / "tree/usr/bin/gcc").exists()


def _build_tools(built: Built, directory: Path) -> Path:
    from imagebuild.agent.locks import build_lock

    files = FileCache(built.cache / "sources", "3.11", "x86_64", env=network_env(), offline=False)
    directory.mkdir()
    try:
        for found in files.fetch(build_lock("3.11").pins):
            (directory / found.path.name).write_bytes(found.path.read_bytes())
    finally:
        files.close()
    return directory


@contextmanager
def _apt_settings(tmp_path: Path) -> Iterator[Path]:
    apt = tmp_path / "apt"
    apt.mkdir()
    (apt / "target.conf").write_text('Acquire::Retries "3";\n')
    yield apt


# What apt and dpkg do in a guest that changes its kernel: another version comes, the
# running one goes; both times the hooks of the boot packages run.
_CHANGE_KERNEL = """
set -eu
root=$1 loop=$(losetup --find --show "$2")
trap 'umount -R "$root" || true; partx -d "$loop" || true; losetup -d "$loop"' EXIT
# The partitions must be devices, or grub-probe cannot tell where the root is. partx reads
# the table itself: the kernel need not know GPT.
partx -a "$loop"
mount "${loop}p3" "$root"
for fs in dev proc sys; do mount --bind "/$fs" "$root/$fs"; done
cp --remove-destination /etc/resolv.conf "$root/etc/resolv.conf"
cat > "$root/change" <<'EOF'
set -eux
export DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin
printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d; chmod 755 /usr/sbin/policy-rc.d
apt-get update -q
new=$(apt-cache search --names-only '^linux-image-6[.]1[.].*-cloud-amd64$' | cut -d' ' -f1 |
    sort -V | tail -2 | head -1)
old=$(dpkg-query -W -f '${db:Status-Status} ${Package}\\n' 'linux-image-[0-9]*' |
    sed -n 's/^installed //p')
[ "$new" != "$old" ]
apt-get install -y -q --no-install-recommends "$new"
apt-get purge -y -q "$old" linux-image-cloud-amd64
echo "$new" > /changed-kernel
rm /usr/sbin/policy-rc.d
EOF
chroot "$root" sh /change
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="changes the image through a loop mount: needs root")
def test_changed_kernel_boots(bookworm: Built, session: Session, tmp_path: Path) -> None:
    raw = session.directory / "kernel.raw"
    run(["cp", "--sparse=always", "--reflink=auto", bookworm.fs.raw, raw])
    mount_point = tmp_path / "root"
    mount_point.mkdir()
    script = ["sh", "-c", _CHANGE_KERNEL, "sh", str(mount_point), str(raw)]
    run(["unshare", "--mount", "--propagation", "private", *script])
    fs = ImageFs(raw)
    wanted = fs.read("/changed-kernel").strip().removeprefix("linux-image-")
    assert f"vmlinuz-{wanted}" in fs.read("/boot/grub/grub.cfg")
    assert len([n for n in fs.names("/boot") if n.startswith("vmlinuz-")]) == 1
    result = boot(raw, session.directory / "boot-kernel", firmware="uefi", fmt="raw")
    assert result.facts["kernel"] == wanted
    assert result.facts["failed"] == []


@pytest.mark.skipif(
    os.environ.get("IMAGEBUILD_REAL_UBUNTU") != "1",
    reason="set IMAGEBUILD_REAL_UBUNTU=1 to build from the Ubuntu archive and Docker's repository",
)
def test_jammy_from_the_real_archive(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "imagebuild", "build", "ubuntu", "jammy"]
    argv += ["--cache-dir", str(tmp_path / "cache"), "--images-dir", str(tmp_path / "images")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=REPO)
    assert done.returncode == 0, done.stderr
    link = tmp_path / "images/trove-guest-ubuntu-jammy-amd64"
    image = next(link.glob("*.qcow2"))
    result = boot(image, tmp_path / "boot", firmware="uefi")
    assert result.facts["failed"] == []
    assert result.facts["cloud_init"]["v1"]["errors"] == []


def test_release_without_signature_of_the_keyring_is_refused(
    session: Session, jammy: Built, tmp_path: Path
) -> None:
    """The mirror's keyring is checked before anything is built."""
    assert session.standin
    debian = "/usr/share/keyrings/debian-archive-keyring.gpg"
    options = standin_options(session.standin)
    options[options.index("--keyring") + 1] = debian
    argv = [sys.executable, "-m", "imagebuild", "build", "ubuntu", "jammy", *options]
    argv += ["--cache-dir", str(tmp_path / "cache"), "--images-dir", str(tmp_path / "images")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=REPO)
    assert done.returncode == 3
    assert "not signed by a key of the keyring" in done.stderr
    assert debian in done.stderr
    assert not (tmp_path / "images").exists()
    assert jammy.artifact.exists()
