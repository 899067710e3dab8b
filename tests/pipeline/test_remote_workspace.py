"""What a build does with the store's remote, without its stages: find, make, keep, look ahead."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from imagebuild.cli.main import run
from imagebuild.events import Event, Note
from imagebuild.forecast import forecast
from imagebuild.host.worker import Worker
from imagebuild.inputs import Inputs, Registry
from imagebuild.plan import Plan
from imagebuild.store.objects import Key, Kind, Object
from imagebuild.store.remote.address import RemoteAddress
from imagebuild.store.remote.sharing import Sharing
from imagebuild.store.remote.view import RemoteView
from imagebuild.store.store import Stores, open_stores
from imagebuild.workspace import Paths, Workspace
from tests.pipeline import remotes
from tests.pipeline.remotes import tags
from tests.registry_proxy import RegistryProxy
from tests.registry_server import RegistryServer
from tests.unit.store_objects import call
from tests.unit.test_plan import make_inputs, plan_of

PASSWORD = "a word that nobody else knows"  # noqa: S105
#: What the maker of a base has to say.
FACTS = {"hooks": [["root", "08-debootstrap", 1.5]]}


@dataclasses.dataclass
class Machine:
    """A machine whose builds have no stages; `told` is what they say, `made` what they make."""

    place: Path
    url: str
    plan: Plan
    inputs: Inputs
    told: list[Event] = dataclasses.field(default_factory=list)
    made: list[str] = dataclasses.field(default_factory=list)

    @property
    def stores(self) -> Stores:
        return open_stores(self.place / "cache")

    def obtain(self, kind: Kind = Kind.BASE, *, secret: bool = False) -> Object:
        """One build, which wants the base, or something of its id."""
        part = self.plan.stage("base")
        scratch = self.place / "scratch"
        scratch.mkdir(parents=True, exist_ok=True)

        def make(draft: Path) -> Mapping[str, Any]:
            (draft / "list.json").write_text(self.place.name)
            self.made.append(kind)
            return FACTS

        sharing = Sharing(RemoteAddress.parse(self.url), scratch, self.told.append)
        paths = Paths(self.place / "cache", self.place / "artifact")
        worker = cast("Worker", SimpleNamespace(call=call))
        with ExitStack() as locks:
            ws = Workspace(
                self.plan, self.inputs, paths, self.stores, self.told.append, worker, scratch,
                locks, None, sharing,
            )  # fmt: skip
            ws.obtain(part, kind, make, secret=secret)
            sharing.finish()
            sharing.close()
            return ws.objects[part.id]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    with RegistryServer(tmp_path_factory.mktemp("registry")) as server:
        yield server


@pytest.fixture
def proxy(server: RegistryServer) -> Iterator[RegistryProxy]:
    with RegistryProxy(server) as proxy:
        yield proxy


@pytest.fixture
def machines(proxy: RegistryProxy, tmp_path: Path) -> list[Machine]:
    """Two that share a repository."""
    inputs = make_inputs()
    url = f"oci://{proxy.host}/{tmp_path.name.replace('_', '-')}"
    return [Machine(tmp_path / n, url, plan_of(inputs), inputs) for n in ("one", "two")]


def repository(machine: Machine) -> str:
    return RemoteAddress.parse(machine.url).reference.repository


def test_what_one_makes_the_other_takes(server: RegistryServer, machines: list[Machine]) -> None:
    one, two = machines
    first, second = one.obtain(), two.obtain()
    assert (one.made, two.made) == (["base"], [])
    assert second.payload == first.payload
    assert (second.path / "list.json").read_text() == "one"
    assert second.facts == first.facts == FACTS
    assert dict(second.inputs) == dict(first.inputs)
    notes = [e.text for m in machines for e in m.told if isinstance(e, Note)]
    assert [(n.partition(":")[0], " from " in n) for n in notes] == [
        ("base", False), ("base", True),
    ]  # fmt: skip
    assert tags(server, repository(one)) == [first.key.name]
    # Once it is here, the remote is asked no more than whether it has it.
    two.told.clear()
    two.obtain()
    assert two.told == []


def test_what_was_here_before_the_option_goes_there_too(machines: list[Machine]) -> None:
    one, two = machines
    url, one.url = one.url, "oci://127.0.0.1:9/x?ro"
    one.obtain()
    one.url = url
    one.obtain()
    assert one.made == ["base"]
    two.obtain()
    assert two.made == []


@pytest.mark.parametrize("why", ["secret", "registry_secrets"])
def test_nothing_with_a_secret_leaves_the_machine(
    server: RegistryServer, proxy: RegistryProxy, machines: list[Machine], why: str
) -> None:
    """The keys of a dev image, a registry's password: neither sent nor asked for."""
    one, two = machines
    if why == "registry_secrets":
        registry = Registry("r.example", b"", "", "me", PASSWORD, "c" * 64)
        for each in machines:
            each.inputs = dataclasses.replace(each.inputs, registries=(registry,))
            assert each.inputs.registry_secrets
    for each in machines:
        each.obtain(Kind.ELEMENTS, secret=why == "secret")
    assert (one.made, two.made) == (["elements"], ["elements"])
    assert tags(server, repository(one)) == []
    assert proxy.count() == 0


def test_the_forecast_knows_what_is_there(machines: list[Machine]) -> None:
    one, two = machines
    one.obtain()
    with RemoteView(RemoteAddress.parse(two.url)) as view:
        found = {f.name: f for f in forecast(two.plan, two.stores, view)}
    assert found["base"].remote
    assert not found["base"].cached
    assert found["base"].to_json()["remote"] is True
    # What is built on it is not to be made because of it.
    assert not any("base" in r.split(" ") for r in found["environment"].reasons)
    without = {f.name: f for f in forecast(two.plan, two.stores)}
    assert without["environment"].reasons == ("made anew below it: base",)


def test_a_damaged_object_here_is_not_sent(machines: list[Machine]) -> None:
    """It is found damaged before it is used, and what is sent is the one that was made then."""
    one, two = machines
    url, one.url = one.url, "oci://127.0.0.1:9/x?ro"
    found = one.obtain()
    (found.path / "list.json").write_text("two")
    one.url = url
    one.obtain()
    assert one.made == ["base", "base"]
    assert (two.obtain().path / "list.json").read_text() == "one"


def test_a_wrong_address_is_refused_before_anything_is_done(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for url, says in (
        ("registry.example/store", "does not begin with oci://"),
        ("oci://me:secret@registry.example/store", "docker login"),
    ):
        argv = ["build", "debian", "bookworm", "--cache-dir", str(tmp_path), "--store-remote", url]
        assert run(argv) == 2
        said = capsys.readouterr().err
        assert says in said
        assert "secret" not in said
        assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


def test_the_help_names_option_and_variable(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["build", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "--store-remote URL" in text
    assert "IMAGEBUILD_STORE_REMOTE" in text
    assert "Who can write there decides what is in the images" in text


def test_keys_are_tags() -> None:
    """Every name of an object is one of OCI's tags."""
    from imagebuild.registry.reference import Reference

    for kind in Kind:
        name = Key(kind, "f" * 64).name
        assert Reference.parse(f"r.example/s:{name}").tag == name
    assert remotes.KEY.name == "base-0123456789abcdef0123456789abcdef"
