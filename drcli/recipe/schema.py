"""What a recipe is: the carriers that the rest of drcli reads, and the ranges of its own blocks.

The blocks of datasets, backbones, fusions and methods are described by the `Settings` of their classes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
)

from drcli.data.input import Corruption, InputSettings
from drcli.diagnosis.settings import DiagnosisSettings


def named(text: str) -> str:
    """Return a name that can be a folder's.

    Raises:
        ValueError: it cannot; the message says what is allowed.
    """
    if not re.fullmatch("[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", text):
        raise ValueError("must be a name: letters, digits, _ . and -, a letter or digit first, 100 at most")
    return text


Name = Annotated[str, AfterValidator(named)]

Fraction = Annotated[float, Field(ge=0, lt=1)]


class Block(BaseModel, extra="forbid", frozen=True):
    """Base of the recipe's own blocks: unknown keys are refused, values cannot be changed."""


class Sgd(Block):
    """Stochastic gradient descent; the defaults are the paper's."""

    name: Literal["sgd"] = "sgd"
    lr: PositiveFloat = Field(description="learning rate")
    momentum: Fraction = 0.9
    weight_decay: NonNegativeFloat = 1e-4
    nesterov: bool = Field(False, description="look one step ahead; needs momentum")


class Adam(Block):
    """Adam, its weight decay added to the gradient."""

    name: Literal["adam"] = "adam"
    lr: PositiveFloat = Field(description="learning rate")
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    eps: PositiveFloat = 1e-8
    weight_decay: NonNegativeFloat = 0.0


class AdamW(Block):
    """Adam with decoupled weight decay."""

    name: Literal["adamw"] = "adamw"
    lr: PositiveFloat = Field(description="learning rate")
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    eps: PositiveFloat = 1e-8
    weight_decay: NonNegativeFloat = 0.01


class Constant(Block):
    """The same learning rate throughout."""

    name: Literal["constant"] = "constant"


class Step(Block):
    """The learning rate times `factor` after every `every` epochs."""

    name: Literal["step"] = "step"
    every: PositiveInt
    factor: PositiveFloat = 0.1


class Cosine(Block):
    """Linear warm-up, then half a cosine down to `final` times the learning rate."""

    name: Literal["cosine"] = "cosine"
    final: float = Field(0.0, ge=0, le=1, description="share of the learning rate that is left at the end")
    warmup_epochs: NonNegativeInt = 0


Optimizer = Sgd | Adam | AdamW
Schedule = Constant | Step | Cosine
OPTIMIZERS: Mapping[str, type[Optimizer]] = {"sgd": Sgd, "adam": Adam, "adamw": AdamW}
SCHEDULES: Mapping[str, type[Schedule]] = {"constant": Constant, "step": Step, "cosine": Cosine}


class TrainingScalars(Block):
    """What the `training` block says itself, without the blocks inside it."""

    epochs: PositiveInt
    batch_size: PositiveInt = 64
    eval_batch_size: PositiveInt | None = Field(None, description="null: 4 * batch_size")
    accumulate: PositiveInt = Field(1, description="parts of a batch that are computed one after the other")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="bf16: the model runs under autocast; auto: bf16 on a GPU, fp32 on a CPU"
    )
    channels_last: bool = Field(True, description="maps and convolutions with their channels innermost in memory")
    compile: Literal["off", "default", "reduce-overhead"] = Field(
        "off", description="compile the forward pass; reduce-overhead uses CUDA graphs; minutes to start"
    )
    fused: Literal["auto", "on", "off"] = Field("auto", description="one kernel an optimiser step; auto: on a GPU")
    data: Literal["auto", "resident", "stream"] = Field(
        "auto", description="where arrays are while training: on the device, or read from the disk meanwhile"
    )
    clip_grad_norm: PositiveFloat | None = Field(None, description="null: gradients are left as they are")
    deterministic: bool = True


class Training(TrainingScalars):
    """The `training` block."""

    optimizer: Optimizer
    schedule: Schedule


class DatasetScalars(Block):
    """What the `dataset` block says beside the dataset's name and preparation."""

    root: str | None = Field(None, min_length=1, description="null: data/<name>")


class RecipeScalars(Block):
    """What a recipe says at its top, without its blocks."""

    name: Name
    method: str
    selection: Literal["val", "last", "test"] = "val"
    monitor: Literal["none", "test"] = "none"
    seeds: tuple[NonNegativeInt, ...] = (0,)

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if not seeds:
            raise ValueError("must name at least one seed")
        if len(set(seeds)) < len(seeds):
            raise ValueError("must not name a seed twice")
        return seeds


@dataclass(frozen=True)
class DatasetBlock:
    """A dataset: its name, the folder of the prepared files, and how they are prepared."""

    name: str
    root: Path
    prepare: BaseModel


@dataclass(frozen=True)
class ModalityBlock:
    """A modality: name of the backbone, its settings, and how stored arrays become inputs."""

    backbone: str
    settings: BaseModel
    input: InputSettings


@dataclass(frozen=True)
class FusionBlock:
    """Name of a fusion and its settings."""

    name: str
    settings: BaseModel


@dataclass(frozen=True)
class MethodBlock:
    """Name of a method and its settings."""

    method: str
    settings: BaseModel


@dataclass(frozen=True)
class Recipe:
    """A validated recipe.

    Attributes:
        name: names the folder of its runs.
        dataset: what is trained on.
        modalities: encoders by modality, in the recipe's order; at least one.
        corrupt: noise by modality.
        fusion: how features become logits.
        method: label in `methods` of what `drcli train` trains.
        methods: methods with their settings, by label.
        training: epochs, batches, optimiser, schedule.
        diagnosis: how checkpoints are diagnosed.
        selection: which epoch becomes the checkpoint.
        monitor: whether the test split is scored while training.
        seeds: one run each; distinct.
    """

    name: str
    dataset: DatasetBlock
    modalities: Mapping[str, ModalityBlock]
    corrupt: Mapping[str, Corruption]
    fusion: FusionBlock
    method: str
    methods: Mapping[str, MethodBlock]
    training: Training
    diagnosis: DiagnosisSettings
    selection: Literal["val", "last", "test"]
    monitor: Literal["none", "test"]
    seeds: tuple[int, ...]

    def for_run(self, label: str, seed: int) -> Recipe:
        """Return the recipe of one run: this one with a single method and a single seed.

        Raises:
            KeyError: `label` is not in `methods`.
        """
        return replace(self, method=label, methods={label: self.methods[label]}, seeds=(seed,))

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as plain data, every default filled in; `recipe_from_dict` reads it back."""
        return {
            "name": self.name,
            "dataset": {
                "name": self.dataset.name,
                "root": str(self.dataset.root),
                "prepare": plain(self.dataset.prepare),
            },
            "modalities": {
                m: {"backbone": block.backbone, **plain(block.input), **plain(block.settings)}
                for m, block in self.modalities.items()
            },
            "corrupt": {m: plain(noise) for m, noise in self.corrupt.items()},
            "fusion": {"name": self.fusion.name, **plain(self.fusion.settings)},
            "method": self.method,
            "methods": {
                label: {"method": block.method, **plain(block.settings)} for label, block in self.methods.items()
            },
            "training": plain(self.training),
            "diagnosis": plain(self.diagnosis),
            "selection": self.selection,
            "monitor": self.monitor,
            "seeds": list(self.seeds),
        }


def plain(settings: BaseModel) -> dict[str, Any]:
    """Return a block's settings as plain data, spelt as in a recipe (`lambda`, not `lambda_`)."""
    return settings.model_dump(mode="json", by_alias=True)
