"""Profile → Inputs: the only step that asks the network.

What the network says is remembered (see memory.py). With `offline` nothing is asked: what
was never learned is named in `Inputs.unresolved`.
"""

from __future__ import annotations

import base64
import os
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from imagebuild import __version__, archive, dib
from imagebuild.agent.pipconf import strip_userinfo
from imagebuild.agent.source import resolve_agent
from imagebuild.archive import Suite
from imagebuild.config.profile import DockerRepository, Profile
from imagebuild.config.values import parse_snapshot
from imagebuild.data import elements_dir
from imagebuild.digest import of_bytes
from imagebuild.errors import ConfigError
from imagebuild.files import MIB, is_file, read_limited
from imagebuild.host import versions
from imagebuild.host.background import start
from imagebuild.host.run import network_env
from imagebuild.inputs import Archive, DockerKey, Inputs
from imagebuild.memory import Memory
from imagebuild.preload import resolve_preload
from imagebuild.registry.layout import Layout
from imagebuild.trust import resolve_certificates, resolve_dev, resolve_registries

BASE_ELEMENTS = (
    "imagebuild-distro",
    "imagebuild-boot",
    "imagebuild-clean",
    "imagebuild-tree",
    "trove-cloud-init",
    "trove-docker",
    "trove-guest-base",
)
#: What starts from a finished tree begins with these.
_SEEDED = ("imagebuild-seed", "imagebuild-clean", "imagebuild-tree")
AGENT_ELEMENTS = (*_SEEDED, "trove-guest-agent")
#: Comes on top of the agent in a dev image.
DEV_ELEMENT = "trove-guest-dev"

#: Largest keyring, in bytes; that of all Debian developers has half of it.
MAX_KEYRING = 64 * MIB


def resolve(
    profile: Profile,
    *,
    workdir: Path,
    memory: Path | None = None,
    containers: Path | None = None,
    offline: bool = False,
    for_run: bool = True,
) -> Inputs:
    """Resolve a profile.

    `workdir` holds clones and downloads that later runs may use again, `memory` what the
    network said, `containers` the container images. Without `for_run` the plan is only to be
    shown: the keys of a dev image, which no second build has, are not made and count as not
    resolved. Raises ConfigError, TemporaryError, PreflightError as the parts do.
    """
    arch = str(profile.arch)
    _refuse_credentials(profile)
    network = Memory(memory, offline=offline)
    agent_ = start(
        resolve_agent,
        profile.agent.source,
        str(profile.agent.series) if profile.agent.series else None,
        profile.python,
        workdir=workdir,
        memory=network,
        env=network_env(),
        release=f"{profile.os} {profile.release}",
    )
    archives_ = start(_archives, profile, network)
    docker_ = start(_docker, profile, network)
    registries = resolve_registries(profile)
    preload_ = start(
        resolve_preload, profile, registries, Layout(containers or workdir), offline=offline
    )
    dev = resolve_dev(profile, for_run=for_run)
    asked = {"base": (*BASE_ELEMENTS, *profile.elements.base), "environment": AGENT_ELEMENTS}
    if late := (*([DEV_ELEMENT] if dev else []), *profile.elements.agent):
        asked["late"] = (*_SEEDED, *late)
    paths = (*profile.elements.path, elements_dir())
    elements = {run: dib.find_elements(names, paths) for run, names in asked.items()}
    if not offline:
        versions.keep(network)
    agent, archives = agent_.result(), archives_.result()
    docker_archive, docker_key = docker_.result()
    preload = preload_.result()
    archives += docker_archive
    unresolved = [_release_file(a.url, s.name) for a in archives for s in a.suites if not s.sha256]
    unresolved += [
        f"keyring {a.keyring}" for a in archives if not a.keyring_sha256 and a.name != "docker"
    ]
    if not agent.resolved:
        unresolved.append(f"guest agent {agent.requested}")
    if profile.docker.repository and docker_key is None:
        unresolved.append(f"key of {profile.docker.repository.url}")
    unresolved += [image.label for image in preload if image.resolved is None]
    if dev and dev.mark is None:
        unresolved.append("keys of the dev image, which each build makes anew")
    return Inputs(
        profile=profile,
        arch=arch,
        archives=archives,
        docker_key=docker_key,
        certificates=resolve_certificates(profile),
        registries=registries,
        dev=dev,
        asked_elements=asked,
        elements=elements,
        element_paths=paths,
        agent=agent,
        preload=preload,
        tools=tool_versions(),
        network_variables=tuple(sorted(network_env())),
        epoch=_epoch(archives),
        unresolved=tuple(unresolved),
        offline=offline,
        remembered=network.used,
    )


