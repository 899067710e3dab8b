"""What a build is lent: where it fetches from, with logins that stay where they are."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from imagebuild.backupimage.redirects import Redirects
from imagebuild.errors import ConfigError, UsageError
from imagebuild.host.run import run

ONE_LINE = """\
deb http://deb.debian.org/debian bookworm main
deb http://security.debian.org/debian-security bookworm-security main
deb http://deb.debian.org/debian-security/ bookworm-security main
deb https://archive.invalid/debian bookworm main
deb http://repo.percona.invalid/tools/apt bookworm main
"""
DEB822 = """\
Types: deb
URIs: http://archive.ubuntu.com/ubuntu/
Suites: noble
Signed-By: /usr/share/keyrings/ubuntu-archive-keyring.gpg

Types: deb
URIs: http://de.archive.ubuntu.com/ubuntu http://security.ubuntu.com/ubuntu/
Suites: noble-security

Types: deb
URIs: http://ports.ubuntu.com/ubuntu-ports/
"""


def rewritten(redirects: Redirects, text: str, directory: Path) -> str:
    """Sources of apt, as apt-get finds them within a build."""
    redirects.write(directory / "lent")
    file = directory / "sources"
    file.write_text(text)
    return run(["sed", "-E", "-f", directory / "lent/sources.sed", file]).stdout.decode()


def test_debians_archive_is_exchanged_and_nothing_else(tmp_path: Path) -> None:
    mirror = Redirects(apt_mirror="https://mirror.example/a&b/debian")
    assert rewritten(mirror, ONE_LINE, tmp_path) == (
        "deb https://mirror.example/a&b/debian/ bookworm main\n"
        "deb https://mirror.example/a&b/debian-security/ bookworm-security main\n"
        "deb https://mirror.example/a&b/debian-security/ bookworm-security main\n"
        "deb https://archive.invalid/debian bookworm main\n"
        "deb http://repo.percona.invalid/tools/apt bookworm main\n"
    )


def test_ubuntus_archive_is_exchanged(tmp_path: Path) -> None:
    mirror = Redirects(apt_mirror="http://mirror.example/ubuntu/")
    found = rewritten(mirror, DEB822, tmp_path)
    assert [line for line in found.splitlines() if line.startswith("URIs")] == [
        "URIs: http://mirror.example/ubuntu/",
        "URIs: http://mirror.example/ubuntu/ http://mirror.example/ubuntu/",
        "URIs: http://mirror.example/ubuntu/",
    ]
    assert "Signed-By: /usr/share/keyrings/ubuntu-archive-keyring.gpg" in found


def test_other_addresses_are_exchanged_in_sources_and_scripts(tmp_path: Path) -> None:
    pair = ("http://repo.percona.invalid/", "https://mirror.example/percona/")
    redirects = Redirects(urls=(pair,))
    line = "deb https://mirror.example/percona/tools/apt bookworm main\n"
    assert line in rewritten(redirects, ONE_LINE, tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    dot = "http://repo-percona.invalid/"
    assert rewritten(redirects, dot, other) == dot
    script = redirects.rewrite("curl http://repo.percona.invalid/apt/x.deb")
    assert script == "curl https://mirror.example/percona/apt/x.deb"


def test_logins_are_in_files_for_root_alone(tmp_path: Path) -> None:
    redirects = Redirects(
        apt_mirror="https://site:p%40ss@mirror.example:8443/ubuntu",
        pip_index="http://user:word@index.example:81/simple",
        environ={"HTTPS_PROXY": "http://me:'quoted'@proxy.example:3128"},
    )
    lent = tmp_path / "lent"
    redirects.write(lent)
    assert stat.S_IMODE(lent.stat().st_mode) == 0o700
    for path in lent.rglob("*"):
        if path.is_file() and "bin" not in path.parts and path.name != "shell":
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    auth = "machine https://mirror.example:8443/ubuntu login site password p@ss\n"
    assert (lent / "auth.conf").read_text() == auth
    assert "site" not in (lent / "sources.sed").read_text()
    pip = (lent / "pip.conf").read_text().splitlines()
    assert pip[1:] == [
        "index-url = http://user:word@index.example:81/simple",
        "trusted-host = index.example:81",
    ]
    assert {"p@ss", "p%40ss", "word", "site:p%40ss", "user:word"} < set(redirects.secrets)
    assert "word" not in repr(redirects)


def test_the_shell_lends_its_settings_to_one_command(tmp_path: Path) -> None:
    redirects = Redirects(
        pip_index="https://index.example/simple",
        environ={"http_proxy": "http://me:'x y'@proxy.example", "UNRELATED": "1"},
    )
    lent = tmp_path / "lent"
    redirects.write(lent)
    said = run([lent / "shell", 'echo "$http_proxy|$HTTP_PROXY|$PIP_CONFIG_FILE|$UNRELATED"; '
                                'command -v apt-get; echo "$DEBIAN_FRONTEND"'])  # fmt: skip
    proxy = "http://me:'x y'@proxy.example"
    assert said.stdout.decode().splitlines() == [
        f"{proxy}|{proxy}|{lent}/pip.conf|", f"{lent}/bin/apt-get", "noninteractive",
    ]  # fmt: skip


def test_the_shell_ends_as_its_command_does(tmp_path: Path) -> None:
    Redirects().write(tmp_path / "lent")
    assert run([tmp_path / "lent/shell", "exit 7"], check=False).returncode == 7
    assert run([tmp_path / "lent/shell", "false || echo ok"]).stdout == b"ok\n"


@pytest.mark.parametrize(
    "url", ["mirror", "ftp://mirror/x", "http://", "http://a b/", "http://a/#"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(UsageError):
        Redirects(apt_mirror=url)
    with pytest.raises(UsageError):
        Redirects(urls=(("http://a/", url),))


def test_an_address_that_gets_into_the_image_may_have_no_login() -> None:
    with pytest.raises(UsageError) as caught:
        Redirects(urls=(("http://a/", "http://me:secret@b/"),))
    assert "secret" not in str(caught.value)


def test_a_ca_must_be_one(tmp_path: Path) -> None:
    (tmp_path / "ca").write_text("nothing\n")
    with pytest.raises(ConfigError, match="no certificate"):
        Redirects(ca=tmp_path / "ca")
    with pytest.raises(ConfigError, match="cannot be read"):
        Redirects(ca=tmp_path / "absent")
