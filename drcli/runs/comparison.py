"""The one comparison: methods over seeds, and their differences to a reference, paired by seed.

`train`, `report` and `reproduce` show what `compare` returns, so that they print the same figures.

The seed is the unit of all statistics.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from drcli.errors import UsageError
from drcli.registry import known
from drcli.runs.collect import RunRecord, by_name, by_recipe, finished
from drcli.runs.measures import MEASURES, measured
from drcli.runs.records import Summary
from drcli.runs.statistics import bootstrap_interval, paired_differences, ranks, spread, t_interval

FEWEST_RESAMPLED = 5
"""Seeds from which on the bootstrap says something: of three there are only ten distinct resamples."""


@dataclass(frozen=True)
class Mean:
    """Mean over seeds, and the sample standard deviation, None for one seed."""

    mean: float
    std: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> Mean:
        """Return it from one value or more."""
        return cls(fmean(values), spread(values))


@dataclass(frozen=True)
class Difference:
    """Accuracy minus that of the reference, over the seeds that both have.

    Attributes:
        to: name of the reference.
        n: number of such seeds.
        mean: mean difference, a fraction.
        t95: [low, high] of Student's t, None for one seed.
        bootstrap95: [low, high] of the percentile bootstrap, None for fewer than 5 seeds.
    """

    to: str
    n: int
    mean: float
    t95: list[float] | None
    bootstrap95: list[float] | None


@dataclass(frozen=True)
class Row:
    """One method over its finished seeds; accuracies are fractions.

    Attributes:
        name: label, or "label:modality".
        method: name of the method in the registry.
        modality: of a unimodal run, else None.
        n: number of seeds.
        accuracy: on test.
        macro_f1: on test.
        val_accuracy: of the selected epoch on validation; None where a run did not keep it.
        probes: accuracy of the linear probe on each encoder.
        fused_probe: the same on all encoders' features together; None where a run did not measure it.
        difference: to the reference; None for that itself, and where no seed is shared.
        seconds: mean duration of a run itself.
        teacher_seconds: mean duration of the runs whose encoders it starts from.
        selections: splits that epochs were selected on.
        watched: whether the test split was scored while training.
        untouched: number of runs whose selected weights are from before their first re-learning.
        more: what else was measured in every run, by its key in `drcli.runs.measures.MEASURES`.
        classes: accuracy on the samples of each class that has some, by name; none where a run did not measure it.
    """

    name: str
    method: str
    modality: str | None
    n: int
    accuracy: Mean
    macro_f1: Mean
    val_accuracy: Mean | None
    probes: Mapping[str, Mean]
    fused_probe: Mean | None
    difference: Difference | None
    seconds: float
    teacher_seconds: float
    selections: frozenset[str]
    watched: bool
    untouched: int = 0
    more: Mapping[str, Mean] = field(default_factory=dict)
    classes: Mapping[str, Mean] = field(default_factory=dict)

    @property
    def all_seconds(self) -> float:
        """Mean duration of a run with those that it starts from."""
        return self.seconds + self.teacher_seconds


def compare(runs: Iterable[RunRecord], reference: str | None = None) -> list[Row]:
    """Return one row per name from the finished runs of one recipe, in the order of the runs.

    Args:
        runs: of one recipe.
        reference: label that differences are to; None for joint training, see `find_reference`.

    Raises:
        UsageError: no finished run has the label `reference`.
    """
    groups = by_name(finished(runs))
    to = find_reference(groups, reference)
    return [_row(name, group, [] if to in {None, name} else groups[to]) for name, group in groups.items()]


def find_reference(methods: Mapping[str, Sequence[RunRecord]], wanted: str | None = None) -> str | None:
    """Return the name that differences are to; None where there is none.

    It is the label `joint` if there is one, else the first label whose method is joint training.

    Args:
        methods: finished runs of one recipe by name.
        wanted: a label in place of these.

    Raises:
        UsageError: no finished run has the label `wanted`.
    """
    if wanted is not None:
        if methods and wanted not in methods:
            raise UsageError(f"--reference {wanted}: no finished run has this label; {known(wanted, methods)}")
        return wanted if methods else None
    names = [name for name, runs in methods.items() if runs[0].method == "joint"]
    return "joint" if "joint" in names else next(iter(names), None)


def _row(name: str, runs: Sequence[RunRecord], reference: Sequence[RunRecord]) -> Row:
    summaries = [run.done for run in runs]
    return Row(
        name=name,
        method=runs[0].method,
        modality=runs[0].modality,
        n=len(runs),
        accuracy=Mean.of([summary.test.accuracy for summary in summaries]),
        macro_f1=Mean.of([summary.test.macro_f1 for summary in summaries]),
        val_accuracy=_of_all([summary.val.accuracy if summary.val else None for summary in summaries]),
        probes=_probes(summaries),
        fused_probe=_of_all([summary.fused_probe for summary in summaries]),
        difference=_difference(runs, reference),
        seconds=fmean(summary.seconds for summary in summaries),
        teacher_seconds=fmean(summary.teacher_seconds for summary in summaries),
        selections=frozenset(summary.selection for summary in summaries),
        watched=any(summary.monitor == "test" for summary in summaries),
        untouched=sum(summary.is_untouched for summary in summaries),
        more=_by_key(map(measured, summaries)),
        classes=_by_key(map(_of_classes, summaries)),
    )


def _of_classes(summary: Summary) -> dict[str, float]:
    classes = {} if summary.measures is None else summary.measures.classes
    return {name: found.accuracy for name, found in classes.items() if found.accuracy is not None}


def _by_key(found: Iterable[Mapping[str, float]]) -> dict[str, Mean]:
    """Return the means over all seeds of what each of them has."""
    seeds = list(found)
    return {key: Mean.of([seed[key] for seed in seeds]) for key in seeds[0] if all(key in seed for seed in seeds)}


def _of_all(values: Sequence[float | None]) -> Mean | None:
    """Of all seeds or of none: a mean over some of them would not belong to the row."""
    found = [value for value in values if value is not None]
    return Mean.of(found) if len(found) == len(values) else None


def _difference(runs: Sequence[RunRecord], reference: Sequence[RunRecord]) -> Difference | None:
    found = paired_differences(_accuracies(runs), _accuracies(reference))
    if not found:
        return None
    bootstrap = bootstrap_interval(found) if len(found) >= FEWEST_RESAMPLED else None
    return Difference(reference[0].name, len(found), fmean(found), t_interval(found), bootstrap)


def _accuracies(runs: Iterable[RunRecord]) -> dict[int, float]:
    return {run.seed: run.accuracy for run in runs}


def _probes(summaries: Iterable[Summary]) -> dict[str, Mean]:
    found: dict[str, list[float]] = {}
    for summary in summaries:
        for m, probe in summary.unimodal.items():
            found.setdefault(m, []).append(probe.probe_accuracy)
    return {m: Mean.of(values) for m, values in found.items()}


def one_recipe_per_dataset(runs: Iterable[RunRecord]) -> dict[str, list[RunRecord]]:
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
    accuracies = [{row.name: row.accuracy.mean for row in of_one if row.modality is None} for of_one in rows.values()]
    shared = [name for name in accuracies[0] if all(name in found for found in accuracies)] if accuracies else []
    places = [ranks([found[name] for name in shared]) for found in accuracies]
    means = {name: fmean(place[number] for place in places) for number, name in enumerate(shared)}
    return dict(sorted(means.items(), key=lambda item: item[1]))


def _of_mean(value: Mean | None) -> tuple[float | None, float | None]:
    return (None, None) if value is None else (value.mean, value.std)


def _limits(limits: Sequence[float] | None) -> tuple[float | None, float | None]:
    return (None, None) if limits is None else (limits[0], limits[1])


_PAIRS: Mapping[str, Callable[[Row], tuple[object, object]]] = {
    "accuracy_mean accuracy_std": lambda row: _of_mean(row.accuracy),
    "val_accuracy_mean val_accuracy_std": lambda row: _of_mean(row.val_accuracy),
    "macro_f1_mean macro_f1_std": lambda row: _of_mean(row.macro_f1),
    "fused_probe_mean fused_probe_std": lambda row: _of_mean(row.fused_probe),
    "difference_to_joint difference_n": lambda row: (
        (row.difference.mean, row.difference.n) if row.difference else (None, None)
    ),
    "difference_t95_low difference_t95_high": lambda row: _limits(row.difference.t95 if row.difference else None),
    "difference_bootstrap95_low difference_bootstrap95_high": lambda row: _limits(
        row.difference.bootstrap95 if row.difference else None
    ),
    "seconds teacher_seconds": lambda row: (row.seconds, row.teacher_seconds),
    "selection test_watched": lambda row: ("+".join(sorted(row.selections)), str(row.watched).lower()),
}


def row_values(row: Row) -> dict[str, object]:
    """Return a row as plain data in full precision, fractions, absent values None."""
    found: dict[str, object] = {"method": row.name, "n": row.n}
    for names, values in _PAIRS.items():
        found |= dict(zip(names.split(), values(row), strict=True))
    return found | {"reference": row.difference.to if row.difference else None}


def comparison_csv(rows: Mapping[str, Sequence[Row]]) -> str:
    """Return the rows of several recipes, as `row_values` gives them, with the probes and all that was measured.

    Absent values are empty.

    Args:
        rows: rows by name of the recipe; at least one.
    """
    everyone = [row for of_one in rows.values() for row in of_one]
    modalities = dict.fromkeys(m for row in everyone for m in row.probes)
    classes = dict.fromkeys(name for row in everyone for name in row.classes)
    plain = [
        {"recipe": recipe, **row_values(row), **_probe_values(row, modalities), **_measured_values(row, classes)}
        for recipe, of_one in rows.items()
        for row in of_one
    ]
    stream = io.StringIO()
    out = csv.DictWriter(stream, list(plain[0]) if plain else ["recipe"], lineterminator="\n")
    out.writeheader()
    out.writerows(plain)
    return stream.getvalue()


def _probe_values(row: Row, modalities: Iterable[str]) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for m in modalities:
        found[f"probe_{m}"], found[f"probe_{m}_std"] = _of_mean(row.probes.get(m))
    return found


def _measured_values(row: Row, classes: Iterable[str]) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for one in MEASURES:
        found[f"{one.key}_mean"], found[f"{one.key}_std"] = _of_mean(row.more.get(one.key))
    for name in classes:
        found[f"accuracy_of_{name}"] = _of_mean(row.classes.get(name))[0]
    return found
