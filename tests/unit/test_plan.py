"""Inputs → Plan: the same inputs give the same bytes, and every input counts where it should."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
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
from imagebuild.inputs import Archive, Certificate, Dev, DockerKey, Inputs, Registry
from imagebuild.plan import STAGES, Plan, content_of, make_plan
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
        "base_elements": BASE_ELEMENTS,
        "agent_elements": AGENT_ELEMENTS,
        "elements": {
            "base": tuple(Element(n, Path("/e", n), f"base {n}") for n in BASE_ELEMENTS),
            "agent": tuple(Element(n, Path("/e", n), f"agent {n}") for n in AGENT_ELEMENTS),
        },
        "element_paths": (Path("/e"),),
        "agent": make_agent(),
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
    document = json.loads(as_bytes(plan_of(make_inputs())))
    assert document.keys() >= {
        "schema_version", "build_id", "profile", "stages", "environment", "outputs",
    }  # fmt: skip
    assert document["schema_version"] == 1
    assert document["provisional"] is False
    assert [s["name"] for s in document["stages"]] == list(STAGES)
    for stage in document["stages"]:
        assert stage.keys() >= {"name", "id", "elements", "inputs"}
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
    base, agent, disk, formats = plan.stages
    assert [e["name"] for e in base.elements] == list(BASE_ELEMENTS)
    assert base.inputs["archives"][0]["suites"] == {
        "bookworm": "a" * 64,
        "bookworm-updates": "b" * 64,
    }
    assert agent.inputs["parent"] == base.id
    assert agent.inputs["agent"]["lock_sha256"] == "1" * 64
    assert disk.inputs["parent"] == agent.id
    assert (disk.inputs["size"], disk.inputs["label"]) == (5 << 30, "cloudimg-rootfs")
    assert formats.inputs["parent"] == disk.id
    assert (formats.inputs["formats"], formats.inputs["compression"]) == (["qcow2"], "zstd")


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


def _element(stage: str) -> Inputs:
    inputs = make_inputs()
    first, *rest = inputs.elements[stage]
    changed = (dataclasses.replace(first, sha256="other"), *rest)
    return dataclasses.replace(inputs, elements={**inputs.elements, stage: changed})


def _archive(number: int, **changes: Any) -> Inputs:  # noqa: ANN401 - Archive's fields
    archives = list(make_inputs().archives)
    archives[number] = dataclasses.replace(archives[number], **changes)
    return make_inputs(archives=tuple(archives))


def _tool(name: str) -> Inputs:
    return make_inputs(tools={**make_inputs().tools, name: "99"})


def _agent(**changes: Any) -> Inputs:  # noqa: ANN401 - AgentInput's fields
    return make_inputs(agent=make_agent(**changes))


#: What is changed, how, and the first stage whose id must change with it.
CHANGES: list[tuple[str, Callable[[], Inputs], str | None]] = [
    ("element of base", lambda: _element("base"), "base"),
    ("element of agent", lambda: _element("agent"), "agent"),
    ("asked elements of base", lambda: make_inputs(base_elements=BASE_ELEMENTS[1:]), "base"),
    ("asked elements of agent", lambda: make_inputs(agent_elements=AGENT_ELEMENTS[1:]), "agent"),
    ("Release file", lambda: _archive(0, suites=(Suite("bookworm", "9" * 64),)), "base"),
    ("security Release file", lambda: _archive(1, suites=(Suite("s", "9" * 64),)), "base"),
    ("docker's Release file", lambda: _archive(2, suites=(Suite("bookworm", "9" * 64),)), "base"),
    ("mirror's URL", lambda: _archive(0, url="http://other.example/debian"), "base"),
    ("components", lambda: _archive(0, components=("main", "contrib")), "base"),
    ("a mirror taken for a snapshot", lambda: _archive(0, is_snapshot=True), "base"),
    ("keyring", lambda: _archive(0, keyring_sha256="9" * 64), "base"),
    ("docker's key", lambda: _archive(2, keyring_sha256="9" * 64), "base"),
    ("package", lambda: make_inputs("packages+=tmux"), "base"),
    ("kernel", lambda: make_inputs("kernel=linux-image-{arch}"), "base"),
    ("network package", lambda: make_inputs("network.packages+=ethtool"), "base"),
    ("datasource", lambda: make_inputs("cloud_init.datasources=[OpenStack]"), "base"),
    ("time server", lambda: make_inputs("time.servers=[ntp.example]"), "base"),
    ("guest user", lambda: make_inputs("guest.username=trove"), "base"),
    ("label", lambda: make_inputs("disk.label=root"), "base"),
    ("architecture", lambda: make_inputs("arch=arm64"), "base"),
    (
        "certificate",
        lambda: make_inputs(certificates=(Certificate("site-0-0.crt", b"x", "9" * 64),)),
        "base",
    ),
    ("no certificate", lambda: make_inputs(certificates=()), "base"),
    ("registry", lambda: make_inputs(registries=(REGISTRY,)), "base"),
    ("a dev image's own mark", lambda: make_inputs(dev=Dev("9" * 32, None)), "agent"),
    ("epoch", lambda: make_inputs(epoch=1), "base"),
    ("version of imagebuild", lambda: _tool("imagebuild"), "base"),
    ("version of diskimage-builder", lambda: _tool("diskimage-builder"), "base"),
    ("version of mmdebstrap", lambda: _tool("mmdebstrap"), "base"),
    ("agent's lock", lambda: _agent(lock_sha256="9" * 64), "agent"),
    ("build tools' lock", lambda: _agent(build_lock_sha256="9" * 64), "agent"),
    ("agent's source", lambda: _agent(sha256="9" * 64), "agent"),
    ("agent's version", lambda: _agent(version="25.0.1"), "agent"),
    ("agent's commit", lambda: _agent(kind=SourceKind.GIT, commit="9" * 40), "agent"),
    ("Python", lambda: make_inputs("python=3.12"), "agent"),
    ("profile's name", lambda: make_inputs("name=site-bookworm"), "agent"),
    ("disk size", lambda: make_inputs("disk.size=8G"), "disk"),
    ("version of mke2fs", lambda: _tool("mke2fs"), "disk"),
    ("version of mtools", lambda: _tool("mtools"), "disk"),
    ("formats", lambda: make_inputs("formats=[qcow2, raw]"), "formats"),
    ("compression", lambda: make_inputs("compression=zlib"), "formats"),
    ("version of qemu-img", lambda: _tool("qemu-img"), "formats"),
    ("time limit", lambda: make_inputs("timeout.build=5h", "timeout.base=none"), None),
    ("proxy", lambda: make_inputs(network_variables=("http_proxy",)), None),
    ("place of the elements", lambda: make_inputs(element_paths=(Path("/else/where"),)), None),
    ("place of the keyring", lambda: _archive(1, keyring=Path("/else/where")), None),
]


@pytest.mark.parametrize(("change", "first"), [c[1:] for c in CHANGES], ids=[c[0] for c in CHANGES])
def test_an_input_changes_its_stage_and_all_after(
    change: Callable[[], Inputs], first: str | None
) -> None:
    before, after = ids(make_inputs()), ids(change())
    changed = [name for name, x, y in zip(STAGES, before, after, strict=True) if x != y]
    assert changed == (list(STAGES[STAGES.index(first) :]) if first else [])


def test_every_tool_that_is_asked_counts() -> None:
    assert set(tool_versions()) == set(make_inputs().tools)
    counted: set[str] = set()
    for stage in plan_of(make_inputs()).stages:
        counted |= set(stage.inputs["tools"])
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
    pair: list[tuple[str, Callable[[], Inputs], str | None]],
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
    for stage in plan.stages:
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


@pytest.mark.parametrize("stage", ["base", "agent"])
def test_every_variable_of_ours_is_read_by_an_element(stage: str) -> None:
    plan = plan_of(make_inputs())
    ours = {n for n in plan.stage(stage).environment if n.startswith("IMAGEBUILD_")}
    elements = [e["name"] for e in plan.stage(stage).elements]
    readmes = "".join((elements_dir() / name / "README.md").read_text() for name in elements)
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
    assert set(content["stages"]) == {"base", "agent"}
    assert set(content["elements"]) == {*BASE_ELEMENTS, *AGENT_ELEMENTS}
    json.dumps(content)


@pytest.mark.parametrize(
    "change", [c for _, c, first in CHANGES if first in ("disk", "formats", None)]
)
def test_a_reused_tree_holds_the_content_that_the_plan_says(change: Callable[[], Inputs]) -> None:
    """What content.json says must be hashed: else a tree from the store could say another."""
    inputs, changed = make_inputs(), change()
    assert plan_of(changed).stage("agent").id == plan_of(inputs).stage("agent").id
    assert content_of(plan_of(changed), changed) == content_of(plan_of(inputs), inputs)
