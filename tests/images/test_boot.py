"""The two production images, booted with a ConfigDrive: bookworm by BIOS, jammy by UEFI."""

from __future__ import annotations

import json

import pytest

from imagebuild.verify.boot import BootResult
from tests.images.builds import Session
from tests.images.registry import IMAGE

pytestmark = pytest.mark.image


def test_cloud_init_is_done_without_errors(booted: BootResult) -> None:
    report = booted.facts["cloud_init"]["v1"]
    assert report["errors"] == []
    assert report["datasource"].startswith("DataSourceConfigDrive")
    assert "cloud_init_done" in booted.seconds


def test_no_unit_fails(booted: BootResult) -> None:
    assert booted.facts["failed"] == []
    assert booted.facts["system"] == "running"


def test_firmware_was_the_one_asked_for(session: Session) -> None:
    assert session.booted("bookworm").out("firmware") == "bios"
    assert session.booted("jammy").out("firmware") == "uefi"


def test_root_fills_the_disk(booted: BootResult) -> None:
    assert int(booted.out("root-size")) > 9 << 30
    assert booted.out("mounts").split()[1] == "ext4"


def test_injected_files_belong_to_the_guest_user(booted: BootResult) -> None:
    assert booted.out("injected") == "ubuntu:root 644"


def test_docker_runs(booted: BootResult) -> None:
    assert booted.out("docker").split()[1].startswith("overlay")
    booted.out("docker-as-user")


def test_guest_user_can_do_what_the_agent_needs(booted: BootResult) -> None:
    assert booted.out("sudo") == "0"
    uid, taken, *people = booted.out("user").split()
    assert (uid, taken, people) == ("1000", "0", ["ubuntu"])


def test_network_plugin_answers_through_its_socket(booted: BootResult) -> None:
    assert json.loads(booted.out("hostnic")) == {"Implements": ["NetworkDriver"]}


def test_agent_starts_and_asks_for_its_datastore(booted: BootResult) -> None:
    assert "Manager class not registered for datastore manager None" in booted.out("agent")
    assert booted.out("agent-imports").endswith("imported")


def test_guest_pulls_from_the_private_registry(session: Session) -> None:
    """Over TLS by the registry's own CA and with the credentials of the image."""
    result = session.booted("jammy")
    assert result.out("pull-as-root") == IMAGE
    assert "Downloaded newer image" in result.out("pull-as-agent")
    assert "no basic auth credentials" in result.out("pull-as-nobody")


def test_system_settings(booted: BootResult) -> None:
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
