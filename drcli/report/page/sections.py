"""The sections of the page that show figures, with the numbers behind them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from math import inf
from statistics import fmean
from typing import TYPE_CHECKING

from drcli.errors import UsageError
from drcli.registry import known
from drcli.report.drawing import Key, add_legend, heat_panel, panel
from drcli.report.figures import accuracy, confusion, learning_state, representations, sensitivity
from drcli.report.figures.accuracy import Records
from drcli.report.figures.learning import MONITORING
from drcli.report.figures.learning_state import Events, ModalityState, epochs_of, measured
from drcli.report.page.figure import Drawing
from drcli.report.page.markup import Html, element, folded, to_html
from drcli.report.render import TableText
from drcli.report.theme import Theme
from drcli.report.wording import JOINT, RELEARN, Methods, count_seeds
from drcli.runs.collect import RunRecord, by_name, by_recipe
from drcli.runs.comparison import Mean
from drcli.runs.records import names_of
from drcli.runs.wording import ABSENT, how_selected, mean_and_spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = Sequence[Html | Drawing]
"""Figures beside each other."""

MAP_HEIGHT = 3.2  # inches
SPLITS = {
    "val": "Validation {}.",
    "train": "Training {}, of the batches as they were trained on.",
    "test": "Test {}, scored while training; it selected nothing unless the table says so.",
}
MEASURES = {
    "purity_train": "train purity",
    "purity_val": "validation purity",
    "gap": "gap",
    "gap_permuted": "gap, permuted labels",
    "strength": "strength",
}
LEFT = {
    "after.purity_train": "train purity after",
    "after.purity_val": "validation purity after",
    "after.gap": "gap after",
}


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Attributes:
        title: its heading.
        intro: how to read it.
        content: tables, and rows of figures.
    """

    title: str
    intro: str
    content: Sequence[Html | Row]

    @property
    def drawings(self) -> list[Drawing]:
        """Its figures, in their order."""
        rows = [item for item in self.content if not isinstance(item, Html)]
        return [one for row in rows for one in row if isinstance(one, Drawing)]


def featured(methods: Methods, labels: Collection[str]) -> list[str]:
    """Return the methods that are shown in detail: those named, else joint and D&R, else the first two."""
    if labels:
        return [name for name, runs in methods.items() if runs[0].label in labels]
    found = [
        next((name for name, runs in methods.items() if runs[0].method == method), None) for method in (JOINT, RELEARN)
    ]
    return list(methods)[:2] if None in found else [name for name in found if name is not None]


def first_coloured(runs: Sequence[RunRecord], labels: Collection[str]) -> list[str]:
    """Return the methods of finished runs in the order in which figures give them their colours.

    Those shown in detail come first, then the best on validation: of several recipes the best of each, and so on.

    Args:
        runs: finished ones, of any recipes.
        labels: as in `featured`.
    """
    by_method = [by_name(group) for group in by_recipe(runs).values()]
    detailed = [name for methods in by_method for name in featured(methods, labels)]
    ranked = [_by_validation(methods) for methods in by_method]
    return [*detailed, *(name for names in zip_longest(*ranked) for name in names if name is not None)]


def _by_validation(methods: Methods) -> list[str]:
    return sorted(methods, key=lambda name: -_validated(methods[name]))


def _validated(runs: Sequence[RunRecord]) -> float:
    found = [run.task.first.merit(run.done.val.first) for run in runs if run.done.val is not None]
    return fmean(found) if found else -inf


def check_labels(runs: Iterable[RunRecord], labels: Collection[str]) -> None:
    """Refuse labels that no run has.

    Raises:
        UsageError: there are such labels.
    """
    there = dict.fromkeys(run.label for run in runs)
    for label in labels:
        if label not in there:
            raise UsageError(f"--maps {label}: no run has this label; {known(label, there)}")


