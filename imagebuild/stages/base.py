"""The base stage: distribution, kernel, cloud-init, docker.

This half runs as the user: it writes what DIB's hooks read. The other half is
`trees.compose`, in the privileged worker.
"""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from imagebuild.inputs import Archive, Inputs, Registry

#: The host's own CA bundle: Debian and Ubuntu, Fedora.
HOST_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")


def write_inputs(inputs: Inputs, directory: Path, environ: Mapping[str, str]) -> None:
    """Write the files that the base stage's elements are pointed to.

    `directory/apt`: per archive NAME.sources and NAME.d/KEYRING; `bootstrap.list` and
    `host.conf` for mmdebstrap's apt on the host, `target.conf` for apt in the tree.
    `directory/docker`, `directory/ca`: as the elements' READMEs say. `environ` holds the
    network variables.
    """
    apt = directory / "apt"
    apt.mkdir(parents=True)
    for archive in inputs.archives:
        if archive.name != "docker":
            _write_archive(archive, inputs.arch, apt)
    _write_bootstrap(inputs, apt)
    _write_apt_conf(apt, environ)
    docker = directory / "docker"
    docker.mkdir()
    if inputs.docker_key:
        archive = next(a for a in inputs.archives if a.name == "docker")
        (docker / "docker.asc").write_bytes(inputs.docker_key.data)
        (docker / "docker.sources").write_text(
            deb822(archive, inputs.arch, "/etc/apt/keyrings/docker.asc")
        )
    _write_registries(inputs.registries, docker)
    ca = directory / "ca"
    ca.mkdir()
    for certificate in inputs.certificates:
        (ca / certificate.name).write_bytes(certificate.pem)


def _write_archive(archive: Archive, arch: str, apt: Path) -> None:
    # The element puts the keyring's final path where @KEYRING@ stands.
    (apt / f"{archive.name}.sources").write_text(deb822(archive, arch, "@KEYRING@"))
    keyrings = apt / f"{archive.name}.d"
    keyrings.mkdir()
    shutil.copyfile(archive.keyring, keyrings / archive.keyring.name)


def _write_registries(registries: Sequence[Registry], docker: Path) -> None:
    """CA files as docker's `certs.d` has them, and the `config.json` of who pulls.

    Docker's documentation: "Verify repository client with certificates", "docker login".
    """
    auths = {}
    for registry in registries:
        if registry.ca:
            place = docker / "certs.d" / registry.host
            place.mkdir(parents=True)
            (place / "ca.crt").write_bytes(registry.ca)
        if registry.password:
            words = f"{registry.username}:{registry.password}"
            auths[registry.host] = {"auth": base64.b64encode(words.encode()).decode()}
    if auths:
        config = docker / "config.json"
        config.touch(mode=0o600)
        config.write_text(json.dumps({"auths": auths}, indent=1) + "\n")


def _write_bootstrap(inputs: Inputs, apt: Path) -> None:
    """All suites of the distribution in the form that every mmdebstrap reads (sources.list(5)).

    Keyrings are named by their places on the host, where mmdebstrap's apt runs.
    """
    lines = []
    for archive in inputs.archives:
        if archive.name == "docker":
            continue
        keyring = apt / f"{archive.name}.d" / archive.keyring.name
        options = f"arch={inputs.arch} signed-by={keyring}"
        if archive.is_snapshot:
            options += " check-valid-until=no"
        components = " ".join(archive.components)
        lines += [f"deb [{options}] {archive.url} {s.name} {components}\n" for s in archive.suites]
    (apt / "bootstrap.list").write_text("".join(lines))


def deb822(archive: Archive, arch: str, keyring: str) -> str:
    """The archive as a deb822 sources file (sources.list(5)), for the image's own architecture."""
    lines = {
        "Types": "deb",
        "URIs": archive.url,
        "Suites": " ".join(s.name for s in archive.suites),
        "Components": " ".join(archive.components),
        "Architectures": arch,
        "Signed-By": keyring,
    }
    if archive.is_snapshot:
        lines["Check-Valid-Until"] = "no"
    return "".join(f"{k}: {v}\n" for k, v in lines.items())


def _write_apt_conf(apt: Path, environ: Mapping[str, str]) -> None:
    """Proxy, CA and retries for apt: in files, since an argument can be read by everybody."""
    lines = ['Acquire::Retries "3";']
    for scheme in ("http", "https"):
        proxy = environ.get(f"{scheme}_proxy") or environ.get(f"{scheme.upper()}_PROXY")
        if proxy:
            lines.append(f'Acquire::{scheme}::Proxy "{proxy}";')
    direct = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    for host in filter(None, (h.strip() for h in direct.split(","))):
        lines += [f'Acquire::{s}::Proxy::{host} "DIRECT";' for s in ("http", "https")]
    ca = _ca_file(environ)
    on_host, in_target = list(lines), list(lines)
    if ca:
        shutil.copyfile(ca, apt / "build-ca.pem")
        on_host.append(f'Acquire::https::CAInfo "{apt / "build-ca.pem"}";')
        in_target.append('Acquire::https::CAInfo "/etc/apt/imagebuild-build-ca.pem";')
    for name, content in (("host.conf", on_host), ("target.conf", in_target)):
        path = apt / name
        path.touch(mode=0o600)
        path.write_text("\n".join(content) + "\n")


def _ca_file(environ: Mapping[str, str]) -> Path | None:
    """The bundle that the environment names, or the host's own.

    apt in the tree needs one for https archives before ca-certificates is installed there.
    """
    named = (environ.get(n) for n in ("SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"))
    for path in (*filter(None, named), *HOST_BUNDLES):
        if Path(path).is_file():
            return Path(path)
    return None


def secrets(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Parts of the network variables that must not reach a log: passwords, whole userinfos.

    A name without a password may be a token. It is struck out together with its "@": alone,
    a short one would take words away that have nothing to do with it.
    """
    found = set()
    for value in environ.values():
        for word in value.split():
            try:
                # Proxies are also said without a scheme: user:password@host:port.
                parts = urlsplit(word if "://" in word else f"//{word}")
            except ValueError:
                continue
            userinfo = parts.netloc.rpartition("@")[0]
            if parts.password:
                found |= {userinfo, parts.password, unquote(parts.password)}
            elif userinfo:
                found.add(f"{userinfo}@")
    return tuple(sorted(found, key=lambda s: (-len(s), s)))
