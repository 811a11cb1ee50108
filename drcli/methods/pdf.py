"""Predictive dynamic fusion (Cao, Xia, Ding, Zhang, Hu; ICML 2024, arXiv 2406.04802)."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from drcli.data.batches import Batch
from drcli.methods.base import Losses
from drcli.methods.context import Context
from drcli.methods.parts.late_logits import LateLogits
from drcli.methods.parts.unimodal_scores import right_probabilities
from drcli.methods.parts.weighted import softmax_over, weighted_logits
from drcli.models.fusion import Outputs
from drcli.models.multimodal import MultimodalModel
from drcli.models.presence import ALL_PRESENT

TINY = 1e-6
"""Confidences are kept this far from 0 and 1 before their logarithm is taken."""


class PDF(LateLogits):
    """Logits of the modalities weighted by predictions of how sure they will be of the true class.

        c_m = sigmoid(g_m(stopgrad(h_m)))                          predicted confidence, trained on |c_m - p_m(y)|
        holo_m = sum over n != m of log c_n / sum over n of log c_n
        w = softmax over m of r_m (c_m + holo_m),   z = sum over m of w_m z_m,   for every sample
        L = CE(z, y) + sum over m of [CE(z_m, y) + mean |c_m - stopgrad(p_m(y))|],   p_m = softmax(z_m)

    w is held constant in CE(z, y). In training r_m = 1; in prediction r_m = u_m / (max over n of u_n) with
    u_m = mean over classes of |p_m - 1 / C|, which lowers what a modality far from sure is given. g_m has three linear
    layers, of D_m to 2 D_m to D_m to 1 units. Any number of modalities (two in the paper); with one, w is 1.

    Differences: ReLU between the layers of g_m, without which three layers are one (`activation: none` is the authors'
    code); confidences are kept from 0 and 1 by 1e-6, where the code gives NaN.
    """

    class Settings(LateLogits.Settings):
        """The recipe block of `pdf`."""

        activation: Literal["relu", "none"] = Field(
            "relu", description="between the linear layers that predict confidences; none: the authors' code"
        )
        calibrate: bool = Field(
            True, description="whether predictions weigh modalities by how far from uniform they are"
        )

    year: ClassVar[int | None] = 2024
    moves: ClassVar[str] = "every encoder, the fusion and one predictor of confidences per modality, by the optimiser"

    settings: Settings

    def build(self, model: MultimodalModel) -> dict[str, nn.Module]:
        """Return one predictor of confidences per modality."""
        activation = nn.ReLU if self.settings.activation == "relu" else nn.Identity
        self.predictors = nn.ModuleDict({m: predictor(width, activation) for m, width in model.fusion.widths.items()})
        return {"predictors": self.predictors}

    def losses(self, ctx: Context, outputs: Outputs, batch: Batch) -> Losses:
        """Return the losses of logits, and for each modality that of its predicted confidence, each of shape ()."""
        losses = super().losses(ctx, outputs, batch)
        logits = ctx.model.unimodal_logits(outputs.features, self.settings.unimodal_logits)
        confidences = self._confidences(outputs.features)
        means = {m: weights.detach().mean() for m, weights in beliefs(confidences).items()}
        for m, mean in ctx.average(means, batch).items():
            ctx.log(f"coefficient/{m}", mean)
        for m, z in logits.items():
            right = right_probabilities(z.detach(), batch.labels)
            losses[f"confidence_{m}"] = (confidences[m] - right).abs().mean()
        return losses

    def predict(self, model: MultimodalModel, batch: Batch) -> Outputs:
        """Return the logits (B, C) weighted by calibrated beliefs, and the encoders' features."""
        features = model.encode(batch.inputs, batch.lengths, batch.present)
        logits = model.unimodal_logits(features, self.settings.unimodal_logits)
        relative = calibration(logits) if self.settings.calibrate else None
        return Outputs(features, weighted_logits(logits, beliefs(self._confidences(features), relative, batch.present)))

    def _weights(self, logits: Mapping[str, Tensor], features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {m: w.detach() for m, w in beliefs(self._confidences(features)).items()}

    def _confidences(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {m: self.predictors[m](h.detach())[:, 0] for m, h in features.items()}


def predictor(width: int, activation: type[nn.Module]) -> nn.Sequential:
    """Return a network from features (B, D) to confidences (B, 1) in (0, 1)."""
    layers: list[nn.Module] = []
    for before, after in pairwise((width, 2 * width, width, 1)):
        layers += [nn.Linear(before, after), activation()]
    return nn.Sequential(*layers[:-1], nn.Sigmoid())


def holo_confidences(confidences: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return holo_m = sum over n != m of log c_n / sum over n of log c_n, {m: (B,)}, of c {m: (B,)}."""
    logs = {m: c.clamp(TINY, 1 - TINY).log() for m, c in confidences.items()}
    total = torch.stack(list(logs.values())).sum(dim=0)
    return {m: (total - log) / total for m, log in logs.items()}


def beliefs(
    confidences: Mapping[str, Tensor],
    relative: Mapping[str, Tensor] | None = None,
    present: Mapping[str, Tensor] = ALL_PRESENT,
) -> dict[str, Tensor]:
    """Return w = softmax over m of r_m (c_m + holo_m), {m: (B,)}; without `relative`, r is 1.

    The softmax is over the modalities that a row has; see `Batch.present`.
    """
    holo = holo_confidences(confidences)
    scores = {m: c + holo[m] for m, c in confidences.items()}
    scaled = scores if relative is None else {m: relative[m] * score for m, score in scores.items()}
    return softmax_over(scaled, present)


def calibration(logits: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return r_m = u_m / max over n of u_n, {m: (B,)}, of logits {m: (B, C)}; 1 where all are uniform."""
    sure = {m: (z.softmax(dim=1) - 1 / z.shape[1]).abs().mean(dim=1) for m, z in logits.items()}
    most = torch.stack(list(sure.values())).max(dim=0).values
    return {m: torch.where(most > 0, u / most.clamp(min=TINY**2), torch.ones_like(u)) for m, u in sure.items()}
