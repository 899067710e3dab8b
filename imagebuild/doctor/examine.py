"""All checks in their order, run on a host; and the error that a build stops with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from imagebuild.doctor import accounts, machine, mirror, network, programs, rights, storage
from imagebuild.doctor.check import Check, Finding, Level, Report, Result, Subject, skipped
from imagebuild.doctor.host import Host
from imagebuild.doctor.packages import install_command
from imagebuild.errors import PreflightError

CHECKS: tuple[Check, ...] = (
    *programs.CHECKS,
    *rights.CHECKS,
    *machine.CHECKS,
    *storage.CHECKS,
    *network.CHECKS,
    *mirror.CHECKS,
    *accounts.CHECKS,
)


def examine(
    host: Host, subject: Subject, *, ask_network: bool, checks: Sequence[Check] = CHECKS
) -> Report:
    """Run the checks that the subject's needs call for. Nothing on the host is changed.

    Without `ask_network`, no other machine is asked: those checks are left out as skipped.
    """
    results = []
    for check in checks:
        if not check.needed_for & subject.needs:
            continue
        if check.network and not ask_network:
            findings: tuple[Finding, ...] = (skipped(f"{check.examines}: not asked, offline"),)
        else:
            findings = tuple(check.examine(host, subject))
        results.append(Result(check, findings))
    return Report(tuple(results), subject.needs)


def remedies(host: Host, findings: Iterable[Finding]) -> list[str]:
    """Commands that mend the findings: one for all packages, then the others, each once."""
    findings = list(findings)
    names = [name for f in findings for name in f.install]
    commands = [install_command(names, host.family, is_root=host.is_root)] if names else []
    commands += [sudo(host, c) for f in findings for c in f.run]
    return list(dict.fromkeys(commands))


def remedy(host: Host, finding: Finding) -> str:
    """What mends one finding: its commands, then words."""
    return "; ".join([*remedies(host, [finding]), *filter(None, [finding.advice])])


def sudo(host: Host, command: str) -> str:
    """A command as this user has to type it."""
    needs_root = command.split()[0] in ("modprobe", "systemctl", "timedatectl", "usermod")
    return f"sudo {command}" if needs_root and not host.is_root else command


def refusal(host: Host, report: Report) -> PreflightError | None:
    """The error that names everything which stands in the way, or None when nothing does."""
    return refuse(host, report.findings(Level.MISSING))


def refuse(host: Host, findings: Sequence[Finding]) -> PreflightError | None:
    """The same for findings alone."""
    if not findings:
        return None
    if len(findings) == 1:
        only = findings[0]
        return PreflightError(
            only.what, where=only.where, detail=only.detail, hint=remedy(host, only)
        )
    lines = []
    for finding in findings:
        lines.append(": ".join(filter(None, [finding.what, finding.where])))
        if finding.detail:
            lines.append(f"    {finding.detail}")
        if finding.advice:
            lines.append(f"    {finding.advice}")
    return PreflightError(
        f"{len(findings)} things stand in the way",
        detail="\n".join(lines),
        hint="; ".join([*remedies(host, findings), "imagebuild doctor tells more"]),
    )
