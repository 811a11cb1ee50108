"""The results of a recipe: its comparison table, and the differences to joint training as a picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from drcli.report.page.drawing import FOREGROUND, MUTED, SERIES, Drawing, panel, shortened, style
from drcli.report.page.section import Section
from drcli.report.page.table import to_html
from drcli.report.tables import comparison_table
from drcli.runs.collect import RunRecord
from drcli.runs.comparison import Row, compare
from drcli.runs.wording import how_selected

LINE_HEIGHT = 0.24  # inches a method


def results(runs: Sequence[RunRecord]) -> Section:
    """Return the section of one recipe's finished runs, of which there is at least one."""
    different = [row for row in compare(runs) if row.difference is not None and row.modality is None]
    selected = how_selected(run.done for run in runs if run.modality is None and run.summary)
    drawings = [_differences(runs[0].recipe_name, different, selected)] if different else []
    return Section(
        "Results",
        "Scores of the test split; the seed is the unit of every mean, deviation and interval. "
        "A heading sorts its column.",
        [to_html(comparison_table(runs)), *drawings],
    )


def _differences(recipe: str, rows: Sequence[Row], selected: str) -> Drawing:
    """Draw each method's mean difference to joint training with its interval of Student's t."""
    names = [shortened(row.name) for row in rows]
    with style():
        figure, axes = panel(0.3 + LINE_HEIGHT * len(rows), left=0.25 + 0.075 * max(map(len, names)))
        axes.axvline(0, color=MUTED, linewidth=1)
        for place, row in enumerate(rows):
            assert row.difference is not None
            mean, limits = 100 * row.difference.mean, row.difference.t95
            if limits is not None:
                axes.hlines(place, 100 * limits[0], 100 * limits[1], colors=SERIES[0], linewidth=2)
            axes.plot(mean, place, "o", color=SERIES[0], markersize=5)
        axes.set_yticks(np.arange(len(rows)), names)
        axes.set(ylim=(len(rows) - 0.5, -0.5), xlabel="minus joint (points)")
        axes.tick_params(axis="y", length=0, labelcolor=FOREGROUND)
        axes.grid(visible=False, axis="y")
    caption = (
        "Accuracy minus that of joint training, in percentage points, paired by seed: mean and 95 % interval; "
        f"{selected}."
    )
    return Drawing(f"{recipe}-difference", figure, caption)
