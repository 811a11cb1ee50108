"""Put together what a recipe names: dataset, model and method, for training or from a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from drcli import checkpoint
from drcli.data.batches import Batches
from drcli.data.format import INFO_FILE, Contents
from drcli.data.plan import PICTURES, InputPlan
from drcli.data.prepared import PreparedDataset, open_dataset, prepare_command
from drcli.engine.saved import Saved, at_most, check_optimizer, check_scaler, check_state, check_tensors, saved
from drcli.errors import CheckpointError, DataError, RecipeError, UsageError
from drcli.methods.base import Method
from drcli.methods.context import Context
from drcli.methods.parts.relearning import Relearning
from drcli.models.build import build_model
from drcli.models.multimodal import MultimodalModel, Precision
from drcli.names import METHODS
from drcli.reading import one_line
from drcli.recipe.load import identity_of, recipe_from_dict, with_defaults
from drcli.recipe.schema import RELEARN, Recipe
from drcli.recipe.text import differences
from drcli.runs.directory import STARTING_OVER, RunDirectory
from drcli.seeding import seeded
from drcli.world import ALONE, World


@dataclass
class Assembly:
    """A recipe's parts, ready to be trained or evaluated.

    Attributes:
        recipe: recipe of one run (one label, one seed).
        modalities: the modalities of this run; all of the recipe's, or one for unimodal training.
        dataset: the prepared dataset.
        model: the model, on `device`.
        method: the method, built.
        extras: the method's extra modules, on `device`.
        device: where the model is.
        world: the processes that train it together.
        relearning: what the recipe puts on the method, if anything.
    """

    recipe: Recipe
    modalities: tuple[str, ...]
    dataset: PreparedDataset
    model: MultimodalModel
    method: Method
    extras: nn.ModuleDict
    device: torch.device
    world: World = ALONE
    relearning: Relearning | None = None
    _batches: dict[str, Batches] = field(default_factory=dict)

    @property
    def eval_batch_size(self) -> int:
        """Rows of an evaluation step."""
        training = self.recipe.training
        return training.eval_batch_size or 4 * training.batch_size

    def batches(self, split: str) -> Batches:
        """The batches of a split; its arrays are opened at the first call."""
        if split not in self._batches:
            opened = self.dataset.split(split)
            plans = input_plans(self.recipe, self.modalities, self.dataset.info.contents)
            training = self.recipe.training
            self._batches[split] = Batches(
                opened,
                plans,
                self.device,
                training.data,
                world=self.world,
                accumulate=training.accumulate,
                pairs_anew=training.pairs == "each_epoch",
            )
        return self._batches[split]


def input_plans(recipe: Recipe, modalities: tuple[str, ...], dataset: Contents) -> dict[str, InputPlan]:
    """Return how each modality's stored arrays become inputs.

    Raises:
        RecipeError: the dataset lacks a modality, or the recipe asks for pictures of one that has none.
    """
    infos = dataset.modalities
    plans = {}
    for m in modalities:
        if m not in infos:
            has = ", ".join(infos)
            raise RecipeError(
                f"modalities.{m}: dataset {dataset.name} has no such modality; it has {has}; name one of these"
            )
        block = recipe.modalities[m]
        noise = recipe.corrupt.get(m)
        plans[m] = InputPlan(infos[m], block.input, noise if noise and noise.domain == "input" else None)
        _check_pictures(m, plans[m])
        if plans[m].info.vocabulary and plans[m].corruption is not None:
            raise RecipeError(f"corrupt.{m}: the samples are token ids, to which no noise can be added; leave it out")
    return plans


def _check_pictures(modality: str, plan: InputPlan) -> None:
    asked = [name for name in ("frames", "size", "flip") if getattr(plan.settings, name)]
    if plan.info.kind not in PICTURES and asked:
        raise RecipeError(f"modalities.{modality}.{asked[0]}: the stored arrays are not pictures; leave it out")
    frames = plan.settings.frames
    if plan.info.kind in PICTURES and frames is not None and frames > plan.info.shape[0]:
        raise RecipeError(
            f"modalities.{modality}.frames = {frames}: only {plan.info.shape[0]} are stored; ask for fewer, "
            "or prepare with more"
        )


def assemble(
    recipe: Recipe, modalities: tuple[str, ...], dataset: PreparedDataset, device: torch.device, world: World = ALONE
) -> Assembly:
    """Build model and method of a run, with the initial weights of its seed.

    Of several processes on GPUs, layers of batch normalisation take their statistics over the whole batch.

    Raises:
        RecipeError: the dataset lacks a modality, or a backbone does not take its samples; new pairs are to be made of
            a dataset that has none to make.
        UsageError: rows of it lack modalities, and what is to be trained cannot deal with that.
    """
    if recipe.training.pairs == "each_epoch" and not dataset.info.pools:
        raise RecipeError(
            f"training.pairs = each_epoch: dataset {dataset.info.name} in {dataset.root} keeps no rows beyond its "
            "pairs; set it to stored, or prepare a dataset that does (avmnist with dataset.prepare.pool=null)"
        )
    check_task(recipe, dataset)
    check_masks(recipe, modalities, dataset.info.contents, world)
    model = recipe_model(recipe, modalities, dataset.info.contents).to(device)
    model.precision = precision_on(device, recipe.training.precision)
    if recipe.training.channels_last and device.type == "cuda":
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if world.size > 1 and device.type == "cuda":
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    method, extras = build_method(recipe, model)
    block = recipe.methods[recipe.method]
    relearning = None if block.relearn is None else Relearning(block.relearn)
    return Assembly(recipe, modalities, dataset, model, method, extras.to(device), device, world, relearning)


def check_task(recipe: Recipe, dataset: PreparedDataset) -> None:
    """Refuse data with another target than the recipe predicts.

    Raises:
        RecipeError: it has one.
    """
    held = dataset.info.contents.task
    if held != recipe.task:
        raise RecipeError(
            f"task = {recipe.task}: dataset {dataset.info.name} in {dataset.root} was prepared for {held}; set task: "
            f"{held}, or prepare it with another target"
        )


def precision_on(device: torch.device, asked: Precision) -> Precision:
    """Return what a recipe's precision means on a device: "auto" is fp16 on a GPU that has no bf16."""
    if asked == "auto" and device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return "fp16"
    return asked


