"""The shell lines that jobs run: one text for all cells, told apart by variables alone.

    PIPELINE, NAME   the pipeline's file and its name
    CELL, JOB        what of it (--cell, --phase)
    PASSED           `true` when the job has done what it was for

What a job leaves lies below `out`: `out/images` (artifacts, with the link to the newest) and
`out/reports/CELL` (what `pipeline run` writes; later jobs of the cell go by it). Engines'
own archives drop links and modes, or double what a link names; so it travels as `hand/*.tar`.
"""

from __future__ import annotations

IMAGES, REPORTS = "out/images", "out/reports"
HAND, INPUTS = "hand", "inputs"
#: Written when inputs have been unpacked: what is newer, this job has made.
_MARK = "out/unpacked"

_RUN = (
    'imagebuild pipeline run "$PIPELINE" --cell "$CELL" --phase "$JOB" '
    f'--reports "{REPORTS}/$CELL" --images-dir {IMAGES}'
)


def run(install: str) -> str:
    """Bring the tool, and do one job of a cell. One shell: what `install` exports counts."""
    return f"{install}\n{_RUN}\n"


def afterwards(command: str, more: str) -> str:
    """`more` whatever has become of the last line of `command`, whose status counts.

    For engines whose own way of doing so has limits: GitLab ends an after_script after five
    minutes, and forgets that it failed.
    """
    first, _, last = command.rstrip("\n").rpartition("\n")
    return (
        f"{first}\n"
        f"status=0\n{last} || status=$?\n"
        'if [ "$status" = 0 ]; then PASSED=true; else PASSED=false; fi\n'
        f'{more}echo "passed: $PASSED"\nexit "$status"\n'
    )


def collect(install: str) -> str:
    """Merge what all jobs have left. Fails where a cell failed or did not run.

    `out/history` has the reports of earlier nights, as far as the engine keeps it.
    """
    return (
        f"{install}\n"
        f'imagebuild pipeline collect {REPORTS} --pipeline "$PIPELINE" --reports out/history\n'
    )


def show() -> str:
    """Put the merged report where engines take files from, `out/report`, without links."""
    return (
        'latest="out/history/$NAME/latest"\n'
        'if [ -d "$latest" ]; then cp -RL "$latest" out/report; fi\n'
    )


def pack() -> str:
    """What later jobs want, as archives that unpack from here. Not compressed: images are.

    The report always; the image of a build, and what a verification has added to it
    (verify.json and its kind), of jobs that have passed.
    """
    return (
        f"rm -rf {HAND}\n"
        f"mkdir -p {HAND} {REPORTS}\n"
        f'tar -cf "{HAND}/report-$JOB-$CELL.tar" {REPORTS}\n'
        'if [ "$PASSED" = true ] && [ "$JOB" = build ]; then\n'
        f'  tar -cf "{HAND}/image-$CELL.tar" {IMAGES}\n'
        "fi\n"
        'if [ "$PASSED" = true ] && [ "$JOB" = verify ]; then\n'
        f"  find {IMAGES} -type f -newer {_MARK} -print0 |\n"
        f'    tar -cf "{HAND}/proof-$CELL.tar" --null --files-from=-\n'
        "fi\n"
    )


def unpack(place: str = INPUTS) -> str:
    """The inverse, of archives that the engine has put into that directory."""
    return (
        f"mkdir -p {place} out\n"
        f"for archive in {place}/*.tar; do\n"
        '  if [ -e "$archive" ]; then tar -xf "$archive"; fi\n'
        "done\n"
        f"rm -rf {place}\n"
        f"touch {_MARK}\n"
    )


def kvm() -> str:
    """Let the runner's user open /dev/kvm: hosted runners have it, for root alone."""
    return "if [ -e /dev/kvm ] && [ ! -w /dev/kvm ]; then\n  sudo chmod 0666 /dev/kvm\nfi\n"
