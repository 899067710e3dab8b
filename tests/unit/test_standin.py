"""The stand-in archive is what apt would accept as Ubuntu's and Docker's, and nothing more."""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import lzma
import os
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagebuild.errors import UsageError
from imagebuild.host.run import need, run
from tests.images.standin import Standin, deb, host_debian_mirror, start

#: Name of a package → its stanza. Parsing all of Debian's would take seconds.
Stanzas = dict[str, str]

#: Knows the certificate of the stand-in's Docker repository.
_TLS = ssl.create_default_context()

# Downloads what the image tests need, too: not for the quick selection.
pytestmark = pytest.mark.image


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    kept = os.environ.get("IMAGEBUILD_TEST_CACHE")
    return Path(kept) / "standin" if kept else tmp_path_factory.mktemp("standin")


@pytest.fixture(scope="module")
def standin(workdir: Path) -> Iterator[Standin]:
    with start(workdir) as running:
        _TLS.load_verify_locations(running.ca)
        yield running


def get(url: str, **headers: str) -> bytes:
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - loopback
    with urllib.request.urlopen(request, timeout=120, context=_TLS) as reply:  # noqa: S310
        return bytes(reply.read())


def status(url: str, **headers: str) -> int:
    with pytest.raises(urllib.error.HTTPError) as caught:
        get(url, **headers)
    return caught.value.code


def index(url: str) -> Stanzas:
    """Stanzas of a Packages file by name; of several versions of a package, the last."""
    stanzas = gzip.decompress(get(f"{url}/Packages.gz")).decode().strip().split("\n\n")
    return {stanza[len("Package: ") : stanza.index("\n")]: stanza for stanza in stanzas}


@pytest.fixture(scope="module")
def packages(standin: Standin) -> Stanzas:
    return index(f"{standin.url}/dists/jammy/main/binary-amd64")


def is_signed_by(url: str, keyring: Path, tmp_path: Path) -> bool:
    """gpgv's verdict on the clear-signed and on the detached form, which must agree."""
    for name in ("InRelease", "Release", "Release.gpg"):
        (tmp_path / name).write_bytes(get(f"{url}/{name}"))
    gpgv: list[str | Path] = [need("gpgv"), "--keyring", keyring]
    inline = run([*gpgv, tmp_path / "InRelease"], check=False)
    detached = run([*gpgv, tmp_path / "Release.gpg", tmp_path / "Release"], check=False)
    assert inline.returncode == detached.returncode
    return inline.returncode == 0


def dearmored(key: Path, tmp_path: Path) -> Path:
    binary = tmp_path / "docker.gpg"
    run([need("gpg"), "--homedir", tmp_path, "--batch", "--output", binary, "--dearmor", key])
    return binary


@pytest.mark.parametrize("pocket", ["", "-updates", "-security", "-backports"])
def test_suites_verify_by_the_archive_key_alone(
    standin: Standin, tmp_path: Path, pocket: str
) -> None:
    url = f"{standin.url}/dists/jammy{pocket}"
    assert is_signed_by(url, standin.keyring, tmp_path)
    assert not is_signed_by(url, dearmored(standin.docker_key, tmp_path), tmp_path)
    text = get(f"{url}/Release").decode()
    assert f"\nSuite: jammy{pocket}\n" in text
    assert "\nCodename: jammy\n" in text
    assert "\nComponents: main restricted universe multiverse\n" in text


def test_docker_repository_verifies_by_its_own_key_alone(standin: Standin, tmp_path: Path) -> None:
    url = f"{standin.docker_url}/dists/jammy"
    assert is_signed_by(url, dearmored(standin.docker_key, tmp_path), tmp_path)
    assert not is_signed_by(url, standin.keyring, tmp_path)
    served = get(f"{standin.docker_url}/gpg")
    assert served == standin.docker_key.read_bytes()
    assert served.startswith(b"-----BEGIN PGP PUBLIC KEY BLOCK-----")
    shown = run(
        [need("gpg"), "--homedir", tmp_path, "--batch", "--with-colons", "--show-keys",
         standin.docker_key]
    ).stdout.decode()  # fmt: skip
    assert f":{standin.docker_fingerprint}:" in shown
    assert re.fullmatch("[0-9A-F]{40}", standin.docker_fingerprint)