def tool_versions() -> dict[str, str]:
    """Versions of the tool itself, of diskimage-builder and of the host's programs."""
    found = {"imagebuild": __version__, "diskimage-builder": dib.version()}
    asked = {name: versions.ask(argv) for name, argv in versions.TOOLS.items()}
    for name, answer in asked.items():
        match = re.search(r"\d+(\.\d+)+", answer.result()) if answer else None
        found[name] = "absent" if answer is None else match[0] if match else "unknown"
    return found


def _refuse_credentials(profile: Profile) -> None:
    # The guest's package sources carry the URL: a password in it would be in the image.
    mirror, security = profile.mirror, profile.mirror.security
    urls = {"mirror.url": profile.mirror_url(), "mirror.snapshot_url": mirror.snapshot_url or ""}
    if security:
        urls["mirror.security.url"] = security.url
        urls["mirror.security.snapshot_url"] = security.snapshot_url or ""
    if repository := profile.docker.repository:
        urls["docker.repository.url"] = repository.url
        urls["docker.repository.snapshot_url"] = repository.snapshot_url or ""
    for key, url in urls.items():
        if "@" in urlsplit(url).netloc:
            raise ConfigError(
                f"{key} carries a user name or password",
                where=url.split("//")[0] + "//…@" + url.rsplit("@", 1)[1],
                detail="the guest's package sources would carry it too",
                hint="let a proxy on the building host (http_proxy) log in to the mirror",
            )


def distribution_archives(profile: Profile) -> tuple[Archive, ...]:
    """The distribution's archives, with their suites by name only: nothing is asked."""
    return _archives(profile, Memory(None, offline=True))


def docker_archives(profile: Profile) -> tuple[Archive, ...]:
    """Docker's own archive, if the profile has one, asked and checked with its pinned key."""
    return _docker(profile, Memory(None, offline=False))[0]


def _archives(profile: Profile, network: Memory) -> tuple[Archive, ...]:
    mirror = profile.mirror
    url = _snapshot_url(profile, "mirror", profile.mirror_url(), mirror.snapshot_url)
    wanted = [("archive", url, mirror.suites, mirror.components, mirror.keyring)]
    if mirror.security:
        security = mirror.security
        url = _snapshot_url(profile, "mirror.security", security.url, security.snapshot_url)
        wanted.append(
            (
                "security",
                url,
                mirror.security.suites,
                tuple(mirror.security_components),
                mirror.security_keyring,
            )
        )
    for _, _, _, _, keyring in wanted:
        if not is_file(keyring) and not network.offline:
            raise ConfigError(
                "the archive's keyring is not there",
                where=str(keyring),
                hint="install the distribution's keyring package (ubuntu-keyring, "
                "debian-archive-keyring), or say --keyring FILE",
            )
    digests = [_keyring_digest(keyring) for _, _, _, _, keyring in wanted]
    asked = [
        start(_suites, url, suites, keyring, digest, network, mirror.snapshot)
        for (_, url, suites, _, keyring), digest in zip(wanted, digests, strict=True)
    ]
    return tuple(
        Archive(
            name,
            url,
            answer.result(),
            components,
            keyring,
            digest,
            is_snapshot=mirror.snapshot is not None,
        )
        for (name, url, _, components, keyring), digest, answer in zip(
            wanted, digests, asked, strict=True
        )
    )


def _keyring_digest(keyring: Path) -> str:
    """sha256 of a keyring; "" when it is not there."""
    if not is_file(keyring):
        return ""
    try:
        return of_bytes(read_limited(keyring, MAX_KEYRING))
    except OSError as exc:
        raise ConfigError(
            "cannot read the archive's keyring",
            where=str(keyring),
            detail=str(exc),
            hint="check mirror.keyring, or say --keyring FILE",
        ) from exc


def _snapshot_url(profile: Profile, key: str, url: str, template: str | None) -> str:
    """Where an archive is read from: its snapshot when the profile pins a time."""
    pin = profile.mirror.snapshot
    if pin is None:
        return url
    if template is None:
        raise ConfigError(
            "mirror.snapshot is set, but not where the snapshots of this archive are",
            where=f"{key}.snapshot_url",
            detail="it would be read as it is today, and the pin would not hold",
            hint="set it to the snapshot service's URL, with {snapshot} where the time belongs"
            + ("; or docker.source=docker.io" if key.startswith("docker") else ""),
        )
    if parse_snapshot(pin) > time.time():
        raise ConfigError(
            "mirror.snapshot is in the future",
            where=f"mirror.snapshot: {pin}",
            hint="name a time that has passed: what comes before it can still change",
        )
    return template.replace("{snapshot}", pin)


