"""A night that is killed, interrupted or left alone by its services, and goes on."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from imagebuild.pipeline import reporting
from imagebuild.pipeline.cells import Phase
from imagebuild.publish import properties
from tests.images import witness
from tests.images.elements import write_hook
from tests.pipeline.nightly import LARGE, MIRROR, PLAIN, Killer, Nightly, left_of
from tests.registry_proxy import UPLOADS
from tests.services.proxy import Action, Call, Request, Rule, Slow

pytestmark = [
    pytest.mark.image,
    pytest.mark.skipif(os.geteuid() != 0, reason="looks into every mount namespace"),
]
FULL = pytest.mark.full("pipeline")
#: Bytes a second of an upload that is to be cut off: it takes some seconds.
_RATE = 100 << 20


def doing(process: subprocess.Popen[str], *words: str) -> bool:
    """Whether the run has a child with these words in its command line."""
    wanted = " ".join(words)
    for pid, _ in witness.family(process.pid):
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if pid != process.pid and f" {wanted} " in line:
            return True
    return False


def setup(night: Nightly, tmp_path: Path, name: str = "killed") -> None:
    """One image that nobody has built, over one that Trove takes now and that is to go."""
    elements = tmp_path / f"elements-{name}"
    write_hook(elements, f"site/post-install.d/90-{name}", f"sleep 1; echo {elements} > /etc/site")
    row = night.row("plain")
    row["set"] |= {"elements.path": [str(elements)], "elements.agent": ["site"]}
    publish = row["publish"][0]
    publish["retire"] = {"keep": 0}
    # One version that is there, and one that is not yet: both by the same tags.
    publish["versions"].append({**publish["versions"][0], "version": "8.0"})
    night.images = tmp_path / f"images-{name}"
    night.only("plain", mirrors=True)
    begin(night)


def begin(night: Nightly) -> None:
    """The cloud as it was before: a version whose image is of somebody's hand."""
    night.site.image("older")
    night.site.version()


def at_request(night: Nightly, kill: Killer, phase: Phase) -> Rule:
    """Have a run killed by a request that a phase makes; the service still gets it."""

    def now(_request: Request) -> None:
        kill()

    def later(_request: Request) -> Action:
        threading.Timer(0.5, kill).start()
        return Slow(_RATE)

    def promotes(_request: Request) -> bool:
        return bool(kill.process and doing(kill.process, "datastore", "promote"))

    glance, trove = night.cloud.proxies.glance, night.cloud.proxies.trove
    if phase is Phase.MIRROR:
        return night.proxy.add(Rule("*", UPLOADS, Call(now), nth=3))
    if phase is Phase.UPLOAD:
        return glance.add(Rule("PUT", "/file$", Call(later)))
    if phase is Phase.REGISTER:
        return trove.add(Rule("POST", "/datastore-versions", Call(now)))
    if phase is Phase.PROMOTE:
        return glance.add(Rule("PATCH", "/images/", Call(now), when=promotes))
    return glance.add(Rule("POST", "/actions/deactivate", Call(now)))


def killed(night: Nightly, phase: Phase) -> None:
    """A run that is killed in a phase, and leaves nothing that lives."""
    kill = Killer()
    by_request = phase not in (Phase.BUILD, Phase.VERIFY)
    if by_request:
        at_request(night, kill, phase)
    process = kill.process = night.start()
    if phase is Phase.BUILD:
        kill.when(
            lambda: witness.has_reached(
                witness.log_of(night.cache, process), "agent", "post-install/90-killed"
            ) and doing(process, "build"),
            "the build",
        )  # fmt: skip
    elif phase is Phase.VERIFY:
        kill.when(lambda: doing(process, "verify"), "the verification", after=1.5)
    code = process.wait(120)
    assert code == -signal.SIGKILL, (
        f"{phase.value}: {code}\n{(night.directory / 'run.err').read_text()}"
    )
    assert len(kill.before) > 1, "no child was at work"
    assert left_of(night.cache, kill.before) == [], phase
    assert left_of(night.images, kill.before) == [], phase
    for proxy in (*night.cloud.proxies.all(), night.proxy):
        proxy.reset()
    # Who asks for an instance meanwhile gets a whole image; none that was not proven is there.
    for build in night.current().values():
        assert build
    if phase in (Phase.MIRROR, Phase.BUILD, Phase.VERIFY):
        assert [i.name for i in night.glance()] == ["older"]
    report = reporting.read(night.latest())
    assert not report.complete


