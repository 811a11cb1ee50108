"""Comparison tables in words: ours, and what publications say in columns of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from string import ascii_lowercase

from drcli.errors import UsageError
from drcli.report.collect import RunRecord, by_name, by_recipe, by_variant, finished, named
from drcli.report.comparison import Row, average_ranks, compare, one_recipe_a_dataset, reference, selected_on
from drcli.report.figures.wording import name_recipe, per_cent
from drcli.report.published import Published, beside, name_in_print
from drcli.report.render import TableText
from drcli.report.unequal import unequal

ABSENT = "-"
RELEARNING = "diagnose_relearn"
SELECTED_ON_TEST, TEST_WATCHED = "†", "‡"
Setting = tuple[str, str, str]


def comparison_tables(runs: Sequence[RunRecord]) -> list[TableText]:
    """Return one table a recipe, and where there are several datasets those of average ranks.

    Runs that are not finished are left out, and named below the table.

    Args:
        runs: at least one.

    Raises:
        UsageError: no run is finished.
    """
    if not finished(runs):
        raise UsageError(f"{runs[0].folder}: no run is finished yet, so that there is no table; train to the end")
    groups = by_recipe(runs)
    tables = [comparison_table(group) for group in groups.values() if finished(group)]
    empty = [f"{recipe}: none of its runs is finished." for recipe, group in groups.items() if not finished(group)]
    tables[-1] = replace(tables[-1], notes=[*tables[-1].notes, *empty])
    return [*tables, *rank_tables(runs)]


def comparison_table(runs: Sequence[RunRecord]) -> TableText:
    """Return the table of one recipe's runs, of which at least one is finished."""
    rows = {row.name: row for row in compare(runs)}
    modalities = list(dict.fromkeys(m for row in rows.values() for m in row.probes))
    figures = beside(runs)
    letters = dict(zip(dict.fromkeys(figure.setting for figure in figures), ascii_lowercase, strict=False))
    printed = _names_in_print(runs)
    columns = ["method", "seeds", "accuracy", "macro-F1", *(f"{m} probe" for m in modalities)]
    columns += ["minus joint", "bootstrap", "s / run", *(f"published {letter}" for letter in letters.values())]
    known = {(figure.method, figure.setting): _mean(figure.value, figure.std) for figure in figures}
    theirs = [name for name in dict.fromkeys(figure.method for figure in figures) if name not in printed.values()]
    cells = [(printed.get(name, ""), _cells(row, rows, modalities)) for name, row in rows.items()]
    absent = [ABSENT] * (6 + len(modalities))
    cells += [(name, [f"{name} (published)" if name in rows else name, *absent]) for name in theirs]
    body = [[*ours, *(known.get((method, setting), ABSENT) for setting in letters)] for method, ours in cells]
    title = f"{name_recipe(runs)}: test scores in per cent"
    return TableText(title, columns, body, [*_notes(runs, list(rows.values())), *_published_notes(letters, figures)])


def _names_in_print(runs: Sequence[RunRecord]) -> dict[str, str]:
    """Return which published method stands beside each of ours.

    Where several labels are of one method, its figure stands beside the label of its name, if there is one.
    """
    multimodal = [run for run in finished(runs) if run.modality is None]
    found = {name: name_in_print(group[0]) for name, group in by_name(multimodal).items()}
    return {name: method for name, method in found.items() if name == method or found.get(method) != method}


def rank_tables(runs: Sequence[RunRecord]) -> list[TableText]:
    """Return tables of average ranks over datasets, one a variant such as `noisy` of `digits-noisy`.

    A variant has one where its finished runs are of several datasets, which have two methods in common.
    """
    groups = by_variant(finished(runs)).values()
    tables = [_rank_table(group) for group in groups if len({run.dataset for run in group}) > 1]
    return [table for table in tables if len(table.rows) > 1]


def _rank_table(runs: Sequence[RunRecord]) -> TableText:
    """Rank methods over one recipe a dataset; there are no rows where no method is in all of them."""
    chosen = {group[0].recipe_name: group for group in one_recipe_a_dataset(runs).values()}
    rows = {recipe: compare(group) for recipe, group in chosen.items()}
    found = average_ranks(rows)
    used = [row for of_one in rows.values() for row in of_one if row.name in found]
    marks = {name: _mark([row for row in used if row.name == name]) for name in found}
    notes = ["1 is the best; methods that every dataset has, ranked by mean accuracy; equal ones share their rank."]
    counts = sorted({row.n for row in used})
    notes += [f"Means are over {counts[0]} to {counts[-1]} seeds."] if len(counts) > 1 else []
    others = [recipe for recipe in by_recipe(runs) if recipe not in chosen]
    notes += [f"Left out, another recipe of the dataset is here: {', '.join(others)}."] if others else []
    return TableText(
        f"Average rank over {', '.join(rows)}",
        ("method", "rank"),
        [(name, f"{rank:.2f}{marks[name]}") for name, rank in found.items()],
        [*notes, *filter(None, map(unequal, chosen.values())), *_marked(used)],
    )


