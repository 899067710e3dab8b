"""Inputs → Plan: the same inputs give the same bytes, and every input counts where it should."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagebuild.agent.source import AgentInput, SourceKind
from imagebuild.archive import Suite
from imagebuild.config.load import load_profile
from imagebuild.config.merge import parse_set
from imagebuild.data import elements_dir
from imagebuild.dib import Element
from imagebuild.digest import of_directory
from imagebuild.inputs import Archive, Certificate, Dev, DockerKey, Inputs, Registry
from imagebuild.plan import STAGES, Plan, content_of, make_plan
from imagebuild.preload import PreloadImage
from imagebuild.registry.manifest import Descriptor
from imagebuild.registry.pull import Resolved
from imagebuild.registry.reference import Reference
from imagebuild.resolve import AGENT_ELEMENTS, BASE_ELEMENTS, tool_versions

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def make_agent(**changes: Any) -> AgentInput:  # noqa: ANN401 - AgentInput's fields
    values: dict[str, Any] = {
        "kind": SourceKind.PYPI,
        "requested": "pypi:trove",
        "name": "trove",
        "version": "25.0.0",
        "series": "2026.1",
        "python": "3.11",
        "requires_python": ">=3.10",
        "lock": "2026.1-py3.11.txt",
        "lock_sha256": "1" * 64,
        "build_lock": "build-py3.11.txt",
        "build_lock_sha256": "2" * 64,
        "sha256": "3" * 64,
    }
    return AgentInput(**{**values, **changes})


def container(target: str, digit: str) -> PreloadImage:
    """A preloaded container, all of whose digests are made of one digit."""
    part = Descriptor("application/vnd.oci.image.manifest.v1+json", f"sha256:{digit * 64}", 7)
    source = Reference.parse(target)
    return PreloadImage(target, target, Resolved(source, "amd64", part, part, part, (part,)))


MARIADB = container("registry.example:5000/trove/mariadb:11.4", "1")
BACKUP = container("registry.example:5000/trove/db-backup-mariadb:11.4", "2")


def make_inputs(*sets: str, **changes: Any) -> Inputs:  # noqa: ANN401 - Inputs' fields
    """Inputs with made-up values for a shipped profile; `sets` are KEY=VALUE of the profile."""
    profile = load_profile("debian-bookworm", [parse_set(text) for text in sets]).profile
    suites = (Suite("bookworm", "a" * 64, 1740823200), Suite("bookworm-updates", "b" * 64))
    security = (Suite("bookworm-security", "c" * 64),)
    docker = (Suite("bookworm", "d" * 64),)
    values: dict[str, Any] = {
        "profile": profile,
        "arch": str(profile.arch),
        "archives": (
            Archive("archive", profile.mirror_url(), suites, ("main",), KEYRING, "e" * 64),
            Archive("security", "http://s.example/d", security, ("main",), KEYRING, "e" * 64),
            Archive("docker", "http://k.example/d", docker, ("stable",), Path("-"), "f" * 64),
        ),
        "docker_key": DockerKey(b"key", "f" * 64),
        "certificates": (Certificate("site-0-0.crt", b"pem", "4" * 64),),
        "registries": (),
        "dev": None,
        "asked_elements": {"base": BASE_ELEMENTS, "environment": AGENT_ELEMENTS},
        "elements": {
            run: tuple(Element(n, Path("/e", n), f"{run} {n}") for n in names)
            for run, names in (("base", BASE_ELEMENTS), ("environment", AGENT_ELEMENTS))
        },
        "element_paths": (Path("/e"),),
        "agent": make_agent(),
        "preload": (MARIADB, BACKUP),
        "tools": {
            "imagebuild": "1.0",
            "diskimage-builder": "3.43",
            "mmdebstrap": "1.3.5",
            "mke2fs": "1.47.0",
            "mtools": "4.0.33",
            "qemu-img": "7.2",
        },
        "network_variables": (),
        "epoch": 1740823200,
        "unresolved": (),
    }
    return Inputs(**{**values, **changes})


def plan_of(inputs: Inputs) -> Plan:
    return make_plan(inputs, Path("/images/{name}"))


def as_bytes(plan: Plan) -> bytes:
    return json.dumps(plan.to_json()).encode()


def ids(inputs: Inputs) -> list[str]:
    return [s.id for s in plan_of(inputs).stages]


def test_same_inputs_same_bytes() -> None:
    assert as_bytes(plan_of(make_inputs())) == as_bytes(plan_of(make_inputs()))


def test_the_order_of_mappings_does_not_count() -> None:
    inputs = make_inputs()
    turned = make_inputs(
        tools=dict(reversed(list(inputs.tools.items()))),
        elements=dict(reversed(list(inputs.elements.items()))),
    )
    assert as_bytes(plan_of(turned)) == as_bytes(plan_of(inputs))


def test_document() -> None:
    document = json.loads(as_bytes(plan_of(make_inputs(preload=(MARIADB,)))))
    assert document.keys() >= {
        "schema_version", "build_id", "profile", "stages", "environment", "outputs",
    }  # fmt: skip
    assert document["schema_version"] == 1
    assert document["provisional"] is False
    assert [s["name"] for s in document["stages"]] == list(STAGES)
    for stage in document["stages"]:
        assert stage.keys() >= {"name", "id", "elements", "inputs", "parts"}
        assert re.fullmatch(r"[0-9a-f]{64}", stage["id"])
    assert document["build_id"] == document["stages"][-1]["id"]
    assert document["name"] == f"trove-guest-debian-bookworm-amd64-{document['build_id'][:8]}"
    assert document["profile"]["name"] == "debian-bookworm"
    assert document["outputs"] == {
        "artifact": f"/images/{document['name']}",
        "images": [f"{document['name']}.qcow2"],
        "places": [],
    }


def test_each_stage_says_what_went_in() -> None:
    plan = plan_of(make_inputs())
    base, agent, containers, disk, formats = plan.stages
    assert [e["name"] for e in base.elements] == list(BASE_ELEMENTS)
    assert base.inputs["archives"][0]["suites"] == {
        "bookworm": "a" * 64,
        "bookworm-updates": "b" * 64,
    }
    environment, code = agent.parts
    assert environment.inputs["parent"] == base.id
    assert environment.inputs["lock_sha256"] == "1" * 64
    assert [e["name"] for e in environment.elements] == list(AGENT_ELEMENTS)
    assert (code.inputs["parent"], code.inputs["sha256"]) == (environment.id, "3" * 64)
    first, second = containers.parts
    assert (first.inputs["parent"], second.inputs["parent"]) == (base.id, first.id)
    assert first.inputs["image"]["manifest"] == MARIADB.to_json()["manifest"]
    base_disk, trunk = disk.parts
    assert base_disk.inputs["base"] == base.id
    assert trunk.inputs["parent"] == base_disk.id
    assert trunk.inputs["layers"] == [first.id, second.id, environment.id]
    assert (base_disk.inputs["size"], base_disk.inputs["label"]) == (5 << 30, "cloudimg-rootfs")
    assert disk.inputs["stages"] == {s.name: s.id for s in (base, agent, containers)}
    assert formats.inputs["parent"] == disk.id
    assert (formats.inputs["formats"], formats.inputs["compression"]) == (["qcow2"], "zstd")


def test_no_containers_no_stage() -> None:
    assert [s.name for s in plan_of(make_inputs(preload=())).stages] == [
        "base",
        "agent",
        "disk",
        "formats",
    ]


REGISTRY = Registry("registry.example:5000", b"ca", "5" * 64, "guest", "secret-Zq", "6" * 32)


def test_what_a_registry_changes_and_what_a_plan_tells_of_it() -> None:
    plans = []
    changed: list[dict[str, Any]] = [
        {},
        {"ca_sha256": "7" * 64},
        {"secret": "7" * 32},
        {"host": "o.example"},
    ]
    for changes in changed:
        registry = dataclasses.replace(REGISTRY, **changes)
        plans.append(plan_of(make_inputs(registries=(registry,))))
        assert b"secret-Zq" not in as_bytes(plans[-1])
        assert "secret-Zq" not in repr(registry)
    assert len({p.stage("base").id for p in plans}) == len(plans)


def _element(run: str) -> Inputs:
    inputs = make_inputs()
    first, *rest = inputs.elements[run]
    changed = (dataclasses.replace(first, sha256="other"), *rest)
    return dataclasses.replace(inputs, elements={**inputs.elements, run: changed})


def _real_element(tmp: Path, change: Callable[[Path], object]) -> Inputs:
    """An element on disk, as the resolver finds it, after a change to its files."""
    hook = tmp / "site/install.d/50-site"
    hook.parent.mkdir(parents=True)
    hook.write_text("#!/bin/bash\n")
    hook.chmod(0o755)
    change(hook)
    inputs = make_inputs()
    site = Element("site", tmp / "site", of_directory(tmp / "site"))
    return dataclasses.replace(
        inputs, elements={**inputs.elements, "base": (*inputs.elements["base"], site)}
    )


def _asked(**runs: tuple[str, ...]) -> Inputs:
    return make_inputs(asked_elements={**make_inputs().asked_elements, **runs})


def _late(**changes: Any) -> Inputs:  # noqa: ANN401 - Inputs' fields
    """With an element of the user's own on top of the agent."""
    inputs = make_inputs(**changes)
    return dataclasses.replace(
        inputs,
        asked_elements={**inputs.asked_elements, "late": ("site",)},
        elements={**inputs.elements, "late": (Element("site", Path("/e/site"), "late site"),)},
    )


