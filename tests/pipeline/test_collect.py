"""`pipeline collect`: reports of several machines as one."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from imagebuild.config.pipeline import Gates, MirrorStep, Publish, Retire, Verify, VersionToPromote
from imagebuild.config.words import Arch
from imagebuild.errors import ConfigError, ExitCode
from imagebuild.pipeline import reporting
from imagebuild.pipeline.cells import JOBS, Cell, ImageCell, Job, MirrorCell, Phase
from imagebuild.pipeline.merging import add_missing, is_complete, merge
from imagebuild.pipeline.outcome import CellReport, PhaseReport, RunReport, Status
from tests.cli.fuzz import Ended, invoke
from tests.pipeline import sample

WHOLE = sample.tonight()


def jobs(report: RunReport = WHOLE) -> list[RunReport]:
    """What the jobs of an engine would have left: a report for each cell and job."""
    made: list[RunReport] = []
    for cell in report.cells:
        for job in Job:
            phases = tuple(p for p in cell.phases if p.phase in job.phases)
            if not phases:
                continue
            started = min((p.started for p in phases if p.started), default=report.started)
            knows = cell.image if job is not Job.MIRROR else None
            if knows and job is Job.BUILD:
                knows = dict(knows) | {"verdict": None, "proven": None, "checks": [], "boots": {}}
            one = dataclasses.replace(cell, phases=phases, image=knows)
            made.append(
                dataclasses.replace(
                    report,
                    run=sample.run_name(started),
                    started=started,
                    seconds=round(sum(p.seconds for p in phases), 3),
                    cells=(one,),
                    host=f"runner-{len(made)}",
                )
            )
    return made


def placed(reports: Sequence[RunReport], top: Path) -> list[Path]:
    """Each in a directory of its own, as its job has left it, with logs."""
    directories = []
    for number, report in enumerate(reports):
        directory = reporting.new_directory(top / f"job-{number}", report.pipeline, report.run)
        for cell in report.cells:
            for phase in cell.phases:
                if phase.log:
                    log = directory / phase.log
                    log.parent.mkdir(parents=True, exist_ok=True)
                    log.write_text(f"{cell.id} {phase.phase.value} {phase.target}\n")
        reporting.save(report, directory)
        directories.append(directory)
    return directories


def cells() -> tuple[Cell, ...]:
    """What the pipeline's file of these nights says."""
    version = VersionToPromote(datastore="mysql", version="8.4")
    cloud = Publish(versions=(version,), retire=Retire())
    images = (
        ImageCell(i, i[:-6], None, Arch.AMD64, Verify(), (cloud,), Gates())
        for i in (sample.BOOKWORM, sample.JAMMY)
    )
    return (MirrorCell(sample.MIRROR, MirrorStep(list="trove")), *images)


def statuses(report: RunReport) -> dict[tuple[str, str, str], str]:
    """What became of every phase."""
    return {(c.id, p.phase.value, p.target): p.status.value for c in report.cells for p in c.phases}


def collect(*argv: object) -> Ended:
    """Run the verb."""
    return invoke(["pipeline", "collect", *map(str, argv)])


# Merging


def test_jobs_together_are_the_whole_run() -> None:
    merged = merge(jobs())
    assert merged.cells == WHOLE.cells
    assert merged.exit_code == ExitCode.OK
    assert merged.started == WHOLE.cells[0].phases[0].started
    assert merged.started + merged.seconds == max(r.started + r.seconds for r in jobs())
    assert merged.host.split(", ") == sorted(f"runner-{n}" for n in range(len(jobs())))
    assert merged.tool == WHOLE.tool


def test_order_and_repetition_do_not_matter() -> None:
    reports = jobs(sample.bad_night())
    merged = merge(reports)
    for some in itertools.islice(itertools.permutations(reports), 0, 5000, 611):
        assert merge(some) == merged
    assert merge([*reports, merged]) == merged
    assert merge([merged, *reports, *reports]) == merged
    assert merge([merged]) == merged


