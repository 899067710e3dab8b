"""Mirror lists: what they hold, how they are found, and every mistake with its line."""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path

import pytest
import yaml

from imagebuild.config.mirrorlist import MIRROR_LIST, Datastore, Role, Tls, file_schema
from imagebuild.config.words import Series
from imagebuild.data import profiles_dir
from imagebuild.errors import ConfigError
from imagebuild.mirror.items import expand
from imagebuild.mirror.loading import LoadedList, list_lists, load_list, registry_settings
from imagebuild.mirror.wants import Version, names_of_list, needs_of
from imagebuild.registry.reference import Reference

HEAD = "target: {registry: reg.example:5000, prefix: trove}\n"
DIGEST = "sha256:" + "0f" * 32


@pytest.fixture(autouse=True)
def _own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the lists of whoever runs the tests out of them."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))
    return path


def load(tmp_path: Path, text: str, target: str | None = None) -> LoadedList:
    return load_list(str(write(tmp_path / "list.yaml", text)), target=target)


def fail(tmp_path: Path, text: str, target: str | None = None) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, target)
    return caught.value


def no_tags(_reference: Reference) -> list[str]:
    raise AssertionError("nobody is to be asked")


# --- the list that comes with the tool ------------------------------------------------


def test_shipped_list_has_what_each_series_supports() -> None:
    loaded = load_list("trove", target="reg.example")
    found: dict[tuple[Datastore | None, Role], set[str]] = {}
    for image in loaded.value.images:
        found.setdefault((image.datastore, image.role), set()).update(image.tags.names)
        assert image.source.startswith("quay.io/openstack.trove/")
    # doc/source/admin/datastore.rst; what nobody publishes is told of in the list's comments.
    assert found == {
        (Datastore.MYSQL, Role.DATABASE): {"5.7", "8.0", "8.4"},
        (Datastore.MYSQL, Role.BACKUP): {"5.7", "8.0", "8.4"},
        (Datastore.MARIADB, Role.DATABASE): {"10.4", "11.4", "11.8"},
        (Datastore.MARIADB, Role.BACKUP): {"10.4", "11.4"},
        (Datastore.POSTGRESQL, Role.DATABASE): {"12", "17", "18"},
        (Datastore.POSTGRESQL, Role.BACKUP): {"12", "17", "18"},
    }
    text = loaded.path.read_text()
    assert all(str(series) in text for series in Series)


def test_shipped_list_needs_no_question_and_names_as_devstack_does() -> None:
    loaded = load_list("trove", target="http://10.0.0.5:5000")
    items = expand(loaded.value, no_tags, loaded.places)
    targets = {str(item.target) for item in items}
    assert "10.0.0.5:5000/trove-datastores/postgresql:17" in targets
    assert "10.0.0.5:5000/trove-datastores/db-backup-mysql:8.4" in targets
    assert len(targets) == len(items) == 17
    assert {item.backup for item in items if item.target.tag == "8.4"} == {"8.4-previous"}
    (registry,) = registry_settings(loaded.value, {})
    assert (registry.host, registry.plain_http) == ("10.0.0.5:5000", True)


@pytest.mark.parametrize("series", [str(s) for s in Series])
def test_guests_of_every_version_of_the_shipped_list_find_what_they_want(series: str) -> None:
    loaded = load_list("trove", target="reg.example")
    items = expand(loaded.value, no_tags)
    there = {str(item.target) for item in items}
    versions = [
        Version(item.datastore, item.datastore, item.target.tag, item.target.tag)
        for item in items
        if item.role is Role.DATABASE
    ]
    assert len(versions) == 9
    unmet = [
        f"{need.version.label}, {need.purpose.value}"
        for need in needs_of(versions, names_of_list(loaded.value), series)
        if not there & set(need.chain.images)
    ]
    # Nobody publishes it; the list says how to make it.
    assert unmet == ["mariadb 11.8, backup"]


def test_shipped_list_says_that_a_target_is_missing() -> None:
    with pytest.raises(ConfigError) as caught:
        load_list("trove")
    assert "where copies go" in caught.value.what
    for word in ("--target", "IMAGEBUILD_MIRROR_TARGET", "extends: trove"):
        assert word in caught.value.hint


def test_lock_of_a_shipped_list_is_not_beside_it(tmp_path: Path) -> None:
    shipped = load_list("trove", target="reg.example")
    assert shipped.lock == tmp_path / "state/imagebuild/mirror/trove.lock.yaml"
    own = load(tmp_path, "extends: trove\ntarget: {registry: reg.example}\n")
    assert own.lock == tmp_path / "list.lock.yaml"


