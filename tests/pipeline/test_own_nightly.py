"""scripts/nightly: this project's own nightly is what `pipeline export` makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagebuild.pipeline.cells import ImageCell, Job
from imagebuild.pipeline.export import ENGINES, HOSTS, export
from imagebuild.pipeline.loading import LoadedPipeline, load_pipeline
from tests.pipeline import exporttools
from tests.pipeline.exports import parsed

ROOT = Path(__file__).resolve().parents[2]
NIGHTLY = ROOT / "scripts/nightly"


@pytest.fixture(scope="module")
def loaded() -> LoadedPipeline:
    """The pipeline."""
    return load_pipeline(str(NIGHTLY / "nightly.yaml"))


def _file(engine: str) -> str:
    on_host = "/etc/imagebuild/shipped-images.yaml"
    return on_host if engine in HOSTS else "scripts/nightly/nightly.yaml"


@pytest.mark.parametrize("engine", ENGINES)
def test_files_are_up_to_date(engine: str, loaded: LoadedPipeline) -> None:
    """scripts/nightly/README.md says how to make them anew."""
    place = NIGHTLY / engine
    there = {str(p.relative_to(place)): p.read_text() for p in place.rglob("*") if p.is_file()}
    assert there == export(loaded, engine, file=_file(engine))


def test_it_boots_every_shipped_image_and_publishes_none(loaded: LoadedPipeline) -> None:
    profiles = {p.stem for p in (ROOT / "profiles").glob("[!_]*.yaml")}
    cells = [c for c in loaded.cells if isinstance(c, ImageCell)]
    assert len(cells) == len(loaded.cells) == len(profiles)
    assert {c.profile for c in cells} == profiles
    assert {str(c.verify.level) for c in cells} == {"boot"}
    assert not any(c.publish for c in cells)
    (workflow,) = (NIGHTLY / "github").rglob("*.yml")
    jobs = parsed(workflow.read_text())["jobs"]
    for job in (Job.BUILD, Job.VERIFY):
        assert {f"{job.value}-{c.id}" for c in cells} <= set(jobs)
    assert "secrets.CLOUDS_YAML" not in workflow.read_text()


def test_the_launcher_is_what_jobs_find() -> None:
    """`install` of the file, as a job's shell runs it from the top of the checkout."""
    install = parsed((NIGHTLY / "nightly.yaml").read_text())["engines"]["install"]
    done = exporttools.run("bash", "-c", f"{install}\ncommand -v imagebuild", cwd=ROOT)
    assert done.stdout.strip() == str(ROOT / "scripts/imagebuild")


def test_readme_says_where_each_file_belongs() -> None:
    text = (NIGHTLY / "README.md").read_text()
    assert all(f"`{engine}/" in text for engine in ENGINES)
