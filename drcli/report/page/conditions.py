"""The section of the page on scores without modalities and under noise: tables, and curves over their strength."""

from __future__ import annotations

from drcli.report.conditions import Panel, condition_tables, panels, read_conditions
from drcli.report.drawing import Curve, add_legend, draw_curve
from drcli.report.drawing import panel as panel_of
from drcli.report.page.figure import Drawing
from drcli.report.page.markup import Html, to_html
from drcli.report.page.sections import Row, Section
from drcli.report.theme import Theme
from drcli.report.wording import Methods
from drcli.runs.comparison import Mean

INTRO = (
    "Scores of the same weights on the test split where modalities are absent, or their inputs have noise; nothing "
    "was trained for it unless the method does. Measured by drcli eval."
)
AXES = {"missing": "share of samples that lack {}", "noise": "signal-to-noise ratio of {} (dB)"}


def conditions(methods: Methods, theme: Theme) -> Section | None:
    """Return the section of a recipe's finished runs, or None where no run was evaluated in that way."""
    found = read_conditions(methods)
    curves = [panel for panel in panels(found) if panel.kind in AXES]
    recipe = next(iter(methods.values()))[0].recipe_name
    content: list[Html | Row] = [to_html(table) for table in condition_tables(found)]
    content += [[_drawing(recipe, panel, theme) for panel in curves]] if curves else []
    return Section("Without modalities, and under noise", INTRO, content) if content else None


def _drawing(recipe: str, panel: Panel, theme: Theme) -> Drawing:
    with theme.applied():
        figure, axes = panel_of()
        drawn = {name: strength_curve(panel, name) for name in panel.methods}
        keys = [(draw_curve(axes, one, theme.look(name), "-", theme), name) for name, one in drawn.items()]
        axes.set(xlabel=AXES[panel.kind].format(panel.modality), ylabel=panel.kind_of_score.axis)
        add_legend(figure, keys, theme)
    what = "White noise on the inputs of" if panel.kind == "noise" else "Samples without"
    seeds = "; the band is one standard deviation over seeds" if panel.most_seeds > 1 else ""
    return Drawing(
        f"{recipe}-{panel.kind}-{panel.modality}",
        figure,
        f"{what} {panel.modality}: test {panel.kind_of_score.name}{seeds}.",
    )


def strength_curve(panel: Panel, method: str) -> Curve:
    """Return the accuracy in per cent, or the MAE, over the share of samples, from 0, or over the ratio in dB."""
    measured, scale = {float(name): panel.scores(method, name) for name in panel.conditions}, panel.kind_of_score.scale
    if panel.kind == "missing" and panel.clean[method]:
        measured[0.0] = list(panel.clean[method])
    points = [(x, Mean.of(values)) for x, values in sorted(measured.items()) if values]
    return Curve(
        [x for x, _ in points],
        [scale * mean.mean for _, mean in points],
        [scale * (mean.std or 0.0) for _, mean in points],
    )
