"""The packages that Debian does not have under the names that Ubuntu and Docker use."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from imagebuild.errors import BuildError
from imagebuild.host.run import need, run
from tests.images.standin import deb, mirror

#: Control fields of a package, and its bytes.
Package = tuple[dict[str, str], bytes]


@dataclass(frozen=True)
class Release:
    """What Ubuntu says about one of its releases."""

    suite: str
    version: str
    pretty: str
    born: datetime  # the keys are as old as the release


RELEASES = {
    release.suite: release
    for release in (
        Release("jammy", "22.04", "22.04.5 LTS (Jammy Jellyfish)",
                datetime(2022, 4, 21, tzinfo=timezone.utc)),
        Release("noble", "24.04", "24.04.3 LTS (Noble Numbat)",
                datetime(2024, 4, 25, tzinfo=timezone.utc)),
    )
}  # fmt: skip


class Packages:
    """Makes packages for a release out of what Debian's suites hold.

    `upstream` is each suite with its stanzas, `pool` the cache of Debian's files, `when`
    the time, in seconds, that made files carry.
    """

    def __init__(
        self,
        release: Release,
        upstream: Sequence[tuple[mirror.Suite, list[str]]],
        pool: Path,
        when: int,
    ) -> None:
        self.release = release
        self.upstream = upstream
        self.pool = pool
        self.when = when

    def ubuntu(self, keyring: bytes) -> list[Package]:
        version = self.release.version
        keyring_files = {
            "usr/share/keyrings/ubuntu-archive-keyring.gpg": keyring,
            "etc/apt/trusted.gpg.d/ubuntu-keyring-2018-archive.gpg": keyring,
        }
        kernel = {"Depends": "linux-image-cloud-amd64"}
        made = [
            self._made("linux-image-generic", version, kernel),
            self._made("linux-image-virtual", version, kernel),
            self._made("ubuntu-minimal", version, {"Depends": "init"}),
            self._made("ubuntu-keyring", version, {"Priority": "required"}, keyring_files),
            self._made("ubuntu-cloudimage-keyring", version, {}),
        ]

        def newer(control: dict[str, str]) -> dict[str, str]:
            epoch = version.replace(".", "")
            return control | {"Version": f"{epoch}:{control['Version']}"}

        made.append(self._repacked("base-files", newer, self._os_release()))
        return made

    def _os_release(self) -> dict[str, bytes]:
        release = self.release
        full = f"Ubuntu {release.pretty.split(' (')[0]}"
        return {
            "usr/lib/os-release": (
                f'PRETTY_NAME="{full}"\nNAME="Ubuntu"\nVERSION_ID="{release.version}"\n'
                f'VERSION="{release.pretty}"\nVERSION_CODENAME={release.suite}\nID=ubuntu\n'
                f"ID_LIKE=debian\nUBUNTU_CODENAME={release.suite}\n"
            ).encode(),
            "etc/lsb-release": (
                f"DISTRIB_ID=Ubuntu\nDISTRIB_RELEASE={release.version}\n"
                f'DISTRIB_CODENAME={release.suite}\nDISTRIB_DESCRIPTION="{full}"\n'
            ).encode(),
            "etc/issue": f"{full} \\n \\l\n\n".encode(),
            "etc/issue.net": f"{full}\n".encode(),
        }

    def docker(self) -> list[Package]:
        """Debian's docker.io under Docker's name.

        A metapackage could not do it, since docker.io conflicts with docker-ce.
        """
        tail = f"-1~ubuntu.{self.release.version}~{self.release.suite}"

        def as_docker(control: dict[str, str]) -> dict[str, str]:
            dropped = ("Conflicts", "Replaces", "Breaks", "Built-Using", "Source")
            kept = {name: value for name, value in control.items() if name not in dropped}
            version = re.split(r"[+~-]", control["Version"])[0]
            return kept | {"Package": "docker-ce", "Version": f"5:{version}{tail}"}

        engine = self._repacked("docker.io", as_docker, {})
        version = engine[0]["Version"]
        containerd = re.split(r"[+~-]", self._newest("containerd")[1]["Version"])[0] + tail
        return [
            engine,
            self._made("docker-ce-cli", version, {"Depends": "docker-ce"}),
            self._made("containerd.io", containerd, {"Depends": "containerd"}),
        ]

    def _made(
        self,
        name: str,
        version: str,
        extra: Mapping[str, str],
        files: Mapping[str, bytes] | None = None,
    ) -> Package:
        control = {
            "Package": name,
            "Version": version,
            "Architecture": "amd64",
            "Maintainer": "Stand-in archive <archive@standin.invalid>",
            "Installed-Size": "1",
            "Section": "misc",
            "Priority": "optional",
            **extra,
            "Description": f"stand-in for the package {name}",
        }
        return control, deb.make(control, files or {}, self.when)

    def _repacked(
        self,
        name: str,
        change: Callable[[dict[str, str]], dict[str, str]],
        files: Mapping[str, bytes],
    ) -> Package:
        suite, index = self._newest(name)
        path = self.pool / suite.archive / index["Filename"]
        if not path.exists():
            mirror.download_to(f"{suite.base}/{index['Filename']}", path)
        package = path.read_bytes()
        if hashlib.sha256(package).hexdigest() != index["SHA256"]:
            path.unlink()
            raise BuildError("a package does not match the index", where=str(path))
        control = change(deb.control_of(package))
        return control, deb.repack(package, control, files, self.when)

    def _newest(self, name: str) -> tuple[mirror.Suite, dict[str, str]]:
        """Of the same package in several suites, the one that apt would take."""
        best: tuple[mirror.Suite, dict[str, str]] | None = None
        for suite, stanzas in self.upstream:
            for stanza in stanzas:
                if not stanza.startswith(f"Package: {name}\n"):
                    continue
                fields = deb.parse(stanza)
                if best is None or _is_newer(fields["Version"], best[1]["Version"]):
                    best = (suite, fields)
        if best is None:
            raise BuildError(f"the Debian mirror has no package {name}")
        return best


def _is_newer(version: str, other: str) -> bool:
    compared = run([need("dpkg"), "--compare-versions", version, "gt", other], check=False)
    return compared.returncode == 0
