"""A trained model for other code: built from a checkpoint alone, without the dataset it was trained on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from drcli import checkpoint
from drcli.data.batches import Batch
from drcli.data.format import Contents
from drcli.data.plan import InputPlan, Transform
from drcli.engine.assemble import build_method, input_plans, recipe_model, recipe_of
from drcli.engine.saved import Saved, at_most, check_tensors, saved
from drcli.errors import CheckpointError, UsageError
from drcli.methods.base import Method
from drcli.models.backbone import Backbone, Undrawn
from drcli.models.fusion import Outputs
from drcli.models.multimodal import NO_LENGTHS, MultimodalModel
from drcli.recipe.schema import Recipe
from drcli.relearning.features import evaluating
from drcli.runs.directory import checkpoint_at

MOST_VALUES = 2**30
"""Values of one input sample: far above any real one."""


@dataclass(frozen=True)
class Loaded:
    """A trained model and what belongs to it.

    Attributes:
        path: the checkpoint.
        epoch: epoch at whose end it was written.
        recipe: of the run: one method, one seed.
        classes: names of the classes, in the order of the logits; of a regression, that of its value alone.
        model: encoders and fusion, in evaluation mode.
        method: the method that it was trained with, which predicts with it.
        extras: the method's own modules, such as heads of single modalities.
        transforms: by modality, from arrays as the prepared dataset stores them to inputs.
    """

    path: Path
    epoch: int
    recipe: Recipe
    classes: tuple[str, ...]
    model: MultimodalModel
    method: Method
    extras: nn.ModuleDict
    transforms: Mapping[str, Transform]

    @property
    def encoders(self) -> dict[str, Backbone]:
        """The encoders by modality: modules from inputs (B, *shape) to features (B, D)."""
        return {m: cast("Backbone", encoder) for m, encoder in self.model.encoders.items()}

    def predict(self, inputs: Mapping[str, Tensor], lengths: Mapping[str, Tensor] = NO_LENGTHS) -> Outputs:
        """Return logits (B, C) and features {m: (B, D_m)} as `drcli eval` computes them, without gradients.

        Of a regression (`recipe.task`), the logits are its values (B, 1).

        Args:
            inputs: as `transforms` make them, of one modality at least; the others are absent, as in
                `drcli eval --subsets`.
            lengths: valid steps {m: (B,)} of sequences.

        Raises:
            UsageError: there are inputs of no modality, or of one that the model does not have.
        """
        strangers = [m for m in inputs if m not in self.transforms]
        if strangers or not inputs:
            raise UsageError(f"inputs of {', '.join(strangers) or 'no modality'}; known: {', '.join(self.transforms)}")
        first = next(iter(inputs.values()))
        rows = torch.arange(len(first))
        absent = [m for m in self.transforms if m not in inputs]
        zeros = {m: _zeros(len(rows), self.transforms[m].plan, first.device) for m in absent}
        present = {m: torch.zeros(len(rows), dtype=torch.bool) for m in absent}
        labels = torch.zeros_like(rows).to(first.device)  # nothing that predicts looks at them
        batch = Batch({**inputs, **zeros}, labels, rows, dict(lengths), present=present)
        with evaluating(self.model, self.extras):
            return self.method.predict(self.model, batch)


def load(path: str | Path, device: str | torch.device = "cpu") -> Loaded:
    """Return the trained model of a checkpoint; the dataset need not be on disk.

        found = drcli.load("runs/digits/joint/seed0")
        features = found.encoders["audio"](found.transforms["audio"](arrays))

    Args:
        path: a checkpoint.pt or last.pt, or the run directory, whose selected epoch is taken.
        device: where the model goes.

    Raises:
        CheckpointError: the file is missing, damaged, not drcli's, or does not fit the model of its recipe.
    """
    place = checkpoint_at(Path(path))
    found = saved(checkpoint.load(place), place)
    recipe, contents = recipe_of(found), _contents(found)
    plans = input_plans(recipe, found.modalities, contents)
    _check_shapes(found, recipe, contents)
    with at_most(found):
        model = recipe_model(recipe, found.modalities, contents)
        method, extras = build_method(recipe, model)
    check_tensors(found.model, model.state_dict(), f"{place}: model")
    check_tensors(found.extras, extras.state_dict(), f"{place}: extras")
    model.load_state_dict(found.model)
    extras.load_state_dict(found.extras)
    return Loaded(
        path=place,
        epoch=found.epoch,
        recipe=recipe,
        classes=contents.classes,
        model=model.to(device).eval(),
        method=method,
        extras=extras.to(device).eval(),
        transforms={m: Transform(plan) for m, plan in plans.items()},
    )


def _zeros(rows: int, plan: InputPlan, device: torch.device) -> Tensor:
    """Return inputs that stand for nothing: numbers, or ids of tokens."""
    return torch.zeros(rows, *plan.shape, dtype=torch.int64 if plan.info.vocabulary else torch.float32, device=device)


def _contents(found: Saved) -> Contents:
    """Return what the checkpoint says of its data."""
    if found.contents is None:
        raise CheckpointError(
            f"{found.path}: says nothing of its data, as checkpoints of earlier versions of drcli; use `drcli eval` "
            "with the dataset, or train again"
        )
    for m in found.modalities:
        if m not in found.contents.modalities:
            raise CheckpointError(f"{found.path}: dataset.modalities has no {m!a}; use another checkpoint of the run")
    for m, spec in found.contents.modalities.items():
        if math.prod(spec.shape) > MOST_VALUES:
            raise CheckpointError(
                f"{found.path}: dataset.modalities.{m}.shape is {list(spec.shape)}, more than {MOST_VALUES} values; "
                "use another checkpoint of the run"
            )
    return found.contents


def _check_shapes(found: Saved, recipe: Recipe, contents: Contents) -> None:
    """Compare the weights with the model before memory is taken for it, where it can be built without."""
    try:
        with torch.device("meta"), Undrawn():
            sketch = recipe_model(recipe, found.modalities, contents).state_dict()
    except Exception:  # noqa: BLE001 - a backbone of another package may fail in any way; `at_most` counts its weights
        return
    check_tensors(found.model, sketch, f"{found.path}: model")
