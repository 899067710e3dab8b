"""SBOMs and inventories of the real images: complete, true, and accepted by the schemas."""

from __future__ import annotations

import hashlib
import json
import re
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pytest
from packageurl import PackageURL
from packaging.utils import canonicalize_name

from imagebuild import sbom, sizes
from imagebuild.host.run import run
from imagebuild.manifest import ArtifactView, open_artifact
from tests.images.builds import Built
from tests.images.registry import DATABASE_OS
from tests.unit.test_sbom import cyclonedx_problems, spdx_problems

pytestmark = pytest.mark.image


@pytest.fixture(scope="session")
def view(built: Built) -> ArtifactView:
    return open_artifact(built.artifact)


def purls(document: Any) -> list[PackageURL]:  # noqa: ANN401 - JSON
    """All package URLs of an SBOM of either kind, sorted."""
    found = []
    if "spdxVersion" in document:
        for package in document["packages"]:
            found += [r["referenceLocator"] for r in package.get("externalRefs", [])]
    else:
        pending = list(document["components"])
        while pending:
            component = pending.pop()
            pending += component.get("components", [])
            found += [component["purl"]] if "purl" in component else []
    return [PackageURL.from_string(p) for p in sorted(found)]


def test_schemas_accept_the_sboms(built: Built, view: ArtifactView) -> None:
    assert spdx_problems(dict(view.sbom(sbom.SPDX))) == []
    assert cyclonedx_problems((built.artifact / sbom.CYCLONEDX).read_text()) is None


@pytest.mark.parametrize("name", [sbom.SPDX, sbom.CYCLONEDX])
def test_sboms_hold_what_dpkg_lists(
    built: Built, view: ArtifactView, name: str, tmp_path: Path
) -> None:
    admin = built.fs.extract("/var/lib/dpkg", tmp_path)
    form = "${Package} ${Version} ${Architecture} ${source:Package} ${source:Version} "
    form += "${db:Status-Status}\n"
    argv = ["dpkg-query", f"--admindir={admin}", "-W", "-f", form]
    rows = [line.split() for line in run(argv).stdout.decode().splitlines()]
    listed = sorted(tuple(row[:5]) for row in rows if row[5] == "installed")
    assert len(listed) > 150
    found = []
    for purl in purls(view.sbom(name)):
        if purl.type != "deb" or purl.namespace == DATABASE_OS:  # that is in a container
            continue
        qualifiers = dict(purl.qualifiers)
        source, _, version = qualifiers.get("upstream", purl.name).partition("@")
        found.append((purl.name, purl.version, qualifiers["arch"], source, version or purl.version))
        assert qualifiers["distro"] == f"{purl.namespace}-{view.components.os['VERSION_ID']}"
    assert sorted(found) == listed


@pytest.mark.parametrize("name", [sbom.SPDX, sbom.CYCLONEDX])
def test_sboms_hold_what_the_venv_has(
    built: Built, view: ArtifactView, name: str, tmp_path: Path
) -> None:
    built.fs.extract("/opt/guest-agent-venv/lib", tmp_path)
    site = next((tmp_path / "lib").glob("python3*/site-packages"))
    installed = sorted(
        (canonicalize_name(d.metadata["Name"]), d.version) for d in distributions(path=[str(site)])
    )
    assert len(installed) > 80
    found = [(p.name, p.version) for p in purls(view.sbom(name)) if p.type == "pypi"]
    assert sorted(found) == installed


def test_every_wheel_has_its_hash(view: ArtifactView) -> None:
    for package in view.sbom(sbom.SPDX)["packages"]:
        if package["SPDXID"].startswith("SPDXRef-pypi-"):
            (checksum,) = package["checksums"]
            assert re.fullmatch(r"[0-9a-f]{64}", checksum["checksumValue"])


