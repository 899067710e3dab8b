"""Filling the wheelhouse from a package index on loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from imagebuild.agent import wheels
from imagebuild.agent.index import Index, platforms, target
from imagebuild.agent.locks import parse_lock, read_lock, render_requirement
from imagebuild.agent.pipconf import pip_settings
from imagebuild.agent.source import AgentInput, SourceKind
from imagebuild.agent.tree import plain_files, tree_digest
from imagebuild.agent.wheels import BuildRequest, Wheelhouse, collect, installed
from imagebuild.digest import of_file
from imagebuild.errors import BuildError, ConfigError, PreflightError, TemporaryError
from imagebuild.redaction import redact
from tests.unit.agent_index import LocalIndex, make_sdist, make_wheel, serve, sha256

MANYLINUX = "cp310-cp310-manylinux_2_17_x86_64.manylinux2014_x86_64"
HEADER = "# arches: x86_64 aarch64\n# no-wheel: source x86_64 aarch64\n"


@dataclass
class House:
    """A tiny Trove with three dependencies, its index, its locks, and a builder."""

    index: LocalIndex
    root: Path
    requests: list[BuildRequest] = field(default_factory=list)
    hashes: dict[str, str] = field(default_factory=dict)
    number: int = 0

    @property
    def agent(self) -> AgentInput:
        lock = read_lock(self.root / "locks/lock.txt")
        tools = read_lock(self.root / "locks/build.txt")
        return AgentInput(
            kind=SourceKind.PYPI, requested="pypi:trove", name="trove", version="25.1.0",
            series="2026.1", python="3.10", requires_python=">=3.10",
            lock=lock.name, lock_sha256=lock.sha256,
            build_lock=tools.name, build_lock_sha256=tools.sha256,
            sha256=self.hashes["trove"],
        )  # fmt: skip

    def lock(self, **versions: str) -> None:
        pins = [
            render_requirement(name, version, frozenset([self.hashes[name]]))
            for name, version in versions.items()
        ]
        (self.root / "locks/lock.txt").write_text(HEADER + "".join(pins))

    def build(self, request: BuildRequest) -> list[Path]:
        """Stands for the throw-away tree: makes a wheel per source without running it."""
        self.requests.append(request)
        made = []
        for source in request.sources:
            name, _, version = source.name.removesuffix(".tar.gz").partition("-")
            version = version or request.environment["PBR_VERSION"]
            filename, data = make_wheel(name, version)
            (request.out / filename).write_bytes(data)
            made.append(request.out / filename)
        return made

    def collect(
        self, agent: AgentInput | None = None, *, offline: bool = False, arch: str = "x86_64"
    ) -> Wheelhouse:
        self.number += 1
        return collect(
            agent or self.agent, arch, self.root / f"house{self.number}",
            cache=self.root / "cache", env=self.index.env(self.root), offline=offline,
            build=self.build,
        )  # fmt: skip


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    (tmp_path / "locks").mkdir()
    monkeypatch.setattr(wheels, "locks_dir", lambda: tmp_path / "locks")
    monkeypatch.setattr("imagebuild.agent.index.time.sleep", lambda _seconds: None)
    with serve() as index:
        house = House(index, tmp_path)
        add = index.add
        house.hashes = {
            "trove": add("trove", make_wheel("trove", "25.1.0")),
            "pure": add("pure", make_wheel("pure", "1.0")),
            "binary": add("binary", make_wheel("binary", "2.0", MANYLINUX)),
            "source": add("source", make_sdist("source", "3.0", "a.py")),
            "pip": add("pip", make_wheel("pip", "26.0")),
        }
        add("binary", make_wheel("binary", "2.0", "cp311-cp311-manylinux_2_17_x86_64"))
        add("binary", make_sdist("binary", "2.0"))
        house.lock(trove="25.1.0", pure="1.0", binary="2.0", source="3.0")
        tools = render_requirement("pip", "26.0", frozenset([house.hashes["pip"]]))
        (tmp_path / "locks/build.txt").write_text(tools)
        yield house


def test_the_wheelhouse_has_exactly_the_locked_files(house: House) -> None:
    made = house.collect()
    assert sorted(p.name for p in made.path.iterdir()) == [
        f"binary-2.0-{MANYLINUX}.whl", "pure-1.0-py3-none-any.whl",
        "source-3.0-py3-none-any.whl", "trove-25.1.0-py3-none-any.whl",
    ]  # fmt: skip
    pins = parse_lock("r", made.requirements.read_bytes()).pins
    assert [p.name for p in pins] == ["binary", "pure", "source"]
    pins += parse_lock("a", made.agent.read_bytes()).pins
    assert {p.name: p.hashes for p in pins} == {
        p.name.split("-")[0]: frozenset([of_file(p)]) for p in made.path.iterdir()
    }
    assert made.agent_sha256 == house.hashes["trove"]
    assert made.sha256 == {p.name: next(iter(p.hashes)) for p in pins}
    assert made.versions == {"binary": "2.0", "pure": "1.0", "source": "3.0", "trove": "25.1.0"}
    assert [p.name for p in made.tools.iterdir() if p.suffix == ".whl"] == [
        "pip-26.0-py3-none-any.whl"
    ]
    assert house.hashes["pip"] in (made.tools / "requirements.txt").read_text()


def test_only_the_sdist_is_built_and_recorded(house: House) -> None:
    made = house.collect()
    (compiled,) = made.compiled
    assert (compiled.name, compiled.version) == ("source", "3.0")
    assert compiled.sdist_sha256 == house.hashes["source"]
    assert compiled.wheel_sha256 == of_file(made.path / "source-3.0-py3-none-any.whl")
    (request,) = house.requests
    assert [s.name for s in request.sources] == ["source-3.0.tar.gz"]
    assert not request.needs_compiler
    assert "PBR_VERSION" not in request.environment


@pytest.mark.parametrize("name", ["x.c", "src/x.cpp", "x.pyx", "x.rs"])
def test_compiled_sources_need_a_compiler(house: House, name: str) -> None:
    del house.index.files["source"]
    house.hashes["source"] = house.index.add("source", make_sdist("source", "3.0", name))
    house.lock(trove="25.1.0", source="3.0")
    house.collect()
    assert house.requests[0].needs_compiler


def test_a_file_that_the_index_lies_about_is_refused(house: House) -> None:
    filename, data = make_wheel("pure", "1.0")
    real = house.index.page("pure")
    house.index.files["pure"][filename] = data + b"tampered"
    house.index.page = (  # type: ignore[method-assign]
        lambda project: real if project == "pure" else LocalIndex.page(house.index, project)
    )
    with pytest.raises(BuildError, match="not the file that the lock names") as caught:
        house.collect()
    assert sha256(data + b"tampered") in caught.value.detail
    assert not list((house.root / "cache/files").glob("*/pure-*"))


@pytest.mark.parametrize("tell_hashes", [True, False])
def test_an_index_with_other_files_than_the_locks_is_refused(
    house: House, tell_hashes: bool
) -> None:
    house.index.tell_hashes = tell_hashes
    filename, data = make_wheel("pure", "1.0")
    house.index.files["pure"][filename] = data + b"other"
    with pytest.raises(BuildError, match=r"no file of pure 1\.0 that the lock allows") as caught:
        house.collect()
    assert filename in caught.value.detail
    assert not (house.root / "house1").exists()


def test_an_index_without_hashes_is_judged_by_content(house: House) -> None:
    house.index.tell_hashes = False
    assert house.collect().agent_sha256 == house.hashes["trove"]


def test_an_sdist_in_place_of_a_known_wheel_is_refused(house: House) -> None:
    del house.index.files["pure"]
    house.hashes["pure"] = house.index.add("pure", make_sdist("pure", "1.0"))
    house.lock(trove="25.1.0", pure="1.0")
    with pytest.raises(BuildError, match=r"no wheel of pure 1\.0"):
        house.collect()
    assert house.requests == []


def test_no_file_for_the_architecture_is_said(house: House) -> None:
    del house.index.files["binary"]["binary-2.0.tar.gz"]
    with pytest.raises(BuildError, match=r"no file of binary 2\.0") as caught:
        house.collect(arch="aarch64")
    assert "aarch64" in caught.value.detail


def test_offline_uses_the_cache_alone_and_says_what_is_missing(house: House) -> None:
    with pytest.raises(PreflightError) as caught:
        house.collect(offline=True)
    assert "4 of 4 packages" in caught.value.what
    assert "binary==2.0" in caught.value.detail
    assert house.index.asked == []
    online = house.collect()
    asked = len(house.index.asked)
    offline = house.collect(offline=True)
    again = house.collect()
    assert len(house.index.asked) == asked
    first = online.requirements.read_bytes()
    assert offline.requirements.read_bytes() == first
    assert again.requirements.read_bytes() == first


def test_a_damaged_file_in_the_cache_is_not_used(house: House) -> None:
    house.collect()
    (cached,) = (house.root / "cache/files").glob("*/pure-*")
    cached.write_bytes(b"damaged")
    with pytest.raises(PreflightError) as caught:
        house.collect(offline=True)
    assert caught.value.detail == "pure==1.0"
    made = house.collect()
    assert of_file(made.path / "pure-1.0-py3-none-any.whl") == house.hashes["pure"]


def test_an_unresolved_agent_is_not_collected(house: House) -> None:
    with pytest.raises(PreflightError, match="could not be resolved"):
        house.collect(replace(house.agent, resolved=False, sha256=None))


def test_a_lock_that_changed_after_planning_is_refused(house: House) -> None:
    agent = house.agent
    house.lock(trove="25.1.0", pure="1.0")
    with pytest.raises(BuildError, match="changed after"):
        house.collect(agent)


def test_another_release_takes_the_place_of_the_locked(house: House) -> None:
    other = house.index.add("trove", make_wheel("trove", "25.0.0"))
    made = house.collect(replace(house.agent, version="25.0.0", sha256=other))
    assert made.agent_sha256 == other
    assert "trove==25.0.0" in made.agent.read_text()


def test_the_agents_own_source_is_built_as_it_was_resolved(house: House) -> None:
    root = house.root / "src"
    (root / "trove").mkdir(parents=True)
    (root / "trove/run").write_text("")
    (root / "trove/run").chmod(0o775)
    (root / "setup.cfg").write_text("[metadata]\nname = trove\n")
    (root / "build").mkdir()
    (root / "build/leftover").write_text("")
    agent = replace(
        house.agent, kind=SourceKind.PATH, version="25.1.1.dev3", path=str(root),
        sha256=tree_digest(root, plain_files(root)),
    )  # fmt: skip
    seen: dict[str, str] = {}

    def build(request: BuildRequest) -> list[Path]:
        if request.environment.get("PBR_VERSION"):
            (source,) = request.sources
            listing = source / "trove.egg-info/SOURCES.txt"
            seen["list"] = listing.read_text()
            seen["files"] = " ".join(
                sorted(str(p.relative_to(source)) for p in source.rglob("*") if p.is_file())
            )
            seen["mode"] = oct((source / "trove/run").stat().st_mode & 0o777)
        return house.build(request)

    made = collect(
        agent, "x86_64", house.root / "out", cache=house.root / "cache",
        env=house.index.env(house.root), offline=False, build=build,
    )  # fmt: skip
    assert made.agent_sha256 == of_file(made.path / "trove-25.1.1.dev3-py3-none-any.whl")
    assert seen["list"] == "setup.cfg\ntrove/run\n"
    assert seen["files"] == "setup.cfg trove.egg-info/SOURCES.txt trove/run"
    assert seen["mode"] == "0o755"
    assert [r.environment.get("PBR_VERSION") for r in house.requests] == [None, "25.1.1.dev3"]
    assert house.requests[1].environment["SOURCE_DATE_EPOCH"] == "315532800"
    assert not any(p.startswith("/simple/trove") for p in house.index.asked)
    (root / "setup.cfg").write_text("[metadata]\nname = trove\n# later\n")
    with pytest.raises(BuildError, match="planned with"):
        house.collect(agent)


@pytest.mark.parametrize(
    "filename",
    ["source-3.1-py3-none-any.whl", "other-3.0-py3-none-any.whl", "junk.txt",
     "source-3.0-cp311-cp311-linux_x86_64.whl"],
)  # fmt: skip
def test_a_build_that_gives_something_else_is_refused(house: House, filename: str) -> None:
    def build(request: BuildRequest) -> list[Path]:
        (request.out / filename).write_bytes(b"")
        return [request.out / filename]

    with pytest.raises(BuildError) as caught:
        collect(
            house.agent, "x86_64", house.root / "out", cache=house.root / "cache",
            env=house.index.env(house.root), offline=False, build=build,
        )  # fmt: skip
    assert caught.value.where == filename


def test_a_build_that_gives_nothing_is_refused(house: House) -> None:
    with pytest.raises(BuildError, match="no wheel of source"):
        collect(
            house.agent, "x86_64", house.root / "out", cache=house.root / "cache",
            env=house.index.env(house.root), offline=False, build=lambda _request: [],
        )  # fmt: skip


def test_no_error_shows_the_indexs_password(house: House) -> None:
    house.index.login = "joe:hunter2"
    assert house.collect().agent_sha256 == house.hashes["trove"]
    shown = []
    house.index.login = "joe:hunter3"
    env = house.index.env(house.root)
    for breaks in ("login", "file", "server"):
        if breaks == "login":
            house.index.login = "other:one"
        elif breaks == "file":
            house.index.login = "joe:hunter3"
            house.index.files["pure"] = {}
        else:
            house.index.failures = 999
        with pytest.raises((ConfigError, BuildError, TemporaryError)) as caught:
            collect(
                house.agent, "x86_64", house.root / breaks, cache=house.root / breaks / "c",
                env=env, offline=False, build=house.build,
            )  # fmt: skip
        shown.append(json.dumps(caught.value.to_json()))
    assert [json.loads(s)["error"] for s in shown] == [
        "ConfigError", "BuildError", "TemporaryError",
    ]  # fmt: skip
    assert not any("hunter" in s for s in shown)
    assert all("127.0.0.1" in s for s in shown)


def test_parts_are_collected_by_themselves(house: House) -> None:
    """The environment without the agent, and the agent without what it needs."""
    env = house.index.env(house.root)

    def names(made: Wheelhouse) -> list[str]:
        return sorted(p.name.partition("-")[0] for p in made.path.iterdir())

    made = collect(
        house.agent, "x86_64", house.root / "e", cache=house.root / "cache", env=env,
        offline=False, build=house.build, code=False,
    )  # fmt: skip
    assert names(made) == ["binary", "pure", "source"]
    assert (made.agent_sha256, made.agent.read_text()) == (None, "")
    asked = len(house.index.asked)
    made = collect(
        house.agent, "x86_64", house.root / "c", cache=house.root / "cache", env=env,
        offline=False, build=house.build, environment=False,
    )  # fmt: skip
    assert names(made) == ["trove"]
    assert (made.agent_sha256, made.requirements.read_text()) == (house.hashes["trove"], "")
    assert not any("pure" in path for path in house.index.asked[asked:])


@pytest.mark.parametrize(
    ("requires", "lacking"),
    [
        (["pure", "pure>=1.0,<2", "Binary==2.0", "source!=2"], []),
        (["pure>=1.1"], ["pure>=1.1: the lock has 1.0"]),
        (["new-one>=3"], ["new-one>=3: the lock has none"]),
        (["new", "pure<1"], ["new: the lock has none", "pure<1: the lock has 1.0"]),
        # What another guest or an extra would need.
        (['new; python_version < "3.10"', 'new; sys_platform == "win32"', 'new; extra == "x"'], []),
        (['new; python_version >= "3.10"'], ["new: the lock has none"]),
        (['new; platform_machine == "x86_64"'], ["new: the lock has none"]),
        (['new; platform_machine == "aarch64"'], []),
    ],
)
def test_an_agent_that_requires_more_than_the_lock_has(
    house: House, requires: list[str], lacking: list[str]
) -> None:
    other = house.index.add("trove", make_wheel("trove", "25.0.0", requires=requires))
    made = house.collect(replace(house.agent, version="25.0.0", sha256=other))
    versions = {name: made.versions[name] for name in ("binary", "pure", "source")}
    if not lacking:
        wheels.check_requirements(made, versions, "3.10", "x86_64")
        return
    with pytest.raises(BuildError) as caught:
        wheels.check_requirements(made, versions, "3.10", "x86_64")
    assert caught.value.what == "the agent requires what the lock of its series does not have"
    assert caught.value.where == "trove-25.0.0-py3-none-any.whl"
    assert caught.value.detail.splitlines() == lacking
    assert caught.value.hint.startswith("--trove-series ")


def test_installed_reads_a_venv_without_running_it(house: House, tmp_path: Path) -> None:
    made = house.collect()
    site = tmp_path / "site-packages"
    for wheel in made.path.iterdir():
        with zipfile.ZipFile(wheel) as file:
            file.extractall(site)
    assert installed(site) == [
        ("binary", "2.0"), ("pure", "1.0"), ("source", "3.0"), ("trove", "25.1.0"),
    ]  # fmt: skip


def test_pip_itself_accepts_the_requirements(house: House, tmp_path: Path) -> None:
    """With the options that the image's venv is filled with."""
    house.lock(trove="25.1.0", pure="1.0")
    made = house.collect()
    argv: list[str | Path] = [
        sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps",
        "--require-hashes", "--find-links", made.path, "-r", made.requirements, "-r", made.agent,
        "--target", tmp_path / "site",
    ]  # fmt: skip
    env = {"PATH": os.environ["PATH"], "PIP_CONFIG_FILE": os.devnull}
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert installed(tmp_path / "site") == [("pure", "1.0"), ("trove", "25.1.0")]


