"""The page as a whole: one file, safe, the same every time, and small."""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from support.run_tree import MadeRun, large_study, small_study

from drcli.errors import UsageError
from drcli.report.page.page import LEFT_OUT, MAPS_LEFT_OUT, MOST_DRAWN, Options, Page, _asset
from drcli.report.theme import COLOURS, look

MakePage = Callable[..., Page]
VOID = {"meta", "link"}


class Checker(HTMLParser):
    """Collects tags, and fails where one is closed that is not open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def parsed(html: str) -> Checker:
    checker = Checker()
    checker.feed(html)
    assert checker.open == []
    return checker


def test_tags_are_balanced_and_ids_are_used_once(study: Page) -> None:
    seen = parsed(study.html).seen
    ids = [attributes["id"] for _, attributes in seen if "id" in attributes]
    assert len(ids) == len(set(ids)) > 20


def test_a_recipe_may_be_called_what_a_place_of_the_page_is(page: MakePage) -> None:
    made = page(*(MadeRun(recipe=recipe, epochs=3) for recipe in ("main", "theme")))
    ids = [attributes["id"] for _, attributes in parsed(made.html).seen if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {"main", "theme", "main-2", "theme-2"} <= set(ids)


def test_the_table_says_which_runs_are_not_finished(study: Page) -> None:
    assert "<li>1 of 5 runs is not finished: ogm.</li>" in study.html


def test_every_figure_is_named_by_a_caption_that_is_there(study: Page) -> None:
    seen = parsed(study.html).seen
    captions = {attributes["id"] for tag, attributes in seen if tag == "figcaption"}
    assert [attributes["aria-labelledby"] for tag, attributes in seen if tag == "svg"] == [
        drawing.name for drawing in study.drawings
    ]
    assert captions == {drawing.name for drawing in study.drawings}


def test_whatever_scrolls_can_be_reached_by_keyboard_and_has_a_name(study: Page) -> None:
    boxes = [attributes for _, attributes in parsed(study.html).seen if attributes.get("class") == "scroll"]
    assert len(boxes) > 5
    assert all(box["tabindex"] == "0" and box["role"] == "region" and box["aria-label"] for box in boxes)


def test_a_browser_without_light_dark_gets_the_light_page() -> None:
    plain, _, both = _asset("style.css").partition("@supports (color: light-dark(red, red))")
    assert "light-dark" not in plain.replace("know light-dark()", "")
    light = dict(re.findall(r"(--\w+): (#\w{6});", plain))
    assert light == dict(re.findall(r"(--\w+): light-dark\((#\w{6}), #\w{6}\);", both))
    assert [light[f"--c{place}"] for place in range(len(COLOURS))] == list(COLOURS)


def test_nothing_on_the_page_points_outside(study: Page) -> None:
    for tag, attributes in parsed(study.html).seen:
        for name in ("href", "src", "xlink:href", "srcset", "action"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), (tag, attributes)


def test_the_only_script_is_ours_and_the_policy_says_so(study: Page) -> None:
    html = study.html
    (script,) = re.findall(r"<script>(.*?)</script>", html, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'" in html


def test_whatever_stands_in_a_run_is_shown_as_text(page: MakePage) -> None:
    attack = "</pre><script>alert(1)</script><img src=x onerror=alert(1)>"
    short = attack[5:34].replace("/", "|")  # as a label: a folder is named after it
    odd = MadeRun(
        short,
        every=8,
        outputs=40,
        settings={"note": attack},
        modalities=(f"{short}m", "b"),
        classes=(attack, "y"),
        command=("drcli", attack),
        selection="test",
    )
    html = page(odd, MadeRun()).html
    tags = [tag for tag, _ in parsed(html).seen]
    assert (tags.count("script"), tags.count("img")) == (1, 0)
    assert "&lt;script&gt;alert(1)" in html


def test_names_that_look_alike_get_files_of_their_own(page: MakePage, unrendered: None) -> None:
    made = page(*(MadeRun(label, outputs=20) for label in ("a+b", "a b", "a-b")))
    names = [drawing.name for drawing in made.drawings]
    assert len(names) == len(set(names))
    assert {"digits-a-b-audio-map", "digits-a-b-audio-map-2", "digits-a-b-confusion-2"} <= set(names)
    assert all(re.fullmatch(r"[a-z0-9_-]+", name) for name in names)


@pytest.mark.slow
def test_maps_can_be_left_out_or_be_of_other_methods(page: MakePage) -> None:
    runs = [*small_study(), MadeRun("ogm", outputs=40)]
    without = page(*runs, options=Options(draw_maps=False))
    assert not [drawing for drawing in without.drawings if drawing.name.endswith("-map")]
    assert MAPS_LEFT_OUT not in without.html


@pytest.mark.slow
def test_maps_of_other_methods_can_be_asked_for(page: MakePage) -> None:
    made = page(*small_study(), MadeRun("ogm", outputs=40), options=Options(maps=["ogm"]))
    names = [drawing.name for drawing in made.drawings if drawing.name.endswith(("-map", "-confusion"))]
    assert names == ["digits-ogm-audio-map", "digits-ogm-visual-map", "digits-ogm-confusion"]


def test_the_reference_and_the_columns_are_those_asked_for(page: MakePage, unrendered: None) -> None:
    made = page(*small_study(), options=Options(reference="diagnose_relearn", columns=["difference", "seeds"]))
    (head, *_) = re.findall(r"<thead>(.*?)</thead>", made.html)
    assert re.findall(r"<button[^>]*>(.*?)</button>", head) == ["method", "minus diagnose_relearn", "seeds"]
    captions = {drawing.name: drawing.caption for drawing in made.drawings}
    assert captions["digits-difference"].startswith("Accuracy minus that of diagnose_relearn, in percentage points")


def test_a_method_keeps_its_colour_and_marker_in_all_sections(page: MakePage, unrendered: None) -> None:
    runs = [*small_study(), MadeRun("ogm", every=8), MadeRun("diagnose_relearn", recipe="other", every=8)]
    looks: dict[str, set[tuple[str, str]]] = {}
    for drawing in page(*runs, options=Options(draw_maps=False)).drawings:
        for legend in drawing.figure.legends:
            for handle, text in zip(legend.legend_handles, legend.get_texts(), strict=True):
                name = text.get_text().partition(":")[0]
                if name in {"joint", "ogm", "diagnose_relearn"}:
                    looks.setdefault(name, set()).add((handle.get_color(), handle.get_marker()))  # type: ignore[union-attr]
    # In the order of the report: joint training, then the registry's.
    assert looks == {"joint": {look(0)}, "diagnose_relearn": {look(1)}, "ogm": {look(2)}}


def test_maps_are_rows_of_methods_and_columns_of_modalities(study: Page) -> None:
    begin = study.html.index('<section id="digits-maps-of-representations">')
    section = study.html[begin : study.html.index("</section>", begin)]
    rows = section.split('<div class="figures">')[1:]
    names = [re.findall(r'<figcaption id="([^"]*)"', row) for row in rows]
    assert names == [[f"digits-{name}-{m}-map" for m in ("audio", "visual")] for name in ("joint", "diagnose_relearn")]


def test_a_label_that_no_run_has_is_refused(page: MakePage) -> None:
    with pytest.raises(UsageError, match="--maps nothing"):
        page(MadeRun(), options=Options(maps=["nothing"]))


def test_a_page_about_unfinished_runs_alone_lists_them(page: MakePage) -> None:
    made = page(MadeRun(finished=False, epochs=3))
    assert "Unfinished runs" in made.html
    assert made.drawings == []
    parsed(made.html)


@pytest.mark.slow
def test_one_and_three_modalities_work_alike(page: MakePage) -> None:
    runs = [MadeRun("joint", 0, f"r{len(m)}", modalities=m, every=8, outputs=40) for m in (("x",), ("x", "y", "z"))]
    names = {drawing.name for drawing in page(*runs).drawings}
    assert {"r1-x-gap", "r3-x-gap", "r3-y-gap", "r3-z-gap", "r3-joint-z-map"} <= names


def test_a_report_imports_neither_torch_nor_what_trains() -> None:
    program = "import sys, drcli.report.page.page, drcli.report.tables; print('\\n'.join(sys.modules))"
    modules = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()
    assert "drcli.report.page.page" in modules
    assert [name for name in modules if name == "torch" or name.startswith(("drcli.engine", "drcli.models."))] == []


def test_figures_are_of_the_first_recipes(page: MakePage, unrendered: None) -> None:
    made = page(*(MadeRun(recipe=f"r{number}", epochs=3) for number in range(MOST_DRAWN + 1)))
    assert len(made.drawings) == 2 * MOST_DRAWN
    assert made.html.count(LEFT_OUT) == 1
    assert f"r{MOST_DRAWN} (dataset digits): test scores in per cent" in made.html


@pytest.mark.slow
@pytest.mark.slow
def test_two_hundred_runs_stay_under_ten_megabytes(page: MakePage) -> None:
    # Outputs take long to write; those of one seed fill the maps.
    made = page(*(replace(run, outputs=300 if run.seed == 0 else 0) for run in large_study()))
    assert "200 finished runs, 10 methods, 2 recipes, 10 seeds" in made.html
    assert MAPS_LEFT_OUT in made.html
    assert len(made.html.encode()) < 10e6
    assert sum(map(len, made.svgs)) < 10e6
