"""python measured.py REPORT COMMAND...: run a command, and write what it took to REPORT.

Seconds on the clock, seconds of processors, and the peak of its resident memory in KiB, of
the command and what it waited for. A small process of its own: a child's peak counts from
before its exec (getrusage(2)), so that a large parent's would be the child's.
"""

import json
import os
import sys
import time


def main() -> int:
    """The command's status."""
    report, *argv = sys.argv[1:]
    started = time.monotonic()
    child = os.posix_spawnp(argv[0], argv, os.environ)
    _, status, used = os.wait4(child, 0)
    with open(report, "w") as file:  # noqa: PTH123 - few imports: see above
        json.dump(
            {
                "seconds": time.monotonic() - started,
                "cpu_seconds": used.ru_utime + used.ru_stime,
                "peak_kib": used.ru_maxrss,
            },
            file,
        )
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main())
