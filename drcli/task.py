"""The tasks: which two scores each is measured by, whether more or less is better, and how they are shown.

A run's records, its tables and the choice of its epoch take this from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

TaskName = Literal["classification", "regression"]
LossName = Literal["l1", "mse", "smooth_l1"]
"""Losses of a regression."""


@dataclass(frozen=True)
class Kind:
    """A kind of score.

    Attributes:
        key: in records and CSV files.
        heading: above a column.
        name: in a sentence.
        scale: what is shown is the score times this.
        digits: decimal places.
        unit: of what is shown, after a number; "" where it has none.
        step: a difference that is worth asking how many seeds show it.
        more_is_better: whether the greatest is the best.
        worst: a score that every other one is better than.
    """

    key: str
    heading: str
    name: str
    scale: float = 100.0
    digits: int = 1
    unit: str = "%"
    step: float = 0.01
    more_is_better: bool = True
    worst: float = -1.0

    def merit(self, score: float) -> float:
        """Return the score with the sign under which the greatest is the best."""
        return score if self.more_is_better else -score

    def text(self, score: float) -> str:
        """Return a score with its unit: "84.1 %", "0.912"."""
        return f"{self.scale * score:.{self.digits}f} {self.unit}".rstrip()

    @property
    def axis(self) -> str:
        """The label of an axis: "accuracy (%)", "MAE"."""
        return f"{self.heading} ({self.unit})" if self.unit else self.heading


@dataclass(frozen=True)
class Task:
    """What is predicted: a class, or a real value.

    Attributes:
        name: in a recipe.
        first: the score that epochs are selected by and methods are compared by.
        second: the one beside it.
        probe: what is fitted to the features of a frozen encoder.
    """

    name: TaskName
    first: Kind
    second: Kind
    probe: str


CLASSIFICATION = Task(
    "classification",
    Kind("accuracy", "accuracy", "accuracy"),
    Kind("macro_f1", "macro-F1", "macro-F1"),
    "linear classifier",
)
REGRESSION = Task(
    "regression",
    Kind("mae", "MAE", "MAE", scale=1, digits=3, unit="", more_is_better=False, worst=1e308),
    Kind("corr", "corr", "correlation", scale=1, digits=3, unit=""),
    "ridge regression",
)
TASKS: Mapping[TaskName, Task] = {"classification": CLASSIFICATION, "regression": REGRESSION}
