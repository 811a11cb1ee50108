"""Scores without modalities and under noise, by method and over seeds: their tables, and what their curves are of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from drcli.report.render import TableText
from drcli.report.wording import Methods
from drcli.runs.collect import RunRecord, by_name, by_recipe, finished
from drcli.runs.comparison import Mean
from drcli.runs.conditions import ABSENT_IN_WORDS, Absent, AnyCondition, Conditions, Series
from drcli.runs.wording import ABSENT, POINTS, score_and_spread
from drcli.task import Kind

MARKS: Mapping[Absent | None, str] = {"left_out": "*", "mean": "**"}


@dataclass(frozen=True)
class Seed:
    """What was measured of one run.

    Attributes:
        found: scores without modalities and under noise.
        clean: accuracy of the same split with everything as it is, a fraction, or MAE; None where it is not known.
    """

    found: Conditions
    clean: float | None = None


Seeds = Mapping[str, Sequence[Seed]]
"""What was measured, by method."""


def read_conditions(methods: Methods) -> Seeds:
    """Return what was measured of finished runs by method, without the methods of which nothing was."""
    seeds = {
        name: [Seed(found, run.score) for run in runs if (found := run.conditions()) is not None]
        for name, runs in methods.items()
    }
    return {name: found for name, found in seeds.items() if found}


def measured_tables(runs: Sequence[RunRecord]) -> list[TableText]:
    """Return the tables of what was measured of runs, their titles after the names of the recipes."""
    return [
        replace(table, title=f"{recipe}: {_after_colon(table.title)}")
        for recipe, group in by_recipe(finished(runs)).items()
        for table in condition_tables(read_conditions(by_name(group)))
    ]


def _after_colon(title: str) -> str:
    """Return a title with a small letter first, unless it begins with an abbreviation."""
    return title if title[:2].isupper() else f"{title[0].lower()}{title[1:]}"


@dataclass(frozen=True)
class Panel:
    """Scores by one kind of condition.

    Attributes:
        kind: "subsets", "missing" or "noise".
        modality: which samples lack, or which has noise; None of subsets.
        methods: scores of each seed by method.
        clean: accuracies, or MAEs, of the same seeds with everything as it is.
        absent: what stands in the place of an absent modality, by method; of the last seed, where they differ.
        mixed: methods whose seeds were measured with different things in its place.
    """

    kind: str
    modality: str | None
    methods: Mapping[str, Sequence[Series]]
    clean: Mapping[str, Sequence[float]]
    absent: Mapping[str, Absent | None]
    mixed: Sequence[str] = ()

    @property
    def conditions(self) -> list[str]:
        """The names of the conditions, in the order of their strength where they have one."""
        names = list(dict.fromkeys(name for seeds in self.methods.values() for seed in seeds for name in seed))
        if self.kind == "subsets":
            return sorted(names, key=lambda name: name.count("+"))
        return sorted(names, key=float, reverse=self.kind == "noise")

    @property
    def kind_of_score(self) -> Kind:
        """What is measured."""
        return next(one for seeds in self.methods.values() for seed in seeds for one in seed.values()).task.first

    @property
    def most_seeds(self) -> int:
        """Number of seeds of the method that has most."""
        return max(map(len, self.methods.values()))

    def scores(self, method: str, condition: str) -> list[float]:
        """Return the accuracies of a method's seeds that were measured in a condition, fractions, or MAEs."""
        return [seed[condition].first for seed in self.methods[method] if condition in seed]


def panels(methods: Seeds) -> list[Panel]:
    """Return what was measured: of subsets, then by modality of missing samples and of noise."""
    keys = dict.fromkeys(key for runs in methods.values() for run in runs for key, _ in _series(run.found))
    ordered = sorted(keys, key=lambda key: ("subsets", "missing", "noise").index(key[0]))
    return [_panel(kind, modality, methods) for kind, modality in ordered]


def _series(found: Conditions) -> Iterator[tuple[tuple[str, str | None], Series]]:
    if found.subsets:
        yield ("subsets", None), found.subsets
    yield from ((("missing", m), series) for m, series in found.missing.items())
    yield from ((("noise", m), series) for m, series in found.noise.items())


