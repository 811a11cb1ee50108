"""What a recipe is: the carriers that the rest of drcli reads, and the ranges of its own blocks.

The blocks of datasets, backbones, fusions and methods are described by the `Settings` of their classes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, Field, field_validator, model_validator

from drcli.data.input import Corruption, InputSettings
from drcli.diagnosis.settings import DiagnosisSettings
from drcli.recipe.shape import ABSENT_MEANS
from drcli.recipe.training import Block, Count, EncoderTraining, FusionTraining, Optimizer, Rate, Schedule
from drcli.relearning.settings import RelearnSettings
from drcli.task import LossName, TaskName


def named(text: str) -> str:
    """Return a name that can be a folder's.

    Raises:
        ValueError: it cannot; the message says what is allowed.
    """
    if not re.fullmatch("[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", text):
        raise ValueError("must be a name: letters, digits, _ . and -, a letter or digit first, 100 at most")
    return text


Name = Annotated[str, AfterValidator(named)]

Bound = Annotated[float, Field(ge=-1e6, le=1e6)]

MAX_SEED = 2**63 - 1

RELEARN = "relearn"
"""Key of a method's block: D&R on top of the method."""

TRAINING = "training"
"""Key of a recipe, and of a method's block: values that hold for this method in place of the recipe's."""

FUSION = "fusion"
"""Name of the fusion among the parts of a model, beside the modalities; no modality has it."""

Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]


class TrainingScalars(Block):
    """Epochs, batches and precision; the same for every method of the recipe."""

    epochs: Count = Field(description="passes over the training data")
    batch_size: Count = Field(64, description="samples per step of the optimiser")
    eval_batch_size: Count | None = Field(None, description="samples per batch while scoring; null: 4 times batch_size")
    accumulate: Count = Field(
        1, description="gradient accumulation: the parts into which a batch is split to need less memory"
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto",
        description="fp32: 32-bit floats; bf16: bfloat16 under autocast; fp16: float16 under autocast, the loss scaled "
        "so that gradients do not vanish; auto: bf16 on a GPU, fp16 on one without bf16, fp32 on a CPU",
    )
    channels_last: bool = Field(True, description="store images and convolutions with channels last in memory")
    compile: Literal["off", "default", "reduce-overhead"] = Field(
        "off",
        description="torch.compile of the forward pass, which takes minutes at the start; "
        "reduce-overhead uses CUDA graphs",
    )
    fused: Literal["auto", "on", "off"] = Field(
        "auto", description="one fused kernel per step of the optimiser; auto: on a GPU"
    )
    data: Literal["auto", "resident", "stream"] = Field(
        "auto",
        description="resident: all arrays stay on the device; stream: batches are read from disk during training; "
        "auto: resident on a GPU if they take at most half of its free memory",
    )
    pairs: Literal["stored", "each_epoch"] = Field(
        "stored",
        description="each_epoch: in every epoch each training sample gets another row of its class, for the modalities "
        "of which the dataset keeps more rows than pairs (`pool` of avmnist); stored: samples as prepared",
    )
    clip_grad_norm: Rate | None = Field(
        None, description="largest norm of all gradients together; larger ones are scaled down; null: no limit"
    )
    rates: dict[str, Rate] = Field(
        {},
        description="learning rates of parts, by modality or `fusion`, in place of the key lr in their blocks: for one "
        "method alone, or to be searched by drcli tune",
    )
    ema: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None,
        description="decay of an exponential moving average of the weights, which is what is evaluated and kept in "
        "place of them; null: none",
    )
    deterministic: bool = Field(
        True, description="deterministic algorithms of PyTorch: the same seed gives the same weights on one machine"
    )


class Training(TrainingScalars):
    """The `training` block."""

    optimizer: Optimizer
    schedule: Schedule


class SearchRange(Block):
    """Range of a number that `drcli tune` searches; both ends belong to it."""

    low: Bound = Field(description="least value")
    high: Bound = Field(description="greatest value")
    log: bool = Field(False, description="whether the logarithm of the value is drawn evenly, not the value itself")

    @model_validator(mode="after")
    def _is_range(self) -> Self:
        if not self.low < self.high:
            raise ValueError("low must be less than high")
        if self.log and self.low <= 0:
            raise ValueError("low must be greater than 0 on a log scale")
        return self


class DatasetScalars(Block):
    """Where the prepared dataset is."""

    root: str | None = Field(None, min_length=1, description="folder of the prepared dataset; null: data/<name>")


LOG = "log"
"""Key of the loggers, which change nothing about a run."""

LoggerName = Literal["tensorboard", "wandb", "mlflow", "trackio"]