def _suites(
    url: str,
    names: Sequence[str],
    keyring: Path,
    keyring_sha256: str,
    network: Memory,
    pin: str | None,
) -> tuple[Suite, ...]:
    asked = [start(_suite, url, n, keyring, keyring_sha256, network) for n in names]
    suites = tuple(answer.result() for answer in asked)
    for suite in suites:
        if pin and suite.sha256 and (suite.date is None or suite.date > parse_snapshot(pin)):
            raise ConfigError(
                "the snapshot service answers with a later state than the pinned one",
                where=f"{url}/dists/{suite.name}",
                detail=f"mirror.snapshot is {pin}, the Release file is of {_moment(suite.date)}",
                hint="pin a time that the service has, or check snapshot_url",
            )
    return suites


def _suite(url: str, name: str, keyring: Path, keyring_sha256: str, network: Memory) -> Suite:
    question = [url, name, keyring_sha256]
    if not network.offline:
        suite = archive.read_suite(url, name, keyring)
        # Not when it expires, and what the server's clock said: that is for who downloads.
        network.remember("release", question, [suite.sha256, suite.date])
        return suite
    known = network.recall("release", question, _release_file(url, name))
    return Suite(name, *known) if known else Suite(name)


def _release_file(url: str, suite: str) -> str:
    return f"Release file of {url} {suite}"


def _moment(seconds: int | None) -> str:
    return "no date" if seconds is None else time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(seconds))


def _docker(profile: Profile, network: Memory) -> tuple[tuple[Archive, ...], DockerKey | None]:
    repository = profile.docker.repository
    if repository is None:
        return (), None
    pin = profile.mirror.snapshot
    url = _snapshot_url(profile, "docker.repository", repository.url, repository.snapshot_url)
    suites: tuple[Suite, ...] = (Suite(repository.suite),)
    key = _docker_key(repository, network)
    if key:
        # A directory: that goes also when the process ends without this thread.
        with tempfile.TemporaryDirectory() as directory:
            file = Path(directory, "docker.asc")
            file.write_bytes(key.data)
            suites = _suites(url, (repository.suite,), file, key.sha256, network, pin)
    found = Archive(
        "docker",
        url,
        suites,
        repository.components,
        Path("-"),
        key.sha256 if key else "",
        is_snapshot=pin is not None,
    )
    return (found,), key


def _docker_key(repository: DockerRepository, network: Memory) -> DockerKey | None:
    """Read the key from its URL or path and check its fingerprint against the profile's pin.

    None when it is not known offline.
    """
    if "://" in repository.key:

        def learn() -> str:
            key = archive.fetch(repository.key, "docker's repository key")
            _check_fingerprint(repository, key)
            return base64.b64encode(key).decode()

        url = strip_userinfo(repository.key)
        question = [url, repository.fingerprint.upper()]
        known = network.ask("docker-key", question, f"key {url}", learn)
        if known is None:
            return None
        data = base64.b64decode(known)
    else:
        try:
            data = read_limited(Path(repository.key), MIB)
        except OSError as exc:
            raise ConfigError(
                "cannot read docker's repository key", where=repository.key, detail=str(exc)
            ) from exc
        _check_fingerprint(repository, data)
    return DockerKey(data, of_bytes(data))


def _check_fingerprint(repository: DockerRepository, data: bytes) -> None:
    found = archive.fingerprints(data)
    if found != [repository.fingerprint.upper()]:
        raise ConfigError(
            "docker's repository key is not the one that the profile pins",
            where=repository.key,
            detail=f"pinned {repository.fingerprint}\nfound  {', '.join(found) or 'no key'}",
            hint="it may be an attack; if the key was rotated, set docker.repository.fingerprint",
        )


def _epoch(archives: tuple[Archive, ...], environ: Mapping[str, str] = os.environ) -> int:
    """SOURCE_DATE_EPOCH, or the newest date of the distribution's Release files."""
    asked = environ.get("SOURCE_DATE_EPOCH", "")
    if asked:
        # The specification of SOURCE_DATE_EPOCH: a malformed value should end the build.
        if not re.fullmatch(r"[0-9]{1,10}", asked):
            raise ConfigError(
                "this is not a number of seconds since 1970",
                where=f"environment SOURCE_DATE_EPOCH={asked[:60]}",
                hint="unset it, or set it to what `date +%s` prints",
            )
        return int(asked)
    dates = [s.date for a in archives for s in a.suites if s.date]
    return max(dates, default=0)
