"""How a guest's answers are judged: a healthy one, and one thing wrong at a time."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from imagebuild.verify import userdata
from imagebuild.verify.bootchecks import Questions, ask
from imagebuild.verify.guest import CommandResult, Guest, GuestSilentError
from imagebuild.verify.nic import ONE_NIC, TWO_NICS
from imagebuild.verify.results import Check, Outcome
from imagebuild.verify.userdata import TroveUserData
from tests.unit.verify_machine import stand_in

USER_DATA = TroveUserData().render()
(FILE,) = userdata.injected(USER_DATA)
STAT = f"ubuntu:root 644\n{hashlib.sha256(FILE.content).hexdigest()}  -\n"
SOURCE = "DataSourceOpenStackLocal [net,ver=2]"

#: What a command says that matches a pattern; the first match counts.
HEALTHY = {
    "stat -c": (0, STAT),
    "df -B1": (0, f"{97 << 27}\n{10 << 30}\n"),
    "--failed": (0, ""),
    "is-system-running": (0, "running\n"),
    "docker info": (0, "20.10.24 overlay2\n"),
    "docker ps": (0, ""),
    "-br address": (0, "lo UNKNOWN 127.0.0.1/8\nens4 UP 168.0.0.15/6\n\n"),
    "sudo -n id": (0, "0\n"),
    "^id ubuntu": (0, "uid=1000(ubuntu)\n"),
    "getent passwd 1001": (2, ""),
    "import trove": (0, ""),
    "^ssh id -u": (0, "0\n"),
}


class Scripted(Guest):
    """A guest that says what it is told to say."""

    answers: Mapping[str, tuple[int, str]] = HEALTHY

    @property
    def can_ssh(self) -> bool:
        return True

    def run(self, command: str, timeout: float | None = None) -> CommandResult:  # noqa: ARG002
        for pattern, (status, out) in self.answers.items():
            if re.search(pattern, command):
                return CommandResult(status, out)
        return CommandResult(0, "")

    def run_by_ssh(self, command: str, limit: float) -> CommandResult | None:  # noqa: ARG002
        result = self.run(f"ssh {command}")
        return None if result.rc == 255 else result


def asked(
    tmp_path: Path,
    answers: Mapping[str, tuple[int, str]] | None = None,
    **more: Any,  # noqa: ANN401 - fields of Questions
) -> dict[str, Check]:
    """Name of the question -> its check, of a guest that is healthy but for `answers`."""
    facts = {"cloud_init": {"v1": {"datasource": SOURCE, "errors": []}}, "metadata_requests": ["/"]}
    fields: dict[str, Any] = {
        "how": "metadata", "user": "ubuntu", "user_data": USER_DATA, "nics": ONE_NIC,
        "facts": facts, "content": {},
    }  # fmt: skip
    with stand_in(tmp_path) as machine:
        guest = Scripted(machine)
        given = answers or {}
        guest.answers = {**given, **{k: v for k, v in HEALTHY.items() if k not in given}}
        checks = list(ask(Questions(guest=guest, **(fields | more))))
    return {c.name.removeprefix(f"boot/{(fields | more)['how']}/"): c for c in checks}


def unmet(checks: Mapping[str, Check]) -> dict[str, Outcome]:
    return {n: c.outcome for n, c in checks.items() if c.outcome is not Outcome.PASSED}


def test_a_healthy_guest_passes_everything(tmp_path: Path) -> None:
    checks = asked(tmp_path)
    assert unmet(checks) == {}
    assert all(c.seconds is not None for c in checks.values())
    assert SOURCE in checks["cloud-init"].what


_UNIT = "x.service loaded failed failed X\n"
_LOADER = "trove-image-loader.service: Failed to load environment files: No such file\n"
_TWO = "ens4 UP 168.0.0.15/6\n\ndefault via 168.0.0.2 dev ens4\n"


@pytest.mark.parametrize(
    ("answers", "name", "outcome", "what"),
    [
        ({"stat -c": (1, "stat: cannot statx '/etc'")}, "files", Outcome.FAILED, "1 of 1"),
        ({"stat -c": (0, STAT.replace("ubuntu", "root"))}, "files", Outcome.FAILED, "1 of 1"),
        ({"stat -c": (0, STAT.replace("644", "600"))}, "files", Outcome.FAILED, "1 of 1"),
        ({"stat -c": (0, "ubuntu:root 644\n0000  -\n")}, "files", Outcome.FAILED, "1 of 1"),
        ({"df -B1": (0, f"{5 << 30} {10 << 30}")}, "disk", Outcome.FAILED, "5.0 of 10.0 GiB"),
        ({"--failed": (0, _UNIT)}, "units", Outcome.FAILED, "x.service"),
        ({"--failed": (0, _UNIT), "journalctl": (0, _LOADER)}, "units", Outcome.WARNING, "x.serv"),
        ({"is-system-running": (1, "starting")}, "units", Outcome.FAILED, "'starting'"),
        ({"docker info": (1, "Cannot connect"), "is-enabled": (0, "disabled\n")},
         "docker", Outcome.FAILED, "does not answer"),
        ({"docker ps": (1, "permission denied")}, "docker", Outcome.FAILED, "ubuntu cannot use"),
        ({"address": (0, "lo UNKNOWN\n\n")}, "network", Outcome.FAILED, "management"),
        ({"address": (0, _TWO)}, "network", Outcome.FAILED, "2 with Neutron's"),
        ({"^id ubuntu": (1, "no such user")}, "user", Outcome.FAILED, "no guest user"),
        ({"sudo -n id": (1, "a password is required")}, "user", Outcome.FAILED, "sudo"),
        ({"getent": (0, "debian:x:1001:1001::/:/bin/sh")}, "user", Outcome.FAILED, "1001"),
        ({"import trove": (1, "ModuleNotFoundError: No module named 'docker'")},
         "agent-imports", Outcome.FAILED, "cannot be imported"),
        ({"^ssh": (255, "")}, "ssh", Outcome.WARNING, "cannot log in"),
    ],
)  # fmt: skip
def test_each_fault_is_found_by_its_own_question(
    tmp_path: Path, answers: Mapping[str, tuple[int, str]], name: str, outcome: Outcome, what: str
) -> None:
    checks = asked(tmp_path, answers)
    assert unmet(checks) == {name: outcome}
    assert what in checks[name].what


def test_a_unit_that_is_down_for_want_of_a_datastore_is_not_judged(tmp_path: Path) -> None:
    failed = "guest-agent.service loaded failed failed Agent\n"
    assert unmet(asked(tmp_path, {"--failed": (0, failed), "is-system": (1, "degraded")})) == {}


def test_the_database_user_may_have_its_id_already(tmp_path: Path) -> None:
    assert unmet(asked(tmp_path, {"getent": (0, "database:x:1001:1001::/:/bin/sh")})) == {}


def test_a_disabled_docker_is_advised_upon(tmp_path: Path) -> None:
    checks = asked(tmp_path, {"docker info": (1, "x"), "is-enabled": (0, "disabled\ninactive\n")})
    assert checks["docker"].hint == "systemctl enable docker"


def test_the_other_datasource_is_not_the_one_that_was_offered(tmp_path: Path) -> None:
    facts = {"cloud_init": {"v1": {"datasource": "DataSourceNone", "errors": []}},
             "metadata_requests": []}  # fmt: skip
    log = "2026-01-01 WARNING]: Used fallback datasource\n"
    (check,) = [asked(tmp_path, {"cloud-init.log": (0, log)}, facts=facts)["cloud-init"]]
    assert check.outcome is Outcome.FAILED
    assert "never asked" in check.what
    assert check.cause is not None
    assert check.cause.id == "cloud-init-no-datasource"
    assert asked(tmp_path, how="config-drive")["cloud-init"].outcome is Outcome.FAILED


def test_errors_of_cloud_init_are_shown_with_their_cause(tmp_path: Path) -> None:
    errors = ["Unknown user or group: \"getpwnam(): name not found: 'ubuntu'\""]
    facts = {"cloud_init": {"v1": {"datasource": SOURCE, "errors": errors}}}
    check = asked(tmp_path, facts=facts)["cloud-init"]
    assert check.outcome is Outcome.FAILED
    assert errors[0] in check.evidence
    assert check.cause is not None
    assert check.cause.id == "injected-owner-missing"


def test_each_card_must_have_its_address(tmp_path: Path) -> None:
    check = asked(tmp_path, nics=TWO_NICS)["network"]
    assert "user (fa:16:3e:00:00:02)" in check.what


def test_what_cannot_be_asked_is_skipped(tmp_path: Path) -> None:
    checks = asked(tmp_path, user_data=None, content={"dev": True})
    assert unmet(checks) == {"files": Outcome.SKIPPED, "agent-imports": Outcome.SKIPPED}


def test_a_guest_that_falls_silent_fails_that_question_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = Scripted.run

    def run(guest: Scripted, command: str, timeout: float | None = None) -> CommandResult:
        if "docker" in command:
            raise GuestSilentError("the guest does not answer", detail="the root shell is mute")
        return usual(guest, command, timeout)

    monkeypatch.setattr(Scripted, "run", run)
    checks = asked(tmp_path)
    assert unmet(checks) == {"docker": Outcome.FAILED}
    assert "the root shell is mute" in checks["docker"].evidence