def check_masks(recipe: Recipe, modalities: tuple[str, ...], dataset: Contents, world: World) -> None:
    """Refuse what cannot deal with rows that lack modalities, where the dataset has such rows.

    Raises:
        UsageError: several processes train the run, or its method says why it cannot.
    """
    masked = [m for m in modalities if m in dataset.modalities and dataset.modalities[m].masked]
    if masked and world.size > 1:
        raise UsageError(
            f"--devices {world.size}: rows of dataset {dataset.name} lack {', '.join(masked)}, so that the processes "
            "would run different encoders; train on one device"
        )
    reason = METHODS.load(recipe.methods[recipe.method].method).masks_reason
    if masked and reason:
        raise RecipeError(
            f"methods.{recipe.method}: rows of dataset {dataset.name} lack {', '.join(masked)}, and {reason}; choose "
            "another method, or prepare the dataset without such rows"
        )


def build_method(recipe: Recipe, model: MultimodalModel) -> tuple[Method, nn.ModuleDict]:
    """Return the method of a run, and its own modules, with the initial weights of its seed."""
    block = recipe.methods[recipe.method]
    method: Method = METHODS.load(block.method)(block.settings)
    with seeded(recipe.seeds[0], "init", "method"):
        return method, nn.ModuleDict(method.build(model))


def recipe_model(recipe: Recipe, modalities: tuple[str, ...], dataset: Contents) -> MultimodalModel:
    """Return the model of a run, on the CPU, with the initial weights of its seed.

    Raises:
        RecipeError: the dataset lacks a modality, or a backbone does not take its samples.
    """
    plans = input_plans(recipe, modalities, dataset)
    return build_model(
        {m: recipe.modalities[m] for m in modalities},
        recipe.fusion,
        shapes={m: plan.shape for m, plan in plans.items()},
        num_classes=len(dataset.classes),
        seed=recipe.seeds[0],
        precision=recipe.training.precision,
        channels_last=recipe.training.channels_last,
        vocabularies={m: plan.info.vocabulary for m, plan in plans.items()},
    )


@dataclass(frozen=True)
class Restored:
    """A checkpoint, verified and built.

    Attributes:
        assembly: its parts, with the checkpoint's weights.
        epoch: epoch at whose end it was written.
        selected_epoch: epoch that the run had selected by then; another one than `epoch` in some last.pt.
    """

    assembly: Assembly
    epoch: int
    selected_epoch: int


def restore(path: Path, device: torch.device, *, root: Path | None = None) -> Restored:
    """Build what a checkpoint holds and give it the checkpoint's weights.

    Args:
        path: a checkpoint.pt or last.pt.
        device: where the model goes.
        root: folder of the prepared dataset; None: where it was when the run was trained, or what the recipe says.

    Raises:
        CheckpointError: the file is damaged or not drcli's.
        DataError: the dataset is missing, or not the one the checkpoint was trained on.
    """
    state = checkpoint.load(path)
    found = saved(state, path)
    recipe = recipe_of(found)
    dataset = _open_data(recipe, root or _known_root(path, recipe))
    if dataset.info.fingerprint != found.fingerprint:
        raise DataError(
            f"{dataset.root}: not the data that {path} was trained on (other arrays, splits or normalisation); "
            "name the right folder with dataset.root=DIR"
        )
    with at_most(found):
        assembly = assemble(recipe, found.modalities, dataset, device)
    _check_weights(found, assembly)
    _load_weights(assembly, found)
    return Restored(assembly, found.epoch, found.selected_epoch)