class RecipeScalars(Block):
    """What a recipe says outside its blocks."""

    name: Name = Field(
        description="name of the recipe and of the folder that holds its runs",
        json_schema_extra={ABSENT_MEANS: "the file's name"},
    )
    task: TaskName = Field(
        "classification",
        description="what is predicted; regression: a real value, of a dataset that has one (cmu_mosi with target: "
        "score). Epochs are then selected by the mean absolute error, and methods that need classes are refused",
    )
    loss: LossName | None = Field(
        None,
        description="loss of a regression; l1: absolute error; mse: squared error; smooth_l1: squared up to an error "
        "of 1, absolute beyond; null: l1, as is usual on CMU-MOSI. A classification has its cross-entropy",
    )
    method: str = Field(description="label in `methods` that `drcli train` trains without --method")
    selection: Literal["val", "last", "test"] = Field(
        "val",
        description="epoch that is kept and scored: the best on the validation split, the last one, or the best "
        "on the test split (as some papers do; its scores are too high)",
    )
    monitor: Literal["none", "test"] = Field(
        "none", description="test: the test split is scored after each epoch too; it decides nothing"
    )
    seeds: tuple[Seed, ...] = Field((0,), description="one run per seed; one or more, all different")
    log: tuple[LoggerName, ...] = Field(
        ("tensorboard",),
        description="where the curves of a run go beside its own files; wandb, mlflow and trackio: extras",
    )

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
    """A modality: name of the backbone, its settings, how stored arrays become inputs, how the encoder is trained."""

    backbone: str
    settings: BaseModel
    input: InputSettings
    training: EncoderTraining = field(default_factory=EncoderTraining)


@dataclass(frozen=True)
class FusionBlock:
    """Name of a fusion, its settings, and how it is trained."""

    name: str
    settings: BaseModel
    training: FusionTraining = field(default_factory=FusionTraining)


@dataclass(frozen=True)
class MethodBlock:
    """A method as a recipe has it under a label.

    Attributes:
        method: its name.
        settings: its settings.
        relearn: the re-learning that is put on it, if any.
        training: how it is trained, where that is not as the recipe says for all.
        own: those values of `training`, as plain data.
    """

    method: str
    settings: BaseModel
    relearn: RelearnSettings | None = None
    training: Training | None = None
    own: Mapping[str, Any] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """Return the block as plain data, as a recipe holds it."""
        relearn = {} if self.relearn is None else {RELEARN: plain(self.relearn)}
        training = {TRAINING: dict(self.own)} if self.own else {}
        return {"method": self.method, **plain(self.settings), **relearn, **training}


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
        search: what `drcli tune` searches beside the methods' own numbers, as plain data shaped like the recipe.
        log: names of the loggers.
        task: what is predicted.
        loss: of a regression; None of a classification.
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
    search: Mapping[str, Any] = field(default_factory=dict)
    log: tuple[str, ...] = ("tensorboard",)
    task: TaskName = "classification"
    loss: LossName | None = None

    def for_run(self, label: str, seed: int) -> Recipe:
        """Return the recipe of one run: this one with a single method, trained as its block says, and a single seed.

        Raises:
            KeyError: `label` is not in `methods`.
        """
        block = self.methods[label]
        training = block.training or self.training
        methods = {label: replace(block, training=None, own={})}
        return replace(self, method=label, methods=methods, training=training, seeds=(seed,), search={})

    def part_rates(self, training: Training | None = None) -> dict[str, float]:
        """Return the learning rate of every encoder, {m: lr_m}, and of the fusion, before the schedule.

        Args:
            training: of a method that has its own; None: the recipe's.
        """
        training = training or self.training
        own = {**{m: block.training.lr for m, block in self.modalities.items()}, FUSION: self.fusion.training.lr}
        return {part: training.rates.get(part) or lr or training.optimizer.lr for part, lr in own.items()}

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as plain data, every default filled in; `recipe_from_dict` reads it back."""
        return {
            "name": self.name,
            **({"task": self.task, "loss": self.loss} if self.task == "regression" else {}),
            "dataset": {
                "name": self.dataset.name,
                "root": str(self.dataset.root),
                "prepare": plain(self.dataset.prepare),
            },
            "modalities": {
                m: {
                    "backbone": block.backbone,
                    **plain(block.input),
                    **plain(block.training),
                    **plain(block.settings),
                }
                for m, block in self.modalities.items()
            },
            "corrupt": {m: plain(noise) for m, noise in self.corrupt.items()},
            "fusion": {"name": self.fusion.name, **plain(self.fusion.training), **plain(self.fusion.settings)},
            "method": self.method,
            "methods": {label: block.plain() for label, block in self.methods.items()},
            "training": plain(self.training),
            "diagnosis": plain(self.diagnosis),
            "selection": self.selection,
            "monitor": self.monitor,
            "seeds": list(self.seeds),
            **({"search": dict(self.search)} if self.search else {}),
            LOG: list(self.log),
        }


def plain(settings: BaseModel) -> dict[str, Any]:
    """Return a block's settings as plain data, spelt as in a recipe (`lambda`, not `lambda_`)."""
    return settings.model_dump(mode="json", by_alias=True)
