"""The known mistakes in people's configuration files: each with its line, and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagebuild.errors import ConfigError, TemporaryError
from imagebuild.guestconf.checks import check
from imagebuild.guestconf.findings import Finding, Severity, mistakes
from imagebuild.guestconf.inifile import Line, parse
from imagebuild.guestconf.online import Speech, check_online
from imagebuild.guestconf.optiontable import option_table
from imagebuild.guestconf.reading import Role, Source, configured, read
from imagebuild.mirror.naming import NEWEST

HOST = "10.0.0.5:4000"
GOOD = f"[mysql]\ndocker_image = {HOST}/trove/mysql\nbackup_docker_image = {HOST}/trove/b\n"
LOGIN = (
    f"[guest_agent]\ncontainer_registry = {HOST}\n"
    "container_registry_username = a\ncontainer_registry_password = b\n"
)


def found(
    guest: str = "", control: str = "", *, series: str = NEWEST, name: str = "trove-guestagent.conf"
) -> list[tuple[str, str, str]]:
    """`guest` and `control` as two files: where, how bad, which option."""
    return [(f.where, f.severity.value, f.option) for f in findings(guest, control, series, name)]


def sources(guest: str, control: str, name: str = "trove-guestagent.conf") -> list[Source]:
    made = []
    if control:
        made.append(Source(Path("trove.conf"), Role.CONTROL, parse(control, "trove.conf")))
    if guest:
        made.append(Source(Path(name), Role.GUEST, parse(guest, name)))
    return made


def findings(
    guest: str = "", control: str = "", series: str = NEWEST, name: str = "trove-guestagent.conf"
) -> tuple[Finding, ...]:
    return check(sources(guest, control, name), series)


FILE = "trove-guestagent.conf"


def test_good_files() -> None:
    assert found(GOOD, f"[DEFAULT]\ndocker_insecure_registries = {HOST}\n") == []
    assert found(GOOD + LOGIN, "[network]\nnetwork_isolation = False\n") == []


def test_postgres_is_no_group() -> None:
    (only,) = findings("[postgres]\ndocker_image = a/b\nbackup_docker_image = a/c\n")
    assert (only.where, only.severity) == (f"{FILE}:1", Severity.MISTAKE)
    assert only.hint == "call it [postgresql]"
    assert "Docker Hub" in only.why


@pytest.mark.parametrize(
    ("image", "hint"),
    [
        (f"{HOST}/trove/mysql:8.4", f"write {HOST}/trove/mysql"),
        (f"{HOST}/trove/mysql@sha256:{'a' * 64}", f"write {HOST}/trove/mysql"),
        (HOST, "write it as [HOST[:PORT]/]NAME"),
    ],
)
def test_what_docker_image_cannot_be(image: str, hint: str) -> None:
    text = f"[mysql]\ndocker_image = {image}\nbackup_docker_image = {HOST}/b\n"
    (only,) = findings(text)
    assert (only.where, only.severity, only.hint) == (f"{FILE}:2", Severity.MISTAKE, hint)


def test_a_tag_of_the_backup_image() -> None:
    (mysql,) = findings(GOOD.replace("/b\n", "/b:1.1\n"))
    assert mysql.severity is Severity.WARNING
    assert "b8.4:1.1" in mysql.why
    text = GOOD.replace("mysql", "mariadb").replace("/b\n", "/b:1.1\n")
    assert "until Python stops it" in findings(text)[0].why
    assert "until Python stops it" not in findings(text, series="2025.2")[0].why
    assert found(GOOD.replace("/b\n", f"/b@sha256:{'a' * 64}\n"))[0][1] == "mistake"


def test_backups_without_an_image() -> None:
    (only,) = findings("[mariadb]\n\ndocker_image = a/b\n")
    assert (only.where, only.option) == (f"{FILE}:3", "[mariadb] backup_docker_image")
    assert "Backup image was not defined" in only.why


def test_a_registry_on_the_guest_itself() -> None:
    text = GOOD.replace(HOST, "localhost:5000")
    assert found(text) == [(f"{FILE}:2", "warning", "[mysql] docker_image")]
    assert online(text, ISOLATED, Speech.PLAIN) == []


def test_no_image_at_all_is_a_warning() -> None:
    assert found("[DEFAULT]\ndebug = true\n") == [(FILE, "warning", "")]


@pytest.mark.parametrize(
    ("registry", "same"),
    [
        (HOST, True), (f"http://{HOST}", True), (f"https://{HOST}/v2/", True),
        ("10.0.0.5", False), ("10.0.0.6:4000", False), ("https://index.docker.io/v1/", False),
    ],
)  # fmt: skip
def test_a_login_that_is_not_for_the_images(registry: str, same: bool) -> None:
    text = GOOD + LOGIN.replace(f"= {HOST}", f"= {registry}")
    wrong = findings(text, "[network]\nnetwork_isolation = no\n")
    assert len(wrong) == (0 if same else 2)
    assert all(f.where == f"{FILE}:5" and f"= {HOST}" in f.hint for f in wrong)


def test_a_login_for_docker_hub() -> None:
    text = "[mysql]\ndocker_image = mysql\nbackup_docker_image = quay.io/b\n" + LOGIN.replace(
        HOST, "https://index.docker.io/v1/"
    )
    (only,) = findings(text, "[network]\nnetwork_isolation = no\n")
    assert "is of quay.io" in only.what


def test_a_login_and_network_isolation() -> None:
    (warned,) = findings(GOOD + LOGIN)
    assert warned.severity is Severity.WARNING  # the other file may say otherwise
    (said,) = findings(GOOD + LOGIN, "[network]\nnetwork_isolation = True\n")
    assert said.severity is Severity.MISTAKE
    assert "trove.conf:2" in said.why


def test_half_a_login() -> None:
    off = "[network]\nnetwork_isolation = 0\n"
    half = LOGIN.replace("container_registry_password = b\n", "")
    assert found(GOOD + half, off) == [(f"{FILE}:5", "mistake", "[guest_agent] container_registry")]
    alone = "[guest_agent]\ncontainer_registry_username = a\n"
    (only,) = findings(GOOD + alone, off)
    assert "nobody logs in" in only.what


def test_a_placeholder_is_not_a_password() -> None:
    text = GOOD + LOGIN.replace("= b\n", "= @trove_registry_password@\n")
    (only,) = findings(text, "[network]\nnetwork_isolation = no\n")
    assert only.where == f"{FILE}:7"


@pytest.mark.parametrize("name", ["trove-agent.conf", "trove-guest.conf"])
def test_a_name_that_trove_does_not_read(name: str) -> None:
    (only,) = findings(GOOD, name=name)
    assert (only.where, only.hint) == (name, "call it trove-guestagent.conf")
    assert found(GOOD, f"[DEFAULT]\nguest_config = /etc/trove/{name}\n", name=name) == []


def test_another_file_than_guests_get() -> None:
    control = "[DEFAULT]\nguest_config = /etc/trove/other.conf\n"
    assert found(GOOD, control) == [("trove.conf:2", "warning", "[DEFAULT] guest_config")]
    assert found(GOOD, control.replace("other", "trove-guestagent")) == []


@pytest.mark.parametrize(
    ("guest", "control", "severity"),
    [
        ("true", "True", ""), ("true", "false", "mistake"), ("", "true", "warning"),
        ("true", "", "warning"), ("false", "", ""), ("", "", ""), ("{{ x }}", "true", ""),
    ],
)  # fmt: skip
def test_two_kinds_of_queues(guest: str, control: str, severity: str) -> None:
    text = "[oslo_messaging_rabbit]\nrabbit_quorum_queue = {}\n"
    wrong = found(
        GOOD + (text.format(guest) if guest else ""),
        text.format(control) if control else "[DEFAULT]\ndebug = true\n",
    )
    assert [s for _, s, _ in wrong] == ([severity] if severity else [])


def test_what_is_no_configuration_is_said_shortly() -> None:
    wrong = findings(control="[DEFAULT]\n" + "x\n" * 500)
    assert len(wrong) == 11
    assert wrong[-1].what == "and 490 more such lines"


def test_a_name_that_kolla_does_not_read(tmp_path: Path) -> None:
    place = tmp_path / "config/trove/trove.conf"
    place.parent.mkdir(parents=True)
    place.write_text("[DEFAULT]\ndebug = true\n")
    (only,) = check(read(place))
    assert str(tmp_path / "config/trove.conf") in only.hint


@pytest.mark.parametrize(
    ("group", "line"),
    [
        ("DEFAULT", f"docker_insecure_registries = {HOST}"),
        ("network", "network_isolation = true"),
        ("DEFAULT", "management_networks = a"),
    ],
)
def test_what_guests_do_not_read(group: str, line: str) -> None:
    (only,) = findings(f"{GOOD}[{group}]\n{line}\n")
    assert (only.where, only.hint) == (f"{FILE}:5", "move it to trove.conf")
    assert found(control=f"[{group}]\n{line}\n") == []


def test_what_the_control_plane_does_not_read() -> None:
    assert [w for w, _, _ in found(control=GOOD)] == ["trove.conf:2", "trove.conf:3"]


def test_isolation_in_the_wrong_group() -> None:
    (only,) = findings(control="[DEFAULT]\nnetwork_isolation = false\n")
    assert "[network]" in only.hint


@pytest.mark.parametrize(
    ("text", "severity", "hint"),
    [
        ("[DEFAULT]\nmanagement_network = a", "mistake", "did you mean management_networks?"),
        ("[DEFAULT]\nnetwork_isolatoin = a", "mistake", "did you mean network_isolation?"),
        ("[DEFAULT]\ncontainer_registry = a", "mistake", "it belongs into [guest_agent]"),
        ("[DEFAULT]\nzzz = a", "warning", ""),
        ("[neutron]\na = b", "warning", ""),
        ("[oslo_policyy]\nssl = true", "mistake", "did you mean [oslo_policy]?"),
    ],
)
def test_words_that_trove_does_not_know(text: str, severity: str, hint: str) -> None:
    (only,) = findings(control=text)
    assert (only.severity.value, only.hint) == (severity, hint)


def test_former_names_are_known() -> None:
    assert found(control="[DEFAULT]\ndefault_neutron_networks = a\n") == []


def test_options_of_another_series() -> None:
    text = "[DEFAULT]\nssl_mode = none\n"
    assert found(control=text) == []
    assert len(found(control=text, series="2025.1")) == 1


@pytest.mark.parametrize(
    ("line", "ok"),
    [
        ("debug = yes", True), ("debug = yess", False), ("bind_port = 8779", True),
        ("bind_port = 99999", False), ("max_instances_per_tenant = ten", False),
        ("max_instances_per_tenant = -1", True), ("debug = {{ trove_debug }}", True),
        ("debug = $other", True), ("docker_bridge_network_ip = 172.24.0.1", False),
        ("docker_insecure_registries = http://a:5", False),
        ("docker_insecure_registries = a:5, 10.0.0.0/8", True),
        ("management_networks = a,b", False),
    ],
)  # fmt: skip
def test_values(line: str, ok: bool) -> None:
    wrong = [f for f in findings(control=f"[DEFAULT]\n{line}\n")
             if f.severity is Severity.MISTAKE]  # fmt: skip
    assert [f.where for f in wrong] == ([] if ok else ["trove.conf:2"])


def test_a_secret_is_not_shown() -> None:
    wrong = findings(control="[oslo_messaging_rabbit]\nssl_key_password = s3cret\nssl = s3cret\n")
    assert wrong
    table = option_table(NEWEST)
    assert table.find("guest_agent", "container_registry_password")
    text = GOOD + LOGIN.replace("= b\n", "= s3cret:@x\n")
    assert "s3cret" not in str(findings(text))


def test_the_bridge_under_isolation() -> None:
    bridge = "[DEFAULT]\ndocker_bridge_network_ip = 172.24.0.1/24\n"
    assert found(control=bridge) == [
        ("trove.conf:2", "warning", "[DEFAULT] docker_bridge_network_ip")
    ]
    assert found(control=bridge + "[network]\nnetwork_isolation = false\n") == []


def test_lines_that_cannot_be_read() -> None:
    text = "a = b\n[\n[]\n[mysql]\nword\n = x\n"
    assert [w for w, _, _ in found(control=text)] == [f"trove.conf:{n}" for n in (1, 2, 3, 5, 6)]


def test_lines_as_oslo_config_reads_them() -> None:
    text = '# x\n; y\n[DEFAULT]\na = "b c"\nd: e = f\n  g\n\n{% if x %}\nh =\n[mysql]\nx=i\n'
    assert parse(text, "f").lines == (
        Line("DEFAULT", "a", "b c", "f:4"),
        Line("DEFAULT", "d", "e = f\ng", "f:5"),
        Line("DEFAULT", "h", "", "f:9"),
        Line("mysql", "x", "i", "f:11"),
    )


@pytest.mark.parametrize(
    ("name", "text", "role"),
    [
        ("trove-guestagent.conf", "", Role.GUEST),
        ("trove-taskmanager.conf", "", Role.CONTROL),
        ("trove.conf", GOOD, Role.CONTROL),
        ("mine.conf", GOOD, Role.GUEST),
        ("mine.conf", "[database]\n[mysql]\n", Role.CONTROL),
    ],
)
def test_who_reads_a_file(name: str, text: str, role: Role, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    assert [s.role for s in read(tmp_path / name)] == [role]


def test_openstack_ansible(tmp_path: Path) -> None:
    path = tmp_path / "user_variables.yml"
    path.write_text(
        "other: 1\n"
        "trove_config_overrides:\n"
        "  DEFAULT:\n"
        "    docker_insecure_registries: ['http://a:5', b]\n"
        "trove_guestagent_config_overrides:\n"
        "  postgres:\n"
        "    docker_image: a/b\n"
    )
    assert [f.where for f in check(read(path))] == [f"{path}:4", f"{path}:6"]
    path.write_text("other: 1\n")
    with pytest.raises(ConfigError, match="nothing of Trove"):
        read(path)


@pytest.mark.parametrize("data", [b"\xff\xfe", None])
def test_files_that_cannot_be_read(data: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "trove.conf"
    if data:
        path.write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        read(path)
    assert caught.value.where == str(path)


def online(
    guest: str, control: str, speech: Speech, *, login: bool = False
) -> list[tuple[str, str]]:
    both = configured(sources(guest, control), NEWEST)
    wrong = check_online(*both, probe=lambda _: (speech, "why"), wants_login=lambda *_: login)
    return [(f.where, f.severity.value) for f in wrong]


ISOLATED = "[network]\nnetwork_isolation = true\n"


def test_registries_without_tls() -> None:
    listed = f"[DEFAULT]\ndocker_insecure_registries = {HOST}\n"
    around = "[DEFAULT]\ndocker_insecure_registries = 10.0.0.0/24\n"
    other = "[DEFAULT]\ndocker_insecure_registries = 10.0.1.0/24,10.0.0.5\n"
    assert online(GOOD, ISOLATED, Speech.PLAIN) == [(f"{FILE}:2", "mistake")]
    assert online(GOOD, listed, Speech.PLAIN) == []
    assert online(GOOD, around, Speech.PLAIN) == []
    assert online(GOOD, other, Speech.PLAIN) == [("trove.conf:2", "mistake")]
    assert online(GOOD, "", Speech.PLAIN) == [(f"{FILE}:2", "warning")]
    assert online(GOOD, ISOLATED, Speech.TLS) == []
    assert online(GOOD, ISOLATED, Speech.UNTRUSTED) == [(f"{FILE}:2", "warning")]
    assert online(GOOD, ISOLATED, Speech.SILENT, login=True) == [(f"{FILE}:2", "warning")]


def test_registries_that_want_a_login() -> None:
    assert online(GOOD, ISOLATED, Speech.TLS, login=True) == [(f"{FILE}:2", "mistake")]
    assert online(GOOD + LOGIN, ISOLATED, Speech.TLS, login=True) == []
    assert online(GOOD + LOGIN, ISOLATED, Speech.TLS) == [(f"{FILE}:5", "warning")]


def test_a_registry_that_breaks_off_is_a_warning() -> None:
    def breaks(_host: str, _speech: Speech) -> bool:
        raise TemporaryError("gone", hint="later")

    both = configured(sources(GOOD, ISOLATED), NEWEST)
    (only,) = check_online(*both, probe=lambda _: (Speech.TLS, ""), wants_login=breaks)
    assert (only.severity, only.why, mistakes([only])) == (Severity.WARNING, "gone", 0)
