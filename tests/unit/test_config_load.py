"""Loading profiles: inheritance, overrides, origins, and every kind of mistake."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
import yaml

from imagebuild.config.load import (
    Override,
    check_file,
    find_profile,
    list_profiles,
    load_profile,
    parse_set,
)
from imagebuild.config.profile import Profile
from imagebuild.config.profilekind import PROFILE, file_schema
from imagebuild.config.words import Arch
from imagebuild.data import elements_dir, locks_dir, profiles_dir
from imagebuild.errors import ConfigError, ExitCode

WHOLE = """\
name: mine
os: debian
release: bookworm
python: 3.11
mirror:
  url: http://deb.example/debian
  keyring: keys/archive.gpg
  suites: [bookworm]
  components: [main]
kernel: linux-image-cloud-{arch}
docker:
  source: docker.io
"""


@pytest.fixture(autouse=True)
def _own_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the profiles of whoever runs the tests out of them."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def write(directory: Path, name: str, text: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / name
    path.write_text(textwrap.dedent(text))
    return path


def load(path: Path, *sets: str) -> Profile:
    return load_profile(str(path), [parse_set(text) for text in sets]).profile


def fail(path: Path | str, *sets: str, search: tuple[Path, ...] = ()) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_profile(str(path), [parse_set(text) for text in sets], search)
    assert caught.value.exit_code == ExitCode.CONFIG
    return caught.value


# --- what comes with the tool -------------------------------------------------------


def test_data_directories_are_there() -> None:
    assert (profiles_dir() / "ubuntu-jammy.yaml").is_file()
    assert elements_dir().name == "elements"
    assert locks_dir().parent.name == "imagebuild"


SHIPPED = {
    "debian-bookworm": ("debian", "bookworm", "3.11", "linux-image-cloud-amd64", "docker.io"),
    "ubuntu-jammy": ("ubuntu", "jammy", "3.10", "linux-image-virtual", "docker-ce"),
    "ubuntu-noble": ("ubuntu", "noble", "3.12", "linux-image-virtual", "docker-ce"),
}


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_profile(name: str) -> None:
    profile = load_profile(name).profile
    facts = (
        str(profile.os),
        profile.release,
        profile.python,
        profile.kernel_package,
        str(profile.docker.source),
    )
    assert facts == SHIPPED[name]
    assert profile.name == name
    assert profile.mirror.suites[0] == profile.release
    assert [str(d) for d in profile.cloud_init.datasources] == ["ConfigDrive", "OpenStack"]
    assert profile.guest.username == "ubuntu"
    assert {"cloud-init", "sudo", "xfsprogs", "openssh-server"} <= set(profile.packages)
    assert not {"gcc", "make", "git"} & set(profile.packages)


def test_list_names_what_can_be_built() -> None:
    summaries = list_profiles()
    assert [s.name for s in summaries] == sorted(SHIPPED)
    assert not any(s.error for s in summaries)


def test_every_shipped_file_is_valid() -> None:
    files = sorted(profiles_dir().glob("*.yaml"))
    assert {"_common.yaml", "_debian.yaml", "_ubuntu.yaml"} <= {f.name for f in files}
    for file in files:
        check_file(file)


def test_docker_repository_of_jammy() -> None:
    docker = load_profile("ubuntu-jammy").profile.docker
    assert docker.packages == ("docker-ce", "docker-ce-cli", "containerd.io")
    assert docker.repository is not None
    assert docker.repository.suite == "jammy"
    assert docker.repository.fingerprint == "9DC858229FC7DD38854AE2D88D81803C0EBFCD88"


def test_debian_security_archive_shares_keyring_and_components() -> None:
    mirror = load_profile("debian-bookworm").profile.mirror
    assert mirror.security is not None
    assert mirror.security.suites == ("bookworm-security",)
    assert mirror.security.keyring is None
    assert mirror.security_keyring == Path("/usr/share/keyrings/debian-archive-keyring.gpg")
    assert mirror.security_components == ("main",)


# --- inheritance ---------------------------------------------------------------------


def test_mappings_merge_lists_and_scalars_replace(tmp_path: Path) -> None:
    write(tmp_path, "_parent.yaml", WHOLE + "packages: [vim, less]\ndisk: {size: 9G, label: a}\n")
    child = write(tmp_path, "child.yaml", "extends: _parent\npackages: [nano]\ndisk: {size: 6}\n")
    profile = load(child)
    assert profile.packages == ("nano",)
    assert (profile.disk.size, profile.disk.label) == ("6G", "a")
    assert profile.disk.size_bytes == 6 * 1024**3
    assert profile.mirror.url == "http://deb.example/debian"


def test_null_takes_back_what_the_parent_says(tmp_path: Path) -> None:
    child = write(tmp_path, "c.yaml", "extends: debian-bookworm\nmirror: {security: null}\n")
    assert load(child).mirror.security is None


def test_name_is_the_files_and_not_the_parents(tmp_path: Path) -> None:
    child = write(tmp_path, "Site_Jammy.yaml", "extends: ubuntu-jammy\n")
    loaded = load_profile(str(child))
    assert loaded.profile.name == "site-jammy"
    assert loaded.origins["name"] == f"the name of {child}"


def test_extends_by_path_starts_at_the_file(tmp_path: Path) -> None:
    write(tmp_path / "shared", "base.yaml", WHOLE)
    child = write(tmp_path / "site", "c.yaml", "extends: ../shared/base.yaml\n")
    assert load(child).release == "bookworm"


def test_a_file_may_shadow_the_profile_that_it_extends(tmp_path: Path) -> None:
    write(tmp_path, "ubuntu-jammy.yaml", "extends: ubuntu-jammy\ndisk: {size: 7G}\n")
    loaded = load_profile("ubuntu-jammy", (), [tmp_path])
    assert loaded.profile.disk.size == "7G"
    assert loaded.profile.kernel == "linux-image-virtual"
    assert find_profile("ubuntu", "jammy", [tmp_path]) == tmp_path / "ubuntu-jammy.yaml"


def test_users_own_directory_is_searched(tmp_path: Path) -> None:
    write(tmp_path / "config/imagebuild/profiles", "mine.yaml", "extends: debian-bookworm\n")
    assert load_profile("mine").profile.name == "mine"
    assert "mine" in [s.name for s in list_profiles()]


def test_circle_of_extends(tmp_path: Path) -> None:
    a = write(tmp_path, "a.yaml", "extends: b\n")
    b = write(tmp_path, "b.yaml", "\nextends: c.yaml\n")
    c = write(tmp_path, "c.yaml", "extends: a\n")
    error = fail(a)
    assert error.what == "extends goes in a circle"
    assert error.where == f"{c}:1"
    assert [Path(p).name for p in error.detail.split(" → ")] == [
        "a.yaml",
        "b.yaml",
        "c.yaml",
        "a.yaml",
    ]
    assert fail(b).what == error.what


def test_file_that_extends_itself(tmp_path: Path) -> None:
    assert fail(write(tmp_path, "a.yaml", "extends: ./a.yaml\n")).what == "extends goes in a circle"


def test_unknown_parent(tmp_path: Path) -> None:
    path = write(tmp_path, "a.yaml", "# mine\nextends: ubuntu-jamy\n")
    error = fail(path)
    assert error.what == "extends: there is no profile named 'ubuntu-jamy'"
    assert error.where == f"{path}:2"
    assert error.hint == "did you mean 'ubuntu-jammy'?"
    missing = write(tmp_path, "b.yaml", "extends: ./nothing.yaml\n")
    assert fail(missing).where == f"{missing}:1"
    assert "one profile is expected" in fail(write(tmp_path, "c.yaml", "extends: [a, b]\n")).what


def test_another_mirror_in_a_child_has_no_ports_archive(tmp_path: Path) -> None:
    child = write(
        tmp_path,
        "c.yaml",
        "extends: ubuntu-jammy\narch: arm64\nmirror: {url: http://own.example/u}\n",
    )
    assert load(child).mirror_url() == "http://own.example/u"


# --- relative paths ------------------------------------------------------------------


def test_paths_start_at_the_file_that_sets_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(
        tmp_path / "parent", "p.yaml",
        WHOLE + "ca_certificates: [ca/a.pem, /etc/b.pem]\nelements: {path: [./mine]}\n",
    )  # fmt: skip
    child = write(
        tmp_path / "child", "c.yaml",
        """\
        extends: ../parent/p.yaml
        agent: {source: ../trove}
        docker:
          source: docker-ce
          repository: {url: http://d.example/u, suite: x, key: docker.asc,
                       fingerprint: 9DC858229FC7DD38854AE2D88D81803C0EBFCD88}
        """,
    )  # fmt: skip
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    profile = load(child, "elements.path+=[extra]", "mirror.security={url: http://s.example/s, "
                   "suites: [s], keyring: sec.gpg}")  # fmt: skip
    assert profile.mirror.keyring == tmp_path / "parent/keys/archive.gpg"
    assert profile.ca_certificates == (tmp_path / "parent/ca/a.pem", Path("/etc/b.pem"))
    assert profile.elements.path == (tmp_path / "parent/mine", tmp_path / "here/extra")
    assert profile.agent.source == str(tmp_path / "trove")
    assert profile.docker.repository is not None
    assert profile.docker.repository.key == str(tmp_path / "child/docker.asc")
    assert profile.mirror.security_keyring == tmp_path / "here/sec.gpg"


def test_home_directory_in_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    path = write(tmp_path, "a.yaml", WHOLE)
    assert load(path, "mirror.keyring=~/k.gpg").mirror.keyring == tmp_path / "k.gpg"


# --- overrides and origins -----------------------------------------------------------


def test_origins_say_who_set_what(tmp_path: Path) -> None:
    parent = write(tmp_path, "_p.yaml", WHOLE + "packages: [vim]\n")
    child = write(tmp_path, "c.yaml", "extends: _p\n\ndisk:\n  size: 8G\n")
    loaded = load_profile(
        str(child),
        [
            parse_set("packages+=less"),
            Override("mirror.url", "http://m.example/d", "environment IMAGEBUILD_MIRROR"),
            parse_set("timeout.build=null"),
        ],
    )
    origins = loaded.origins
    assert origins["disk.size"] == f"{child}:4"
    assert origins["mirror.suites"] == f"{parent}:8"
    assert origins["mirror.url"] == "environment IMAGEBUILD_MIRROR"
    assert origins["packages"] == f"{parent}:13 + --set packages"
    assert origins["timeout.build"] == "--set timeout.build"
    assert origins["timeout.base"] == "default"
    leaves = {
        p
        for p in PROFILE.known_paths()
        if not any(q.startswith(p + ".") for q in PROFILE.known_paths())
    }
    # Mappings that are null show as one key.
    lists = {"docker.registries", "preload"}
    assert set(origins) - leaves == {"mirror.security", "docker.repository", *lists}
    assert loaded.profile.timeout.seconds("build") is None
    assert loaded.profile.timeout.seconds("agent") == 1800


def test_the_last_override_wins(tmp_path: Path) -> None:
    path = write(tmp_path, "a.yaml", WHOLE)
    profile = load(path, "disk.size=8G", "disk={size: 9G}", "disk.label=x")
    assert (profile.disk.size, profile.disk.label) == ("9G", "x")


def test_mirror_override_clears_the_ports_archive_and_keeps_security() -> None:
    arm = parse_set("arch=arm64")
    assert load_profile("ubuntu-jammy", [arm]).profile.mirror_url() == (
        "http://ports.ubuntu.com/ubuntu-ports"
    )
    own = parse_set("mirror.url=http://own.example/ubuntu")
    profile = load_profile("ubuntu-jammy", [arm, own]).profile
    assert profile.mirror_url() == "http://own.example/ubuntu"
    assert profile.mirror_url(Arch.AMD64) == "http://own.example/ubuntu"
    ports = parse_set("mirror.arch_url.arm64=http://own.example/ports")
    for order in ([arm, ports, own], [own, ports, arm]):
        assert load_profile("ubuntu-jammy", order).profile.mirror_url().endswith("/ports")
    security = load_profile("debian-bookworm", [own]).profile.mirror.security
    assert security is not None
    assert security.url == "http://deb.debian.org/debian-security"


def test_another_docker_source_needs_one_key() -> None:
    docker = load_profile("ubuntu-jammy", [parse_set("docker.source=docker.io")]).profile.docker
    assert (docker.packages, docker.repository) == (("docker.io",), None)
    same = load_profile("ubuntu-jammy", [parse_set("docker.source=docker-ce")]).profile.docker
    assert same.repository is not None
    only = [parse_set("docker.packages=[docker-ce]"), parse_set("docker.source=docker-ce")]
    assert load_profile("ubuntu-jammy", only).profile.docker.packages == ("docker-ce",)


def test_append_adds_once_and_to_a_default(tmp_path: Path) -> None:
    path = write(tmp_path, "a.yaml", WHOLE + "packages: [vim]\n")
    assert load(path, "packages+=[less, vim]", "packages+=nano").packages == (
        "vim",
        "less",
        "nano",
    )
    assert [str(f) for f in load(path, "formats+=raw").formats] == ["qcow2", "raw"]
    components = "mirror.security={url: http://s.example/s, suites: [s]}"
    security = load(path, components, "mirror.security.components+=main").mirror.security
    assert security is not None
    assert security.components == ("main",)
    assert (
        "mirror.security.url: this key is missing" in fail(path, "mirror.security.suites+=s").what
    )
    error = fail(path, "disk.size+=1G")
    assert (error.where, error.hint) == ("--set disk.size", "write = instead of +=")


def test_overrides_are_not_changed_by_loading(tmp_path: Path) -> None:
    value = {"path": ["mine"]}
    override = Override("elements", value, "test")
    load_profile(str(write(tmp_path, "a.yaml", WHOLE)), [override, parse_set("elements.base=[x]")])
    assert value == {"path": ["mine"]}


@pytest.mark.parametrize(
    ("text", "hint"),
    [("disk.siz=8G", "disk.size"), ("size=8G", "disk.size"), ("mirrors.url=x", "mirror.url"),
     ("packages[0]=vim", "packages")],
)  # fmt: skip
def test_set_of_an_unknown_key(text: str, hint: str) -> None:
    error = fail("ubuntu-jammy", text)
    assert "unknown key" in error.what
    assert error.where == f"--set {text.partition('=')[0]}"
    assert error.hint == f"did you mean '{hint}'?"


def test_set_that_makes_no_sense() -> None:
    assert "KEY.PATH=VALUE" in fail("ubuntu-jammy", "disk.size").what
    assert "KEY.PATH=VALUE" in fail("ubuntu-jammy", "=3").what
    assert fail("ubuntu-jammy", "formats=[qcow2").where == "--set formats:1"
    assert "only a profile's file" in fail("ubuntu-jammy", "extends=x").what


def test_all_bad_overrides_at_once() -> None:
    error = fail("ubuntu-jammy", "disk.size=big", "arch=arm46", "nope=1")
    assert error.what == "the profile ubuntu-jammy has 3 mistakes"
    assert "--set disk.size: disk.size: 'big' is not a size" in error.detail
    assert "'arm46' is not one of: amd64, arm64 (did you mean 'arm64'?)" in error.detail
    assert "--set nope: nope: unknown key" in error.detail


# --- mistakes in files ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "what", "hint"),
    [
        ("packges: [vim]", "packges: unknown key", "did you mean 'packages'?"),
        ("disk: {sise: 8G}", "disk.sise: unknown key; in disk these are allowed: size, label",
         "did you mean 'disk.size'?"),
        ("size: 8G", "size: unknown key", "did you mean 'disk.size'?"),
        ("disk: {size: huge}", "disk.size: 'huge' is not a size", ""),
        ("disk: {size: 1M}", "disk.size: '1M' is out of range: 256M to 16T are allowed", ""),
        ("disk: {label: 5}", "disk.label: text is expected, not 5", "write it with quotes"),
        ("disk: []", "disk: a mapping is expected", ""),
        ("packages: vim", "packages: a list is expected, not 'vim'", ""),
        ("packages: [vim, Less]", "packages[1]: 'Less' is not a package name", ""),
        ("packages: [vim, vim]", "packages: 'vim' is listed twice", ""),
        ("arch: x86", "arch: 'x86' is not one of: amd64, arm64", ""),
        ("cloud_init: {datasources: [configdrive]}",
         "cloud_init.datasources[0]: 'configdrive' is not one of: ",
         "did you mean 'ConfigDrive'?"),
        ("cloud_init: {datasources: []}", "cloud_init.datasources: the list is empty", ""),
        ("formats: [qcow]", "formats[0]: 'qcow' is not one of: qcow2, raw",
         "did you mean 'qcow2'?"),
        ("agent: {series: 2025.3}", "agent.series: '2025.3' is not one of: 2025.1, 2025.2",
         None),
        ("agent: {source: trove==26}", "agent.source: 'trove==26' is not a source", ""),
        ("guest: {username: root}", "guest.username: 'root' is taken", ""),
        ("timeout: {base: 90}", "timeout.base: 90 is not a duration", ""),
        ("ca_certificates: ['a b.pem']", "ca_certificates[0]: ", ""),
        ("kernel: Linux", "kernel: 'Linux' is not a package name", ""),
    ],
)  # fmt: skip
def test_mistake_names_line_key_and_nearest_word(
    tmp_path: Path, lines: str, what: str, hint: str | None
) -> None:
    whole = WHOLE if "kernel" not in lines else WHOLE.replace("kernel: ", "# ")
    path = write(tmp_path, "a.yaml", whole + "\n" + lines + "\n")
    error = fail(path)
    assert error.what.startswith(what)
    assert error.where == f"{path}:14"
    if hint is not None:
        assert error.hint == (hint or "all keys and their meaning: imagebuild profile schema")


def test_all_mistakes_of_a_file_and_its_parent_at_once(tmp_path: Path) -> None:
    parent = write(tmp_path, "_p.yaml", WHOLE + "comppression: zstd\n")
    child = write(tmp_path, "c.yaml", "extends: _p\nformats: [vdi]\ndisk:\n  size: -1\n")
    error = fail(child)
    assert error.what == "the profile c has 3 mistakes"
    assert sorted(line.split(": ")[0] for line in error.detail.splitlines()) == [
        f"{parent}:13", f"{child}:2", f"{child}:4",
    ]  # fmt: skip
    assert "did you mean 'compression'?" in error.detail


def test_missing_keys(tmp_path: Path) -> None:
    path = write(tmp_path, "_p.yaml", "os: debian\nmirror: {url: http://a.example/d}\n")
    error = fail(path)
    assert f"{path}: kernel: this key is missing" in error.detail
    assert f"{path}:2: mirror.keyring: this key is missing" in error.detail
    check_file(path)  # a parent need not be whole
    write(tmp_path, "_p.yaml", "os: debain\n")
    with pytest.raises(ConfigError, match="'debain' is not one of: ubuntu, debian"):
        check_file(path)


def test_docker_ce_needs_a_repository_and_docker_io_none(tmp_path: Path) -> None:
    path = write(tmp_path, "a.yaml", WHOLE.replace("docker.io", "docker-ce"))
    assert fail(path).what == "docker: docker-ce needs the key docker.repository"
    error = fail("ubuntu-jammy", "docker={source: docker.io, repository: {suite: jammy}}")
    assert "repository" in error.what + error.detail


def test_key_given_twice(tmp_path: Path) -> None:
    path = write(tmp_path, "a.yaml", WHOLE + "disk:\n  size: 5G\n  label: a\n  size: 6G\n")
    error = fail(path)
    assert error.what == f"the key disk.size is given twice (first at {path}:14)"
    assert error.where == f"{path}:16"
    path = write(tmp_path, "a.yaml", "os: debian\nos: debian\nrelease: x\nrelease: x\n")
    assert fail(path).what == "2 mistakes"
    assert f"{path}:4: the key release" in fail(path).detail


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("os: debian\n  release: x\n", 2, "mapping values are not allowed"),
        ("os: [debian\n", 2, "expected ',' or ']'"),
        ("\nos: \tdebian\n\x01", 3, "#x0001"),
        ("os: &a debian\n", 1, "anchors"),
        ("os: *a\n", 1, "anchors"),
        ("os: !!python/object:os.system x\n", 1, "tags"),
        ("os: debian\n---\nos: debian\n", 2, "single document"),
        ("packages: " + "[" * 40 + "]" * 40, 1, "nested too deep"),
        ("? [a, b]\n: c\n", 1, "a key must be a word"),
        ("", 1, "holds no profile"),
        ("- a\n", 1, "holds no profile"),
    ],
)
def test_yaml_that_is_not_accepted(tmp_path: Path, text: str, line: int, word: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    error = fail(path)
    assert word in error.what
    assert error.where == f"{path}:{line}"


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert "No such file" in fail(tmp_path / "none.yaml").what
    assert "Is a directory" in fail(f"{tmp_path}/").what
    (tmp_path / "latin.yaml").write_bytes(b"os: d\xe9bian\n")
    assert "not UTF-8" in fail(tmp_path / "latin.yaml").what
    (tmp_path / "loop.yaml").symlink_to(tmp_path / "loop.yaml")
    assert "cannot read" in fail(tmp_path / "loop.yaml").what
    assert "is not a directory" in fail("ubuntu-jammy", search=(tmp_path / "none",)).what


def test_yaml_surprises_stay_text(tmp_path: Path) -> None:
    path = write(tmp_path, "a.yaml", WHOLE.replace("3.11", "3.10") + "agent: {series: 2025.1}\n")
    profile = load(path)
    assert profile.python == "3.10"
    assert str(profile.agent.series) == "2025.1"
    assert "text is expected" not in fail(path, "arch=no").what
    assert "'no' is not one of" in fail(path, "arch=no").what


def test_a_password_in_a_url_is_not_repeated(tmp_path: Path) -> None:
    path = write(tmp_path, "a.yaml", WHOLE.replace("http://deb", "http://me:s3cret@de b"))
    assert "s3cret" not in str(fail(path).to_json())


# --- finding -------------------------------------------------------------------------


def test_unknown_name_release_and_os() -> None:
    error = fail("ubuntu-jamy")
    assert error.what == "there is no profile named 'ubuntu-jamy'"
    assert error.hint == "did you mean 'ubuntu-jammy'?"
    assert "debian-bookworm, ubuntu-jammy, ubuntu-noble" in error.detail
    for words in (("ubuntu", "jamy"), ("ubunut", "jammy")):
        with pytest.raises(ConfigError) as caught:
            find_profile(*words)
        assert caught.value.what == f"there is no profile for {words[0]} {words[1]}"
        assert caught.value.hint == "did you mean 'ubuntu jammy'?"
        assert "debian bookworm, ubuntu jammy, ubuntu noble" in caught.value.detail


def test_profile_is_found_by_what_it_says(tmp_path: Path) -> None:
    write(tmp_path, "mine.yaml", WHOLE.replace("bookworm", "trixie"))
    assert find_profile("debian", "trixie", [tmp_path]) == tmp_path / "mine.yaml"
    write(tmp_path, "other.yaml", WHOLE.replace("bookworm", "trixie"))
    with pytest.raises(ConfigError, match="more than one profile is for debian trixie"):
        find_profile("debian", "trixie", [tmp_path])
    write(tmp_path, "debian-trixie.yaml", WHOLE.replace("bookworm", "trixie"))
    assert find_profile("debian", "trixie", [tmp_path]).stem == "debian-trixie"


def test_a_broken_profile_does_not_hide_the_others(tmp_path: Path) -> None:
    broken = write(tmp_path, "broken.yaml", "os: beos\n")
    summaries = {s.name: s for s in list_profiles([tmp_path])}
    assert str(broken) in summaries["broken"].error
    assert set(SHIPPED) < set(summaries)
    assert find_profile("ubuntu", "noble", [tmp_path]).stem == "ubuntu-noble"


# --- the schema ----------------------------------------------------------------------


def test_every_key_is_described() -> None:
    schema = file_schema()
    parts = {"": schema, **schema["$defs"]}
    for name, part in parts.items():
        for key, value in part.get("properties", {}).items():
            assert value["description"], f"{name}.{key}"
    assert schema["additionalProperties"] is False
    assert "extends" in schema["properties"]


def test_profile_survives_its_own_json() -> None:
    profile = load_profile("ubuntu-jammy").profile
    assert Profile.model_validate(profile.model_dump(mode="json")) == profile
    assert hash(Profile.model_validate_json(profile.model_dump_json())) == hash(profile)


def test_effective_profile_is_a_profile_file(tmp_path: Path) -> None:
    profile = load_profile("debian-bookworm").profile
    path = tmp_path / "again.yaml"
    path.write_text(yaml.safe_dump(profile.model_dump(mode="json")))
    assert load(path) == profile