def test_killed_in_each_phase_and_taken_up_again(night: Nightly, tmp_path: Path) -> None:
    setup(night, tmp_path)
    for phase in (
        Phase.MIRROR, Phase.BUILD, Phase.VERIFY, Phase.UPLOAD, Phase.REGISTER, Phase.PROMOTE,
        Phase.RETIRE,
    ):  # fmt: skip
        killed(night, phase)
    last = night.run()
    done = last.phases(PLAIN)
    assert {done[p] for p in ("build", "verify", "upload", "register", "promote")} == {"unchanged"}
    assert done["retire"] == "passed", "what was marked is deleted"
    assert last.cells[MIRROR] == "unchanged"
    assert witness.scratch_of(night.cache) == []
    assert [p.name for p in night.images.iterdir() if p.name.startswith(".")] == []
    disturbed = night.state()

    # The same without a kill, from the beginning.
    night.forget()
    begin(night)
    night.run()
    night.run()
    assert night.state() == disturbed


@FULL
def test_killed_at_each_change_of_the_cloud(night: Nightly, tmp_path: Path) -> None:
    """Each request that changes something, one after the other."""
    setup(night, tmp_path, "each")
    proxies = (night.cloud.proxies.glance, night.cloud.proxies.trove)
    night.run()
    night.run()
    undisturbed = night.state()
    night.forget()
    begin(night)
    night.run()
    changes = [r for p in proxies for r in p.seen() if r.method != "GET"]
    assert len(changes) >= 6
    for number in range(1, 30):
        night.forget()
        for proxy in proxies:
            proxy.reset()
        begin(night)
        kill, count = Killer(), [number]

        def counted(request: Request, count: list[int] = count) -> bool:
            count[0] -= request.method != "GET"
            return count[0] == 0 and request.method != "GET"

        for proxy in proxies:
            proxy.add(Rule("*", "", Call(lambda _request, kill=kill: kill()), when=counted))  # type: ignore[misc]
        process = kill.process = night.start()
        process.wait(300)
        if not kill.has_killed.is_set():
            break
        assert left_of(night.cache, kill.before) == []
        assert all(night.current().values())
        for proxy in proxies:
            proxy.reset()
        night.run()
        night.run()
        assert night.state() == undisturbed, number
    else:
        pytest.fail("it changes something without an end")
    assert number > 5


@FULL
@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), (signal.SIGINT, 130)],
    ids=["SIGTERM", "SIGINT"],
)
def test_a_signal_ends_it_with_a_report(night: Nightly, number: int, code: int) -> None:
    night.only("plain", "large")
    stop = threading.Event()

    def later(_request: Request) -> Action:
        stop.set()
        return Slow(_RATE)

    night.cloud.proxies.glance.add(Rule("PUT", "/file$", Call(later)))
    process = night.start()
    assert stop.wait(120), "no upload"
    before = witness.family(process.pid)
    process.send_signal(number)
    done = night.wait(process)
    assert done.code == code
    assert left_of(night.cache, before) == []
    assert done.phases(PLAIN)["upload"] == "interrupted"
    assert done.phases(PLAIN)["promote"] == "held"
    assert done.cells[LARGE] in ("held", "skipped", "interrupted")
    written = reporting.read(night.latest())
    assert written.exit_code == code
    assert (night.reports / "nightly/latest").resolve() == night.latest().resolve()
    assert {p.name for p in night.latest().iterdir()} >= {"report.md", "junit.xml", "report.html"}
    assert night.glance() == [], "a half image is left"
    night.cloud.proxies.glance.reset()
    assert night.run().report.exit_code == 0
    assert len(night.glance()) == 2


