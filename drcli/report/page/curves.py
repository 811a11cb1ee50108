"""Learning curves: accuracy over epochs by method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from drcli.report.page.drawing import Drawing, add_legend, line_look, panel, style
from drcli.report.page.section import Methods, Section
from drcli.report.page.series import curve, draw_curve
from drcli.report.page.table import folded, over_seeds
from drcli.report.render import TableText
from drcli.runs.records import EpochRecord, accuracies

Records = Mapping[str, Sequence[Sequence[EpochRecord]]]
"""Lines of metrics.jsonl by name of the method, by seed."""

SPLITS = {
    "val": "Validation accuracy.",
    "train": "Training accuracy, of the batches as they were trained on.",
    "test": "Test accuracy, watched while training; it selected nothing unless the table says so.",
}


def curves(methods: Methods) -> Section | None:
    """Return the section, or None where no run logged an accuracy."""
    records = {name: [run.epochs() for run in runs] for name, runs in methods.items()}
    recipe = next(iter(methods.values()))[0].recipe_name
    drawings = [drawing for split in SPLITS if (drawing := _accuracy(recipe, split, records)) is not None]
    intro = "Mean over seeds; the band is one standard deviation."
    return Section("Learning curves", intro, [*drawings, folded(_last(records))]) if drawings else None


def _accuracy(recipe: str, split: str, records: Records) -> Drawing | None:
    found = [
        (place, name, drawn)
        for place, (name, seeds) in enumerate(records.items())
        if (drawn := curve(accuracies(seed, split) for seed in seeds)) is not None
    ]
    if not found:
        return None
    with style():
        figure, axes = panel()
        lines = [draw_curve(axes, drawn, **line_look(place)) for place, _, drawn in found]
        axes.set(xlabel="epoch", ylabel="accuracy")
        axes.margins(x=0.01)
        add_legend(figure, axes, lines, [name for _, name, _ in found])
    return Drawing(f"{recipe}-{split}-accuracy", figure, SPLITS[split])


def _last(records: Records) -> TableText:
    """Put the ends of the curves into numbers: mean and deviation over the seeds that logged an accuracy."""
    rows = [[name, *(_at_the_end(seeds, split) for split in SPLITS)] for name, seeds in records.items()]
    columns = ("method", "validation", "training", "test")
    return TableText(
        "Accuracy of the last epoch", columns, rows, ["Fractions; mean and standard deviation over seeds."]
    )


def _at_the_end(seeds: Sequence[Sequence[EpochRecord]], split: str) -> str:
    found = [accuracies(seed[-1:], split) for seed in seeds]
    values = [value for of_one in found for value in of_one.values()]
    return over_seeds(values, 3)
