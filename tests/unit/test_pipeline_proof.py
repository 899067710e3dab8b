"""What an earlier verification proves, and what it lacks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from imagebuild.config.pipeline import Verify
from imagebuild.manifest import ArtifactView
from imagebuild.pipeline import proof

SHA = "a" * 64


def view(*formats: str, containers: tuple[str, ...] = ()) -> ArtifactView:
    """An artifact with these images; the first one has the digest SHA."""
    outputs = [
        {"file": f"x.{f}", "format": f, "size": 1, "sha256": SHA if n == 0 else "b" * 64}
        for n, f in enumerate(formats)
    ]
    content = {"containers": [{"target": c} for c in containers]}
    manifest = {
        "name": "x", "build_id": "c" * 64, "outputs": outputs, "stages": [], "content": content,
    }  # fmt: skip
    return ArtifactView(Path("/x"), manifest)


def machine(name: str, firmware: str = "bios", **facts: object) -> dict[str, Any]:
    return {"name": name, "firmware": firmware, "facts": facts}


BOOTS = (machine("config-drive-bios"), machine("metadata-uefi", "uefi"))
MYSQL = machine("mysql-isolation", datastore="mysql 8.4", network_isolation=True)


def document(proven: str, *runs: dict[str, Any], verdict: str = "passed") -> dict[str, Any]:
    return {"image": {"sha256": SHA}, "verdict": verdict, "proven": proven, "runs": list(runs)}


def lacks(found: dict[str, Any] | None, arch: str = "amd64", **wanted: object) -> str:
    artifact = view("qcow2", "raw", containers=("registry.example/mysql:8.4",))
    image = artifact.images[0]
    return proof.lacks(found, artifact, image, Verify.model_validate(wanted), arch)


@pytest.mark.parametrize(
    ("found", "wanted", "text"),
    [
        (None, {"level": "static"}, "never verified"),
        (document("static"), {"level": "static"}, ""),
        (document("static", verdict="warning"), {"level": "static"}, ""),
        (document("static", verdict="failed"), {"level": "static"}, "did not pass"),
        (document("static", verdict="unknown"), {"level": "static"}, "did not pass"),
        (document("static"), {"level": "boot"}, "proven to static; boot is wanted"),
        (document("boot", *BOOTS), {"level": "boot"}, ""),
        (document("database", *BOOTS, MYSQL), {"level": "boot"}, ""),
        (document("boot", BOOTS[0]), {"level": "boot"}, "not booted by uefi"),
        (document("boot", BOOTS[0]), {"level": "boot", "firmwares": ["bios"]}, ""),
        (document("database", *BOOTS, MYSQL), {"level": "database"}, ""),
        (document("database", *BOOTS), {"level": "database"}, "mysql 8.4 was not run"),
        (
            document("database", *BOOTS, MYSQL),
            {"level": "database", "databases": ["mysql:8.0"]},
            "mysql 8.0 was not run",
        ),
        (
            document("database", *BOOTS, MYSQL),
            {"level": "database", "networks": ["isolation", "bridge"]},
            "bridge network",
        ),
        (document("agent", *BOOTS, MYSQL), {"level": "agent"}, ""),
        (document("agent", *BOOTS, MYSQL), {"level": "agent", "networks": ["bridge"]}, "not asked"),
    ],
)
def test_what_it_lacks(found: dict[str, Any] | None, wanted: dict[str, Any], text: str) -> None:
    said = lacks(found, **wanted)
    assert (text in said) if text else not said


def test_the_proof_is_of_one_file_and_one_architecture() -> None:
    other = document("static") | {"image": {"sha256": "d" * 64}}
    assert lacks(other, level="static") == "another file was verified"
    arm = document("boot", machine("config-drive-uefi", "uefi"), machine("metadata-uefi", "uefi"))
    assert lacks(arm, arch="arm64", level="boot") == ""
    assert "bios" in lacks(arm, level="boot")


def test_what_is_verified_is_what_goes_up() -> None:
    both = view("qcow2", "raw")

    def chosen(*wanted: str | None) -> str:
        found = proof.subject(both, wanted)
        assert found
        return found.format

    assert chosen() == chosen(None) == chosen("raw", None) == "qcow2"
    assert chosen("raw", "raw") == "raw"
    assert proof.subject(view("vmdk"), ()) is None
