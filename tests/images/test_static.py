"""What the two production builds put into their images, beyond what any image must have.

That they are sound is what `check_static` says of them: test_broken.py. What makes an image
unsafe: test_safety.py.
"""

from __future__ import annotations

import base64
import json
import re
import stat
import subprocess
from importlib.metadata import distributions
from pathlib import Path

import pytest

from imagebuild.digest import of_file
from imagebuild.host.run import run
from imagebuild.stages import disk
from tests.images.builds import BUILDER_UID, Built, Session
from tests.images.fs import ImageFs
from tests.images.registry import HOST, PASSWORD, USER

pytestmark = pytest.mark.image


def enabled(fs: ImageFs, target: str) -> set[str]:
    return fs.names(f"/etc/systemd/system/{target}.wants")


def test_partitions_boot_by_bios_and_by_uefi(built: Built) -> None:
    names = [(p.name, p.type_guid) for p in built.fs.partitions]
    assert names == [
        ("bios-boot", disk.TYPE_BIOS_BOOT),
        ("esp", disk.TYPE_ESP),
        ("root", disk.TYPE_ROOT["amd64"]),
    ]


def test_disk_has_the_size_of_the_profile(built: Built) -> None:
    info = json.loads(run(["qemu-img", "info", "--output=json", built.qcow2]).stdout)
    assert info["virtual-size"] == 5 << 30
    assert info["format-specific"]["data"]["compression-type"] == "zstd"


def test_grub_has_the_modules_that_a_later_update_grub_asks_for(built: Built) -> None:
    for platform in ("i386-pc", "x86_64-efi"):
        assert {"gzio.mod", "part_gpt.mod", "ext2.mod"} <= built.fs.names(f"/boot/grub/{platform}")


def test_kernel_is_the_small_flavour(built: Built) -> None:
    packages = built.manifest["content"]["packages"]
    wanted = {"bookworm": "linux-image-cloud-amd64", "jammy": "linux-image-virtual"}
    assert wanted[built.name] in packages
    assert len([p for p in packages if re.fullmatch(r"linux-image-\d.*", p)]) == 1


def test_units_are_enabled(built: Built) -> None:
    assert {"guest-agent.service", "docker.service", "containerd.service", "chrony.service"} <= (
        enabled(built.fs, "multi-user.target")
    )
    assert {"docker-hostnic.socket", "docker.socket"} <= enabled(built.fs, "sockets.target")
    unit = built.fs.read("/etc/systemd/system/guest-agent.service")
    assert "User=ubuntu\n" in unit
    assert "@USER@" not in unit
    assert "/usr/local/bin/guest-agent --config-dir=/etc/trove/conf.d" in unit
    assert built.fs.link("/usr/local/bin/guest-agent") == (
        "/opt/guest-agent-venv/bin/trove-guestagent"
    )
    assert "/var/log/trove/*.log" in built.fs.read("/etc/logrotate.d/guest-agent")


def test_datasources_are_the_profiles(built: Built) -> None:
    own = built.fs.read("/etc/cloud/cloud.cfg.d/95-imagebuild.cfg")
    assert "datasource_list: [ ConfigDrive, OpenStack ]\n" in own
    # The last file that names a list wins: it must be ours.
    others = [
        name
        for name in built.fs.names("/etc/cloud/cloud.cfg.d")
        if "datasource_list" in built.fs.read(f"/etc/cloud/cloud.cfg.d/{name}")
    ]
    assert max(others) == "95-imagebuild.cfg"
    assert "name: ubuntu\n" in own


def test_guest_user_leaves_1001_to_the_agent(built: Built) -> None:
    users = [line.split(":") for line in built.fs.read("/etc/passwd").splitlines()]
    uids = {u[0]: int(u[2]) for u in users}
    assert uids["ubuntu"] == 1000
    assert 1001 not in uids.values()
    groups = {g.split(":")[0]: g.split(":")[3] for g in built.fs.read("/etc/group").splitlines()}
    assert "ubuntu" in groups["docker"].split(",")
    entry = built.fs.listing("/etc/sudoers.d")["60-trove-guest"]
    assert stat.S_IMODE(entry.mode) == 0o440
    trove = built.fs.listing("/etc/trove")["conf.d"]
    assert (trove.uid, stat.S_IMODE(trove.mode)) == (1000, 0o755)


