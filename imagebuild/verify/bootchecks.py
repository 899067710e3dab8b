"""What a guest that has settled is asked at the boot level, and how its answers are judged."""

from __future__ import annotations

import hashlib
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from imagebuild.errors import VerifyError
from imagebuild.explain import Scope, explain
from imagebuild.verify import userdata
from imagebuild.verify.causes import cause_of
from imagebuild.verify.guest import CommandResult, Guest
from imagebuild.verify.nic import Nic
from imagebuild.verify.results import Check, Level, Outcome

AGENT_UNIT = "guest-agent.service"
AGENT_PYTHON = "/opt/guest-agent-venv/bin/python"
#: What the agent imports for the datastores of an image; each is a module of Trove's.
AGENT_MODULES = (
    "trove.guestagent.api",
    "trove.guestagent.datastore.manager",
    "trove.guestagent.datastore.mysql.manager",
    "trove.guestagent.datastore.mariadb.manager",
    "trove.guestagent.datastore.postgres.manager",
)
#: Share of the disk that the root filesystem must have: ext4 keeps some for itself, and the
#: boot partitions lie before it.
_SHARE = 0.88

_DATASOURCES = {"config-drive": "DataSourceConfigDrive", "metadata": "DataSourceOpenStack"}


@dataclass(frozen=True)
class Questions:
    """What the answers are judged by. `content` is the manifest's, may be empty; `facts` are
    `Booted.facts`; `level` and `prefix` name the checks.
    """

    guest: Guest
    how: str
    user: str
    user_data: bytes | None
    nics: tuple[Nic, ...]
    facts: Mapping[str, Any]
    content: Mapping[str, Any] = field(default_factory=dict)

    @property
    def prefix(self) -> str:
        """What the checks' names begin with."""
        return f"boot/{self.how}"


@dataclass(frozen=True)
class Finding:
    """An answer before it is a check."""

    outcome: Outcome
    what: str
    evidence: Sequence[str] = ()
    hint: str = ""
    scope: Scope = Scope.BOOT


def ask(questions: Questions) -> Iterator[Check]:
    """Ask everything; a guest that falls silent meanwhile is a finding of that question."""
    for name, question in _QUESTIONS.items():
        started = time.monotonic()
        try:
            finding = question(questions)
        except VerifyError as exc:
            finding = Finding(Outcome.FAILED, exc.what, [exc.where, *exc.detail.splitlines()[-15:]])
        is_bad = finding.outcome in (Outcome.FAILED, Outcome.WARNING)
        yield Check(
            f"{questions.prefix}/{name}",
            Level.BOOT,
            finding.outcome,
            finding.what,
            tuple(line for line in finding.evidence if line),
            finding.hint,
            cause_of("\n".join(finding.evidence), finding.scope) if is_bad else None,
            round(time.monotonic() - started, 1),
        )


def _cloud_init(q: Questions) -> Finding:
    report = (q.facts["cloud_init"] or {}).get("v1") or {}
    errors, source = report.get("errors") or [], str(report.get("datasource"))
    log = "grep -E 'WARNING|ERROR|CRITICAL|Traceback|Error:' /var/log/cloud-init.log | tail -20"
    if not source.startswith(_DATASOURCES[q.how]):
        asked = q.facts.get("metadata_requests")
        never = "; it never asked the metadata service" if asked == [] else ""
        seen = q.guest.run(f"{log}; tail -5 /run/cloud-init/ds-identify.log").out.splitlines()
        return Finding(
            Outcome.FAILED,
            f"cloud-init used {source}, not {_DATASOURCES[q.how]}{never}",
            seen,
            "the image's list of datasources: --datasource ConfigDrive --datasource OpenStack",
        )
    if errors:
        lines = [*map(str, errors), *q.guest.run(log).out.splitlines()]
        return Finding(Outcome.FAILED, f"cloud-init has {len(errors)} errors", lines)
    return Finding(Outcome.PASSED, f"cloud-init is done without errors, with {source}")


