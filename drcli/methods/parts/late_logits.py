"""Base of the methods that train and predict with the logits of single modalities, weighted for every sample."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor
from torch.nn import functional

from drcli.data.batches import Batch
from drcli.methods.base import Losses, Method, own_block
from drcli.methods.context import Context
from drcli.methods.parts.unimodal_scores import not_offered, offered
from drcli.methods.parts.weighted import weighted_logits, without_absent
from drcli.models.fusion import Outputs
from drcli.models.multimodal import MultimodalModel
from drcli.recipe.schema import Recipe


class LateLogits(Method):
    """Base: z = sum over m of w_m z_m for every sample, L = CE(z, y) + sum over m of CE(z_m, y).

    z_m are the fusion's own: `slice` its terms, such as W[:, slice_m] h_m + b / M of a concatenation, `head` its heads.
    A subclass gives w_m by `_weights`, (B,) for each modality; they are 1 unless it does.
    """

    class Settings(Method.Settings):
        """What the recipe blocks of these methods have in common."""

        unimodal_logits: Literal["slice", "head"] = Field(
            "slice", description="where the logits of one modality come from: terms or heads of the fusion"
        )

    neutral: ClassVar[Mapping[str, Any] | None] = None
    neutral_reason: ClassVar[str] = "it predicts with unimodal logits weighted by sample, and trains each of them"

    leaves_out: ClassVar[bool] = True
    compiled: ClassVar[bool] = False

    settings: Settings

    @classmethod
    def check(cls, recipe: Recipe) -> Iterator[tuple[str, str]]:
        """Refuse unimodal logits that the fusion does not offer."""
        _, settings = own_block(recipe)
        able = [how for how in ("slice", "head") if how in offered(recipe)]
        if able:
            yield from not_offered(recipe, settings.unimodal_logits, able)
        else:
            yield "fusion.name", f"has no logits of single modalities, which {recipe.method} weighs; use concat or sum"

    def forward(self, ctx: Context, batch: Batch) -> Outputs:
        """Run the model on a batch; its logits are the weighted ones."""
        return self._weighted(ctx.model, batch)

    def losses(self, ctx: Context, outputs: Outputs, batch: Batch) -> Losses:
        """Return the loss of the weighted logits and those of each modality's, each of shape ()."""
        losses = super().losses(ctx, outputs, batch)
        logits = ctx.model.unimodal_logits(outputs.features, self.settings.unimodal_logits)
        return {**losses, **{m: functional.cross_entropy(z, batch.labels) for m, z in logits.items()}}

    def predict(self, model: MultimodalModel, batch: Batch) -> Outputs:
        """Return the weighted logits (B, C), and the encoders' features."""
        return self._weighted(model, batch)

    def _weighted(self, model: MultimodalModel, batch: Batch) -> Outputs:
        features = model.encode(batch.inputs, batch.lengths, batch.present)
        logits = model.unimodal_logits(features, self.settings.unimodal_logits)
        weights = without_absent(self._weights(logits, features), batch.present)
        return Outputs(features, weighted_logits(logits, weights))

    def _weights(self, logits: Mapping[str, Tensor], features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {m: z.new_ones(len(z)) for m, z in logits.items()}