def test_agents_venv_has_what_the_manifest_lists(built: Built, tmp_path: Path) -> None:
    """Whether that is all that is needed is asked by static/agent/modules."""
    built.fs.extract("/opt/guest-agent-venv/lib", tmp_path)
    site = next((tmp_path / "lib").glob("python3*/site-packages"))
    found = {
        re.sub(r"[-_.]+", "-", d.name).lower(): d.version for d in distributions(path=[str(site)])
    }
    assert found == {
        re.sub(r"[-_.]+", "-", n).lower(): v
        for n, v in built.manifest["content"]["python_packages"].items()
    }
    assert "pip" not in found


def test_nothing_is_left_of_the_build(built: Built) -> None:
    fs = built.fs
    packages = built.manifest["content"]["packages"]
    assert not [
        p for p in packages if re.fullmatch(r"gcc.*(?<!-base)|g\+\+.*|make|.*-dev|python3-pip", p)
    ]
    assert not fs.exists("/usr/bin/gcc")
    # Some runtime packages carry a header or two; the C library's come with a compiler only.
    assert not fs.exists("/usr/include/stdio.h")
    assert not fs.names("/usr/include") - {"python3.11", "iproute2", "sudo_plugin.h", "xfs"}
    assert fs.names("/var/cache/apt") == {"archives"}
    assert fs.names("/var/cache/apt/archives") == {"partial"}
    assert not fs.names("/usr/local/bin") - {"guest-agent", "trove-docker-plugin"}
    assert "imagebuild" not in " ".join(fs.names("/etc/apt/apt.conf.d"))
    assert fs.names("/var/log") <= {
        "apt",
        "chrony",
        "journal",
        "private",
        "README",
        "runit",
        "trove",
    }


def test_repositories_are_trusted_by_their_own_keys(built: Built) -> None:
    fs = built.fs
    sources = {
        name: fs.read(f"/etc/apt/sources.list.d/{name}")
        for name in fs.names("/etc/apt/sources.list.d")
    }
    assert (
        set(sources)
        == {
            "bookworm": {"archive.sources", "security.sources"},
            "jammy": {"archive.sources", "docker.sources"},
        }[built.name]
    )
    for text in sources.values():
        keyring = re.search(r"^Signed-By: (\S+)$", text, re.MULTILINE)
        assert keyring
        assert fs.exists(keyring[1])
        assert "Architectures: amd64\n" in text
    assert not fs.exists("/etc/apt/sources.list")


def test_docker_is_what_the_profile_wants(bookworm: Built, jammy: Built) -> None:
    assert "docker.io" in bookworm.manifest["content"]["packages"]
    assert "docker-ce" in jammy.manifest["content"]["packages"]
    assert "docker.io" not in jammy.manifest["content"]["packages"]
    used = json.dumps(jammy.manifest["stages"][0]["inputs"]["archives"])
    assert "/docker" in used


def test_manifest_tells_what_the_image_says_of_itself(built: Built) -> None:
    inside = json.loads(built.fs.read("/etc/imagebuild/content.json"))
    assert inside == built.manifest["content"]
    assert inside["datasources"] == ["ConfigDrive", "OpenStack"]
    assert inside["packages"]["cloud-init"]
    assert "disk" not in inside["stages"]
    assert "formats" not in inside["stages"]


def test_artifact_is_complete(built: Built) -> None:
    names = {p.name for p in built.artifact.iterdir()}
    images = {o["file"] for o in built.manifest["outputs"]}
    assert names == images | {
        "manifest.json", "SHA256SUMS", "packages.txt", "build.log", "timing.json",
        "rootfs.jsonl.gz", "components.json.gz", "sbom.spdx.json", "sbom.cdx.json",
    }  # fmt: skip
    done = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=built.artifact, check=False,
                          capture_output=True)  # fmt: skip
    assert done.returncode == 0
    for output in built.manifest["outputs"]:
        assert of_file(built.artifact / output["file"]) == output["sha256"]
    assert built.artifact.name == built.manifest["name"]
    assert built.artifact.name.endswith(built.manifest["build_id"][:8])
    link = built.images_dir / built.artifact.name.rsplit("-", 1)[0]
    assert link.resolve() == built.artifact