def _files(q: Questions) -> Finding:
    wanted = userdata.injected(q.user_data)
    if not wanted:
        return Finding(Outcome.SKIPPED, "the user data bring no files")
    wrong = []
    for file in wanted:
        path = shlex.quote(file.path)
        result = q.guest.run(f"stat -c '%U:%G %a' {path} && sha256sum <{path}")
        if result.rc != 0:
            wrong.append(result.out.strip())
            continue
        state, digest = result.out.splitlines()[:2]
        if state != f"{file.owner} {file.mode}":
            wrong.append(f"{file.path}: {state}, not {file.owner} {file.mode}")
        elif digest.split()[0] != hashlib.sha256(file.content).hexdigest():
            wrong.append(f"{file.path} has another content than the user data")
    if wrong:
        log = q.guest.run("grep -iE 'write.files|Unknown user' /var/log/cloud-init.log | tail -10")
        return Finding(
            Outcome.FAILED,
            f"{len(wrong)} of {len(wanted)} injected files are not as Trove wants them",
            [*wrong, *log.out.splitlines()],
        )
    return Finding(Outcome.PASSED, f"{len(wanted)} injected files are there, with owner and mode")


def _disk(q: Questions) -> Finding:
    size, disk = (
        int(word)
        for word in q.guest.out(
            "df -B1 --output=size / | tail -1; d=$(lsblk -snro NAME,TYPE $(findmnt -no SOURCE /)"
            " | awk '$2 == \"disk\" {print $1}' | tail -1); lsblk -bdno SIZE /dev/$d"
        ).split()
    )
    gib = f"{size / 2**30:.1f} of {disk / 2**30:.1f} GiB"
    if size < _SHARE * disk:
        grow = q.guest.run("grep -iE 'growpart|resizefs|growroot' /var/log/cloud-init.log|tail -8")
        return Finding(
            Outcome.FAILED,
            f"the root filesystem did not grow to the disk: {gib}",
            grow.out.splitlines(),
            "growpart (cloud-guest-utils) and cloud-init's modules growpart and resizefs do it",
        )
    return Finding(Outcome.PASSED, f"the root filesystem fills the disk: {gib}")


def _units(q: Questions) -> Finding:
    """The agent's own unit is not judged here: without a datastore it ends by design."""
    out = q.guest.run("systemctl list-units --failed --plain --no-legend --no-pager").out
    failed = [line.split()[0] for line in out.splitlines() if line.strip()]
    judged = [unit for unit in failed if unit != AGENT_UNIT]
    system = q.guest.run("systemctl is-system-running").out.strip()
    if not judged:
        if system == "running" or (system == "degraded" and failed):
            return Finding(Outcome.PASSED, "no unit has failed")
        return Finding(Outcome.FAILED, f"the system is {system!r}, though no unit has failed")
    lines, symptoms = [], 0
    for unit in judged:
        journal = q.guest.run(f"journalctl -b -o cat --no-pager -n 12 -u {shlex.quote(unit)}").out
        lines += [f"{unit}: {line}" for line in journal.splitlines()]
        found = explain(journal, Scope.BOOT)
        symptoms += bool(found) and found[0].rank.name == "SYMPTOM"
    # What the book calls a symptom is known to do no harm by itself.
    outcome = Outcome.WARNING if symptoms == len(judged) else Outcome.FAILED
    return Finding(outcome, f"failed units: {', '.join(judged)}", lines)


def _docker(q: Questions) -> Finding:
    result = q.guest.run("docker info --format '{{.ServerVersion}} {{.Driver}}'")
    if result.rc != 0:
        more = q.guest.run(
            "systemctl is-enabled docker.service; systemctl is-active docker.service;"
            " journalctl -b -o cat --no-pager -n 25 -u docker.service"
        )
        enabled = more.out.splitlines()[:1]
        hint = "systemctl enable docker" if enabled == ["disabled"] else ""
        lines = [*_lines(result), *more.out.splitlines()]
        return Finding(Outcome.FAILED, "docker does not answer", lines, hint, Scope.AGENT)
    user = q.guest.run(f"sudo -u {shlex.quote(q.user)} docker ps -q")
    if user.rc != 0:
        return Finding(
            Outcome.FAILED,
            f"the guest user {q.user} cannot use docker",
            _lines(user),
            "the agent talks to docker as that user: is it in the group docker?",
        )
    version, _, driver = result.out.strip().partition(" ")
    return Finding(Outcome.PASSED, f"docker {version} answers, with {driver}")


