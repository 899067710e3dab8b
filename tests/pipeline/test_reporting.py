"""Directories of reports, and what must not stand in them."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuild.errors import ConfigError, ExitCode, PreflightError
from imagebuild.pipeline import reporting
from imagebuild.pipeline.cleaning import cleaned
from imagebuild.pipeline.outcome import RunReport
from tests.pipeline import sample

ROOT = Path(__file__).parents[2]
SECRET = "hunter2"  # noqa: S105


def dirty() -> RunReport:
    """A report with a secret wherever one may come from."""
    address = f"https://ci:{SECRET}@git.example.org/trove.git"
    report = sample.with_error(
        what=f"cannot fetch {address}", where=address, detail=f"password={SECRET}\n{address}\udcff",
        hint=f"is X-Auth-Token: {SECRET} right?",
    )  # fmt: skip
    phase = dataclasses.replace(
        report.cells[0].phases[0],
        command=("imagebuild", "build", "--index-url", address, "--password", SECRET,
                 "--set", f"root_password={SECRET}"),
        warnings=(f"{address} is slow",),
        why=f"token={SECRET}",
        result={"source": address, "list": [{"x": address}]},
    )  # fmt: skip
    image = sample.facts(sample.BOOKWORM).to_json()
    image["agent"]["requested"] = f"git+{address}"
    image["checks"][0] |= {"what": address, "evidence": [f"secret: {SECRET}"], "outcome": "failed"}
    cell = dataclasses.replace(report.cells[0], phases=(phase,), image=image)
    return sample.empty(cells=(cell,), notes=(f"note {address}",))


def test_no_secret_is_in_any_file(tmp_path: Path) -> None:
    directory = reporting.new_directory(tmp_path, "nightly", "20261123T021700Z")
    reporting.save(dirty(), directory)
    assert SECRET not in (directory / "report.json").read_text()
    reporting.write(dirty(), directory, [])
    for file in directory.rglob("*"):
        if file.is_file():
            assert SECRET not in file.read_text(), file.name
    kept = reporting.read(directory).cells[0].phases[0]
    assert kept.command[:4] == (
        "imagebuild", "build", "--index-url", "https://git.example.org/trove.git",
    )  # fmt: skip
    assert kept.error
    assert kept.error["detail"].endswith("\\udcff")


def test_cleaning_leaves_what_is_no_secret() -> None:
    for report in (*sample.earlier(), sample.bad_night()):
        assert cleaned(report) == report


def test_what_a_run_leaves(tmp_path: Path) -> None:
    report = sample.tonight()
    directory = reporting.new_directory(tmp_path, "nightly", report.run)
    assert directory == tmp_path / "nightly" / report.run
    reporting.write(report, directory, sample.earlier())
    assert {p.name for p in directory.iterdir()} == {
        "report.json", "report.md", "junit.xml", "metrics.prom", "report.html",
    }  # fmt: skip
    assert (tmp_path / "nightly/latest").readlink() == Path(report.run)
    assert reporting.read(tmp_path / "nightly/latest") == report
    assert reporting.read(directory / "report.json") == report


def test_two_runs_of_one_second_have_two_directories(tmp_path: Path) -> None:
    names = [reporting.new_directory(tmp_path, "nightly", "20261123T021700Z") for _ in range(11)]
    assert [d.name for d in names[:3]] == [f"20261123T021700Z{n}" for n in ("", "-2", "-3")]
    for directory in names:
        reporting.save(sample.empty(run=directory.name), directory)
    assert [r.run for r in reporting.history(tmp_path, "nightly")] == [d.name for d in names]
    (tmp_path / "file").write_text("")
    with pytest.raises(PreflightError, match="cannot be written"):
        reporting.new_directory(tmp_path / "file", "nightly", "20261123T021700Z")


def test_a_killed_run_can_be_read_and_latest_stays(tmp_path: Path) -> None:
    good = sample.earlier(1)[0]
    reporting.write(good, reporting.new_directory(tmp_path, "nightly", good.run), [])
    killed = sample.killed()
    directory = reporting.new_directory(tmp_path, "nightly", killed.run)
    for report in (dataclasses.replace(killed, cells=killed.cells[:1]), killed):
        reporting.save(report, directory)
    assert reporting.read(tmp_path / "nightly/latest").run == good.run
    assert not reporting.read(directory).complete
    assert reporting.read(directory).exit_code == ExitCode.FAILED
    assert [r.run for r in reporting.history(tmp_path, "nightly")] == [good.run, killed.run]


WRITER = """
import dataclasses, pathlib, sys
from imagebuild.pipeline import reporting
from tests.pipeline import sample
top, report = pathlib.Path(sys.argv[1]), sample.tonight()
names = [reporting.new_directory(top, "nightly", report.run).name for _ in range(2)]
print("ready", flush=True)
while True:
    for name in names:
        one = dataclasses.replace(report, run=name)
        reporting.save(dataclasses.replace(one, complete=False), top / "nightly" / name)
        reporting.write(one, top / "nightly" / name, [])
