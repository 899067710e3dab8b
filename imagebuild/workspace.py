"""What a running build works with: its plan, its worker, its scratch, and the store.

The stages are in `layerrun.py` and `diskrun.py`, their order in `stagerun.py`.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imagebuild.errors import PreflightError
from imagebuild.events import (
    Emit,
    Event,
    Note,
    StageFinished,
    StageStarted,
    StepFinished,
    StepStarted,
)  # fmt: skip
from imagebuild.host.worker import Worker
from imagebuild.inputs import Inputs
from imagebuild.plan import Plan, StagePlan
from imagebuild.store.remote.sharing import Sharing
from imagebuild.store.store import Held, Key, Kind, Object, Store, Stores

#: How much later than a task's own limit it is ended from outside, in seconds.
_GRACE = 5.0


@dataclass(frozen=True)
class Paths:
    """Where a build works (`cache`) and where its results go."""

    cache: Path
    artifact: Path
    places: tuple[Path, ...] = ()
    link: bool = True

    @property
    def scratch_root(self) -> Path:
        """Scratch directories of all builds; on the store's filesystem, for renames."""
        return self.cache / "scratch"

    @property
    def sources(self) -> Path:
        """Clones and downloaded distribution files of the agent; `resolve` uses it too."""
        return self.cache / "sources"

    @property
    def containers(self) -> Path:
        """Fetched container images, as an OCI image layout."""
        return self.cache / "containers"


@dataclass
class Workspace:
    """One build while it runs. `locks` holds what is held to its end; `deadline` is a
    `time.monotonic()`. `objects` are those of the store that it uses, by id. `sharing`: with
    other machines, if at all.
    """

    plan: Plan
    inputs: Inputs
    paths: Paths
    stores: Stores
    emit: Emit
    worker: Worker
    scratch: Path
    locks: ExitStack
    deadline: float | None
    sharing: Sharing | None = None
    objects: dict[str, Object] = field(default_factory=dict)
    held: dict[Key, tuple[Store, Held]] = field(default_factory=dict)
    secrets: set[Key] = field(default_factory=set)

    @property
    def owner(self) -> list[int]:
        return [os.getuid(), os.getgid()]

    def seconds(self, stage: str) -> float | None:
        """What is left for a stage: its own limit, and the build's."""
        own = self.inputs.profile.timeout.seconds(stage)
        left = None if self.deadline is None else max(self.deadline - time.monotonic(), 0.01)
        limits = [x for x in (own, left) if x is not None]
        return min(limits) if limits else None

    def until(self, stage: str) -> float | None:
        """The same as a `time.monotonic()`."""
        left = self.seconds(stage)
        return None if left is None else time.monotonic() + left

    def call(self, stage: str, task: str, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401
        """Let the worker do a task within the stage's limit.

        A task that knows the limit itself (`seconds`) ends by it first: it can say more.
        """
        deadline = self.until(stage)
        if deadline is not None and arguments.get("seconds") is not None:
            deadline += _GRACE
        return self.worker.call(task, deadline=deadline, limit_of=stage, **arguments)

    @contextmanager
    def aside(self) -> Iterator[Workspace]:
        """The same build with a worker of its own, for what is done at the same time; it tells
        nothing but notes.
        """

        def notes(event: Event) -> None:
            if isinstance(event, Note):
                self.emit(event)

        with Worker(notes, may_ask=False) as worker:
            yield dataclasses.replace(self, worker=worker, emit=notes)

    def find(self, plan: StagePlan, kind: Kind, *, secret: bool = False) -> Object | None:
        """The object of a stage or part, whole; None: it is to be made, and nobody else does.

        Its name is held to the end of the build: others wait until it is made, and nobody
        removes it afterwards. What is not here is looked for in the store's remote.
        """
        is_secret = secret or self.inputs.registry_secrets
        store = self.stores.of(secret=is_secret)
        key = Key(kind, plan.id)
        if is_secret:
            self.secrets.add(key)

        def wait() -> None:
            self.emit(Note(f"waiting for another build, which is making the same {kind}"))

        held = self.locks.enter_context(store.hold(key, wait))
        self.held[key] = (store, held)
        found = store.take(held, self.worker.call, self.emit) or self._fetch(plan, key)
        if found:
            self._use(plan, found)
        return found

    def _fetch(self, plan: StagePlan, key: Key) -> Object | None:
        """The object of a key from the remote, in the store from then on."""
        if self.sharing is None or key in self.secrets:
            return None
        return self.sharing.fetch(
            key,
            plan.own,
            lambda: self.draft(key.kind),
            self.worker.call,
            lambda draft, facts: self._seal(plan, key, draft, facts),
        )

    def _seal(self, plan: StagePlan, key: Key, draft: Path, facts: Mapping[str, Any]) -> Object:
        store, held = self.held[key]
        return store.seal(
            held, self.worker.call, draft, image=self.plan.link, inputs=plan.own, facts=facts
        )

    def _use(self, plan: StagePlan, found: Object) -> None:
        """Use an object that is there to the end of the build, and let others have it."""
        self.held[found.key][1].share()
        self.objects[plan.id] = found
        if self.sharing and found.key not in self.secrets:
            self.sharing.offer(found)

    def obtain(
        self,
        plan: StagePlan,
        kind: Kind,
        make: Callable[[Path], Mapping[str, Any]],
        *,
        secret: bool = False,
    ) -> bool:
        """See that the store has the object of a stage or part; whether it had it already.

        `make` writes its files into a new directory and returns its facts.
        """
        if plan.id in self.objects or self.find(plan, kind, secret=secret):
            return True
        draft = self.draft(kind)
        self.put(plan, kind, draft, make(draft))
        return False

    def draft(self, kind: Kind) -> Path:
        """A new directory for the files of an object."""
        return Path(tempfile.mkdtemp(prefix=f"{kind}-", dir=self.scratch))

    def put(self, plan: StagePlan, kind: Kind, draft: Path, facts: Mapping[str, Any]) -> None:
        """Turn a directory into the object whose name `find` holds."""
        self._use(plan, self._seal(plan, Key(kind, plan.id), draft, facts))

    def path(self, plan: StagePlan) -> str:
        """Where the object of a stage or part is."""
        return str(self.objects[plan.id].path)

    def facts(self, plan: StagePlan) -> Mapping[str, Any]:
        """What its maker had to say of an object."""
        return self.objects[plan.id].facts

    def require_network(self, stage: str) -> None:
        """Stop where a stage would have to be made that needs more than is here."""
        if self.inputs.offline:
            raise PreflightError(
                f"the stage {stage} is not in the store, and making it needs the network",
                where=f"stage {stage} {self.plan.stage(stage).id[:16]}",
                hint="run the same command once without --offline",
            )

    @contextmanager
    def stage(self, plan: StagePlan) -> Iterator[StageReport]:
        """A stage from its start to its end."""
        report = StageReport()
        self.emit(StageStarted(plan.name, plan.id))
        started = time.monotonic()
        yield report
        seconds = round(time.monotonic() - started, 2)
        self.emit(StageFinished(plan.name, seconds, report.reused))

    @contextmanager
    def step(self, stage: str, phase: str, name: str) -> Iterator[None]:
        """A step of a stage."""
        self.emit(StepStarted(stage, phase, name))
        started = time.monotonic()
        yield
        self.emit(StepFinished(stage, phase, name, round(time.monotonic() - started, 2)))


@dataclass
class StageReport:
    """What a stage has to say of itself at its end."""

    reused: bool = False