def test_sboms_name_the_images(built: Built, view: ArtifactView, tmp_path: Path) -> None:
    sums = {i.path.name: i.sha256 for i in view.images}
    packages = view.sbom(sbom.SPDX)["packages"]
    files = {p["packageFileName"]: p for p in packages if "packageFileName" in p}
    assert {n: f["checksums"][0]["checksumValue"] for n, f in files.items()} == sums
    image = view.sbom(sbom.CYCLONEDX)["metadata"]["component"]
    assert {c["name"]: c["hashes"][0]["content"] for c in image["components"]} == sums
    assert view.wrong_sums() == {}
    epoch = view.stage("disk")["parts"][0]["inputs"]["epoch"]
    sbom.write(tmp_path, view.manifest, view.components, epoch)
    for name in (sbom.SPDX, sbom.CYCLONEDX):
        assert (tmp_path / name).read_bytes() == (built.artifact / name).read_bytes()


def test_many_licences_and_all_maintainers_are_known(view: ArtifactView) -> None:
    debs, pythons = view.components.debs, view.components.pythons
    assert all(d.maintainer for d in debs)
    assert sum(1 for d in debs if d.licence) > len(debs) // 4
    assert sum(1 for p in pythons if p.licence) > len(pythons) // 2
    assert {d.licence for d in debs if d.name == "zlib1g"} == {"Zlib"}


def test_inventory_is_the_images_own(built: Built, view: ArtifactView) -> None:
    """A sample of all kinds, content included, as the filesystem in the image has it."""
    entries = {e.path: e for e in view.inventory}
    # The same each time: every so many files.
    sample = [e for e in view.inventory if e.kind == "file"][7::499]
    for entry in [*sample, entries["/etc/shadow"], entries["/etc/imagebuild/content.json"]]:
        data = built.fs.read_bytes(entry.path)
        assert hashlib.sha256(data).hexdigest() == entry.data, entry.path
        assert len(data) == entry.size
    for directory in ("/", "/etc", "/usr/bin", "/opt/guest-agent-venv/bin", "/etc/systemd/system"):
        prefix = directory.rstrip("/") + "/"
        known = {p[len(prefix) :] for p in entries if p.startswith(prefix)}
        listing = built.fs.listing(directory)
        assert {n for n in known if n and "/" not in n} == set(listing) - {"lost+found"}
        for name, found in listing.items():
            if name != "lost+found":
                entry = entries[prefix + name]
                assert (entry.mode, entry.uid, entry.gid) == (
                    found.mode & 0o7777, found.uid, found.gid,
                ), entry.path  # fmt: skip


def test_nearly_every_byte_has_its_package(view: ArtifactView) -> None:
    found = sizes.packages(view.inventory, view.components)
    by_name = {(p.kind, p.name): p for p in found}
    coreutils = by_name["deb", "coreutils"]
    # What its control file says it takes, give or take what dpkg rounds up.
    assert coreutils.installed_size
    assert 0.9 < coreutils.bytes / coreutils.installed_size < 1.1
    assert by_name["python", "trove"].bytes > 1 << 20
    rest = sizes.unowned(view.inventory, view.components, 5)
    assert rest.bytes < sizes.directories(view.inventory)["/"] // 10
    assert any("initrd.img" in e.path for e in rest.largest)


def test_inspect_and_diff_of_a_real_artifact(built: Built) -> None:
    import sys

    def asked(*argv: str) -> Any:  # noqa: ANN401 - JSON
        return json.loads(run([sys.executable, "-m", "imagebuild", *argv, "--json"]).stdout)

    document = asked("inspect", str(built.qcow2))
    assert document["name"] == built.artifact.name
    assert "guest-agent.service" in {u["name"] for u in document["units"]}
    assert {u["name"]: u["uid"] for u in document["users"]}["ubuntu"] == 1000
    assert document["missing"] == []
    same = asked("diff", str(built.artifact), str(built.artifact))
    assert (same["differences"], same["same_rootfs"]) == (0, True)
