"""What a prepared dataset's rows are labelled with: a class, or a real value within a range."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drcli.data import info_checks as checks

CLASS_DTYPE, VALUE_DTYPE = "int64", "float32"
"""Types of `labels.npy`: indices of classes, or values."""


@dataclass(frozen=True)
class Regression:
    """A real-valued target.

    Attributes:
        low: its least value.
        high: its greatest.
    """

    low: float
    high: float

    @property
    def is_sentiment(self) -> bool:
        """Whether it is the scale of CMU-MOSI, from -3 to 3, on which accuracies of 2, 5 and 7 classes are usual."""
        return (self.low, self.high) == (-3.0, 3.0)

    def problem(self, values: NDArray[Any]) -> str:
        """Return what is wrong with the values (N,) of a split, to follow the file's name; "" for nothing."""
        finite = np.isfinite(values)
        if not finite.all():
            return f"the value of row {int((~finite).argmax())} is not finite"
        outside = (values < self.low) | (values > self.high)
        if outside.any():
            row = int(outside.argmax())
            return f"the value of row {row} is {values[row]:g}, allowed are {self.low:g} to {self.high:g}"
        return ""


def parse_regression(raw: Mapping[str, Any]) -> Regression | None:
    """Return the range under the key "regression" of `dataset.json`; None where rows have classes.

    Raises:
        ValueError: it is no range of finite numbers.
    """
    if raw.get("regression") is None:
        return None
    block = checks.mapping("regression", raw["regression"])
    low, high = (checks.number(*checks.member(block, key, "regression")) for key in ("low", "high"))
    if not low < high:
        checks.refuse("regression.high", high, f"greater than regression.low, {low:g}")
    return Regression(low, high)


def named_classes(names: Sequence[str]) -> str:
    """Class names for a message: "class cat", "classes cat, dog"."""
    return f"{'class' if len(names) == 1 else 'classes'} {', '.join(names)}"


def absence(names: Sequence[str], split: str) -> str:
    """Line of classes that a split has no samples of: "class cat is absent from val"."""
    return f"{named_classes(names)} {'is' if len(names) == 1 else 'are'} absent from {split}"
