"""Dev images: their plan, what is written for them, and that no secret is in anything else."""

from __future__ import annotations

import dataclasses
import json
import re
import stat
import subprocess
from pathlib import Path

import pytest

from imagebuild import artifact, components, inventory, sbom
from imagebuild.config.load import load_profile
from imagebuild.config.merge import parse_set
from imagebuild.data import elements_dir
from imagebuild.dib import Element
from imagebuild.errors import ConfigError
from imagebuild.host.run import run
from imagebuild.inputs import Dev, Inputs
from imagebuild.plan import DEV_PACKAGES, content_of
from imagebuild.resolve import DEV_ELEMENT
from imagebuild.stages import devmode
from imagebuild.trust import make_key, resolve_dev
from tests.unit.test_plan import as_bytes, make_inputs, plan_of

DEV = "agent.mode=dev"
PASSWORD = "correct horse:battery"  # noqa: S105 - it opens nothing


def dev_inputs(*sets: str) -> Inputs:
    """Inputs of one dev build, as `resolve` makes them."""
    profile = load_profile("debian-bookworm", [parse_set(text) for text in sets]).profile
    plain = make_inputs(*sets, dev=resolve_dev(profile, for_run=True))
    late = (Element(DEV_ELEMENT, Path("/e", DEV_ELEMENT), "late"),)
    return dataclasses.replace(
        plain,
        asked_elements={**plain.asked_elements, "late": (DEV_ELEMENT,)},
        elements={**plain.elements, "late": late},
    )


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text(PASSWORD + "\n")
    return path


def secrets_of(inputs: Inputs) -> list[bytes]:
    """Parts of the secrets that would give them away."""
    found = []
    if inputs.dev and inputs.dev.key:
        # The last lines of the base64 text: the first ones hold the public half.
        found += inputs.dev.key.private.splitlines()[-4:-1]
    if inputs.dev and inputs.dev.root_password:
        found.append(inputs.dev.root_password.encode())
    assert found
    return found


#: What is made of disk and image before the part of the agent's that differs.
OF_NO_AGENT = ("mariadb", "db-backup-mariadb", "base-disk", "trunk", "base-qcow2", "qcow2")


def same_objects(one: Inputs, other: Inputs) -> set[str]:
    """Names of what two builds have in common in the store."""
    known = {part.id for _, _, part in plan_of(one).objects}
    found = (part for _, _, part in plan_of(other).objects if part.id in known)
    return {part.name.rpartition("/")[2].partition(":")[0] for part in found}


def test_a_dev_build_differs_from_production_and_from_the_next() -> None:
    production, first, second = make_inputs(), dev_inputs(DEV), dev_inputs(DEV)
    assert plan_of(production).link == "trove-guest-debian-bookworm-amd64"
    assert plan_of(first).link == "trove-guest-debian-bookworm-amd64-dev"
    assert same_objects(first, second) == {"base", "environment", "code", *OF_NO_AGENT}
    assert "elements" in {part.name for _, _, part in plan_of(first).objects}
    # Its base has programs that a production image has not.
    assert same_objects(first, production) == set()
    packages = plan_of(first).stage("base").environment["IMAGEBUILD_PACKAGES"].split()
    assert set(DEV_PACKAGES) <= set(packages)
    content = content_of(plan_of(first), first)
    assert (content["mode"], content["dev"]) == ("dev", True)


def test_a_root_password_makes_a_dev_image_on_the_production_base(password_file: Path) -> None:
    inputs = dev_inputs(f"guest.root_password_file={password_file}")
    plan = plan_of(inputs)
    assert plan.link.endswith("-dev")
    assert plan.stage("base").id == plan_of(make_inputs()).stage("base").id
    content = content_of(plan, inputs)
    assert (content["mode"], content["dev"]) == ("inject", True)
    assert inputs.dev
    assert inputs.dev.key is None
    assert devmode.describe(inputs.dev, inputs.profile) == {
        "key_fingerprint": None,
        "controller": None,
        "root_password": True,
    }


def test_the_dev_element_reads_every_variable_of_its_stage() -> None:
    part = plan_of(dev_inputs(DEV)).stage("agent").part("elements")
    variables = {n for n in part.environment if n.startswith("IMAGEBUILD_")}
    assert "IMAGEBUILD_DEV_DIR" in variables
    names = ["imagebuild-seed", "trove-guest-agent", *(e["name"] for e in part.elements)]
    readmes = "".join((elements_dir() / name / "README.md").read_text() for name in names)
    assert {n for n in variables if f"`{n}`" not in readmes} == set()


def test_no_secret_is_in_plan_manifest_or_repr(password_file: Path, tmp_path: Path) -> None:
    inputs = dev_inputs(DEV, f"guest.root_password_file={password_file}")
    plan = plan_of(inputs)
    image = tmp_path / "x.qcow2"
    image.write_bytes(b"image")
    described = {"content": content_of(plan, inputs), "rootfs": {}}
    document = artifact.manifest(plan, inputs, described, [image])
    texts = [as_bytes(plan), json.dumps(document).encode(), repr(inputs).encode()]
    # The files that are written for the hooks do hold them: the search finds what is there.
    devmode.write_inputs(inputs.dev or Dev(None, None), inputs.profile, "x", tmp_path / "in")
    held = b"".join(p.read_bytes() for p in (tmp_path / "in").iterdir())
    for secret in secrets_of(inputs):
        assert secret in held
        assert not [t for t in texts if secret in t]