def _container(number: int, digit: str) -> Inputs:
    images = [MARIADB, BACKUP]
    images[number] = container(images[number].target, digit)
    return make_inputs(preload=tuple(images))


def _archive(number: int, **changes: Any) -> Inputs:  # noqa: ANN401 - Archive's fields
    archives = list(make_inputs().archives)
    archives[number] = dataclasses.replace(archives[number], **changes)
    return make_inputs(archives=tuple(archives))


def _tool(name: str) -> Inputs:
    return make_inputs(tools={**make_inputs().tools, name: "99"})


def _agent(**changes: Any) -> Inputs:  # noqa: ANN401 - AgentInput's fields
    return make_inputs(agent=make_agent(**changes))


MARIA, BACK = MARIADB.target, BACKUP.target
#: All that the store keeps of a build with two containers, in order.
ALL = (
    "base", "environment", "code", MARIA, BACK, "base-disk", "trunk", "base-qcow2", "qcow2",
    "formats",
)  # fmt: skip
ENVIRONMENT = {"environment", "code", "trunk", "qcow2", "formats"}
CODE = {"code", "formats"}
TRUNK = {"trunk", "qcow2", "formats"}
DISK = {"base-disk", "base-qcow2", *TRUNK}

#: What is changed, how, and what of `ALL` is then made anew.
CHANGES: list[tuple[str, Callable[[], Inputs], Collection[str]]] = [
    ("element of base", lambda: _element("base"), ALL),
    ("element of agent", lambda: _element("environment"), ENVIRONMENT),
    ("asked elements of base", lambda: _asked(base=BASE_ELEMENTS[1:]), ALL),
    ("asked elements of agent", lambda: _asked(environment=AGENT_ELEMENTS[1:]), ENVIRONMENT),
    ("an element on top of the agent", lambda: _late(), {"elements", "formats"}),
    ("Release file", lambda: _archive(0, suites=(Suite("bookworm", "9" * 64),)), ALL),
    ("security Release file", lambda: _archive(1, suites=(Suite("s", "9" * 64),)), ALL),
    ("docker's Release file", lambda: _archive(2, suites=(Suite("bookworm", "9" * 64),)), ALL),
    ("mirror's URL", lambda: _archive(0, url="http://other.example/debian"), ALL),
    ("components", lambda: _archive(0, components=("main", "contrib")), ALL),
    ("a mirror taken for a snapshot", lambda: _archive(0, is_snapshot=True), ALL),
    ("keyring", lambda: _archive(0, keyring_sha256="9" * 64), ALL),
    ("docker's key", lambda: _archive(2, keyring_sha256="9" * 64), ALL),
    ("package", lambda: make_inputs("packages+=tmux"), ALL),
    ("kernel", lambda: make_inputs("kernel=linux-image-{arch}"), ALL),
    ("network package", lambda: make_inputs("network.packages+=ethtool"), ALL),
    ("datasource", lambda: make_inputs("cloud_init.datasources=[OpenStack]"), ALL),
    ("time server", lambda: make_inputs("time.servers=[ntp.example]"), ALL),
    ("guest user", lambda: make_inputs("guest.username=trove"), ALL),
    ("label", lambda: make_inputs("disk.label=root"), ALL),
    ("architecture", lambda: make_inputs("arch=arm64"), ALL),
    (
        "certificate",
        lambda: make_inputs(certificates=(Certificate("site-0-0.crt", b"x", "9" * 64),)),
        ALL,
    ),
    ("no certificate", lambda: make_inputs(certificates=()), ALL),
    ("registry", lambda: make_inputs(registries=(REGISTRY,)), ALL),
    ("epoch", lambda: make_inputs(epoch=1), ALL),
    ("version of imagebuild", lambda: _tool("imagebuild"), ALL),
    ("version of diskimage-builder", lambda: _tool("diskimage-builder"), ALL),
    ("version of mmdebstrap", lambda: _tool("mmdebstrap"), ALL),
    ("agent's lock", lambda: _agent(lock_sha256="9" * 64), ENVIRONMENT),
    ("build tools' lock", lambda: _agent(build_lock_sha256="9" * 64), ENVIRONMENT),
    ("Python", lambda: make_inputs("python=3.12"), ENVIRONMENT),
    ("agent's source", lambda: _agent(sha256="9" * 64), CODE),
    ("agent's version", lambda: _agent(version="25.0.1"), CODE),
    ("agent's kind", lambda: _agent(kind=SourceKind.GIT, commit="9" * 40), CODE),
    # The same code from another place is the same layer; the image says where it came from.
    ("agent's place", lambda: _agent(path="/elsewhere"), {"formats"}),
    ("profile's name", lambda: make_inputs("name=site-bookworm"), {"formats"}),
    ("the last container", lambda: _container(1, "9"), {BACK, *TRUNK}),
    ("the first container", lambda: _container(0, "9"), {MARIA, BACK, *TRUNK}),
    ("one container less", lambda: make_inputs(preload=(MARIADB,)), TRUNK),
    ("no containers", lambda: make_inputs(preload=()), TRUNK),
    ("disk size", lambda: make_inputs("disk.size=8G"), DISK),
    ("version of mke2fs", lambda: _tool("mke2fs"), DISK),
    ("version of mtools", lambda: _tool("mtools"), DISK),
    ("formats", lambda: make_inputs("formats=[qcow2, raw]"), {"formats"}),
    ("compression", lambda: make_inputs("compression=zlib"), {"base-qcow2", "qcow2", "formats"}),
    ("version of qemu-img", lambda: _tool("qemu-img"), {"base-qcow2", "qcow2", "formats"}),
    ("time limit", lambda: make_inputs("timeout.build=5h", "timeout.base=none"), ()),
    ("proxy", lambda: make_inputs(network_variables=("http_proxy",)), ()),
    ("place of the elements", lambda: make_inputs(element_paths=(Path("/else/where"),)), ()),
    ("place of the keyring", lambda: _archive(1, keyring=Path("/else/where")), ()),
]


