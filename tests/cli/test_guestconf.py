"""`imagebuild config`: its output is contract."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import pytest

from imagebuild.cli.backupimage import build
from imagebuild.cli.guestconf import COMMANDS, config
from imagebuild.cli.mirror import mirror

ROOT = Path(__file__).resolve().parents[2]
HOST = "10.0.0.5:4000"
IMAGES = (
    f"--image=mysql={HOST}/trove/mysql",
    f"--backup-image=mysql={HOST}/trove/db-backup-mysql",
)
HEAVY = """
import sys
from imagebuild.cli.main import run
code = run(["config", *sys.argv[1:], "--help"])
heavy = {"openstack", "keystoneauth1", "rich", "requests", "pydantic", "yaml"} & set(sys.modules)
sys.exit(f"loaded: {sorted(heavy)}" if heavy else code)
"""


def run(
    *argv: str, env: Mapping[str, str] | None = None, code: int = 0, program: str = ""
) -> subprocess.CompletedProcess[str]:
    """A process of its own: it sees nothing of what other tests change."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("IMAGEBUILD_")}
    words = ["-c", program] if program else ["-m", "imagebuild", "--no-color", "config"]
    done = subprocess.run(
        [sys.executable, *words, *argv],
        env=kept | {"PYTHONPATH": str(ROOT)} | dict(env or {}),
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def run_json(*argv: str, code: int = 0, env: Mapping[str, str] | None = None) -> Any:  # noqa: ANN401
    document = json.loads(run(*argv, "--json", code=code, env=env).stdout)
    assert document["schema_version"] == 1
    return document


@pytest.mark.parametrize("name", ["", *sorted(COMMANDS)])
def test_help_is_quick(name: str) -> None:
    done = run(*filter(None, [name]), program=HEAVY)
    assert done.stdout.startswith(f"Usage: imagebuild config {name}".rstrip())
    assert not name or "Example: imagebuild config" in done.stdout


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_option_has_its_variable(name: str) -> None:
    command = config.get_command(click.Context(config), name)
    assert command
    options = [p for p in command.params if isinstance(p, click.Option)]
    assert len(options) > 3
    assert len({o.envvar for o in options}) == len(options)
    for option in options:
        assert str(option.envvar).startswith("IMAGEBUILD_"), option.name
        assert option.show_envvar, option.name
        assert option.help, option.name


def test_what_verbs_share_goes_by_one_variable() -> None:
    """--image, --output and --as are of different things; the rest is said once for all."""
    commands: list[click.Command | None] = [build]
    for group in (config, mirror):
        context = click.Context(group)
        commands += [group.get_command(context, name) for name in group.list_commands(context)]
    variables: dict[str, set[object]] = {}
    for option in (p for c in commands if c for p in c.params if isinstance(p, click.Option)):
        variables.setdefault(max(option.opts, key=len), set()).add(option.envvar)
    several = {name for name, found in variables.items() if len(found) > 1}
    assert several == {"--as", "--ca", "--image", "--output", "--target"}
    assert variables["--control-plane-series"] == {"IMAGEBUILD_CONTROL_PLANE_SERIES"}
    assert variables["--trove-series"] == {"IMAGEBUILD_TROVE_SERIES"}  # of what is built


def test_render_prints() -> None:
    done = run("render", *IMAGES, "--insecure-registry", HOST)
    assert done.stdout == (
        "# ---- /etc/trove/trove.conf\n"
        "# Made by imagebuild config render: for the control plane\n\n"
        f"[DEFAULT]\ndocker_insecure_registries = {HOST}\n\n"
        "# ---- /etc/trove/trove-guestagent.conf\n"
        "# Made by imagebuild config render: Trove puts it into every new guest\n\n"
        f"[mysql]\ndocker_image = {HOST}/trove/mysql\n"
        f"backup_docker_image = {HOST}/trove/db-backup-mysql\n"
    )
    assert done.stderr == ""


def test_render_takes_the_shipped_list() -> None:
    document = run_json(
        "render", "--mirror=trove", f"--target=http://{HOST}/t", "--layout=kolla-ansible"
    )
    assert [f["path"] for f in document["files"]] == ["trove.conf", "trove/trove-guestagent.conf"]
    control, guest = (f["text"] for f in document["files"])
    assert f"docker_insecure_registries = {HOST}\n" in control
    for manager in ("mysql", "mariadb", "postgresql"):
        assert f"[{manager}]\ndocker_image = {HOST}/t/" in guest
        assert f"backup_docker_image = {HOST}/t/db-backup-{manager}\n" in guest


def test_render_writes_and_says_what(tmp_path: Path) -> None:
    out = tmp_path / "out"
    argv = ("render", *IMAGES, f"--output={out}")
    planned = run(*argv, "--dry-run")
    assert planned.stdout == f"{out}/trove-guestagent.conf: new\n"
    assert "nothing was written" in planned.stderr
    assert not out.exists()
    assert run(*argv).stdout == f"{out}/trove-guestagent.conf: new\n"
    assert run(*argv).stdout == f"{out}/trove-guestagent.conf: as it was\n"
    assert run("check", str(out / "trove-guestagent.conf")).stdout == ""
    (out / "trove-guestagent.conf").write_text("[mysql]\n")
    refused = run(*argv, code=3)
    assert "it is not ours" in refused.stderr
    assert (out / "trove-guestagent.conf").read_text() == "[mysql]\n"


def test_secrets_are_written_when_asked_for(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("s3cret\n")
    env = {"BUS": "rabbit://trove:hush@10.0.0.1:5672/trove"}
    argv = ("render", *IMAGES, "--registry-username=puller",
            f"--registry-password-file={password}", "--transport-url-env=BUS")  # fmt: skip
    hidden = run(*argv, env=env)
    assert "s3cret" not in hidden.stdout + hidden.stderr
    assert "hush" not in hidden.stdout + hidden.stderr
    assert "rabbit://trove:@trove_guest_transport_password@@10.0.0.1:5672/trove" in hidden.stdout
    assert "network_isolation" in hidden.stderr
    assert "s3cret" not in json.dumps(run_json(*argv, env=env))
    run(*argv, "--with-secrets", f"--output={tmp_path}", env=env)
    path = tmp_path / "trove-guestagent.conf"
    text = path.read_text()
    assert "container_registry_password = s3cret\n" in text
    assert "transport_url = rabbit://trove:hush@10.0.0.1:5672/trove\n" in text
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        ((), 2, "no image is named"),
        ((), 2, "that say their `datastore`"),
        (("--image=redis=a/b",), 2, "a datastore and its image are expected"),
        (("--image=mysql=a/b:8.4",), 3, "it has a tag"),
        (("--target=a/b", "--image=mysql=a/b"), 2, "--target belongs to --mirror"),
        (("--mirror=nonesuch",), 3, "nonesuch"),
        ((*IMAGES, "--registry-password-env=NONESUCH", "--registry-username=a"), 3, "NONESUCH"),
        ((*IMAGES, "--registry-password-file=/dev/null", "--registry-username=a"), 3, "password"),
        ((*IMAGES, "--registry-username=a", "--with-secrets"), 2, "trove_registry_password"),
        ((*IMAGES, "--control-plane-series=2019.1"), 3, "no Trove series is called 2019.1"),
        ((*IMAGES, "--layout=puppet"), 2, "puppet"),
        ((*IMAGES, "--docker-bridge=1.2.3.4"), 3, "bridge"),
    ],
)
def test_render_refuses(argv: tuple[str, ...], code: int, said: str) -> None:
    done = run("render", *argv, code=code)
    assert said in done.stderr
    assert done.stdout == ""


