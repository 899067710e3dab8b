"""The safety checks, each against an image that has its sin and no other."""

from __future__ import annotations

import base64
import hashlib
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from imagebuild.errors import UsageError
from imagebuild.verify.checks.base import Expected, Severity, glob_matches, known
from imagebuild.verify.checks.permissions import capability_names
from imagebuild.verify.safety import CHECKS, Finding, check_safety
from imagebuild.verify.search import forms, search
from imagebuild.verify.tree import Tree
from tests.unit.disk_image import MIB, File, capability, debugfs, directory, make_disk, text

NET_RAW, SYS_ADMIN = 1 << 13, 1 << 21
PRODUCTION = Expected("ubuntu")
VENV = "/opt/guest-agent-venv/lib/python3.11/site-packages"
SHADOW = "root:*:20000:0:99999:7:::\nsshd:!:20000::::::\nubuntu:!:20000:0:99999:7:::\n"
ACCOUNTS = (
    "root:x:0:0:root:/root:/bin/bash\nsshd:x:102:65534::/run/sshd:/usr/sbin/nologin\n"
    "ubuntu:x:1000:1000::/home/ubuntu:/bin/bash\n"
)
SUDOERS = "Defaults env_reset\nroot ALL=(ALL:ALL) ALL\n@includedir /etc/sudoers.d\n"


def pem(kind: str = "PRIVATE KEY") -> str:
    """What looks like a private key. Put together here, so that this file is none."""
    body = "\n".join(["MIIBVgIBADANBgkqhkiG9w0BAQEFAASCAUAwggE8AgEAAkEAq7BFUpkGp3+LQmlQ"] * 3)
    return f"-----BEGIN {kind}-----\n{body}\n-----END {kind}-----\n"


TEST_KEY = pem("RSA PRIVATE KEY").encode()


