"""Ensemble: encoders trained apart, their predictions averaged."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from drcli.data.batches import Batch
from drcli.methods.base import Method
from drcli.methods.context import Context
from drcli.methods.parts.unimodal_scores import apply_heads, linear_heads
from drcli.models.fusion import Outputs
from drcli.models.multimodal import MultimodalModel
from drcli.models.presence import ALL_PRESENT, weights_of
from drcli.names import TEACHERS
from drcli.task import TaskName


class Ensemble(Method):
    """The unimodal runs of the same seed, their probabilities averaged; nothing is trained.

        p(y | x) = (1/M) sum over m of softmax(z_m)(y)

    z_m are the logits of the unimodal run of modality m, at its selected epoch. The logits returned are
    log p, so that their softmax is p. The recipe's fusion is not used: the encoders run by themselves
    under an intermediate fusion, too. Kontras et al. (arXiv 2411.07335) found it hard to beat. The
    unimodal ensemble of Du et al. (ICML 2023, arXiv 2305.01233) averages logits instead. The values of a regression are
    averaged as they are.
    """

    requires: ClassVar[frozenset[str]] = frozenset({TEACHERS})
    neutral: ClassVar[Mapping[str, Any] | None] = None
    neutral_reason: ClassVar[str] = "it trains nothing jointly: its encoders come from unimodal runs"
    moves: ClassVar[str] = "nothing; encoders and heads are those of the unimodal runs"
    trains: ClassVar[bool] = False
    leaves_out: ClassVar[bool] = True
    tasks: ClassVar[frozenset[TaskName]] = Method.tasks

    def build(self, model: MultimodalModel) -> dict[str, nn.Module]:
        """Return room for the heads of the unimodal runs."""
        self.heads = linear_heads(model)
        return {"heads": self.heads}

    def setup(self, ctx: Context) -> None:
        """Take encoders and heads from the unimodal runs."""
        for m in ctx.model.modalities:
            ctx.model.encoders[m].load_state_dict(ctx.teachers[m].encoder)
            self.heads[m].load_state_dict(ctx.teachers[m].head)

    def predict(self, model: MultimodalModel, batch: Batch) -> Outputs:
        """Return the log of averaged probabilities (B, C), or averaged values (B, 1), and the encoders' features."""
        features = model.encode_alone(batch.inputs, batch.lengths, batch.present)
        joined = mean_values if model.fusion.num_classes == 1 else log_mean_softmax  # one class is a value
        return Outputs(features, joined(apply_heads(self.heads, features), batch.present))


def mean_values(values: Mapping[str, Tensor], present: Mapping[str, Tensor] = ALL_PRESENT) -> Tensor:
    """Return the mean over modalities, (B, 1), of values {m: (B, 1)}: of those that each row has."""
    stacked = torch.stack(list(values.values()))
    if not present:
        return stacked.mean(dim=0)
    return (stacked * weights_of(present, values, stacked)[:, :, None]).sum(dim=0)


def log_mean_softmax(logits: Mapping[str, Tensor], present: Mapping[str, Tensor] = ALL_PRESENT) -> Tensor:
    """Return log((1/M) sum over m of softmax(z_m)), (B, C), of logits {m: (B, C)}.

    Where rows lack a modality, the sum and M are over those that each has; see `Batch.present`.
    """
    log_probabilities = {m: z.log_softmax(dim=1) for m, z in logits.items()}
    if not present:
        return torch.stack(list(log_probabilities.values())).logsumexp(dim=0) - math.log(len(logits))
    stacked = torch.stack(list(log_probabilities.values()))
    return (stacked + weights_of(present, logits, stacked).log()[:, :, None]).logsumexp(dim=0)