def test_output_files_are_placed(bookworm: Built) -> None:
    placed = bookworm.images_dir.parent / "placed/guest.raw"
    assert run(["qemu-img", "compare", "-f", "raw", "-F", "qcow2", placed, bookworm.qcow2])
    assert placed.stat().st_blocks * 512 < 2 << 30, "the raw file is not sparse"
    assert placed.stat().st_nlink == 1


def test_user_owns_outputs_and_store(jammy: Built, session: Session) -> None:
    """Built by an unprivileged user through sudo, from an installed wheel."""
    import os

    uid = BUILDER_UID if os.geteuid() == 0 else os.geteuid()
    mine = [
        *jammy.artifact.iterdir(),
        jammy.artifact,
        jammy.cache,
        *jammy.store.root.iterdir(),
        *(f for o in jammy.store.objects() for f in o.path.iterdir() if f != o.tree),
    ]
    assert {p.stat().st_uid for p in mine} == {uid}
    assert "Python 3.10" not in jammy.stderr
    assert session.standin
    assert any("docker-ce_" in path for path in session.standin.requests)


def test_sites_own_things_are_in(jammy: Built) -> None:
    fs = jammy.fs
    assert fs.read("/etc/site-base") == "site-base\n"
    assert fs.read("/etc/site-agent") == "site-agent\n"
    assert "less" in jammy.manifest["content"]["packages"]
    assert "server ntp.site.example iburst" in fs.read("/etc/chrony/sources.d/imagebuild.sources")
    assert not re.search(r"^(pool|server) ", fs.read("/etc/chrony/chrony.conf"), re.MULTILINE)
    own = fs.read("/usr/local/share/ca-certificates/imagebuild/site-0-0.crt")
    assert own.strip() in fs.read("/etc/ssl/certs/ca-certificates.crt")
    assert "REQUESTS_CA_BUNDLE" in fs.read("/etc/systemd/system/guest-agent.service")


def test_private_registry_is_known_to_docker(jammy: Built, session: Session) -> None:
    fs = jammy.fs
    assert session.registry
    assert fs.read(f"/etc/docker/certs.d/{HOST}/ca.crt") == session.registry.ca.read_text()
    words = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    for directory, owner in (("/root/.docker", 0), ("/home/ubuntu/.docker", 1000)):
        config = fs.listing(directory)["config.json"]
        assert (stat.S_IMODE(config.mode), config.uid) == (0o600, owner)
        content = json.loads(fs.read(f"{directory}/config.json"))
        assert content == {"auths": {HOST: {"auth": words}}}
    assert jammy.qcow2.stat().st_mode & 0o777 == 0o600
    # The manifest tells that there are credentials, and not which.
    (entry,) = jammy.manifest["stages"][0]["inputs"]["registries"]
    assert entry["host"] == HOST
    assert len(entry["credentials"]) == 32
    for place in (jammy.artifact / "manifest.json", jammy.artifact / "build.log"):
        assert words not in place.read_text()


def test_production_image_knows_no_registry_unless_told(bookworm: Built) -> None:
    assert not bookworm.fs.exists("/root/.docker")
    assert not bookworm.fs.exists("/etc/docker/certs.d")


def test_builds_own_ca_stays_out(jammy: Built, session: Session) -> None:
    """Docker's repository was read over TLS by a CA of the environment; the guest has its own."""
    assert session.standin
    assert session.standin.docker_url.startswith("https://")
    body = session.standin.ca.read_text().splitlines()[1]
    assert body not in jammy.fs.read("/etc/ssl/certs/ca-certificates.crt")
    assert not jammy.fs.exists("/etc/apt/imagebuild-build-ca.pem")


def test_nothing_is_left_on_the_host(built: Built) -> None:
    assert not [p for p in (built.cache / "scratch").iterdir() if p.is_dir()]
    mounts = Path("/proc/self/mountinfo").read_text()
    assert str(built.cache) not in mounts
    loops = run(["losetup", "-a"]).stdout.decode()
    assert str(built.cache) not in loops


def test_progress_is_plain_lines(built: Built) -> None:
    assert "\x1b" not in built.stderr
    for stage in ("base", "agent", "disk", "formats"):
        assert re.search(rf"^✓ {stage} ", built.stderr, re.MULTILINE)
    # A busy machine takes more than a minute.
    assert re.search(r"^    install/03-packages  (\d+ min )?\d+ s$", built.stderr, re.MULTILINE)
