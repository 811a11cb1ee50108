"""Comparison tables: methods over seeds, and their paired differences to joint training."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from drcli.report.collect import RunRecord, by_name, by_recipe, finished
from drcli.statistics import bootstrap_interval, paired_differences, ranks, spread, t_interval


@dataclass(frozen=True)
class Difference:
    """Accuracy minus that of joint training, over the seeds that both have.

    Attributes:
        to: name of that joint training.
        n: number of such seeds.
        mean: mean difference, a fraction.
        t95: [low, high] of Student's t, None for one seed.
        bootstrap95: [low, high] of the percentile bootstrap, None for one seed.
    """

    to: str
    n: int
    mean: float
    t95: list[float] | None
    bootstrap95: list[float] | None


@dataclass(frozen=True)
class Row:
    """One method over its finished seeds; accuracies are fractions of the test split.

    Attributes:
        name: label, or "label:modality".
        modality: of a unimodal run, else None.
        n: number of seeds.
        accuracy: mean accuracy.
        accuracy_std: its sample standard deviation, None for one seed.
        macro_f1: mean macro-F1.
        macro_f1_std: as `accuracy_std`.
        probes: mean accuracy of the linear probe on each encoder.
        difference: to joint training, see `reference`; None for that itself, and where no seed is shared.
        seconds: mean duration of a run, that of the encoders that it starts from included.
        selections: splits that epochs were selected on.
        watched: whether the test split was scored while training.
    """

    name: str
    modality: str | None
    n: int
    accuracy: float
    accuracy_std: float | None
    macro_f1: float
    macro_f1_std: float | None
    probes: Mapping[str, float]
    difference: Difference | None
    seconds: float
    selections: frozenset[str]
    watched: bool


def compare(runs: Iterable[RunRecord]) -> list[Row]:
    """Return one row a name from the finished runs of one recipe, in the order of the runs."""
    groups = by_name(finished(runs))
    joint = reference(groups)
    return [_row(name, group, [] if joint in {None, name} else groups[joint]) for name, group in groups.items()]


def reference(methods: Mapping[str, Sequence[RunRecord]]) -> str | None:
    """Return the name of the joint training that differences are to; None where there is none.

    Of several labels whose method is joint training it is `joint`, if that is one, else the first.

    Args:
        methods: finished runs of one recipe by name.
    """
    names = [name for name, runs in methods.items() if runs[0].method == "joint"]
    return "joint" if "joint" in names else next(iter(names), None)


def _row(name: str, runs: Sequence[RunRecord], joint: Sequence[RunRecord]) -> Row:
    accuracies = _accuracies(runs)
    scores = [run.summary["test"]["macro_f1"] for run in runs if run.summary]
    summaries = [run.summary for run in runs if run.summary]
    return Row(
        name=name,
        modality=runs[0].modality,
        n=len(runs),
        accuracy=fmean(accuracies.values()),
        accuracy_std=spread(list(accuracies.values())),
        macro_f1=fmean(scores),
        macro_f1_std=spread(scores),
        probes=_probes(runs),
        difference=_difference(runs, joint),
        seconds=fmean(summary["seconds"] + summary.get("teacher_seconds", 0) for summary in summaries),
        selections=frozenset(summary["selection"] for summary in summaries),
        watched=any(summary["monitor"] == "test" for summary in summaries),
    )


def _accuracies(runs: Iterable[RunRecord]) -> dict[int, float]:
    return {run.seed: run.accuracy for run in runs}


def _difference(runs: Sequence[RunRecord], joint: Sequence[RunRecord]) -> Difference | None:
    found = paired_differences(_accuracies(runs), _accuracies(joint))
    if not found:
        return None
    return Difference(joint[0].name, len(found), fmean(found), t_interval(found), bootstrap_interval(found))


def _probes(runs: Iterable[RunRecord]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for run in runs:
        for m, scores in (run.summary or {"unimodal": {}})["unimodal"].items():
            found.setdefault(m, []).append(scores["probe_accuracy"])
    return {m: fmean(values) for m, values in found.items()}


def how_selected(runs: Iterable[RunRecord]) -> str:
    """Return how honest test scores of the runs are: "epochs selected on val", and whether test was watched."""
    summaries = [run.summary for run in runs if run.summary is not None]
    text = selected_on(summary["selection"] for summary in summaries)
    watched = any(summary["monitor"] == "test" for summary in summaries)
    return f"{text}; the test split was watched while training" if watched else text


def selected_on(selections: Iterable[str]) -> str:
    """Return "epochs selected on val" in words for all of `val`, `test` and `last`."""
    found = set(selections)
    splits = ", ".join(sorted(found - {"last"}))
    if "last" not in found:
        return f"epochs selected on {splits}"
    return f"epochs selected on {splits}, or the last epoch" if splits else "the last epoch of each run"


def one_recipe_a_dataset(runs: Iterable[RunRecord]) -> dict[str, list[RunRecord]]:
    """Return the runs by dataset, of each the recipe whose name comes first: `digits` before `digits-noisy`."""
    chosen: dict[str, list[RunRecord]] = {}
    for _, group in sorted(by_recipe(runs).items()):
        chosen.setdefault(group[0].dataset, group)
    return chosen


def average_ranks(rows: Mapping[str, Sequence[Row]]) -> dict[str, float]:
    """Return the mean rank by accuracy over datasets, best first: 1 is the best, ties share their mean.

    Only multimodal methods that every dataset has are ranked, among themselves.

    Args:
        rows: rows by dataset.
    """
    accuracies = [{row.name: row.accuracy for row in of_one if row.modality is None} for of_one in rows.values()]
    shared = [name for name in accuracies[0] if all(name in found for found in accuracies)] if accuracies else []
    places = [ranks([found[name] for name in shared]) for found in accuracies]
    means = {name: fmean(place[number] for place in places) for number, name in enumerate(shared)}
    return dict(sorted(means.items(), key=lambda item: item[1]))


_VALUES: Mapping[str, Callable[[Row], object]] = {
    "method": lambda row: row.name,
    "n": lambda row: row.n,
    "accuracy_mean": lambda row: row.accuracy,
    "accuracy_std": lambda row: row.accuracy_std,
    "macro_f1_mean": lambda row: row.macro_f1,
    "macro_f1_std": lambda row: row.macro_f1_std,
    "difference_to_joint": lambda row: row.difference and row.difference.mean,
    "difference_n": lambda row: row.difference and row.difference.n,
    "difference_t95_low": lambda row: row.difference and row.difference.t95 and row.difference.t95[0],
    "difference_t95_high": lambda row: row.difference and row.difference.t95 and row.difference.t95[1],
    "difference_bootstrap95_low": lambda row: (
        row.difference and row.difference.bootstrap95 and row.difference.bootstrap95[0]
    ),
    "difference_bootstrap95_high": lambda row: (
        row.difference and row.difference.bootstrap95 and row.difference.bootstrap95[1]
    ),
    "seconds": lambda row: row.seconds,
    "selection": lambda row: "+".join(sorted(row.selections)),
    "test_watched": lambda row: str(row.watched).lower(),
}


def row_values(row: Row) -> dict[str, object]:
    """Return a row as plain data in full precision, fractions, absent values None."""
    return {name: value(row) for name, value in _VALUES.items()}


def comparison_csv(rows: Mapping[str, Sequence[Row]]) -> str:
    """Return the rows of several recipes, as `row_values` gives them, with the probes; absent values are empty.

    Args:
        rows: rows by name of the recipe.
    """
    modalities = dict.fromkeys(m for of_one in rows.values() for row in of_one for m in row.probes)
    stream = io.StringIO()
    out = csv.writer(stream, lineterminator="\n")
    out.writerow(["recipe", *_VALUES, *(f"probe_{m}" for m in modalities)])
    for recipe, of_one in rows.items():
        for row in of_one:
            probes = [row.probes.get(m) for m in modalities]
            out.writerow([recipe, *row_values(row).values(), *probes])
    return stream.getvalue()