def _panel(kind: str, modality: str | None, methods: Seeds) -> Panel:
    found: dict[str, list[Series]] = {}
    clean: dict[str, list[float]] = {}
    absent: dict[str, Absent | None] = {}
    mixed: dict[str, None] = {}
    for name, seeds in methods.items():
        for seed in seeds:
            series = dict(_series(seed.found)).get((kind, modality))
            if series is None:
                continue
            found.setdefault(name, []).append(series)
            clean.setdefault(name, []).extend([] if seed.clean is None else [seed.clean])
            stand_in = None if kind == "noise" else seed.found.absent
            mixed |= {name: None} if absent.get(name, stand_in) != stand_in else {}
            absent[name] = stand_in
    return Panel(kind, modality, found, clean, absent, list(mixed))


def condition_tables(methods: Seeds, *, with_seeds: bool = True) -> list[TableText]:
    """Return a table for each kind of condition and modality: accuracies in per cent, or MAEs, a row per method.

    Args:
        methods: what was measured.
        with_seeds: whether a column says how many seeds were.
    """
    return [_table(panel, with_seeds) for panel in panels(methods)]


def _table(panel: Panel, with_seeds: bool) -> TableText:
    with_clean = panel.kind != "subsets" and any(panel.clean.values())
    rows = [
        [
            name + MARKS.get(panel.absent[name], ""),
            *([str(len(panel.methods[name]))] if with_seeds else []),
            *([_over_seeds(panel.clean[name], panel.kind_of_score)] if with_clean else []),
            *(_cell(panel, name, condition) for condition in panel.conditions),
        ]
        for name in panel.methods
    ]
    unit = " dB" if panel.kind == "noise" else ""
    columns = (
        "method",
        *(["seeds"] if with_seeds else []),
        *(["as it is"] if with_clean else []),
        *(f"{condition}{unit}" for condition in panel.conditions),
    )
    return TableText(title(panel), columns, rows, _notes(panel))


def title(panel: Panel) -> str:
    """Return what a panel shows, in words."""
    what = "Accuracy in per cent" if panel.kind_of_score.scale == POINTS else panel.kind_of_score.name
    if panel.kind == "subsets":
        return f"{what} with these modalities alone"
    if panel.kind == "missing":
        return f"{what} where a share of the samples lacks {panel.modality}"
    return f"{what} with white noise on the inputs of {panel.modality}, by signal-to-noise ratio"


def _cell(panel: Panel, method: str, condition: str) -> str:
    """Mean and deviation over seeds, their number where not all were measured; of one, the deviation over its draws."""
    scores, kind = panel.scores(method, condition), panel.kind_of_score
    fewer = f" (n = {len(scores)})" if 0 < len(scores) < len(panel.methods[method]) else ""
    if len(scores) != 1:
        return _over_seeds(scores, kind) + fewer
    (found,) = (seed[condition] for seed in panel.methods[method] if condition in seed)
    return score_and_spread(found.first, found.spread, kind=kind) + fewer


def _over_seeds(values: Sequence[float], kind: Kind) -> str:
    if not values:
        return ABSENT
    found = Mean.of(values)
    return score_and_spread(found.mean, found.std, kind=kind)


def _notes(panel: Panel) -> list[str]:
    found = [one for seeds in panel.methods.values() for seed in seeds for one in seed.values()]
    notes = ["Mean ± standard deviation over seeds."] if panel.most_seeds > 1 else []
    notes += [f"Mean of {_draws(found)} draws{' ± standard deviation' if not notes else ''}."] if _random(found) else []
    for absent in dict.fromkeys(panel.absent.values()):
        if absent is not None:
            words, mark = ABSENT_IN_WORDS[absent], MARKS.get(absent)
            notes.append(f"{mark}: {words}." if mark else f"{words[0].upper()}{words[1:]}.")
    if panel.mixed:
        notes.append(f"Not all seeds of {', '.join(panel.mixed)} have the same --absent: their mean says nothing.")
    return notes


def _random(found: Sequence[AnyCondition]) -> bool:
    return any(one.draws > 1 for one in found)


def _draws(found: Sequence[AnyCondition]) -> str:
    counts = sorted({one.draws for one in found})
    return " to ".join(map(str, [counts[0], *counts[1:][-1:]]))
