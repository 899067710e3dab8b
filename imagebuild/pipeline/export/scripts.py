"""The shell lines that jobs run: one text for all cells, told apart by variables alone.

    PIPELINE   the pipeline's file          CELL, JOB   what of it (--cell, --phase)
    CLOUDS_YAML, REGISTRY_AUTH   secrets: the text of clouds.yaml, of docker's config.json

What a job leaves lies below `out`: `out/images` (artifacts, with the link to the newest) and
`out/reports/CELL` (what `pipeline run` writes; later jobs of the cell go by it).
"""

from __future__ import annotations

IMAGES, REPORTS = "out/images", "out/reports"
#: The archive of a build's `out/images`, and of what verifying it has added.
IMAGE_TAR, PROOF_TAR = "image.tar", "proof.tar"
#: Written when the image has been unpacked: what is newer is new.
_MARK = "out/unpacked"

_RUN = (
    'imagebuild pipeline run "$PIPELINE" --cell "$CELL" --phase "$JOB" '
    f'--reports "{REPORTS}/$CELL" --images-dir {IMAGES}'
)


def run(install: str) -> str:
    """Bring the tool, and do one job of a cell. One shell: what `install` exports counts."""
    return f"{install}\n{_RUN}\n"


def collect(install: str) -> str:
    """Merge what all jobs have left. Fails where a cell failed or did not run.

    `out/history` has the reports of earlier nights, as far as the engine keeps it.
    """
    return (
        f"{install}\n"
        f"imagebuild pipeline collect {REPORTS}/* "
        '--pipeline "$PIPELINE" --reports out/history\n'
    )


def show() -> str:
    """Put the merged report where engines take files from, `out/report`, without links."""
    return (
        'latest="out/history/$NAME/latest"\n'
        'if [ -d "$latest" ]; then cp -RL "$latest" out/report; fi\n'
    )


def pack_image() -> str:
    """`out/images` as one file: engines' own archives drop links and modes, or double them.

    Not compressed: the images are.
    """
    return f"tar -cf {IMAGE_TAR} {IMAGES}\n"


def pack_proof() -> str:
    """What has been written since the image was unpacked: verify.json and its kind."""
    return (
        f"find {IMAGES} -type f -newer {_MARK} -print0 |\n"
        f"  tar -cf {PROOF_TAR} --null --files-from=-\n"
    )


def unpack(*, proof: bool) -> str:
    """The inverse of both."""
    names = [IMAGE_TAR, *([PROOF_TAR] if proof else [])]
    lines = [*(f"tar -xf {name}" for name in names), f"rm -f {' '.join(names)}", f"touch {_MARK}"]
    return "\n".join(lines) + "\n"


def pack_zuul() -> str:
    """What Zuul's jobs hand on, in `hand`: each archive with paths from here."""
    return (
        "set -eu\n"
        "mkdir -p hand out/reports\n"
        f'tar -cf "hand/report-$JOB-$CELL.tar" {REPORTS}\n'
        'if [ "$PASSED" != true ]; then exit 0; fi\n'
        f'if [ "$JOB" = build ]; then tar -cf "hand/image-$CELL.tar" {IMAGES}; fi\n'
        'if [ "$JOB" = verify ]; then\n'
        f"  find {IMAGES} -type f -newer {_MARK} -print0 |\n"
        '    tar -cf "hand/proof-$CELL.tar" --null --files-from=-\n'
        "fi\n"
    )


def unpack_zuul() -> str:
    """The inverse: all that was fetched into `inputs`."""
    return (
        "set -eu\n"
        "mkdir -p inputs out\n"
        "for archive in inputs/*.tar; do\n"
        '  if [ -e "$archive" ]; then tar -xf "$archive"; fi\n'
        "done\n"
        "rm -rf inputs\n"
        f"touch {_MARK}\n"
    )


def kvm() -> str:
    """Let the runner's user open /dev/kvm, which hosted runners have, for root alone."""
    return (
        "rule='KERNEL==\"kvm\", GROUP=\"kvm\", MODE=\"0666\", OPTIONS+=\"static_node=kvm\"'\n"
        'echo "$rule" | sudo tee /etc/udev/rules.d/99-kvm.rules > /dev/null\n'
        "sudo udevadm control --reload-rules\n"
        "sudo udevadm trigger --name-match=kvm\n"
    )
