"""`imagebuild build`, up to where a build would begin. Its output is contract."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from imagebuild.build import Artifact
from imagebuild.cli.build import _say_dev
from imagebuild.cli.main import run
from imagebuild.cli.terminal import terminal
from imagebuild.data import elements_dir, profiles_dir
from imagebuild.errors import PolicyError
from imagebuild.host.preflight import BUILD_TOOLS
from imagebuild.host.run import NETWORK_ENV, which
from imagebuild.inputs import Inputs
from imagebuild.plan import Plan
from tests.unit.test_archive import RELEASE, Signing, closed_port, serve, two_signings

Usage = namedtuple("Usage", "total used free")
OFFLINE = ["build", "debian", "bookworm", "--offline", "--dry-run"]


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.startswith("IMAGEBUILD_") or name in NETWORK_ENV or name == "SOURCE_DATE_EPOCH":
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg-cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    terminal.configure(verbosity=0, no_color=True)


@pytest.fixture(scope="module")
def signings() -> Iterator[tuple[Signing, Signing]]:
    with two_signings() as made:
        yield made


def failing(capsys: pytest.CaptureFixture[str], code: int, *argv: str) -> str:
    """What a command says on stderr that must end with `code` and print no data."""
    assert run(list(argv)) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    return captured.err


def planned(capsys: pytest.CaptureFixture[str], *argv: str) -> Any:  # noqa: ANN401 - JSON
    assert run([*OFFLINE, "--json", *argv]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return json.loads(captured.out)


def everything_below(directory: Path) -> list[str]:
    return sorted(str(p.relative_to(directory)) for p in directory.rglob("*"))


def test_the_plan_is_the_same_bytes_each_time(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    texts = []
    for _ in range(2):
        assert run([*OFFLINE, "--json"]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
    plan = json.loads(texts[0])
    assert plan["schema_version"] == 1
    assert plan["provisional"] is True
    assert plan["profile"]["name"] == "debian-bookworm"
    assert plan.keys() >= {"build_id", "environment", "outputs"}
    assert [s["name"] for s in plan["stages"]] == ["base", "agent", "disk", "formats"]
    assert all(s.keys() >= {"name", "id", "elements", "inputs"} for s in plan["stages"])
    assert everything_below(tmp_path) == [], "a dry run has left something"


def test_options_end_up_in_the_plan(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "site/site-tuning").mkdir(parents=True)
    plan = planned(
        capsys, "--image-size", "8", "--guest-username", "trove", "--datasource", "OpenStack",
        "--package", "tmux", "--arch", "arm64", "--trove-series", "2025.2",
        "--elements-path", str(tmp_path / "site"), "--element", "agent:site-tuning",
        "--mirror", "http://m.example/debian", "--set", "compression=zlib",
        "-o", str(tmp_path / "x.raw"), "--artifacts", str(tmp_path / "artifact"),
    )  # fmt: skip
    base, agent, disk, formats = plan["stages"]
    assert base["environment"]["IMAGEBUILD_DATASOURCES"] == "OpenStack"
    assert base["environment"]["IMAGEBUILD_GUEST_USERNAME"] == "trove"
    assert base["environment"]["DIB_DISTRIBUTION_MIRROR"] == "http://m.example/debian"
    packages = base["environment"]["IMAGEBUILD_PACKAGES"].split()
    assert {"tmux", "linux-image-cloud-arm64"} <= set(packages)
    assert base["inputs"]["arch"] == "arm64"
    environment, code, late = agent["parts"]
    assert environment["inputs"]["lock"].startswith("2025.2-")
    assert "site-tuning" in [e["name"] for e in late["elements"]]
    assert "site-tuning" not in [e["name"] for e in environment["elements"]]
    assert code["inputs"]["parent"] == environment["id"]
    assert disk["parts"][0]["inputs"]["size"] == 8 << 30
    assert formats["inputs"]["formats"] == ["qcow2", "raw"]
    assert formats["inputs"]["compression"] == "zlib"
    assert plan["outputs"] == {
        "artifact": str(tmp_path / "artifact"),
        "images": [f"{plan['name']}.qcow2", f"{plan['name']}.raw"],
        "places": [str(tmp_path / "x.raw")],
    }
    assert plan["name"].startswith("trove-guest-debian-bookworm-arm64-")


def test_places_do_not_change_the_id(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    plain = planned(capsys)
    assert plain["outputs"]["artifact"] == f"{tmp_path}/home/images/{plain['name']}"
    moved = planned(
        capsys, "-o", str(tmp_path / "x.qcow2"), "--images-dir", str(tmp_path / "i"),
        "--cache-dir", str(tmp_path / "c"),
    )  # fmt: skip
    assert moved["build_id"] == plain["build_id"]
    assert moved["outputs"]["artifact"] == f"{tmp_path}/i/{plain['name']}"


def test_secrets_of_the_environment_only_by_name(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    without = planned(capsys)
    monkeypatch.setenv("https_proxy", "http://me:hunter2@proxy.example:3128")
    monkeypatch.setenv("PIP_INDEX_URL", "https://tok3n@pypi.example/simple")
    plan = planned(capsys)
    assert plan["environment"]["from_host"] == ["PIP_INDEX_URL", "https_proxy"]
    assert plan["build_id"] == without["build_id"]
    assert "hunter2" not in json.dumps(plan)
    assert "tok3n" not in json.dumps(plan)


def test_plan_for_people(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    plan = planned(capsys)
    assert run([*OFFLINE, "-o", str(tmp_path / "x.qcow2")]) == 0
    lines = capsys.readouterr().out.splitlines()
    debian = "http://deb.debian.org/debian"
    assert lines[:4] == [
        f"plan for {plan['name']}  (provisional)",
        f"  not resolved: Release file of {debian} bookworm",
        f"  not resolved: Release file of {debian} bookworm-updates",
        f"  not resolved: Release file of {debian}-security bookworm-security",
    ]
    assert [x for x in lines if x.startswith("stage ")] == [
        f"stage {s['name']}  {s['id'][:16]}" for s in plan["stages"]
    ]
    assert "  IMAGEBUILD_DATASOURCES=ConfigDrive, OpenStack" in lines
    assert lines[-3:] == [
        f"artifact  {tmp_path}/home/images/{plan['name']}",
        f"image     {plan['name']}.qcow2",
        f"also      {tmp_path}/x.qcow2",
    ]


def test_resolved_plan(
    capsys: pytest.CaptureFixture[str], signings: tuple[Signing, Signing], tmp_path: Path
) -> None:
    with site(signings[0], tmp_path) as argv:
        assert run([*argv, "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["provisional"] is False
    assert plan["unresolved"] == []


class site:  # noqa: N801 - reads as a word where it is used
    """The arguments of a build from a mirror on loopback that `signing` signed."""

    def __init__(self, signing: Signing, tmp_path: Path, keyring: bytes | None = None) -> None:
        path = tmp_path / "keyring.gpg"
        path.write_bytes(signing.public if keyring is None else keyring)
        signed = (200, signing.in_release)
        dists = "/debian/dists/bookworm{}/InRelease"
        self._server = serve({dists.format(""): signed, dists.format("-updates"): signed})
        self._keyring = path

    def __enter__(self) -> list[str]:
        url = self._server.__enter__()
        return [
            "build", "debian", "bookworm", "--mirror", f"{url}/debian",
            "--keyring", str(self._keyring), "--set", "mirror.security=null",
        ]  # fmt: skip

    def __exit__(self, *_: object) -> None:
        self._server.__exit__(None, None, None)


def test_format_that_is_not_known(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "x.vdi"
    assert failing(capsys, 2, "build", "debian", "bookworm", "-o", str(file)) == (
        "error: cannot tell the format of x.vdi\n"
        f"  where: -o {file}\n"
        "  try: end its name with .qcow2 or .raw or .vmdk or .vhd\n"
    )


def test_no_profile_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert failing(capsys, 2, "build") == (
        "error: which profile is wanted? OS RELEASE, a profile's name or a file is expected\n"
        "  try: for example: ubuntu jammy; see: imagebuild profile list\n"
    )


def test_unknown_release(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert failing(capsys, 3, "build", "ubuntu", "jamy", "--dry-run") == (
        "error: there is no profile for ubuntu jamy\n"
        f"  where: {tmp_path}/config/imagebuild/profiles, {profiles_dir()}\n"
        "  | these exist: debian bookworm, ubuntu jammy, ubuntu noble\n"
        "  try: did you mean 'ubuntu jammy'?\n"
    )


def test_misspelt_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert failing(capsys, 3, *OFFLINE, "--set", "disk.sze=8G") == (
        "error: disk.sze: unknown key; in disk these are allowed: size, label\n"
        "  where: --set disk.sze\n"
        "  try: did you mean 'disk.size'?\n"
    )


def test_unknown_element(capsys: pytest.CaptureFixture[str]) -> None:
    assert failing(capsys, 3, *OFFLINE, "--element", "trove-dockr") == (
        "error: there is no element 'trove-dockr'\n"
        f"  where: elements path: {elements_dir()}\n"
        "  try: did you mean 'trove-docker'? --elements-path DIR adds a directory of elements\n"
    )


def test_series_that_the_release_cannot_run(capsys: pytest.CaptureFixture[str]) -> None:
    err = failing(
        capsys, 3, "build", "ubuntu", "jammy", "--offline", "--dry-run", "--trove-series", "2026.2"
    )
    assert "3.10" in err
    assert "2026.1" in err, "the series that fit are not named"


def test_mirror_that_is_not_there(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    keyring = tmp_path / "any.gpg"
    keyring.touch()
    url = closed_port()
    argv = ["build", "debian", "bookworm", "--dry-run", "--mirror", url, "--keyring", str(keyring)]
    assert failing(capsys, 75, *argv) == (
        f"error: cannot reach the package mirror {url}\n"
        f"  where: {url}/dists/bookworm/InRelease\n"
        "  | [Errno 111] Connection refused\n"
        "  try: is the URL right, the host up, a proxy needed (http_proxy)?\n"
    )


def test_keyring_that_did_not_sign(
    capsys: pytest.CaptureFixture[str], signings: tuple[Signing, Signing], tmp_path: Path
) -> None:
    ours, other = signings
    with site(ours, tmp_path, other.public) as argv:
        err = failing(capsys, 3, *argv, "--dry-run").splitlines()
        url = argv[argv.index("--mirror") + 1]
    assert err[:2] == [
        "error: the archive is not signed by a key of the keyring",
        f"  where: {url}/dists/bookworm/InRelease (keyring {tmp_path}/keyring.gpg)",
    ]
    assert "  | Can't check signature: No public key" in err
    assert err[-1] == (
        "  try: say the keyring that belongs to this mirror: --keyring FILE or mirror.keyring"
    )


@pytest.mark.parametrize("option", ["-o", "--artifacts", "--images-dir", "--cache-dir"])
def test_place_that_cannot_be_written(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, option: str
) -> None:
    (tmp_path / "file").touch()
    places = {
        "-o": str(tmp_path / "file/x.qcow2"),
        "--artifacts": str(tmp_path / "file/artifact"),
        "--images-dir": str(tmp_path / "file/images"),
        "--cache-dir": str(tmp_path / "file/cache"),
    }
    parent = {"-o": "file", "--artifacts": "file"}.get(option, f"file/{option[2:].split('-')[0]}")
    named = "--cache-dir (IMAGEBUILD_CACHE_DIR)" if option == "--cache-dir" else option
    assert failing(capsys, 4, "build", "debian", "bookworm", option, places[option]) == (
        "error: cannot write there\n"
        f"  where: {tmp_path / parent}\n"
        f"  | {tmp_path}/file is not a directory that you may write in\n"
        f"  try: choose another place with {named}\n"
    )
    assert everything_below(tmp_path) == ["file"]


def test_artifact_directory_with_something_else_in_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").touch()
    err = failing(capsys, 3, "build", "debian", "bookworm", "--artifacts", str(tmp_path / "mine"))
    assert err.startswith("error: the artifact directory holds something else\n")
    assert everything_below(tmp_path) == ["mine", "mine/thesis.tex"]


@pytest.mark.alone
def test_missing_tools(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in {*BUILD_TOOLS, "sudo"} - {"qemu-img"}:
        (tools / name).symlink_to(which(name) or "/bin/true")
    monkeypatch.setattr("imagebuild.host.run.PATH", str(tools))
    assert failing(capsys, 4, "build", "debian", "bookworm") == (
        "error: 1 program that a build needs is not installed\n"
        "  | qemu-img\n"
        "  try: apt-get install qemu-utils; scripts/imagebuild does it for you\n"
    )
    for name in ("mke2fs", "debugfs", "gpgv"):
        (tools / name).unlink()
    assert failing(capsys, 4, "build", "debian", "bookworm") == (
        "error: 4 programs that a build needs are not installed\n"
        "  | gpgv, mke2fs, debugfs, qemu-img\n"
        "  try: apt-get install e2fsprogs gpgv qemu-utils; scripts/imagebuild does it for you\n"
    )
    assert everything_below(tmp_path) == ["bin", *sorted(f"bin/{p.name}" for p in tools.iterdir())]


def test_expired_mirror_stops_a_build_before_it_begins(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dated = RELEASE.replace(b"SHA256:", b"Valid-Until: Sat, 08 Mar 2025 10:00:00 UTC\nSHA256:")
    monkeypatch.setattr("tests.unit.test_archive.RELEASE", dated)
    with two_signings() as (expired, _), site(expired, tmp_path) as argv:
        err = failing(capsys, 4, *argv).splitlines()
    assert err[0] == "error: 2 things stand in the way"
    assert [x for x in err if "Release file has expired" in x][1].endswith("bookworm-updates")
    known = ("xdg-cache/imagebuild/sources", "xdg-cache/imagebuild/resolved")
    left = [x for x in everything_below(tmp_path) if not x.startswith(known)]
    assert left in (["keyring.gpg"], ["keyring.gpg", "xdg-cache", "xdg-cache/imagebuild"])


def test_too_little_space(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(1 << 40, 0, 3 << 29))  # noqa: ARG005
    cache = tmp_path / "cache"
    assert failing(capsys, 4, "build", "debian", "bookworm", "--cache-dir", str(cache)) == (
        "error: too little space for a build\n"
        f"  where: {cache}\n"
        "  | 1.5 GiB free, 6 GiB needed\n"
        "  try: free some, or choose another place with --cache-dir (IMAGEBUILD_CACHE_DIR)\n"
    )
    assert everything_below(tmp_path) == []


def test_architecture_that_the_host_cannot_run(capsys: pytest.CaptureFixture[str]) -> None:
    foreign, machine = (
        ("arm64", "aarch64") if os.uname().machine == "x86_64" else ("amd64", "x86_64")
    )
    if Path("/proc/sys/fs/binfmt_misc", f"qemu-{machine}").exists():
        pytest.skip("this host runs programs of the other architecture")
    err = failing(capsys, 4, "build", "debian", "bookworm", "--arch", foreign)
    assert err.startswith(f"error: this host cannot run {foreign} programs")


def test_a_provisional_plan_is_not_run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(1 << 40, 0, 1 << 40))  # noqa: ARG005
    cache, images = tmp_path / "cache", tmp_path / "images"
    argv = ["build", "debian", "bookworm", "--offline", "--cache-dir", str(cache)]
    lines = failing(capsys, 4, *argv, "--images-dir", str(images)).splitlines()
    assert "error: the plan is provisional and cannot be run" in lines
    assert any("not resolved: Release file of http://deb.debian.org" in x for x in lines)
    assert lines[-1].startswith("  try: run without --offline")
    assert not images.exists()
    assert [x for x in everything_below(cache) if not x.startswith("logs")] == []


def test_offline_after_online_is_the_same_plan(
    capsys: pytest.CaptureFixture[str], signings: tuple[Signing, Signing], tmp_path: Path
) -> None:
    with site(signings[0], tmp_path) as argv:
        assert run([*argv, "--dry-run", "--json"]) == 0
    online = json.loads(capsys.readouterr().out)
    assert online["remembered"] == []
    assert run([*argv, "--offline", "--dry-run", "--json"]) == 0
    known = json.loads(capsys.readouterr().out)
    release = f"Release file of {argv[argv.index('--mirror') + 1]} bookworm"
    assert [fact["what"] for fact in known["remembered"]] == [release, f"{release}-updates"]
    assert known | {"remembered": []} == online
    assert known["provisional"] is False
    assert run([*argv, "--offline", "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [f"plan for {online['name']}", f"  as of a moment ago: {release}"]


def test_offline_run_of_what_is_known(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the Release file has expired since: nothing is going to be downloaded."""

    def build(plan: Plan, inputs: Inputs, *_: object, **__: object) -> None:
        assert inputs.offline
        raise PolicyError("provisional" if plan.provisional else "it would run")

    dated = RELEASE.replace(b"SHA256:", b"Valid-Until: Sat, 08 Mar 2025 10:00:00 UTC\nSHA256:")
    monkeypatch.setattr("tests.unit.test_archive.RELEASE", dated)
    monkeypatch.setattr("imagebuild.build.build", build)
    with two_signings() as (expired, _), site(expired, tmp_path) as argv:
        assert run([*argv, "--dry-run"]) == 0
    capsys.readouterr()
    lines = failing(capsys, 7, *argv, "--offline").splitlines()
    assert lines[0].startswith("as of a moment ago: Release file of ")
    assert "error: it would run" in lines


