"""The sections of the page that compare runs: results, average ranks, calibration and classes, run times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from drcli.report.drawing import LEFT, add_legend, panel, shortened
from drcli.report.figures import comparison, ranks
from drcli.report.figures.accuracy import Records
from drcli.report.page.figure import Drawing
from drcli.report.page.markup import folded, to_html
from drcli.report.page.sections import Section
from drcli.report.ranking import OverDatasets, over_datasets, rank_tables
from drcli.report.render import TableText
from drcli.report.tables import comparison_table, measure_cell
from drcli.report.theme import Theme
from drcli.report.wording import Methods
from drcli.runs.collect import RunRecord
from drcli.runs.comparison import Mean, Row, compare
from drcli.runs.measures import COST, QUALITY, SENTIMENT, Measure, Measures, meanings
from drcli.runs.wording import ABSENT, how_selected, mean_and_spread

LINE_HEIGHT = 0.24  # inches per method


def results(
    runs: Sequence[RunRecord],
    theme: Theme,
    reference: str | None = None,
    columns: Sequence[str] | None = None,
    *,
    second_hand: bool = False,
) -> Section:
    """Return the section of one recipe's runs, of which at least one is finished.

    Args:
        runs: of one recipe.
        theme: look of the methods.
        reference: label that differences are to; None for joint training.
        columns: keys of the table's columns; None for all.
        second_hand: whether the table has the published figures that were not read where they were published.
    """
    found = comparison.data(runs, reference)
    recipe = runs[0].recipe_name
    drawings = [_differences(recipe, found, theme)] if found.compared else []
    drawings += [_probes(recipe, found, theme)] if found.probed and len(found.rows) > 1 else []
    return Section(
        "Results",
        "Scores of the test split; the seed is the unit of every mean, deviation and interval. "
        "A heading sorts its column.",
        [to_html(comparison_table(runs, reference, columns, second_hand=second_hand)), drawings],
    )


def _differences(recipe: str, found: comparison.Comparison, theme: Theme) -> Drawing:
    longest = max(len(shortened(row.name)) for row in found.compared)
    with theme.applied():
        figure, axes = panel(0.3 + LINE_HEIGHT * max(2, len(found.compared)), left=0.25 + 0.075 * longest)
        comparison.draw_differences(axes, found, theme)
    name = found.kind.name
    unit = "in percentage points" if found.kind.more_is_better else "below 0 is better"
    caption = (
        f"{name[0].upper()}{name[1:]} minus that of {found.reference}, {unit}, paired by seed: mean and 95 % interval "
        f"of Student's t; epochs {found.selected}."
    )
    return Drawing(f"{recipe}-difference", figure, caption)


def _probes(recipe: str, found: comparison.Comparison, theme: Theme) -> Drawing:
    with theme.applied():
        figure, axes = panel(left=LEFT)
        add_legend(figure, comparison.draw_probes(axes, found, theme), theme)
    alone = "; dashed: the encoder trained alone" if found.alone else ""
    caption = (
        f"Linear probes of the encoders of {' and '.join(found.probed)}, ± standard deviation over seeds; the legend, "
        f"and the area of a point, give the {found.kind.name} of the whole model{alone}; epochs {found.selected}."
    )
    return Drawing(f"{recipe}-probes", figure, caption)


def rankings(runs: Sequence[RunRecord], theme: Theme) -> Section | None:
    """Return the section of average ranks, or None where there are not several datasets."""
    tables = map(to_html, rank_tables(runs))
    drawings = [[_ranks(found, theme)] for found in over_datasets(runs)]
    content = [part for pair in zip(tables, drawings, strict=True) for part in pair]
    return (
        Section("Average rank", "The order of methods by mean accuracy, over datasets.", content) if content else None
    )


def _ranks(found: OverDatasets, theme: Theme) -> Drawing:
    longest = max(len(shortened(name)) for name in found.ranking.means)
    with theme.applied():
        figure, axes = panel(0.2 + LINE_HEIGHT * ranks.height(found.ranking), left=0.25 + 0.075 * longest)
        ranks.draw(axes, found.ranking, theme)
    selected = how_selected(run.done for runs in found.chosen.values() for run in runs)
    caption = (
        f"{found.title}; a bar joins methods whose ranks do not differ by the critical difference of Nemenyi's test; "
        f"epochs {selected}."
    )
    return Drawing("-".join(["ranks", *found.chosen]), figure, caption)


COLUMNS = (
    "method",
    "runs",
    "epochs",
    "seconds per run",
    "of these, encoders before",
    "minutes in all",
    "samples / s",
    "device",
)


def cost(methods: Methods, records: Mapping[str, Records]) -> Section:
    """Return the section of the run times of a recipe's finished runs, of which `records` are the epochs."""
    rows = [_cost(name, runs, records[name]) for name, runs in methods.items()]
    times = TableText("Run times", COLUMNS, rows, ["Means over seeds."])
    intro = "Training with its diagnoses and the scoring of validation; other work on the machine counts too."
    more = _measures("Size, speed and memory", compare(run for runs in methods.values() for run in runs), COST)
    return Section("Run times", intro, [to_html(times), *([to_html(more)] if more is not None else [])])


