"""What is rendered, read by Trove's own option definitions: every option must be one."""

from __future__ import annotations

import configparser
import json
import random
from pathlib import Path
from typing import Any

import pytest
import yaml

from imagebuild.guestconf.inifile import parse
from imagebuild.guestconf.layouts import Layout, RenderedFile, render
from imagebuild.guestconf.optiontable import option_table
from imagebuild.guestconf.settings import (
    Login,
    Secret,
    Sections,
    Settings,
    fragments,
    transport_secret,
)
from imagebuild.mirror.naming import DATASTORES
from imagebuild.mirror.wants import ImageNames
from tests.mirror import upstream

HOST = "10.0.0.5:4000"
PASSWORD = "p$w0rd=;#%{x}"  # noqa: S105 - of no registry
URL = "rabbit://trove:s3%24cret@10.0.0.1:5672,trove:s3%24cret@10.0.0.2:5672/trove"


def everything(series: str) -> Settings:
    """All that can be asked for."""
    return Settings(
        images={
            m: ImageNames(f"{HOST}/trove/{m}", f"{HOST}/trove/db-backup-{m}") for m in DATASTORES
        },
        series=series,
        insecure_registries=(HOST, "10.1.0.0/16"),
        login=Login("puller", Secret("trove_registry_password", value=PASSWORD)),
        management_networks=("4d6a9dc1-3e1e-4d5c-8a3c-0c5b8ad0c9c1",),
        security_groups=("a", "b"),
        keypair="trove-key",
        transport_url=transport_secret(URL),
        quorum_queues=True,
        guest_username="debian",
        guest_group="adm",
        network_isolation=False,
        docker_bridge="172.24.0.1/24",
    )


CONTROL: dict[str, Any] = {
    "DEFAULT.docker_insecure_registries": [HOST, "10.1.0.0/16"],
    "DEFAULT.docker_bridge_network_ip": "172.24.0.1/24",
    "DEFAULT.management_networks": ["4d6a9dc1-3e1e-4d5c-8a3c-0c5b8ad0c9c1"],
    "DEFAULT.management_security_groups": ["a", "b"],
    "DEFAULT.nova_keypair": "trove-key",
    "DEFAULT.injected_config_owner": "debian",
    "DEFAULT.injected_config_group": "adm",
    "network.network_isolation": False,
    "oslo_messaging_rabbit.rabbit_quorum_queue": True,
}
GUEST: dict[str, Any] = {
    "DEFAULT.transport_url": URL,
    **{f"{m}.docker_image": f"{HOST}/trove/{m}" for m in DATASTORES},
    **{f"{m}.backup_docker_image": f"{HOST}/trove/db-backup-{m}" for m in DATASTORES},
    "guest_agent.container_registry": HOST,
    "guest_agent.container_registry_username": "puller",
    "guest_agent.container_registry_password": PASSWORD,
    "oslo_messaging_rabbit.rabbit_quorum_queue": True,
}


def read_back(series: str, files: list[Path], wanted: dict[str, Any]) -> dict[str, Any]:
    pairs = [name.split(".", 1) for name in wanted]
    document = {"files": [str(f) for f in files], "wanted": pairs}
    found: dict[str, Any] = upstream.ask(series, "cfg_program.py", document)
    return found


def put(tmp_path: Path, file: RenderedFile) -> Path:
    path = tmp_path / file.path.name
    path.write_text(file.text)
    return path


def names_in(sections: Sections) -> set[str]:
    return {f"{g}.{n}" for g, options in sections.items() for n in options}


@pytest.mark.parametrize("series", upstream.NAMES)
def test_trove_has_every_option_and_reads_what_was_meant(series: str, tmp_path: Path) -> None:
    made = fragments(everything(series))
    # Nothing is rendered that is not looked at here.
    assert names_in(made.control) == set(CONTROL)
    assert names_in(made.guest) == set(GUEST)
    control, guest = render(made, Layout.PLAIN, with_secrets=True)
    for file, wanted in ((control, CONTROL), (guest, GUEST)):
        found = read_back(series, [put(tmp_path, file)], wanted)
        assert found["unknown"] == []
        assert found["values"] == wanted