def test_a_job_that_was_run_again_counts_with_its_last_try() -> None:
    good = jobs()
    verify = next(r for r in good if r.cells[0].phases[0].phase is Phase.VERIFY)
    (cell,) = verify.cells
    phase = dataclasses.replace(
        cell.phases[0], status=Status.FAILED, error={"exit_code": 75, "what": "no answer"}
    )
    failed = dataclasses.replace(verify, cells=(dataclasses.replace(cell, phases=(phase,)),))
    again = dataclasses.replace(
        verify,
        started=verify.started + 900,
        run=sample.run_name(verify.started + 900),
        cells=(
            dataclasses.replace(
                cell,
                phases=(dataclasses.replace(cell.phases[0], started=phase.started + 900),),
            ),
        ),
    )
    others = [r for r in good if r is not verify]
    assert merge([*others, failed]).exit_code == ExitCode.TEMPORARY
    assert merge([again, *others, failed]).exit_code == ExitCode.OK
    # And the other way round: what was good before does not hide what is bad now.
    worse = dataclasses.replace(
        again,
        cells=(
            dataclasses.replace(
                cell, phases=(dataclasses.replace(phase, started=phase.started + 900),)
            ),
        ),
    )
    assert merge([verify, *others, worse]).exit_code == ExitCode.TEMPORARY


def on(
    phase: Phase, status: Status, started: float = 0, target: str = "", run: int = 0
) -> RunReport:
    """A report with a phase of a cell."""
    made = PhaseReport(phase, status, started=started, target=target, why="for a reason")
    if status is Status.FAILED:
        made = dataclasses.replace(made, error={"exit_code": 5, "what": "bad"})
    cell = CellReport("one-amd64", "image", (made,))
    start = sample.NIGHT + started + run
    return sample.empty(run=sample.run_name(start), started=start, cells=(cell,))


@pytest.mark.parametrize(
    ("reports", "status"),
    [
        # Done before not asked for, whatever came later.
        ([on(Phase.UPLOAD, Status.PASSED, 5), on(Phase.UPLOAD, Status.SKIPPED)], "passed"),
        # Held tells more than not asked for: it is not published.
        ([on(Phase.UPLOAD, Status.HELD), on(Phase.UPLOAD, Status.SKIPPED, run=9)], "held"),
        # It failed to tell, and had been done.
        ([on(Phase.RETIRE, Status.FAILED, 5), on(Phase.RETIRE, Status.UNCHANGED, 9)], "unchanged"),
        ([on(Phase.UPLOAD, Status.UNCHANGED, 5), on(Phase.UPLOAD, Status.FAILED, 9)], "failed"),
        # A job that is run again finds all done: what counts is who did it.
        ([on(Phase.UPLOAD, Status.PASSED, 5), on(Phase.UPLOAD, Status.UNCHANGED, 9)], "passed"),
        # Without a target: of all of them.
        ([on(Phase.UPLOAD, Status.HELD), on(Phase.UPLOAD, Status.PASSED, 5, "a")], "passed"),
    ],
)  # fmt: skip
def test_what_counts_of_a_phase(reports: list[RunReport], status: str) -> None:
    for some in itertools.permutations(reports):
        (phase,) = merge(some).cells[0].phases
        assert phase.status.value == status


def test_what_verify_knows_of_the_image_is_kept() -> None:
    cell = merge(jobs()).cell(sample.BOOKWORM)
    assert cell
    assert cell.image
    assert cell.image["proven"] == "database"
    assert cell.image["checks"]