def test_shipped_list_is_named_and_no_profile() -> None:
    from imagebuild.config.load import list_profiles

    (named,) = list_lists()
    assert (named.name, named.images, named.error) == ("trove", 6, "")
    assert named.path == profiles_dir() / "mirror/trove.yaml"
    assert "trove" not in {p.name for p in list_profiles()}


def test_every_key_is_described() -> None:
    schema = file_schema()
    json.dumps(schema)
    assert {"extends", "extra_images", "images", "target"} <= set(schema["properties"])
    for part in (schema, *schema["$defs"].values()):
        assert "required" not in part
        for name, key in part.get("properties", {}).items():
            assert key.get("description"), name


def test_what_the_readme_shows_is_a_list(tmp_path: Path) -> None:
    text = (profiles_dir() / "mirror/README.md").read_text()
    (block,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    loaded = load(tmp_path, block)
    assert len(loaded.value.images) == 7
    rules = re.findall(r"^    (tags: .*?)(?: +#.*)?$", text, re.MULTILINE)
    assert len(rules) == 5
    for rule in rules:
        load(tmp_path, f"{HEAD}images:\n  - source: x\n    {rule}\n")


def test_schema_takes_what_the_loader_takes_and_refuses_what_it_refuses(tmp_path: Path) -> None:
    import jsonschema

    schema = file_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    shipped = (profiles_dir() / "mirror/trove.yaml").read_text()
    short = (
        HEAD + "images: [{source: a, tags: 8.4, aliases: {8.4: [8.4.1]}}, {source: b, tags: [17]}]"
    )
    load(tmp_path, short)
    for text in (shipped, short, "extends: trove"):
        assert list(validator.iter_errors(yaml.safe_load(text))) == []
    for text in ("images: [{source: 5}]", "image: []", "images: [{source: a, role: x}]"):
        fail(tmp_path, text, "x.y")
        assert list(validator.iter_errors(yaml.safe_load(text)))


# --- files ----------------------------------------------------------------------------


def test_what_a_whole_list_says(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        """\
        target: {registry: "reg.example:5000", prefix: a/b}
        defaults:
          platforms: linux/amd64
          backup: "{tag}-previous"
        registries:
          - host: reg.example:5000
            ca: ca/reg.pem
            client_certificate: ~root/me.pem
            username: robot$trove
            password_file: pw
            requests_per_second: 0.5
            concurrency: 3
          - {host: index.docker.io, tls: insecure}
        images:
          - source: mysql
            tags: [8.4, 17]
            aliases: {8.4: [8.4.6, 8.4.7], 17: 17.1}
            datastore: mysql
          - source: quay.io/o/db-backup
            target: deep/name
            tags: 5
            role: backup
            referrers: false
            platforms: [linux/arm64/v8]
            backup: ""
        """,
    )
    first, second, third = expand(loaded.value, no_tags)
    assert str(first.source) == "docker.io/library/mysql:8.4"
    assert str(first.target) == "reg.example:5000/a/b/mysql:8.4"
    assert first.aliases == ("8.4.6", "8.4.7")
    assert second.aliases == ("17.1",)
    assert first.platforms == ("linux/amd64",)
    assert first.referrers
    assert first.backup == "8.4-previous"
    assert (first.datastore, first.role) == ("mysql", Role.DATABASE)
    assert str(third.target) == "reg.example:5000/a/b/deep/name:5"
    assert third.platforms == ("linux/arm64/v8",)
    assert (third.referrers, third.backup, third.datastore) == (False, "", "")
    registry = loaded.value.registries[0]
    assert registry.ca == tmp_path / "ca/reg.pem"
    assert registry.password_file == tmp_path / "pw"
    assert registry.client_certificate == Path("/root/me.pem")
    assert registry.requests_per_second == 0.5
    assert (registry.tls, loaded.value.registries[1].tls) == (Tls.VERIFY, Tls.INSECURE)
    assert loaded.value.registries[1].host == "docker.io"
    assert loaded.places == (f"{tmp_path}/list.yaml:15", f"{tmp_path}/list.yaml:19")


def test_extends_and_extra_images(tmp_path: Path) -> None:
    write(tmp_path / "base.yaml", HEAD + "images: [{source: a, tags: [1]}, {source: b, tags: 1}]\n")
    loaded = load(
        tmp_path,
        """\
        extends: base.yaml
        target: {prefix: other}
        extra_images:
          - source: c
            tags: [1]
        """,
    )
    assert [i.source[-1] for i in loaded.value.images] == ["a", "b", "c"]
    assert loaded.value.target.registry == "reg.example:5000"
    assert loaded.value.target.prefix == "other"
    assert loaded.places[2] == f"{tmp_path}/list.yaml:4"
    replaced = load(tmp_path, "extends: base.yaml\nimages: [{source: c, tags: 1}]\n")
    assert [i.source[-1] for i in replaced.value.images] == ["c"]
    both = load(
        tmp_path,
        "extends: base.yaml\nimages: [{source: c, tags: 1}]\n"
        "extra_images: [{source: d, tags: 1}]\n",
    )
    assert [i.source[-1] for i in both.value.images] == ["c", "d"]


def test_mistake_in_an_extra_image_has_its_own_line(tmp_path: Path) -> None:
    error = fail(
        tmp_path,
        """\
        extends: trove
        target: {registry: reg.example}
        extra_images:
          - source: mysql
            tags: [1]
            tgas: 2
        """,
    )
    assert error.where == f"{tmp_path}/list.yaml:6"
    assert error.what.startswith("images[6].tgas: unknown key")
    assert "did you mean 'images.tags'?" in error.hint
    assert "list" in fail(tmp_path, "extends: trove\nextra_images: 5\n").detail


def test_own_directory_comes_first_and_may_shadow(tmp_path: Path) -> None:
    own = tmp_path / "config/imagebuild/mirror"
    write(own / "trove.yaml", "extends: trove\ntarget: {registry: own.example}\n")
    write(own / "trove.lock.yaml", "version: 1\n")
    loaded = load_list("trove")
    assert loaded.value.target.registry == "own.example"
    assert len(loaded.value.images) == 6
    assert [n.name for n in list_lists()] == ["trove"]


def test_a_broken_list_is_listed_as_such(tmp_path: Path) -> None:
    write(tmp_path / "config/imagebuild/mirror/bad.yaml", "images: 5\n")
    bad, trove = list_lists()
    assert (bad.name, trove.name) == ("bad", "trove")
    assert "images" in bad.error
    assert not trove.error


def test_unknown_name_and_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_list("trvoe")
    assert caught.value.what == "there is no mirror list named 'trvoe'"
    assert caught.value.hint == "did you mean 'trove'?"
    with pytest.raises(ConfigError) as caught:
        load_list(str(tmp_path / "none.yaml"))
    assert "imagebuild mirror list" in caught.value.hint
    assert "holds no mirror list" in fail(tmp_path, "- 1\n").what


# --- target ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("other.example", "other.example/trove/a:1"),
        ("other.example:80/x/y", "other.example:80/x/y/a:1"),
        ("other.example/", "other.example/a:1"),
        ("https://localhost/x/", "localhost/x/a:1"),
        ("http://10.1.2.3:5000", "10.1.2.3:5000/trove/a:1"),
        ("[::1]:5000/x", "[::1]:5000/x/a:1"),
    ],
)
def test_target_of_the_caller(tmp_path: Path, text: str, name: str) -> None:
    loaded = load(tmp_path, HEAD + "images: [{source: a, tags: 1}]\n", text)
    (item,) = expand(loaded.value, no_tags)
    assert str(item.target) == name
    plain = [r.host for r in loaded.value.registries if r.tls is Tls.PLAIN_HTTP]
    assert bool(plain) == text.startswith("http:")


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("", "nowhere.invalid"),
        ("target: {prefix: trove}\n", "nowhere.invalid/trove"),
        ("target: {registry: reg.example}\n", "reg.example"),
    ],
)
def test_target_that_nobody_has_to_say(tmp_path: Path, said: str, name: str) -> None:
    path = write(tmp_path / "list.yaml", f"{said}{IMAGE}")
    assert load_list(str(path), nowhere="nowhere.invalid").value.target.name == name
    given = load_list(str(path), target="given.example/a", nowhere="nowhere.invalid")
    assert given.value.target.name == "given.example/a"