"""


def test_killed_at_any_moment_every_file_is_whole(tmp_path: Path) -> None:
    rng = random.Random(3)  # noqa: S311
    for number in range(2):
        top = tmp_path / str(number)
        argv = [sys.executable, "-c", WRITER, str(top)]
        with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE) as writer:
            assert writer.stdout
            writer.stdout.readline()
            while not (top / "nightly/latest").exists():
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 0.3))
            writer.kill()
        for directory in (top / "nightly").glob("2*"):
            report = reporting.read(directory)
            assert report.run == directory.name
            for name, end in (("report.md", "\n"), ("junit.xml", "</testsuites>\n")):
                assert not (directory / name).exists() or (
                    (directory / name).read_text().endswith(end)
                )
        assert reporting.read(top / "nightly/latest").pipeline == "nightly"


def test_a_report_that_cannot_be_made_changes_nothing(tmp_path: Path) -> None:
    """Renderers come first: nothing is written before all have done their part."""
    good = sample.tonight()
    directory = reporting.new_directory(tmp_path, "nightly", good.run)
    reporting.write(good, directory, [])
    before = {p: p.read_bytes() for p in directory.iterdir()}
    cell = dataclasses.replace(good.cells[1], image={"name": "not facts"})
    broken = dataclasses.replace(good, cells=(cell,))
    with pytest.raises(ConfigError):
        reporting.write(broken, directory, [])
    assert {p: p.read_bytes() for p in directory.iterdir()} == before


def test_latest_replaces_a_copy_of_itself(tmp_path: Path) -> None:
    """Archives of some engines have directories where links were."""
    good = sample.earlier(1)[0]
    old = reporting.new_directory(tmp_path, "nightly", good.run)
    reporting.write(good, old, [])
    latest = tmp_path / "nightly/latest"
    latest.unlink()
    shutil.copytree(old, latest)
    new = reporting.new_directory(tmp_path, "nightly", sample.tonight().run)
    reporting.write(sample.tonight(), new, [])
    assert latest.readlink() == Path(new.name)
    assert sorted(p.name for p in latest.parent.iterdir()) == [old.name, new.name, "latest"]
    latest.unlink()
    latest.mkdir()
    (latest / "mine").write_text("somebody's")
    with pytest.raises(PreflightError):
        reporting.write(sample.tonight(), new, [])
    assert (latest / "mine").exists()


def test_history_is_in_order_and_leaves_out_what_cannot_be_read(tmp_path: Path) -> None:
    nights = sample.earlier()
    for report in random.Random(1).sample(nights, len(nights)):  # noqa: S311
        reporting.save(report, reporting.new_directory(tmp_path, "nightly", report.run))
    place = tmp_path / "nightly"
    assert reporting.history(tmp_path, "nightly") == nights
    assert reporting.history(tmp_path, "nightly", before=nights[5].run) == nights[:5]
    assert reporting.history(tmp_path, "nightly", limit=3) == nights[-3:]
    (place / nights[-1].run / "report.json").write_text("{")
    (place / nights[-2].run / "report.json").unlink()
    (place / "notes").mkdir()
    (place / "latest").symlink_to(nights[3].run)
    assert reporting.history(tmp_path, "nightly") == nights[:-2]
    assert reporting.history(tmp_path, "other") == []


def test_prune_keeps_the_newest_and_latest(tmp_path: Path) -> None:
    nights = sample.earlier(6)
    for report in nights:
        reporting.write(report, reporting.new_directory(tmp_path, "nightly", report.run), [])
    place = tmp_path / "nightly"
    latest = place / "latest"
    latest.unlink()
    latest.symlink_to(nights[1].run)
    (place / "notes").mkdir()
    # A prune, and two writers: one was cut off, one is at work.
    (place / f".{nights[0].run}-cut.removed").mkdir()
    for name, age in ((".latest-1", 7200), (".latest-2", 1)):
        (place / name).symlink_to("nowhere")
        os.utime(place / name, (time.time() - age,) * 2, follow_symlinks=False)
    gone = reporting.prune(tmp_path, "nightly", 2)
    assert [p.name for p in gone] == [nights[n].run for n in (0, 2, 3)]
    left = {nights[n].run for n in (1, 4, 5)} | {"notes", "latest", ".latest-2"}
    assert {p.name for p in place.iterdir()} == left
    assert reporting.prune(tmp_path, "nightly", 2) == []


def test_prune_leaves_what_is_being_written(tmp_path: Path) -> None:
    nights = [dataclasses.replace(n, complete=False) for n in sample.earlier(3)]
    places = [reporting.new_directory(tmp_path, "nightly", n.run) for n in nights]
    for report, place in zip(nights, places, strict=True):
        reporting.save(report, place)
    assert reporting.prune(tmp_path, "nightly", 1) == []
    os.utime(places[0] / "report.json", (time.time() - 100_000,) * 2)
    assert reporting.prune(tmp_path, "nightly", 1) == [places[0]]


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"schema_version": 1}', "[" * 100_000, '{"schema_version": 99}', "\xff"],
)
def test_a_damaged_report_is_an_error_with_its_place(text: str, tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError) as caught:
        reporting.read(tmp_path)
    assert caught.value.where == str(file)
    with pytest.raises(ConfigError):
        reporting.read(tmp_path / "nothing")


def test_a_report_whose_image_cannot_be_read_is_damaged(tmp_path: Path) -> None:
    good = sample.tonight()
    broken = dataclasses.replace(good.cells[1], image={"name": "not facts"})
    reporting.save(dataclasses.replace(good, cells=(broken,)), tmp_path)
    with pytest.raises(ConfigError, match="not the facts of an image"):
        reporting.read(tmp_path)


@given(st.lists(st.tuples(st.text(), st.text()), unique=True, min_size=2, max_size=6))
def test_logs_have_safe_names_of_their_own(pairs: list[tuple[str, str]]) -> None:
    top = Path("/reports/nightly/run")
    paths = [reporting.log_path(top, cell, "upload", target) for cell, target in pairs]
    for path in paths:
        assert path.parent.parent == top / "cells"
        assert re.fullmatch(r"[\w.+-]{1,200}", f"{path.parent.name}{path.name}"[:200], re.ASCII)
        assert not {path.parent.name, path.name} & {"", ".", ".."}
    assert len({str(p) for p in paths}) == len(pairs)
    assert reporting.log_path(top, "a-amd64", "promote", "one/mysql/8.4") == (
        top / "cells/a-amd64/promote-one+mysql+8.4.log"
    )


def test_the_exit_code_of_a_damaged_error_is_no_success() -> None:
    for error in ({"what": "x"}, {"exit_code": 0}, {"exit_code": "many"}):
        report = sample.with_error()
        phase = dataclasses.replace(report.cells[0].phases[0], error=error)
        assert phase.exit_code == ExitCode.FAILED


def documents() -> list[Mapping[str, Any]]:
    """Reports as they are written."""
    return [r.to_json() for r in (sample.tonight(), sample.bad_night(), sample.killed())]


def test_samples_survive_a_file() -> None:
    for document in documents():
        again = RunReport.from_json(json.loads(json.dumps(document)))
        assert again.to_json() == document