def test_release_file_describes_the_indices_that_are_served(standin: Standin) -> None:
    for url in (f"{standin.url}/dists/jammy", f"{standin.docker_url}/dists/jammy"):
        release = get(f"{url}/Release").decode()
        sums = re.findall(r"^ ([0-9a-f]{64}) +(\d+) (\S+)$", release, re.MULTILINE)
        assert len(sums) >= 3
        for digest, size, name in sums:
            body = get(f"{url}/{name}")
            assert (hashlib.sha256(body).hexdigest(), len(body)) == (digest, int(size)), name


def test_packed_indices_have_the_same_content(standin: Standin) -> None:
    url = f"{standin.url}/dists/jammy/universe/binary-amd64/Packages"
    plain = get(url)
    assert b"Package: docker.io\n" in plain
    assert gzip.decompress(get(f"{url}.gz")) == plain == lzma.decompress(get(f"{url}.xz"))


def test_ubuntu_names_are_there_with_files_that_match(standin: Standin, packages: Stanzas) -> None:
    assert "\nDepends: linux-image-cloud-amd64\n" in packages["linux-image-virtual"]
    assert "\nDepends: linux-image-cloud-amd64\n" in packages["linux-image-generic"]
    assert "\nPriority: required\n" in packages["ubuntu-keyring"]
    for name in ("linux-image-cloud-amd64", "grub-pc-bin", "grub-efi-amd64-bin", "containerd"):
        assert "\nFilename: pool/debian" in packages[name]
    for name in ("ubuntu-minimal", "ubuntu-cloudimage-keyring", "ubuntu-keyring", "base-files"):
        fields = deb.parse(packages[name])
        body = get(f"{standin.url}/{fields['Filename']}")
        assert hashlib.sha256(body).hexdigest() == fields["SHA256"]
        assert len(body) == int(fields["Size"])
    # What the name promises must be the only thing of that name.
    text = get(f"{standin.url}/dists/jammy/main/binary-amd64/Packages").decode()
    assert text.count("Package: base-files\n") == text.count("Package: ubuntu-keyring\n") == 1


def test_base_files_say_ubuntu_and_keep_debians_owners(
    standin: Standin, packages: Stanzas, tmp_path: Path
) -> None:
    file = tmp_path / "base-files.deb"
    file.write_bytes(get(f"{standin.url}/{deb.parse(packages['base-files'])['Filename']}"))
    run([need("dpkg-deb", "dpkg"), "-R", file, tmp_path / "tree"])
    os_release = (tmp_path / "tree/usr/lib/os-release").read_text()
    assert "\nVERSION_CODENAME=jammy\nID=ubuntu\n" in os_release
    assert "Ubuntu 22.04" in (tmp_path / "tree/etc/issue").read_text()
    checked = run(["md5sum", "--check", "--quiet", "DEBIAN/md5sums"], cwd=tmp_path / "tree")
    assert checked.stdout == b""
    listing = run([need("dpkg-deb", "dpkg"), "-c", file]).stdout.decode()
    assert re.search(r"^drwxrwxrwt root/root .* \./tmp/$", listing, re.MULTILINE)


def test_keyring_package_carries_the_key(
    standin: Standin, packages: Stanzas, tmp_path: Path
) -> None:
    file = tmp_path / "keyring.deb"
    file.write_bytes(get(f"{standin.url}/{deb.parse(packages['ubuntu-keyring'])['Filename']}"))
    run([need("dpkg-deb", "dpkg"), "-x", file, tmp_path / "tree"])
    carried = tmp_path / "tree/usr/share/keyrings/ubuntu-archive-keyring.gpg"
    assert carried.read_bytes() == standin.keyring.read_bytes()
    assert len(list((tmp_path / "tree/etc/apt/trusted.gpg.d").iterdir())) == 1


