"""Figure 3: t-SNE of each modality's test representations, joint training against D&R."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from drcli.errors import DataError
from drcli.report.embedding import embed_features
from drcli.report.figures.class_map import add_class_legend, draw_map, legend_height
from drcli.report.figures.wording import name_recipe
from drcli.report.style import GREY
from drcli.runs.collect import RunRecord, finished
from drcli.runs.outputs import StoredOutputs
from drcli.runs.wording import how_selected

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def figure(runs: Sequence[RunRecord]) -> Figure:
    """Return a map for each method (rows) and modality (columns), of the first seed that all methods share.

    Raises:
        DataError: no seed is finished for every method, or a run kept no test outputs.
    """
    from matplotlib.figure import Figure

    chosen = _of_one_seed([run for run in finished(runs) if run.modality is None])
    outputs = [_outputs(run) for run in chosen]
    modalities = list(chosen[0].recipe.modalities)
    class_names, width = outputs[0].classes.tolist(), 4.2 * len(modalities)
    height = 0.6 + 4.0 * len(chosen) + legend_height(class_names, width)
    out = Figure(figsize=(width, height), layout="constrained")
    selected = how_selected(run.done for run in chosen)
    title = f"{name_recipe(chosen)}: representations of the test split, seed {chosen[0].seed}\n{selected}"
    out.suptitle(title, fontsize=10, color=GREY, parse_math=False)
    grid = out.subplots(len(chosen), len(modalities), squeeze=False)
    for run, found, line in zip(chosen, outputs, grid, strict=True):
        for m, axes in zip(modalities, line, strict=True):
            rows, points = embed_features(torch.from_numpy(found.features[m].astype(np.float32)))
            draw_map(axes, points, found.labels[rows], len(found.labels))
            probe = run.done.unimodal[m].probe_accuracy
            axes.set_title(
                f"{run.label}: {m} (linear probe {100 * probe:.1f} %)", loc="left", fontsize=10, parse_math=False
            )
    add_class_legend(out, class_names)
    return out


def _of_one_seed(runs: Sequence[RunRecord]) -> list[RunRecord]:
    names = list(dict.fromkeys((run.recipe_name, run.name) for run in runs))
    for seed in sorted({run.seed for run in runs}):
        of_seed = [run for run in runs if run.seed == seed]
        if len(of_seed) == len(names):
            return of_seed
    raise DataError("figure of test representations: no seed is finished for every method; repeat the command")


def _outputs(run: RunRecord) -> StoredOutputs:
    found = run.outputs()
    if found is None:
        raise DataError(
            f"{run.folder}: no outputs of the test split, an older drcli trained it; train it again with --fresh"
        )
    return found
