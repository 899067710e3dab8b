"""report.html as text: what stands in it, what cannot get out of it, how long it gets."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterator
from html.parser import HTMLParser

import pytest

from imagebuild.errors import ExitCode
from imagebuild.pipeline import reporting
from imagebuild.pipeline.cells import Phase
from imagebuild.pipeline.outcome import CellReport, PhaseReport, RunReport, Status
from imagebuild.pipeline.page import layout, render, words
from imagebuild.pipeline.page.chart import Point, chart, scale
from imagebuild.pipeline.page.html import Html, el
from imagebuild.pipeline.page.treemap import HEADER, Box, Tile, nodes, squarify, tiles
from imagebuild.pipeline.page.view import NIGHTS, view
from imagebuild.pipeline.page.waterfall import axis_of, bars
from tests.pipeline import sample

HOSTILE = "</script><script>alert(1)</script>\"'><img src=//x.example/a>\u202eevil\x1b[31m"


class Tags(HTMLParser):
    """Every element with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def many(cells: int, nights: int) -> tuple[RunReport, list[RunReport]]:
    """A run of so many images, and such nights before it."""

    def blown(report: RunReport) -> RunReport:
        images = [c for c in report.cells if c.image]
        made = [
            dataclasses.replace(c, id=f"{c.id}-{n}")
            for n, c in zip(range(cells), itertools.cycle(images), strict=False)
        ]
        return dataclasses.replace(report, cells=tuple(made))

    return blown(sample.tonight()), [blown(r) for r in sample.earlier(nights)]


def hostile() -> RunReport:
    """A failed night in which everybody's texts are bad."""
    error = {
        "error": "BuildError", "exit_code": 1, "what": HOSTILE, "where": HOSTILE,
        "detail": HOSTILE * 3, "hint": HOSTILE,
        "cause": {"id": "x", "title": HOSTILE, "text": HOSTILE, "advice": [HOSTILE], "line": ""},
    }  # fmt: skip
    image = dataclasses.replace(
        sample.facts(sample.BOOKWORM),
        name=HOSTILE,
        packages={HOSTILE: HOSTILE},
        agent={"name": HOSTILE, "version": HOSTILE},
        directories=((f"/{HOSTILE}", 10**8, 0), (f"/{HOSTILE}/{HOSTILE}", 10**7, 1)),
        boots={HOSTILE: ((HOSTILE, 3.0),)},
        checks=({"name": HOSTILE, "level": "static", "outcome": "failed", "what": HOSTILE,
                 "hint": HOSTILE, "evidence": [HOSTILE], "seconds": None},),
        stages=((HOSTILE, 4.0, False),),
        hooks=((HOSTILE, HOSTILE, HOSTILE, 3.0),),
    )  # fmt: skip
    good = sample.tonight()
    bookworm = good.cell(sample.BOOKWORM)
    assert bookworm
    phases = [
        dataclasses.replace(p, target=HOSTILE, log="javascript:alert(1)", command=(HOSTILE,))
        for p in bookworm.phases
    ]
    phases[1] = dataclasses.replace(
        phases[1], status=Status.FAILED, error=error, warnings=(HOSTILE,), why=HOSTILE
    )
    cell = dataclasses.replace(
        bookworm, id=HOSTILE, profile=HOSTILE, phases=tuple(phases), image=image.to_json()
    )
    bad = {"bad": [{"image": HOSTILE, "outcome": "failed", "what": HOSTILE}]}
    sync = PhaseReport(Phase.MIRROR, Status.FAILED, started=good.started, log="//x.example/log",
                       error=error, result=bad)  # fmt: skip
    return dataclasses.replace(
        good,
        pipeline=HOSTILE,
        host=HOSTILE,
        tool=HOSTILE,
        notes=(HOSTILE,),
        cells=(cell, CellReport("mirror-" + HOSTILE, "mirror", (sync,))),
    )


def inner(found: list[Tile]) -> list[Tile]:
    return [t for t in found if not t.is_group]