def _network(q: Questions) -> Finding:
    """qemu's DHCP names no router in a network without a way out (seen with qemu 7.2), so
    each default route is of the image's own making, and one too many beside Neutron's.
    """
    out = q.guest.out("ip -4 -br address; echo; ip -4 route show default")
    addresses, _, routes = out.partition("\n\n")
    lines = out.splitlines()
    missing = [n for n in q.nics if f"{n.network.guest}/" not in addresses]
    if missing:
        names = ", ".join(f"{n.role.value} ({n.mac})" for n in missing)
        return Finding(Outcome.FAILED, f"a network card has no address: {names}", lines)
    own = [line for line in routes.splitlines() if line.startswith("default")]
    if own:
        return Finding(
            Outcome.FAILED,
            f"the image brings a default route of its own, {len(own) + 1} with Neutron's",
            lines,
            "the guest's route must come by DHCP alone: look for a gateway in the image's network"
            " configuration",
        )
    return Finding(Outcome.PASSED, "the network has its address, and no default route of its own")


def _user(q: Questions) -> Finding:
    name = shlex.quote(q.user)
    result = q.guest.run(f"id {name}")
    if result.rc != 0:
        return Finding(
            Outcome.FAILED,
            f"there is no guest user {q.user}",
            _lines(result),
            "Trove writes its files as that user: imagebuild build ... --guest-username",
        )
    sudo = q.guest.run(f"sudo -u {name} sudo -n id -u")
    if sudo.out.strip() != "0":
        return Finding(Outcome.FAILED, f"{q.user} cannot use sudo without a password", _lines(sudo))
    taken = q.guest.run("getent passwd 1001").out.strip()
    if taken and not taken.startswith("database:"):
        return Finding(
            Outcome.FAILED,
            "the user id 1001 is taken: the agent needs it for the user database",
            [taken],
            "cloud-init's default user takes it unless it is the guest user",
        )
    return Finding(Outcome.PASSED, f"{q.user} is there, with sudo; the id 1001 is free")


def _agent(q: Questions) -> Finding:
    if q.content.get("dev"):
        return Finding(Outcome.SKIPPED, "a development image has the agent's code from elsewhere")
    code = f"import {', '.join(AGENT_MODULES)}"
    command = f"sudo -u {shlex.quote(q.user)} {AGENT_PYTHON} -c {shlex.quote(code)}"
    result = q.guest.run(command, 60 * q.guest.patience)
    if result.rc != 0:
        return Finding(
            Outcome.FAILED,
            "the agent's code cannot be imported in its venv",
            _lines(result)[-12:],
            scope=Scope.AGENT,
        )
    return Finding(Outcome.PASSED, f"the agent's {len(AGENT_MODULES)} modules can be imported")


def _ssh(q: Questions) -> Finding:
    """The way in over the network: what the guest needs it for is none of Trove's business."""
    if not q.guest.can_ssh:
        return Finding(Outcome.SKIPPED, "this host has no OpenSSH, so nobody tried to log in")
    result = q.guest.run_by_ssh("id -u", 30 * q.guest.patience)
    if result is None or result.out.strip() != "0":
        said = _lines(result) if result else []
        sshd = q.guest.run("journalctl -b -o cat --no-pager -n 8 -u ssh -u sshd").out.splitlines()
        return Finding(
            Outcome.WARNING, f"{q.user} cannot log in with the instance's key", [*said, *sshd]
        )
    return Finding(Outcome.PASSED, f"{q.user} logs in over ssh with the instance's key")


def _lines(result: CommandResult) -> list[str]:
    return result.out.strip().splitlines()


_QUESTIONS: dict[str, Callable[[Questions], Finding]] = {
    "cloud-init": _cloud_init,
    "user": _user,
    "files": _files,
    "disk": _disk,
    "docker": _docker,
    "agent-imports": _agent,
    "ssh": _ssh,
    # Last: what the others set going may have broken them.
    "network": _network,
    "units": _units,
}