def record(path: str, content: bytes) -> str:
    """A line of a wheel's RECORD."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return f"{path},sha256={digest},{len(content)}\n"


#: An image without a sin, which has what the checks look at.
CLEAN: Mapping[str, File] = {
    "/etc/passwd": text(ACCOUNTS),
    "/etc/shadow": text(SHADOW, 0o640, 0, 42),
    "/etc/group": text(
        "root:x:0:\nshadow:x:42:\nmail:x:8:\nubuntu:x:1000:\nssh:x:107:\nnogroup:x:65534:\n"
    ),
    "/etc/gshadow": text("root:*::\nshadow:*::\nubuntu:!::\n", 0o640, 0, 42),
    "/etc/ssh/sshd_config": text("Include /etc/ssh/sshd_config.d/*.conf\nUsePAM yes\n"),
    "/etc/ssh/sshd_config.d/40-imagebuild.conf": text(
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\n"
    ),
    "/etc/sudoers": text(SUDOERS, 0o440),
    "/etc/sudoers.d/60-trove-guest": text("ubuntu ALL=(ALL) NOPASSWD:ALL\n", 0o440),
    "/etc/machine-id": File(mode=0o444),
    "/var/lib/dbus/machine-id": File(link="/etc/machine-id"),
    "/etc/hostname": text("debian\n"),
    "/etc/hosts": text("127.0.0.1 localhost\n::1 localhost\nff02::1 ip6-allnodes\n"),
    "/etc/resolv.conf": File(link="../run/systemd/resolve/stub-resolv.conf"),
    "/usr/lib/os-release": text("ID=debian\n"),
    "/etc/os-release": File(link="../usr/lib/os-release"),
    "/etc/apt/sources.list.d/archive.sources": text("URIs: http://deb.example/debian\n"),
    "/etc/skel/.bashrc": text("#\n"),
    "/home/ubuntu": directory(0o755, 1000, 1000),
    "/home/ubuntu/.bashrc": text("#\n", 0, 1000, 1000),
    "/root": directory(0o700),
    "/root/.ssh": directory(0o700),
    "/tmp": directory(0o1777),
    "/var/tmp": directory(0o1777),
    "/var/log": directory(),
    "/var/lib/cloud": directory(),
    "/var/cache/apt/archives/partial": directory(0o700),
    "/var/lib/apt/lists/partial": directory(),
    "/usr/bin/su": File(b"\x7fELF su", 0o4755),
    "/usr/bin/ssh-agent": File(b"\x7fELF PRIVATE KEY-----\0", 0o2755, 0, 107),
    "/usr/bin/ping": File(b"\x7fELF", 0o755, xattrs={"security.capability": capability(NET_RAW)}),
    "/usr/bin/tool": File(b"\x7fELF -----BEGIN OPENSSH PRIVATE KEY-----\n\0more", 0o755),
    "/dev/null": File(device="c 1 3", mode=0o666),
    f"{VENV}/some/tests/key.pem": File(TEST_KEY),
    f"{VENV}/some-1.dist-info/RECORD": text(record("some/tests/key.pem", TEST_KEY)),
    "/usr/share/doc/tool/example": File(TEST_KEY),
    "/var/lib/dpkg/info/tool.md5sums": text(
        f"{hashlib.md5(TEST_KEY).hexdigest()}  usr/share/doc/tool/example\n"  # noqa: S324
    ),
}  # fmt: skip


def findings(
    work: Path,
    changes: Mapping[str, File],
    *,
    commands: tuple[str, ...] = (),
    secrets: Mapping[str, bytes] | None = None,
    expected: Expected = PRODUCTION,
) -> list[Finding]:
    """What the checks find in the clean image with these changes."""
    raw = make_disk(work, {**CLEAN, **changes}, commands=commands)
    return check_safety(Tree(raw), expected, secrets=secrets)


def short(found: list[Finding]) -> set[tuple[str, str]]:
    return {(f.check, f.path) for f in found}


def test_clean_image_has_no_finding(tmp_path: Path) -> None:
    assert findings(tmp_path / "work", {}, secrets={"token": b"canary-secret"}) == []


def sshd(lines: str) -> dict[str, File]:
    return {"/etc/ssh/sshd_config.d/10-site.conf": text(lines)}


def sin(check: str, path: str, file: File) -> tuple[str, str, dict[str, File]]:
    """A sin that is one file, found at its own path."""
    return check, path, {path: file}


OTHER = text("x")
PKCS8 = bytes.fromhex("302e020100300506032b6570") + b"k" * 36
PKCS12 = bytes.fromhex("308209a1020103308209") + b"k" * 36
KEY = text(pem(), 0o600)
SINS = [
    sin("accounts.passwords", "/etc/shadow", text(SHADOW.replace("root:*", "root:$y$j9T$a$b"))),
    sin("accounts.passwords", "/etc/shadow", text(SHADOW.replace("ubuntu:!", "ubuntu:"))),
    sin("accounts.passwords", "/etc/shadow", text(SHADOW.replace("ubuntu:!", "ubuntu:!$6$a$b"))),
    sin("accounts.passwords", "/etc/passwd", text(ACCOUNTS.replace("root:x", "root:$6$a$b"))),
    sin("accounts.passwords", "/etc/passwd", text(ACCOUNTS.replace("ubuntu:x", "ubuntu:"))),
    sin("accounts.passwords", "/etc/gshadow", text("root:$6$a$b::\n")),
    sin("accounts.passwords", "/var/backups/shadow.bak", text("root:$6$a$b:1:0:9:7:::\n")),
    sin("accounts.passwords", "/etc/security/opasswd", text("ubuntu:1000:1:$6$a$b\n")),
    sin("accounts.superusers", "/etc/passwd", text(ACCOUNTS + "toor:x:0:0::/root:/bin/sh\n")),
    ("accounts.sshd", "/etc/ssh/sshd_config.d/10-site.conf", sshd("PasswordAuthentication yes\n")),
    ("accounts.sshd", "/etc/ssh/sshd_config.d/10-site.conf", sshd("passwordauthentication=yes\n")),
    ("accounts.sshd", "/etc/ssh/sshd_config.d/10-site.conf", sshd("PermitRootLogin yes # now\n")),
    ("accounts.sshd", "/etc/ssh/sshd_config.d/10-site.conf", sshd("PermitEmptyPasswords yes\n")),
    (
        "accounts.sshd",
        "/etc/ssh/sshd_config.d/10-site.conf",
        sshd("Match User joe\n  PasswordAuthentication yes\n"),
    ),
    (
        "accounts.sshd",
        "/etc/ssh/sshd_config",
        {
            "/etc/ssh/sshd_config.d/40-imagebuild.conf": text(
                "Match Address 10.0.0.0/8\nPasswordAuthentication no\nMatch all\n"
                "KbdInteractiveAuthentication no\n"
            )
        },
    ),
    sin("accounts.sudo", "/etc/sudoers.d/joe", text("joe ALL=(ALL) \\\n NOPASSWD: ALL\n", 0o440)),
    sin("accounts.sudo", "/etc/sudoers.d/nobody", text("Defaults !authenticate\n", 0o440)),
    sin("accounts.sudo", "/etc/sudoers.d/60-trove-guest", text("ubuntu ALL=(ALL) ALL\n", 0o460)),
    sin(
        "accounts.autologin",
        "/etc/systemd/system/getty@tty1.service.d/a.conf",
        text("[Service]\nExecStart=-/sbin/agetty --autologin root %I\n"),
    ),
    sin("keys.private", "/usr/share/some", KEY),
    sin("keys.private", "/usr/share/some", text(pem("OPENSSH PRIVATE KEY"))),
    sin("keys.private", "/usr/share/some", text(pem("PGP PRIVATE KEY BLOCK"))),
    sin("keys.private", "/usr/share/some", text(pem().replace("\n", "\r\n"))),
    sin("keys.private", "/usr/share/a.json", text('{"k": "' + pem().replace("\n", "\\n") + '"}')),
    sin("keys.private", "/usr/share/some.py", text(
        'KEY = (\n    "' + pem().replace("\n", '\\n"\n    "') + '")\n')),
    sin("keys.private", "/usr/share/some", text(pem("RSA PRIVATE KEY").replace(
        "-----\nMII", "-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nMII"))),
    sin("keys.private", "/usr/share/some", text("PuTTY-User-Key-File-3: ssh-ed25519\n")),
    sin("keys.private", "/usr/share/some", text("AGE-SECRET-KEY-1" + "Q" * 58)),
    sin("keys.private", "/etc/ssl/some", File(PKCS8)),
    sin("keys.private", "/usr/share/some.p12", File(PKCS12)),
    sin("keys.private", "/usr/share/some.jks", OTHER),
    sin("keys.private", "/usr/share/id_ed25519", OTHER),
    sin("keys.private", "/etc/ssl/private/deep/thing", OTHER),
    # Where published keys lie, but not what the package brought, or no package's at all.
    sin("keys.private", "/usr/share/doc/tool/example", text(pem("EC PRIVATE KEY"))),
    sin("keys.private", "/usr/share/doc/tool/other", KEY),
    sin("keys.private", f"{VENV}/some/tests/key.pem", text(pem("EC PRIVATE KEY"))),
    # What the package brought, but not where published keys lie.
    (
        "keys.private",
        f"{VENV}/some/key.pem",
        {
            f"{VENV}/some/key.pem": KEY,
            f"{VENV}/more-1.dist-info/RECORD": text(record("some/key.pem", pem().encode())),
        },
    ),
    sin("keys.authorized", "/root/.ssh/authorized_keys", text("ssh-ed25519 AAAA joe\n")),
    sin("keys.authorized", "/etc/hosts.equiv", text("other\n")),
    sin("keys.ssh_host", "/etc/ssh/ssh_host_ed25519_key", OTHER),
    sin("keys.ssh_host", "/etc/ssh/ssh_host_ed25519_key.pub", OTHER),
    sin("identity.machine_id", "/etc/machine-id", text("0123456789abcdef0123456789abcdef\n")),
    sin("identity.machine_id", "/var/lib/dbus/machine-id", text("0123456789abcdef\n")),
    sin("identity.seeds", "/var/lib/systemd/random-seed", OTHER),
    sin("identity.identifiers", "/etc/hostid", OTHER),
    sin("identity.cloud_init", "/var/lib/cloud/instance", File(link="instances/i-1")),
    sin("identity.cloud_init", "/var/lib/cloud/seed/nocloud/user-data", OTHER),
    sin("identity.network", "/var/lib/dhcp/dhclient.eth0.leases", OTHER),
    sin("identity.network", "/etc/udev/rules.d/70-persistent-net.rules", OTHER),
    sin("identity.network", "/etc/resolv.conf", text("nameserver 10.0.0.1\n")),
    sin("identity.names", "/etc/hostname", text("builder-17\n")),
    sin("identity.names", "/etc/hosts", text("127.0.0.1 localhost\n10.0.0.7 builder-17\n")),
    sin("secrets.files", "/opt/agent/.netrc", text("machine a login b password c\n")),
    sin("secrets.files", "/opt/agent/.docker/config.json", text('{"auths": {}}')),
    sin("secrets.files", "/etc/apt/auth.conf.d/site.conf", text("machine a login b password c\n")),
    sin("secrets.urls", "/etc/pip.conf", text("[global]\nindex-url = https://joe:s3cret@pypi.example/\n")),
    sin("secrets.urls", "/etc/apt/sources.list.d/archive.sources", text("URIs: http://joe:s3@deb.example/\n")),
    sin("permissions.privileged", "/usr/bin/copy-of-su", File(b"\x7fELF", 0o4755)),
    sin("permissions.privileged", "/opt/tool", File(b"\x7fELF", 0o2755, 0, 8)),
    sin("permissions.privileged", "/usr/bin/su", File(b"\x7fELF", 0o4775)),
    sin("permissions.privileged", "/usr/bin/ssh-agent", File(b"\x7fELF", 0o2755, 0, 42)),
    sin("permissions.capabilities", "/opt/tool", File(
        b"\x7fELF", 0o755, xattrs={"security.capability": capability(NET_RAW)})),
    sin("permissions.capabilities", "/usr/bin/ping", File(
        b"\x7fELF", 0o755, xattrs={"security.capability": capability(NET_RAW | SYS_ADMIN)})),
    sin("permissions.writable", "/usr/share/some", text("x", 0o666)),
    sin("permissions.writable", "/srv/open", directory(0o777)),
    sin("permissions.owners", "/srv/some", text("x", 0, 4711)),
    sin("permissions.owners", "/srv/some", text("x", 0, 0, 4711)),
    sin("permissions.owners", "/usr/bin/tool", text("x", 0o755, 1000, 1000)),
    sin("permissions.devices", "/srv/disk", File(device="b 8 0")),
    sin("permissions.devices", "/dev/mem", File(device="c 1 1")),
    sin("leftovers.caches", "/var/lib/apt/lists/deb.example_InRelease", OTHER),
    sin("leftovers.caches", "/var/cache/apt/archives/tool.deb", OTHER),
    sin("leftovers.temporary", "/tmp/some", OTHER),
    sin("leftovers.temporary", "/var/tmp/.hidden", OTHER),
    sin("leftovers.tools", "/.dockerenv", File()),
    sin("leftovers.tools", "/usr/sbin/policy-rc.d", OTHER),
    sin("leftovers.tools", "/etc/shadow-", text(SHADOW)),
    sin("leftovers.people", "/root/.bash_history", OTHER),
    sin("leftovers.people", "/home/ubuntu/notes", text("x", 0, 1000, 1000)),
    sin("leftovers.logs", "/var/log/dpkg.log", OTHER),
]  # fmt: skip


@pytest.mark.parametrize(
    ("check", "path", "changes"), SINS, ids=[f"{n}-{c}" for n, (c, _, _) in enumerate(SINS)]
)
def test_each_sin_is_found_and_nothing_else(
    tmp_path: Path, check: str, path: str, changes: dict[str, File]
) -> None:
    found = findings(tmp_path / "work", changes)
    assert [(f.check, f.path) for f in found] == [(check, path)]
    assert found[0].what
    assert found[0].why
    assert found[0].todo


def test_every_check_has_a_sin_here() -> None:
    elsewhere = {"secrets.environment", "keys.dev"}
    assert {c.id for c in CHECKS} == {check for check, _, _ in SINS} | elsewhere


def test_good_variants_are_no_sins(tmp_path: Path) -> None:
    changes = {
        "/etc/machine-id": text("uninitialized\n"),
        "/etc/hostname": text("localhost\n"),
        "/etc/ssh/sshd_config.d/10-site.conf": text(
            "PermitRootLogin no\nMatch User joe\nPasswordAuthentication no\n"
        ),
        # The first line counts.
        "/etc/ssh/sshd_config.d/50-later.conf": text("PasswordAuthentication yes\n"),
        "/etc/sudoers.d/not.read": text("joe ALL=(ALL) NOPASSWD: ALL\n"),
        "/usr/bin/su": File(b"\x7fELF", 0o4750),
        "/etc/environment": text(
            "# http://user:password@proxy, http://$USER:$PASS@proxy\nhttp_proxy=http://proxy:3128\n"
        ),
        "/usr/share/about": text("A file with -----BEGIN PRIVATE KEY----- has a key."),
        "/etc/ssl/certs/some.pem": text(pem("CERTIFICATE")),
        "/etc/ssl/some.key": text(pem("PUBLIC KEY")),
    }
    assert findings(tmp_path / "work", changes) == []


def test_container_images_count_when_their_store_is_open(tmp_path: Path) -> None:
    layer = "/var/lib/docker/overlay2/1/diff"
    changes = {
        "/var/lib/docker": directory(0o710),
        f"{layer}/bin/su": File(b"\x7fELF", 0o4755),
        f"{layer}/var/lib/mysql": directory(0o777, 999, 999),
        f"{layer}/gone": File(device="c 0 0"),
        f"{layer}/root/.cache": directory(),
    }
    assert findings(tmp_path / "closed", changes) == []
    opened = {**changes, "/var/lib/docker": directory(0o711)}
    assert {f.check for f in findings(tmp_path / "open", opened)} == {
        "permissions.privileged", "permissions.writable", "permissions.owners",
        "permissions.devices", "leftovers.caches",
    }  # fmt: skip
    key = {**changes, f"{layer}/etc/key": KEY}
    assert short(findings(tmp_path / "key", key)) == {("keys.private", f"{layer}/etc/key")}


def test_dev_image_has_its_one_key(tmp_path: Path) -> None:
    path = "/etc/trove/dev/id_ed25519"
    dev = Expected("ubuntu", dev_key=path)
    assert findings(tmp_path / "good", {path: KEY}, expected=dev) == []
    open_key = {path: replace(KEY, mode=0o644)}
    assert short(findings(tmp_path / "open", open_key, expected=dev)) == {("keys.dev", path)}
    assert short(findings(tmp_path / "none", {}, expected=dev)) == {("keys.dev", path)}
    two = findings(tmp_path / "two", {path: KEY, f"{path}.old": KEY}, expected=dev)
    assert short(two) == {("keys.private", f"{path}.old")}
    assert ("keys.private", path) in short(findings(tmp_path / "prod", {path: KEY}))


def test_dev_image_has_a_password_of_root_alone(tmp_path: Path) -> None:
    dev = Expected("ubuntu", root_password=True)
    roots = SHADOW.replace("root:*", "root:$y$j9T$a$b")
    assert findings(tmp_path / "good", {"/etc/shadow": text(roots)}, expected=dev) == []
    for n, shadow in enumerate((roots.replace("ubuntu:!", "ubuntu:$6$a$b"), "root:::::::::\n")):
        changes = {"/etc/shadow": text(shadow)}
        found = findings(tmp_path / f"bad{n}", changes, expected=dev)
        assert short(found) == {("accounts.passwords", "/etc/shadow")}


def test_credentials_of_registries_are_where_they_belong(tmp_path: Path) -> None:
    path = "/root/.docker/config.json"
    config = text('{"auths": {"a": {"auth": "' + base64.b64encode(b"j:" + SECRET).decode() + '"}}}')
    secrets = {"the registry's password": SECRET}
    expected = Expected("ubuntu", credentials=(path,))
    good = {path: replace(config, mode=0o600)}
    assert findings(tmp_path / "good", good, expected=expected, secrets=secrets) == []
    readable = findings(tmp_path / "readable", {path: config}, expected=expected, secrets=secrets)
    assert short(readable) == {("secrets.files", path)}
    more = {**good, "/srv/copy": config}
    found = findings(tmp_path / "more", more, expected=expected, secrets=secrets)
    assert short(found) == {("secrets.environment", "/srv/copy")}
    assert short(findings(tmp_path / "unexpected", good)) == {
        ("secrets.files", path), ("leftovers.people", path), ("leftovers.people", "/root/.docker"),
    }  # fmt: skip


SECRET = b"s3cret/pass+word~1"


@pytest.mark.parametrize(
    "written",
    [
        SECRET,
        b"s3cret%2Fpass%2Bword~1",
        b"s3cret%2fpass%2bword~1",
        base64.b64encode(SECRET),
        base64.b64encode(b"j:" + SECRET),
        base64.b64encode(b"joe:" + SECRET + b":"),
        base64.urlsafe_b64encode(b"u:pw:" + SECRET),
    ],
)
def test_secret_in_each_form(tmp_path: Path, written: bytes) -> None:
    changes = {"/usr/share/some": File(b"\0" * 5000 + written + b"\0" * 5000)}
    found = findings(tmp_path / "work", changes, secrets={"the proxy's password": SECRET})
    assert short(found) == {("secrets.environment", "/usr/share/some")}
    assert "the proxy's password" in found[0].what
    assert SECRET.decode() not in str(found)


def test_secret_of_a_deleted_file(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x" * 100 + SECRET)
    commands = (f"write {source} gone", "rm gone")
    found = findings(tmp_path / "work", {}, commands=commands, secrets={"token": SECRET})
    assert [f.check for f in found] == ["secrets.environment"]
    assert "no file owns" in found[0].path


def in_last_block(work: Path, content: bytes) -> list[Finding]:
    """The clean image with something behind the end of /etc/hostname."""
    raw = make_disk(work, CLEAN)
    block = int(debugfs(raw, ["blocks /etc/hostname"]).split()[-1])
    with raw.open("r+b") as file:
        file.seek(MIB + block * 4096 + 1000)
        file.write(content)
    return check_safety(Tree(raw), PRODUCTION, secrets={"token": SECRET})


def test_secret_behind_the_end_of_a_file(tmp_path: Path) -> None:
    found = in_last_block(tmp_path / "work", SECRET)
    assert short(found) == {("secrets.environment", "/etc/hostname, behind its end")}


def test_secret_outside_of_the_partition(tmp_path: Path) -> None:
    raw = make_disk(tmp_path / "work", CLEAN)
    with raw.open("r+b") as file:
        file.seek(MIB - 1000)
        file.write(SECRET)
    found = check_safety(Tree(raw), PRODUCTION, secrets={"token": SECRET})
    assert short(found) == {("secrets.environment", "outside of all partitions")}


def test_private_key_of_a_deleted_file_and_behind_an_end(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_text(pem())
    commands = (f"write {source} gone", "rm gone")
    (found,) = findings(tmp_path / "deleted", {}, commands=commands)
    assert (found.check, found.path) == ("keys.private", "(disk.raw)")
    (found,) = in_last_block(tmp_path / "slack", pem().encode())
    assert (found.check, found.path) == ("keys.private", "/etc/hostname")
    assert "behind its end" in found.what


def test_secret_over_the_border_of_two_fragments(tmp_path: Path) -> None:
    filler = {f"/srv/{n:02}": File(b"f" * 4096) for n in range(40)}
    content = b"a" * (4096 - 7) + SECRET + b"b" * 4096 * 8
    source = tmp_path / "source"
    source.write_bytes(content)
    gaps = [f"rm /srv/{n:02}" for n in range(0, 40, 2)]
    raw = make_disk(tmp_path / "work", filler, commands=[*gaps, f"write {source} pieces"])
    tree = Tree(raw)
    first, second = tree.extents(tree.nodes["/pieces"])[:2]
    assert (first.count, second.physical - first.physical) == (1, 2)
    assert SECRET not in raw.read_bytes()
    (hit,) = search(tree, [SECRET])
    assert (hit.place.where, hit.place.offset) == ("/pieces", 4096 - 7)


def test_matches_that_overlap_are_all_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One inside the other, and at the borders of the pieces in which the disk is read."""
    monkeypatch.setattr("imagebuild.verify.search._CHUNK", 1000)
    raw = make_disk(tmp_path / "work", {"/a": File(b"x")})
    spots = range(4096, 64 << 10, 97)
    with raw.open("r+b") as file:
        for at in spots:
            file.seek(20 * MIB + at)
            file.write(b"one-two-three")
    hits = search(Tree(raw), [b"two", b"one-two-three", b"-three", b"ee"])
    starts = {0: 4, 1: 0, 2: 7, 3: 11}
    wanted = [(20 * MIB + at + starts[n], n) for at in spots for n in starts]
    assert sorted((h.place.offset, h.needle) for h in hits) == sorted(wanted)


