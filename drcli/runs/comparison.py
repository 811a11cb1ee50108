"""The one comparison: methods over seeds, and their differences to a reference, paired by seed.

`train`, `report` and `reproduce` show what `compare` returns, so that they print the same figures.

The seed is the unit of all statistics.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, median

from drcli.errors import UsageError
from drcli.registry import known
from drcli.runs.collect import RunRecord, by_name, by_recipe, finished
from drcli.runs.measures import Measures, measured
from drcli.runs.records import Summary
from drcli.runs.scores import Scores
from drcli.runs.statistics import (
    APART,
    bootstrap_interval,
    critical_difference,
    detectable,
    friedman_p,
    holm,
    paired_differences,
    paired_p,
    proportions_p,
    ranks,
    seeds_for,
    spread,
    t_interval,
)
from drcli.task import CLASSIFICATION, Kind, Task

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
    """Accuracy, or MAE, minus that of the reference, over the seeds that both have.

    Attributes:
        to: name of the reference.
        n: number of such seeds.
        mean: mean difference, a fraction, or in the units of the MAE, of which less is better.
        t95: [low, high] of Student's t, None for one seed.
        bootstrap95: [low, high] of the percentile bootstrap, None for fewer than 5 seeds.
        std: sample standard deviation of the differences, None for one seed.
        p: of the paired t-test, two-sided; None for one seed.
        p_holm: the same, corrected for all the comparisons of the recipe's rows.
    """

    to: str
    n: int
    mean: float
    t95: list[float] | None
    bootstrap95: list[float] | None
    std: float | None = None
    p: float | None = None
    p_holm: float | None = None


@dataclass(frozen=True)
class Row:
    """One method over its finished seeds; accuracies are fractions.

    Attributes:
        name: label, or "label:modality".
        method: name of the method in the registry.
        modality: of a unimodal run, else None.
        n: number of seeds.
        task: what is predicted.
        score: accuracy on test, or MAE.
        second: macro-F1 on test, or correlation; None where a run has none.
        val_score: as `score`, of the selected epoch on validation; None where a run did not keep it.
        probes: accuracy of the linear probe on each encoder, or MAE.
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
    task: Task
    score: Mean
    second: Mean | None
    val_score: Mean | None
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
    def accuracy(self) -> Mean:
        """The score of a classification.

        Raises:
            UsageError: it is of a regression.
        """
        if self.task is not CLASSIFICATION:
            raise UsageError(f"{self.name}: a {self.task.name} has no accuracy; take score, its {self.task.first.name}")
        return self.score

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
        UsageError: no finished run has the label `reference`, or the runs predict different things.
    """
    groups = by_name(finished(runs))
    _check_tasks(groups)
    to = find_reference(groups, reference)
    return _corrected([_row(name, group, [] if to in {None, name} else groups[to]) for name, group in groups.items()])


def _check_tasks(groups: Mapping[str, Sequence[RunRecord]]) -> None:
    runs = [run for group in groups.values() for run in group]
    other = next((run for run in runs if run.task != runs[0].task), None)
    if other is not None:
        raise UsageError(
            f"{other.folder}: is a {other.task.name}, {runs[0].folder} of the same recipe {other.recipe_name} a "
            f"{runs[0].task.name}; report them apart, or train one of them with another name=NAME"
        )


def _corrected(rows: Sequence[Row]) -> list[Row]:
    """Correct the p-values of a recipe's rows for their number."""
    corrected = holm({row.name: row.difference.p for row in rows if row.difference and row.difference.p is not None})
    return [
        replace(row, difference=replace(row.difference, p_holm=corrected[row.name]))
        if row.difference is not None and row.name in corrected
        else row
        for row in rows
    ]


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
        task=runs[0].task,
        score=Mean.of([summary.test.first for summary in summaries]),
        second=_of_all([summary.test.second for summary in summaries]),
        val_score=_of_all([summary.val.first if summary.val else None for summary in summaries]),
        probes=_probes(summaries),
        fused_probe=_of_all([summary.fused for summary in summaries]),
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
    classes = summary.measures.classes if isinstance(summary.measures, Measures) else {}
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
    found = paired_differences(_scores(runs), _scores(reference))
    if not found:
        return None
    bootstrap = bootstrap_interval(found) if len(found) >= FEWEST_RESAMPLED else None
    return Difference(
        reference[0].name, len(found), fmean(found), t_interval(found), bootstrap, spread(found), paired_p(found)
    )


def _scores(runs: Iterable[RunRecord]) -> dict[int, float]:
    return {run.seed: run.score for run in runs}


