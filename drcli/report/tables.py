"""Comparison tables in words: ours, and what publications say in columns of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from drcli.errors import UsageError
from drcli.registry import known
from drcli.report.published import Beside, beside
from drcli.report.ranking import rank_tables
from drcli.report.render import TableText
from drcli.report.wording import Methods, in_print, mark, marked, name_recipe
from drcli.runs.collect import RunRecord, by_name, by_recipe, finished, named, unequal
from drcli.runs.comparison import (
    Mean,
    Row,
    compare,
    find_reference,
    resolution,
    splits_of,
)
from drcli.runs.measures import COST, MEASURES, Measure, meanings, measures_of
from drcli.runs.statistics import LEVEL, paired_differences, t_interval
from drcli.runs.wording import (
    ABSENT,
    interval,
    mean_and_spread,
    not_finished,
    p_value,
    points,
    score_and_spread,
    seconds_of,
    selected_on,
    shown_by_seeds,
    significant,
    splits_apart,
    untouched,
)
from drcli.task import TASKS, Kind, TaskName

STANDARD = (
    *("method", "seeds", "val", "accuracy", "macro_f1", "mae", "corr", "acc2", "acc7", "probes", "fused_probe"),
    *("difference", "p", "bootstrap"),
    *("seconds", "published"),
)
"""Keys of the columns of a report, those of both tasks; `probes` has one per modality, `published` one per publication
and setting."""
KEYS = tuple(dict.fromkeys((*STANDARD, *(one.key for one in MEASURES))))
"""Keys of all columns."""
NARROW = (
    *("method", "seeds", "val", "accuracy", "mae", "corr", "acc2", "acc7", "probes", "fused_probe"),
    *("difference", "seconds"),
)
"""Columns that fit into a terminal."""
TITLES: Mapping[TaskName, str] = {
    "classification": "test scores in per cent",
    "regression": "test scores: MAE and correlation, accuracies in per cent",
}
BOLD = (
    "Bold: the best of a column, and what is not significantly different from it: the 95 % interval of Student's t for "
    "the differences, paired by seed, contains zero."
)


@dataclass(frozen=True)
class Column:
    """A column of the comparison.

    Attributes:
        key: what `--columns` calls it.
        heading: above it.
        cell: what it shows of a row.
        score: what it shows the mean of, with the sign under which the greatest is the best; None where none is.
    """

    key: str
    heading: str
    cell: Callable[[Row], str]
    score: Callable[[RunRecord], float | None] | None = None


def check_columns(columns: Iterable[str], task: TaskName | None = None) -> None:
    """Refuse keys that no column has.

    Args:
        columns: keys.
        task: of the runs that are to be shown, where they all have one: those of the other are refused, too.

    Raises:
        UsageError: there is such a key; the nearest is offered.
    """
    for key in map(str.strip, columns):
        if key not in KEYS:
            raise UsageError(f"--columns {key}: no such column; {known(key, KEYS)}")
        if task is not None and key in _strange_to(task):
            raise UsageError(f"--columns {key}: a {task} has none; its scores are {', '.join(_scores_of(task))}")


def _scores_of(task: TaskName) -> list[str]:
    """Return the keys of the columns that a task alone has."""
    own = TASKS[task]
    return [own.first.key, own.second.key, *(one.key for one in measures_of(task) if one not in COST)]


def _strange_to(task: TaskName) -> set[str]:
    return {key for other in TASKS if other != task for key in _scores_of(other)}


def comparison_tables(
    runs: Sequence[RunRecord],
    reference: str | None = None,
    columns: Sequence[str] | None = None,
    *,
    for_print: bool = False,
    second_hand: bool = False,
) -> list[TableText]:
    """Return one table per recipe, and where there are several datasets those of average ranks.

    Runs that are not finished are left out, and named below the table.

    Args:
        runs: at least one.
        reference: label that differences are to; None for joint training.
        columns: keys of the columns, in their order; that of the names comes first, those of publications come last.
            None for STANDARD.
        for_print: with the names of a paper for methods, and the best in bold.
        second_hand: with the published figures that were not read where they were published.

    Raises:
        UsageError: no run is finished, none of a recipe has the label `reference`, or there is no such column.
    """
    if not finished(runs):
        raise UsageError(f"{runs[0].folder}: no run is finished yet, so that there is no table; train to the end")
    groups = by_recipe(runs)
    tables = [
        comparison_table(group, reference, columns, for_print=for_print, second_hand=second_hand)
        for group in groups.values()
        if finished(group)
    ]
    empty = [f"{recipe}: none of its runs is finished." for recipe, group in groups.items() if not finished(group)]
    tables[-1] = replace(tables[-1], notes=[*tables[-1].notes, *empty])
    return [*tables, *rank_tables(runs, for_print=for_print)]


def comparison_table(
    runs: Sequence[RunRecord],
    reference: str | None = None,
    columns: Sequence[str] | None = None,
    *,
    for_print: bool = False,
    second_hand: bool = False,
) -> TableText:
    """Return the table of one recipe's runs, of which at least one is finished; see `comparison_tables`."""
    check_columns(columns or ())
    call = in_print if for_print else str
    methods = by_name(finished(runs))
    rows = {row.name: row for row in compare(runs, reference)}
    to = find_reference(methods, reference)
    shown = _chosen(_columns(rows, to, call), columns)
    with_published = columns is None or "published" in map(str.strip, columns)
    theirs = Beside(beside(runs, second_hand=second_hand) if with_published else [], runs)
    body = [[*(column.cell(row) for column in shown), *theirs.cells(name)] for name, row in rows.items()]
    body += [[name, *[ABSENT] * (len(shown) - 1), *cells] for name, cells in theirs.rows(rows, call)]
    bold = _bold(shown, methods) if for_print else ()
    notes = [*_notes(runs, list(rows.values()), to, shown, call), *([BOLD] if bold else []), *theirs.notes()]
    headings = [*(column.heading for column in shown), *theirs.headings()]
    title = f"{name_recipe(runs)}: {TITLES[runs[0].task.name]}"
    return TableText(title, headings, body, notes, bold, [*filter(None, [splits_note(runs)])])