def _cells(row: Row, rows: Mapping[str, Row], modalities: Sequence[str]) -> list[str]:
    mark = _mark([row])
    return [
        row.name,
        str(row.n),
        _mean(row.accuracy, row.accuracy_std, mark),
        _mean(row.macro_f1, row.macro_f1_std, mark),
        *(_mean(row.probes.get(m), None, mark) for m in modalities),
        *_difference(row, rows),
        f"{row.seconds:.0f}",
    ]


def _mark(rows: Sequence[Row]) -> str:
    """What to know of a figure that these rows are behind."""
    on_test = any("test" in row.selections for row in rows)
    return (SELECTED_ON_TEST if on_test else "") + (TEST_WATCHED if any(row.watched for row in rows) else "")


def _mean(mean: float | None, std: float | None, mark: str = "") -> str:
    if mean is None:
        return ABSENT
    return per_cent(mean, std) + mark


def _difference(row: Row, rows: Mapping[str, Row]) -> tuple[str, str]:
    """Mean with Student's interval, and the bootstrap's; the seeds in common where they are fewer than the row's."""
    found = row.difference
    if found is None:
        return ABSENT, ABSENT
    fewer = f" (n = {found.n})" if found.n < row.n else ""
    mark = _mark([row, rows[found.to]])
    mean = f"{100 * found.mean:+z.1f}"
    if found.t95 is None or found.bootstrap95 is None:
        return mean + mark + fewer, ABSENT
    return f"{mean} {_interval(found.t95)}{mark}{fewer}", _interval(found.bootstrap95) + mark


def _interval(limits: Sequence[float]) -> str:
    return f"[{100 * limits[0]:+z.1f}, {100 * limits[1]:+z.1f}]"


def _notes(runs: Sequence[RunRecord], rows: Sequence[Row]) -> list[str]:
    """What the columns mean, what is not alike or lacking, and how honest the figures are."""
    done = finished(runs)
    joint = reference(by_name(done))
    selected = selected_on(selection for row in rows for selection in row.selections)
    notes = [f"Mean ± standard deviation (n - 1) over seeds; {selected}."]
    if joint is not None:
        notes.append(
            f"minus joint: accuracy minus that of {joint}, paired by seed, with the 95 % interval of Student's t; "
            "bootstrap: that of the percentile bootstrap."
        )
    return [*notes, *filter(None, [unequal(done), _unfinished(runs), _without_events(done)]), *_marked(rows)]


def _unfinished(runs: Sequence[RunRecord]) -> str:
    left = [run for run in runs if run.summary is None]
    return f"{len(left)} of {len(runs)} runs are not finished: {named(left, runs)}." if left else ""


def _without_events(runs: Sequence[RunRecord]) -> str:
    """Name the runs of D&R that were over before a re-learning was due: they are joint training."""
    without = [run for run in runs if run.method == RELEARNING and run.summary and run.summary.get("events") == 0]
    return f"No re-learning happened in {named(without, runs)}: what is shown is joint training." if without else ""


def _marked(rows: Sequence[Row]) -> list[str]:
    marks = {
        SELECTED_ON_TEST: "The epoch was selected on the test split: the score is optimistic.",
        TEST_WATCHED: "The test split was watched while training; it selected nothing by that.",
    }
    return [f"{mark} {meaning}" for mark, meaning in marks.items() if mark in _mark(rows)]


def _published_notes(letters: Mapping[Setting, str], figures: Sequence[Published]) -> list[str]:
    """Where each column of published figures comes from, and what to know about single figures."""
    notes = []
    for (source, backbone, selection), letter in letters.items():
        selected = f"selected on {selection}" if selection else "the source does not say how epochs are selected"
        notes.append(f"published {letter}: {source}; {backbone}; {selected}.")
    warned: dict[tuple[str, str], list[str]] = {}
    for figure in figures:
        if figure.note:
            warned.setdefault((letters[figure.setting], figure.note), []).append(figure.method)
    return [*notes, *(f"{', '.join(names)} in {letter}: {note}." for (letter, note), names in warned.items())]