def made(before: Inputs, after: Inputs) -> list[str]:
    """What a build of `after` makes when the store has all that a build of `before` made."""
    have = {part.id for _, _, part in plan_of(before).objects}
    return [part.name for _, _, part in plan_of(after).objects if part.id not in have]


@pytest.mark.parametrize(
    ("change", "expected"), [c[1:] for c in CHANGES], ids=[c[0] for c in CHANGES]
)
def test_a_change_makes_what_it_reaches_and_nothing_else(
    change: Callable[[], Inputs], expected: Collection[str]
) -> None:
    assert set(made(make_inputs(), change())) == set(expected)


def test_all_is_what_a_first_build_makes() -> None:
    assert tuple(p.name for _, _, p in plan_of(make_inputs()).objects) == ALL


@pytest.mark.parametrize(
    "change",
    [
        lambda hook: hook.write_text("#!/bin/bash\necho more\n"),
        lambda hook: hook.chmod(0o644),
        lambda hook: hook.rename(hook.with_name("51-site")),
        lambda hook: (hook.parent.parent / "element-deps").write_text("vm\n"),
    ],
    ids=["hook", "mode", "name", "dependencies"],
)
def test_a_file_of_an_element_counts(tmp_path: Path, change: Callable[[Path], object]) -> None:
    before = _real_element(tmp_path / "a", lambda hook: None)  # noqa: ARG005
    again = _real_element(tmp_path / "b", lambda hook: hook.touch())
    after = _real_element(tmp_path / "c", change)
    assert made(before, again) == []
    assert set(made(before, after)) == set(ALL)