def test_a_killed_job_counts_until_it_was_run_again() -> None:
    good = jobs()
    publish = good[3]
    (cell,) = publish.cells
    cut = dataclasses.replace(cell, phases=cell.phases[:3])
    killed = dataclasses.replace(publish, complete=False, cells=(cut,))
    others = [r for r in good if r is not publish]
    # That one cloud has it all, and other jobs of the cell came to their ends, is not enough.
    assert not merge([*others, killed]).complete
    assert merge([*others, killed]).exit_code == ExitCode.FAILED
    verify = dataclasses.replace(good[2], started=publish.started + 1)
    assert not merge([*others, killed, verify]).complete
    again = dataclasses.replace(publish, started=publish.started + 1)
    assert merge([*others, killed, again]).complete
    # Killed before it had done anything: only who knows what there must be can tell.
    blank = dataclasses.replace(
        killed, cells=(dataclasses.replace(cell, phases=()),), started=killed.started - 1
    )
    assert not merge([*good, blank]).complete
    assert is_complete([*good, blank], is_all_there=True)
    assert not is_complete([*others, killed], is_all_there=True)


def test_reports_of_different_pipelines_are_not_merged() -> None:
    with pytest.raises(ConfigError, match="different pipelines") as caught:
        merge([WHOLE, dataclasses.replace(WHOLE, pipeline="other")])
    assert caught.value.detail == "nightly, other"
    with pytest.raises(ConfigError):
        merge([])


def test_a_job_that_never_ran_is_a_failure() -> None:
    for number, left_out in enumerate(jobs()):
        some = [r for n, r in enumerate(jobs()) if n != number]
        full, sentences = add_missing(merge(some), cells())
        assert full.exit_code == ExitCode.FAILED, left_out.cells[0].id
        assert [s.partition(":")[0] for s in sentences] == [left_out.cells[0].id]
        cell = full.cell(left_out.cells[0].id)
        assert cell
        bad = {p.phase for p in cell.phases if p.status in (Status.FAILED, Status.HELD)}
        assert bad == {p.phase for p in left_out.cells[0].phases}
        # What stood for it goes when it has come.
        assert merge([full, left_out, *some]).cells == WHOLE.cells
    assert add_missing(merge(jobs()), cells()) == (merge(jobs()), ())


def test_a_phase_that_never_ran_goes_when_it_has_come() -> None:
    """Also where it is several: one a cloud."""
    bookworm = WHOLE.cells[1]
    kept = tuple(p for p in bookworm.phases if p.phase is not Phase.UPLOAD)
    full, sentences = add_missing(
        sample.empty(cells=(dataclasses.replace(bookworm, phases=kept),)), cells()[1:2]
    )
    assert sentences == (f"{sample.BOOKWORM}: never ran: upload",)
    assert full.exit_code == ExitCode.FAILED
    assert merge([full, sample.empty(cells=(bookworm,))]).exit_code == ExitCode.OK


def test_gates_that_ask_for_nothing_are_not_missing() -> None:
    """Where nothing is published, no job of an engine comes after verify."""
    published = cells()[1]
    assert isinstance(published, ImageCell)
    cell = dataclasses.replace(published, publish=())
    assert Phase.GATES in cell.phases
    bookworm = dataclasses.replace(WHOLE.cells[1], phases=WHOLE.cells[1].phases[:2])
    report = sample.empty(cells=(bookworm,))
    assert add_missing(report, [cell]) == (report, ())
    strict = dataclasses.replace(cell, gates=Gates(size="600M"))
    assert add_missing(report, [strict])[1] == (f"{sample.BOOKWORM}: never ran: gates",)


def test_nothing_is_missing_behind_what_failed() -> None:
    """A publish job that an engine does not start since verify failed is held, not lost."""
    bad = sample.bad_night()
    jammy = bad.cell(sample.JAMMY)
    assert jammy
    kept = tuple(p for p in jammy.phases if p.phase in (Phase.BUILD, Phase.VERIFY))
    report = sample.empty(cells=(dataclasses.replace(jammy, phases=kept),))
    full, _ = add_missing(report, cells()[2:])
    assert full.exit_code == ExitCode.VERIFY
    cell = full.cell(sample.JAMMY)
    assert cell
    held = [p for p in cell.phases if p.status is Status.HELD]
    assert {p.phase for p in held} == set(JOBS[Job.PUBLISH])
    assert {p.why for p in held} == {"verify failed"}