def curves(recipe: str, records: Mapping[str, Records], theme: Theme) -> Section | None:
    """Return the section of learning curves, or None where no run logged an accuracy or MAE."""
    found = accuracy.data(records)
    drawings = [
        _accuracies(f"{recipe}-{split}-{found.kind.name.lower()}", found, split, theme)
        for split in SPLITS
        if found.curves[split]
    ]
    intro = "Mean over seeds; the band is one standard deviation on either side."
    return Section("Learning curves", intro, [drawings, folded(_last(found))]) if drawings else None


def _recipe(methods: Methods) -> str:
    return next(iter(methods.values()))[0].recipe_name


def _accuracies(name: str, found: accuracy.Accuracy, split: str, theme: Theme) -> Drawing:
    with theme.applied():
        figure, axes = panel()
        add_legend(figure, accuracy.draw(axes, found.curves[split], theme, found.kind), theme)
    return Drawing(name, figure, SPLITS[split].format(found.kind.name))


def _last(found: accuracy.Accuracy) -> TableText:
    """Put the ends of the curves into numbers: mean and deviation over the seeds that logged an accuracy."""
    kind = found.kind
    rows = [
        [name, *(_over_seeds(splits[split], scale=kind.scale, digits=kind.digits) for split in SPLITS)]
        for name, splits in found.last.items()
    ]
    columns = ("method", "validation", "training", "test")
    title = f"{kind.name[0].upper()}{kind.name[1:]} of the last epoch"
    unit = "Per cent; mean" if kind.unit else "Mean"
    return TableText(title, columns, rows, [f"{unit} ± standard deviation over seeds."])


def _over_seeds(values: Sequence[float], *, scale: float = 100, digits: int = 1) -> str:
    """Return mean and standard deviation of what each seed has, or that there is nothing."""
    if not values:
        return ABSENT
    found = Mean.of(values)
    return mean_and_spread(found.mean, found.std, scale=scale, digits=digits)


def learning(methods: Methods, shown: Sequence[str], theme: Theme) -> Section:
    """Return the section of purities, gaps and strengths.

    Args:
        methods: finished runs of one recipe.
        shown: methods whose purities are drawn, if they were diagnosed.
        theme: look of the methods.
    """
    events = learning_state.read_events(methods)
    states = learning_state.data(events)
    recipe = _recipe(methods)
    rows = [_panels(recipe, state, shown, theme) for state in states]
    intro = (
        "Purity of clusters of each modality's representations, on training and on validation; their difference is "
        "the gap, from which re-learning takes its strength. Mean over seeds; the band is one standard deviation on "
        "either side."
    )
    note = [element("p", text, class_="intro")] if (text := _undiagnosed(methods, events, shown)) else []
    content: list[Html | Row] = [*note, *rows, *map(folded, _event_tables(events))]
    return Section("Purity, gap and re-learning", intro if states else "", content)


def _undiagnosed(methods: Methods, events: Mapping[str, Events], shown: Sequence[str]) -> str:
    """Return which of the methods shown have no curve of purities, and what gives them one."""
    missing = [name for name in shown if name not in events and any(run.done.epochs for run in methods[name])]
    if not missing:
        return ""
    return f"No purities were measured of {' and '.join(missing)}: train with {MONITORING} to have them."


def _panels(recipe: str, state: ModalityState, shown: Sequence[str], theme: Theme) -> list[Drawing]:
    """Return the row of a modality: purities of the methods shown, gaps of all, strengths."""
    m, found = state.modality, []
    names = [name for name in shown if name in state.gaps]
    if names:
        caption = f"Purity of {m}: training solid, validation dashed; a vertical line is a re-learning event."
        keys = _state_panel(lambda axes: learning_state.draw_purity(axes, state, theme, names), theme)
        found.append(Drawing(f"{recipe}-{m}-purity", keys, caption))
    keys = _state_panel(lambda axes: learning_state.draw_gap(axes, state, theme), theme)
    found.append(Drawing(f"{recipe}-{m}-gap", keys, _gap_caption(state)))
    if state.strengths:
        keys = _state_panel(lambda axes: learning_state.draw_strength(axes, state, theme), theme)
        caption = f"Strength of re-learning of {m}; 0 keeps the encoder, 1 restores its initial weights."
        found.append(Drawing(f"{recipe}-{m}-strength", keys, caption))
    return found


