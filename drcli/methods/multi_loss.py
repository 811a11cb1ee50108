"""Multi-loss: joint training with one more cross-entropy for every modality."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, NonNegativeFloat
from torch import Tensor, nn

from drcli.bases import Search
from drcli.data.batches import Batch
from drcli.methods.base import Losses, Method, own_block
from drcli.methods.context import Context
from drcli.methods.parts.unimodal_scores import apply_heads, linear_heads, not_offered, offered
from drcli.models.fusion import Outputs
from drcli.models.multimodal import MultimodalModel
from drcli.recipe.schema import Recipe
from drcli.task import TaskName


class MultiLoss(Method):
    """Fused and unimodal losses together.

        L = CE(z, y) + weight * sum over m of CE(z_m, y)

    z are the fused logits, which alone predict; z_m = V_m h_m + c_m comes from a linear head of its own
    on the features of encoder m, or from what the fusion offers. This is the "uniform baseline" of Wei
    and Hu (ICML 2024, arXiv 2405.17730) and the "multi-loss" of Kontras et al. (arXiv 2411.07335). The
    former's code always has heads of their own (`own`). With one modality it is joint training.
    """

    class Settings(Method.Settings):
        """The recipe block of `multi_loss`."""

        weight: Annotated[NonNegativeFloat, Search(0.1, 10, log=True)] = Field(
            1.0, le=1e6, allow_inf_nan=False, description="weight of each unimodal loss; the fused loss has weight 1"
        )
        unimodal_logits: Literal["own", "slice", "head"] = Field(
            "own", description="own: from one linear head per modality; slice, head: from the fusion"
        )

    neutral: ClassVar[Mapping[str, Any] | None] = {"weight": 0.0}
    moves: ClassVar[str] = "every encoder, the fusion and one head per modality, by the optimiser"

    tasks: ClassVar[frozenset[TaskName]] = Method.tasks
    settings: Settings

    @classmethod
    def check(cls, recipe: Recipe) -> Iterator[tuple[str, str]]:
        """Refuse unimodal logits that the fusion does not offer."""
        _, settings = own_block(recipe)
        able = ["own", *(how for how in ("slice", "head") if how in offered(recipe))]
        yield from not_offered(recipe, settings.unimodal_logits, able)

    def build(self, model: MultimodalModel) -> dict[str, nn.Module]:
        """Return the heads, if they are the method's own."""
        if self.settings.unimodal_logits != "own":
            return {}
        self.heads = linear_heads(model)
        return {"heads": self.heads}

    def losses(self, ctx: Context, outputs: Outputs, batch: Batch) -> Losses:
        """Return the fused loss and, by modality, the weighted unimodal ones."""
        losses = super().losses(ctx, outputs, batch)
        if self.settings.weight > 0 and len(outputs.features) > 1:
            for m, logits in self.unimodal_logits(ctx.model, outputs.features).items():
                losses[m] = self.settings.weight * ctx.criterion(logits, batch.labels)
        return losses

    def unimodal_logits(self, model: MultimodalModel, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return logits of each modality alone, {m: (B, C)}, of features {m: (B, D_m)}."""
        how = self.settings.unimodal_logits
        return apply_heads(self.heads, features) if how == "own" else model.unimodal_logits(features, how)