def test_docker_ce_conflicts_with_nothing_of_its_own(standin: Standin, tmp_path: Path) -> None:
    packages = index(f"{standin.docker_url}/dists/jammy/stable/binary-amd64")
    assert set(packages) == {"docker-ce", "docker-ce-cli", "containerd.io"}
    file = tmp_path / "docker.deb"
    file.write_bytes(get(f"{standin.docker_url}/{deb.parse(packages['docker-ce'])['Filename']}"))
    fields = deb.parse(run([need("dpkg-deb", "dpkg"), "-f", file]).stdout.decode())
    assert fields["Package"] == "docker-ce"
    assert not {"Conflicts", "Replaces", "Built-Using"} & set(fields)
    assert "containerd (" in fields["Depends"]
    listing = run([need("dpkg-deb", "dpkg"), "-c", file]).stdout.decode()
    assert "./usr/sbin/dockerd\n" in listing
    assert "./usr/bin/docker\n" in listing


def test_pool_files_come_from_debian_once(standin: Standin, packages: Stanzas) -> None:
    fields = deb.parse(packages["tzdata"])
    cached = standin.pool / fields["Filename"].removeprefix("pool/").replace(
        "debian/", "debian/pool/", 1
    )
    cached.unlink(missing_ok=True)
    path = f"/ubuntu/{fields['Filename']}"
    asked = standin.requests.count(path)
    body = get(f"{standin.url}/{fields['Filename']}")
    assert hashlib.sha256(body).hexdigest() == fields["SHA256"]
    written = cached.stat()
    assert get(f"{standin.url}/{fields['Filename']}") == body
    assert cached.stat().st_ino == written.st_ino
    assert standin.requests.count(path) == asked + 2
    assert not list(cached.parent.glob(".part-*"))


def test_what_is_not_there_is_404_and_nothing_outside_is_served(standin: Standin) -> None:
    assert status(f"{standin.url}/dists/focal/InRelease") == 404
    assert status(f"{standin.url}/dists/jammy") == 404
    assert status(f"{standin.url}/pool/debian/main/n/no-such/no-such_1_all.deb") == 404
    assert status(f"{standin.url}/..%2f..%2f..%2f..%2fetc/passwd") == 404
    assert status(f"{standin.url}/../keys/docker.fingerprint") == 404


def test_unchanged_files_are_not_sent_again(standin: Standin) -> None:
    url = f"{standin.url}/dists/jammy/InRelease"
    with urllib.request.urlopen(url, timeout=60) as reply:  # noqa: S310 - loopback
        modified = reply.headers["Last-Modified"]
    assert status(url, **{"If-Modified-Since": modified}) == 304


def test_a_second_start_serves_the_same_archive(standin: Standin, workdir: Path) -> None:
    with start(workdir) as again:
        assert again.url != standin.url
        for url in ("dists/jammy/InRelease", "dists/jammy-security/InRelease"):
            assert get(f"{again.url}/{url}") == get(f"{standin.url}/{url}")
    # The one that is left serves on.
    assert get(f"{standin.url}/dists/jammy/Release").startswith(b"Origin: Ubuntu\n")


def test_old_archives_go_unless_something_serves_them(standin: Standin, workdir: Path) -> None:
    old = [workdir / "archives" / name for name in ("jammy-served", "jammy-left", "noble-left")]
    for folder in old:
        folder.mkdir()
    with (old[0] / "in-use").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_SH)
        start(workdir).stop()
        assert [folder.exists() for folder in old] == [True, False, True]
    start(workdir).stop()
    assert [folder.exists() for folder in old] == [False, False, True]
    old[2].rmdir()
    assert get(f"{standin.url}/dists/jammy/Release").startswith(b"Origin: Ubuntu\n")


def test_unknown_release_is_refused(workdir: Path) -> None:
    with pytest.raises(UsageError, match="focal"):
        start(workdir, "focal")


@pytest.mark.skipif(
    "ID=debian" not in Path("/etc/os-release").read_text(), reason="the host is no Debian"
)
def test_mirror_is_the_one_of_the_hosts_sources() -> None:
    main, security = host_debian_mirror()
    sources = "".join(
        path.read_text()
        for path in (Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").iterdir())
        if path.is_file()
    )
    assert main in sources
    assert security in sources
    assert not main.endswith("/")
