"""The examples of docs/examples as modules, and drcli's data and initial weights in the form that they take."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from support.training import make_trainer
from torch import nn
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

from drcli.data.batches import Batches
from drcli.recipe.load import recipe_from_dict
from drcli.recipe.schema import Recipe
from drcli.seeding import derive

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"

Loader = DataLoader[tuple[torch.Tensor, ...]]


def example(name: str) -> Any:
    """An example as a module; importing it runs nothing."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def comparable(plain: dict[str, Any]) -> Recipe:
    """A recipe over "toy" whose steps a loop of another can take: joint training and two events, without weight decay.

    The encoders have batch normalisation, so that buffers are compared, too.
    """
    return recipe_from_dict(
        {
            **plain,
            "modalities": {m: {"backbone": "resnet_small", "width": 4} for m in ("audio", "visual")},
            "method": "joint",
            "methods": {"joint": {"relearn": {"every": 1, "times": 2, "lambda": 3.0, "restarts": 2}}},
            "training": {
                "epochs": 4,
                "batch_size": 16,
                "eval_batch_size": 16,
                "optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 0.0},
            },
        },
        where="the test's recipe",
    )


@dataclass
class Parts:
    """What `drcli train` starts from, for somebody else's loop.

    Attributes:
        audio: its encoder of audio, with initial weights.
        visual: its encoder of pictures.
        head: its linear layer.
        train: a loader of its training rows, in its order of an epoch once `seed` was called with it.
        val: a loader of its validation rows.
        order: what the order is drawn from.
    """

    audio: nn.Module
    visual: nn.Module
    head: nn.Module
    train: Loader
    val: Loader
    order: torch.Generator = field(default_factory=torch.Generator)

    @classmethod
    def of(cls, recipe: Recipe, folder: Path) -> Parts:
        """Take them from a run that has not begun."""
        trainer = make_trainer(recipe, folder)
        model, size, order = trainer.assembly.model, recipe.training.batch_size, torch.Generator()
        rows = _rows(trainer.ctx.train)
        return cls(
            model.encoders["audio"],
            model.encoders["visual"],
            model.fusion.linear,  # type: ignore[arg-type]
            DataLoader(rows, size, sampler=RandomSampler(rows, generator=order)),
            DataLoader(_rows(trainer.ctx.val), size),
            order,
        )

    def seed(self, epoch: int) -> None:
        """Put the order at that of an epoch of seed 0."""
        self.order.manual_seed(derive(0, "order", epoch))


def _rows(batches: Batches) -> TensorDataset:
    (batch,) = batches.in_order(len(batches))
    return TensorDataset(batch.inputs["audio"], batch.inputs["visual"], batch.labels)


def as_drcli_names(state: dict[str, Any]) -> dict[str, Any]:
    """The weights of a model with parts audio, visual and head, by the names that they have in drcli's."""
    new = {"audio": "encoders.audio", "visual": "encoders.visual", "head": "fusion.linear"}
    return {f"{new[name.partition('.')[0]]}.{name.partition('.')[2]}": value for name, value in state.items()}