def test_what_a_dev_image_shares() -> None:
    """Only what has the keys in it is its own: `password` marks a dev image without a key."""
    plain = make_inputs()
    dev = [_late(dev=Dev(mark, None)) for mark in ("8" * 32, "9" * 32)]
    assert set(made(plain, dev[0])) == set(made(*dev)) == {"elements", "formats"}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(CHANGES), min_size=2, max_size=2, unique_by=lambda c: c[0]))
def test_the_store_serves_what_earlier_builds_share(
    pair: list[tuple[str, Callable[[], Inputs], Collection[str]]],
) -> None:
    """From one changed build to the next: what either change reaches is made, nothing else."""
    (_, one, first), (_, other, second) = pair
    again = set(made(one(), other()))
    lacking = set(ALL) - {p.name for _, _, p in plan_of(one()).objects}
    assert again <= {*first, *second, *lacking}
    assert again >= set(second) & {p.name for _, _, p in plan_of(other()).objects}


def test_every_tool_that_is_asked_counts() -> None:
    assert set(tool_versions()) == set(make_inputs().tools)
    counted: set[str] = set()
    for _, _, part in plan_of(make_inputs()).objects:
        counted |= set(part.inputs["tools"])
    assert counted == set(tool_versions())


@settings(max_examples=25, deadline=None)
@given(st.text(), st.lists(st.text(min_size=1), max_size=3))
def test_places_do_not_count(artifacts: str, places: list[str]) -> None:
    inputs = make_inputs()
    plan = make_plan(inputs, Path(artifacts), [Path(p) for p in places])
    assert [s.id for s in plan.stages] == ids(inputs)
    assert plan.name == plan_of(inputs).name
    assert plan.outputs["places"] == [str(Path(p)) for p in places]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(CHANGES), min_size=2, max_size=2, unique_by=lambda c: c[0]))
