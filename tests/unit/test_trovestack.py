"""What trovestack's command lines mean: by the calls of devstack's plugin and of Trove's jobs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
import pytest

from imagebuild import trovestack
from imagebuild.cli.build import build
from imagebuild.cli.main import cli
from imagebuild.cli.options import _collect
from imagebuild.config.profile import Profile
from imagebuild.errors import UsageError

STACK = Path("/opt/stack/trove")
HEAD = "4cdc0cdadc76229aaa16195696d3aa2bc295649c"
RULES = STACK / "trove/templates/mysql/validation-rules.json"
#: devstack/plugin.sh: create_guest_image, with prepare_embedded_docker_images_vars before it, in a
#: job of zuul.d/jobs.yaml (trove-tempest-ubuntu-backup).
PLUGIN = ["build-image", "ubuntu", "noble", "true", "ubuntu", "/opt/stack/images/x.qcow2"]
PLUGIN_ENV = {
    "SYNC_LOG_TO_CONTROLLER": "True",
    "GUEST_IMAGESIZE": "7",
    "DIB_TROVE_DOCKER_IMAGES": " ".join((
        "quay.io/openstack.trove/mysql:8.0=172.24.4.1:4000/trove-datastores/mysql:8.0",
        "quay.io/openstack.trove/db-backup-mysql:8.0="
        "172.24.4.1:4000/trove-datastores/db-backup-mysql:8.0",
    )),
}  # fmt: skip


def host(*present: Path, programs: Mapping[str, str] | None = None) -> trovestack.Host:
    return trovestack.Host(
        user="stack",
        home=Path("/home/stack"),
        called_as=STACK / "integration/scripts/trovestack",
        head=lambda directory: HEAD if directory == STACK else None,
        exists=lambda path: path in present,
        which=lambda name: (programs or {}).get(name),
    )


def translate(
    *argv: str, env: Mapping[str, str] | None = None, on: trovestack.Host | None = None
) -> trovestack.Translation:
    return trovestack.translate(argv, env or {}, on or host())


def profile_of(found: trovestack.Translation) -> Profile:
    """What `imagebuild build` understands: the profile that it would build."""
    with build.make_context("build", list(found.build[1:])) as context:
        params = dict(context.params)
        return _collect(params).load(params["target"]).profile


def parse(words: Sequence[str]) -> None:
    """Raise what the verb's own parser has against a command."""
    command: click.Command = cli
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), words[0])
        assert found
        command, words = found, words[1:]
    command.make_context("", list(words)).close()


def test_the_plugins_call() -> None:
    found = translate(*PLUGIN, env=PLUGIN_ENV)
    assert found.build == (
        "build", "ubuntu", "noble", "--guest-username", "ubuntu",
        "-o", "/opt/stack/images/x.qcow2", "--dev",
        "--set", "agent.controller.username=stack",
        "--set", "agent.controller.path=/opt/stack/trove",
        "--agent", f"git+file:///opt/stack/trove@{HEAD}",
        "--image-size", "7",
        "--preload", "quay.io/openstack.trove/mysql:8.0=172.24.4.1:4000/trove-datastores/mysql:8.0",
        "--preload", "quay.io/openstack.trove/db-backup-mysql:8.0="
        "172.24.4.1:4000/trove-datastores/db-backup-mysql:8.0",
    )  # fmt: skip
    assert found.key == trovestack.KeyPlace("stack", None)
    assert found.publish == ()
    said = "\n".join(found.notes)
    assert "SYNC_LOG_TO_CONTROLLER=True: the guest's logs are not copied" in said
    assert "dev mode: the private key" in said
    profile = profile_of(found)
    assert profile.is_dev
    assert profile.agent.controller.path == STACK
    assert profile.disk.size == "7G"
    assert [p.target for p in profile.preload] == [
        "172.24.4.1:4000/trove-datastores/mysql:8.0",
        "172.24.4.1:4000/trove-datastores/db-backup-mysql:8.0",
    ]


def test_the_publishing_jobs_call() -> None:
    """playbooks/image-build/run.yaml, with the variables of zuul.d/jobs.yaml."""
    place = "/home/zuul/images/trove-master-guest-ubuntu-noble.qcow2"
    found = translate("build-image", "ubuntu", "noble", "false", "ubuntu", place)
    assert found.build == (
        "build", "ubuntu", "noble", "--guest-username", "ubuntu", "-o", place,
        "--agent", f"git+file:///opt/stack/trove@{HEAD}",
    )  # fmt: skip
    assert found.key is None
    assert found.notes == ()
    assert not profile_of(found).is_dev