def pairs_that_overlap(boxes: list[Box]) -> Iterator[tuple[Box, Box]]:
    slack = 1e-6
    for a, b in itertools.combinations(boxes, 2):
        wide = min(a.x + a.width, b.x + b.width) - max(a.x, b.x)
        high = min(a.y + a.height, b.y + b.height) - max(a.y, b.y)
        if wide > slack and high > slack:
            yield a, b


def test_a_page_says_the_verdict_and_leads_to_its_neighbours() -> None:
    text = render(sample.bad_night(), sample.earlier())
    assert "<h1>2 failed, 1 held of 5 cells</h1>" in text
    files = {reporting.MARKDOWN, reporting.JSON, reporting.JUNIT, reporting.METRICS}
    assert files == set(layout.NEIGHBOURS)
    hrefs = {a["href"] for a in Tags(text).of("a")}
    assert hrefs >= {f"./{name}" for name in files} | {
        "./cells/",
        "../20261122T021700Z/report.html",
    }
    assert f"./cells/{sample.JAMMY}/verify.log" in hrefs


def test_failures_come_before_all_else() -> None:
    text = render(sample.bad_night(), sample.earlier())
    order = [
        "the image is bad: 1 check failed",
        "ModuleNotFoundError: No module named &#x27;oslo_utils&#x27;",
        "its wheels come from a lock file of another series",
        'id="cells"',
        'id="images"',
    ]
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    assert "held, since mirror-backup-images failed" in text


@pytest.mark.parametrize(
    ("report", "said"),
    [
        (sample.tonight(), "All 3 cells are good"),
        (sample.killed(), "The run did not end"),
        (dataclasses.replace(sample.tonight(), cells=()), "There was nothing to do"),
    ],
)
def test_verdict(report: RunReport, said: str) -> None:
    assert layout.verdict(report) == said
    assert said in render(report, [])


def test_runs_of_one_day_are_told_apart_by_their_times() -> None:
    before = dataclasses.replace(
        sample.earlier()[-1], run="20261123T001700Z", started=sample.NIGHT - 7200
    )
    text = render(sample.tonight(), [before])
    assert "the run before: 23 Nov, 00:17" in text
    assert "Compared with the image of 23 Nov, 00:17" in text
    assert "Compared with the image of 22 Nov;" in render(sample.tonight(), sample.earlier())


def test_a_night_with_nothing_to_do_says_so() -> None:
    cell = CellReport("a", "image", (PhaseReport(Phase.BUILD, Status.UNCHANGED),))
    night = dataclasses.replace(sample.tonight(), cells=(cell,))
    assert layout.verdict(night) == "The one cell is as last night: nothing had to be done"
    text = render(night, [])
    assert "There is no image: it was not built in this run." in text
    assert 'id="time"' not in text


def test_every_exit_code_has_words() -> None:
    assert set(words.EXIT_WORDS) == set(ExitCode)


def test_one_failure_of_many_cells_is_told_once() -> None:
    bad = sample.bad_night()
    jammy = bad.cell(sample.JAMMY)
    assert jammy
    cells = tuple(dataclasses.replace(jammy, id=f"image-{n}") for n in range(30))
    text = render(dataclasses.replace(bad, cells=cells), [])
    assert text.count('<p class="what">the image is bad: 1 check failed</p>') == 1
    assert "and 29 more" in text
    assert "All 30 cells failed" in text


def test_same_input_same_bytes_and_order_of_earlier_does_not_matter() -> None:
    earlier = sample.earlier()
    text = render(sample.tonight(), earlier)
    assert text == render(RunReport.from_json(sample.tonight().to_json()), earlier[::-1])


def test_later_nights_and_those_of_other_pipelines_are_not_earlier_ones() -> None:
    night = sample.earlier()[-1]
    other = dataclasses.replace(sample.earlier()[0], pipeline="weekly")
    assert view(night, [sample.tonight(), night, other]).earlier == ()


def test_hostile_texts_stay_texts() -> None:
    text = render(hostile(), [])
    tags = Tags(text)
    assert {t for t, _ in tags.found} >= {"table", "svg"}
    assert len(tags.of("script")) == 1
    assert not tags.of("img")
    assert not [n for _, attributes in tags.found for n in attributes if n.startswith("on")]
    assert "\u202e" not in text
    assert "\x1b" not in text
    assert "\\u202eevil" in text
    ours = re.compile(r"#|\./|\.\./\d")
    assert not [a for a in tags.of("a") if not ours.match(a["href"] or "")]
    assert "./javascript%3Aalert%281%29" in text


