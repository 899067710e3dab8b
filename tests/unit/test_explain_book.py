"""The pattern book, and the captured logs that show each of its entries."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
from pydantic import ValidationError

from imagebuild.cli.main import VERBS, LazyGroup, cli
from imagebuild.explain import Scope, explain, load_book
from imagebuild.explain.book import Book, Entry

LOGS = Path(__file__).resolve().parents[1] / "data/logs"
CAPTURED = sorted(LOGS.glob("*.log"))
GOOD = sorted((LOGS / "good").glob("*.log"))
ENTRIES = load_book().entries
BY_ID = {entry.id: entry for entry in ENTRIES}

#: What must have been caught out of some logs, and said.
CAUGHT = {
    "mirror-unreachable.log": "mirror.example",
    "mirror-busy.log": "503",
    "package-unknown.log": "mysql-client-9",
    "package-version-unknown.log": "2.0 of hello-example",
    "package-file-gone.log": "http://mirror.example/good/pool/gone-example_1.0_all",
    "packages-do-not-fit.log": "needs-example cannot be installed: it needs absent-example (>= 2)",
    "suite-missing.log": "http://mirror.example/good has no suite trixie",
    "docker-repository-without-release.2.log": "debian has no release noble",
    "archive-key-missing.log": "90B13F11E3155788",
    "archive-out-of-date.log": "2d 0h",
    "no-space.log": "/var/cache/",
    "no-space.3.log": "/var/cache/f",
    "no-space.6.log": "/var/cache/out.qcow2",
    "no-memory.log": "dpkg",
    "element-missing.log": "trove-gest",
    "proxy-unreachable.log": "proxy.example",
    "proxy-unreachable.3.log": "proxy.example",
    "git-reference-missing.log": "stable/zed",
    "pip-conflict.log": "agent-a==1.0 and agent-b==1.0",
    "python-too-old.log": "trove-new does not run on this Python (3.11.7)",
    "pip-header-missing.log": "not/here.h",
    "boot-root-missing.log": "LABEL=cloudimg-rootfs",
    "database-user-taken.log": "1001",
    "data-volume-missing.log": "/dev/vdz",
    "message-bus-unreachable.log": "ECONNREFUSED",
    "registry-unreachable.log": "registry.example:5000",
    "datastore-image-not-found.log": "['trove', 'nonesuch']",
}


def entry_of(log: Path) -> str:
    return log.name.split(".")[0]


def test_every_entry_has_a_log_and_every_log_an_entry() -> None:
    assert {entry_of(log) for log in CAPTURED} == set(BY_ID)


@pytest.mark.parametrize("log", CAPTURED, ids=lambda p: p.name)
def test_a_log_is_explained_by_its_own_entry_first(log: Path) -> None:
    text = log.read_text()
    found = explain(text)
    assert found, "nothing was recognised"
    first = found[0]
    assert first.id == entry_of(log)
    assert first.line.strip("…") in text.splitlines()[first.number - 1]
    for said in (first.title, first.cause, *first.advice):
        assert not re.search(r"\{[a-z_]+\*?\}|…\}", said), f"a field was not filled: {said}"
    for scope in first.scope:
        assert explain(text, scope)[0].id == first.id


@pytest.mark.parametrize(("name", "said"), CAUGHT.items())
def test_what_the_line_tells_is_in_the_title(name: str, said: str) -> None:
    assert said in explain((LOGS / name).read_text())[0].title


@pytest.mark.parametrize("log", GOOD, ids=lambda p: p.name)
def test_the_log_of_a_build_that_went_well_needs_no_explanation(log: Path) -> None:
    assert explain(log.read_text()) == ()


def test_there_is_a_good_log() -> None:
    assert len(GOOD) >= 2


def test_every_pattern_is_one_that_some_line_could_match() -> None:
    """Each pattern, its holes filled, is found and gives its own entry among the found."""
    for entry in ENTRIES:
        for pattern in entry.any:
            line = re.sub(r"\{[a-z_]+\*?\}", "word", pattern.source).replace("…", " and so on ")
            match = pattern.last(f"before\n10:00:00 {line} \nafter\n")
            assert match, pattern.source
            assert set(match.fields.values()) <= {"word"}, pattern.source


def test_what_fills_the_disk_wins_over_what_it_causes() -> None:
    hash_mismatch = (LOGS / "package-damaged.log").read_text()
    for no_space in LOGS.glob("no-space*.log"):
        full = no_space.read_text()
        for text in (full + hash_mismatch, hash_mismatch + full):
            assert [e.id for e in explain(text)][:2] == ["no-space", "package-damaged"]


def test_a_clock_that_is_behind_wins_over_the_certificate() -> None:
    line = "x509: certificate has expired or is not yet valid: current time 2020 is before 2026\n"
    assert explain((LOGS / "certificate-unknown-authority.log").read_text() + line)[0].id == (
        "clock-behind"
    )


def test_pips_last_word_loses_to_the_reason_for_it() -> None:
    for name in ("proxy-unreachable.2", "download-refused.3", "certificate-unknown-authority.2"):
        found = [e.id for e in explain((LOGS / f"{name}.log").read_text())]
        assert found[0] == name.split(".")[0]
        assert found[-1] == "pip-nothing-found"


def test_only_what_passes_by_itself_is_temporary() -> None:
    assert {e.id for e in ENTRIES if e.temporary} == {
        "dpkg-locked",
        "download-refused",
        "mirror-busy",
        "mirror-in-update",
        "mirror-unreachable",
        "name-not-resolved",
        "package-file-gone",
        "proxy-unreachable",
        "registry-busy",
        "registry-rate-limit",
        "registry-unreachable",
    }


def test_scopes_leave_other_logs_out() -> None:
    text = (LOGS / "registry-no-credentials.log").read_text()
    assert explain(text, Scope.AGENT)
    assert explain(text, Scope.BUILD) == ()


def commands_named() -> list[tuple[str, str]]:
    found = []
    for entry in ENTRIES:
        for text in (entry.cause, *entry.advice):
            found += [(entry.id, m) for m in re.findall(r"\bimagebuild ([a-z][^;,)]*)", text)]
    return found


def test_the_book_names_only_commands_and_options_that_exist() -> None:
    named = commands_named()
    verbs = {"build", "clean", "explain", "profile"}
    assert verbs <= {words.split()[0] for _, words in named}, "the search for commands is broken"
    # "imagebuild" also begins sentences: imagebuild has one, imagebuild mounts, …
    prose = {"has", "mounts", "compiles", "writes", "puts", "do", "does"}
    group = cli
    assert isinstance(group, LazyGroup)
    context = click.Context(group)
    for entry, words in named:
        verb = words.split()[0]
        if verb in prose:
            continue
        assert verb in VERBS, f"{entry}: imagebuild {verb}"
        command = group.get_command(context, verb)
        assert command
        if isinstance(command, click.Group):
            command = command.get_command(context, words.split()[1])
            assert command, f"{entry}: imagebuild {words}"
        known = {option for parameter in command.params for option in parameter.opts}
        for option in re.findall(r"(?<=\s)--?[a-z][a-z-]*", words.split("#")[0]):
            assert option in known, f"{entry}: {option} of imagebuild {words}"


def test_keys_of_the_profile_that_the_book_names_exist() -> None:
    from imagebuild.config.profile import Profile

    named = {
        (entry.id, key)
        for entry in ENTRIES
        for text in (entry.cause, *entry.advice)
        for key in re.findall(r"(?:--set|profile's key) ([a-z_.]+[a-z])", text)
    }
    assert len(named) >= 6
    for entry, key in named:
        model = Profile
        for part in key.split("."):
            fields = model.model_fields
            assert part in fields, f"{entry}: {key}"
            annotation = fields[part].annotation
            inner = [annotation, *getattr(annotation, "__args__", ())]
            model = next((a for a in inner if hasattr(a, "model_fields")), model)


def test_a_source_is_a_link() -> None:
    for entry in ENTRIES:
        assert all(re.fullmatch(r"https?://\S+", s) for s in entry.source), entry.id


GOOD_ENTRY = {
    "id": "x",
    "scope": ["build"],
    "rank": "cause",
    "title": "the package {package} is odd",
    "cause": "Nobody knows why it is so.",
    "advice": ["do something"],
    "source": ["https://example.org/"],
    "any": ["odd package {package}"],
}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"any": ["odd package"]}, "has {package}"),
        ({"any": ["odd package {package}", "odd thing"]}, "has {package}"),
        ({"any": ["E: {package}"]}, "no piece of"),
        ({"any": []}, "at least 1"),
        ({"rank": "high"}, "rank"),
        ({"scope": ["nowhere"]}, "scope"),
        ({"id": "Not an id"}, "id"),
        ({"advise": ["a slip"]}, "advise"),
        ({"advice": []}, "advice"),
        ({"any": ["{a} {b} {c} {d} {e} {f} six holes {package}"]}, "holes"),
    ],
)
def test_a_bad_entry_is_refused(change: dict[str, object], complaint: str) -> None:
    assert Entry.model_validate(GOOD_ENTRY).id == "x"
    with pytest.raises(ValidationError) as caught:
        Entry.model_validate(GOOD_ENTRY | change)
    assert complaint in str(caught.value)


def test_two_entries_of_one_name_are_refused() -> None:
    with pytest.raises(ValidationError, match="more than one entry is called x"):
        Book.model_validate({"entries": [GOOD_ENTRY, GOOD_ENTRY]})


def test_captured_logs_name_no_machine_of_ours() -> None:
    for log in (*CAPTURED, *GOOD):
        text = log.read_text()
        assert not re.search(r"/root/|/home/|/tmp/w|pytest-of|127\.0\.0\.1", text), log.name