def splits_note(runs: Sequence[RunRecord]) -> str:
    """Return the warning that one recipe's runs do otherwise on validation than on test; "" where they do not."""
    found = splits_of(runs)
    return splits_apart(found) if found is not None and found.are_apart else ""


def split_warnings(runs: Iterable[RunRecord]) -> list[str]:
    """Return these warnings for the recipes of finished runs, each with the name of its recipe."""
    notes = {recipe: splits_note(group) for recipe, group in by_recipe(finished(runs)).items()}
    return [f"{recipe}: {note}" for recipe, note in notes.items() if note]


def _chosen(columns: Sequence[Column], keys: Sequence[str] | None) -> list[Column]:
    """Return the columns of these keys in their order, that of the names first."""
    wanted = STANDARD if keys is None else ["method", *map(str.strip, keys)]
    return [column for key in dict.fromkeys(wanted) for column in columns if column.key == key]


def _bold(columns: Sequence[Column], methods: Methods) -> list[tuple[int, int]]:
    """Return the places, row and column, of what is best or not significantly different from it."""
    places = {name: row for row, name in enumerate(methods)}
    return [
        (places[name], number)
        for number, column in enumerate(columns)
        if column.score is not None
        for name in best_names(methods, column.score)
    ]


def best_names(methods: Methods, score: Callable[[RunRecord], float | None]) -> list[str]:
    """Return the name with the greatest mean score, and those that differ from it by chance.

    These are the ones for which the 95 % interval of Student's t for the differences to the best, paired by seed,
    contains zero; with one seed in common, those of the same score. Of fewer than two names, none is the best.
    """
    values = {name: {run.seed: score(run) for run in runs} for name, runs in methods.items()}
    known_values = {
        name: {seed: value for seed, value in found.items() if value is not None}
        for name, found in values.items()
        if None not in found.values()
    }
    if len(known_values) < 2:
        return []
    best = max(known_values, key=lambda name: fmean(known_values[name].values()))
    return [name for name, found in known_values.items() if name == best or _by_chance(found, known_values[best])]