def test_no_two_inputs_are_mixed_up(
    pair: list[tuple[str, Callable[[], Inputs], Collection[str]]],
) -> None:
    """Two different builds never share an id of a stage that both changed."""
    (_, one, first), (_, other, second) = pair
    if first and second:
        assert ids(one())[-1] != ids(other())[-1]


def test_secrets_and_proxies_only_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    before = as_bytes(plan_of(make_inputs(network_variables=("http_proxy",))))
    monkeypatch.setenv("http_proxy", "http://me:hunter2@proxy.example:3128")
    monkeypatch.setenv("PIP_INDEX_URL", "https://tok3n@pypi.example/simple")
    after = as_bytes(plan_of(make_inputs(network_variables=("http_proxy",))))
    assert after == before
    assert json.loads(after)["environment"]["from_host"] == ["http_proxy"]


def test_unresolved_makes_it_provisional() -> None:
    plan = plan_of(_archive(0, suites=(Suite("bookworm"),)))
    assert not plan.provisional
    plan = plan_of(make_inputs(unresolved=("Release file of x",)))
    assert plan.provisional
    assert plan.to_json()["provisional"] is True
    assert plan.to_json()["unresolved"] == ["Release file of x"]


def test_no_path_of_the_machine_is_hashed() -> None:
    """Where scratch, cache and elements lie stands in a plan as a placeholder."""
    plan = plan_of(make_inputs(element_paths=(Path("/site/elements"), Path("/e"))))
    for _, _, stage in plan.objects:
        text = json.dumps([dict(stage.environment), list(stage.argv), dict(stage.inputs)])
        assert "/site/elements" not in text
        assert str(Path.home()) not in text
    # Elements count by their content: a directory more in the search path changes no id.
    elsewhere = plan_of(make_inputs(element_paths=(Path("/e"),)))
    assert [s.id for s in plan.stages] == [s.id for s in elsewhere.stages]