def test_keys_from_the_environment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMAGEBUILD_IMAGE_SIZE", "9G")

    def size(*options: str) -> int:
        found: int = planned(capsys, *options)["stages"][2]["parts"][0]["inputs"]["size"]
        return found

    assert size() == 9 << 30
    assert size("--image-size", "7G") == 7 << 30


def test_places_from_the_environment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("IMAGEBUILD_IMAGES_DIR", str(tmp_path / "images"))
    monkeypatch.setenv("IMAGEBUILD_OUTPUT", f"{tmp_path}/a.raw:{tmp_path}/b.qcow2")
    plan = planned(capsys)
    assert plan["outputs"]["artifact"] == f"{tmp_path}/images/{plan['name']}"
    assert plan["outputs"]["places"] == [f"{tmp_path}/a.raw", f"{tmp_path}/b.qcow2"]
    monkeypatch.setenv("IMAGEBUILD_ARTIFACTS", str(tmp_path / "artifact"))
    assert planned(capsys)["outputs"]["artifact"] == str(tmp_path / "artifact")
    monkeypatch.setenv("IMAGEBUILD_CACHE_DIR", str(tmp_path / "c"))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(1, 1, 0))  # noqa: ARG005
    assert f"  where: {tmp_path}/c\n" in failing(capsys, 4, "build", "debian", "bookworm")