def test_check_says_all(tmp_path: Path) -> None:
    guest = tmp_path / "trove-guestagent.conf"
    guest.write_text(f"[postgres]\ndocker_image = {HOST}/p\n[mysql]\ndocker_image = {HOST}/m:8\n")
    done = run("check", str(guest), code=3)
    assert done.stdout == (
        f"{guest}:1: mistake: [postgres]: Trove has no group [postgres]: it reads nothing of this\n"
        "    why: the datastore's images stay postgres of Docker Hub, and backups fail\n"
        "    try: call it [postgresql]\n"
        f"{guest}:4: mistake: [mysql] docker_image: '{HOST}/m:8' cannot be used: it has a tag, "
        "and Trove appends :VERSION to it: that is no image's name\n"
        f"    try: write {HOST}/m\n"
        f"{guest}:4: mistake: [mysql] backup_docker_image: the image for backups is not defined\n"
        "    why: Trove has no default for it: backups fail with 'Backup image was not defined'\n"
        "    try: set backup_docker_image in [mysql]\n"
    )
    assert done.stderr == f"{guest} (guest): 3 mistakes, no warnings\n"
    document = run_json("check", str(guest), code=3)
    assert document["valid"] is False
    assert document["files"] == [{"path": str(guest), "read_by": "guest"}]
    assert [(f["file"], f["line"], f["severity"]) for f in document["findings"]] == [
        (str(guest), 1, "mistake"), (str(guest), 4, "mistake"), (str(guest), 4, "mistake"),
    ]  # fmt: skip


def test_warnings_do_not_fail(tmp_path: Path) -> None:
    control = tmp_path / "trove.conf"
    control.write_text("[DEFAULT]\nzzz = 1\n")
    assert "trove.conf:2: warning: [DEFAULT] zzz:" in run("check", str(control)).stdout
    assert run_json("check", str(control))["valid"] is True
    guest = run("check", "--as=guest", str(control))
    assert "(guest): no mistakes, 2 warnings" in guest.stderr


def test_files_that_are_not_there(tmp_path: Path) -> None:
    done = run("check", str(tmp_path / "trove.conf"), code=3)
    assert "cannot be read" in done.stderr
    assert "is no datastore version" in run(
        "check", "/dev/null", "--datastore=mysql", code=2
    ).stderr  # fmt: skip