@FULL
def test_services_that_do_not_answer_are_tried_again(night: Nightly) -> None:
    """A cloud and a registry that are away: 75, tried three times; the rest is done."""
    large = night.row("large")
    large["publish"][0]["cloud"] = "gone"
    night.document["gates"] = {"mirrors": "go-on"}
    night.write()
    clouds = json.loads((night.directory / "clouds.yaml").read_text())
    gone = json.loads(json.dumps(clouds["clouds"]["prod"]))
    gone["auth"]["auth_url"] = re.sub(r":\d+/", ":9/", gone["auth"]["auth_url"])
    clouds["clouds"]["gone"] = gone
    (night.directory / "clouds.yaml").write_text(json.dumps(clouds))
    night.proxy.fail("*", "", status=503, times=None)
    done = night.run(code=75)
    assert done.cells[PLAIN] == "passed"
    assert done.cells[LARGE] == done.cells[MIRROR] == "failed"
    for cell, phase in ((LARGE, Phase.UPLOAD), (MIRROR, Phase.MIRROR)):
        report = done.report.cell(cell)
        assert report
        (failed,) = [p for p in report.phases if p.phase is phase]
        assert [a.exit_code for a in failed.attempts] == [75, 75, 75]
        starts = [a.started for a in failed.attempts]
        assert starts[1] - starts[0] >= 1
    assert list(night.current()) == ["mysql 8.4"]
    # A mirror that is not whole holds what is promoted, unless the file says otherwise.
    night.document["gates"] = {}
    night.only("plain", mirrors=True)
    night.forget()
    held = night.run(code=75)
    assert held.phases(PLAIN)["promote"] == "held"
    assert night.current() == {} or set(night.current().values()) == {""}
    assert all(properties.TAGS in i.properties and not i.tags for i in night.glance())
    night.proxy.reset()
    assert night.run().cells == {MIRROR: "passed", PLAIN: "passed"}
    assert list(night.current()) == ["mysql 8.4"]


@FULL
def test_job_by_job_on_several_machines(night: Nightly, tmp_path: Path) -> None:
    """An engine's jobs, each with a report directory of its own, merged: as one run says it."""
    night.only("plain", mirrors=True)
    reports = []

    def job(cell: str, phase: str) -> None:
        place = tmp_path / f"{cell}-{phase}"
        reports.append(str(place / "nightly/latest"))
        night.run("--cell", cell, "--phase", phase, IMAGEBUILD_REPORTS=str(place))

    job(MIRROR, "mirror")
    for phase in ("build", "verify", "publish"):
        job(PLAIN, phase)
    merged = tmp_path / "merged"
    out = night.tool("pipeline", "collect", *reports, "--reports", str(merged), "--json")
    together = json.loads(out)
    assert together["exit_code"] == 0
    assert together["complete"]
    statuses = {
        (c["id"], p["phase"]): p["status"] for c in together["cells"] for p in c["phases"]
    }  # fmt: skip
    whole = night.run().report
    assert set(statuses) == {(c.id, p.phase.value) for c in whole.cells for p in c.phases}
    assert statuses[PLAIN, "upload"] == statuses[PLAIN, "register"] == "passed"
    assert "skipped" not in {s for (c, p), s in statuses.items() if p != "retire"}
    (cell,) = [c for c in together["cells"] if c["id"] == PLAIN]
    assert cell["build_id"] == whole.cell(PLAIN).build_id  # type: ignore[union-attr]
    assert cell["image"]["packages"]
    assert next(merged.rglob("report.html")).stat().st_size > 1000
