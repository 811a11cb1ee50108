"""What a model gives for a split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from drcli.data.prepared import Split
from drcli.metrics import Scores, score
from drcli.runs.outputs import StoredOutputs


@dataclass(frozen=True)
class SplitOutputs:
    """What the model gives for a whole split, in stored order, on the CPU.

    Attributes:
        split: the split.
        logits: (N, C), what the method predicts with.
        features: {m: (N, D_m)}.
    """

    split: Split
    logits: Tensor
    features: dict[str, Tensor]

    def scores(self) -> Scores:
        """Return the scores of the predictions."""
        return score(self.logits, self.split.labels, self.split.weight)

    def stored(self, classes: Sequence[str]) -> StoredOutputs:
        """Return the outputs as the run directory keeps them."""
        return StoredOutputs(
            labels=self.split.labels.numpy(),
            weight=self.split.weight.numpy(),
            logits=self.logits.numpy(),
            classes=np.array(classes),
            features={m: x.numpy() for m, x in self.features.items()},
        )