def test_wheel_tags_are_those_of_the_oldest_guests_c_library() -> None:
    tags = {str(t) for t in target("3.10", "aarch64").supported_tags()}
    assert "cp310-cp310-manylinux_2_35_aarch64" in tags
    assert "cp37-abi3-manylinux2014_aarch64" in tags
    assert "py3-none-any" in tags
    assert not any("2_36" in t or "x86_64" in t or "cp311" in t or "musl" in t for t in tags)
    assert "manylinux1_x86_64" in platforms("x86_64")
    assert not any("2_16" in p for p in platforms("aarch64"))


def test_pips_settings_come_from_its_files_and_the_environment(tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_text(
        "[global]\nindex-url = https://joe:pw@one.example/simple\ncert = /ca.pem\n"
        "extra-index-url =\n  https://two.example/simple\n  https://three.example/simple\n"
        "timeout = 7\n[install]\ntrusted-host = two.example\n"
    )
    env = {"PIP_CONFIG_FILE": str(tmp_path / "pip.conf"), "HOME": str(tmp_path)}
    read = pip_settings(env)
    assert read.index_urls == (
        "https://one.example/simple", "https://two.example/simple",
        "https://three.example/simple",
    )  # fmt: skip
    assert (read.ca_file, read.timeout, read.trusted_hosts) == ("/ca.pem", 7, ("two.example",))
    assert read.authorization("https://one.example/simple/x/") == "Basic am9lOnB3"
    assert read.authorization("https://two.example/simple/x/") is None
    assert "pw" not in repr(read)
    over = pip_settings(env | {"PIP_INDEX_URL": "https://four.example", "PIP_CERT": "/b.pem"})
    assert (over.index_urls[0], over.ca_file) == ("https://four.example", "/b.pem")
    assert pip_settings(env | {"PIP_NO_INDEX": "1"}).index_urls == ()


def test_netrc_and_proxies_are_used(tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text("machine one.example login joe password pw\n")
    (tmp_path / ".netrc").chmod(0o600)
    read = pip_settings(
        {
            "HOME": str(tmp_path), "PIP_CONFIG_FILE": os.devnull,
            "PIP_INDEX_URL": "https://one.example/simple",
            "https_proxy": "proxy.example:3128", "no_proxy": "localhost, .site.example",
        }
    )  # fmt: skip
    assert read.authorization("https://one.example/x") == "Basic am9lOnB3"
    assert read.proxies == {"https": "http://proxy.example:3128"}
    assert read.no_proxy == ("localhost", ".site.example")


@pytest.mark.parametrize(
    "entry", ["127.0.0.1", "*", "10.0.0.0/8,[::1],::1,other.example:80,127.0.0.1"]
)
def test_no_proxy_goes_past_a_proxy_that_is_not_there(house: House, entry: str) -> None:
    env = house.index.env(house.root) | {"http_proxy": "http://joe:hunter2@127.0.0.1:9"}
    with Index(env | {"no_proxy": entry}) as index:
        assert index.versions("pure") == ["1.0"]
    away = Index(env | {"no_proxy": "other.example"})
    with away, pytest.raises(TemporaryError) as caught:
        away.versions("pure")
    assert "hunter2" not in json.dumps(caught.value.to_json())


def test_a_ca_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    missing = str(tmp_path / "ca.pem")
    with pytest.raises(ConfigError) as caught:
        Index({"PIP_CONFIG_FILE": os.devnull, "HOME": str(tmp_path), "PIP_CERT": missing})
    assert caught.value.where == missing


def test_a_broken_pip_configuration_is_named_and_not_quoted(tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_text("index-url = https://joe:hunter2@x/\n")
    with pytest.raises(ConfigError) as caught:
        pip_settings({"PIP_CONFIG_FILE": str(tmp_path / "pip.conf"), "HOME": str(tmp_path)})
    assert caught.value.where == str(tmp_path / "pip.conf")
    assert "hunter2" not in json.dumps(caught.value.to_json())


def test_redact_takes_the_login_out_of_every_url() -> None:
    text = "a https://u:p@h/x b http://t@i/ c@d"
    assert redact(text) == "a https://h/x b http://i/ c@d"