def test_a_cell_that_the_file_does_not_have_is_told() -> None:
    full, sentences = add_missing(WHOLE, cells()[:2])
    assert sentences == ()
    assert full.notes == (f"{sample.JAMMY} is in a report, but not in the pipeline's file",)
    assert full.cell(sample.JAMMY) == WHOLE.cell(sample.JAMMY)


# The verb


def test_collect_merges_and_copies_the_logs(tmp_path: Path) -> None:
    directories = placed(jobs(), tmp_path / "jobs")
    out = tmp_path / "out"
    ended = collect(tmp_path / "jobs", "--reports", out, "--json")
    assert ended.code == 0, ended.err
    document = ended.document
    assert sorted(document["merged"]) == sorted(map(str, directories))
    place = Path(document["directory"])
    assert place == (out / "nightly/latest").resolve()
    assert {p.name for p in place.iterdir()} == {
        "report.json", "report.md", "junit.xml", "metrics.prom", "report.html", "cells",
    }  # fmt: skip
    report = reporting.read(place)
    assert statuses(report) == statuses(WHOLE)
    assert document["totals"]["passed"] == 3
    logs = 0
    for cell in report.cells:
        for phase in cell.phases:
            log = place / phase.log
            assert log.read_text() == f"{cell.id} {phase.phase.value} {phase.target}\n"
            logs += 1
    assert logs == len(statuses(WHOLE)) == len(list((place / "cells").rglob("*.log")))
    assert "good: 3 cells passed" in ended.err


def test_collecting_again_is_the_same(tmp_path: Path) -> None:
    """Also into the very directory that the runs have written to."""
    reports = tmp_path / "reports"
    for number, directory in enumerate(placed(jobs(sample.bad_night()), tmp_path / "jobs")):
        report = reporting.read(directory)
        moved = reports / "nightly" / f"{report.run}{'' if number == 0 else f'-{number + 1}'}"
        shutil.move(directory, moved)
        reporting.save(dataclasses.replace(report, run=moved.name), moved)
    first = collect(reports, "--reports", reports)
    place = Path(first.out.strip())
    assert first.code == 1
    contents = {p.relative_to(place): p.read_bytes() for p in place.rglob("*") if p.is_file()}
    second = collect(reports, "--reports", reports)
    assert (second.code, second.out) == (1, first.out)
    assert contents == {
        p.relative_to(place): p.read_bytes() for p in place.rglob("*") if p.is_file()
    }
    assert statuses(reporting.read(place)) == statuses(sample.bad_night())
    # The parts are not taken for nights of their own.
    assert [r.run for r in reporting.history(reports, "nightly")] == [place.name]


def test_a_job_run_again_is_collected_again(tmp_path: Path) -> None:
    """What the first collect said of the killed one does not stay."""
    good = jobs()
    cut = dataclasses.replace(good[3].cells[0], phases=good[3].cells[0].phases[:2])
    killed = dataclasses.replace(good[3], complete=False, cells=(cut,))
    reports = tmp_path / "reports"

    def leave(report: RunReport) -> None:
        directory = reporting.new_directory(reports, "nightly", report.run)
        reporting.save(dataclasses.replace(report, run=directory.name), directory)

    for report in (*good[:3], killed, *good[4:]):
        leave(report)
    assert collect(reports, "--reports", reports).code == 1
    later = good[3].started + 3600
    leave(dataclasses.replace(good[3], started=later, run=sample.run_name(later)))
    ended = collect(reports, "--reports", reports)
    assert ended.code == 0, ended.err
    assert [r.run for r in reporting.history(reports, "nightly")] == [Path(ended.out.strip()).name]


