"""Multimodal learning with alternating unimodal adaptation (Zhang, Yoon, Bansal, Yao; CVPR 2024, arXiv 2311.10707)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from drcli.data.batches import Batch, parts
from drcli.methods.base import Method, own_block
from drcli.methods.context import Context
from drcli.methods.parts.alternating import Alternating
from drcli.methods.parts.shared_head import shared_width, unequal_widths
from drcli.methods.parts.weighted import Weights, entropy_weights, fixed_logits, unfit_weights, weighted_logits
from drcli.models.fusion import Outputs
from drcli.models.multimodal import MultimodalModel
from drcli.recipe.schema import Recipe


class MLA(Alternating):
    """Modalities in turn through one shared head, whose gradient is kept off the features seen before.

    In the turn of m, z_m = W h_m + b and the loss is CE(z_m, y); encoder m and the head take a step. Before it,
    from the second step of the run on, with r the mean of h_m over the batch, t the batch of the epoch from 0
    of T, and P the identity at first,

        lambda = 0.1^(1 + t / T),   k = P r
        P <- P - k k^T / (lambda + r . k),   P <- P / |P|_F with `normalise`
        dL/dW <- dL/dW P^T

    Prediction: z = sum over m of w_m z_m for every sample, w = softmax over m of -H_m, H_m the entropy of
    softmax(z_m); or `weights`. The fusion of the recipe is not used. Any number of modalities with features of
    equal width. An epoch is one pass over the training rows per encoder.

    Differences from the authors' code: the projection acts (there, it looks for a parameter of another name, so
    that it never does: `projection: false`); lambda + r . k is a number (there, a matrix: the outer product k r);
    the entropy is over the classes of one sample (there, over the batch, one weight per batch). The first
    normalisation divides P by about sqrt(D), and with it the head's learning rate, for good.
    """

    class Settings(Method.Settings):
        """The recipe block of `mla`."""

        projection: bool = Field(
            True, description="whether the head's gradient is projected off features seen before; false: as released"
        )
        normalise: bool = Field(True, description="whether the projection is divided by its Frobenius norm every step")
        prediction: Literal["entropy", "fixed"] = Field(
            "entropy", description="entropy: weights by each sample's certainty; fixed: `weights`"
        )
        weights: Weights = None

    leaves_out: ClassVar[bool] = True
    year: ClassVar[int | None] = 2024
    neutral: ClassVar[Mapping[str, Any] | None] = None
    neutral_reason: ClassVar[str] = "it never trains fused logits: every modality takes steps of its own"
    state: ClassVar[tuple[str, ...]] = ("projection",)
    moves: ClassVar[str] = "every encoder in its turn and one shared head, by the optimiser; the fusion is not used"

    settings: Settings

    @classmethod
    def check(cls, recipe: Recipe) -> Iterator[tuple[str, str]]:
        """Refuse features of unequal widths, and weights that nothing uses or that are of other modalities."""
        key, settings = own_block(recipe)
        yield from unequal_widths(recipe)
        if settings.weights is not None and settings.prediction != "fixed":
            yield f"{key}.weights", f"is for prediction fixed, not {settings.prediction}; leave it out"
        yield from ((f"{key}.weights", message) for message in unfit_weights(settings.weights, recipe.modalities))

    def build(self, model: MultimodalModel) -> dict[str, nn.Module]:
        """Return the shared head."""
        self.head = nn.Linear(shared_width(model), model.fusion.num_classes)
        return {"head": self.head}

    def setup(self, ctx: Context) -> None:
        """Start with a projection that changes nothing."""
        self.projection = torch.eye(self.head.in_features, device=ctx.device)
        self.batches = len(parts(torch.arange(len(ctx.train)), ctx.training.batch_size))

    def logits_of(self, modality: str, features: Tensor) -> Tensor:
        """Return the shared head's logits (B, C)."""
        logits: Tensor = self.head(features)
        return logits

    def modulate(self, ctx: Context, outputs: Outputs, batch: Batch) -> None:
        """Project the head's gradient, except in the first step of the run."""
        gradient = self.head.weight.grad
        assert gradient is not None
        before = gradient.norm()
        if self.settings.projection and ctx.step > 0:
            gradient.copy_(gradient @ self._next_projection(ctx, outputs.features[self.turn]).T)
        ctx.log(f"coefficient/{self.turn}", gradient.norm() / before.clamp(min=torch.finfo(before.dtype).tiny))

    def _next_projection(self, ctx: Context, features: Tensor) -> Tensor:
        """Take the features (B, D) of a turn into the projection (D, D), and return it."""
        past = ctx.step // len(ctx.model.modalities) % self.batches / self.batches
        mean, normalise = features.mean(dim=0), self.settings.normalise
        return self.projection.copy_(project_off(self.projection, mean, 0.1 ** (1 + past), normalise=normalise))

    def predict(self, model: MultimodalModel, batch: Batch) -> Outputs:
        """Return the weighted sum of the modalities' logits (B, C), and the encoders' features."""
        features = model.encode_alone(batch.inputs, batch.lengths, batch.present)
        logits = self.all_logits(features)
        if self.settings.prediction == "fixed":
            return Outputs(features, fixed_logits(logits, self.settings.weights, batch.present))
        return Outputs(features, weighted_logits(logits, entropy_weights(logits, batch.present)))


def project_off(projection: Tensor, mean: Tensor, lambda_: float, *, normalise: bool) -> Tensor:
    """Return P - k k^T / (lambda + r . k), k = P r; divided by its Frobenius norm with `normalise`.

    Args:
        projection: P (D, D), symmetric.
        mean: r (D,), the mean features of a batch.
        lambda_: above 0; the smaller, the less of the direction r is left.
        normalise: whether P is scaled to Frobenius norm 1.
    """
    k = projection @ mean
    found = projection - torch.outer(k, k) / (lambda_ + mean @ k)
    return found / found.norm() if normalise else found
