"""What of a recipe is valid alone and does not fit together, found before any data is read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from drcli.amounts import counted
from drcli.errors import UsageError
from drcli.names import BACKBONES, DATASETS, FUSIONS, METHODS, TEACHERS
from drcli.recipe.problems import ABSENT, Problem
from drcli.recipe.schema import RELEARN, Recipe, Training
from drcli.recipe.source import split_path
from drcli.recipe.training import Cosine, Linear, Sgd
from drcli.relearning.settings import StrengthSettings, unfit_slopes

GRAPHS = "reduce-overhead"


def conflicts(recipe: Recipe, labels: Sequence[str]) -> Iterator[Problem]:
    """Yield values that are valid alone and not together.

    Args:
        recipe: its blocks are valid, each by itself.
        labels: the methods that are checked against the rest.
    """
    data = recipe.to_dict()
    for path, message in [
        *_of_task(recipe, labels),
        *_of_training(recipe.training),
        *_of_rates(recipe, recipe.training),
        *_of_pairs(recipe),
        *_of_own_training(recipe, labels),
        *_of_backbones(recipe),
        *_of_weights(recipe),
        *_of_parts(recipe),
        *_of_fusion(recipe, labels),
        *_of_methods(recipe, labels),
    ]:
        key = split_path(data, path)
        value: Any = data
        for part in key:
            value = value.get(part, ABSENT) if isinstance(value, dict) else ABSENT
        yield Problem(key, message, value)


def _of_task(recipe: Recipe, labels: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Check that data, loss, diagnoses and methods are for what the recipe predicts."""
    held = DATASETS.load(recipe.dataset.name).task(recipe.dataset.prepare)
    if held != recipe.task:
        has = "a real value" if held == "regression" else "classes"
        wrong = f"dataset {recipe.dataset.name} holds {has} with this dataset.prepare: set task: {held}"
        yield "task", f"{wrong}, or prepare another target (cmu_mosi has target: score, and nonneg, pos and seven)"
    if recipe.task == "classification":
        if recipe.loss is not None:
            yield "loss", "belongs to task: regression; leave it out"
        return
    if recipe.diagnosis.monitor_every > 0:
        yield (
            "diagnosis.monitor_every",
            "purity compares clusters with classes, and task: regression has none; set it to 0",
        )
    for label in labels:
        block = recipe.methods[label]
        if recipe.task not in METHODS.load(block.method).tasks:
            able = ", ".join(name for name in METHODS.names() if recipe.task in METHODS.load(name).tasks)
            yield (
                f"methods.{label}",
                f"{block.method} needs classes, and task: regression has none; choose one of {able}",
            )
        elif block.relearn is not None:
            yield f"methods.{label}.{RELEARN}", "purity compares clusters with classes, and task: regression has none"