@pytest.mark.parametrize("said", ["target: x", "target: {registry: a/b}", "target: {prefx: a}"])
def test_wrong_target_is_told_where_none_has_to_be_said(tmp_path: Path, said: str) -> None:
    path = write(tmp_path / "list.yaml", f"{said}\n{IMAGE}")
    with pytest.raises(ConfigError) as caught:
        load_list(str(path), nowhere="nowhere.invalid")
    assert "target" in f"{caught.value.what}{caught.value.detail}"


def test_plain_target_keeps_what_the_list_says_of_the_registry(tmp_path: Path) -> None:
    text = HEAD + "images: [{source: a, tags: 1}]\nregistries: [{host: 'x.y', concurrency: 2}]\n"
    (registry,) = load(tmp_path, text, "http://x.y").value.registries
    assert (registry.tls, registry.concurrency) == (Tls.PLAIN_HTTP, 2)


@pytest.mark.parametrize(
    "text", ["ftp://x.y", "x y", "registry", "x.y/Upper", "x.y//z", "", "x.y/a:b"]
)
def test_target_that_is_none(tmp_path: Path, text: str) -> None:
    error = fail(tmp_path, HEAD + "images: [{source: a, tags: 1}]\n", text)
    assert "--target" in error.where + error.detail


# --- mistakes -------------------------------------------------------------------------

