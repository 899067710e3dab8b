"""The two production images at the boot level: bookworm by BIOS with a ConfigDrive, jammy by
UEFI with the metadata service.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from imagebuild.verify import accel
from imagebuild.verify.bootlevel import CONFIG_DRIVE, METADATA
from imagebuild.verify.results import Outcome
from imagebuild.verify.watch import MILESTONES
from tests.images.boots import BootReport, boot
from tests.images.builds import Session
from tests.images.registry import IMAGE

pytestmark = pytest.mark.image


def test_a_healthy_image_passes_every_check(booted: BootReport) -> None:
    assert booted.unmet() == []
    assert {c.name.split("/")[-1] for c in booted.checks} >= {
        "start", "cloud-init", "user", "files", "disk", "docker", "agent-imports", "ssh",
        "network", "units",
    }  # fmt: skip


def test_cloud_init_is_done_without_errors(booted: BootReport) -> None:
    assert booted.facts["cloud_init"]["v1"]["errors"] == []


def test_each_way_has_its_datasource(session: Session) -> None:
    sources = {
        name: session.booted(name).facts["cloud_init"]["v1"]["datasource"].split()[0]
        for name in ("bookworm", "jammy")
    }
    assert sources == {
        "bookworm": "DataSourceConfigDrive",
        "jammy": "DataSourceOpenStackLocal",
    }


def test_metadata_are_asked_of_the_service(session: Session) -> None:
    asked = session.booted("jammy").facts["metadata_requests"]
    assert any(path.endswith("/vendor_data.json") for path in asked)
    assert any(path.endswith("/user_data") for path in asked)
    assert "metadata_requests" not in session.booted("bookworm").facts


def test_milestones_come_in_their_order(booted: BootReport) -> None:
    """By the guest's own clock, however late the host was to look."""
    seconds = booted.seconds
    assert set(seconds) >= set(MILESTONES) - {"login"}
    in_order = ("kernel", "root", "cloud-init-local", "probe", "docker", "agent-started")
    assert [seconds[n] for n in in_order] == sorted(seconds[n] for n in in_order)
    assert 0 < seconds["kernel"] < seconds["cloud-init-done"] <= seconds["settled"] + 0.2


def test_no_unit_fails(booted: BootReport) -> None:
    assert booted.facts["failed"] == []
    assert booted.facts["system"] == "running"


def test_firmware_was_the_one_asked_for(session: Session) -> None:
    assert session.booted("bookworm").out("firmware") == "bios"
    assert session.booted("jammy").out("firmware") == "uefi"


def test_root_fills_the_disk(booted: BootReport) -> None:
    assert int(booted.out("root-size")) > 9 << 30
    assert booted.out("mounts").split()[1] == "ext4"


def test_injected_files_belong_to_the_guest_user(booted: BootReport) -> None:
    assert booted.out("injected") == "ubuntu:root 644"


def test_docker_runs(booted: BootReport) -> None:
    assert booted.out("docker").split()[1].startswith("overlay")
    booted.out("docker-as-user")


def test_guest_user_can_do_what_the_agent_needs(booted: BootReport) -> None:
    assert booted.out("sudo") == "0"
    uid, taken, *people = booted.out("user").split()
    assert (uid, taken, people) == ("1000", "0", ["ubuntu"])


def test_network_plugin_answers_through_its_socket(booted: BootReport) -> None:
    assert json.loads(booted.out("hostnic")) == {"Implements": ["NetworkDriver"]}


def test_agent_starts_and_asks_for_its_datastore(booted: BootReport) -> None:
    assert "Manager class not registered for datastore manager None" in booted.out("agent")
    assert booted.out("agent-imports").endswith("imported")


def test_guest_pulls_from_the_private_registry(session: Session) -> None:
    """Over TLS by the registry's own CA and with the credentials of the image."""
    result = session.booted("jammy")
    assert result.out("pull-as-root") == IMAGE
    assert "Downloaded newer image" in result.out("pull-as-agent")
    assert "no basic auth credentials" in result.out("pull-as-nobody")


def test_system_settings(booted: BootReport) -> None:
    assert booted.out("forward") == "1"
    assert booted.out("time") == "active"
    assert "127.0.1.1" in booted.out("own-name")
    keys, passwords = booted.out("host-keys").split("\n")
    assert int(keys) >= 2
    assert passwords == "passwordauthentication no"
    assert len(booted.out("machine-id")) == 32


def test_content_is_readable_in_the_guest(session: Session) -> None:
    for name in ("bookworm", "jammy"):
        inside = json.loads(session.booted(name).out("content"))
        assert inside == session.build(name).manifest["content"]


@pytest.mark.full("verify")
@pytest.mark.parametrize(
    ("name", "firmware", "how"),
    [
        ("bookworm", "bios", METADATA),
        ("bookworm", "uefi", CONFIG_DRIVE),
        ("jammy", "bios", METADATA),
        ("jammy", "uefi", CONFIG_DRIVE),
    ],
)
def test_either_image_starts_either_way(
    session: Session, tmp_path: Path, name: str, firmware: str, how: str
) -> None:
    built = session.build(name)
    report = boot(
        built.qcow2, tmp_path, firmware=firmware, how=how, content=built.manifest["content"]
    )
    assert report.unmet() == []
    assert report.run.accelerator == accel.choose().name
    assert report.outcome("ssh") is Outcome.PASSED
