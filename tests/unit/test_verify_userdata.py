"""The user data of Trove's task manager: made, and read back."""

from __future__ import annotations

import base64
import configparser

import yaml

from imagebuild.verify import userdata
from imagebuild.verify.userdata import AGENT_CONF, GUEST_INFO, Injected, TroveUserData


def test_shape_is_troves() -> None:
    """What prepare_cloud_config of Trove 26.0 makes, key for key."""
    made = TroveUserData(user="trove", agent_conf="[DEFAULT]\nx = 1\n", files={"/etc/a": "b"})
    text = made.render().decode()
    assert text.startswith("#cloud-config\n")
    entries = yaml.safe_load(text)["write_files"]
    assert [set(entry) for entry in entries] == [{"encoding", "owner", "path", "content"}] * 3
    assert [entry["path"] for entry in entries] == [GUEST_INFO, AGENT_CONF, "/etc/a"]
    assert {entry["owner"] for entry in entries} == {"trove:root"}
    assert {entry["encoding"] for entry in entries} == {"b64"}
    assert base64.b64decode(entries[1]["content"]) == b"[DEFAULT]\nx = 1\n"


def test_options_are_read_back_as_they_were_given() -> None:
    sections: userdata.Conf = {
        "DEFAULT": {"guest_id": "g-1", "network_isolation": False},
        "mariadb": {"docker_image": "r:5000/mariadb"},
    }
    parser = configparser.ConfigParser()
    parser.read_string(userdata.conf(sections))
    assert parser["DEFAULT"]["guest_id"] == "g-1"
    assert parser["mariadb"]["docker_image"] == "r:5000/mariadb"


def test_without_agent_configuration_there_is_no_such_file() -> None:
    assert list(TroveUserData().injected) == [GUEST_INFO]


def test_injected_files_are_read_from_any_cloud_config() -> None:
    made = TroveUserData(files={"/etc/\xe4": "\xf6\n"})
    found = {file.path: file for file in userdata.injected(made.render())}
    assert found["/etc/\xe4"] == Injected("/etc/\xe4", "ubuntu:root", "644", "\xf6\n".encode())
    other = b"#cloud-config\nwrite_files:\n- {path: /a, content: x, permissions: '0600'}\n"
    assert userdata.injected(other) == [Injected("/a", "root:root", "600", b"x")]
    assert userdata.injected(b"#!/bin/sh\n") == []
    assert userdata.injected(None) == []