def _of_pairs(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """What a dataset's setting `pool` shows; of others, the prepared dataset tells whether it has rows to pair."""
    if recipe.training.pairs == "each_epoch" and getattr(recipe.dataset.prepare, "pool", None) == 0:
        yield "training.pairs", "needs rows to pair: dataset.prepare.pool must be null or greater than 0"


def _of_training(training: Training) -> Iterator[tuple[str, str]]:
    optimizer, schedule = training.optimizer, training.schedule
    if isinstance(optimizer, Sgd) and optimizer.nesterov and optimizer.momentum == 0:
        yield "training.optimizer.nesterov", "needs momentum greater than 0"
    if isinstance(schedule, Cosine) and schedule.warmup_epochs >= training.epochs:
        yield "training.schedule.warmup_epochs", f"must be less than training.epochs, {training.epochs}"
    if isinstance(schedule, Linear | Cosine) and schedule.warmup >= training.epochs:
        yield "training.schedule.warmup", f"must be less than training.epochs, {training.epochs}"
    if isinstance(schedule, Cosine) and schedule.warmup and schedule.warmup_epochs:
        yield (
            "training.schedule.warmup_epochs",
            "leave it out: warmup says how long the warm-up is",
        )
    if training.accumulate > 1 and training.batch_size < 2 * training.accumulate:
        yield (
            "training.accumulate",
            "must leave parts of two rows or more: at most batch_size / 2",
        )
    if training.compile == GRAPHS and training.accumulate > 1:
        yield "training.compile", "CUDA graphs write each part's gradients over the last one's; use default"


def _of_rates(recipe: Recipe, training: Training) -> Iterator[tuple[str, str]]:
    """Check that learning rates are of parts of the model."""
    parts = recipe.part_rates()
    if any(part not in parts for part in training.rates):
        yield "training.rates", f"must name parts of the model: {', '.join(parts)}"


def _of_own_training(recipe: Recipe, labels: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Check methods that are trained otherwise than the recipe says for all."""
    for label in labels:
        found = recipe.methods[label].training
        problems = () if found is None else (*_of_training(found), *_of_rates(recipe, found))
        yield from ((f"methods.{label}.{path}", message) for path, message in problems)


def _of_backbones(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Check what the settings of a backbone name beside the recipe: packages, models, classes."""
    for m, block in recipe.modalities.items():
        try:
            problems = list(BACKBONES.load(block.backbone).check(block.settings))
        except UsageError as error:  # a package is not installed
            problems = [("backbone", str(error))]
        yield from ((f"modalities.{m}.{key}", message) for key, message in problems)


def _of_weights(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Check weights that a recipe names against the backbone; files are looked at once they are needed."""
    for m, block in recipe.modalities.items():
        problem = block.input.weights and BACKBONES.load(block.backbone).check_weights(block)
        if problem:
            yield f"modalities.{m}.weights", problem


def _of_parts(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Check how encoders are trained against the backbones, and against what compiles them."""
    for m, block in recipe.modalities.items():
        if block.training.checkpointing and recipe.training.compile != "off":
            yield f"modalities.{m}.checkpointing", "torch.compile decides itself what is computed again; leave it out"
        problem = block.training.lora and BACKBONES.load(block.backbone).check_lora(block)
        if problem:
            yield f"modalities.{m}.lora", problem


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
    encoders = sketches(recipe)
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
        yield from _of_slopes(recipe, label)
        if block.relearn is not None and (reason := unfit_for_relearning(method)):
            yield f"{key}.{RELEARN}", f"{block.method} {reason}; leave it out"
        yield from method.check(recipe.for_run(label, recipe.seeds[0]))


def _of_slopes(recipe: Recipe, label: str) -> Iterator[tuple[str, str]]:
    """Check slopes of re-learning that are given by modality."""
    block = recipe.methods[label]
    places = {f"methods.{label}.lambda": block.settings, f"methods.{label}.{RELEARN}.lambda": block.relearn}
    for key, settings in places.items():
        if isinstance(settings, StrengthSettings) and (problem := unfit_slopes(settings.lambda_, recipe.modalities)):
            yield key, problem


def sketches(recipe: Recipe) -> dict[str, Any]:
    """Return an encoder of each modality, {m: module}, that shows its weights and widths; None where it shows none."""
    return {m: BACKBONES.load(block.backbone).sketch(block.settings) for m, block in recipe.modalities.items()}


def unfit_for_relearning(method: Any) -> str:
    """Return why no `relearn:` block can be put on a method, as a clause that follows its name; empty if one can."""
    return str(method.relearn_reason) if method.trains else "trains no encoder"


def _within(count: int, bounds: tuple[int, int | None]) -> bool:
    low, high = bounds
    return low <= count and (high is None or count <= high)


def _range(bounds: tuple[int, int | None]) -> str:
    low, high = bounds
    if high is None:
        return f"{counted(low, 'modality', 'modalities')} or more"
    return counted(low, "modality", "modalities") if low == high else f"{low} to {high} modalities"
