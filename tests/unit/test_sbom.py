"""SBOMs: valid by the official schemas, complete, and the same from the same."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import lib4sbom
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from hypothesis import given, settings
from hypothesis import strategies as st
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from imagebuild import components, sbom
from imagebuild.components import (
    Components,
    Container,
    ContainerPackage,
    DebPackage,
    PythonPackage,
)
from imagebuild.digest import of_bytes
from imagebuild.sbom import cyclonedx, parts, spdx
from tests.unit.made_up import make_artifact, make_tree

#: Of the schema as the SPDX project has published it with version 2.3.
SPDX_SCHEMA_SHA256 = "239208b7ac287b3cf5d9a9af23f9d69863971102a5e1587a27a398b43490b89b"


def spdx_problems(document: dict[str, Any]) -> list[str]:
    """What the official schema of SPDX 2.3, which lib4sbom carries, has against it."""
    path = Path(lib4sbom.__file__).parent / "schemas/spdx/2.3-schema.json"
    data = path.read_bytes()
    assert of_bytes(data) == SPDX_SCHEMA_SHA256
    validator = jsonschema.Draft7Validator(json.loads(data))
    return [e.message for e in validator.iter_errors(document)]


def cyclonedx_problems(text: str) -> object:
    """What the official schema of CycloneDX 1.6, which its library carries, has against it."""
    return JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)


@pytest.fixture
def made(tmp_path: Path) -> Path:
    return make_artifact(make_tree(tmp_path / "tree"), tmp_path)


def load(directory: Path, name: str) -> Any:  # noqa: ANN401 - JSON
    return json.loads((directory / name).read_text())


def test_schemas_accept_them(made: Path) -> None:
    assert spdx_problems(load(made, sbom.SPDX)) == []
    assert cyclonedx_problems((made / sbom.CYCLONEDX).read_text()) is None
    # The validators do look.
    assert spdx_problems(load(made, sbom.SPDX) | {"spdxVersion": 3})
    broken = load(made, sbom.CYCLONEDX) | {"specVersion": 3}
    assert cyclonedx_problems(json.dumps(broken)) is not None


def test_spdx_tools_accepts_the_model(made: Path) -> None:
    """Its own rules know more than the schema: references, ids, purls."""
    made_of = components.read(made / components.FILE_NAME)
    bill = parts.make_bill(load(made, "manifest.json"), made_of, 0)
    assert validate_full_spdx_document(spdx.model(bill)) == []


def test_spdx_says_what_is_where(made: Path) -> None:
    document = load(made, sbom.SPDX)
    packages = {p["SPDXID"]: p for p in document["packages"]}
    zlib = packages["SPDXRef-deb-zlib1g-amd64"]
    assert zlib["versionInfo"] == "1:1.2.13.dfsg-1"
    assert zlib["licenseDeclared"] == "(GPL-2.0-or-later OR MIT) AND Zlib"
    assert zlib["supplier"] == "Person: Mark Brown (broonie@debian.org)"
    assert "homepage" not in zlib, "it is no web address"
    dpkg = packages["SPDXRef-deb-dpkg-amd64"]
    assert dpkg["supplier"] == "Organization: Dpkg Developers (debian-dpkg@lists.debian.org)"
    trove = packages["SPDXRef-pypi-trove"]
    assert trove["checksums"] == [{"algorithm": "SHA256", "checksumValue": "8" * 64}]
    assert trove["supplier"] == "NOASSERTION"
    assert trove["originator"].startswith("Organization: Open Stack")
    links = {
        (r["spdxElementId"], r["relationshipType"], r["relatedSpdxElement"])
        for r in document["relationships"]
    }
    assert links == {
        ("SPDXRef-DOCUMENT", "DESCRIBES", "SPDXRef-image"),
        ("SPDXRef-image", "EXPANDED_FROM_ARCHIVE", "SPDXRef-image-qcow2"),
        ("SPDXRef-image", "CONTAINS", "SPDXRef-deb-dpkg-amd64"),
        ("SPDXRef-image", "CONTAINS", "SPDXRef-deb-libstdc-x2b--x2b-6-amd64"),
        ("SPDXRef-image", "CONTAINS", "SPDXRef-deb-libstdc-x2b--x2b-6-i386"),
        ("SPDXRef-image", "CONTAINS", "SPDXRef-deb-zlib1g-amd64"),
        ("SPDXRef-image", "CONTAINS", "SPDXRef-guest-agent-venv"),
        ("SPDXRef-guest-agent-venv", "CONTAINS", "SPDXRef-pypi-oslo-x"),
        ("SPDXRef-guest-agent-venv", "CONTAINS", "SPDXRef-pypi-trove"),
    }
    image = load(made, "manifest.json")["outputs"][0]
    assert packages["SPDXRef-image-qcow2"]["packageFileName"] == image["file"]
    assert packages["SPDXRef-image-qcow2"]["checksums"][0]["checksumValue"] == image["sha256"]


def test_cyclonedx_says_what_is_where(made: Path) -> None:
    document = load(made, sbom.CYCLONEDX)
    top = {c["bom-ref"]: c for c in document["components"]}
    assert set(top) == {
        "deb-dpkg-amd64", "deb-libstdc++6-amd64", "deb-libstdc++6-i386", "deb-zlib1g-amd64",
        "guest-agent-venv",
    }  # fmt: skip
    assert top["deb-zlib1g-amd64"]["supplier"]["name"] == "Mark Brown <broonie@debian.org>"
    licence = top["deb-zlib1g-amd64"]["licenses"][0]
    assert licence["expression"] == "(GPL-2.0-or-later OR MIT) AND Zlib"
    inner = {c["bom-ref"]: c for c in top["guest-agent-venv"]["components"]}
    assert set(inner) == {"pypi-oslo-x", "pypi-trove"}
    assert inner["pypi-trove"]["hashes"] == [{"alg": "SHA-256", "content": "8" * 64}]
    assert inner["pypi-trove"]["licenses"][0]["license"]["id"] == "Apache-2.0"
    image = load(made, "manifest.json")["outputs"][0]
    file = document["metadata"]["component"]["components"][0]
    assert (file["name"], file["hashes"][0]["content"]) == (image["file"], image["sha256"])


def test_purls(made: Path) -> None:
    wanted = {
        "pkg:deb/debian/dpkg@1.21.22?arch=amd64&distro=debian-12",
        "pkg:deb/debian/libstdc%2B%2B6@1:12.2.0-14%2Bdeb12u1?arch=amd64&distro=debian-12"
        "&upstream=gcc-12%4012.2.0-14%2Bdeb12u1",
        "pkg:deb/debian/libstdc%2B%2B6@1:12.2.0-14%2Bdeb12u1?arch=i386&distro=debian-12"
        "&upstream=gcc-12%4012.2.0-14%2Bdeb12u1",
        "pkg:deb/debian/zlib1g@1:1.2.13.dfsg-1?arch=amd64&distro=debian-12&upstream=zlib",
        "pkg:pypi/oslo-x@1.0",
        "pkg:pypi/trove@25.0.0",
    }
    of_spdx = {
        r["referenceLocator"]
        for p in load(made, sbom.SPDX)["packages"]
        for r in p.get("externalRefs", [])
    }
    flat = load(made, sbom.CYCLONEDX)["components"]
    flat += [inner for c in flat for inner in c.get("components", [])]
    assert of_spdx == wanted
    assert {c["purl"] for c in flat if "purl" in c} == wanted


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://x.example/a?b#c", True),
        ("http://x.example", True),
        ("https://user:secret@x.example/", False),
        ("https://", False),
        ("ftp://x.example", False),
        ("https://x.example/a b", False),
        ("https://[x", False),
        ("", False),
    ],
)
def test_homepages_that_are_none_are_left_out(made: Path, text: str, shown: bool) -> None:
    made_of = components.read(made / components.FILE_NAME)
    debs = (dataclasses.replace(made_of.debs[0], homepage=text),)
    made_of = dataclasses.replace(made_of, debs=debs)
    (part,) = parts.make_bill(load(made, "manifest.json"), made_of, 0).parts
    assert part.homepage == (text if shown else "")


CONTAINER = Container(
    target="r.example:5000/trove/mysql:8.4",
    source="quay.io/a/mysql:8.4",
    index=f"sha256:{'1' * 64}",
    manifest=f"sha256:{'2' * 64}",
    config=f"sha256:{'3' * 64}",
    os={"ID": "rhel", "VERSION_ID": "9.4"},
    packages=(
        ContainerPackage("deb", "a+b", "1:2-3", "amd64", "ab", "2", "MIT"),
        ContainerPackage("rpm", "bash", "2:5.1-1", "x86_64", "bash-5.1-1.src.rpm", "", ""),
        ContainerPackage("rpm", "bash", "2:5.1-2", "x86_64", "bash-5.1-2.src.rpm", "", ""),
        ContainerPackage("apk", "musl", "1.2-r0", "x86_64", "musl", "1.2-r0", "MIT"),
        ContainerPackage("pypi", "requests", "2.31", "", "", "", ""),
    ),
    unread=("/var/lib/rpm/Packages: an old form",),
)


def test_containers_and_what_is_in_them(made: Path, tmp_path: Path) -> None:
    """Two of the same content are two."""
    twin = dataclasses.replace(CONTAINER, target="r.example:5000/trove/mysql:8", unread=())
    made_of = components.read(made / components.FILE_NAME)
    assert made_of.containers == ()
    made_of = dataclasses.replace(made_of, containers=(CONTAINER, twin))
    components.write(made_of, tmp_path / "components")
    assert components.read(tmp_path / "components") == made_of
    sbom.write(tmp_path, load(made, "manifest.json"), made_of, 0)

    document = load(tmp_path, sbom.SPDX)
    assert spdx_problems(document) == []
    bill = parts.make_bill(load(made, "manifest.json"), made_of, 0)
    assert validate_full_spdx_document(spdx.model(bill)) == []
    packages = {p["SPDXID"]: p for p in document["packages"]}
    id_ = "SPDXRef-oci-r.example-x3a-5000-x2f-trove-x2f-mysql-x3a-8.4"
    container = packages[id_]
    assert container["primaryPackagePurpose"] == "CONTAINER"
    assert container["versionInfo"] == CONTAINER.manifest
    assert container["checksums"][0]["checksumValue"] == "2" * 64
    assert container["comment"] == "not readable: /var/lib/rpm/Packages: an old form"
    inside = [
        packages[r["relatedSpdxElement"]]
        for r in document["relationships"]
        if (r["spdxElementId"], r["relationshipType"]) == (id_, "CONTAINS")
    ]
    purls = [p["externalRefs"][0]["referenceLocator"] for p in (container, *inside)]
    assert purls == [
        f"pkg:oci/mysql@sha256:{'2' * 64}?repository_url=quay.io/a/mysql&tag=8.4",
        "pkg:deb/rhel/a%2Bb@1:2-3?arch=amd64&distro=rhel-9.4&upstream=ab%402",
        "pkg:rpm/rhel/bash@5.1-1?arch=x86_64&distro=rhel-9.4&epoch=2&upstream=bash-5.1-1.src.rpm",
        "pkg:rpm/rhel/bash@5.1-2?arch=x86_64&distro=rhel-9.4&epoch=2&upstream=bash-5.1-2.src.rpm",
        "pkg:apk/rhel/musl@1.2-r0?arch=x86_64&distro=rhel-9.4",
        "pkg:pypi/requests@2.31",
    ]
    assert (packages["SPDXRef-image"]["SPDXID"], id_) in {
        (r["spdxElementId"], r["relatedSpdxElement"]) for r in document["relationships"]
    }

    assert cyclonedx_problems((tmp_path / sbom.CYCLONEDX).read_text()) is None
    top = {c["name"]: c for c in load(tmp_path, sbom.CYCLONEDX)["components"]}
    container = top[CONTAINER.target]
    assert container["type"] == "container"
    assert container["purl"] == purls[0]
    assert [c["purl"] for c in container["components"]] == purls[1:]
    assert container["properties"][0]["value"].startswith("not readable")
    assert "properties" not in top[twin.target]


def test_the_same_from_the_same(made: Path, tmp_path: Path) -> None:
    """In another process, too, where nothing has the same order by chance."""
    code = (
        "import json, sys; from pathlib import Path; from imagebuild import components, sbom\n"
        "made, out = map(Path, sys.argv[1:])\n"
        "manifest = json.loads((made / 'manifest.json').read_text())\n"
        "sbom.write(out, manifest, components.read(made / components.FILE_NAME), 1740823200)\n"
    )
    root = Path(__file__).resolve().parents[2]
    for seed in ("1", "2"):
        out = tmp_path / seed
        out.mkdir()
        env = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(root), "TZ": "Asia/Tokyo"}
        subprocess.run([sys.executable, "-c", code, made, out], check=True, env=env)
        for name in (sbom.SPDX, sbom.CYCLONEDX):
            assert (out / name).read_bytes() == (made / name).read_bytes()
    assert load(made, sbom.SPDX)["creationInfo"]["created"] == "2025-03-01T10:00:00Z"
    assert load(made, sbom.CYCLONEDX)["metadata"]["timestamp"] == "2025-03-01T10:00:00+00:00"


def test_another_build_has_another_id(made: Path) -> None:
    made_of = components.read(made / components.FILE_NAME)
    manifest = load(made, "manifest.json")
    one = parts.make_bill(manifest, made_of, 0).uuid
    assert parts.make_bill(manifest, made_of, 1).uuid == one
    assert parts.make_bill(manifest | {"build_id": "0" * 64}, made_of, 0).uuid != one


def test_nothing_that_a_package_says_breaks_them(made: Path) -> None:
    """Names are checked by dpkg and pip; all else in their papers may be anything."""
    manifest, made_of = load(made, "manifest.json"), components.read(made / components.FILE_NAME)
    text = st.one_of(
        st.text(st.characters(codec="utf-8"), max_size=20),
        st.sampled_from(["http://[", "http://a b", "https://x.example/ü", "http://u:p@x.example",
                         "ftp://x", "<>", " <a@b>", "A <a@b", "x (y)", "\n"]),
    )  # fmt: skip

    @settings(max_examples=60, deadline=None)
    @given(text, text, text, st.sampled_from(["", "MIT", "MIT OR ISC"]))
    def check(maintainer: str, homepage: str, author: str, licence: str) -> None:
        deb = DebPackage("a+b", "1", "all", "a", "1", maintainer, homepage, licence, 0)
        python = PythonPackage("a-b", "1", author, homepage, licence)
        odd: Components = dataclasses.replace(made_of, debs=(deb,), pythons=(python,), owners=())
        bill = parts.make_bill(manifest, odd, 0)
        assert validate_full_spdx_document(spdx.model(bill)) == []
        assert spdx_problems(spdx.document(bill)) == []
        assert cyclonedx_problems(json.dumps(cyclonedx.document(bill))) is None

    check()
