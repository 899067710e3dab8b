"""report.html in a real browser: light, dark, on a phone, on paper, without scripts."""

from __future__ import annotations

import dataclasses
import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from imagebuild.pipeline.cells import Phase
from imagebuild.pipeline.outcome import CellReport, PhaseReport, RunReport, Status
from imagebuild.pipeline.page import render
from imagebuild.pipeline.page.waterfall import axis_of
from tests.pipeline import sample
from tests.pipeline.test_page import HOSTILE, hostile

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")

_ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 900}

#: Texts whose contrast with what is behind them is too low; WCAG 2.1, 1.4.3.
_LOW_CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data; return [r, g, b, a / 255];
  };
  const over = (top, below) => top.slice(0, 3).map((c, n) => c * top[3] + below[n] * (1 - top[3]));
  const luminance = (c) => {
    const [r, g, b] = c.map((v) => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const ratio = (a, b) => {
    const [x, y] = [luminance(a), luminance(b)].sort((m, n) => n - m); return (x + .05) / (y + .05);
  };
  const behind = (element) => {
    const shapes = element.closest("g")?.querySelectorAll("rect") ?? [];
    for (const shape of shapes) {
      const fill = getComputedStyle(shape).fill;
      if (element.tagName === "text" && !fill.startsWith("url") && fill !== "none")
        return rgba(fill);
    }
    for (let e = element; e; e = e.parentElement) {
      const colour = rgba(getComputedStyle(e).backgroundColor);
      if (colour[3] > .99) return colour;
    }
    return [255, 255, 255, 1];
  };
  const bad = []; let seen = 0;
  for (const e of document.querySelectorAll("body *")) {
    const text = [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    const box = e.getBoundingClientRect();
    if (!text || !box.width || box.width < 2 || e.closest(".vh, .skip, title, script")) continue;
    const style = getComputedStyle(e), below = behind(e);
    const ink = rgba(e instanceof SVGElement ? style.fill : style.color);
    ink[3] *= style.opacity;
    const large = parseFloat(style.fontSize) >= 24;
    const found = ratio(over(ink, below), below.slice(0, 3));
    seen += 1;
    if (found < (large ? 3 : 4.5)) bad.push([found.toFixed(2), e.className?.baseVal ?? e.className,
      e.textContent.slice(0, 40)]);
  }
  return [seen, bad];
}"""


_LOW_CONTRAST_OF_SHAPES = """() => {
  const luminance = (text) => {
    const [r, g, b] = text.match(/[0-9.]+/g).slice(0, 3)
      .map((v) => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const card = luminance(getComputedStyle(document.querySelector(".card")).backgroundColor);
  const enough = (colour) => {
    const [x, y] = [luminance(colour), card].sort((m, n) => n - m);
    return (x + .05) / (y + .05) >= 3;
  };
  const shapes = [...document.querySelectorAll(".ph, .st, .bt, .oc, polyline, .badge .i")];
  if (shapes.length < 50) return ["only", shapes.length];
  return shapes.filter((shape) => {
    const style = getComputedStyle(shape);
    const colours = shape.matches(".i") ? [style.color] : [style.fill, style.stroke];
    return !colours.some((c) => c !== "none" && enough(c));
  }).map((shape) => shape.getAttribute("class"));
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One browser for all tests here, and none afterwards."""
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=_ARGUMENTS)
        yield found
        found.close()


class Pages:
    """Opens pages, and notes what they say and ask for."""

    def __init__(self, browser: Any, place: Path) -> None:  # noqa: ANN401 - playwright's
        self._browser, self._place = browser, place
        self.said: list[str] = []
        self.asked: list[str] = []
        self._contexts: list[Any] = []

    def open(self, text: str, **options: Any) -> Any:  # noqa: ANN401 - playwright's
        file = self._place / f"report-{len(self._contexts)}.html"
        file.write_text(text, encoding="utf-8")
        context = self._browser.new_context(**({"viewport": DESK} | options))
        self._contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("dialog", lambda dialog: self.said.append(f"dialog {dialog.message}"))
        page.route("**/*", lambda route: self._answer(route, file.as_uri()))
        page.goto(file.as_uri())
        return page

    def _answer(self, route: Any, ours: str) -> None:  # noqa: ANN401 - playwright's
        if route.request.url == ours:
            route.continue_()
            return
        self.asked.append(route.request.url)
        route.abort()

    def close(self) -> None:
        for context in self._contexts:
            context.close()


@pytest.fixture
def pages(browser: Any, tmp_path: Path) -> Iterator[Pages]:  # noqa: ANN401 - playwright's
    """Pages that must say nothing on the console and ask for nothing."""
    made = Pages(browser, tmp_path)
    yield made
    made.close()
    assert made.said == []
    assert made.asked == []


NIGHTS = {
    "good": (sample.tonight(), sample.earlier()),
    "bad": (sample.bad_night(), sample.earlier()),
    "first": (sample.tonight(), []),
    "killed": (sample.killed(), sample.earlier(3)),
    "hostile": (hostile(), []),
    "empty": (dataclasses.replace(sample.tonight(), cells=()), []),
}


@pytest.mark.parametrize("name", NIGHTS)
def test_a_page_is_quiet_and_as_wide_as_its_window(pages: Pages, name: str) -> None:
    text = render(*NIGHTS[name])
    page = pages.open(text)
    check_shown(page)
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size(PHONE)
    check_shown(page)
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 720, "height": 1000})
    check_shown(page)
    check_shown(pages.open(text, viewport=PHONE, is_mobile=True, java_script_enabled=False))


def check_shown(page: Any) -> None:  # noqa: ANN401 - playwright's
    """The verdict and every section are seen, and nothing is wider than the window."""
    # Without scripts of its own, a page still answers to us.
    found = page.evaluate(
        """() => ({
          heights: [...document.querySelectorAll("h1, main > section")].map((e) => e.offsetHeight),
          over: document.documentElement.scrollWidth - innerWidth,
        })"""
    )
    assert min(found["heights"]) > 20
    assert found["over"] <= 0


@pytest.mark.parametrize("name", ["bad", "good"])
def test_texts_can_be_read(pages: Pages, name: str) -> None:
    page = pages.open(render(*NIGHTS[name]))
    page.evaluate("document.querySelectorAll('details').forEach((d) => (d.open = true))")
    for colours, background in (("light", "rgb(246, 246, 244)"), ("dark", "rgb(18, 21, 24)")):
        page.emulate_media(color_scheme=colours)
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == background
        seen, bad = page.evaluate(_LOW_CONTRAST)
        assert seen > 300
        assert bad == []


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_pictures_can_be_seen(pages: Pages, colours: str) -> None:
    """Bars and marks have the contrast that WCAG 2.1, 1.4.11 asks for, with the card."""
    page = pages.open(render(*NIGHTS["bad"]), color_scheme=colours)
    bad = page.evaluate(_LOW_CONTRAST_OF_SHAPES)
    assert bad == []


def test_statuses_differ_by_shape_and_word(pages: Pages) -> None:
    page = pages.open(render(*NIGHTS["bad"]))
    groups = page.locator(".cells .group th")
    assert [t.split()[0] for t in groups.all_inner_texts()] == ["Failed", "Held", "Passed"]
    shapes = page.evaluate(
        "[...document.querySelectorAll('symbol')].map((s) => s.innerHTML)"
    )  # fmt: skip
    assert len(set(shapes)) == len(shapes) == len(Status)
    used = page.evaluate(
        "[...new Set([...document.querySelectorAll('use')].map((u) => u.getAttribute('href')))]"
        ".filter((h) => !document.querySelector(h))"
    )
    assert used == []


@pytest.mark.parametrize("viewport", [DESK, PHONE])
def test_bars_are_drawn_where_the_times_say(pages: Pages, viewport: dict[str, int]) -> None:
    report = sample.tonight()
    page = pages.open(render(report, []), viewport=viewport)
    axis = axis_of(report)
    row = page.locator(".wf-row", has_text=sample.JAMMY)
    track = row.locator("svg.track").bounding_box()
    jammy = report.cell(sample.JAMMY)
    assert track
    assert jammy
    for kind, phase in (("build", jammy.phases[0]), ("verify", jammy.phases[1])):
        bar = row.locator(f"rect.ph-{kind}").bounding_box()
        assert bar
        begin = track["x"] + track["width"] * (phase.started - axis.start) / axis.seconds
        assert bar["x"] == pytest.approx(begin, abs=1.5)
        length = track["width"] * phase.seconds / axis.seconds
        assert bar["width"] == pytest.approx(length, abs=2.5)


@pytest.mark.parametrize(("viewport", "kind"), [(DESK, "wide"), (PHONE, "narrow")])
def test_the_treemap_is_seen_whole_and_its_names_fit(
    pages: Pages, viewport: dict[str, int], kind: str
) -> None:
    page = pages.open(render(sample.tonight(), []), viewport=viewport)
    page.locator("svg.map:visible").first.scroll_into_view_if_needed()
    assert page.locator("svg.map:visible").count() == 2
    found = page.evaluate(
        """(kind) => {
          const map = document.querySelector(`svg.map.${kind}`);
          const plain = (e) => { const b = e.getBoundingClientRect();
            return [b.left, b.top, b.right, b.bottom]; };
          return {
            map: plain(map),
            tiles: [...map.querySelectorAll("rect.tl")].map(plain),
            words: [...map.querySelectorAll("text")].map((t) =>
              [plain(t), plain(t.parentNode.querySelector("rect")), t.textContent]),
          };
        }""",
        kind,
    )
    left, top, right, bottom = found["map"]
    assert right - left > 300
    assert bottom - top > 300
    # A bounding box has the line around it, which lies half outside.
    for a, b in itertools.combinations(found["tiles"], 2):
        wide = min(a[2], b[2]) - max(a[0], b[0])
        high = min(a[3], b[3]) - max(a[1], b[1])
        assert min(wide, high) < 3
    assert len(found["words"]) > 20
    for word, tile, text in found["words"]:
        assert word[2] <= tile[2] + 1, text
        assert word[3] <= tile[3] + 2, text
    assert page.locator(f"svg.map.{kind} title").first.text_content().startswith("/usr: 7")


def test_tables_that_are_no_grid_on_phones_stay_tables(pages: Pages) -> None:
    page = pages.open(render(sample.tonight(), []), viewport=PHONE)
    cells = page.locator(".cells")
    assert cells.evaluate("(e) => getComputedStyle(e).display") == "block"
    assert cells.get_by_role("rowheader", name=sample.JAMMY).count() == 1
    assert cells.get_by_role("cell", name="Proven database").count() == 2


def test_searching_for_a_package(pages: Pages) -> None:
    page = pages.open(render(*NIGHTS["good"]))
    section = page.locator(".packages").first
    rows = section.locator("tbody tr:visible")
    before = rows.count()
    section.locator("input").fill("IPROUTE")
    assert rows.count() == 1
    assert "iproute2" in rows.inner_text()
    assert section.locator("output").inner_text() == "1 found"
    section.locator("input").fill("")
    assert rows.count() == before > 3


def test_without_scripts_nothing_that_needs_them_is_offered(pages: Pages) -> None:
    page = pages.open(render(*NIGHTS["good"]), java_script_enabled=False)
    assert page.locator("input, button").count() == 0
    assert page.get_by_text("iproute2").first.is_visible()


def test_many_images_are_folded_and_links_unfold_them(pages: Pages) -> None:
    night = sample.tonight()
    image = night.cell(sample.BOOKWORM)
    assert image
    cells = tuple(dataclasses.replace(image, id=f"image-{n}") for n in range(5))
    page = pages.open(render(dataclasses.replace(night, cells=cells), []))
    assert page.locator("#images > details[open]").count() == 0
    page.get_by_role("button", name="Unfold all").click()
    assert page.locator("#images > details[open]").count() == 5
    page.get_by_role("button", name="Fold all").click()
    page.locator("#images > details").nth(3).locator("summary").first.press("Enter")
    assert page.locator("#images > details[open]").count() == 1


def test_hostile_texts_are_shown_as_they_are(pages: Pages) -> None:
    page = pages.open(render(hostile(), []))
    assert page.locator("script").count() == 1
    assert page.locator("img").count() == 0
    what = page.locator(".what").first.inner_text()
    assert what == HOSTILE.replace("\u202e", "\\u202e").replace("\x1b", "\\x1b")


def test_the_policy_lets_nothing_in(browser: Any, tmp_path: Path) -> None:  # noqa: ANN401
    text = render(*NIGHTS["good"])
    inside = "<script>document.title='in'</script><img src='https://x.example/a'></body>"
    pages = Pages(browser, tmp_path)
    page = pages.open(text.replace("</body>", inside))
    page.wait_for_timeout(50)
    assert page.title() != "in"
    assert pages.asked == []
    assert any("Content Security Policy" in said for said in pages.said)
    pages.close()


def test_the_page_has_landmarks_headings_and_names(pages: Pages) -> None:
    page = pages.open(render(*NIGHTS["bad"]))
    for role in ("banner", "navigation", "main", "contentinfo"):
        assert page.get_by_role(role).count() == 1
    levels = page.evaluate(
        "[...document.querySelectorAll('h1,h2,h3,h4')].map((h) => Number(h.tagName[1]))"
    )
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    unnamed = page.evaluate(
        """[...document.querySelectorAll("svg")].filter((s) => !s.parentElement.closest("svg") &&
          !s.getAttribute("aria-label") && s.getAttribute("aria-hidden") !== "true").length"""
    )
    assert unnamed == 0
    assert page.locator("table").count() == page.locator("table:has(th[scope=col])").count() > 10
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert len(ids) == len(set(ids))
    links = page.evaluate("[...document.querySelectorAll('a')].map((a) => a.getAttribute('href'))")
    assert {to[1:] for to in links if to.startswith("#")} <= set(ids)


def test_a_cell_without_facts_and_one_without_phases(pages: Pages) -> None:
    failed = PhaseReport(Phase.BUILD, Status.FAILED, started=sample.NIGHT, seconds=3)
    night: RunReport = dataclasses.replace(
        sample.tonight(), cells=(CellReport("a", "image", (failed,)), CellReport("b", "image", ()))
    )
    page = pages.open(render(night, []))
    assert page.locator(".what").inner_text() == "build was failed"
    assert page.locator("#images > details").count() == 2


def test_paper_shows_what_was_unfolded(pages: Pages) -> None:
    page = pages.open(render(*NIGHTS["good"]), color_scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("nav").is_visible()
    assert not page.get_by_text("The largest directories as a table").first.is_visible()
    assert len(page.pdf(format="A4")) > 20_000