def test_the_defaults_are_trovestacks() -> None:
    found = translate("build-image")
    assert found.build[:3] == ("build", "ubuntu", "jammy")
    assert "--dev" in found.build
    assert "/home/stack/images/trove-guest-ubuntu-jammy-dev.qcow2" in found.build
    plain = translate("build-image", "ubuntu", "jammy", "FALSE")
    assert "/home/stack/images/trove-guest-ubuntu-jammy.qcow2" in plain.build
    assert "--dev" not in plain.build


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"DIB_CLOUD_INIT_DATASOURCES": "ConfigDrive, OpenStack"},
         ["--datasource", "ConfigDrive", "--datasource", "OpenStack"]),
        ({"GUEST_IMAGESIZE": "8"}, ["--image-size", "8"]),
        ({"DIB_TROVE_DOCKER_IMAGES": "r.example/mysql:8.4"}, ["--preload", "r.example/mysql:8.4"]),
        ({"DIB_TROVE_DOCKER_IMAGES": "mysql=r.example:5000/mysql"},
         ["--preload", "mysql:latest=r.example:5000/mysql:latest"]),
        ({"DIB_LOCAL_ELEMENTS_PATH": "/a:/b"}, ["--elements-path", "/a", "--elements-path", "/b"]),
        ({"DIB_REPOLOCATION_guest_agent": "https://git.example/trove",
          "DIB_REPOREF_guest_agent": "fix"}, ["--agent", "git+https://git.example/trove@fix"]),
        ({"DIB_REPOLOCATION_guest_agent": "/srv/trove"}, ["--agent", "git+file:///srv/trove@master"]),
        ({"DIB_DISTRIBUTION_MIRROR": "http://mirror.example/ubuntu"},
         ["--mirror", "http://mirror.example/ubuntu"]),
        ({"TROVE_ROOT_PASSWORD": "geheim"},
         ["--root-password-file", trovestack.ROOT_PASSWORD_FILE]),
        ({"DIB_DEBUG_TRACE": "1"}, ["-v", "build"]),
        ({"PATH_TROVE": "/srv/other"},
         ["--agent", "git+https://opendev.org/openstack/trove@master"]),
        ({"PATH_TROVE": "/srv/other", "TROVE_BRANCH": "stable/2025.2",
          "GIT_BASE": "https://git.example"},
         ["--agent", "git+https://git.example/openstack/trove@stable/2025.2"]),
    ],
)  # fmt: skip
def test_variables(env: dict[str, str], words: list[str]) -> None:
    found = translate("build-image", "ubuntu", "noble", "false", "ubuntu", "/x.qcow2", env=env)
    text = " ".join(found.build)
    assert f" {' '.join(words)} " in f" {text} "


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"GUEST_CACHEDIR": "/c"}, "GUEST_CACHEDIR=/c: not used"),
        ({"GUEST_WORKING_DIR": "/w"}, "GUEST_WORKING_DIR=/w: not used"),
        ({"GUEST_USERNAME": "me"}, "GUEST_USERNAME=me: the user is ubuntu"),
        ({"DEV_MODE": "true"}, "DEV_MODE=true: dev mode is off"),
        ({"DIB_APT_LOCAL_CACHE": "1"}, "DIB_APT_LOCAL_CACHE: not used"),
        ({"DIB_REPOLOCATION_upper_constraints": "file:///uc.txt"}, "file:///uc.txt: not used"),
        ({"TROVE_ROOT_PASSWORD": "geheim"}, "TROVE_ROOT_PASSWORD: root has it on the console"),
        ({"PATH_TROVE": "/n", "TROVE_BRANCH": "stable/2025.2"}, "TROVE_BRANCH=stable/2025.2: "),
    ],
)
def test_what_is_done_otherwise_is_said(env: dict[str, str], said: str) -> None:
    found = translate("build-image", "ubuntu", "noble", "false", "ubuntu", "/x.qcow2", env=env)
    (note,) = found.notes
    assert said in note
    # What was asked, what is done instead, and why; on one line.
    assert re.fullmatch(r"[^\n]+: [^\n]+ \([^\n]+\)", note)


def test_a_password_is_in_no_word_and_no_note() -> None:
    env = {"TROVE_ROOT_PASSWORD": "geheim 1"}
    found = translate(*PLUGIN, env=env)
    assert found.root_password == env["TROVE_ROOT_PASSWORD"]
    assert "geheim" not in repr(found)
    assert "TROVE_ROOT_PASSWORD" in found.secrets


def test_the_key_goes_where_the_variables_say() -> None:
    found = translate(*PLUGIN, env={"HOST_SCP_USERNAME": "dev", "SSH_DIR": "/home/dev/keys"})
    assert found.key == trovestack.KeyPlace("dev", Path("/home/dev/keys"))
    assert "agent.controller.username=dev" in found.build


def test_build_and_upload() -> None:
    """As gate-tests calls it: DATASTORE_TYPE and DATASTORE_VERSION are variables."""
    env = {"DATASTORE_TYPE": "mysql", "DATASTORE_VERSION": "8.4"}
    on = host(RULES, programs={"trove-manage": "/usr/local/bin/trove-manage"})
    argv = ("ubuntu", "noble", "false", "ubuntu", "/var/images")
    found = translate("build-and-upload-image", *argv, on=on, env=env)
    assert "/var/images/trove-guest-ubuntu-noble.qcow2" in found.build
    assert found.publish == (
        ("verify", trovestack.ARTIFACT, "--level", "static"),
        ("upload", trovestack.ARTIFACT, "--cloud", "devstack-admin", "--tag", "trove", "--public"),
        ("datastore", "create", "mysql", "8.4", "--cloud", "devstack-admin",
         "--image-tags", "trove", "--active", "--default"),
        ("datastore", "load-parameters", "mysql", "8.4", "--cloud", "devstack-admin",
         "--file", str(RULES),
         "--trove-manage", "/usr/local/bin/trove-manage --config-file=/etc/trove/trove.conf"),
    )  # fmt: skip
    assert translate("upload-image", *argv, on=on, env=env) == found
    for command in found.publish:
        parse(command)


def test_a_dev_image_is_not_made_public() -> None:
    env = {"DATASTORE_TYPE": "mysql", "DATASTORE_VERSION": "8.4", "OS_CLOUD": "east"}
    found = translate("build-and-upload-image", on=host(), env=env)
    _, upload, create = found.publish
    assert upload[-1] == "--private"
    assert create[4:6] == ("--cloud", "east")
    assert any(note.startswith("a public image: it is private") for note in found.notes)


@pytest.mark.parametrize("env", [{}, {"DATASTORE_TYPE": "mysql"}])
def test_upload_wants_to_know_the_datastore(env: dict[str, str]) -> None:
    with pytest.raises(UsageError) as caught:
        translate("build-and-upload-image", env=env)
    assert "DATASTORE_VERSION" in caught.value.hint
