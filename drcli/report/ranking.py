"""Methods over several datasets: which recipes are ranked, and the table of their average ranks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from drcli.report.render import TableText
from drcli.report.wording import in_print, mark, marked
from drcli.runs.collect import RunRecord, by_recipe, by_variant, finished, unequal
from drcli.runs.comparison import Ranking, Row, compare, one_recipe_per_dataset, ranking
from drcli.runs.wording import told_apart


def rank_tables(runs: Sequence[RunRecord], *, for_print: bool = False) -> list[TableText]:
    """Return tables of average ranks over datasets, one per variant such as `noisy` of `digits-noisy`.

    A variant has one where its finished runs are of several datasets, which have two methods in common.
    """
    return [_rank_table(found, in_print if for_print else str) for found in over_datasets(runs)]


@dataclass(frozen=True)
class OverDatasets:
    """The ranking of one variant.

    Attributes:
        runs: finished ones of the variant.
        chosen: of these, by the recipe that stands for its dataset.
        rows: of the comparison, by the same.
        ranking: of the methods that all of them have.
    """

    runs: Sequence[RunRecord]
    chosen: Mapping[str, Sequence[RunRecord]]
    rows: Mapping[str, Sequence[Row]]
    ranking: Ranking

    @property
    def title(self) -> str:
        """What it is of."""
        return f"Average rank over {', '.join(self.rows)}"

    @property
    def used(self) -> list[Row]:
        """The rows that are ranked."""
        return [row for of_one in self.rows.values() for row in of_one if row.name in self.ranking.means]


def over_datasets(runs: Sequence[RunRecord]) -> list[OverDatasets]:
    """Return the rankings of the variants that have several datasets with two methods in common."""
    found = []
    for group in by_variant(finished(runs)).values():
        chosen = {of_one[0].recipe_name: of_one for of_one in one_recipe_per_dataset(group).values()}
        if len(chosen) > 1:
            rows = {recipe: compare(of_one) for recipe, of_one in chosen.items()}
            found.append(OverDatasets(group, chosen, rows, ranking(rows)))
    return [one for one in found if len(one.ranking.means) > 1]


def _scores(found: OverDatasets) -> str:
    return " or ".join(sorted({row.task.first.name for row in found.used}, reverse=True))


def _rank_table(found: OverDatasets, call: Callable[[str], str]) -> TableText:
    """Rank methods over one recipe per dataset."""
    means, used = found.ranking.means, found.used
    marks = {name: mark([row for row in used if row.name == name]) for name in means}
    notes = [
        (
            f"1 is the best; methods that every dataset has, ranked by mean {_scores(found)}; "
            f"methods of equal {_scores(found)} share their mean rank."
        ),
        told_apart(found.ranking),
    ]
    counts = sorted({row.n for row in used})
    notes += [f"Means are over {counts[0]} to {counts[-1]} seeds."] if len(counts) > 1 else []
    others = [recipe for recipe in by_recipe(found.runs) if recipe not in found.chosen]
    notes += [f"Left out, another recipe of the dataset is here: {', '.join(others)}."] if others else []
    return TableText(
        found.title,
        ("method", "rank"),
        [(call(name), f"{rank:.2f}{marks[name]}") for name, rank in means.items()],
        [*notes, *filter(None, map(unequal, found.chosen.values())), *marked(used)],
    )