def test_secret_that_is_too_short(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the token is too short"):
        findings(tmp_path / "work", {}, secrets={"the token": b"abc"})


def test_forms_hold_the_secret_wherever_it_stands() -> None:
    for before in range(7):
        for after in range(4):
            whole = base64.b64encode(b"u" * before + SECRET + b"t" * after)
            assert any(form in whole for form in forms(SECRET))


def test_known_lists_have_reasons() -> None:
    for kind in ("privileged", "capabilities", "devices", "homes", "published_keys"):
        for entry in known()[kind]:
            assert entry["path"].startswith("/")
            assert entry["reason"]
    assert {e["mode"][0] for e in known()["privileged"]} <= {"2", "4", "6"}


@pytest.mark.parametrize(
    ("path", "pattern", "good"),
    [
        ("/a/b", "/a/*", True),
        ("/a/b/c", "/a/*", False),
        ("/a/b/c", "/a/**", True),
        ("/.netrc", "**/.netrc", True),
        ("/x/y/.netrc", "**/.netrc", True),
        ("/x.netrc", "**/.netrc", False),
        ("/a/b", "/a/?", False),
    ],
)
def test_globs(path: str, pattern: str, good: bool) -> None:
    assert glob_matches(path, pattern) is good


def test_capability_names() -> None:
    assert capability_names(capability(NET_RAW | 1 << 39)) == {"cap_net_raw", "cap_bpf"}
    assert capability_names(b"\1\0\0\3" + bytes(20)) == set()
    assert capability_names(b"") == {"?"}
    assert capability_names(b"\1\0\0\x09" + bytes(20)) == {"?"}


def test_severities_and_json(tmp_path: Path) -> None:
    (found,) = findings(tmp_path / "work", {"/etc/hostname": text("builder-17\n")})
    assert found.severity is Severity.WARNING
    assert found.to_json()["severity"] == "warning"
    assert set(found.to_json()) == {"check", "path", "what", "why", "todo", "severity"}


def test_real_key_of_ssh_keygen(tmp_path: Path) -> None:
    """Real keys of each kind, not only what looks like one."""
    for n, options in enumerate((["-t", "ed25519"], ["-t", "rsa", "-b", "1024", "-m", "PEM"])):
        key = tmp_path / f"key{n}"
        subprocess.run(["ssh-keygen", "-q", "-N", "", *options, "-f", key], check=True)
        found = findings(tmp_path / f"work{n}", {"/srv/some": File(key.read_bytes())})
        assert short(found) == {("keys.private", "/srv/some")}