def test_packages_are_listed_once_kernel_last() -> None:
    inputs = make_inputs("packages+=docker.io")
    packages = plan_of(inputs).stage("base").environment["IMAGEBUILD_PACKAGES"].split()
    assert packages.count("docker.io") == 1
    assert {"cloud-init", "ifupdown", "isc-dhcp-client"} <= set(packages)
    assert packages[-1] == "linux-image-cloud-amd64"


@pytest.mark.parametrize("run", ["base", "environment"])
def test_every_variable_of_ours_is_read_by_an_element(run: str) -> None:
    plan = next(p for _, _, p in plan_of(make_inputs()).objects if p.name == run)
    ours = {n for n in plan.environment if n.startswith("IMAGEBUILD_")}
    readmes = "".join((elements_dir() / e["name"] / "README.md").read_text() for e in plan.elements)
    assert ours
    assert {n for n in ours if f"`{n}`" not in readmes} == set()


def test_content_describes_the_trees_alone() -> None:
    inputs = make_inputs()
    plan = plan_of(inputs)
    content = content_of(plan, inputs)
    other = make_inputs("disk.size=8G", "formats=[raw]", "compression=none")
    assert content_of(plan_of(other), other) == content
    assert content["datasources"] == ["ConfigDrive", "OpenStack"]
    assert content["guest_username"] == "ubuntu"
    assert content["agent"]["version"] == "25.0.0"
    assert set(content["stages"]) == {"base", "agent", "containers"}
    assert [c["target"] for c in content["containers"]] == [MARIA, BACK]
    assert set(content["elements"]) == {*BASE_ELEMENTS, *AGENT_ELEMENTS}
    json.dumps(content)


@pytest.mark.parametrize("change", [c for _, c, _ in CHANGES], ids=[c[0] for c in CHANGES])
def test_the_content_that_an_image_tells_is_hashed(change: Callable[[], Inputs]) -> None:
    """A finished image from the store says what the plan says: else its id would be another."""
    inputs, changed = make_inputs(), change()
    same = plan_of(changed).build_id == plan_of(inputs).build_id
    told = [content_of(plan_of(i), i) for i in (inputs, changed)]
    assert not same or told[0] == told[1]
