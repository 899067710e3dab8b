"""Stands in for `python -m imagebuild`: answers as the verbs do, in no time, and as a test says.

    fakeverbs.py DIR VERB…

DIR/plan.json: {"KEY": [{"code": 75, "sleep": 1, "lines": […], "error": {…}, "stubborn": true}]}
for what is not to go well; KEY is a verb (`build`, `datastore promote`) and, perhaps, a word of
its command line (`upload prod`). An entry is for one call each, and the last for all after it.
DIR/calls has a line for each call, DIR/pids the processes.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE, ARGV = Path(sys.argv[1]), sys.argv[2:]
VERB = ARGV[0] if ARGV[0] not in ("datastore", "mirror") else " ".join(ARGV[:2])


def option(name: str, default: str = "") -> str:
    """The value of an option."""
    return ARGV[ARGV.index(name) + 1] if name in ARGV else default


def entry() -> dict[str, Any]:
    """What the test wants of this call."""
    plan = json.loads((HERE / "plan.json").read_text())
    for key, entries in plan.items():
        words = key.removeprefix(VERB).split()
        if key.startswith(VERB) and all(any(w in a for a in ARGV) for w in words):
            count = HERE / f"count-{key.replace(' ', '-').replace('/', '+')}"
            number = int(count.read_text()) if count.exists() else 0
            count.write_text(str(number + 1))
            return dict(entries[min(number, len(entries) - 1)])
    return {}


def build() -> dict[str, Any]:
    profile = ARGV[1]
    seed = (HERE / f"seed-{profile}").read_text() if (HERE / f"seed-{profile}").exists() else ""
    build_id = hashlib.sha256(f"{profile}{seed}".encode()).hexdigest()
    name = f"trove-guest-{profile}-amd64-{build_id[:8]}"
    directory = Path(option("--images-dir")) / name
    unchanged = (directory / "manifest.json").exists()
    content = f"image of {build_id}".encode()
    manifest = {
        "schema_version": 1, "build_id": build_id, "name": name, "profile": {}, "stages": [],
        "tools": {},
        "content": {
            "packages": {"openssh-server": "1:9", "libc6": "2.36"},
            "agent": {"series": "2025.2"},
        },
        "outputs": [{
            "file": f"{name}.qcow2", "format": "qcow2", "size": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }],
    }  # fmt: skip
    if not unchanged:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"{name}.qcow2").write_bytes(content)
        (directory / "manifest.json").write_text(json.dumps(manifest))
    return {"artifact": str(directory), "unchanged": unchanged, "manifest": manifest}


def verify(answer: dict[str, Any]) -> dict[str, Any]:
    directory = Path(ARGV[1])
    manifest = json.loads((directory / "manifest.json").read_text())
    bad = answer.get("code") == 5
    check: dict[str, Any] = {
        "name": "static/fstab",
        "level": "static",
        "outcome": "failed" if bad else "passed",
        "what": "no root" if bad else "fine",
        "evidence": [],
        "hint": "look",
        "seconds": 1,
    }
    document = {
        "schema_version": 1,
        "image": {**manifest["outputs"][0], "name": manifest["name"]},
        "verdict": "failed" if bad else "passed", "asked": option("--level"),
        "proven": None if bad else option("--level"), "started": "2026-11-22T00:00:00Z",
        "seconds": 1.0, "versions": {}, "checks": [check], "runs": [],
    }  # fmt: skip
    (directory / "verify.json").write_text(json.dumps(document))
    return document


def upload(answer: dict[str, Any]) -> dict[str, Any]:
    cloud = option("--cloud")
    there = HERE / f"image-{cloud}-{Path(ARGV[1]).name}"
    image = f"id-{cloud}-{Path(ARGV[1]).name[-8:]}"
    status = "present" if there.exists() else "uploaded"
    if answer.get("code"):
        status = "failed"
    else:
        there.touch()
    return {"clouds": [{"cloud": cloud, "status": status, "image": image, "name": "n", "bytes": 1,
                        "error": answer.get("error")}]}  # fmt: skip


def versions() -> dict[str, Any]:
    return {"versions": [json.loads(p.read_text()) for p in HERE.glob("version-*")]}


def create() -> dict[str, Any]:
    path = HERE / f"version-{option('--cloud')}-{ARGV[2]}-{ARGV[3]}"
    created = not path.exists()
    version = {"id": path.name, "datastore": ARGV[2], "name": ARGV[3], "number": ARGV[3]}
    path.write_text(json.dumps(version))
    return {"version": version, "created": created, "changed": created, "notes": []}


def promote() -> dict[str, Any]:
    path = HERE / f"current-{option('--cloud')}-{ARGV[3]}"
    before = path.read_text() if path.exists() else None
    path.write_text(ARGV[2])
    steps = ["it uses it"] if before != ARGV[2] else []
    return {"changed": bool(steps), "before": {"id": before} if before else None,
            "after": {"id": ARGV[2]}, "steps": steps, "notes": [], "left_alone": None}  # fmt: skip


def mirror(answer: dict[str, Any]) -> dict[str, Any]:
    outcome = "failed" if answer.get("code") else "unchanged"
    return {
        "list": ARGV[2], "target": "registry.example", "notes": [],
        "totals": {"images": 1, "outcomes": {outcome: 1}},
        "results": [{"target": "registry.example/mysql:8.4", "outcome": outcome,
                     "error": answer.get("error")}],
    }  # fmt: skip


def document(answer: dict[str, Any]) -> dict[str, Any] | None:
    """What is printed; None where the verb fails without."""
    if VERB == "verify":
        return verify(answer)
    if VERB == "upload":
        return upload(answer)
    if VERB == "mirror sync":
        return mirror(answer)
    if answer.get("code"):
        return None
    verbs: dict[str, Callable[[], dict[str, Any]]] = {
        "build": build, "datastore list": versions, "datastore create": create,
        "datastore promote": promote,
        "datastore retire": lambda: {"images": [], "deactivated": [], "deleted": [], "left": []},
    }  # fmt: skip
    return verbs[VERB]()


def main() -> int:
    with (HERE / "calls").open("a") as file:
        file.write(" ".join(ARGV) + "\n")
    with (HERE / "pids").open("a") as file:
        file.write(f"{os.getpid()}\n")
    (HERE / "environ.json").write_text(json.dumps(dict(os.environ)))
    answer = entry()
    if answer.get("stubborn"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, lambda *_: ended(143))
        signal.signal(signal.SIGINT, lambda *_: ended(130))
    for line in answer.get("lines", ("working",)):
        print(line, file=sys.stderr, flush=True)
    time.sleep(answer.get("sleep", 0))
    if "crash" in answer:
        os.kill(os.getpid(), answer["crash"])
    if (error := answer.get("error")) and VERB not in ("upload", "mirror sync", "verify"):
        Path(os.environ["IMAGEBUILD_ERROR_FILE"]).write_text(json.dumps(error))
    if found := document(answer):
        print(json.dumps(found))
    return int(answer.get("code", 0))


def ended(code: int) -> None:
    with (HERE / "signals").open("a") as file:
        file.write(f"{VERB} {code}\n")
    sys.exit(code)


if __name__ == "__main__":
    sys.exit(main())