def test_earlier_nights_are_compared_with_not_merged(tmp_path: Path) -> None:
    jobs_, old, out = tmp_path / "jobs", tmp_path / "old", tmp_path / "out"
    placed(jobs(), jobs_)
    nights = sample.earlier(3)
    for report in nights[1:]:
        reporting.write(report, reporting.new_directory(old, "nightly", report.run), [])
    # One job's machine keeps the reports of the nights before.
    last = nights[0]
    reporting.save(last, reporting.new_directory(jobs_ / "job-2", "nightly", last.run))
    for argv in (["--previous", old], ["--previous", tmp_path / "none"]):
        ended = collect(jobs_, "--reports", out, *argv)
        assert ended.code == 0, ended.err
        text = (out / "nightly/latest/report.md").read_text()
        assert f"since {nights[-1].run if argv[1] == old else last.run}" in text
        assert len(reporting.read(out / "nightly/latest").cells) == 3
    wide = collect(jobs_, "--reports", tmp_path / "all", "--within", "100h", "--json").document
    assert str(jobs_ / "job-2/nightly" / last.run) in wide["merged"]


def test_a_report_that_cannot_be_read_is_no_good_one(tmp_path: Path) -> None:
    directories = placed(jobs(), tmp_path / "jobs")
    (directories[2] / "report.json").write_text("{")
    ended = collect(tmp_path / "jobs", "--reports", tmp_path / "out", "--json")
    assert ended.code == 1
    assert "cannot be read" in ended.document["notes"][0]
    assert not ended.document["complete"]
    assert len(ended.document["merged"]) == len(directories) - 1


def test_what_leads_out_of_a_report_is_not_copied(tmp_path: Path) -> None:
    (directory,) = placed([WHOLE], tmp_path / "jobs")
    secret = tmp_path / "secret"
    secret.write_text("not yours")
    document = json.loads((directory / "report.json").read_text())
    phases = document["cells"][1]["phases"]
    phases[0]["log"] = "../../../../secret"
    phases[1]["log"] = str(secret)
    (directory / "link.log").symlink_to(secret)
    phases[2]["log"] = "link.log"
    (directory / "report.json").write_text(json.dumps(document))
    ended = collect(directory, "--reports", tmp_path / "out", "--json")
    place = Path(ended.document["directory"])
    assert [p["log"] for p in ended.document["cells"][1]["phases"][:3]] == ["", "", ""]
    texts = [p.read_text() for p in place.rglob("*") if p.is_file()]
    assert not any("not yours" in t for t in texts)


@pytest.mark.parametrize(("key", "name"), [("run", "../../x"), ("pipeline", "../x"), ("run", "")])
def test_a_report_does_not_choose_its_place(key: str, name: str, tmp_path: Path) -> None:
    (directory,) = placed([WHOLE], tmp_path / "jobs")
    document = json.loads((directory / "report.json").read_text())
    document[key] = name
    (directory / "report.json").write_text(json.dumps(document))
    out = tmp_path / "a/b/out"
    ended = collect(directory, "--reports", out)
    assert ended.code == 3
    assert "a name that cannot be" in ended.err
    assert not out.exists()


def test_logs_lose_their_secrets_on_the_way(tmp_path: Path) -> None:
    (directory,) = placed([WHOLE], tmp_path / "jobs")
    log = directory / WHOLE.cells[0].phases[0].log
    log.write_bytes(b"fetching https://ci:hunter2@example.org/x\r\n\xff\x00 password=hunter2\n")
    ended = collect(directory / "report.json", "--reports", tmp_path / "out")
    copied = Path(ended.out.strip()) / WHOLE.cells[0].phases[0].log
    assert copied.read_bytes() == b"fetching https://example.org/x\r\n\\xff\x00 password=***\n"


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    placed(jobs(sample.bad_night()), tmp_path / "jobs")
    out = tmp_path / "out"
    ended = collect(tmp_path / "jobs", "--reports", out, "--dry-run", "--json")
    assert ended.code == 1
    assert ended.document["directory"] is None
    assert ended.document["totals"]["failed"] == 2
    assert not out.exists()
    assert "nothing was written" in ended.err