def _by_chance(values: Mapping[int, float], best: Mapping[int, float]) -> bool:
    found = paired_differences(values, best)
    limits = t_interval(found)
    return limits[0] <= 0 <= limits[1] if limits is not None else found == [0.0]


def _columns(rows: Mapping[str, Row], reference: str | None, call: Callable[[str], str]) -> list[Column]:
    """Return all columns; those of the fused probe and of the bootstrap where a row has one."""
    modalities = dict.fromkeys(m for row in rows.values() for m in row.probes)
    task = next(iter(rows.values())).task
    found = [
        Column("method", "method", lambda row: call(row.name)),
        Column("seeds", "seeds", lambda row: str(row.n)),
        Column("val", "val", lambda row: _mean(row.val_score, task.first), _val_merit),
        _score_column(task.first, lambda row: row.score, lambda run: run.score),
        _score_column(task.second, lambda row: row.second, lambda run: run.done.test.second),
        *(_probe_column(m, task.first) for m in modalities),
        *([_fused_column(task.first)] if any(row.fused_probe is not None for row in rows.values()) else []),
        Column("difference", f"minus {call(reference or 'joint')}", lambda row: _difference(row, rows)),
    ]
    if any(row.difference is not None and row.difference.p_holm is not None for row in rows.values()):
        found.append(Column("p", "p", lambda row: _p_value(row, rows)))
    if any(row.difference is not None and row.difference.bootstrap95 is not None for row in rows.values()):
        found.append(Column("bootstrap", "bootstrap", lambda row: _bootstrap(row, rows)))
    found.append(Column("seconds", "s / run", lambda row: seconds_of(row.seconds, row.teacher_seconds)))
    return [*found, *map(_measure_column, measures_of(task.name))]


def _score_column(kind: Kind, cell: Callable[[Row], Mean | None], score: Callable[[RunRecord], float | None]) -> Column:
    return Column(
        kind.key, kind.heading, lambda row: _mean(cell(row), kind, mark([row])), lambda run: _merit(kind, score(run))
    )


def _merit(kind: Kind, score: float | None) -> float | None:
    return None if score is None else kind.merit(score)


def _measure_column(of: Measure) -> Column:
    score = of.value if of.more_is_better else None
    return Column(
        of.key,
        of.heading,
        lambda row: measure_cell(of, row),
        None if score is None else lambda run: score(run.done),
    )


def measure_cell(of: Measure, row: Row) -> str:
    """Return what a table shows of a measure."""
    found = row.more.get(of.key)
    if found is None:
        return ABSENT
    marked = of not in COST and of.key != "temperature"
    return _number(of, found) + (mark([row]) if marked else "")


def _number(of: Measure, found: Mean) -> str:
    return mean_and_spread(found.mean, found.std if of.spread else None, scale=of.scale, digits=of.digits)


def _val_merit(run: RunRecord) -> float | None:
    return None if run.done.val is None else _merit(run.task.first, run.done.val.first)


def _probe_column(modality: str, kind: Kind) -> Column:
    def score(run: RunRecord) -> float | None:
        found = run.done.unimodal.get(modality)
        return None if found is None else kind.merit(found.score)

    return Column("probes", f"{modality} probe", lambda row: _mean(row.probes.get(modality), kind, mark([row])), score)


def _fused_column(kind: Kind) -> Column:
    return Column(
        "fused_probe",
        "fused probe",
        lambda row: _mean(row.fused_probe, kind, mark([row])),
        lambda run: _merit(kind, run.done.fused),
    )


def _mean(mean: Mean | None, kind: Kind, mark: str = "") -> str:
    return ABSENT if mean is None else score_and_spread(mean.mean, mean.std, kind=kind) + mark


