"""What is valid alone and not together: training settings, fusion and modalities, methods and the rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from drcli.names import BACKBONES, FUSIONS, METHODS, TEACHERS
from drcli.recipe.overrides import split_path
from drcli.recipe.problems import ABSENT, Problem
from drcli.recipe.schema import Cosine, Recipe, Sgd, Training

GRAPHS = "reduce-overhead"


def conflicts(recipe: Recipe, labels: Sequence[str]) -> Iterator[Problem]:
    """Yield values that are valid alone and not together.

    Args:
        recipe: its blocks are valid, each by itself.
        labels: the methods that are checked against the rest.
    """
    data = recipe.to_dict()
    for path, message in [
        *_of_training(recipe.training),
        *_of_fusion(recipe, labels),
        *_of_methods(recipe, labels),
    ]:
        key = split_path(data, path)
        value: Any = data
        for part in key:
            value = value.get(part, ABSENT) if isinstance(value, dict) else ABSENT
        yield Problem(key, message, value)


def _of_training(training: Training) -> Iterator[tuple[str, str]]:
    optimizer, schedule = training.optimizer, training.schedule
    if isinstance(optimizer, Sgd) and optimizer.nesterov and optimizer.momentum == 0:
        yield "training.optimizer.nesterov", "needs momentum greater than 0"
    if isinstance(schedule, Cosine) and schedule.warmup_epochs >= training.epochs:
        yield "training.schedule.warmup_epochs", f"must be less than training.epochs, {training.epochs}"
    if training.accumulate > 1 and training.batch_size < 2 * training.accumulate:
        yield (
            "training.accumulate",
            "must leave parts of two rows or more: at most batch_size / 2",
        )
    if training.compile == GRAPHS and training.accumulate > 1:
        yield "training.compile", "CUDA graphs write each part's gradients over the last one's; use default"


def _of_fusion(recipe: Recipe, labels: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Check the fusion against the encoders, unless every method trains them one by one."""
    fusion = FUSIONS.load(recipe.fusion.name)
    if labels and all(METHODS.load(recipe.methods[label].method).per_modality for label in labels):
        return
    if not _within(len(recipe.modalities), fusion.num_modalities):
        yield "fusion.name", f"takes {_range(fusion.num_modalities)}, the recipe has {len(recipe.modalities)}"
        return
    if recipe.training.compile == GRAPHS and not fusion.graphs:
        yield "training.compile", f"CUDA graphs overwrite the averages that {recipe.fusion.name} keeps; use default"
    encoders = {m: BACKBONES.load(block.backbone).sketch(block.settings) for m, block in recipe.modalities.items()}
    if None not in encoders.values():  # building the model will tell of a backbone that gives no sketch
        yield from fusion.check(recipe.fusion.settings, encoders)


def _of_methods(recipe: Recipe, labels: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Check methods against the recipe of their run: modalities, what the fusion provides, and their own `check`."""
    fusion = recipe.fusion
    provided = FUSIONS.load(fusion.name).provides | {TEACHERS}
    for label in labels:
        block = recipe.methods[label]
        method = METHODS.load(block.method)
        key = f"methods.{label}"
        if not _within(len(recipe.modalities), method.num_modalities):
            yield key, f"{block.method} takes {_range(method.num_modalities)}, the recipe has {len(recipe.modalities)}"
        for needed in sorted(method.requires - provided):
            able = [name for name in FUSIONS.names() if needed in FUSIONS.load(name).provides]
            yield key, f"{block.method} needs a fusion with {needed}: fusion={' or '.join(able)}, not {fusion.name}"
        yield from method.check(recipe.for_run(label, recipe.seeds[0]))


def _within(count: int, bounds: tuple[int, int | None]) -> bool:
    low, high = bounds
    return low <= count and (high is None or count <= high)


def _range(bounds: tuple[int, int | None]) -> str:
    low, high = bounds
    if high is None:
        return f"{low} modalities or more"
    return f"{low} modalities" if low == high else f"{low} to {high} modalities"
