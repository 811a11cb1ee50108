"""Scores of a split and of a probe as records: those of a classification, and those of a regression."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Discriminator, Field, NonNegativeFloat, PositiveInt, Tag

from drcli.runs.record import CLASSES, VALUES, Record, Share, form
from drcli.task import CLASSIFICATION, REGRESSION, Task

Correlation = Annotated[float, Field(ge=-1 - 1e-6, le=1 + 1e-6)]


class Scores(Record):
    """Scores of a split.

    Attributes:
        accuracy: share of samples predicted right, in [0, 1].
        macro_f1: mean over classes of the F1 score, in [0, 1].
        n: number of samples.
    """

    accuracy: Share
    macro_f1: Share
    n: PositiveInt
    task: ClassVar[Task] = CLASSIFICATION

    @property
    def first(self) -> float:
        """The score that epochs are selected by and methods are compared by."""
        return self.accuracy

    @property
    def second(self) -> float | None:
        """The score beside it."""
        return self.macro_f1


class ValueScores(Record):
    """Scores of a split of a regression.

    Attributes:
        mae: mean absolute error, in the units of the target.
        corr: Pearson's correlation of predictions and targets, in [-1, 1]; None where one of them is constant.
        n: number of samples.
    """

    mae: NonNegativeFloat
    corr: Correlation | None = None
    n: PositiveInt
    task: ClassVar[Task] = REGRESSION

    @property
    def first(self) -> float:
        """The score that epochs are selected by and methods are compared by."""
        return self.mae

    @property
    def second(self) -> float | None:
        """The score beside it."""
        return self.corr


class ScoresAndLoss(Scores):
    """Scores of a split after an epoch, and its mean cross-entropy in nats."""

    loss: float


class ValueScoresAndLoss(ValueScores):
    """Scores of a split of a regression after an epoch, and its mean loss."""

    loss: float


AnyScores = Annotated[Annotated[Scores, Tag(CLASSES)] | Annotated[ValueScores, Tag(VALUES)], Discriminator(form)]
EpochScores = Annotated[
    Annotated[ScoresAndLoss, Tag(CLASSES)] | Annotated[ValueScoresAndLoss, Tag(VALUES)], Discriminator(form)
]


class Probe(Record):
    """What one encoder alone is worth: accuracy of a linear probe on its features, in [0, 1]."""

    probe_accuracy: Share

    @property
    def score(self) -> float:
        """What probes are compared by."""
        return self.probe_accuracy


class ValueProbe(Record):
    """The same of a regression: mean absolute error and correlation of a ridge regression on its features."""

    probe_mae: NonNegativeFloat
    probe_corr: Correlation | None = None

    @property
    def score(self) -> float:
        """What probes are compared by."""
        return self.probe_mae


AnyProbe = Annotated[Annotated[Probe, Tag(CLASSES)] | Annotated[ValueProbe, Tag(VALUES)], Discriminator(form)]
