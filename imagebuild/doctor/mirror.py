"""Checks: package mirrors: reachable, signed, fresh, and whether host and mirror agree on the time.

`judge` works on what was fetched already, so that a build, which has just resolved its
inputs, asks nothing twice.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from imagebuild import archive
from imagebuild.archive import Suite
from imagebuild.doctor.check import Check, Finding, Level, Need, Subject, from_error, ok, skipped
from imagebuild.doctor.host import Host
from imagebuild.errors import ImagebuildError
from imagebuild.inputs import Archive

#: Seconds that host and mirror may differ by.
SKEW = 300
#: Seconds that apt lets a Release file's date lie ahead (apt.conf(5), Acquire::Max-FutureTime).
_FUTURE = 10


def mirrors(host: Host, subject: Subject) -> Iterator[Finding]:
    """Every suite of the profile's archives."""
    if subject.profile is None:
        yield skipped("the mirror: not asked without OS RELEASE")
        return
    from imagebuild import resolve

    problems: list[Finding] = []
    asked: list[Archive] = []
    try:
        # What is not there is the check "keyrings".
        archives = [a for a in resolve.distribution_archives(subject.profile)
                    if host.is_readable(a.keyring)]  # fmt: skip
    except ImagebuildError as exc:
        yield from_error(exc, "a build")
        return
    for source in archives:
        suites = []
        for suite in source.suites:
            try:
                suites.append(archive.read_suite(source.url, suite.name, source.keyring))
            except ImagebuildError as exc:
                problems.append(from_error(exc, f"a build of {subject.profile.name}"))
                if exc.exit_code == 75:
                    break  # the same server: it would be waited for again
        asked.append(Archive(source.name, source.url, tuple(suites), source.components,
                             source.keyring, "", is_snapshot=source.is_snapshot))  # fmt: skip
    try:
        asked += resolve.docker_archives(subject.profile)
    except ImagebuildError as exc:
        problems.append(from_error(exc, "a build with docker-ce"))
    yield from problems
    judged = list(judge(asked, time.time()))
    yield from judged
    if not judged:
        for source in asked:
            if source.suites:
                names = " ".join(s.name for s in source.suites)
                yield ok(f"{names}: signed and fresh", source.url)


def judge(archives: Iterable[Archive], now: float) -> Iterator[Finding]:
    """What is wrong with the times of Release files and clocks; nothing when all is well."""
    for source in archives:
        skews = [s.served - now for s in source.suites if s.served is not None]
        skew = max(skews, key=abs, default=0.0)
        if abs(skew) > SKEW:
            yield _skewed(source.url, skew)
        if source.is_snapshot:
            continue  # old by nature; apt is told so
        for suite in source.suites:
            yield from _stale(f"{source.url} {suite.name}", suite, now)


def _skewed(url: str, skew: float) -> Finding:
    word = "behind" if skew > 0 else "ahead of"
    return Finding(
        Level.WARNING,
        f"this host's clock is {_span(abs(skew))} {word} the mirror's",
        where=url,
        prevents="downloads, when certificates and Release files do not seem valid",
        run=("timedatectl set-ntp true",),
        advice="one of the two is wrong",
    )


def _stale(where: str, suite: Suite, now: float) -> Iterator[Finding]:
    server = suite.served or now
    if suite.valid_until is not None and suite.valid_until < now:
        is_ours = suite.valid_until >= server
        yield Finding(
            Level.MISSING,
            "the mirror's Release file has expired",
            where=where,
            detail=f"valid until {_when(suite.valid_until)}, this host has {_when(now)}",
            prevents="a build: apt refuses it",
            run=("timedatectl set-ntp true",) if is_ours else (),
            advice="this host's clock is wrong"
            if is_ours
            else "the mirror is no longer updated: take another (--mirror), or mirror.snapshot",
        )
    elif suite.date is not None and suite.date > now + _FUTURE:
        yield Finding(
            Level.MISSING,
            "the mirror's Release file is from the future",
            where=where,
            detail=f"made at {_when(suite.date)}, this host has {_when(now)}",
            prevents="a build: apt refuses it",
            run=("timedatectl set-ntp true",),
        )


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


def _span(seconds: float) -> str:
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"


CHECKS = (
    Check("mirror", "network", "package mirrors", frozenset({Need.BUILD}), mirrors, network=True),
)
