"""How a model is trained: optimisers, schedules of the learning rate, and what its parts have of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, Field, PositiveInt

MANY = 1_000_000
"""The most epochs, rows of a batch and the like: far above any real run, far below what PyTorch cannot count."""

Count = Annotated[int, Field(ge=1, le=MANY)]

CountFromZero = Annotated[int, Field(ge=0, le=MANY)]

Fraction = Annotated[float, Field(ge=0, lt=1)]

Rate = Annotated[float, Field(gt=0, le=1e6)]
"""A factor; what is larger leaves the range of 32-bit floats within a few steps."""

Weight = Annotated[float, Field(ge=0, le=1e6)]


class Block(BaseModel, extra="forbid", frozen=True):
    """Base of the recipe's own blocks: unknown keys are refused, values cannot be changed."""


class Sgd(Block):
    """Stochastic gradient descent; the defaults are the paper's."""

    name: Literal["sgd"] = "sgd"
    lr: Rate = Field(description="learning rate")
    momentum: Fraction = Field(0.9, description="part of the last step that is added to the next one; 0: none")
    weight_decay: Weight = Field(1e-4, description="factor of the weights that is added to their gradients; 0: none")
    nesterov: bool = Field(False, description="Nesterov's momentum; needs momentum greater than 0")


class Adam(Block):
    """Adam; weight decay is added to the gradient."""

    name: Literal["adam"] = "adam"
    lr: Rate = Field(description="learning rate")
    betas: tuple[Fraction, Fraction] = Field(
        (0.9, 0.999), description="decay of the running means of the gradient and of its square"
    )
    eps: Rate = Field(1e-8, description="added to the denominator, so that it is never 0")
    weight_decay: Weight = Field(0.0, description="factor of the weights that is added to their gradients; 0: none")


class AdamW(Block):
    """Adam with decoupled weight decay."""

    name: Literal["adamw"] = "adamw"
    lr: Rate = Field(description="learning rate")
    betas: tuple[Fraction, Fraction] = Field(
        (0.9, 0.999), description="decay of the running means of the gradient and of its square"
    )
    eps: Rate = Field(1e-8, description="added to the denominator, so that it is never 0")
    weight_decay: Weight = Field(
        0.01, description="each step also takes lr * weight_decay of the weights away from them; 0: none"
    )


class Constant(Block):
    """The learning rate stays the same."""

    name: Literal["constant"] = "constant"


class Step(Block):
    """The learning rate is multiplied by `factor` after every `every` epochs."""

    name: Literal["step"] = "step"
    every: Count = Field(description="epochs between two changes of the learning rate")
    factor: Rate = Field(0.1, description="factor of the learning rate at each change")


Warmup = Annotated[float, Field(ge=0, le=MANY)]
"""Epochs from 1 on, a share of the epochs below."""


class Linear(Block):
    """Linear warm-up, then a line down to `final` times the learning rate."""

    name: Literal["linear"] = "linear"
    final: float = Field(0.0, ge=0, le=1, description="part of the learning rate that is left at the end")
    warmup: Warmup = Field(
        0.0,
        description="warm-up, in which the learning rate rises to lr from step to step: from 1 on the number of its "
        "epochs, fewer than training.epochs; below 1 a share of these",
    )


class Cosine(Block):
    """Linear warm-up, then half a cosine down to `final` times the learning rate."""

    name: Literal["cosine"] = "cosine"
    final: float = Field(0.0, ge=0, le=1, description="part of the learning rate that is left at the end")
    warmup: Warmup = Field(
        0.0,
        description="warm-up, in which the learning rate rises to lr from step to step: from 1 on the number of its "
        "epochs, fewer than training.epochs; below 1 a share of these",
    )
    warmup_epochs: CountFromZero = Field(
        0,
        description="warm-up in which the learning rate rises from epoch to epoch instead, in place of warmup; fewer "
        "than training.epochs",
    )


Optimizer = Sgd | Adam | AdamW
Schedule = Constant | Step | Linear | Cosine
OPTIMIZERS: Mapping[str, type[Optimizer]] = {"sgd": Sgd, "adam": Adam, "adamw": AdamW}
SCHEDULES: Mapping[str, type[Schedule]] = {
    "constant": Constant,
    "step": Step,
    "linear": Linear,
    "cosine": Cosine,
}


class Lora(Block):
    """Low-rank adapters: W x + (alpha / rank) B A x in place of W x, of which A and B alone are trained."""

    rank: PositiveInt = Field(8, le=65_536, description="rank of the update of a weight: A is (rank, in)")
    alpha: float = Field(16.0, gt=0, le=1e6, description="the update is multiplied by alpha / rank")
    targets: tuple[Annotated[str, Field(min_length=1)], ...] | None = Field(
        None,
        min_length=1,
        max_length=1000,
        description="layers with an adapter, by their names or the ends of their names, such as [query, value]; null: "
        "every linear layer of the encoder",
    )
    dropout: float = Field(
        0.0, ge=0, lt=1, description="probability with which an input of an adapter is set to 0 in training"
    )


class EncoderTraining(Block):
    """Keys of a modality's block that say how its encoder is trained."""

    lr: Rate | None = Field(
        None,
        description="learning rate of the encoder, which the schedule changes like the others; "
        "null: training.optimizer.lr",
    )
    layer_decay: float = Field(
        1.0,
        gt=0,
        le=1,
        description="each layer of the encoder has the learning rate of the next one times this, the last has the "
        "encoder's own; docs/training.md says how layers are counted",
    )
    checkpointing: bool = Field(
        False,
        description="gradient checkpointing: layers of the encoder are computed again in the backward pass, which "
        "takes less memory and gives the same gradients",
    )
    lora: Lora | None = Field(
        None,
        description="low-rank adapters (LoRA, by the package peft) are trained in place of the encoder's own weights, "
        "which stay as they are: {rank, alpha, targets, dropout}; null: none",
    )


class FusionTraining(Block):
    """Keys of the fusion's block that say how it is trained."""

    lr: Rate | None = Field(None, description="learning rate of the fusion with its head; null: training.optimizer.lr")