def _gap_caption(state: ModalityState) -> str:
    events = [event for seen in state.relearned.values() for event in seen]
    measured_after = any(event.after is not None for event in events)
    parts = [f"Purity gap of {state.modality}."]
    parts += ["A triangle is a re-learning event."] if events and not measured_after else []
    parts += ["At a re-learning event it falls from the filled triangle to the hollow one."] if measured_after else []
    parts += ["The gap with permuted labels is that of chance."] if state.floor is not None else []
    return " ".join(parts)


def _state_panel(draw: Callable[[Axes], list[Key]], theme: Theme) -> Figure:
    with theme.applied():
        figure, axes = panel()
        add_legend(figure, draw(axes), theme)
    return figure


def _event_tables(events: Mapping[str, Events]) -> list[TableText]:
    """Put all re-learning events into numbers, and each method's last diagnosis where that is none of them."""
    relearned = {name: [learning_state.of_kind(seed) for seed in seeds] for name, seeds in events.items()}
    of_events = {name: epochs_of(seeds) for name, seeds in relearned.items()}
    last = {name: max(epochs_of(seeds)) for name, seeds in events.items()}
    of_others = {name: [epoch] for name, epoch in last.items() if epoch not in of_events[name]}
    everything = [event for seeds in relearned.values() for seed in seeds for event in seed]
    left = any(state.after is not None for event in everything for state in event.modalities.values())
    tables = [
        _event_table("Re-learning events", relearned, of_events, {**MEASURES, **(LEFT if left else {})}),
        _event_table("Last diagnosis", events, of_others, MEASURES),
    ]
    return [table for table in tables if table.rows]


def _event_table(
    title: str, events: Mapping[str, Events], epochs: Mapping[str, Sequence[int]], measures: Mapping[str, str]
) -> TableText:
    """Put the diagnoses of each method's epochs into numbers, mean over the seeds that had one."""
    rows = [
        [name, str(epoch), m, *(_at_epoch(events[name], epoch, m, key) for key in measures)]
        for name, chosen in epochs.items()
        for epoch in chosen
        for m in names_of([event for seed in events[name] for event in seed])
    ]
    notes = ["Fractions; mean ± standard deviation over seeds."]
    notes += ["after: measured again right after the weights were pulled back."] if set(LEFT) & set(measures) else []
    return TableText(title, ("method", "epoch", "modality", *measures.values()), rows, notes)


def _at_epoch(events: Events, epoch: int, modality: str, key: str) -> str:
    values = [seen[epoch] for seed in events if epoch in (seen := measured(seed, modality, key))]
    return _over_seeds(values, scale=1, digits=3)


def maps(methods: Methods, shown: Sequence[str], theme: Theme) -> Section | None:
    """Return the section of maps, or None where none of the methods shown kept its outputs.

    Each method has a row, and each modality a column.
    """
    found = {name: representations.row_of(methods[name][0], theme.map_rows) for name in shown}
    rows = [_map_row(name, row, theme) for name, row in found.items() if row is not None]
    intro = (
        f"t-SNE of at most {theme.map_rows} rows of the test split, each dimension scaled to [-1, 1]. Colour, marker "
        "and number are the true class. Distances between groups mean little; look at how well classes are separated."
    )
    return Section("Maps of representations", intro, rows) if rows else None


def number_of_maps(methods: Methods, shown: Sequence[str]) -> int:
    """Return how many maps these methods would have; each takes most of a second."""
    return sum(len(methods[name][0].modalities) for name in shown)


def _map_row(name: str, row: representations.Row, theme: Theme) -> Row:
    return [_map(name, row, m, found, theme) for m, found in row.maps.items()]


