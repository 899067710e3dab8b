"""systemd: a service, its timer, and what is done when it fails (systemd.exec(5)).

The hardening is what builds can bear. What would stop them is left out: PrivateDevices and
ProtectClock (they close /dev/kvm and /dev/loop*), RestrictSUIDSGID (guests have setuid files),
NoNewPrivileges (packages' scripts call sudo), MemoryDenyWriteExecute (qemu translates code),
RestrictNamespaces (each build has namespaces of its own), ProtectControlGroups and
ProtectKernelTunables (chroots get their own /proc and /sys).
"""

from __future__ import annotations

from collections.abc import Mapping

from imagebuild.pipeline.export import host
from imagebuild.pipeline.export.schedules import calendar_events
from imagebuild.pipeline.export.source import Source

#: So that hosts that share a mirror do not all ask at once.
_DELAY = "15min"


def files(source: Source) -> Mapping[str, str]:
    """`etc/systemd/system/NAME.{service,timer}` and `NAME-failed.service`."""
    directory = "etc/systemd/system"
    header = source.header(
        *host.NOTES,
        f"systemctl daemon-reload && systemctl enable --now {source.name}.timer",
        f"systemctl start --no-block {source.name}       # now",
    )
    return {
        f"{directory}/{source.name}.service": header + _service(source),
        f"{directory}/{source.name}.timer": source.header() + _timer(source),
        f"{directory}/{source.name}-failed.service": source.header() + _failed(source),
    }


def _service(source: Source) -> str:
    variables = "\n".join(f"Environment={k}={v}" for k, v in host.ENVIRONMENT.items())
    seconds = [job.seconds for job in source.jobs]
    limit = "infinity" if None in seconds else str(sum(filter(None, seconds)))
    return f"""
[Unit]
Description=Guest images: the pipeline {source.pipeline.name}
Wants=network-online.target
After=network-online.target
OnFailure={source.name}-failed.service

[Service]
Type=oneshot
User=root
{variables}
# IMAGEBUILD_* and OS_*, where there are more of them.
EnvironmentFile=-/etc/imagebuild/environment
ExecStart=/usr/bin/env {host.command(source)}
StateDirectory=imagebuild
CacheDirectory=imagebuild
# The limits of all jobs together; each phase has its own.
TimeoutStartSec={limit}
# The tool ends its children by itself, and cleans up.
KillMode=mixed
TimeoutStopSec=120
# A guest that is too large for the host fails its own cell alone.
OOMPolicy=continue
Nice=10
IOWeight=20
CPUWeight=20

ProtectSystem=full
ProtectHome=read-only
PrivateTmp=yes
ProtectKernelLogs=yes
RestrictRealtime=yes
KeyringMode=private
"""


def _timer(source: Source) -> str:
    events = calendar_events(source.pipeline.engines.schedule)
    lines = "\n".join(f"OnCalendar={event}" for event in events)
    return f"""
[Unit]
Description=Every night: the pipeline {source.pipeline.name}

[Timer]
{lines}
RandomizedDelaySec={_DELAY}
# A night that the host slept through is made up for.
Persistent=yes

[Install]
WantedBy=timers.target
"""


def failed_script(source: Source) -> str:
    """Mail the report to root where there is mail, else to the journal."""
    return (
        f"report={host.report(source)}; "
        f'[ -r "$report" ] || report=/dev/null; '
        "if command -v mail > /dev/null; then "
        f'mail -s "{source.name} has failed on $(uname -n)" root < "$report"; '
        'else cat "$report" >&2; fi'
    )


def _failed(source: Source) -> str:
    # systemd.service(5), command lines: % and $ stand for themselves when doubled.
    script = failed_script(source).replace("%", "%%").replace("$", "$$")
    return f"""
[Unit]
Description=Tell root that the pipeline {source.pipeline.name} has failed

[Service]
Type=oneshot
ExecStart=/bin/sh -c '{script}'
"""