def test_switches_from_the_environment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OFFLINE", "DRY_RUN", "JSON"):
        monkeypatch.setenv(f"IMAGEBUILD_{name}", "1")
    assert run(["build", "debian", "bookworm"]) == 0
    assert json.loads(capsys.readouterr().out)["provisional"] is True


def test_help_names_each_option_s_variable(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["build", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    names = ("output", "artifacts", "images-dir", "cache-dir", "dry-run", "offline", "json", "set")
    named = set(re.findall(r"env var: (IMAGEBUILD_[A-Z_]+)", text))
    assert named >= {"IMAGEBUILD_" + name.upper().replace("-", "_") for name in names}
    assert not {n for n in named if n.startswith("IMAGEBUILD_BUILD_")}


@pytest.mark.parametrize(
    ("controller", "password", "said"),
    [
        (
            {"username": "stack", "path": "/opt/stack/trove"}, False,
            "its agent fetches /opt/stack/trove from the controller; let it, there, as stack:\n"
            "  cat '/images/a b/dev/authorized_keys' >> ~/.ssh/authorized_keys\n"
            "warning: this is a dev image, it holds a private key: it must not be published\n",
        ),
        (
            None, True,
            "warning: this is a dev image, it holds root's known password: "
            "it must not be published\n",
        ),
    ],
)  # fmt: skip
def test_a_dev_build_says_what_is_left_to_do(
    capsys: pytest.CaptureFixture[str], controller: object, password: bool, said: str
) -> None:
    dev = {"key_fingerprint": None, "controller": controller, "root_password": password}
    _say_dev(Artifact(Path("/images/a b"), {"dev": dev}))
    assert capsys.readouterr() == ("", said)