def test_nothing_of_another_place_is_loaded() -> None:
    tags = Tags(render(sample.bad_night(), sample.earlier()))
    for _tag, attributes in tags.found:
        for name in ("src", "href", "xlink:href", "action", "data", "style"):
            value = attributes.get(name) or ""
            assert re.match(r"$|#|\./|\.\./|data:image/svg\+xml;base64,", value), (name, value)


@pytest.mark.parametrize("path", ["", "/etc/passwd", "//x.example/a", "a/../../b", "a//b"])
def test_links_lead_nowhere_else(path: str) -> None:
    assert words.link(path, "text") == "text"


def test_what_is_not_markup_is_escaped() -> None:
    made = el("p", "a < b", Html("<b>c</b>"), title='"x"', hidden=True, lang=None)
    assert made == '<p title="&quot;x&quot;" hidden>a &lt; b<b>c</b></p>'


def test_a_page_is_bounded() -> None:
    report, earlier = many(40, 30)
    assert len(render(report, earlier).encode()) < 3_000_000
    long = "x" * 10**6
    error = {"what": long, "where": long, "detail": f"{long}\n" * 20, "hint": long, "exit_code": 1}
    phase = PhaseReport(Phase.BUILD, Status.FAILED, error=error, why=long, command=(long,))
    packages = {f"package-{n}": "1" for n in range(20_000)}
    facts = dataclasses.replace(sample.facts(sample.BOOKWORM), packages=packages)
    cell = CellReport("a", "image", (phase,) * 500, image=facts.to_json())
    night = dataclasses.replace(sample.tonight(), cells=(cell,), notes=(long,) * 1000)
    before = dataclasses.replace(
        sample.earlier()[0],
        cells=(dataclasses.replace(cell, phases=(), image=sample.facts(sample.JAMMY).to_json()),),
    )
    text = render(night, [before])
    assert len(text) < 1_000_000
    assert "more rows in report.json" in text
    assert "more phases in report.json" in text


def test_more_nights_than_the_page_has_room_for() -> None:
    made = view(sample.tonight(), sample.earlier(50))
    assert len(made.cells[0].nights) == NIGHTS
    assert made.cells[0].nights[-1].run == sample.tonight().run


def test_the_trend_has_a_gap_where_a_night_failed() -> None:
    made = view(sample.tonight(), sample.earlier())
    jammy = next(c for c in made.cells if c.id == sample.JAMMY)
    failed = [n for n in jammy.nights if not n.is_good]
    assert [n.status for n in failed] == [Status.FAILED]
    assert [n.size for n in failed] == [None]
    assert jammy.last_good == jammy.nights[-2]
    # Tonight's image is there, but it is bad.
    text = render(sample.bad_night(), sample.earlier())
    charts = re.findall(rf'aria-label="Image of {sample.JAMMY} over 15 nights: ([^"]+)"', text)
    assert len(charts) == 1
    assert charts[0].endswith(", none this night")
    assert text.count(": failed</title>") == 3 * 2


def test_facts_that_cannot_be_read_do_not_stop_the_page() -> None:
    bookworm = sample.tonight().cell(sample.BOOKWORM)
    assert bookworm
    cell = dataclasses.replace(bookworm, image={"name": 3})
    text = render(dataclasses.replace(sample.tonight(), cells=(cell,)), sample.earlier())
    assert "facts of the image that this version cannot read" in text


@pytest.mark.parametrize("values", [[6, 6, 4, 3, 2, 2, 1], [1], [1000, 1, 1e-3], [5] * 50])
def test_squarified_boxes_fill_the_box_and_have_their_areas(values: list[float]) -> None:
    box = Box(10, 20, 600, 400)
    placed = squarify(values, box)
    assert not list(pairs_that_overlap(placed))
    assert sum(b.area for b in placed) == pytest.approx(box.area)
    for value, one in zip(values, placed, strict=True):
        assert one.area == pytest.approx(box.area * value / sum(values))
        assert box.x - 1e-6 <= one.x
        assert one.x + one.width <= box.x + box.width + 1e-6
        assert one.y + one.height <= box.y + box.height + 1e-6


