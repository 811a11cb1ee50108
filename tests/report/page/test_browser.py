"""The page in a browser: it fetches nothing, sorts, obeys the keyboard, fits a phone, and can be read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.browser import Browser, browser, find_browser
from support.run_tree import MadeRun, small_study, write_runs

from drcli.report.page.page import Page, build
from drcli.report.theme import COLOURS, SHADES
from drcli.runs.collect import collect

PROGRAM = find_browser()
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no Chromium here: apt-get install chromium")

LIGHT, DARK = "light", "dark"
DESK, PHONE, SHEET = 1280, 360, 700
# Contrast of every text with what is behind it, as WCAG 2 defines it; in figures the page is behind it.
CONTRASTS = """
(() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const luminance = (colour) => {
    const [r, g, b] = rgba(colour).slice(0, 3).map((x) => x / 255)
      .map((x) => (x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (node) => {
    const colour = getComputedStyle(node).backgroundColor;
    return rgba(colour)[3] === 255 ? colour : behind(node.parentElement);
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = [];
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || node.closest("script, .skip")) continue;
    const look = getComputedStyle(node);
    const colour = node.closest("svg") ? look.fill : look.color;
    const [low, high] = [luminance(colour), luminance(behind(node))].sort((a, b) => a - b);
    found.push([(high + 0.05) / (low + 0.05), walker.currentNode.data.trim().slice(0, 40)]);
  }
  return found;
})()
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Page]:
    """A page with everything on it."""
    folder = tmp_path_factory.mktemp("page")
    grid = [
        MadeRun("diagnose_relearn", 0, f"digits-{x}-{y}", settings={"lambda": x, "every": y, "times": 3}, every=y)
        for x in (1.0, 3.0)
        for y in (8, 12)
    ]
    odd = [MadeRun("ogm", finished=False), MadeRun("<script>alert(1)</script>", monitor="test", selection="test")]
    even = [MadeRun("pmr", seed, copies="joint") for seed in (0, 1)]
    other = [MadeRun(label, seed, "fsdd", "fsdd", gap=0.12) for label in ("joint", "pmr") for seed in (0, 1)]
    page = build(collect([write_runs(folder / "runs", [*small_study(), *odd, *even, *grid, *other])]))
    path = folder / "report.html"
    path.write_text(page.html, encoding="utf-8")
    return path, page


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    assert PROGRAM is not None
    with browser(PROGRAM, tmp_path_factory.mktemp("profile")) as running:
        yield running


def first_table(tab: Browser) -> list[list[str]]:
    """The cells of the results of "digits", as they stand."""
    cells = (
        "[...document.querySelectorAll('#digits-results tbody tr')].map((r) => [...r.cells].map((c) => c.innerText))"
    )
    return [list(row) for row in tab.evaluate(cells)]


def sort_state(tab: Browser, column: int) -> str:
    return str(tab.evaluate(f"document.querySelectorAll('#digits-results thead th')[{column}].ariaSort"))


def test_the_page_complains_of_nothing_and_fetches_nothing(tab: Browser, made: tuple[Path, Page]) -> None:
    tab.open(made[0], width=DESK, scheme=LIGHT)
    tab.evaluate("new Promise((done) => setTimeout(done, 300))")
    for complaint in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
        assert tab.told(complaint) == []
    urls = [request["request"]["url"] for request in tab.told("Network.requestWillBeSent")]
    assert [url for url in urls if not url.startswith("data:")] == [made[0].as_uri()]


def test_every_figure_is_drawn(tab: Browser, made: tuple[Path, Page]) -> None:
    tab.open(made[0], width=DESK, scheme=LIGHT)
    sizes = tab.evaluate(
        "[...document.querySelectorAll('figure svg')].map((s) => "
        "[s.getBoundingClientRect().width, s.querySelector('path').getBoundingClientRect().width])"
    )
    assert len(sizes) == len(made[1].drawings) > 10
    assert all(width > 200 and path > 0 for width, path in sizes)
    assert tab.evaluate("new Set([...document.querySelectorAll('[id]')].map((e) => e.id)).size") == tab.evaluate(
        "document.querySelectorAll('[id]').length"
    )