IMAGE = "images:\n  - source: quay.io/o/mysql\n    tags: [8.4]\n"


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("images: []\n", 0, "images: the list is empty"),
        ("", 0, "images: this key is missing"),
        ("images: [{tags: [1]}]\n", 2, "images[0].source: this key is missing"),
        ("images: [{source: a}]\n", 2, "images[0].tags: this key is missing"),
        ("images: [{source: a, tags: []}]\n", 2, "no tag is wanted"),
        ("images: [{source: a, tags: {}}]\n", 2, "no tag is wanted"),
        ("images: [{source: a, tags: {name: [1]}}]\n", 2, "did you mean 'images.tags.names'?"),
        ("images: [{source: 'a:1', tags: 1}]\n", 2, "belongs into the key tags"),
        (f"images: [{{source: 'a@{DIGEST}', tags: 1}}]\n", 2, "belongs into the key digest"),
        ("images: [{source: 'https://quay.io/a', tags: 1}]\n", 2, "without https://"),
        ("images: [{source: A/b/C, tags: 1}]\n", 2, "no name of an image"),
        ("images: [{source: a, tags: [-x]}]\n", 2, "is no tag"),
        ("images: [{source: a, tags: ['8.4', 8.4]}]\n", 2, "'8.4' is listed twice"),
        ("images: [{source: a, tags: {regex: '8.('}}]\n", 2, "no regular expression"),
        ("images: [{source: a, tags: {versions: '8 to 9'}}]\n", 2, "no range of versions"),
        ("images: [{source: a, tags: {versions: ''}}]\n", 2, "range of versions is empty"),
        ("images: [{source: a, tags: {newest: 0}}]\n", 2, "newest"),
        ("images: [{source: a, tags: 1, platforms: [amd64]}]\n", 2, "linux/amd64?"),
        ("images: [{source: a, tags: 1, digest: sha256:00}]\n", 2, "is no digest"),
        (f"images: [{{source: a, tags: [1, 2], digest: '{DIGEST}'}}]\n", 2, "pins one tag"),
        (
            f"images: [{{source: a, tags: {{names: [1], newest: 1}}, digest: '{DIGEST}'}}]\n",
            2, "pins one tag",
        ),
        ("images: [{source: a, tags: 1, backup: previous}]\n", 2, "{tag} must stand in it once"),
        ("images: [{source: a, tags: 1, backup: '{tag}'}]\n", 2, "{tag} must stand in it once"),
        ("images: [{source: a, tags: 1, backup: '{tag}/x'}]\n", 2, "does not make tags"),
        ("images: [{source: a, tags: 1, target: /x}]\n", 2, "without a slash"),
        ("images: [{source: a, tags: 1, target: 'x:1'}]\n", 2, "is no repository"),
        ("images: [{source: a, tags: 1, target: X}]\n", 2, "is no repository"),
        ("images: [{source: a, tags: 8.4, aliases: {8.5: 8.5.1}}]\n", 2, "none of the tags: 8.4"),
        ("images: [{source: a, tags: [1, 2], aliases: {1: 2}}]\n", 2, "'2' is listed twice"),
        ("images: [{source: a, tags: 1, datastore: postgres}]\n", 2, "called 'postgresql'"),
        ("images: [{source: a, tags: 1, datastore: mysl}]\n", 2, "did you mean 'mysql'?"),
        ("images: [{source: a, tags: 1, role: bakcup}]\n", 2, "did you mean 'backup'?"),
        ("images: [{source: a, tags: 1, referrers: []}]\n", 2, "true or false is expected"),
        ("images: {source: a}\n", 2, "a list is expected"),
        (IMAGE + "registries: [{host: 'https://x.y'}]\n", 5, "its key tls"),
        (IMAGE + "registries: [{host: registry}]\n", 5, "a host has a dot or a port"),
        (IMAGE + "registries: [{host: x.y/z}]\n", 5, "without a path"),
        (IMAGE + "registries: [{host: x.y}, {host: x.y}]\n", 0, "'x.y' is listed twice"),
        (IMAGE + "registries: [{host: x.y, tls: plain_http}]\n", 5, "did you mean 'plain-http'?"),
        (IMAGE + "registries: [{host: x.y, tls: insecure, ca: x}]\n", 5, "ca is of no use"),
        (IMAGE + "registries: [{host: x.y, username: u}]\n", 5, "username needs"),
        (IMAGE + "registries: [{host: x.y, password_env: P}]\n", 5, "password_env needs"),
        (IMAGE + "registries: [{host: x.y, client_key: k}]\n", 5, "client_key needs"),
        (
            IMAGE + "registries: [{host: x.y, username: u, password_env: P, password_file: f}]\n",
            5, "two places for one password",
        ),
        (IMAGE + "registries: [{host: x.y, concurrency: 0}]\n", 5, "concurrency"),
        (IMAGE + "registries: [{host: x.y, requests_per_second: .inf}]\n", 5, "per_second"),
        (IMAGE + "registries: [{host: x.y, requests_per_second: -1}]\n", 5, "per_second"),
        (IMAGE + "target: {}\n", 5, "is given twice"),
        (IMAGE + "default: {}\n", 5, "did you mean 'defaults'?"),
    ],
)  # fmt: skip
def test_mistake_names_line_key_and_what_is_allowed(
    tmp_path: Path, text: str, line: int, words: str
) -> None:
    error = fail(tmp_path, HEAD + text)
    told = f"{error.what} {error.hint} {error.detail}"
    assert words in told
    assert error.where == f"{tmp_path}/list.yaml" + (f":{line}" if line else "")