def _measures(title: str, rows: Sequence[Row], of: Sequence[Measure]) -> TableText | None:
    """Return the table of some measures, those that a method has; None where no method has any."""
    there = [one for one in of if any(one.key in row.more for row in rows)]
    cells = [[row.name, *(measure_cell(one, row) for one in there)] for row in rows]
    notes = ["Mean ± standard deviation over seeds.", *meanings({one.key for one in there})]
    return TableText(title, ("method", *(one.heading for one in there)), cells, notes) if there else None


def quality(methods: Methods) -> Section | None:
    """Return the section of calibration and single classes, or of the accuracies of a regression.

    None where no finished run measured them.
    """
    rows = compare(run for runs in methods.values() for run in runs)
    sentiments = _measures("Accuracies", rows, SENTIMENT)
    if sentiments is not None:
        return Section("Accuracies of the predicted values", "On the test split, in per cent.", [to_html(sentiments)])
    table = _measures("Calibration", rows, QUALITY)
    if table is None:
        return None
    intro = "Whether probabilities can be taken at their word, on the test split, before and after temperature scaling."
    return Section("Calibration and classes", intro, [to_html(table), folded(_classes(methods, rows))])


def _classes(methods: Methods, rows: Sequence[Row]) -> TableText:
    """Return the accuracy of each method on the samples of each class, and how many there are."""
    support = {
        name: found.n
        for runs in methods.values()
        for run in runs
        if isinstance(run.done.measures, Measures)
        for name, found in run.done.measures.classes.items()
    }
    cells = [[name, str(n), *(_mean_of(row.classes.get(name)) for row in rows)] for name, n in support.items()]
    notes = ["Per cent of the class's samples that are predicted right; mean ± standard deviation over seeds."]
    return TableText("Accuracy by class", ("class", "samples", *(row.name for row in rows)), cells, notes)


def _mean_of(found: Mean | None) -> str:
    return ABSENT if found is None else mean_and_spread(found.mean, found.std)


def _cost(name: str, runs: Sequence[RunRecord], records: Records) -> list[str]:
    summaries = [run.done for run in runs]
    before = [summary.teacher_seconds for summary in summaries]
    seconds = [summary.all_seconds for summary in summaries]
    speeds = [record.samples_per_second for seed in records for record in seed]
    epochs = sorted({summary.epochs for summary in summaries})
    return [
        name,
        str(len(runs)),
        ", ".join(map(str, epochs)),
        f"{fmean(seconds):.1f}",
        f"{fmean(before):.1f}" if any(before) else ABSENT,
        f"{sum(seconds) / 60:.1f}",
        f"{fmean(speeds):.0f}" if speeds else ABSENT,
        ", ".join(dict.fromkeys(map(device, runs))),
    ]


def device(run: RunRecord) -> str:
    """Return what a run was trained on."""
    return run.environment.accelerator or run.environment.device or "not recorded"
