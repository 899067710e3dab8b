"""diskimage-builder's log, elements and processes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from imagebuild import dib
from imagebuild.digest import of_directory
from imagebuild.errors import BuildError, ConfigError
from imagebuild.events import Event, Output, StepFinished, StepStarted
from imagebuild.host.run import base_env, run

TWO_HOOKS = """\
2025-03-01 building
dib-run-parts Sourcing environment file /tmp/b/hooks/install.d/../environment.d/10-x.bash
dib-run-parts Running /tmp/b/hooks/install.d/10-first
+ apt-get install
Setting up foo
dib-run-parts 10-first completed
dib-run-parts Running /tmp/b/hooks/post-install.d/50-second
done
dib-run-parts 50-second completed
Build completed successfully
"""

FAILING = """\
dib-run-parts Running /tmp/b/hooks/install.d/10-first
this one went well
dib-run-parts 10-first completed
dib-run-parts Running /tmp/b/hooks/install.d/20-agent
+ set -e
Selecting previously unselected package foo.
(Reading database ... 5%
Collecting trove

E: Unable to locate package foo
*** /tmp/b/mnt is not a directory
sudo: something of the clean-up
"""


@pytest.fixture
def seen() -> list[Event]:
    return []


@pytest.fixture
def log(seen: list[Event]) -> dib.HookLog:
    return dib.HookLog("base", seen.append)


def feed(log: dib.HookLog, text: str) -> None:
    for line in text.splitlines():
        log.feed(line)


def steps(seen: list[Event]) -> list[Event]:
    return [e for e in seen if not isinstance(e, Output)]


def make_element(
    root: Path, name: str, *, deps: str = "", provides: str = "", hook: str = ""
) -> Path:
    path = root / name
    path.mkdir(parents=True)
    (path / "README.md").write_text(f"# {name}\n")
    if deps:
        (path / "element-deps").write_text(deps)
    if provides:
        (path / "element-provides").write_text(provides)
    if hook:
        file = path / hook
        file.parent.mkdir()
        file.write_text("#!/bin/bash\n")
        file.chmod(0o755)
    return path


def test_hooks_become_events(
    log: dib.HookLog, seen: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([100.0, 101.5, 102.0, 162.25])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    feed(log, TWO_HOOKS)
    assert steps(seen) == [
        StepStarted("base", "install", "10-first"),
        StepFinished("base", "install", "10-first", 1.5),
        StepStarted("base", "post-install", "50-second"),
        StepFinished("base", "post-install", "50-second", 60.25),
    ]
    assert log.timing == [("install", "10-first", 1.5), ("post-install", "50-second", 60.25)]
    assert [e.line for e in seen if isinstance(e, Output)] == TWO_HOOKS.splitlines()


def test_a_hook_that_swallows_its_own_end_is_ended_by_the_next(
    log: dib.HookLog, seen: list[Event]
) -> None:
    swallowed = TWO_HOOKS.replace("foo\ndib-run-parts 10-first", "foodib-run-parts 10-first")
    feed(log, swallowed)
    assert [(type(e).__name__, e.name) for e in steps(seen) if hasattr(e, "name")] == [
        ("StepStarted", "10-first"),
        ("StepFinished", "10-first"),
        ("StepStarted", "50-second"),
        ("StepFinished", "50-second"),
    ]


def test_dib_s_own_runner_writes_what_is_read(
    log: dib.HookLog, seen: list[Event], tmp_path: Path
) -> None:
    """The program that runs the hooks, from the installed diskimage-builder."""
    hooks = tmp_path / "install.d"
    hooks.mkdir()
    for name, body in (("10-good", "echo fine"), ("20_bad", "echo no such thing >&2; exit 3")):
        (hooks / name).write_text(f"#!/bin/sh\n{body}\n")
        (hooks / name).chmod(0o755)
    runner = dib.own_elements_path().parent / "lib/dib-run-parts"
    argv = ["/bin/sh", "-c", 'exec "$0" "$1" 2>&1', str(runner), str(hooks)]
    done = run(argv, env=base_env(TMPDIR=str(tmp_path)), check=False)
    feed(log, done.stdout.decode())
    assert done.returncode != 0
    assert [type(e).__name__ for e in steps(seen)] == ["StepStarted", "StepFinished", "StepStarted"]
    assert [(phase, hook) for phase, hook, _ in log.timing] == [("install", "10-good")]
    error = log.failure([("mine", tmp_path)], 3)
    assert error.what == "element mine: hook install.d/20_bad failed"
    assert error.detail.splitlines()[0] == "no such thing"


def test_the_failing_hook_its_element_and_its_last_lines(log: dib.HookLog, tmp_path: Path) -> None:
    first = make_element(tmp_path, "first", hook="install.d/10-first")
    other = make_element(tmp_path, "other", hook="install.d/30-agent")
    agent = make_element(tmp_path, "agent", hook="install.d/20-agent")
    feed(log, FAILING)
    error = log.failure([("first", first), ("other", other), ("agent", agent)], 1)
    assert error.what == "element agent: hook install.d/20-agent failed"
    assert error.where == "stage base"
    assert error.detail == "Collecting trove\nE: Unable to locate package foo"


def test_only_the_last_lines_are_shown(log: dib.HookLog) -> None:
    log.feed("dib-run-parts Running /tmp/b/hooks/install.d/20-agent")
    feed(log, "\n".join(f"line {n}" for n in range(1000)))
    error = log.failure([], 1)
    assert error.what == "element ?: hook install.d/20-agent failed"
    assert error.detail.splitlines() == [f"line {n}" for n in range(985, 1000)]


def test_failure_outside_a_hook(log: dib.HookLog) -> None:
    feed(log, "dib-run-parts Running /tmp/x/install.d/10-a\nold\ndib-run-parts 10-a completed")
    feed(log, "+ trace\nmmdebstrap: no such suite")
    error = log.failure([], 25)
    assert error.what == "diskimage-builder failed with status 25"
    assert error.detail == "mmdebstrap: no such suite"


def test_elements_with_what_they_depend_on(tmp_path: Path) -> None:
    site, ours = tmp_path / "site", tmp_path / "ours"
    system = make_element(ours, "my-system", provides="operating-system\n", deps="my-part\n")
    part = make_element(ours, "my-part", deps="package-installs\n")
    make_element(ours, "not-asked-for")
    # One of DIB's own, and one of ours, replaced by a directory that comes first.
    override = make_element(site, "package-installs")
    part_override = make_element(site, "my-part", deps="package-installs\n", hook="root.d/10-x")
    found = dib.find_elements(["my-system"], [site, ours])
    assert found == (
        dib.Element("my-part", part_override, of_directory(part_override)),
        dib.Element("my-system", system, of_directory(system)),
        dib.Element("package-installs", override, of_directory(override)),
    )
    found = dib.find_elements(["my-system"], [ours])
    paths = {e.name: e.path for e in found}
    assert paths["my-part"] == part
    assert paths["package-installs"] == (dib.own_elements_path() / "package-installs").resolve()


def test_a_missing_element_names_the_nearest(tmp_path: Path) -> None:
    make_element(tmp_path, "my-system", provides="operating-system\n")
    make_element(tmp_path, "database-tuning")
    with pytest.raises(ConfigError) as caught:
        dib.find_elements(["my-system", "databse-tuning"], [tmp_path])
    assert caught.value.what == "there is no element 'databse-tuning'"
    assert caught.value.where == f"elements path: {tmp_path}"
    assert caught.value.hint == (
        "did you mean 'database-tuning'? --elements-path DIR adds a directory of elements"
    )


@pytest.mark.parametrize(
    "break_it",
    [
        lambda root: make_element(root, "second", provides="operating-system\n"),
        lambda root: (root / "second").write_text("a file is no element"),
    ],
    ids=["provided twice", "not there"],
)
def test_elements_that_do_not_fit(tmp_path: Path, break_it: Callable[[Path], object]) -> None:
    make_element(tmp_path, "my-system", provides="operating-system\n")
    break_it(tmp_path)
    with pytest.raises(ConfigError) as caught:
        dib.find_elements(["my-system", "second"], [tmp_path])
    assert caught.value.exit_code == 3
    assert caught.value.hint


def test_a_directory_of_elements_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        dib.find_elements(["package-installs"], [tmp_path / "none"])
    assert str(tmp_path / "none") in caught.value.detail


def test_arguments() -> None:
    assert dib.arguments(["one", "two"], "arm64") == (
        "disk-image-create", "-n", "-a", "arm64", "-t", "raw", "-o", "{scratch}/image",
        "--no-tmpfs", "--image-cache", "{cache}/dib", "one", "two", "no-final-image",
    )  # fmt: skip


def fake(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Put a Python program in the place of disk-image-create."""
    monkeypatch.setattr(dib, "_ENTRY", code)


def test_run_gives_arguments_environment_and_times(
    monkeypatch: pytest.MonkeyPatch, seen: list[Event]
) -> None:
    monkeypatch.setenv("CANARY", "alive")
    fake(
        monkeypatch,
        f"import os, sys; print({TWO_HOOKS!r}, end='')\n"
        "print(sys.argv[1:], os.environ.get('ONE'), os.environ.get('CANARY'), sys.stdin.read())\n"
        "print('no newline at the end', end='', file=sys.stderr)",
    )
    timing = dib.run(
        "base", ["disk-image-create", "-a", "x"], base_env(ONE="1"), [], seen.append, None
    )
    assert [(phase, hook) for phase, hook, _ in timing] == [
        ("install", "10-first"),
        ("post-install", "50-second"),
    ]
    lines = [e.line for e in seen if isinstance(e, Output)]
    assert "['-a', 'x'] 1 None " in lines
    assert "no newline at the end" in lines


def test_run_raises_what_failed(
    monkeypatch: pytest.MonkeyPatch, seen: list[Event], tmp_path: Path
) -> None:
    agent = make_element(tmp_path, "agent", hook="install.d/20-agent")
    fake(monkeypatch, f"import sys; print({FAILING!r}, end=''); sys.exit(1)")
    with pytest.raises(BuildError, match=r"element agent: hook install\.d/20-agent failed"):
        dib.run("agent", ["disk-image-create"], base_env(), [("agent", agent)], seen.append, None)


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


def test_the_time_limit_ends_every_process(
    monkeypatch: pytest.MonkeyPatch, seen: list[Event]
) -> None:
    fake(
        monkeypatch,
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1000)'])\n"
        "print('dib-run-parts Running /tmp/b/hooks/install.d/50-slow')\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(1000)\n",
    )
    started = time.monotonic()
    with pytest.raises(BuildError) as caught:
        dib.run("base", ["disk-image-create"], base_env(), [], seen.append, started + 1.5)
    assert time.monotonic() - started < 10
    assert caught.value.what == "stage base took longer than its limit"
    assert caught.value.where == "in hook install.d/50-slow"
    assert caught.value.hint == "--timeout base=DURATION raises the limit, base=none lifts it"
    child = int(caught.value.detail)
    limit = time.monotonic() + 5
    while is_running(child) and time.monotonic() < limit:
        time.sleep(0.02)
    assert not is_running(child)


def test_version_is_the_installed_one() -> None:
    done = run([sys.executable, "-m", "pip", "show", "diskimage-builder"], check=False)
    if done.returncode != 0:
        pytest.skip("no pip beside this Python to compare with")
    assert f"Version: {dib.version()}".encode() in done.stdout.splitlines()
