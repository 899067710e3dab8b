"""Whole nights: the first, the second, one with a change, a rollback, and broken cells."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from imagebuild.pipeline.cells import Phase
from imagebuild.publish import properties
from tests.images import witness
from tests.images.elements import write_hook
from tests.pipeline.nightly import IMAGES, LARGE, MIRROR, PLAIN, SECRETS, Commands, Nightly

pytestmark = [pytest.mark.image]

VERSIONS = {"mysql 8.4": PLAIN, "mariadb 11.8": LARGE}


def secrets_in(directory: Path) -> set[str]:
    """The files below a directory that have a secret."""
    found = set()
    for path in directory.rglob("*"):
        if path.is_file() and not path.is_symlink():
            data = path.read_bytes()
            found |= {str(path) for word in SECRETS if word.encode() in data}
    return found


def writes(night: Nightly) -> list[str]:
    """The requests that were to change something in the cloud, but for logins."""
    every = [r for p in night.cloud.proxies.all() for r in p.seen()]
    return [str(r) for r in every if r.method != "GET" and "/auth/tokens" not in r.path]


def forget_requests(night: Nightly) -> None:
    for proxy in (*night.cloud.proxies.all(), night.proxy):
        proxy.reset()


def test_nights_with_and_without_a_change_and_a_rollback(night: Nightly, tmp_path: Path) -> None:
    # The first: all is done.
    process = night.start("--jobs", "2")
    with Commands(process) as commands:
        first = night.wait(process)
    assert first.code == 0, f"{first.err}\n{night.logs()}"
    assert first.cells == dict.fromkeys((MIRROR, *IMAGES), "passed")
    for cell in IMAGES:
        done = first.phases(cell)
        assert {done[p] for p in ("build", "upload", "register", "promote")} <= {
            "passed",
            "unchanged",
        }
        assert done["build"] == done["upload"] == "passed"
        (image,) = night.named(cell, first)
        assert image.status == "active"
        assert image.properties[properties.PROVEN] == "static"
        assert night.cloud.image_file(image.id).stat().st_size == image.size
    builds = {label: first.report.cell(cell).build_id for label, cell in VERSIONS.items()}  # type: ignore[union-attr]
    assert night.current() == builds
    assert len(night.mirrored()) == 2
    assert len(commands.seen) > 5
    assert not [c for c in commands.seen if any(word in c for word in SECRETS)]

    # The second: nothing is left to do.
    before = night.state()
    forget_requests(night)
    second = night.run()
    assert second.cells == dict.fromkeys((MIRROR, *IMAGES), "unchanged")
    assert night.state() == before
    assert writes(night) == []
    assert {r.method for r in night.proxy.seen()} <= {"GET", "HEAD"}

    # The same on a machine that has never built anything.
    forget_requests(night)
    here, night.images, night.home = night.images, tmp_path / "none", tmp_path / "home"
    night.home.mkdir()
    third = night.run("--skip-unchanged", IMAGEBUILD_CACHE_DIR=str(tmp_path / "cache"))
    assert {third.cells[c] for c in IMAGES} == {"skipped"}
    assert third.seconds < 30
    assert writes(night) == []
    assert not night.images.exists() or not list(night.images.iterdir())
    assert night.current() == builds
    night.images = here

    # One image changes: it is promoted, and the other one's is left alone.
    write_hook(tmp_path / "elements", "site/post-install.d/90-site", "echo new > /etc/site")
    more = {"elements.path": [str(tmp_path / "elements")], "elements.agent": ["site"]}
    night.row("plain")["set"].update(more)
    night.write()
    fourth = night.run("--skip-unchanged")
    assert fourth.cells[PLAIN] == "passed"
    assert fourth.cells[LARGE] == "skipped"
    changed = fourth.report.cell(PLAIN).build_id  # type: ignore[union-attr]
    assert changed not in builds.values()
    assert night.current() == builds | {"mysql 8.4": changed}
    kept = {i.properties[properties.BUILD_ID]: i.status for i in night.glance()}
    assert kept == dict.fromkeys((*builds.values(), changed), "active")

    # Who does not like it goes back, and the next night leaves that so.
    night.tool("datastore", "rollback", "mysql", "8.4", "--cloud", "prod")
    assert night.current() == builds
    fifth = night.run()
    assert night.current() == builds, "what was rolled back came again"
    assert "has taken mysql 8.4 back" in fifth.why(PLAIN, Phase.PROMOTE)
    assert night.run("--skip-unchanged").cells[PLAIN] == "skipped"
    assert night.current() == builds

    assert secrets_in(night.reports) == set()
    for said in (first, second, fifth):
        assert not any(word in said.err + said.out for word in SECRETS)
    names = {p.name for p in night.reports.joinpath("nightly/latest/").iterdir()}
    assert names >= {"report.json", "report.md", "junit.xml", "metrics.prom", "report.html"}


def test_broken_cells_do_not_stop_the_others(night: Nightly, tmp_path: Path) -> None:
    """One that does not build, one that verifies badly; the last one is good."""
    elements = tmp_path / "elements"
    write_hook(elements, "site-broken/extra-data.d/10-broken", "echo the disk is gone; exit 3")
    disable = "systemctl disable guest-agent.service"
    write_hook(elements, "site-deaf/post-install.d/95-deaf", disable)
    night.only("plain")
    night.add("broken", elements__path=[str(elements)], elements__agent=["site-broken"])
    night.add("deaf", elements__path=[str(elements)], elements__agent=["site-deaf"])
    rows = night.document["images"]
    night.document["images"] = [rows[1], rows[2], rows[0]]
    night.write()
    done = night.run(code=1)
    assert done.cells == {"broken-amd64": "failed", "deaf-amd64": "failed", PLAIN: "passed"}
    assert done.report.exit_code == 1, "of different codes"
    assert done.phases("broken-amd64") == {
        "build": "failed", "verify": "held", "gates": "held", "upload": "held",
        "register": "held", "promote": "held", "retire": "held",
    }  # fmt: skip
    error = done.error("broken-amd64", Phase.BUILD)
    assert "site-broken" in error["what"]
    assert "the disk is gone" in error["detail"]
    assert done.phases("deaf-amd64")["build"] == "passed"
    assert done.phases("deaf-amd64")["verify"] == "failed"
    assert done.error("deaf-amd64", Phase.VERIFY)["exit_code"] == 5
    good = done.report.cell(PLAIN)
    assert good
    assert [i.properties[properties.BUILD_ID] for i in night.glance()] == [good.build_id]
    assert night.current() == {"mysql 8.4": good.build_id}
    # Again, and alone: the exit code says which kind of failure it is.
    alone = night.run("--cell", "deaf-amd64", code=5)
    assert alone.phases("deaf-amd64")["build"] == "unchanged"
    assert night.run("--cell", "broken-amd64", code=1).cells == {"broken-amd64": "failed"}
    assert night.run("--cell", PLAIN).cells == {PLAIN: "unchanged"}


@pytest.mark.full("pipeline")
def test_gates_and_two_at_once(night: Nightly) -> None:
    night.only("plain")
    night.row("plain")["gates"] = {"size": "100M", "deny_packages": ["openssh-*"]}
    night.write()
    refused = night.run(code=7)
    assert refused.phases(PLAIN)["verify"] in ("passed", "unchanged")
    assert refused.phases(PLAIN)["gates"] == "failed"
    assert refused.phases(PLAIN)["upload"] == "held"
    error = json.dumps(refused.error(PLAIN, Phase.GATES))
    assert "openssh-server" in error
    assert "100" in error
    assert night.glance() == []
    assert night.current() == {}
    # The first is stopped while it works; the second does not wait.
    night.row("plain").pop("gates")
    night.write()
    running = night.start()
    log = night.directory / "run.err"
    witness.wait_for(lambda: log.read_text() != "", 30, "the run says something")
    err = night.directory / "second.err"
    log.rename(err)
    second = night.start()
    code = second.wait(60)
    said = log.read_text()
    assert running.wait(300) == 0
    assert code == 75, said
    assert "running" in said
    assert night.current() != {}
    # A policy that is younger than the image holds for what is published, too.
    assert night.run("--skip-unchanged").cells == {PLAIN: "skipped"}
    night.row("plain")["gates"] = {"deny_packages": ["openssh-*"]}
    night.write()
    assert night.run("--skip-unchanged", code=7).phases(PLAIN)["gates"] == "failed"


@pytest.mark.full("pipeline")
def test_a_night_with_boots(night: Nightly) -> None:
    """Proven by booting: once, and not again as long as the file is the same."""
    night.only("plain")
    night.run("--phase", "build", "--phase", "verify")
    night.document["verify"] = {"level": "boot"}
    night.row("plain")["gates"] = {"verified": "boot"}
    night.write()
    refused = night.run("--phase", "publish", code=7)
    assert refused.phases(PLAIN)["gates"] == "failed"
    assert night.glance() == []
    first = night.run()
    assert first.phases(PLAIN)["verify"] == "passed"
    (image,) = night.named(PLAIN, first)
    assert image.properties[properties.PROVEN] == "boot"
    image_facts = first.report.cell(PLAIN).image  # type: ignore[union-attr]
    assert image_facts
    assert len(image_facts["boots"]) == 2
    second = night.run()
    assert second.cells == {PLAIN: "unchanged"}
    assert second.seconds < 30
    # What is proven further than is wanted is proven.
    night.document["verify"] = {"level": "static"}
    night.row("plain").pop("gates")
    night.write()
    assert night.run().cells == {PLAIN: "unchanged"}
