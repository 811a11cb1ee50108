"""What a trained model is worth under other conditions than it was trained for: without a modality, and under noise."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Annotated, Literal

from pydantic import AfterValidator, Discriminator, Field, NonNegativeInt, PositiveInt, Tag

from drcli.runs.record import CLASSES, VALUES, Record, form
from drcli.runs.records import FORMAT
from drcli.runs.scores import Scores, ValueScores

Absent = Literal["zero", "mean", "left_out"]

ABSENT_IN_WORDS: Mapping[Absent | None, str] = {
    "zero": "features of absent modalities are zeros",
    "mean": "features of absent modalities are their means over the training samples",
    "left_out": "absent modalities are left out: their tokens are dropped, or their logits are not counted",
    None: "no modality is absent",
}
"""What stands in the place of an absent modality."""


class Condition(Scores):
    """Scores under a condition: the mean over draws of what is random in it.

    Attributes:
        draws: how many draws there were.
        accuracy_std: standard deviation (n - 1) of the accuracy over draws; None of one draw.
        macro_f1_std: the same of the macro-F1.
    """

    draws: PositiveInt = 1
    accuracy_std: float | None = None
    macro_f1_std: float | None = None

    @property
    def spread(self) -> float | None:
        """Standard deviation of the first score over draws."""
        return self.accuracy_std


class ValueCondition(ValueScores):
    """The same of a regression.

    Attributes:
        draws: how many draws there were.
        mae_std: standard deviation (n - 1) of the MAE over draws; None of one draw.
        corr_std: the same of the correlation.
    """

    draws: PositiveInt = 1
    mae_std: float | None = None
    corr_std: float | None = None

    @property
    def spread(self) -> float | None:
        """Standard deviation of the first score over draws."""
        return self.mae_std


AnyCondition = Annotated[
    Annotated[Condition, Tag(CLASSES)] | Annotated[ValueCondition, Tag(VALUES)], Discriminator(form)
]
Series = dict[str, AnyCondition]
"""Scores by the name of a condition."""


def _number(text: str) -> str:
    if not math.isfinite(float(text)):
        raise ValueError(f"{text} is not finite")
    return text


Strengths = dict[Annotated[str, AfterValidator(_number)], AnyCondition]
"""Scores by the strength of what is wrong: a signal-to-noise ratio in dB, or a share of samples, as text."""


class Conditions(Record):
    """conditions.json: scores of the selected epoch on the test split without modalities, and under noise.

    Attributes:
        format: version of the files of the run directory.
        split: what was scored.
        epoch: epoch of the checkpoint.
        absent: what stands in the place of a modality that is absent; None where none is.
        subsets: scores with some of the modalities alone, such as "audio+visual".
        missing: scores where a share of the samples lacks a modality, {m: {share: ...}}.
        noise: scores with white noise on the inputs of a modality, {m: {dB: ...}}.
    """

    format: int = FORMAT
    split: str
    epoch: NonNegativeInt
    absent: Absent | None = None
    subsets: Series = Field(default_factory=dict)
    missing: dict[str, Strengths] = Field(default_factory=dict)
    noise: dict[str, Strengths] = Field(default_factory=dict)

    def over(self, before: Conditions | None) -> Conditions:
        """Return these scores beside those of before, where they are of the same weights, split and stand-ins."""
        if before is None or (self.split, self.epoch) != (before.split, before.epoch):
            return self
        if self.absent is not None and before.absent not in {None, self.absent}:
            before = before.model_copy(update={"subsets": {}, "missing": {}})
        return self.model_copy(
            update={
                "absent": self.absent or before.absent,
                "subsets": {**before.subsets, **self.subsets},
                "missing": _joined(before.missing, self.missing),
                "noise": _joined(before.noise, self.noise),
            }
        )


def _joined(before: Mapping[str, Series], now: Mapping[str, Series]) -> dict[str, Series]:
    return {m: {**before.get(m, {}), **now.get(m, {})} for m in {**before, **now}}


def subsets_of(modalities: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Yield every non-empty subset of the modalities, the smallest first, in their order."""
    for size in range(1, len(modalities) + 1):
        yield from combinations(modalities, size)


def name_of(subset: tuple[str, ...]) -> str:
    """Return the name of a subset of modalities: "audio+visual"."""
    return "+".join(subset)
