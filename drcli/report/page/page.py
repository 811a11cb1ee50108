"""Puts the page together: sections in their order, names that are unique, one file that fetches nothing."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from string import Template

from drcli.amounts import counted
from drcli.report.figures.accuracy import read_epochs
from drcli.report.page import provenance
from drcli.report.page.conditions import conditions
from drcli.report.page.figure import Drawing, inline, to_svg
from drcli.report.page.marks import marks
from drcli.report.page.markup import Html, element, escaped, joined
from drcli.report.page.results import cost, quality, rankings, results
from drcli.report.page.sections import (
    Row,
    Section,
    check_labels,
    confusions,
    curves,
    featured,
    first_coloured,
    learning,
    maps,
    number_of_maps,
    sensitivities,
)
from drcli.report.theme import COLOURS, OTHER, PAGE, Theme
from drcli.report.wording import Methods
from drcli.runs.collect import RunRecord, by_name, by_recipe, finished
from drcli.task import REGRESSION

MOST_MAPS = 6
MOST_DRAWN = 6
MOST_TITLED = 3
LEFT_OUT = f"Figures are of the first {MOST_DRAWN} recipes; report this one alone to see its own."
GREY = (
    f"Figures have {len(COLOURS)} colours: for the methods that are shown in detail, and those that are best on "
    "validation. The others are grey; tables have all of them."
)
MAPS_LEFT_OUT = "Its maps are left out to save time: --maps LABEL,LABEL draws those of these methods for every recipe."


@dataclass(frozen=True)
class Options:
    """What the page shows.

    Attributes:
        maps: labels shown in maps and confusion matrices; none for joint training and D&R.
        draw_maps: whether there are maps at all.
        reference: label that differences are to; None for joint training.
        columns: keys of the columns of comparison tables, see `drcli.report.tables.KEYS`; None for all.
        second_hand: whether these have the published figures that were not read where they were published.
    """

    maps: Collection[str] = ()
    draw_maps: bool = True
    reference: str | None = None
    columns: Sequence[str] | None = None
    second_hand: bool = False


@dataclass(frozen=True)
class Page:
    """The page, and its figures as files.

    Attributes:
        html: the whole page.
        drawings: the figures; their names are unique.
        svgs: text of the .svg file of each.
    """

    html: str
    drawings: Sequence[Drawing]
    svgs: Sequence[str]


@dataclass(frozen=True)
class Part:
    """A heading of the first level with its sections."""

    title: str
    note: str
    sections: Sequence[Section]


def build(runs: Sequence[RunRecord], options: Options = Options()) -> Page:
    """Return the page about runs; the same runs give the same page.

    Args:
        runs: as `drcli.runs.collect.collect` returns them.
        options: what to show.

    Raises:
        UsageError: no run has one of the labels in `options`, or there is no such column.
        DataError: a file of a run is damaged.
    """
    check_labels(runs, options.maps)
    writer = _Writer()
    main = joined(writer.part(part) for part in _parts(runs, options))
    script = _asset("script.js")
    html = Template(_asset("template.html")).substitute(
        title=escaped(_title(runs)),
        lead=escaped(_lead(runs)),
        marks=marks(runs),
        contents=writer.contents(),
        main=main,
        style=_asset("style.css"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
    )
    return Page(html, writer.drawings, writer.svgs)


def _asset(name: str) -> str:
    return files("drcli.report.page").joinpath(name).read_text(encoding="utf-8")


def _title(runs: Sequence[RunRecord]) -> str:
    names = list(by_recipe(runs))
    named, more = (names, "") if len(names) <= MOST_TITLED else (names[:1], f" and {len(names) - 1} more recipes")
    return f"Report on {', '.join(named)}{more}"


def _lead(runs: Sequence[RunRecord]) -> str:
    done = finished(runs)
    counts = {
        "finished run": len(done),
        "method": len({run.name for run in done}),
        "recipe": len({run.recipe_name for run in done}),
        "seed": len({run.seed for run in done}),
    }
    return ", ".join(counted(count, what) for what, count in counts.items())


def _parts(runs: Sequence[RunRecord], options: Options) -> Iterator[Part]:
    done, everyone = finished(runs), by_recipe(runs)
    theme = PAGE.with_methods((run.name for run in runs), first_coloured(done, options.maps))
    overall = [section for section in (rankings(done, theme), sensitivities(done, theme)) if section is not None]
    if overall:
        yield Part("All recipes", "", overall)
    drawn_maps = 0
    for place, (recipe, group) in enumerate(by_recipe(done).items()):
        methods = by_name(group)
        shown = featured(methods, options.maps)
        drawn_maps += number_of_maps(methods, shown)
        with_maps = options.draw_maps and (bool(options.maps) or drawn_maps <= MOST_MAPS)
        notes = [f"Dataset {group[0].dataset}."] if group[0].dataset != recipe else []
        notes += [LEFT_OUT] if place >= MOST_DRAWN else []
        notes += [GREY] if any(theme.look(name) == OTHER for name in methods) else []
        notes += [MAPS_LEFT_OUT] if options.draw_maps and not with_maps and place < MOST_DRAWN else []
        records = read_epochs(methods)
        compared = results(everyone[recipe], theme, options.reference, options.columns, second_hand=options.second_hand)
        figures = []
        if place < MOST_DRAWN:
            figures = [conditions(methods, theme), curves(recipe, records, theme)]
            figures += _figures(methods, shown, theme, with_maps=with_maps)
        found = [compared, *figures, quality(methods), cost(methods, records)]
        sections = [section for section in found if section is not None]
        yield Part(recipe, " ".join(notes), sections)
    origin = (provenance.unfinished, provenance.commands, provenance.environments, provenance.recipes)
    yield Part("Provenance", "", [section for make in origin if (section := make(runs)) is not None])


def _figures(methods: Methods, shown: Sequence[str], theme: Theme, *, with_maps: bool) -> list[Section | None]:
    if next(iter(methods.values()))[0].task is REGRESSION:  # purities, maps and confusions are of classes
        return []
    found: list[Section | None] = [learning(methods, shown, theme)]
    found += [maps(methods, shown, theme)] if with_maps else []
    return [*found, confusions(methods, shown, theme)]


class _Writer:
    """Writes parts as HTML; keeps the figures, and the headings for the table of contents."""

    def __init__(self) -> None:
        self.drawings: list[Drawing] = []
        self.svgs: list[str] = []
        self._ids = set(re.findall(r'\bid="([^"]*)"', _asset("template.html")))
        self._headings: list[tuple[str, str, list[tuple[str, str]]]] = []

    def part(self, part: Part) -> Html:
        name = self._unique(part.title)
        self._headings.append((name, part.title, []))
        sections = [self._section(f"{part.title} {section.title}", section) for section in part.sections]
        note = element("p", part.note) if part.note else ""
        return element("section", element("h2", part.title), note, *sections, id=name, class_="part")

    def _section(self, name: str, section: Section) -> Html:
        name = self._unique(name)
        self._headings[-1][2].append((name, section.title))
        content = [item if isinstance(item, Html) else self._row(item) for item in section.content]
        intro = element("p", section.intro, class_="intro") if section.intro else ""
        return element("section", element("h3", section.title), intro, *content, id=name)

    def _row(self, row: Row) -> Html:
        return element("div", *map(self._item, row), class_="figures") if row else Html()

    def _item(self, item: Html | Drawing) -> Html:
        if isinstance(item, Html):
            return item
        drawing = replace(item, name=self._unique(item.name))
        svg = to_svg(drawing)
        self.drawings.append(drawing)
        self.svgs.append(svg)
        return element("figure", inline(drawing, svg), element("figcaption", drawing.caption, id=drawing.name))

    def _unique(self, text: str) -> str:
        """Return text as an id and a file name, with a number behind it where it is taken."""
        stem = re.sub(r"[^a-z0-9_]+", "-", text.lower()).strip("-") or "unnamed"
        name = next(
            name for number in range(1, len(self._ids) + 2) if (name := _numbered(stem, number)) not in self._ids
        )
        self._ids.add(name)
        return name

    def contents(self) -> Html:
        items = [
            element("li", _link(name, title), element("ul", *(element("li", _link(*one)) for one in below)))
            for name, title, below in self._headings
        ]
        return element("ul", *items)


def _numbered(stem: str, number: int) -> str:
    return stem if number == 1 else f"{stem}-{number}"


def _link(name: str, title: str) -> Html:
    return element("a", title, href=f"#{name}")