def test_a_click_on_a_heading_sorts_by_numbers_with_absent_ones_last(tab: Browser, made: tuple[Path, Page]) -> None:
    tab.open(made[0], width=DESK, scheme=LIGHT)
    headings = tab.evaluate("[...document.querySelectorAll('#digits-results thead th')].map((h) => h.innerText)")
    column = [text.split()[0] for text in headings].index("minus")
    orders = []
    for _ in range(2):
        tab.evaluate(f"document.querySelectorAll('#digits-results thead button')[{column}].click()")
        orders.append(([row[0] for row in first_table(tab)], sort_state(tab, column)))
    odd = "<script>alert(1)</script>"
    assert orders == [
        ([odd, "pmr", "diagnose_relearn", "joint"], "descending"),
        (["diagnose_relearn", "pmr", odd, "joint"], "ascending"),
    ]


def test_the_keyboard_sorts_too_and_shows_where_it_is(tab: Browser, made: tuple[Path, Page]) -> None:
    tab.open(made[0], width=DESK, scheme=LIGHT)
    before = first_table(tab)
    tab.evaluate("document.querySelector('#digits-results .scroll').focus()")
    tab.press("Tab")
    assert tab.evaluate("document.activeElement.innerText") == "method"
    assert tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    tab.press("Enter")
    ascending = first_table(tab)
    assert (sort_state(tab, 0), ascending) == ("ascending", sorted(before))
    tab.press(" ")
    assert (sort_state(tab, 0), first_table(tab)) == ("descending", ascending[::-1])


def test_the_first_tab_offers_to_skip_to_the_results(tab: Browser, made: tuple[Path, Page]) -> None:
    tab.open(made[0], width=DESK, scheme=LIGHT)
    tab.press("Tab")
    assert tab.evaluate("document.activeElement.className") == "skip"
    assert tab.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    tab.press("Enter")
    assert tab.evaluate("document.activeElement.id") == "main"


def test_every_link_of_the_contents_has_its_place(tab: Browser, made: tuple[Path, Page]) -> None:
    tab.open(made[0], width=DESK, scheme=LIGHT)
    dead = "[...document.querySelectorAll('nav a')].filter((a) => !document.getElementById(a.hash.slice(1))).length"
    assert tab.evaluate(dead) == 0


@pytest.mark.parametrize("scheme", [LIGHT, DARK])
def test_every_text_can_be_read(tab: Browser, made: tuple[Path, Page], scheme: str) -> None:
    tab.open(made[0], width=DESK, scheme=scheme)
    tab.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    found = tab.evaluate(CONTRASTS)
    assert len(found) > 100
    assert [(round(ratio, 2), text) for ratio, text in found if ratio < 4.5] == []


@pytest.mark.parametrize("pressed", [pytest.param(False, marks=pytest.mark.slow), True])
def test_on_paper_the_page_is_light_and_whole(tab: Browser, made: tuple[Path, Page], pressed: bool) -> None:
    tab.open(made[0], width=SHEET, scheme=LIGHT if pressed else DARK, media="print")
    if pressed:
        tab.evaluate("document.getElementById('theme').click()")
    tab.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert [(ratio, text) for ratio, text in tab.evaluate(CONTRASTS) if ratio < 4.5] == []
    boxes = tab.evaluate("[...document.querySelectorAll('.scroll')].map((b) => getComputedStyle(b).overflowX)")
    assert set(boxes) == {"visible"}
    assert tab.evaluate("((e) => e.scrollWidth - e.clientWidth)(document.documentElement)") == 0


def luminance(colour: np.ndarray) -> float:
    linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def rgb(colour: str) -> np.ndarray:
    return np.array([int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)])


@pytest.mark.parametrize("scheme", [LIGHT, DARK])
def test_numbers_on_the_darkest_shade_of_a_heat_map_can_be_read(
    tab: Browser, made: tuple[Path, Page], scheme: str
) -> None:
    tab.open(made[0], width=DESK, scheme=scheme)
    numbers = "(c) => c.match(/[0-9.]+/g).slice(0, 3).map((x) => x / 255)"
    text, ground = (
        np.array(tab.evaluate(f"({numbers})(getComputedStyle(document.body).{name})"))
        for name in ("color", "backgroundColor")
    )
    for shade in SHADES:
        low, high = sorted(luminance(x) for x in (text, 0.6 * rgb(shade) + 0.4 * ground))
        assert (high + 0.05) / (low + 0.05) >= 4.5, shade