def test_a_password_in_the_place_of_a_variables_name_is_not_repeated(tmp_path: Path) -> None:
    text = IMAGE + "registries: [{host: x.y, username: u, password_env: 'S3cret!word'}]\n"
    error = fail(tmp_path, HEAD + text)
    assert "no name of an environment variable" in error.what
    assert "S3cret" not in f"{error} {error.hint}"


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    error = fail(tmp_path, "images: [{source: 'a:1', tags: ['-']}]\n")
    assert error.what == "the mirror list list has 3 mistakes"
    assert error.detail.count("\n") == 2
    assert MIRROR_LIST.shows in error.hint


# --- passwords ------------------------------------------------------------------------


def settings(tmp_path: Path, keys: str, **environ: str) -> str:
    text = HEAD + IMAGE + f"registries: [{{host: x.y, username: u, {keys}}}]\n"
    (found,) = registry_settings(load(tmp_path, text).value, environ)
    assert "hunter2" not in repr(found)
    assert found.username == "u"
    return found.password


def test_password_from_a_file_or_the_environment(tmp_path: Path) -> None:
    write(tmp_path / "pw", "hunter2 \n")
    assert settings(tmp_path, "password_file: pw") == "hunter2 "
    assert settings(tmp_path, "password_env: PW", PW="hunter2") == "hunter2"


@pytest.mark.parametrize("text", ["", "\n", "  \n", "a\nhunter2\n", "hunter2\x1b[0m", "x" * 5000])
def test_password_that_is_none(tmp_path: Path, text: str) -> None:
    write(tmp_path / "pw", text)
    for keys, where in (("password_file: pw", str(tmp_path / "pw")), ("password_env: PW", "PW")):
        with pytest.raises(ConfigError) as caught:
            settings(tmp_path, keys, PW=text)
        assert where in caught.value.where
        assert "hunter2" not in f"{caught.value} {caught.value.hint}"


def test_password_that_is_nowhere(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        settings(tmp_path, "password_env: PW")
    assert caught.value.what == "the environment variable PW is not set"
    with pytest.raises(ConfigError) as caught:
        settings(tmp_path, "password_file: gone")
    assert caught.value.where == str(tmp_path / "gone")


def test_settings_carry_all_that_the_list_says(tmp_path: Path) -> None:
    text = """\
    registries:
      - {host: a.b, tls: insecure, client_certificate: c.pem, client_key: k.pem, concurrency: 2}
      - {host: c.d, ca: ca.pem, requests_per_second: 2}
    """
    first, second = registry_settings(
        load(tmp_path, HEAD + IMAGE + textwrap.dedent(text)).value, {}
    )
    assert first.insecure
    assert first.client_certificate == tmp_path / "c.pem"
    assert first.client_key == tmp_path / "k.pem"
    assert first.concurrency == 2
    assert second.ca == tmp_path / "ca.pem"
    assert second.requests_per_second == 2
    assert not second.insecure
    assert not second.plain_http