def _probes(summaries: Iterable[Summary]) -> dict[str, Mean]:
    found: dict[str, list[float]] = {}
    for summary in summaries:
        for m, probe in summary.unimodal.items():
            found.setdefault(m, []).append(probe.score)
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
    return ranking(rows).means


@dataclass(frozen=True)
class Ranking:
    """Methods over datasets.

    Attributes:
        means: mean rank by name, best first; see `average_ranks`.
        datasets: their number N.
        critical: how far mean ranks must be apart to differ; None for fewer than two methods.
        friedman: p-value of Friedman's test that all ranks are equal; None for fewer than three methods.
    """

    means: dict[str, float]
    datasets: int
    critical: float | None
    friedman: float | None

    @property
    def alike(self) -> list[list[str]]:
        """The largest groups of two methods or more of which no two differ by the critical difference."""
        names = list(self.means)
        groups = [self._near(names[place:]) for place in range(len(names))]
        ends = [place + len(group) for place, group in enumerate(groups)]
        return [
            group
            for place, group in enumerate(groups)
            if len(group) > 1 and (place == 0 or ends[place] > ends[place - 1])
        ]

    def _near(self, names: Sequence[str]) -> list[str]:
        """The first name, and those behind it that do not differ from it."""
        assert self.critical is not None
        return [name for name in names if self.means[name] - self.means[names[0]] < self.critical]


def ranking(rows: Mapping[str, Sequence[Row]]) -> Ranking:
    """Return the mean ranks by accuracy over datasets, and what is needed to tell them apart; see `average_ranks`."""
    merits = [
        {row.name: row.task.first.merit(row.score.mean) for row in of_one if row.modality is None}
        for of_one in rows.values()
    ]
    shared = [name for name in merits[0] if all(name in found for found in merits)] if merits else []
    places = [ranks([found[name] for name in shared]) for found in merits]
    means = {name: fmean(place[number] for place in places) for number, name in enumerate(shared)}
    return Ranking(
        dict(sorted(means.items(), key=lambda item: item[1])),
        len(rows),
        critical_difference(len(shared), len(rows)) if len(shared) > 1 else None,
        friedman_p(places) if places else None,
    )


@dataclass(frozen=True)
class Resolution:
    """What so many seeds can show.

    Attributes:
        seeds: pairs that most methods share with the reference.
        deviation: median over methods of the standard deviation of their paired differences, a fraction.
        detectable: the least mean difference that these seeds show, a fraction.
        for_one_point: seeds that would show a difference of one point, or a MAE lower by 0.01; None for more than
            10,000.
        kind: the score that is compared.
    """

    seeds: int
    deviation: float
    detectable: float
    for_one_point: int | None
    kind: Kind = CLASSIFICATION.first


def resolution(rows: Iterable[Row]) -> Resolution | None:
    """Return what the seeds of one recipe can show by paired t-tests; None where no method has two pairs or a spread.

    Methods on all modalities are looked at, those of a single one where there is no other.
    """
    compared = [row for row in rows if row.difference is not None and row.difference.std is not None]
    of_all = [row for row in compared if row.modality is None] or compared
    found = [row.difference for row in of_all if row.difference is not None]
    deviation = median(one.std or 0.0 for one in found) if found else 0.0
    if deviation == 0:
        return None
    counts = [one.n for one in found]
    seeds = max(sorted(set(counts)), key=counts.count)
    kind = of_all[0].task.first
    return Resolution(seeds, deviation, detectable(seeds, deviation), seeds_for(kind.step, deviation), kind)


@dataclass(frozen=True)
class Splits:
    """Mean accuracy of runs on validation and on test, fractions, and the samples of each."""

    val: float
    test: float
    n_val: int
    n_test: int

    @property
    def are_apart(self) -> bool:
        """Whether they differ by more than sampling explains: two-proportion test, at the level APART.

        All runs score the same samples, so that these are counted once, however many runs there are.
        """
        return proportions_p(self.val, self.n_val, self.test, self.n_test) < APART


def splits_of(runs: Iterable[RunRecord]) -> Splits | None:
    """Return how one recipe's finished runs do on validation and on test, on average.

    None where val was not kept, and of a regression, whose scores are no shares.
    """
    pairs = [(run.done.val, run.done.test) for run in finished(runs)]
    known_pairs = [(val, test) for val, test in pairs if isinstance(val, Scores) and isinstance(test, Scores)]
    if not known_pairs:
        return None
    vals, tests = zip(*known_pairs, strict=True)
    return Splits(
        fmean(val.accuracy for val in vals),
        fmean(test.accuracy for test in tests),
        min(val.n for val in vals),
        min(test.n for test in tests),
    )