@pytest.mark.parametrize("scheme", [LIGHT, DARK])
def test_lines_of_figures_stand_out_three_to_one(tab: Browser, made: tuple[Path, Page], scheme: str) -> None:
    tab.open(made[0], width=DESK, scheme=scheme)
    probe = "(n) => { const e = document.createElement('i'); e.style.color = n; document.body.append(e); "
    probe += "return getComputedStyle(e).color.match(/[0-9.]+/g).slice(0, 3).map((x) => x / 255); }"
    ground = luminance(np.array(tab.evaluate(f"({probe})('var(--bg)')")))
    for place in range(len(COLOURS)):
        colour = luminance(np.array(tab.evaluate(f"({probe})('var(--c{place})')")))
        low, high = sorted((colour, ground))
        assert (high + 0.05) / (low + 0.05) >= 3, place


def test_a_phone_scrolls_tables_but_not_the_page(tab: Browser, made: tuple[Path, Page]) -> None:
    tab.open(made[0], width=PHONE, scheme=LIGHT)
    tab.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    overflow = "((e) => e.scrollWidth - e.clientWidth)(document.querySelector('{}'))"
    assert tab.evaluate("innerWidth") == PHONE
    assert tab.evaluate(overflow.format("html")) == 0
    assert tab.evaluate(overflow.format("#digits-results .scroll")) > 0
    bar = "((e) => e.offsetHeight - e.clientHeight)(document.querySelector('#digits-results .scroll'))"
    assert tab.evaluate(bar) == 11  # of the page's own: the system's may hide itself


def test_at_a_desk_a_results_table_of_uneven_seeds_is_whole(tab: Browser, tmp_path: Path) -> None:
    seeds = {"joint": 2, "diagnose_relearn": 3, "uni_finetuned": 3}
    made = [MadeRun(label, seed, monitor="test") for label, count in seeds.items() for seed in range(count)]
    page = tmp_path / "report.html"
    page.write_text(build(collect([write_runs(tmp_path / "runs", made)])).html, encoding="utf-8")
    for width in (DESK, 1300, 1360):
        tab.open(page, width=width, scheme=LIGHT)
        assert "(n = 2)" in str(first_table(tab))
        hidden = "((e) => e.scrollWidth - e.clientWidth)(document.querySelector('#digits-results .scroll'))"
        assert tab.evaluate(hidden) == 0, width


def test_on_a_phone_the_first_column_leaves_room_and_figures_can_be_read(tab: Browser, made: tuple[Path, Page]) -> None:
    tab.open(made[0], width=PHONE, scheme=LIGHT)
    widths = tab.evaluate("[...document.querySelectorAll('tbody th')].map((c) => c.getBoundingClientRect().width)")
    assert 0 < max(widths) <= 0.45 * PHONE
    assert tab.evaluate("getComputedStyle(document.querySelector('tbody th')).position") == "sticky"
    sizes = tab.evaluate(
        "[...document.querySelectorAll('figure svg text')].map((t) => "
        "parseFloat(getComputedStyle(t).fontSize) * t.ownerSVGElement.getScreenCTM().a)"
    )
    assert min(sizes) > 9.5


@pytest.mark.slow
def test_the_button_changes_the_scheme_until_the_page_is_loaded_again(tab: Browser, made: tuple[Path, Page]) -> None:
    grounds, names = [], []
    for press in (False, True, False):
        if not press:
            tab.open(made[0], width=DESK, scheme=DARK)
        else:
            tab.evaluate("document.getElementById('theme').click()")
        grounds.append(tab.evaluate("getComputedStyle(document.body).backgroundColor"))
        names.append(tab.evaluate("document.getElementById('theme').innerText"))
    assert names == ["Light", "Dark", "Light"]
    assert grounds[0] == grounds[2] != grounds[1] == "rgb(255, 255, 255)"