def _known_root(path: Path, recipe: Recipe) -> Path:
    """Return where the data of a checkpoint is: an absolute path if its run noted one, which holds in any folder."""
    noted = RunDirectory(path.parent).dataset_root()
    return noted if noted is not None and (noted / INFO_FILE).is_file() else recipe.dataset.root


def _open_data(recipe: Recipe, root: Path) -> PreparedDataset:
    block = recipe.dataset
    if not (root / INFO_FILE).is_file():
        raise DataError(
            f"{root}: no prepared dataset here ({INFO_FILE} is missing); name its folder with dataset.root=DIR, or run "
            f"{prepare_command(block.name, root)}"
        )
    return open_dataset(root, name=block.name, settings=prepare_settings(recipe))


def recipe_of(found: Saved) -> Recipe:
    """Return the recipe of a checkpoint.

    Raises:
        CheckpointError: it is not valid.
    """
    try:
        return recipe_from_dict(found.recipe, where=f"{found.path} (its recipe)")
    except RecipeError as error:
        raise CheckpointError(str(error)) from error


def prepare_settings(recipe: Recipe) -> dict[str, Any]:
    """Return the `dataset.prepare` block as plain values, as `dataset.json` holds it."""
    return recipe.dataset.prepare.model_dump(mode="json", by_alias=True)


def check_identity(assembly: Assembly, state: Mapping[str, Any], path: Path) -> None:
    """Refuse a checkpoint in a run directory that is of another run.

    Raises:
        CheckpointError: recipe, modalities or data differ; the differences are shown.
    """
    found = saved(state, path)
    there = {**identity_of(with_defaults(found.recipe)), "modalities of the run": list(found.modalities)}
    asked = {**identity_of(assembly.recipe.to_dict()), "modalities of the run": list(assembly.modalities)}
    changed = differences(there, asked)
    if found.fingerprint != assembly.dataset.info.fingerprint:
        changed.append("other data")
    if changed:
        lines = "\n".join(f"  {line}" for line in changed)
        raise CheckpointError(f"{path}: of another run; {STARTING_OVER}\n{lines}")


def load_weights(assembly: Assembly, state: Mapping[str, Any], path: Path) -> None:
    """Give the model and the method's modules the weights of a checkpoint.

    Raises:
        CheckpointError: they do not fit the model, or are not finite.
    """
    found = saved(state, path)
    _check_weights(found, assembly)
    _load_weights(assembly, found)


def _check_weights(found: Saved, assembly: Assembly) -> None:
    check_tensors(found.model, assembly.model.state_dict(), f"{found.path}: model")
    check_tensors(found.extras, assembly.extras.state_dict(), f"{found.path}: extras")


def _load_weights(assembly: Assembly, found: Saved) -> None:
    assembly.model.load_state_dict(found.model)
    assembly.extras.load_state_dict(found.extras)


def load_training(assembly: Assembly, ctx: Context, state: Mapping[str, Any], path: Path) -> Saved:
    """Bring a run, its method set up, to where a checkpoint was written.

    Args:
        assembly: the run's parts.
        ctx: of the run; the settings of its optimiser stay those of the recipe.
        state: what `checkpoint.load` returned.
        path: the file, for messages.

    Returns:
        The checkpoint's contents: epoch, steps, seconds and the epoch selected so far.

    Raises:
        CheckpointError: it is of another run, or does not fit this one.
    """
    check_identity(assembly, state, path)
    load_weights(assembly, state, path)
    found = saved(state, path)
    check_state(found.method, assembly.method.state_dict(), f"{path}: method")
    relearning = assembly.relearning
    if relearning is not None:
        check_state(found.relearn, relearning.state_dict(), f"{path}: {RELEARN}")
        relearning.load_state_dict(found.relearn)
    check_optimizer(found.optimizer, ctx.optimizer, f"{path}: optimizer")
    groups = ctx.optimizer.state_dict()["param_groups"]
    _load_extras_of_training(ctx, found)
    try:
        assembly.method.load_state_dict(found.method)
        ctx.optimizer.load_state_dict({"state": found.optimizer["state"], "param_groups": groups})
    except Exception as error:  # a method may raise anything over a state that is not its own
        raise CheckpointError(
            f"{path}: the method {assembly.recipe.method} cannot be resumed from its state ({one_line(error)}); "
            "start over with --fresh"
        ) from error
    return found


def _load_extras_of_training(ctx: Context, found: Saved) -> None:
    """Bring the averages of the weights, and the scale of the losses, to where a checkpoint was written."""
    if ctx.averages is not None:
        fresh = ctx.averages.state_dict()
        check_state(found.ema, fresh, f"{found.path}: ema")
        check_tensors(found.ema["weights"], fresh["weights"], f"{found.path}: ema.weights")
        ctx.averages.load_state_dict(found.ema)
    if ctx.scaler is not None:
        check_scaler(found.scaler, f"{found.path}: scaler")
        ctx.scaler.load_state_dict(dict(found.scaler))
