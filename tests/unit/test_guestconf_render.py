"""What a mirror means for Trove's configuration; the files, and how they are written."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path, PurePosixPath

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from imagebuild.config.mirrorlist import (
    Datastore,
    ListedImage,
    ListedRegistry,
    MirrorList,
    Role,
    TagRule,
    Target,
    Tls,
)
from imagebuild.errors import ConfigError, PreflightError, UsageError
from imagebuild.guestconf.checks import check
from imagebuild.guestconf.findings import mistakes
from imagebuild.guestconf.inifile import parse
from imagebuild.guestconf.layouts import MARK, Layout, RenderedFile, render
from imagebuild.guestconf.mirrored import of_list
from imagebuild.guestconf.optiontable import option_table
from imagebuild.guestconf.reading import Role as ReadBy
from imagebuild.guestconf.reading import Source
from imagebuild.guestconf.settings import (
    Login,
    Secret,
    Settings,
    fragments,
    transport_secret,
)
from imagebuild.guestconf.writing import Change, plan_writing, write
from imagebuild.mirror.naming import DATASTORES, image_problem, suggestion
from imagebuild.mirror.wants import ImageNames, names_of_list

HOST = "10.0.0.5:4000"
TAGS = TagRule(names=("8.4",))
MYSQL = ImageNames(f"{HOST}/trove/mysql", f"{HOST}/trove/db-backup-mysql")


def text_of(settings: Settings, layout: Layout = Layout.PLAIN, *, secrets: bool = False) -> str:
    files = render(fragments(settings), layout, with_secrets=secrets)
    return "".join(f.text for f in files)


def test_the_smallest_mirror() -> None:
    made = fragments(Settings({"mysql": MYSQL}, insecure_registries=(HOST,)))
    control, guest = render(made, Layout.PLAIN)
    assert control == RenderedFile(
        PurePosixPath("trove.conf"),
        f"{MARK}: for the control plane\n\n[DEFAULT]\ndocker_insecure_registries = {HOST}\n",
    )
    assert guest == RenderedFile(
        PurePosixPath("trove-guestagent.conf"),
        f"{MARK}: Trove puts it into every new guest\n\n[mysql]\n"
        f"docker_image = {HOST}/trove/mysql\n"
        f"backup_docker_image = {HOST}/trove/db-backup-mysql\n",
    )
    assert made.notes == ()


def test_postgres_is_postgresql() -> None:
    value = MirrorList(
        target=Target(registry=HOST, prefix="trove"),
        registries=(
            ListedRegistry(
                host=HOST, tls=Tls.PLAIN_HTTP, username="pusher", password_env="PASSWORD",  # noqa: S106
            ),
        ),
        images=(
            ListedImage(source="postgres", tags=TAGS, datastore=Datastore.POSTGRESQL),
            ListedImage(
                source="quay.io/x/db-backup",
                target="backup/pg",
                tags=TAGS,
                datastore=Datastore.POSTGRESQL,
                role=Role.BACKUP,
            ),
            ListedImage(source="docker.io/library/busybox", tags=TAGS),
        ),
    )  # fmt: skip
    found = of_list(value)
    assert found.images == {
        "postgresql": ImageNames(f"{HOST}/trove/postgres", f"{HOST}/trove/backup/pg")
    }
    assert found.insecure_registries == (HOST,)
    assert len(found.notes) == 1
    assert "--registry-username" in found.notes[0]
    text = text_of(Settings(found.images))
    assert "[postgresql]\n" in text
    assert "[postgres]" not in text


def test_a_list_with_two_images_for_one_use() -> None:
    images = tuple(
        ListedImage(source=f"quay.io/{n}", tags=TAGS, datastore=Datastore.MYSQL) for n in ("a", "b")
    )
    value = MirrorList(target=Target(registry=HOST), images=images)
    with pytest.raises(UsageError, match="two database images for mysql"):
        names_of_list(value)


def test_what_guests_must_be_told_besides() -> None:
    value = MirrorList(
        target=Target(registry="localhost:5000"),
        registries=(ListedRegistry(host="localhost:5000", ca=Path("/etc/ca.pem")),),
        images=(ListedImage(source="mysql", tags=TAGS, datastore=Datastore.MYSQL),),
    )
    ca, loopback = of_list(value).notes
    assert "/etc/docker/certs.d/localhost:5000/ca.crt" in ca
    assert "no guest reaches" in loopback


def test_owner_only_where_it_is_not_ubuntu() -> None:
    assert "injected_config_owner" not in text_of(Settings({"mysql": MYSQL}))
    text = text_of(Settings({"mysql": MYSQL}, guest_username="debian"))
    assert "injected_config_owner = debian\n" in text
    assert "injected_config_group" not in text


def test_a_login_only_where_one_is_asked_for() -> None:
    assert "container_registry" not in text_of(Settings({"mysql": MYSQL}))
    login = Login("puller", Secret("trove_registry_password", value="s3cret"))
    settings = Settings({"mysql": MYSQL}, login=login)
    hidden = text_of(settings)
    assert f"container_registry = {HOST}\n" in hidden
    assert "container_registry_password = @trove_registry_password@\n" in hidden
    for layout in Layout:
        assert "s3cret" not in text_of(settings, layout)
        assert "s3cret" in text_of(settings, layout, secrets=True)
    for layout in (Layout.KOLLA_ANSIBLE, Layout.OPENSTACK_ANSIBLE):
        assert "{{ trove_registry_password }}" in text_of(settings, layout)
    assert "s3cret" not in repr(settings)
    (note,) = fragments(settings).notes
    assert "network_isolation" in note
    assert fragments(Settings({"mysql": MYSQL}, login=login, network_isolation=False)).notes == ()


def test_a_login_for_images_of_two_registries() -> None:
    images = {"mysql": MYSQL, "mariadb": ImageNames("mariadb", f"{HOST}/b")}
    with pytest.raises(ConfigError, match="one registry") as caught:
        fragments(Settings(images, login=Login("a", Secret("b"))))
    assert "docker.io" in caught.value.detail


def test_a_secret_that_nobody_knows_is_not_written() -> None:
    settings = Settings({"mysql": MYSQL}, login=Login("puller", Secret("trove_registry_password")))
    with pytest.raises(UsageError, match="trove_registry_password"):
        text_of(settings, secrets=True)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rabbit://trove:pw@10.0.0.1:5672/v", "rabbit://trove:@p@@10.0.0.1:5672/v"),
        ("rabbit://t:pw@a:1,t:pw@b:2/v?ssl=1", "rabbit://t:@p@@a:1,t:@p@@b:2/v?ssl=1"),
        ("rabbit://a:1/", "rabbit://a:1/"),
        ("rabbit://t:pw@a:1,t:wp@b:2/v", "@p@"),
        # What could be read in two ways is a secret as a whole.
        ("rabbit://t:1,pw@b/v", "@p@"),
        ("rabbit://pw@b/v", "@p@"),
        ("rabbit://b/v?ssl_key_password=pw", "@p@"),
        ("rabbit://t:p@w@b/v", "rabbit://t:@p@@b/v"),
    ],
)
def test_a_transport_url(url: str, shown: str) -> None:
    secret = transport_secret(url)
    placeholder = f"@{secret.name}@"
    assert secret.hidden("@%s@") == shown.replace("@p@", placeholder)
    assert secret.reveal() == url.replace("p@w", "p%40w")
    assert "pw" not in repr(secret)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "pw",
        "rabbit:pw",
        "rabbit://",
        "rabbit://t:pw@",
        "rabbit://t:p/pw@a/v",
        "rabbit://t:pw,x@a/v",
    ],
)
def test_what_is_no_transport_url(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        transport_secret(url)
    assert "pw" not in str(caught.value) + caught.value.hint


@pytest.mark.parametrize(
    ("image", "word", "better"),
    [
        (f"{HOST}/trove/mysql:8.4", "tag", f"{HOST}/trove/mysql"),
        (f"{HOST}/mysql@sha256:{'0' * 64}", "digest", f"{HOST}/mysql"),
        (f"{HOST}/mysql:8@sha256:{'0' * 64}", "digest", f"{HOST}/mysql"),
        (HOST, "repository is missing", ""),
        (f"{HOST}/", "repository is missing", ""),
        (f"http://{HOST}/mysql", "scheme", f"{HOST}/mysql"),
        ("", "empty", ""),
        ("my sql", "blank", ""),
        (f"{HOST}/MySQL", "no repository", ""),
    ],
)
def test_names_that_cannot_be_configured(image: str, word: str, better: str) -> None:
    assert word in image_problem(image)
    assert suggestion(image) == better
    if image:
        with pytest.raises(ConfigError) as caught:
            fragments(Settings({"mysql": ImageNames(image)}))
        assert caught.value.where == "[mysql] docker_image"


@pytest.mark.parametrize("image", ["mysql", f"{HOST}/trove/mysql", "quay.io/openstack.trove/mysql"])
def test_names_that_can(image: str) -> None:
    assert image_problem(image) == ""


@pytest.mark.parametrize(
    "change",
    [
        {"insecure_registries": (f"http://{HOST}",)},
        {"insecure_registries": (f"{HOST}/trove",)},
        {"docker_bridge": "172.24.0.1"},
        {"docker_bridge": "172.24.0.0/24"},
        {"docker_bridge": "172.24.0/24"},
        {"management_networks": ("a", "b")},
        {"guest_username": "a b"},
        {"keypair": "a\nb"},
        {"series": "2019.1"},
    ],
)
def test_what_trove_or_docker_would_not_take(change: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        fragments(Settings({"mysql": MYSQL}, **change))  # type: ignore[arg-type]


def test_an_option_that_a_series_does_not_have() -> None:
    table = option_table("2025.1")
    with pytest.raises(ConfigError, match="has no option ssl_mode"):
        table.require("DEFAULT", "ssl_mode")
    option_table("2026.2").require("DEFAULT", "ssl_mode")


plain = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF), min_size=1, max_size=20)


@given(plain)
def test_a_password_comes_out_as_it_went_in(password: str) -> None:
    """Whatever is in it, of Trove's, oslo.config's, Jinja's or YAML's signs."""
    login = Login("puller", Secret("trove_registry_password", value=password))
    made = fragments(Settings({"mysql": MYSQL}, login=login))
    try:
        (guest,) = render(made, Layout.PLAIN, with_secrets=True)
    except ConfigError:
        quoted = password[0] == password[-1] and password[0] in "\"'"
        assert quoted or password != password.strip()
        return
    (line,) = (x for x in parse(guest.text, "f").lines if x.name.endswith("password"))
    assert line.value.replace("$$", "$") == password
    (variables,) = render(made, Layout.OPENSTACK_ANSIBLE, with_secrets=True)
    document = yaml.safe_load(variables.text)["trove_guestagent_config_overrides"]
    told = document["guest_agent"]["container_registry_password"]
    told = told.removeprefix("{% raw %}").removesuffix("{% endraw %}")
    assert told.replace("$$", "$") == password


@given(st.text(st.sampled_from("abc:/?#@,[]%&=1 "), min_size=6, max_size=14))
def test_no_password_is_shown_however_it_is_written(password: str) -> None:
    url = f"rabbit://trove:{password}@10.0.0.1:5672/v"
    try:
        shown = transport_secret(url).hidden("@%s@")
    except UsageError as exc:
        shown = f"{exc} {exc.hint} {exc.where}"
    assert password not in shown
    # Nor a part of it, where it falls into parts.
    assert not [part for part in re.split(r"[@,/?#]", password) if len(part) > 5 and part in shown]


def test_what_is_rendered_has_no_mistake(tmp_path: Path) -> None:
    login = Login("puller", Secret("trove_registry_password", value="s3cret"))
    settings = Settings(
        {m: ImageNames(f"{HOST}/{m}", f"{HOST}/b-{m}") for m in DATASTORES},
        insecure_registries=(HOST,), login=login, quorum_queues=True, network_isolation=False,
        docker_bridge="172.24.0.1/24",
    )  # fmt: skip
    control, guest = render(fragments(settings), Layout.PLAIN, with_secrets=True)
    sources = [
        Source(tmp_path / "trove.conf", ReadBy.CONTROL, parse(control.text, "c")),
        Source(tmp_path / "trove-guestagent.conf", ReadBy.GUEST, parse(guest.text, "g")),
    ]
    assert check(sources) == ()
    # Without the secret, what is missing is found.
    _, guest = render(fragments(settings), Layout.PLAIN)
    sources[1] = Source(sources[1].path, ReadBy.GUEST, parse(guest.text, "g"))
    assert mistakes(check(sources)) == 1


FILE = RenderedFile(PurePosixPath("trove/a.conf"), f"{MARK}\n[DEFAULT]\n")


def test_files_are_written_and_left_as_they_are(tmp_path: Path) -> None:
    assert [w.change for w in plan_writing([FILE], tmp_path)] == [Change.NEW]
    assert not (tmp_path / "trove").exists()
    assert [w.change for w in write([FILE], tmp_path)] == [Change.NEW]
    path = tmp_path / "trove/a.conf"
    assert path.read_text() == FILE.text
    before = path.stat()
    assert [w.change for w in write([FILE], tmp_path)] == [Change.UNCHANGED]
    assert path.stat().st_ino == before.st_ino
    other = RenderedFile(FILE.path, FILE.text + "a = b\n", secret=True)
    assert [w.change for w in write([other], tmp_path)] == [Change.REPLACED]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in (tmp_path / "trove").iterdir()] == ["a.conf"]


def test_a_secret_that_others_could_read_is_written_again(tmp_path: Path) -> None:
    secret = RenderedFile(FILE.path, FILE.text, secret=True)
    write([secret], tmp_path)
    (tmp_path / FILE.path).chmod(0o644)
    assert [w.change for w in write([secret], tmp_path)] == [Change.REPLACED]
    assert stat.S_IMODE((tmp_path / FILE.path).stat().st_mode) == 0o600


def test_somebody_elses_file_stays(tmp_path: Path) -> None:
    first = RenderedFile(PurePosixPath("b.conf"), f"{MARK}\n")
    (tmp_path / "trove").mkdir()
    (tmp_path / "trove/a.conf").write_text("[DEFAULT]\ndebug = true\n")
    with pytest.raises(ConfigError, match="not ours") as caught:
        write([first, FILE], tmp_path)
    assert caught.value.where == str(tmp_path / "trove/a.conf")
    # Nothing of the run was written.
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a.conf", "trove"]


def test_a_place_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "trove").write_text("")
    with pytest.raises(PreflightError):
        write([RenderedFile(PurePosixPath("b.conf"), MARK), FILE], tmp_path)
    assert os.listdir(tmp_path) == ["trove"]  # noqa: PTH208 - the names alone
