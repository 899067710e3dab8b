"""The machine that a bench ran on: what its figures must be read with."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import Any

from imagebuild import dib
from imagebuild.host.run import need, run

_VERSIONS = {
    "mmdebstrap": (["mmdebstrap", "--version"], "mmdebstrap"),
    "qemu-img": (["qemu-img", "--version"], "qemu-utils"),
    "qemu": (["qemu-system-x86_64", "--version"], "qemu-system-x86"),
}


def describe() -> dict[str, Any]:
    """Processors, memory, load just now, versions."""
    info = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*: (.+)$", info, re.MULTILINE)
    memory = re.search(r"^MemTotal:\s+(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return {
        "cpus": len(os.sched_getaffinity(0)),
        "model": model[1] if model else platform.machine(),
        "memory_mib": int(memory[1]) // 1024 if memory else 0,
        "load": [round(x, 2) for x in os.getloadavg()],
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", ""),
        "kernel": platform.release(),
        "versions": {
            "python": platform.python_version(),
            "diskimage-builder": dib.version(),
            **{name: _version(*how) for name, how in _VERSIONS.items()},
        },
    }


def _version(argv: list[str], package: str) -> str:
    said = run([need(argv[0], package), *argv[1:]]).stdout.decode()
    found = re.search(r"\d+(\.\d+)+", said)
    return found[0] if found else said.strip()