def _map(
    name: str, row: representations.Row, modality: str, found: representations.Map | None, theme: Theme
) -> Html | Drawing:
    """Return the map, or a line where there can be none: what diverged is not finite."""
    what = f"{name}, seed {row.run.seed}: representations of {modality}"
    if found is None:
        return element("p", f"{what}. Not every number of them is finite; there is no map.", class_="intro")
    with theme.applied():
        figure, axes = panel(MAP_HEIGHT, left=0.14, bottom=0.14)
        representations.draw_map(axes, found, theme)
        axes.set(xlabel="", ylabel="")
        representations.add_class_legend(figure, row.classes, theme)
    drawn = f"; {found.shown}" if len(found.points) < found.rows else ""
    caption = f"{what} (linear probe {row.probe(modality)}){drawn}; epochs {how_selected([row.run.done])}."
    return Drawing(f"{row.run.recipe_name}-{name}-{modality}-map", figure, caption)


def confusions(methods: Methods, shown: Sequence[str], theme: Theme) -> Section | None:
    """Return the section of confusion matrices, or None where none of the methods shown kept its outputs."""
    found = confusion.data(methods, shown)
    intro = "Rows are true classes, columns predicted ones, in per cent of the true class; summed over seeds."
    drawings = [_matrix(matrix, theme) for matrix in found]
    tables = [folded(_matrix_table(matrix)) for matrix in found]
    return Section("Confusion matrices", intro, [drawings, *tables]) if found else None


def _matrix(of: confusion.Matrix, theme: Theme) -> Drawing:
    with theme.applied():
        figure, axes = heat_panel((of.ticks, of.ticks))
        confusion.draw(axes, of, theme)
    selected = how_selected(run.done for run in of.runs)
    caption = f"{of.name}: confusion matrix, {count_seeds([len(of.runs)])}; epochs {selected}."
    return Drawing(f"{of.runs[0].recipe_name}-{of.name}-confusion", figure, caption)


def _matrix_table(of: confusion.Matrix) -> TableText:
    """The matrix, or where it is too wide for a table the share of each class that is predicted right."""
    named = len(of.classes) <= confusion.MOST_NAMED
    columns, cells = (of.classes, of.shares) if named else (["right"], of.shares.diagonal()[:, None])
    rows = [[label, *row] for label, row in zip(of.classes, confusion.per_cent(cells), strict=True)]
    return TableText(f"Confusion matrix of {of.name}", ["true class", *columns], rows)


def sensitivities(runs: Sequence[RunRecord], theme: Theme) -> Section | None:
    """Return the section of sensitivity, or None where no runs differ in lambda and every alone."""
    grids = [grid for grid in sensitivity.data(runs) if len(grid.accuracies) > 1]
    content: list[Html | Row] = []
    for grid in grids:
        content += [[_heat_map(grid, theme)], to_html(_grid_table(grid))]
    intro = (
        "Mean test accuracy in per cent of runs that differ only in lambda, the slope from gap to strength, and in "
        "every, the epochs between two events. To choose among them by these numbers would be selection on test."
    )
    return Section("Sensitivity", intro, content) if content else None


def _heat_map(grid: sensitivity.Grid, theme: Theme) -> Drawing:
    ticks = [f"{value:g}" for value in grid.lambdas], [f"{every:g}" for every in grid.everies]
    with theme.applied():
        figure, axes = heat_panel(ticks)
        sensitivity.draw_grid(axes, grid, theme)
    beside = f"; colour and brackets: minus {grid.reference}, in points" if grid.base else ""
    selected = how_selected(run.done for run in grid.runs)
    caption = f"{grid.name}: mean test accuracy over lambda and every{beside}; epochs {selected}."
    return Drawing(f"{grid.runs[0].dataset}-sensitivity", figure, caption)


def _grid_table(grid: sensitivity.Grid) -> TableText:
    rows = [
        [f"{value:g}", f"{every:g}", str(len(seeds)), sensitivity.text_of(seeds)]
        for (value, every), seeds in sorted(grid.accuracies.items())
    ]
    notes = [f"Mean ± standard deviation over seeds; epochs {how_selected(run.done for run in grid.runs)}."]
    columns = (*sensitivity.VARIED, "seeds", "accuracy")
    return TableText(f"{grid.name}: accuracy by lambda and every", columns, rows, notes)
