"""Figure 1: what each method changes against the reference, and what it leaves of each encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from drcli.errors import DataError
from drcli.report.drawing import Key, merged, name_keys, sample, shortened
from drcli.report.theme import BACKGROUND, FAINT, MUTED, OTHER, Theme
from drcli.report.wording import count_seeds, name_recipe
from drcli.runs.collect import RunRecord, by_name, by_recipe, finished
from drcli.runs.comparison import Mean, Row, compare, find_reference
from drcli.runs.wording import how_selected, score_and_spread
from drcli.task import CLASSIFICATION, Kind

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZES = (50.0, 320.0)  # areas of the worst and the best method, in points squared


@dataclass(frozen=True)
class Comparison:
    """The methods of one recipe that use all modalities.

    Attributes:
        title: recipe and number of seeds.
        reference: name that differences are to; None where there is none.
        rows: the methods.
        probed: the two modalities with probes that are drawn; none where no method has two.
        alone: score of the probe of an encoder that was trained alone, by modality.
        selected: how epochs were selected.
    """

    title: str
    reference: str | None
    rows: Sequence[Row]
    probed: Sequence[str]
    alone: dict[str, Mean]
    selected: str

    @property
    def kind(self) -> Kind:
        """The score that is compared."""
        return next((row.task.first for row in self.rows), CLASSIFICATION.first)

    @property
    def unit(self) -> str:
        """Of differences, in words."""
        return "points" if self.kind.more_is_better else "below 0 is better"

    @property
    def compared(self) -> list[Row]:
        """The methods with a difference to the reference."""
        return [row for row in self.rows if row.difference is not None]


def data(runs: Sequence[RunRecord], reference: str | None = None) -> Comparison:
    """Return the comparison of one recipe's finished runs, of which at least one is on all modalities.

    Args:
        runs: of one recipe.
        reference: label that differences are to; None for joint training.
    """
    done = finished(runs)
    rows = compare(done, reference)
    shown = [row for row in rows if row.modality is None]
    probes = next((list(row.probes) for row in shown if len(row.probes) > 1), [])
    alone = {m: row.probes[m] for row in rows if (m := row.modality) is not None and m in row.probes}
    return Comparison(
        f"{name_recipe(done)}, {count_seeds([row.n for row in shown or rows])}",
        find_reference(by_name(done), reference),
        shown,
        probes[:2],
        alone,
        how_selected(run.done for run in done if run.modality is None),
    )


def data_by_recipe(runs: Sequence[RunRecord]) -> list[Comparison]:
    """Return the comparisons of the recipes that have joint training, and another method with probes of two modalities.

    Raises:
        DataError: there is none.
    """
    found = [data(group) for group in by_recipe(finished(runs)).values()]
    found = [one for one in found if one.probed and one.compared]
    if not found:
        raise DataError("figure of the noisy case: it needs finished runs of joint training and of another method")
    return found


def draw(figure: Figure, found: Sequence[Comparison], theme: Theme) -> None:
    """Draw a row of two panels for each recipe: differences, and probes; see `draw_differences`, `draw_probes`."""
    figure.set_size_inches(10, 4.4 * len(found))
    grid = figure.subplots(len(found), 2, squeeze=False)
    selected = "; ".join(dict.fromkeys(one.selected for one in found))
    spreads = "left: mean and its 95 % interval; right: mean ± standard deviation over seeds"
    figure.suptitle(f"Test scores of epochs {selected}\n{spreads}", fontsize=10, color=MUTED)
    for one, (left, right) in zip(found, grid, strict=True):
        draw_differences(left, one, theme)
        keys = draw_probes(right, one, theme)
        left.set_title(one.title, loc="left", fontsize=11, fontweight="bold")
        _legend_beside(right, keys, theme, one.kind)


def draw_differences(axes: Axes, found: Comparison, theme: Theme) -> None:
    """Draw each method's mean difference in test accuracy to the reference, and its 95 % interval of Student's t."""
    axes.axvline(0, color=MUTED, linewidth=1)
    kind, scale = found.kind, found.kind.scale
    for place, row in enumerate(found.compared):
        colour, marker = theme.look(row.name)
        assert row.difference is not None
        if row.difference.t95 is not None:
            low, high = row.difference.t95
            axes.hlines(place, scale * low, scale * high, colors=colour, linewidth=2)
        axes.plot(scale * row.difference.mean, place, marker, color=colour, markersize=theme.marker_size + 2)
    names = [shortened(row.name) for row in found.compared]
    axes.set_yticks(range(len(names)), names)
    axes.set(ylim=(max(len(names), 2) - 0.5, -0.5), xlabel=f"{kind.name} minus {found.reference} ({found.unit})")
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")


def draw_probes(axes: Axes, found: Comparison, theme: Theme) -> list[Key]:
    """Draw linear-probe accuracies, or MAEs, of two modalities, the area of a point by that of the whole model.

    Crosses are one standard deviation over seeds; dashed lines are the probes of encoders trained alone.

    Returns:
        The lines of a legend, with each method's score.
    """
    first, second = found.probed
    points = [row for row in found.rows if first in row.probes and second in row.probes]
    keys: list[Key] = []
    kind, scale = found.kind, found.kind.scale
    for row, area in zip(points, areas([kind.merit(row.score.mean) for row in points]), strict=True):
        look, x, y = theme.look(row.name), row.probes[first], row.probes[second]
        if look != OTHER:
            _cross(axes, x, y, look.colour, scale)
        axes.scatter(
            scale * x.mean,
            scale * y.mean,
            s=area,
            color=look.colour,
            marker=look.marker,
            edgecolors=BACKGROUND,
            lw=0.5,
            **({"zorder": 2.5, "alpha": FAINT} if look == OTHER else {"zorder": 3}),
        )
        shown = score_and_spread(row.score.mean, row.score.std, kind=kind)
        keys.append((sample(theme, look), f"{shortened(row.name)}: {shown}"))
    lines = [line(scale * found.alone[m].mean, color=MUTED, linestyle="--", linewidth=1) for m, line in
             ((first, axes.axvline), (second, axes.axhline)) if m in found.alone]  # fmt: skip
    axes.margins(0.18)
    unit = f" ({kind.unit or kind.name})"
    axes.set(xlabel=f"linear probe of {first}{unit}", ylabel=f"linear probe of {second}{unit}")
    return [*keys, *((line, "encoder trained alone") for line in lines[:1])]


def areas(merits: Sequence[float]) -> list[float]:
    """Return areas in points squared, from the worst score to the best; the greatest is the best."""
    low, high = min(merits), max(merits)
    shares = [(value - low) / (high - low) if high > low else 1.0 for value in merits]
    return [SIZES[0] + share * (SIZES[1] - SIZES[0]) for share in shares]


def _cross(axes: Axes, x: Mean, y: Mean, colour: str, scale: float) -> None:
    """Draw one standard deviation on either side, of more than one seed."""
    if x.std is not None and y.std is not None:
        place, reach = (scale * x.mean, scale * y.mean), (scale * x.std, scale * y.std)
        axes.hlines(place[1], place[0] - reach[0], place[0] + reach[0], colors=colour, linewidth=1)
        axes.vlines(place[0], place[1] - reach[1], place[1] + reach[1], colors=colour, linewidth=1)


def _legend_beside(axes: Axes, keys: Sequence[Key], theme: Theme, kind: Kind) -> None:
    """Name the methods beside the panel: written at the points, names of near ones would cover each other."""
    keys = merged(keys)
    legend = axes.legend(
        [handle for handle, _ in keys],
        ["-"] * len(keys),
        title=f"multimodal {kind.axis},\nalso the area of a point",
        loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
        fontsize=theme.legend_size,
        title_fontsize=theme.legend_size,
        frameon=False,
    )
    name_keys(legend, [name for _, name in keys])
