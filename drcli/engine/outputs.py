"""What a model gives for a split."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from drcli.data.prepared import Split
from drcli.metrics import Scores, score


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