def test_squares_are_nearly_square() -> None:
    # The paper's example: 6, 6, 4, 3, 2, 2, 1 in 6 by 4.
    first = squarify([6, 6, 4, 3, 2, 2, 1], Box(0, 0, 6, 4))
    assert first[:2] == [Box(0, 0, 3, 2), Box(0, 2, 3, 2)]


def test_tiles_lie_in_their_groups_and_do_not_overlap() -> None:
    facts = sample.facts(sample.BOOKWORM)
    assert facts.rootfs
    box = Box(0, 0, 640, 420)
    found = tiles(nodes(facts.directories, facts.rootfs), box)
    assert not list(pairs_that_overlap([t.box for t in inner(found)]))
    groups = [t for t in found if t.is_group]
    headers = sum(t.box.area - (t.box.width - 4) * (t.box.height - HEADER - 2) for t in groups)
    assert sum(t.box.area for t in inner(found)) + headers == pytest.approx(box.area)
    top = [t for t in found if t.label in ("/usr", "/boot")]
    assert len(top) == 2
    for tile in top:
        assert tile.box.area / box.area == pytest.approx(tile.bytes / facts.rootfs, rel=1e-3)


def test_directories_larger_than_all_of_it_do_no_harm() -> None:
    found = tiles(nodes((("/a", 50, 0), ("/a/b", 90, 1), ("/c", -5, 3)), 10), Box(0, 0, 300, 300))
    assert {t.path for t in found} == {"/a", "/a/b"}


def test_bars_are_where_the_times_say() -> None:
    report = sample.tonight()
    made = view(report, [])
    axis = axis_of(report)
    last = max(p.started + p.seconds for c in report.cells for p in c.phases)
    assert axis.start == report.started
    assert axis.start + axis.seconds == pytest.approx(max(last, report.started + report.seconds))
    bookworm = next(c for c in made.cells if c.id == sample.BOOKWORM)
    found = bars(bookworm)
    build = next(b for b in found if b.kind == "build")
    stages = [b for b in found if b.is_stage]
    assert bookworm.facts
    assert [b.label for b in stages] == [n for n, _, _ in bookworm.facts.stages]
    assert stages[0].start == pytest.approx(build.start, abs=0.2)
    assert stages[-1].start + stages[-1].seconds == pytest.approx(build.start + build.seconds)
    wait = next(b for b in found if b.kind == "wait")
    assert wait.seconds == pytest.approx(59.8)
    tries = [b for b in found if b.label == "upload" and "try" in b.title]
    assert [b.is_bad for b in tries] == [True, False]


def test_stages_of_an_artifact_that_was_there_are_left_out() -> None:
    made = view(sample.tonight(), [])
    cell = next(c for c in made.cells if c.id == sample.BOOKWORM)
    phases = (dataclasses.replace(cell.report.phases[0], result={"unchanged": True}),)
    same = dataclasses.replace(cell, report=dataclasses.replace(cell.report, phases=phases))
    assert [b.kind for b in bars(same)] == ["build"]


@pytest.mark.parametrize(
    "values", [[0.0], [0.0, 0.0], [380.0, 381.0], [1.0, 1e6], [12.5], [1e-5], [3, 700]]
)
def test_scales_hold_their_values(values: list[float]) -> None:
    made = scale(values)
    assert made.low <= min(values) <= max(values) <= made.high
    assert 2 <= len(made.ticks) <= 5
    for value in values:
        assert 0 <= made.y(value) <= 88


def test_a_line_breaks_at_a_gap() -> None:
    points = [
        Point(str(n), None if n == 2 else float(n), "held" if n == 2 else "") for n in range(5)
    ]
    text = chart("Boot", points, str, str, "s", ("a", "b"), "cell")
    assert text.count("<polyline") == 2
    assert text.count("<circle") == 4
    assert "2: held" in text
