"""Comparison tables in words: ours, and what publications say in columns of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from string import ascii_lowercase

from drcli.report.collect import RunRecord, by_recipe
from drcli.report.comparison import Difference, Row, average_ranks, compare, one_recipe_a_dataset
from drcli.report.published import Published, lookup
from drcli.report.render import TableText

ABSENT = "-"
DIFFERENCE_NOTE = (
    "minus joint: accuracy minus that of joint training, paired by seed, with the 95 % interval of Student's t;"
)
SELECTED_ON_TEST, TEST_WATCHED = "†", "‡"


def comparison_tables(runs: Sequence[RunRecord]) -> list[TableText]:
    """Return one table a recipe, and where there are several datasets one of average ranks.

    Runs that are not finished are left out; a recipe without a finished run has no table.
    """
    finished = [run for run in runs if run.summary is not None]
    tables = [comparison_table(group) for group in by_recipe(finished).values()]
    datasets = one_recipe_a_dataset(finished)
    if len(datasets) > 1:
        ranked = rank_table({dataset: compare(group) for dataset, group in datasets.items()})
        tables += [ranked] if ranked.rows else []
    return tables


def comparison_table(runs: Sequence[RunRecord]) -> TableText:
    """Return the table of one recipe's finished runs, of which there is at least one."""
    rows = compare(runs)
    modalities = list(dict.fromkeys(m for row in rows for m in row.probes))
    settings, figures = _published(runs[0])
    theirs = [name for name in dict.fromkeys(figure.method for figure in figures) if name not in {r.name for r in rows}]
    columns = ["method", "seeds", "accuracy", "macro-F1", *(f"{m} probe" for m in modalities)]
    columns += ["minus joint", "bootstrap", "s / run", *(f"published {letter}" for letter in settings.values())]
    known = {(figure.method, settings[figure.setting]): figure for figure in figures}

    def published(name: str) -> list[str]:
        return [_figure(known.get((name, letter))) for letter in settings.values()]

    ours = [[*_cells(row, modalities), *published(row.name)] for row in rows]
    only = [[name, *[ABSENT] * (6 + len(modalities)), *published(name)] for name in theirs]
    name, dataset = runs[0].recipe_name, runs[0].dataset
    title = (
        f"{name}: test scores in per cent"
        if name == dataset
        else f"{name} (dataset {dataset}): test scores in per cent"
    )
    notes = [*_notes(rows), *_published_notes(settings, figures)]
    return TableText(title, columns, [*ours, *only], notes)


def rank_table(rows: Mapping[str, Sequence[Row]]) -> TableText:
    """Return the table of average ranks over datasets; it has no rows where no method is on all of them.

    Args:
        rows: rows by dataset.
    """
    found = average_ranks(rows)
    note = "1 is the best; methods that every dataset has, ranked by mean accuracy; equal ones share their mean rank"
    names = ", ".join(rows)
    return TableText(
        f"Average rank over {names}",
        ("method", "rank"),
        [(name, f"{rank:.2f}") for name, rank in found.items()],
        [note],
    )


def _cells(row: Row, modalities: Sequence[str]) -> list[str]:
    mark = _mark(row)
    return [
        row.name,
        str(row.n),
        _mean(row.accuracy, row.accuracy_std) + mark,
        _mean(row.macro_f1, row.macro_f1_std) + mark,
        *(_mean(row.probes.get(m), None) for m in modalities),
        *_difference(row),
        f"{row.seconds:.0f}",
    ]


def _mark(row: Row) -> str:
    return (SELECTED_ON_TEST if "test" in row.selections else "") + (TEST_WATCHED if row.watched else "")


def _mean(mean: float | None, std: float | None) -> str:
    if mean is None:
        return ABSENT
    return f"{100 * mean:.1f}" if std is None else f"{100 * mean:.1f} ± {100 * std:.1f}"


def _difference(row: Row) -> tuple[str, str]:
    """Mean with Student's interval, and the bootstrap's; the seeds in common where they are fewer than the row's."""
    found: Difference | None = row.difference
    if found is None:
        return ABSENT, ABSENT
    fewer = f" (n = {found.n})" if found.n < row.n else ""
    text = f"{100 * found.mean:+.1f}"
    return (text if found.t95 is None else f"{text} {_interval(found.t95)}") + fewer, _interval(found.bootstrap95)


def _interval(limits: Sequence[float] | None) -> str:
    return ABSENT if limits is None else f"[{100 * limits[0]:+.1f}, {100 * limits[1]:+.1f}]"


def _notes(rows: Sequence[Row]) -> list[str]:
    """What the columns mean, and how honest the figures are."""
    selections = sorted({selection for row in rows for selection in row.selections})
    notes = [
        f"Mean ± standard deviation (n - 1) over seeds; epochs selected on {', '.join(selections)}.",
        f"{DIFFERENCE_NOTE} bootstrap: that of the percentile bootstrap.",
    ]
    marks = {_mark(row) for row in rows}
    if any(SELECTED_ON_TEST in mark for mark in marks):
        notes.append(f"{SELECTED_ON_TEST} The epoch was selected on the test split: the score is optimistic.")
    if any(TEST_WATCHED in mark for mark in marks):
        notes.append(f"{TEST_WATCHED} The test split was watched while training; it selected nothing by that.")
    return notes


def _published(run: RunRecord) -> tuple[dict[tuple[str, str, str], str], list[Published]]:
    """Letters of the publications' columns, and the figures in them; none where our data is corrupted."""
    modalities = run.recipe["modalities"]
    backbones = {block.get("backbone") for block in modalities.values()}
    figures = [] if run.recipe.get("corrupt") else lookup(run.dataset, modalities=modalities, backbones=backbones)
    return dict(zip(dict.fromkeys(figure.setting for figure in figures), ascii_lowercase, strict=False)), figures


def _figure(found: Published | None) -> str:
    return ABSENT if found is None else _mean(found.value, found.std)


def _published_notes(settings: Mapping[tuple[str, str, str], str], figures: Sequence[Published]) -> list[str]:
    """Where each column of published figures comes from, and what to know about single figures."""
    notes = []
    for (source, backbone, selection), letter in settings.items():
        selected = f"selected on {selection}" if selection else "the source does not say how epochs are selected"
        notes.append(f"published {letter}: {source}; {backbone}; {selected}.")
    warned: dict[tuple[str, str], list[str]] = {}
    for figure in figures:
        if figure.note:
            warned.setdefault((settings[figure.setting], figure.note), []).append(figure.method)
    return [*notes, *(f"{', '.join(names)} in {letter}: {note}." for (letter, note), names in warned.items())]
