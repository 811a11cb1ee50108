"""Figure 4: accuracy, purities and their gap over epochs, joint training and D&R."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from drcli.errors import DataError
from drcli.report.drawing import Key, add_legend
from drcli.report.figures import accuracy, learning_state
from drcli.report.figures.accuracy import Accuracy
from drcli.report.figures.learning_state import ModalityState
from drcli.report.theme import BAND, MUTED, Theme
from drcli.report.wording import count_seeds, name_recipe
from drcli.runs.collect import RunRecord, by_name, finished

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MONITORING = "diagnosis.monitor_every=2"
"""The setting with which every method has purities."""


@dataclass(frozen=True)
class Learning:
    """The curves of one recipe's runs.

    Attributes:
        title: recipe and number of seeds.
        accuracy: over epochs.
        second: split below validation: test where every run scored it after each epoch, else train.
        second_title: what is said of it.
        states: of the modalities.
        spread: whether there is a band, of several seeds.
    """

    title: str
    accuracy: Accuracy
    second: str
    second_title: str
    states: Sequence[ModalityState]
    spread: bool


def data(runs: Sequence[RunRecord]) -> Learning:
    """Return the curves of the finished runs of one recipe.

    Raises:
        DataError: no run recorded purities (`diagnosis.monitor_every`).
    """
    multimodal = [run for run in finished(runs) if run.modality is None]
    methods = by_name(multimodal)
    states = learning_state.data(learning_state.read_events(methods))
    if not states:
        raise DataError(f"figure of learning: no finished run recorded purities; train with {MONITORING}")
    found = accuracy.data(accuracy.read_epochs(methods))
    tested = all(name in found.curves["test"] for name in methods)
    counts = [len(group) for group in methods.values()]
    return Learning(
        f"{name_recipe(multimodal)}, mean over {count_seeds(counts)}",
        found,
        "test" if tested else "train",
        _test_title(multimodal) if tested else "training accuracy",
        states,
        max(counts) > 1,
    )


def _test_title(runs: Sequence[RunRecord]) -> str:
    on_test = any(run.recipe.selection == "test" for run in runs)
    return "test accuracy (epochs selected on it)" if on_test else "test accuracy (selects nothing)"


def draw(figure: Figure, found: Learning, theme: Theme) -> None:
    """Draw accuracies in the first column, and in each other one the purities and the gap of a modality.

    Solid lines are of train, and of what has no split; dashed ones of validation; vertical ones re-learning events.
    """
    count = 1 + len(found.states)
    figure.set_size_inches(3.5 * count, 6.6)
    figure.suptitle(found.title, fontsize=11, color=MUTED)
    first, *others = _panels(figure, count)
    keys = _draw_accuracies(first, found, theme)
    for (above, below), state in zip(others, found.states, strict=True):
        keys += learning_state.draw_purity(above, state, theme)
        keys += learning_state.draw_gap(below, state, theme)
        above.set_title(f"{state.modality}: purity", loc="left", fontsize=11)
        below.set_title(f"{state.modality}: purity gap", loc="left", fontsize=11)
    keys += [(_band(), "band: ± standard deviation")] if found.spread else []
    first_of_name: dict[str, Key] = {}
    for key in keys:
        first_of_name.setdefault(key[1], key)
    add_legend(figure, list(first_of_name.values()), theme)


def _draw_accuracies(panels: Sequence[Axes], found: Learning, theme: Theme) -> list[Key]:
    keys: list[Key] = []
    titles = {"val": "validation accuracy", found.second: found.second_title}
    for axes, (split, title) in zip(panels, titles.items(), strict=True):
        keys += accuracy.draw(axes, found.accuracy.curves[split], theme)
        events = {name: [e.epoch for e in seen] for name, seen in found.states[0].relearned.items()}
        keys += learning_state.mark_events(axes, events, theme)
        axes.set_title(title, loc="left", fontsize=11)
    return keys


def _panels(figure: Figure, count: int) -> list[tuple[Axes, Axes]]:
    """Return columns of two panels: accuracies share their vertical axis, and so does each row of the modalities."""
    grid = figure.subplots(2, count, sharex=True)
    grid[1, 0].sharey(grid[0, 0])
    for row in grid:
        for axes in row[2:]:
            axes.sharey(row[1])
    for axes in grid.flat:
        axes.tick_params(labelbottom=True)
    return list(zip(*grid, strict=True))


def _band() -> Artist:
    from matplotlib.patches import Patch

    return Patch(color=MUTED, **BAND)
