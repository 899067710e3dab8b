"""`imagebuild pipeline plan`, `list` and `schema`. Their output is contract."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from imagebuild.cli.main import run
from imagebuild.cli.terminal import terminal
from imagebuild.config.pipeline import file_schema
from tests.cli.fuzz import own_environment
from tests.cli.test_main import completions

OWN = """\
extends: nightly
mirrors: [{list: trove, target: "registry.example:5000/trove"}]
images: [{profiles: debian-bookworm, series: 2025.2, publish: [{cloud: nowhere}]}]
extra_images: [{profiles: ubuntu-noble, verify: {level: static}, gates: {}}]
"""


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own_environment(monkeypatch, tmp_path)
    for name in [n for n in os.environ if n.startswith("OS_")]:
        monkeypatch.delenv(name)
    terminal.configure(verbosity=0, no_color=True)


@pytest.fixture
def own(tmp_path: Path) -> str:
    (tmp_path / "own.yaml").write_text(OWN)
    return str(tmp_path / "own.yaml")


def plan(capsys: pytest.CaptureFixture[str], *argv: str, code: int = 0) -> tuple[str, str]:
    assert run(["pipeline", "plan", *argv]) == code
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return captured.out, captured.err


def document(capsys: pytest.CaptureFixture[str], *argv: str, code: int = 0) -> Any:  # noqa: ANN401 - JSON
    return json.loads(plan(capsys, *argv, "--json", code=code)[0])


def test_the_shipped_one_without_anything_said(capsys: pytest.CaptureFixture[str]) -> None:
    out, err = plan(capsys, "nightly", "--offline")
    assert out.startswith("\nnightly: 3 cells\n")
    for cell in ("ubuntu-jammy-amd64", "ubuntu-noble-amd64", "debian-bookworm-amd64"):
        assert re.search(rf"^{cell} +2 things +not known +nothing +boot +none$", out, re.MULTILINE)
        assert re.search(rf"^{cell} +verify +build +2 .* amd64, KVM$", out, re.MULTILINE)
    assert "the mirror list trove is left out: nobody says where copies go" in err


def test_the_document(capsys: pytest.CaptureFixture[str], own: str) -> None:
    found = document(capsys, own, "--offline")
    assert (found["schema_version"], found["pipeline"], found["file"]) == (1, "own", own)
    assert found["notes"] == []
    mirror, published, static = found["cells"]
    assert mirror == {
        "id": "mirror-trove", "kind": "mirror", "after": [], "phases": ["mirror"],
        "jobs": [{"job": "mirror", "after": [], "needs": mirror["jobs"][0]["needs"]}],
        "list": "trove", "target": "registry.example:5000/trove",
    }  # fmt: skip
    assert published["id"] == "debian-bookworm-2025-2-amd64"
    assert (published["series"], published["arch"]) == ("2025.2", "amd64")
    assert (published["level"], published["clouds"]) == ("boot", ["nowhere"])
    assert published["after"] == ["mirror-trove"]
    assert [job["after"] for job in published["jobs"]] == [
        ["mirror-trove"], ["build debian-bookworm-2025-2-amd64"],
        ["verify debian-bookworm-2025-2-amd64"],
    ]  # fmt: skip
    needs = published["jobs"][0]["needs"]
    assert set(needs) == {"cpus", "memory", "disk", "kvm", "root", "arch"}
    assert (needs["root"], needs["kvm"]) == (True, False)
    assert published["standing"]["unchanged"] is False
    assert published["standing"]["unresolved"]
    assert [s["stage"] for s in published["standing"]["stages"]] == [
        "base", "agent", "disk", "formats",
    ]  # fmt: skip
    assert published["phases"] == ["build", "verify", "gates", "upload"]
    assert static["jobs"][-1]["job"] == "verify", "no cloud and no gates: nothing comes after"
    assert static["jobs"][-1]["needs"]["kvm"] is False


def test_only_some_cells(capsys: pytest.CaptureFixture[str], own: str) -> None:
    found = document(capsys, own, "--offline", "--cell", "ubuntu-noble-amd64")
    assert [cell["id"] for cell in found["cells"]] == ["ubuntu-noble-amd64"]
    _, err = plan(capsys, own, "--offline", "--cell", "ubuntu-nobel-amd64", code=2)
    assert "did you mean 'ubuntu-noble-amd64'?" in err


def test_a_cell_that_cannot_be_looked_at_does_not_hinder_the_others(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    # A mirror that nobody listens at: worth a retry. The other one is asked nothing.
    (tmp_path / "p.yaml").write_text(
        "images:\n"
        "- {profiles: debian-bookworm, set: {mirror.url: 'http://127.0.0.1:9/d', "
        "mirror.security: null}}\n"
        "mirrors: [{list: trove, target: 127.0.0.1:9}]\n"
    )
    found = document(capsys, str(tmp_path / "p.yaml"), code=75)
    mirror, image = found["cells"]
    assert mirror["id"] == "mirror-trove"
    assert image["standing"] is None
    assert image["error"]["exit_code"] == 75
    out, err = plan(capsys, str(tmp_path / "p.yaml"), code=75)
    assert "not known" in out
    assert "debian-bookworm-amd64 cannot be looked at" in err
    assert "127.0.0.1:9" in err


def test_what_the_environment_says_of_profiles_counts(
    capsys: pytest.CaptureFixture[str], own: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMAGEBUILD_ARCH", "arm64")
    monkeypatch.setenv("IMAGEBUILD_MIRROR_TARGET", "reg.example:1")
    found = document(capsys, own, "--offline")
    assert [c["id"] for c in found["cells"]] == [
        "mirror-trove", "debian-bookworm-2025-2-arm64", "ubuntu-noble-arm64",
    ]  # fmt: skip
    assert found["cells"][1]["jobs"][0]["needs"]["arch"] == "arm64"
    assert document(capsys, "nightly", "--offline")["notes"] == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "No such file"),
        ("", "the file holds no pipeline"),
        ("- a", "the file holds no pipeline"),
        ("images: [", "not valid YAML"),
        ("\x00", "is not allowed"),
        ("extends: own\n", "there is no pipeline named 'own'"),
    ],
)
def test_a_file_that_is_none(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str | None, said: str
) -> None:
    if text is not None:
        (tmp_path / "own.yaml").write_text(text)
    out, err = plan(capsys, str(tmp_path / "own.yaml"), code=3)
    assert out == ""
    assert said in err


def test_list_and_schema(capsys: pytest.CaptureFixture[str], tmp_path: Path, own: str) -> None:
    place = tmp_path / "config/imagebuild/pipeline"
    place.mkdir(parents=True)
    Path(own).rename(place / "own.yaml")
    (place / "bad.yaml").write_text("images: 3\n")
    assert run(["pipeline", "list", "--profiles-path", str(tmp_path / "none")]) == 3
    assert "none is not a directory" in capsys.readouterr().err
    assert run(["pipeline", "list"]) == 0
    captured = capsys.readouterr()
    rows = [line.split()[:2] for line in captured.out.splitlines()]
    assert rows == [["NAME", "CELLS"], ["bad", "invalid"], ["nightly", "3"], ["own", "3"]]
    assert "bad is not valid: " in captured.err
    assert run(["pipeline", "list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["pipelines"]
    assert [(p["name"], p["cells"], bool(p["error"])) for p in found] == [
        ("bad", 0, True), ("nightly", 3, False), ("own", 3, False),
    ]  # fmt: skip
    assert run(["pipeline", "schema"]) == 0
    assert json.loads(capsys.readouterr().out) == {"schema_version": 1} | file_schema()


def test_completion(own: str) -> None:
    assert completions("pipeline plan nig") == ["file,nig", "plain,nightly"]
    assert completions("pipeline plan ./n") == ["file,./n"]
    assert completions("pipeline plan nightly --cell ub") == [
        "plain,ubuntu-jammy-amd64", "plain,ubuntu-noble-amd64",
    ]  # fmt: skip
    assert completions(f"pipeline plan {own} --cell mirror-trove --cell m") == []
    assert completions("pipeline plan nothing --cell u") == []
