"""test_outputs.npz and test_predictions.csv: what the selected epoch of a run gives for the test split."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from drcli.runs.record import RecordError


@dataclass(frozen=True)
class StoredOutputs:
    """test_outputs.npz: what the selected epoch gives for the N rows of the test split.

    Attributes:
        labels: (N,) integers, true classes; of a regression, numbers, the true values.
        weight: (N,) one over the number of draws of the row's sample.
        logits: (N, C); of a regression, predicted values (N, 1).
        classes: (C,) names; of a regression, that of the value.
        features: (N, D_m) by modality.
        ids: (N,) of the rows' samples, in stored order; None in files of before they were kept.
    """

    labels: NDArray[Any]
    weight: NDArray[Any]
    logits: NDArray[Any]
    classes: NDArray[Any]
    features: Mapping[str, NDArray[Any]]
    ids: NDArray[Any] | None = None

    _PREFIX = "features_"

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays by their names in the file."""
        plain = {"labels": self.labels, "weight": self.weight, "logits": self.logits, "classes": self.classes}
        plain |= {} if self.ids is None else {"ids": self.ids}
        return {**plain, **{f"{self._PREFIX}{m}": x for m, x in self.features.items()}}

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Return the outputs that a file's arrays hold.

        Raises:
            RecordError: an array is missing, or they do not fit together.
        """
        for name in ("labels", "weight", "logits", "classes"):
            if name not in arrays:
                raise RecordError(f"no {name}")
        size = len(cls._PREFIX)
        features = {name[size:]: x for name, x in arrays.items() if name.startswith(cls._PREFIX)}
        found = cls(
            arrays["labels"], arrays["weight"], arrays["logits"], arrays["classes"], features, arrays.get("ids")
        )
        found._check()
        return found

    @property
    def is_regression(self) -> bool:
        """Whether these are values, not classes."""
        return self.labels.dtype.kind == "f" and self.classes.size == 1

    @property
    def probabilities(self) -> NDArray[Any]:
        """The softmax of the logits, (N, C) float64."""
        logits = self.logits.astype(np.float64)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares: NDArray[Any] = powers / powers.sum(axis=1, keepdims=True)
        return shares

    def predictions_csv(self) -> str:
        """Return id, true and predicted class of each row, with the probability of the latter; or the two values.

        A sample that was drawn several times has several rows of the same id.
        """
        ids = np.full(self.labels.size, "") if self.ids is None else self.ids
        stream = io.StringIO()
        out = csv.writer(stream, lineterminator="\n")
        if self.is_regression:
            out.writerow(("id", "value", "predicted"))
            pairs = zip(ids.tolist(), self.labels.tolist(), self.logits[:, 0].tolist(), strict=True)
            out.writerows((name, f"{value:.6g}", f"{guess:.6f}") for name, value, guess in pairs)
            return stream.getvalue()
        predicted, shares = self.logits.argmax(axis=1), self.probabilities.max(axis=1)
        out.writerow(("id", "label", "predicted", "confidence"))
        named = (ids.tolist(), self.classes[self.labels].tolist(), self.classes[predicted].tolist())
        out.writerows(zip(*named, (f"{share:.6f}" for share in shares), strict=True))
        return stream.getvalue()

    def _check(self) -> None:
        n, c = self.labels.size, self.classes.size
        shapes: dict[str, tuple[int, ...]] = {
            "labels": (n,),
            "weight": (n,),
            "logits": (n, c),
            "classes": (c,),
            "ids": (n,),
        }
        shapes |= {f"{self._PREFIX}{m}": (n, *x.shape[-1:]) for m, x in self.features.items()}
        for name, array in self.arrays().items():
            if array.shape != shapes[name]:
                raise RecordError(f"{name} has the shape {array.shape}, not {shapes[name]}")
        self._check_numbers()
        if self.is_regression:
            if not np.isfinite(self.labels).all():
                raise RecordError("values that are not finite")
            return
        if self.labels.dtype.kind not in "iu" or not np.isin(self.labels, np.arange(c)).all():
            raise RecordError("labels that are not indices of classes")

    def _check_numbers(self) -> None:
        for name, array in self.arrays().items():
            if name not in {"classes", "ids"} and array.dtype.kind not in "fiu":
                raise RecordError(f"{name} holds no numbers")
        if self.ids is not None and self.ids.dtype.kind != "U":
            raise RecordError("ids that are no text")
        if not np.isfinite(self.logits).all():  # of features, a figure says so
            raise RecordError("logits that are not finite")
        if not ((self.weight > 0) & (self.weight <= 1)).all():
            raise RecordError("weights outside (0, 1]")


def narrowed(features: NDArray[Any]) -> NDArray[Any]:
    """Return features as float16, or as float32 where a number is beyond 65504, the largest of float16."""
    with np.errstate(over="ignore"):
        narrow = features.astype(np.float16)
    return narrow if bool(np.isfinite(narrow).all()) else features.astype(np.float32)