def test_wrong_directories(tmp_path: Path) -> None:
    absent = collect(tmp_path / "none", "--reports", tmp_path / "out")
    assert (absent.code, absent.out) == (3, "")
    assert "there is no such directory" in absent.err
    assert str(tmp_path / "none") in absent.err
    (tmp_path / "a.json").write_text("{}")
    assert "this is not a directory" in collect(tmp_path / "a.json").err
    (tmp_path / "empty").mkdir()
    empty = collect(tmp_path / "empty", "--reports", tmp_path / "out")
    assert empty.code == 3
    assert "there is no report to collect" in empty.err
    placed([WHOLE, dataclasses.replace(WHOLE, pipeline="other")], tmp_path / "jobs")
    two = collect(tmp_path / "jobs", "--reports", tmp_path / "out")
    assert two.code == 3
    assert "collect one pipeline's at a time" in two.err
    (tmp_path / "file").write_text("")
    placed([WHOLE], tmp_path / "good")
    blocked = collect(tmp_path / "good", "--reports", tmp_path / "file/reports")
    assert blocked.code == 4
    assert "--reports DIR chooses another directory" in blocked.err
    assert collect(tmp_path / "good", "--within", "soon").code == 2
    assert collect().code == 2


FILE = """\
mirrors:
  - list: {mirror}
    target: registry.example.org/trove
images:
  - profiles: [debian-bookworm, ubuntu-jammy]
publish:
  - cloud: region-one
retention:
  reports: 2
"""


def test_the_pipeline_is_loaded_as_its_jobs_load_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where copies go, and where profiles are, may be said by the environment."""
    placed(jobs(), tmp_path / "jobs")
    file = tmp_path / "nightly.yaml"
    file.write_text("mirrors:\n  - list: trove\nimages: []\n")
    arguments = (tmp_path / "jobs", "--reports", tmp_path / "out", "--pipeline", file, "--dry-run")
    ended = collect(*arguments)
    assert "the mirror list trove is left out" in ended.err
    monkeypatch.setenv("IMAGEBUILD_MIRROR_TARGET", "registry.example.org/trove")
    assert "left out" not in collect(*arguments).err
    file.write_text("images:\n  - profiles: mine\n")
    assert collect(*arguments).code == 3
    (tmp_path / "mine.yaml").write_text("extends: debian-bookworm\n")
    found = collect(*arguments, "--profiles-path", tmp_path, "--json")
    assert "mine-amd64: no report has it" in found.document["missing"], found.err


def test_the_pipelines_file_tells_what_is_missing(tmp_path: Path) -> None:
    file = tmp_path / "nightly.yaml"
    file.write_text(FILE.format(mirror="trove"))
    some = jobs()
    placed(some, tmp_path / "jobs")
    out = tmp_path / "out"
    for report in sample.earlier(4):
        reporting.save(report, reporting.new_directory(out, "nightly", report.run))
    ended = collect(tmp_path / "jobs", "--reports", out, "--pipeline", file, "--json")
    assert (ended.code, ended.document["missing"]) == (0, []), ended.err
    assert len([p for p in (out / "nightly").iterdir() if p.name != "latest"]) == 2
    shutil.rmtree(tmp_path / "jobs/job-3")  # publish of bookworm
    ended = collect(tmp_path / "jobs", "--reports", out, "--pipeline", file, "--json")
    assert ended.code == 1
    (sentence,) = ended.document["missing"]
    assert sentence.startswith(f"{sample.BOOKWORM}: never ran: gates, upload")
    assert f"warning: {sentence}" in ended.err
    assert "no report says what became of gates" in (out / "nightly/latest/report.md").read_text()
    # Not one job has left anything: the report says so, too.
    shutil.rmtree(tmp_path / "jobs")
    ended = collect(tmp_path / "jobs", "--reports", tmp_path / "new", "--pipeline", file, "--json")
    assert ended.code == 1
    assert len(ended.document["missing"]) == 3
    assert (tmp_path / "new/nightly/latest/junit.xml").exists()