def test_what_the_hooks_read_is_closed_to_others(password_file: Path, tmp_path: Path) -> None:
    inputs = dev_inputs(
        DEV, f"guest.root_password_file={password_file}", "agent.controller.username=trove-dev",
        "agent.controller.path=/srv/src/trove",
    )  # fmt: skip
    assert inputs.dev
    directory = tmp_path / "dev-in"
    devmode.write_inputs(inputs.dev, inputs.profile, "image-1", directory)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {p.name: stat.S_IMODE(p.stat().st_mode) for p in directory.iterdir()} == dict.fromkeys(
        ("id_ed25519", "line-for-controller", "settings.conf", "root-password"), 0o600
    )
    assert (directory / "settings.conf").read_text() == (
        "HOST_SCP_USERNAME=trove-dev\nPATH_TROVE=/srv/src/trove\n"
    )
    assert (directory / "root-password").read_text() == f"root:{PASSWORD}\n"
    # ssh-keygen reads the private key, and it is the public one's other half.
    asked = run(["ssh-keygen", "-y", "-P", "", "-f", directory / "id_ed25519"]).stdout.decode()
    line = (directory / "line-for-controller").read_text()
    assert " ".join(asked.split()[:2]) in line
    assert line.endswith(" image-1\n")


def test_the_public_half_lies_beside_the_artifact(tmp_path: Path) -> None:
    inputs = dev_inputs(DEV)
    assert inputs.dev
    plan = plan_of(inputs)
    image = tmp_path / f"{plan.name}.qcow2"
    image.write_bytes(b"image")
    for name in (inventory.FILE_NAME, components.FILE_NAME, sbom.SPDX, sbom.CYCLONEDX):
        (tmp_path / name).write_bytes(b"files")
    devmode.write_public(inputs.dev, inputs.profile, plan.name, tmp_path)
    content = content_of(plan, inputs) | {"packages": {}, "python_packages": {}}
    document = artifact.manifest(plan, inputs, {"content": content, "rootfs": {}}, [image])
    artifact.write_description(tmp_path, document)

    done = subprocess.run(
        ["sha256sum", "-c", "SHA256SUMS"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "dev/authorized_keys: OK" in done.stdout
    assert "dev/id_ed25519.pub: OK" in done.stdout
    shown = run(["ssh-keygen", "-l", "-f", tmp_path / devmode.PUBLIC_KEY]).stdout.decode().split()
    assert document["dev"] == {
        "key_fingerprint": shown[1],
        "controller": {"username": "stack", "path": "/opt/stack/trove"},
        "root_password": False,
    }
    assert shown[2] == plan.name
    # sshd and ssh-keygen read the line alike: options, then the key.
    line = run(["ssh-keygen", "-l", "-f", tmp_path / devmode.AUTHORIZED_KEYS]).stdout.decode()
    assert line.split()[1] == shown[1]
    assert (tmp_path / devmode.AUTHORIZED_KEYS).read_text().count("\n") == 1


def test_production_has_nothing_of_it() -> None:
    inputs = make_inputs()
    assert resolve_dev(inputs.profile, for_run=True) is None
    assert devmode.describe(None, inputs.profile) is None
    plan = plan_of(inputs)
    parts = plan.stage("agent").parts
    assert [p.name for p in parts] == ["environment", "code"]
    assert not [p for p in parts if "IMAGEBUILD_DEV_DIR" in p.environment]
    assert DEV_ELEMENT not in {e["name"] for p in parts for e in p.elements}


@pytest.mark.parametrize(
    "path", ["/", "//", "/opt/%USER%/trove", "/opt/..", "trove", "/a b", "/a'b"]
)
def test_controllers_directory_needs_no_quoting(path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_profile("debian-bookworm", [parse_set(f'agent.controller.path="{path}"')])
    assert "agent.controller.path" in str(caught.value)


def test_every_letter_that_a_path_may_hold_survives_the_line(tmp_path: Path) -> None:
    """The command's own shell hands rsync the path as it is."""
    path = f"{tmp_path}/a@b+c=d,e~f-g_h.ü"
    profile = load_profile("debian-bookworm", [parse_set(f"agent.controller.path={path}")]).profile
    line = devmode.authorized_keys_line(make_key(), profile.agent.controller, "n")
    command = re.findall(r'command="((?:[^"\\]|\\.)*)"', line)[0].replace('\\"', '"')
    fake = tmp_path / "bin/rsync"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\ncat /dev/fd/3\n")
    fake.chmod(0o755)
    env = {"PATH": f"{fake.parent}:/usr/bin:/bin"}
    done = subprocess.run(
        ["sh", "-c", command], env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[:3] == ["[trove]", f"path={path}", "read only=yes"]


def test_the_unit_starts_the_agent_as_production_does() -> None:
    """The drop-in repeats the arguments that the production unit gives."""
    arguments = [
        re.findall(r"^ExecStart=\S+ (.+)$", (elements_dir() / file).read_text(), re.M)
        for file in (
            "trove-guest-agent/static/guest-agent.service",
            "trove-guest-dev/static/guest-agent-dev.conf",
        )
    ]
    assert arguments[0] == arguments[1] != []
