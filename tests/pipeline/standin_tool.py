"""`imagebuild` whose verbs do nothing costly: its pipelines, reports and their merging are real.

STANDIN=DIR    DIR/log gets a line at the start and the end of each verb;
               DIR/broken has lines `VERB WORD`: such a verb fails when WORD is among its words
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def main(argv: list[str]) -> int:
    """A verb of the stand-in, or the real `pipeline` with the stand-in as its children."""
    if argv[0] == "pipeline":
        from imagebuild.cli import main as cli
        from imagebuild.pipeline import process

        process.own_program = lambda: (sys.executable, str(Path(__file__)))
        return cli.run(argv)
    place = Path(os.environ["STANDIN"])
    verb = " ".join(argv[:2]) if argv[0] in ("mirror", "datastore") else argv[0]
    _log(place, "start", verb, argv)
    broken = [line.split() for line in (place / "broken").read_text().splitlines()]
    if any(verb.startswith(b) and any(word in w for w in argv) for b, word in broken):
        print(f"error: {verb} is broken today", file=sys.stderr)
        _log(place, "end", verb, argv)
        return 5 if verb == "verify" else 1
    print(json.dumps(_VERBS[verb](argv)))
    _log(place, "end", verb, argv)
    return 0


def _log(place: Path, what: str, verb: str, argv: list[str]) -> None:
    cell = os.environ.get("CELL", "")
    with (place / "log").open("a") as file:
        file.write(json.dumps([time.time(), what, verb, cell, argv]) + "\n")


def _option(argv: list[str], name: str) -> str:
    return argv[argv.index(name) + 1]


def _mirror(argv: list[str]) -> dict[str, Any]:
    return {
        "list": argv[2], "target": _option(argv, "--target"), "notes": [], "results": [],
        "totals": {"outcomes": {"copied": 1}},
    }  # fmt: skip


def _build(argv: list[str]) -> dict[str, Any]:
    from tests.unit.made_up import make_artifact, make_tree

    images = Path(_option(argv, "--images-dir"))
    artifact = make_artifact(make_tree(images.parent / "tree"), images)
    (images / "newest").symlink_to(artifact.name)
    manifest = json.loads((artifact / "manifest.json").read_text())
    return {"artifact": str(artifact), "manifest": manifest, "unchanged": False}


def _verify(argv: list[str]) -> dict[str, Any]:
    artifact = Path(argv[1])
    image = json.loads((artifact / "manifest.json").read_text())["outputs"][0]
    document = {
        "schema_version": 1, "verdict": "passed", "asked": _option(argv, "--level"),
        "proven": _option(argv, "--level"), "seconds": 1.0, "started": "2026-01-01T00:00:00Z",
        "image": {"file": image["file"], "sha256": image["sha256"]}, "runs": [], "checks": [],
    }  # fmt: skip
    (artifact / "verify.json").write_text(json.dumps(document))
    return document


def _upload(argv: list[str]) -> dict[str, Any]:
    """Sees what it was given: the proof, and the secret in a file of its own."""
    clouds = Path(os.environ["OS_CLIENT_CONFIG_FILE"])
    assert clouds.stat().st_mode & 0o077 == 0, "others may read the secret"
    assert "canary" in clouds.read_text()
    assert (Path(argv[1]) / "verify.json").is_file()
    time.sleep(0.5)  # two at a time would overlap
    row = {"cloud": "prod", "status": "uploaded", "image": "1", "name": "n", "bytes": 1}
    return {"clouds": [{**row, "error": None}]}


_VERBS = {"mirror sync": _mirror, "build": _build, "verify": _verify, "upload": _upload}

if __name__ == "__main__":
    sys.path[0] = str(ROOT)
    sys.exit(main(sys.argv[1:]))
