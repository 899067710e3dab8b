"""NIGHTLY.yaml → Pipeline: files, names of shipped ones, mistakes with their line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from imagebuild.config import problems
from imagebuild.config.chain import locate, read_chain
from imagebuild.config.finding import named_profiles, pipelines_path, search_path
from imagebuild.config.load import Override
from imagebuild.config.pipeline import PIPELINE, ImageRow, MirrorStep, Pipeline
from imagebuild.config.pipelinevalues import flat
from imagebuild.config.problems import Problem, nearest_hint
from imagebuild.config.values import shown
from imagebuild.config.yamlmarks import Document, Loc, dotted
from imagebuild.errors import ConfigError
from imagebuild.files import is_descriptor, is_directory
from imagebuild.mirror.items import may_mean
from imagebuild.mirror.loading import load_list
from imagebuild.pipeline import checking
from imagebuild.pipeline.cells import (
    Cell,
    ImageCell,
    identified,
    image_cells,
    mirror_cells,
    profile_of,
)
from imagebuild.pipeline.checking import Mistake

#: Where mirror lists go that nobody says: `mirror` has it.
TARGET_VARIABLE = "IMAGEBUILD_MIRROR_TARGET"


@dataclass(frozen=True)
class LoadedPipeline:
    """A valid pipeline, and the file that it came from.

    `places`: `file:line` of each image row. `cells`: what it expands to. `notes`: what people
    should know, a mirror list that is left out, say: one sentence each.
    """

    value: Pipeline
    path: Path
    places: tuple[str, ...] = ()
    cells: tuple[Cell, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def is_from_pipe(self) -> bool:
        """Whether it cannot be read again."""
        return is_descriptor(self.path)


@dataclass(frozen=True)
class NamedPipeline:
    """A pipeline that can be named; `error` says why it is not valid."""

    name: str
    path: Path
    cells: int = 0
    error: str = ""


def load_pipeline(
    name_or_path: str,
    search: Sequence[Path] = (),
    *,
    environment: Sequence[Override] = (),
    target: str | None = None,
) -> LoadedPipeline:
    """Read a pipeline by its file (`-` is stdin), or by its name (profiles/pipeline).

    Profiles, mirror lists and --set keys that it names are looked at, too. `search` has
    directories with profiles, before those of the file. `environment` is what IMAGEBUILD_*
    say of every profile, `target` where mirror lists go that say nothing
    (IMAGEBUILD_MIRROR_TARGET). Raises ConfigError with every mistake.
    """
    search_path(search)  # --profiles-path must be there
    path = locate(
        PIPELINE, "/dev/stdin" if name_or_path == "-" else name_or_path, pipelines_path(search)
    )
    document = read_chain(PIPELINE, path, pipelines_path(search))
    if "name" not in document.tree:
        document.tree["name"] = _name_of(path)
        document.marks[("name",)] = f"the name of {path}"
    try:
        value = Pipeline.model_validate(document.tree)
    except ValidationError as exc:
        found = problems.translate(PIPELINE, exc, document.marks, str(path))
        raise problems.to_error(PIPELINE, found, _title(document, path), str(path)) from exc
    value = value.model_copy(update={"profiles_path": (*search, *value.profiles_path)})
    look = _Look(value, document, path, tuple(environment), target)
    found = look.problems()
    if found:
        raise problems.to_error(PIPELINE, found, value.name, str(path))
    places = tuple(document.marks.get(("images", n), str(path)) for n in range(len(value.images)))
    return LoadedPipeline(look.value, path, places, tuple(look.cells), tuple(look.notes))


def list_pipelines(search: Sequence[Path] = ()) -> list[NamedPipeline]:
    """The pipelines that can be named, sorted by name.

    Raises ConfigError for a directory of `search` that is not there.
    """
    search_path(search)
    named = []
    for name, path in sorted(named_profiles(pipelines_path(search)).items()):
        try:
            loaded = load_pipeline(str(path.absolute()), search)
        except ConfigError as exc:
            named.append(NamedPipeline(name, path, error=f"{exc.where}: {exc.what}"))
        else:
            named.append(NamedPipeline(name, path, len(loaded.cells)))
    return named


class _Look:
    """All that a valid file may still be wrong about."""

    def __init__(
        self,
        value: Pipeline,
        document: Document,
        path: Path,
        environment: tuple[Override, ...],
        target: str | None,
    ) -> None:
        self.value = value
        self._document = document
        self._path = path
        self._environment = environment
        self._target = target
        self.cells: list[Cell] = []
        self.notes: list[str] = []

    def problems(self) -> list[Problem]:
        """Every mistake; afterwards `cells`, `notes` and `value` are complete."""
        found = [*self._places(), *self._values(), *self._mirrors()]
        # Without them, no profile can be looked for.
        if all(m.loc[0] != "profiles_path" for m in found):
            found += self._images()
        return [self._problem(m) for m in checking.unique(found)]

    def _problem(self, mistake: Mistake) -> Problem:
        marks = self._document.marks
        ends = range(len(mistake.loc), 0, -1)
        where = next((marks[mistake.loc[:n]] for n in ends if mistake.loc[:n] in marks), None)
        key = dotted(mistake.loc) or PIPELINE.noun
        return Problem(where or str(self._path), key, mistake.text, mistake.hint)

    def _places(self) -> Iterator[Mistake]:
        said = self._document.tree.get("profiles_path")
        for number, path in enumerate(said if isinstance(said, list) else ()):
            if not is_directory(Path(path)):
                yield Mistake(("profiles_path", number), f"{path} is not a directory")

    def _values(self) -> Iterator[Mistake]:
        value = self.value
        yield from checking.below(("verify",), checking.check_verify(value.verify))
        yield from checking.below(("publish",), checking.check_clouds(value.publish))
        for number, one in enumerate(value.publish):
            yield from checking.below(("publish", number), checking.check_publish(one))
        for number, row in enumerate(value.images):
            here: Loc = ("images", number)
            if row.verify:
                yield from checking.below((*here, "verify"), checking.check_verify(row.verify))
            yield from checking.below((*here, "publish"), checking.check_clouds(row.publish or ()))
            for index, one in enumerate(row.publish or ()):
                yield from checking.below((*here, "publish", index), checking.check_publish(one))
            # What the row says last is what to change.
            at: Loc = ("gates",)
            if row.gates or row.verify:
                at = (*here, "gates") if row.gates else (*here, "verify", "level")
            gates, verify = row.gates or value.gates, row.verify or value.verify
            for mistake in checking.check_gates(gates, verify):
                loc = at if at[-1] == "level" else (*at, *mistake.loc)
                yield Mistake(loc, mistake.text, mistake.hint)

    # Mirror lists

    def _mirrors(self) -> Iterator[Mistake]:
        is_published = bool(self.value.publish) or any(r.publish for r in self.value.images)
        kept: list[MirrorStep] = []
        for number, step in enumerate(self.value.mirrors):
            here: Loc = ("mirrors", number)
            target = step.target or self._target
            try:
                loaded = load_list(step.list, target=target, nowhere="registry.invalid")
            except ConfigError as exc:
                key = "target" if exc.where == "--target" and step.target else "list"
                yield checking.mistake_of(exc, (*here, key))
                continue
            for index, pattern in enumerate(step.only):
                if not may_mean(pattern, loaded.value):
                    known = [image.repository for image in loaded.value.images]
                    yield Mistake(
                        (*here, "only", index),
                        f"nothing in the list is called {shown(pattern)}",
                        nearest_hint(pattern, known),
                    )
            if step.locked and not (loaded.lock and loaded.lock.exists()):
                yield Mistake(
                    (*here, "locked"),
                    f"there is no lock file {loaded.lock or ''}".rstrip(),
                    "run `imagebuild mirror sync` once, which writes it",
                )
            if loaded.value.target.registry != "registry.invalid":
                kept.append(step)
            elif is_published:
                yield Mistake(
                    (*here, "target"),
                    "it is not said where copies go, and images are published",
                    f"target: REGISTRY[/PREFIX], or {TARGET_VARIABLE}",
                )
            else:
                self.notes.append(
                    f"the mirror list {step.list} is left out: nobody says where copies go "
                    f"(target: REGISTRY[/PREFIX], or {TARGET_VARIABLE})"
                )
        self.value = self.value.model_copy(update={"mirrors": tuple(kept)})
        mirrors = mirror_cells(self.value)
        self.cells += mirrors
        for number, cell in enumerate(mirrors):
            if cell.id in {c.id for c in mirrors[:number]}:
                yield Mistake(
                    ("mirrors",), f"two of them are called {cell.id}", "give one a name: name: …"
                )

    # Images

    def _images(self) -> Iterator[Mistake]:
        rows: dict[str, int] = {}
        takers = checking.Takers()
        for number, index, draft in image_cells(self.value, self._environment):
            here: Loc = ("images", number)
            row = self.value.images[number]
            try:
                profile = profile_of(draft).profile
            except ConfigError as exc:
                yield self._profile_mistake(exc, number, index, row, draft)
                continue
            cell = identified(draft, profile)
            if cell.id in rows:
                other = f"images[{rows[cell.id]}]" if rows[cell.id] != number else "this row"
                yield Mistake(
                    (*here, "profiles", index),
                    f"two cells are called {cell.id}; the other one is of {other}",
                    "give a row a name of its own: name: …",
                )
                continue
            rows[cell.id] = number
            self.cells.append(cell)
            at: Loc = (*here, "series") if cell.series else (*here, "profiles", index)
            yield from checking.below(at, checking.check_series(profile, cell.series))
            verify: Loc = (*here, "verify") if row.verify else ("verify",)
            yield from checking.below(verify, checking.check_content(cell.verify, profile))
            publish: Loc = (*here, "publish") if row.publish is not None else ("publish",)
            series = cell.series or profile.agent.series
            for place, one in enumerate(cell.publish):
                at = (*publish, place)
                yield from checking.below(at, checking.check_cell(one, profile, series))
                yield from checking.below(at, takers.check(one, cell.id))

    def _profile_mistake(
        self, error: ConfigError, number: int, index: int, row: ImageRow, cell: ImageCell
    ) -> Mistake:
        """Where a profile that does not load was asked for: at the key of `set`, where that is
        what is wrong.
        """
        here: Loc = ("images", number)
        tree = self._document.tree["images"][number].get("set")
        for loc, key, _ in flat(tree) if isinstance(tree, dict) else ():
            name = key.removesuffix("+")
            if error.where == f"--set {name}" or f"--set {name}:" in error.detail:
                what = error.what.removeprefix(f"{name}: ")
                return checking.mistake_of(
                    ConfigError(what, detail=error.detail, hint=error.hint),
                    (*here, "set", *loc),
                )
        if error.where == "flag --trove-series" and cell.series:
            place = row.series.index(cell.series)
            return Mistake((*here, "series", place), error.what, error.hint)
        return checking.mistake_of(error, (*here, "profiles", index))


def _title(document: Document, path: Path) -> str:
    name = document.tree.get("name")
    return name if isinstance(name, str) and len(name) < 64 else path.stem


def _name_of(path: Path) -> str:
    stem = "stdin" if is_descriptor(path) else path.stem
    return re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")[:63].strip("-") or "pipeline"
