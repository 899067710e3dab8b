"""Our elements: their form, and that their READMEs tell the truth."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from imagebuild import dib
from imagebuild.data import elements_dir
from imagebuild.resolve import AGENT_ELEMENTS, BASE_ELEMENTS, DEV_ELEMENT

_VARIABLE = re.compile(r"\bIMAGEBUILD_[A-Z0-9_]+\b")
_HOOK_NAME = re.compile(r"[0-9]{2}-[a-z0-9-]+")
#: Hook directories of diskimage-builder (its documentation, "Developing Elements").
_PHASES = {
    "root.d", "extra-data.d", "pre-install.d", "install.d", "post-install.d", "post-root.d",
    "block-device.d", "pre-finalise.d", "finalise.d", "cleanup.d", "environment.d",
}  # fmt: skip

ELEMENTS = sorted(p for p in elements_dir().iterdir() if p.is_dir())

each_element = pytest.mark.parametrize("element", ELEMENTS, ids=lambda p: p.name)


def files_of(element: Path) -> list[Path]:
    return [p for p in element.rglob("*") if p.is_file() and p.name != "README.md"]


def read_by(element: Path) -> str:
    return "\n".join(p.read_text() for p in files_of(element))


def documented(element: Path) -> set[str]:
    """Variables of the first column of the README's table."""
    rows = [x for x in (element / "README.md").read_text().splitlines() if x.startswith("| `")]
    return {name for row in rows for name in re.findall(r"`([A-Z0-9_]+)`", row.split("|")[1])}


@pytest.fixture(scope="module")
def dib_itself() -> str:
    """Every text that diskimage-builder runs for the elements that ours build on."""
    found = dib.find_elements([*BASE_ELEMENTS, "base"], [elements_dir()])
    roots = [e.path for e in found if not e.path.is_relative_to(elements_dir())]
    roots.append(dib.own_elements_path().parent / "lib")
    files = [p for root in roots for p in root.rglob("*") if p.is_file() and p.suffix != ".pyc"]
    return "\n".join(p.read_text(errors="replace") for p in files)


@each_element
def test_readme_names_what_is_read(element: Path) -> None:
    readme = element / "README.md"
    assert readme.read_text().startswith(f"# {element.name}\n")
    assert set(_VARIABLE.findall(read_by(element))) <= documented(element)


@each_element
def test_what_the_readme_names_is_read(element: Path, dib_itself: str) -> None:
    text = read_by(element)
    unread = {v for v in documented(element) if not re.search(rf"\b{v}\b", text)}
    ours = {v for v in unread if v.startswith("IMAGEBUILD_")}
    assert ours == set()
    # The others are DIB's own words, which its hooks read for this element.
    assert {v for v in unread if not re.search(rf"\b{v}\b", dib_itself)} == set()


@each_element
def test_form_of_hooks(element: Path) -> None:
    for directory in (p for p in element.iterdir() if p.suffix == ".d"):
        assert directory.name in _PHASES
        for hook in directory.iterdir():
            # Anything else is left out by DIB, without a word.
            name = hook.name.removesuffix(".bash") if hook.suffix == ".bash" else hook.name
            assert _HOOK_NAME.fullmatch(name), hook
            assert (hook.suffix == ".bash") == (directory.name == "environment.d"), hook


@each_element
def test_dependencies_exist(element: Path) -> None:
    deps = element / "element-deps"
    names = deps.read_text().split() if deps.exists() else []
    places = [elements_dir(), dib.own_elements_path()]
    missing = [n for n in names if not any((place / n).is_dir() for place in places)]
    assert missing == []


def test_both_stages_are_whole() -> None:
    """Each stage's elements fit together, and no element of ours is left out of both."""
    found = {
        e.name: e.path
        for names in (BASE_ELEMENTS, (*AGENT_ELEMENTS, DEV_ELEMENT))
        for e in dib.find_elements(names, [elements_dir()])
    }
    ours = {name for name, path in found.items() if path.is_relative_to(elements_dir().resolve())}
    assert ours == {p.name for p in ELEMENTS}


def test_no_element_replaces_one_of_dib_s() -> None:
    assert [p.name for p in ELEMENTS if (dib.own_elements_path() / p.name).exists()] == []


def test_the_overview_names_every_element() -> None:
    readme = (elements_dir() / "README.md").read_text()
    assert [p.name for p in ELEMENTS if f"`{p.name}`" not in readme] == []
