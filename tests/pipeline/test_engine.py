"""The engine's order, retries, holding and gates, with verbs that answer at once."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import pytest

from imagebuild.config.pipeline import Gates, Verify
from imagebuild.config.words import Arch, Series
from imagebuild.errors import ConfigError, TemporaryError
from imagebuild.manifest import ArtifactView
from imagebuild.pipeline import artifacts, cellrun, engine, reporting
from imagebuild.pipeline.cells import ImageCell, Job, Phase
from imagebuild.pipeline.outcome import CellReport, RunReport, Status
from tests.pipeline.fakenight import TEMPORARY, Fake, one, statuses


@pytest.fixture
def fake(tmp_path: Path) -> Fake:
    return Fake(tmp_path)


def test_the_first_and_the_second_night(fake: Fake) -> None:
    report = fake.run()
    assert report.exit_code == 0
    assert report.complete
    artifact = report.cell("one-amd64").artifact  # type: ignore[union-attr]
    image = f"id-prod-{artifact[-8:]}"
    calls = [c.replace(artifact, "ARTIFACT") for c in fake.calls]
    assert calls[0].startswith("mirror sync trove")
    mine = [c for c in calls if "two" not in c][1:12]
    assert [c for c in mine if "lab" not in c] == [
        "build one",
        "verify ARTIFACT --level static",
        "upload ARTIFACT --cloud prod --datastore mysql --candidate",
        "datastore list --cloud prod",
        f"datastore create mysql 8.4 --image {image} --active --cloud prod",
        f"datastore promote {image} mysql 8.4 --unless-rolled-back --cloud prod",
        "datastore retire mysql --keep 1 --cloud prod",
    ]
    assert set(statuses(report, "one-amd64")) == {
        "build", "verify", "gates", "upload prod", "upload lab", "register prod/mysql/8.4",
        "register lab/mysql/8.4", "promote prod/mysql/8.4", "promote lab/mysql/8.4",
        "retire prod/mysql", "retire lab/mysql",
    }  # fmt: skip
    assert [c.id for c in report.cells] == ["mirror-trove", "one-amd64", "two-amd64"]
    build = one(report, "one-amd64", Phase.BUILD)
    assert build.command[:3] == ("imagebuild", "build", "one")
    log = (fake.report_directory / build.log).read_text()
    assert "$ imagebuild build one" in log
    assert "working" in log
    assert reporting.read(fake.report_directory).to_json() == report.to_json()
    assert (fake.report_directory.parent / "latest").resolve() == fake.report_directory.resolve()
    # What each verb finds there is not done again, and what is proven is not asked again.
    second = fake.run("two-amd64")
    assert set(statuses(second, "two-amd64").values()) == {"unchanged"}
    assert not [c for c in fake.calls if c.startswith(("verify", "datastore create"))]


def test_a_failed_cell_does_not_stop_the_others(fake: Fake) -> None:
    fake.plan = {"build one": [{"code": 1, "lines": ["warning: old", "it broke"]}]}
    report = fake.run()
    failed = one(report, "one-amd64", Phase.BUILD)
    assert failed.status is Status.FAILED
    assert failed.error
    assert "status 1" in failed.error["what"]
    assert "it broke" in failed.error["detail"]
    assert failed.warnings == ("old",)
    held = statuses(report, "one-amd64")
    assert held.pop("build") == "failed"
    assert set(held.values()) == {"held"}
    assert one(report, "one-amd64", Phase.PROMOTE).why == "build failed"
    assert set(statuses(report, "two-amd64").values()) <= {"passed", "unchanged"}
    assert report.exit_code == 1


def test_nothing_goes_up_that_did_not_verify(fake: Fake) -> None:
    fake.plan = {"verify": [{"code": 5}]}
    report = fake.run("one-amd64")
    error = one(report, "one-amd64", Phase.VERIFY).error
    assert error
    assert (error["error"], error["exit_code"]) == ("VerifyError", 5)
    assert "static/fstab: no root" in error["detail"]
    assert not [c for c in fake.calls if c.startswith(("upload", "datastore"))]
    assert report.exit_code == 5
    # Not even by a job of its own.
    alone = fake.run("one-amd64", job=Job.PUBLISH)
    assert one(alone, "one-amd64", Phase.GATES).exit_code == 7
    assert not [c for c in fake.calls if c.startswith("upload")]
    assert statuses(alone, "one-amd64")["build"] == "skipped"


def test_only_what_is_temporary_is_tried_again(fake: Fake) -> None:
    fake.plan = {
        "build one": [{"code": 75, "error": TEMPORARY}, {"code": 75, "error": TEMPORARY}, {}],
        "build two": [{"code": 75, "error": TEMPORARY}],
    }
    report = fake.run(jobs=2)
    good = one(report, "one-amd64", Phase.BUILD)
    assert good.status is Status.PASSED
    assert [a.exit_code for a in good.attempts] == [75, 75, 0]
    gaps = [b.started - a.started for a, b in zip(good.attempts, good.attempts[1:], strict=False)]
    assert 1 <= gaps[0] < 1.9
    assert 2 <= gaps[1] < 3.5, "the second wait is twice as long"
    bad = one(report, "two-amd64", Phase.BUILD)
    assert bad.error == TEMPORARY
    assert len(bad.attempts) == 3
    assert report.exit_code == 75
    fake.plan = {"build one": [{"code": 3}]}
    assert len(one(fake.run("one-amd64"), "one-amd64", Phase.BUILD).attempts) == 1


def test_a_cloud_that_fails_holds_itself_alone(fake: Fake) -> None:
    error = {**TEMPORARY, "error": "PublishError", "exit_code": 6, "what": "the quota is used up"}
    fake.plan = {"upload prod": [{"code": 6, "error": error}]}
    found = statuses(fake.run("one-amd64"), "one-amd64")
    assert found["upload prod"] == "failed"
    assert {v for k, v in found.items() if "prod/" in k} == {"held"}
    assert {v for k, v in found.items() if "lab" in k} <= {"passed", "unchanged"}


@pytest.mark.parametrize("mirrors", ["hold", "go-on"])
def test_a_mirror_that_is_not_whole(fake: Fake, mirrors: str) -> None:
    error = {**TEMPORARY, "error": "PublishError", "exit_code": 6, "what": "it is gone"}
    fake.plan = {"mirror sync": [{"code": 6, "error": error}]}
    fake.document["gates"] = {"mirrors": mirrors}
    report = fake.run("mirror-trove", "one-amd64")
    found = statuses(report, "one-amd64")
    assert report.exit_code == 6
    assert one(report, "mirror-trove", Phase.MIRROR).error == error
    assert found["verify"] == "passed"
    assert found["promote prod/mysql/8.4"] == ("held" if mirrors == "hold" else "passed")
    if mirrors == "hold":
        assert "mirror-trove" in one(report, "one-amd64", Phase.UPLOAD).why
        assert not [c for c in fake.calls if c.startswith("upload")]


def test_gates(fake: Fake) -> None:
    fake.document["gates"] = {"deny_packages": ["openssh-*"], "size": "1M", "growth": "10%"}
    fake.document["publish"][0]["control_plane_series"] = "2026.1"
    report = fake.run("one-amd64")
    gates = one(report, "one-amd64", Phase.GATES)
    assert gates.error
    assert gates.exit_code == report.exit_code == 7
    assert "openssh-server" in gates.error["detail"]
    assert "2026.1" in gates.error["detail"]
    verdicts = {g["gate"]: g["passed"] for g in gates.result["gates"]}
    assert verdicts == {
        "verified": True, "size": True, "growth": True, "packages": False, "series": False,
    }  # fmt: skip
    assert not [c for c in fake.calls if c.startswith("upload")]


def test_candidates_wait_for_a_person(fake: Fake) -> None:
    for publish in fake.document["publish"]:
        publish["promote"] = False
    found = statuses(fake.run("one-amd64"), "one-amd64")
    assert found["upload prod"] == "passed"
    assert found["promote prod/mysql/8.4"] == found["register prod/mysql/8.4"] == "skipped"
    assert not [c for c in fake.calls if "promote" in c or "create" in c]


def test_a_new_version_that_goes_by_tags_gets_an_image_that_has_them(fake: Fake) -> None:
    fake.document["publish"] = fake.document["publish"][:1]
    fake.document["publish"][0]["versions"][0]["image_tags"] = ["trove", "mysql", "gold"]
    fake.run("one-amd64")
    uploads = [c.partition("--cloud")[2] for c in fake.calls if c.startswith("upload")]
    assert uploads == [
        " prod --tag trove --tag mysql --tag gold --candidate",
        " prod --tag trove --tag mysql --tag gold",
    ]
    create = next(c for c in fake.calls if c.startswith("datastore create"))
    assert "--image-tags trove,mysql,gold --active" in create
    fake.run("one-amd64")
    assert len([c for c in fake.calls if c.startswith("upload")]) == 1


def test_jobs_find_the_artifact_of_the_job_before(fake: Fake, tmp_path: Path) -> None:
    with_reports = fake.places.reports
    assert fake.run("one-amd64", job=Job.VERIFY).exit_code == 3, "nothing was built yet"
    fake.run("one-amd64", job=Job.BUILD)
    assert fake.calls == ["build one"]
    with_reports.rename(tmp_path / "elsewhere")
    # Another machine has the images alone; a mirror that has moved on there does not matter.
    (fake.directory / "seed-one").write_text("newer")
    assert fake.run("one-amd64", job=Job.VERIFY).exit_code == 0
    published = fake.run("one-amd64", job=Job.PUBLISH)
    assert published.exit_code == 0
    assert not [c for c in fake.calls if c.startswith(("build", "verify"))]
    artifact = published.cell("one-amd64").artifact  # type: ignore[union-attr]
    assert artifact in fake.calls[0] or any(artifact in c for c in fake.calls)
    # By the report alone, and by name.
    for pointer in (fake.places.images / "cells").rglob("*.json"):
        pointer.unlink()
    assert fake.run("one-amd64", job=Job.PUBLISH).cell("one-amd64").artifact == artifact  # type: ignore[union-attr]
    named = fake.run("one-amd64", job=Job.VERIFY, artifact=artifact)
    assert statuses(named, "one-amd64")["verify"] == "unchanged"


def test_a_damaged_image_is_not_taken_for_proven(fake: Fake) -> None:
    fake.run("one-amd64", job=Job.BUILD)
    fake.run("one-amd64", job=Job.VERIFY)
    (image,) = fake.places.images.glob("*/*.qcow2")
    image.write_bytes(b"something else")
    report = fake.run("one-amd64", job=Job.VERIFY)
    assert report.exit_code == 5


def test_what_is_wanted_by_now_is_asked_of_the_proof(fake: Fake) -> None:
    fake.run("one-amd64", job=Job.BUILD)
    fake.run("one-amd64", job=Job.VERIFY)
    assert fake.run("one-amd64", job=Job.PUBLISH).exit_code == 0
    # The stand-in boots no machine, as a proof of before the file asked for one.
    (file,) = fake.places.images.glob("*/verify.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | {"proven": "boot"}))
    fake.document["verify"] = {"level": "boot"}
    report = fake.run("one-amd64", job=Job.PUBLISH)
    assert report.exit_code == 7
    assert "held" in statuses(report, "one-amd64").values()
    assert "not booted by" in str(one(report, "one-amd64", Phase.GATES).error)


def test_an_artifact_that_is_named_is_of_the_cell() -> None:
    cell = ImageCell("a", "p", Series("2026.1"), Arch.AMD64, Verify(), (), Gates())

    def view(arch: str, series: str | None) -> ArtifactView:
        content = {"arch": arch, "agent": {"series": series}}
        return ArtifactView(Path("/x"), {"content": content})

    artifacts.check_fits(cell, view("amd64", "2026.1"))
    artifacts.check_fits(cell, view("amd64", None))
    for arch, series in (("arm64", "2026.1"), ("amd64", "2025.1")):
        with pytest.raises(ConfigError, match="the artifact is of the"):
            artifacts.check_fits(cell, view(arch, series))


def test_a_report_that_cannot_be_written_is_told(fake: Fake) -> None:
    places = []

    def in_the_way(directory: Path) -> None:
        places.append(directory)
        (directory / "junit.xml").mkdir()

    with pytest.raises(engine.UnwrittenError) as caught:
        engine.run(
            fake.pipeline, engine.Asked(fake.cells), fake.places, fake.watch,
            program=fake.program, begun=in_the_way,
        )  # fmt: skip
    assert caught.value.exit_code == 4
    assert "junit.xml" in caught.value.where
    assert caught.value.report.cells[-1].status is Status.PASSED
    assert caught.value.directory == places[0]
    assert not (fake.places.reports / "fake" / "latest").exists()


def test_a_phase_has_a_limit(fake: Fake) -> None:
    fake.document["timeouts"] = {"build": "1s"}
    fake.plan = {"build one": [{"sleep": 30}]}
    began = time.monotonic()
    report = fake.run("one-amd64")
    assert time.monotonic() - began < 15
    error = one(report, "one-amd64", Phase.BUILD).error
    assert error
    assert "limit" in error["what"]
    assert report.exit_code == 1
    assert (fake.directory / "signals").read_text() == "build 143\n", "it may tidy up"


def test_a_child_that_somebody_kills(fake: Fake) -> None:
    fake.plan = {"build one": [{"crash": 9}]}
    error = one(fake.run("one-amd64"), "one-amd64", Phase.BUILD).error
    assert error
    assert "SIGKILL" in error["what"]
    assert "memory" in error["hint"]


def test_several_images_at_a_time(fake: Fake) -> None:
    fake.plan = {"build": [{"sleep": 1.5}]}
    fake.has_mirror = False
    began = time.monotonic()
    assert fake.run(jobs=2).exit_code == 0
    together = time.monotonic() - began
    starts = [c for c in fake.calls[:2] if c.startswith("build")]
    assert len(starts) == 2, "both began before one had ended"
    assert together < 3.0 + 2


def test_one_run_of_a_cell_at_a_time(fake: Fake) -> None:
    fake.plan = {"build one": [{"sleep": 2}]}
    done: list[RunReport] = []
    thread = threading.Thread(target=lambda: done.append(fake.run("one-amd64")))
    thread.start()
    fake.wait_for("build one")
    with pytest.raises(TemporaryError, match="is running"):
        fake.run("one-amd64", "two-amd64")
    other = Fake(fake.directory)
    assert other.run("two-amd64").exit_code == 0, "another cell is not in its way"
    assert fake.run("one-amd64", wait=True).exit_code == 0
    thread.join()
    assert done[0].exit_code == 0


def test_children_do_not_hear_what_the_file_says() -> None:
    from imagebuild.cli.pipeline.surroundings import for_children, unheard

    environ = {"IMAGEBUILD_UNVERIFIED": "1", "IMAGEBUILD_MIRROR": "http://a", "PATH": "/bin",
               "IMAGEBUILD_CACHE_DIR": "/c"}  # fmt: skip
    assert for_children(environ) == {"IMAGEBUILD_MIRROR": "http://a", "PATH": "/bin"}
    assert unheard(environ) == ["IMAGEBUILD_UNVERIFIED"]


def test_older_artifacts_go(fake: Fake) -> None:
    fake.document["retention"] = {"artifacts": 2, "reports": 2}
    fake.document["publish"] = []
    seen = []
    for night in range(4):
        (fake.directory / "seed-one").write_text(str(night))
        seen.append(fake.run("one-amd64").cell("one-amd64").artifact)  # type: ignore[union-attr]
        for number, path in enumerate(seen):
            if (manifest := Path(path, "manifest.json")).exists():
                os.utime(manifest, (1000 + number, 1000 + number))
    assert [Path(p).exists() for p in seen] == [False, False, True, True]
    runs = [p for p in fake.report_directory.parent.iterdir() if p.name[0] == "2"]
    assert len(runs) < 4


def test_what_other_cells_have_stays(fake: Fake) -> None:
    """Images of one OS share a link, whatever cell and pipeline builds them."""
    from imagebuild.pipeline import artifacts, retention

    images = fake.places.images
    made = [images / f"trove-guest-debian-12-amd64-0000000{n}" for n in range(4)]
    for number, path in enumerate(made):
        path.mkdir(parents=True)
        (path / "manifest.json").write_text(json.dumps({"name": path.name}))
        os.utime(path / "manifest.json", (1000 + number, 1000 + number))
    artifacts.point(images, "other", "x-amd64", made[0], "00000000")
    mine = CellReport("one-amd64", "image", (), artifact=str(made[3]))
    gone = retention.prune(images, [mine], 1, since=5000.0, spare=[])
    assert sorted(gone) == made[1:3]
    assert made[0].exists()


def test_jobs_after_one_that_found_nothing_to_do(fake: Fake) -> None:
    from imagebuild.pipeline import artifacts

    gone = fake.places.images / "trove-guest-one-amd64-12345678"
    artifacts.point(fake.places.images, "fake", "one-amd64", gone, "12345678", is_skipped=True)
    report = fake.run("one-amd64", job=Job.VERIFY, skip_unchanged=True)
    assert statuses(report, "one-amd64")["verify"] == "skipped"
    assert "nothing had changed" in one(report, "one-amd64", Phase.VERIFY).why
    assert fake.run("one-amd64", job=Job.VERIFY).exit_code == 3


def test_what_breaks_between_phases_is_a_failure(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = cellrun.ImageRun.run

    def run(self: cellrun.ImageRun) -> None:
        if self._cell.id == "one-amd64":
            raise OSError(28, "No space left on device", "/images")
        real(self)

    monkeypatch.setattr(cellrun.ImageRun, "run", run)
    report = fake.run()
    failed = one(report, "one-amd64", Phase.BUILD)
    assert failed.error
    assert (failed.status, failed.error["where"]) == (Status.FAILED, "/images")
    assert report.exit_code == 1
    assert set(statuses(report, "two-amd64").values()) <= {"passed", "unchanged"}


def test_a_mirror_that_breaks_between_phases_holds(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> bool:
        raise RuntimeError("broken")

    monkeypatch.setattr(engine, "run_mirror", broken)
    report = fake.run("mirror-trove", "one-amd64")
    assert one(report, "mirror-trove", Phase.MIRROR).status is Status.FAILED
    assert statuses(report, "one-amd64")["upload prod"] == "held"
    assert report.exit_code == 1