def _difference(row: Row, rows: Mapping[str, Row]) -> str:
    """Mean with Student's interval, and the seeds in common where they are fewer than the row's."""
    found = row.difference
    if found is None:
        return ABSENT
    fewer = f" (n = {found.n})" if found.n < row.n else ""
    kind = row.task.first
    limits = f" {interval(found.t95, kind)}" if found.t95 is not None else ""
    return f"{points(found.mean, kind)}{limits}{mark([row, rows[found.to]])}{fewer}"


def _p_value(row: Row, rows: Mapping[str, Row]) -> str:
    found = row.difference
    if found is None or found.p_holm is None:
        return ABSENT
    return p_value(found.p_holm) + mark([row, rows[found.to]])


def _bootstrap(row: Row, rows: Mapping[str, Row]) -> str:
    found = row.difference
    if found is None or found.bootstrap95 is None:
        return ABSENT
    return interval(found.bootstrap95, row.task.first) + mark([row, rows[found.to]])


_MEANINGS = {
    "val": "val: {score} of the same epochs on validation, by which settings may be chosen.",
    "mae": "MAE: mean absolute error, the less the better; corr: Pearson's correlation of predicted and true values.",
    "probes": "probe: {score} of a {probe} on the frozen encoder of that modality.",
    "fused_probe": "fused probe: the same on the features of all modalities together.",
    "p": "p: of the paired t-test, corrected for the number of differences in the column by Holm's method.",
    "bootstrap": "bootstrap: the 95 % interval of the percentile bootstrap.",
}


def _notes(
    runs: Sequence[RunRecord],
    rows: Sequence[Row],
    reference: str | None,
    shown: Iterable[Column],
    call: Callable[[str], str],
) -> list[str]:
    """What the columns mean, what is not alike or lacking, and how honest the figures are."""
    done, keys, task = finished(runs), [column.key for column in shown], rows[0].task
    meant = {key: text.format(score=task.first.name, probe=task.probe) for key, text in _MEANINGS.items()}
    selected = selected_on(selection for row in rows for selection in row.selections)
    notes = [f"Mean ± standard deviation (n - 1) over seeds; epochs {selected}."]
    if reference is not None and "difference" in keys:
        better = "" if task.first.more_is_better else ", below 0 is better"
        notes.append(
            f"minus {call(reference)}: {task.first.name} minus that of {call(reference)}{better}, paired by seed, "
            "with the 95 % interval of Student's t."
        )
        notes += [_holm_note(rows, call), shown_by_seeds(resolution(rows), call(reference))]
    notes += [*(meaning for key, meaning in meant.items() if key in keys), *meanings(set(keys))]
    if any(row.teacher_seconds for row in rows) and "seconds" in keys:
        notes.append("s / run: seconds of a run, + those of the unimodal runs that it starts from and shares.")
    notes += filter(None, [unequal(done), _unfinished(runs), _without_events(done)])
    notes += [untouched(call(row.name), row.untouched, row.n) for row in rows if row.untouched]
    return [*filter(None, notes), *marked(rows)]


def _holm_note(rows: Sequence[Row], call: Callable[[str], str]) -> str:
    """Name the differences that are significant even though there are several; "" for fewer than two."""
    tested = {row.name: row.difference.p_holm for row in rows if row.difference and row.difference.p_holm is not None}
    left = [call(name) for name, p in tested.items() if p < LEVEL]
    return significant(left, len(tested)) if len(tested) > 1 else ""


def _unfinished(runs: Sequence[RunRecord]) -> str:
    left = [run for run in runs if run.summary is None]
    return f"{not_finished(len(left), len(runs))}: {named(left, runs)}." if left else ""


def _without_events(runs: Sequence[RunRecord]) -> str:
    """Name the runs with re-learning that were over before one was due: they are training without it."""
    without = [run for run in runs if run.relearning is not None and run.done.events == 0]
    return f"No re-learning happened in {named(without, runs)}: it is training without it." if without else ""
