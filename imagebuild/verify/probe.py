"""The probe that travels to a guest in the vendor data, and the reading of what it reports.

It is started by a boothook, as early as cloud-init can, and stays: it reports over a
virtio-serial port whenever something has changed, so neither network nor login is needed and
the user data are the caller's. Beside it a root shell is started on a second port.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from pathlib import Path
from typing import Any

from imagebuild.verify.argv import PROBE_PORT, SHELL_PORT

#: Where the guest keeps what we brought. /run is mounted noexec, hence `sh FILE`.
DIRECTORY = "/run/imagebuild-probe"
#: Seconds between two looks, and the number of looks after which it says that it lives.
EVERY, ALIVE = 2, 5

#: Units whose first start is a milestone.
UNITS = (
    "cloud-init-local.service", "cloud-init.service", "cloud-init-network.service",
    "cloud-final.service", "ssh.service", "ssh.socket", "docker.service", "guest-agent.service",
)  # fmt: skip

#: What `systemctl is-system-running` says when no job waits any more.
SETTLED = ("running", "degraded")

# Times are systemd's own (CLOCK_MONOTONIC, microseconds), so they are exact however seldom
# the probe looks.
_PROBE = """\
port=/dev/virtio-ports/{port}
dir={directory}
n=0
while [ ! -e $port ] && [ $n -lt 300 ]; do sleep 1; n=$((n + 1)); done
exec 3>$port
say() {{
  read up rest </proc/uptime
  printf '{{"t":%s,"name":"%s","out":"%s"}}\\n' "$up" "$1" "$(base64 -w0 <$dir/$1)" >&3
}}
changed() {{
  if cmp -s $dir/new $dir/$1; then return; fi
  mv $dir/new $dir/$1
  say $1
}}
uname -r >$dir/start; say start
systemctl show -p UserspaceTimestampMonotonic >$dir/manager; say manager
n=0
while :; do
  systemctl show -p Id -p ActiveState -p SubState -p NRestarts \\
    -p ActiveEnterTimestampMonotonic -p ExecMainStartTimestampMonotonic \\
    {units} >$dir/new 2>/dev/null
  changed units
  if [ -e /run/cloud-init/result.json ]; then
    cat /run/cloud-init/result.json >$dir/new; changed cloud-init
  fi
  systemctl list-units --failed --plain --no-legend >$dir/new 2>&1; changed failed
  systemctl is-system-running >$dir/new 2>&1; changed system
  n=$((n + 1))
  if [ $((n % {alive})) = 0 ]; then cat /proc/loadavg >$dir/alive; say alive; fi
  sleep {every}
done
"""

# A read gives end of file while nobody is connected at the other end, hence the loop.
_SHELL = """\
port=/dev/virtio-ports/{port}
cd /
while :; do
  if [ -e $port ]; then sh <>$port >&0 2>&1; fi
  sleep 1
done
"""


def vendor_data() -> str:
    """Vendor data (MIME multi-part) that start probe and shell as early as cloud-init can."""
    files = {
        "probe": _PROBE.format(
            port=PROBE_PORT, directory=DIRECTORY, units=" ".join(UNITS), alive=ALIVE, every=EVERY
        ),
        "shell": shell_loop(),
    }
    writes = "".join(
        f"echo {base64.b64encode(text.encode()).decode()} | base64 -d >$dir/{name}.sh\n"
        for name, text in files.items()
    )
    # A boothook runs on every pass over the vendor data: only the first one counts.
    # Without DefaultDependencies=no the units would wait for the boot that they watch.
    start = "".join(
        f"systemd-run --no-block --unit=imagebuild-{name} -p DefaultDependencies=no"
        f" sh $dir/{name}.sh\n"
        for name in files
    )
    hook = (
        f"#cloud-boothook\n#!/bin/sh\ndir={DIRECTORY}\n"
        f"mkdir $dir 2>/dev/null || exit 0\nchmod 700 $dir\n{writes}{start}"
    )
    parts = MIMEMultipart(boundary="==imagebuild-probe==")
    parts.attach(MIMEText(hook, "cloud-boothook", "utf-8"))
    return parts.as_string()


def shell_loop() -> str:
    """The script that keeps a root shell on its port."""
    return _SHELL.format(port=SHELL_PORT)


@dataclass
class Reports:
    """What a probe has reported so far; `read` takes what is new.

    `started`: unit -> seconds since qemu's start at which it was first active (the agent: its
    process started), and `systemd`, and `settled`. `latest`: the last report of
    each name. `heard`: when the last one came.
    """

    path: Path
    latest: dict[str, str] = field(default_factory=dict)
    heard: float | None = None
    _starts: dict[str, float] = field(default_factory=dict)
    _seen: dict[str, float] = field(default_factory=dict)
    _offset: float | None = None
    _at: int = 0

    def read(self, now: float) -> bool:
        """Read on; `now`: seconds since qemu's start. Whether there was something."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._at)
                data = file.read()
        except OSError:
            return False
        whole = data[: data.rfind(b"\n") + 1]
        self._at += len(whole)
        for line in whole.splitlines():
            self._take(json.loads(line), now)
        return bool(whole)

    @property
    def offset(self) -> float | None:
        """Seconds from qemu's start to the start of the guest's clock; the best of all reports."""
        return self._offset

    @property
    def started(self) -> dict[str, float]:
        """Unit -> seconds since qemu's start."""
        offset = self._offset or 0.0
        return {unit: round(offset + at, 1) for unit, at in self._starts.items()}

    def first(self, name: str) -> float | None:
        """When (since qemu's start) something was first reported; None: never."""
        at = self._seen.get(name)
        return None if at is None else round((self._offset or 0.0) + at, 1)

    @property
    def system(self) -> str:
        """What `systemctl is-system-running` says; empty before the first report."""
        return self.latest.get("system", "").strip()

    @property
    def failed(self) -> list[str]:
        """Names of failed units."""
        lines = self.latest.get("failed", "").splitlines()
        return [line.split()[0] for line in lines if line.strip()]

    @property
    def cloud_init(self) -> dict[str, Any] | None:
        """cloud-init's result.json, when it has ended."""
        try:
            found = json.loads(self.latest["cloud-init"])
        except (KeyError, ValueError):  # it is not written in one go
            return None
        return found if isinstance(found, dict) else None

    def _take(self, report: dict[str, Any], now: float) -> None:
        name, at = str(report["name"]), float(report["t"])
        text = base64.b64decode(report["out"]).decode(errors="replace")
        self.latest[name] = text
        self.heard = now
        self._offset = min(now - at, now if self._offset is None else self._offset)
        self._seen.setdefault(name, at)
        if name == "units":
            for block in text.split("\n\n"):
                self._unit(_properties(block))
        elif name == "manager":
            self._start("systemd", _properties(text).get("UserspaceTimestampMonotonic"))
        elif name == "system" and text.strip() in SETTLED:
            self._starts.setdefault("settled", at)

    def _unit(self, properties: dict[str, str]) -> None:
        unit = properties.get("Id", "")
        # The agent is started again and again while it has no datastore.
        active = unit != "guest-agent.service"
        key = "ActiveEnterTimestampMonotonic" if active else "ExecMainStartTimestampMonotonic"
        self._start(unit, properties.get(key))

    def _start(self, unit: str, microseconds: str | None) -> None:
        if microseconds and microseconds.isdigit() and int(microseconds):
            self._starts.setdefault(unit, int(microseconds) / 1e6)


def _properties(block: str) -> dict[str, str]:
    pairs = (line.partition("=") for line in block.splitlines())
    return {key: value for key, separator, value in pairs if separator}
