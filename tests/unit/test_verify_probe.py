"""The probe: what travels in the vendor data, run by a real shell, and what is read of it."""

from __future__ import annotations

import base64
import email
import json
import subprocess
import time
from pathlib import Path

import pytest

from imagebuild.host.run import run, spawn
from imagebuild.verify import probe
from imagebuild.verify.argv import PROBE_PORT
from imagebuild.verify.probe import Reports

_UNITS = """\
Id=docker.service
ActiveState=active
ActiveEnterTimestampMonotonic=70000000
ExecMainStartTimestampMonotonic=60000000

Id=guest-agent.service
ActiveState=activating
ActiveEnterTimestampMonotonic=0
ExecMainStartTimestampMonotonic=80500000

Id=ssh.socket
ActiveEnterTimestampMonotonic=0
"""
_SYSTEMCTL = """\
#!/bin/sh
case $1 in
  is-system-running) echo running ;;
  list-units) echo 'x.service loaded failed failed X' ;;
  *) echo UserspaceTimestampMonotonic=5000000 ;;
esac
"""


def hook_of(vendor_data: str) -> str:
    """The boothook that cloud-init would run."""
    message = email.message_from_string(vendor_data)
    (part,) = [p for p in message.walk() if p.get_content_type() == "text/cloud-boothook"]
    body = part.get_payload(decode=True)
    assert isinstance(body, bytes)
    return body.decode()


def report(at: float, name: str, text: str) -> str:
    """A line as the probe writes it."""
    return json.dumps({"t": at, "name": name, "out": base64.b64encode(text.encode()).decode()})


def test_the_probe_starts_once_and_reports_what_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The very shell that the guest runs, with the guest's paths and systemd replaced."""
    port, state, fakes = tmp_path / "port", tmp_path / "state", tmp_path / "bin"
    result = tmp_path / "result.json"
    fakes.mkdir()
    started = tmp_path / "started"
    for name, text in {
        "systemctl": _SYSTEMCTL,
        "systemd-run": f'#!/bin/sh\necho "$*" >>{started}\n',
    }.items():
        (fakes / name).write_text(text)
        (fakes / name).chmod(0o755)
    port.touch()
    result.write_text('{"v1": {"errors": []}}\n')
    monkeypatch.setattr(probe, "DIRECTORY", str(state))
    hook = hook_of(probe.vendor_data())
    assert hook.startswith("#cloud-boothook\n")
    env = {"PATH": f"{fakes}:/usr/sbin:/usr/bin:/sbin:/bin"}
    for _ in range(2):  # cloud-init may run a boothook more than once in a boot
        run(["sh", "-c", hook], env=env)
    units = started.read_text().splitlines()
    assert [u.split()[1] for u in units] == ["--unit=imagebuild-probe", "--unit=imagebuild-shell"]
    assert all("DefaultDependencies=no" in unit for unit in units)
    script = (state / "probe.sh").read_text()
    moved = script.replace(f"/dev/virtio-ports/{PROBE_PORT}", str(port)).replace(
        "/run/cloud-init/result.json", str(result)
    )
    reports = Reports(port)
    with spawn(["sh", "-c", moved.replace("sleep 2", "sleep 0.1")], env=env) as process:
        try:
            deadline = time.monotonic() + 20
            while "alive" not in reports.latest:
                assert time.monotonic() < deadline, port.read_text()
                time.sleep(0.1)
                reports.read(100.0)
        finally:
            process.kill()
    assert reports.cloud_init == {"v1": {"errors": []}}
    assert reports.system == "running"
    assert reports.failed == ["x.service"]
    # Nothing has changed after the first look, so nothing but "alive" was said again.
    said = [json.loads(line)["name"] for line in port.read_text().splitlines()]
    assert said[:6] == ["start", "manager", "units", "cloud-init", "failed", "system"]
    assert set(said[6:]) <= {"alive"}


def test_times_are_the_guests_own(tmp_path: Path) -> None:
    """However late the host reads: the report that came soonest tells the clocks apart."""
    reports = Reports(tmp_path / "probe.jsonl")
    assert not reports.read(1.0)
    lines = [report(50.0, "start", "6.1\n"), report(50.5, "manager", "UserspaceTimestamp"
             "Monotonic=5000000\n")]  # fmt: skip
    reports.path.write_text("\n".join(lines) + "\n")
    assert reports.read(64.0)
    assert reports.first("start") == 63.5
    with reports.path.open("a") as file:
        file.write(report(90.0, "units", _UNITS) + "\n" + report(95.0, "system", "running"))
    reports.read(93.0)
    assert reports.offset == 3.0
    assert reports.started == {"systemd": 8.0, "docker.service": 73.0, "guest-agent.service": 83.5}
    assert reports.system == ""  # its line is not complete
    with reports.path.open("a") as file:
        file.write("\n")
    reports.read(99.0)
    assert reports.started["settled"] == 98.0
    assert reports.heard == 99.0


def test_a_later_start_of_a_unit_changes_nothing(tmp_path: Path) -> None:
    reports = Reports(tmp_path / "probe.jsonl")
    lines = [report(at, "units", _UNITS.replace("80500000", str(at * 1000000))) for at in (82, 95)]
    reports.path.write_text("\n".join(lines) + "\n")
    reports.read(95.0)
    assert reports.started["guest-agent.service"] == 82.0


def test_the_shells_loop_is_a_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "DIRECTORY", str(tmp_path))
    for line in hook_of(probe.vendor_data()).splitlines():
        if line.startswith("echo "):
            script = base64.b64decode(line.split()[1])
            done = subprocess.run(["sh", "-n"], input=script, capture_output=True, check=False)
            assert (done.returncode, done.stderr) == (0, b"")