def test_a_section_that_trove_does_not_have_is_found(tmp_path: Path) -> None:
    """The test above can fail: the admin guide's [postgres], and a misspelt option."""
    _control, guest = render(fragments(everything("2026.2")), Layout.PLAIN, with_secrets=True)
    broken = guest.text.replace("[postgresql]", "[postgres]")
    (tmp_path / "guest.conf").write_text(broken)
    wanted = {"postgresql.docker_image": None}
    found = read_back("2026.2", [tmp_path / "guest.conf"], wanted)
    assert found["unknown"] == ["postgres.docker_image", "postgres.backup_docker_image"]
    # What the guide's reader gets: the image of Docker Hub.
    assert found["values"] == {"postgresql.docker_image": "postgres"}
    (tmp_path / "guest.conf").write_text(guest.text.replace("docker_image", "docker_img"))
    assert len(read_back("2026.2", [tmp_path / "guest.conf"], {})["unknown"]) == 6


def test_openstack_ansible_and_kolla_say_the_same(tmp_path: Path) -> None:
    made = fragments(everything("2026.2"))
    (variables,) = render(made, Layout.OPENSTACK_ANSIBLE, with_secrets=True)
    document = yaml.safe_load(variables.text)
    assert list(document) == ["trove_config_overrides", "trove_guestagent_config_overrides"]
    for overrides, wanted in zip(document.values(), (CONTROL, GUEST), strict=True):
        # As the role's config_template writes them, when it has templated the values.
        parser = configparser.RawConfigParser(default_section="none")
        parser.read_dict(overrides)
        with (tmp_path / "trove.conf").open("w") as file:
            parser.write(file)
        found = read_back("2026.2", [tmp_path / "trove.conf"], wanted)
        assert found["unknown"] == []
        assert found["values"] == wanted
    control, guest = render(made, Layout.KOLLA_ANSIBLE, with_secrets=True)
    assert [str(f.path) for f in (control, guest)] == ["trove.conf", "trove/trove-guestagent.conf"]
    found = read_back("2026.2", [put(tmp_path, guest)], GUEST)
    assert found["values"] == GUEST


@pytest.mark.parametrize("series", upstream.NAMES)
def test_the_shipped_table_is_of_trove(series: str) -> None:
    """The options that trove.common.cfg registers, and their types, are those in options.json."""
    registered = upstream.ask(series, "options_program.py", {})
    table = option_table(series)
    for group, options in registered.items():
        for name, kind in options.items():
            found = table.find(group, name)
            assert found, f"{series}: [{group}] {name}"
            assert found.type == kind, f"{series}: [{group}] {name}"
    assert len(registered["DEFAULT"]) > 150
    assert json.dumps(sorted(registered["guest_agent"])) == json.dumps(
        sorted(table.groups["guest_agent"])
    )


def test_files_are_read_as_oslo_config_reads_them() -> None:
    """Texts of all kinds of lines, in all orders that chance makes."""
    chance = random.Random(5)  # noqa: S311 - the same texts each time
    lines = (
        "a = b", "a: b = c", "c=d:e", "k =", "k = 'x'", 'k = "x"', "k = \"", "  more", "\tmore",
        "", "  ", "# x", "; x", "[mysql]", "[DEFAULT]", "[", "[]", "[x",
        "word", "= v", ": v", "k = # x",
    )  # fmt: skip
    drawn = [chance.choices(lines, k=chance.randint(1, 9)) for _ in range(800)]
    texts = ["\n".join(["[g]", *some]) for some in drawn]
    good = 0
    for text, said in zip(texts, upstream.ask("2026.2", "ini_program.py", texts), strict=True):
        ours = parse(text, "f")
        if isinstance(said, int):
            assert ours.broken[0].where == f"f:{said}", text
        else:
            assert not ours.broken, text
            assert [[x.group, x.name, x.value] for x in ours.lines] == said, text
            good += 1
    assert 100 < good < 700
