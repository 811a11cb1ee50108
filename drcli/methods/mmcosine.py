"""MMCosine (Xu, Feng, Zhang, Hu; ICASSP 2023, arXiv 2303.05338)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field, PositiveFloat
from torch import Tensor
from torch.nn import functional

from drcli.bases import Search
from drcli.data.batches import Batch
from drcli.methods.base import Method
from drcli.methods.context import Context
from drcli.methods.parts.late_fusion import not_additive
from drcli.models.fusion import Additive, Outputs
from drcli.models.multimodal import MultimodalModel
from drcli.recipe.schema import Recipe


class MMCosine(Method):
    """Joint training on cosines, so that no modality leads by the length of its features or weights.

        z = scale * (sum over m of z_m),   z_m,c = W_m,c . h_m / (|W_m,c| |h_m|)

    with W_m,c the weights (D_m,) through which class c reads modality m in an additive fusion; L = CE(z, y). The same z
    predicts. The bias of the fusion is not used, unless `bias` adds it. Any number of modalities; |z_c| <= M * scale.

    Differences from the authors' code: it offers this for fusions that are not additive too, by slicing their last
    layer, which reads something else there; those are refused. For CREMA-D it can add a contrastive loss.
    """

    class Settings(Method.Settings):
        """The recipe block of `mmcosine`."""

        scale: Annotated[PositiveFloat, Search(1, 50, log=True)] = Field(
            10.0, le=1e6, allow_inf_nan=False, description="s: multiple of the cosines; more classes need more"
        )
        bias: bool = Field(False, description="add the bias of the fusion, which the paper leaves out")

    year: ClassVar[int | None] = 2023
    neutral: ClassVar[Mapping[str, Any] | None] = None
    neutral_reason: ClassVar[str] = "its logits are sums of cosines, whatever its settings"
    moves: ClassVar[str] = "every encoder and the fusion's weights, by the optimiser; its bias only with `bias: true`"

    settings: Settings

    @classmethod
    def check(cls, recipe: Recipe) -> Iterator[tuple[str, str]]:
        """Refuse fusions that do not read each modality through weights of its own."""
        yield from not_additive(recipe)

    def forward(self, ctx: Context, batch: Batch) -> Outputs:
        """Run the encoders, and take the cosines."""
        return self._of_cosines(ctx.model, super().forward(ctx, batch))

    def predict(self, model: MultimodalModel, batch: Batch) -> Outputs:
        """Predict with the cosines."""
        return self._of_cosines(model, super().predict(model, batch))

    def _of_cosines(self, model: MultimodalModel, outputs: Outputs) -> Outputs:
        """Return the outputs with logits of cosines."""
        assert isinstance(model.fusion, Additive)
        logits = cosine_logits(model.fusion, outputs.features, self.settings.scale)
        if self.settings.bias:
            logits = logits + model.fusion({m: h.new_zeros(1, h.shape[1]) for m, h in outputs.features.items()})
        return Outputs(outputs.features, logits)


def cosine_logits(fusion: Additive, features: Mapping[str, Tensor], scale: float) -> Tensor:
    """Return scale * (sum over m of cos(W_m,c, h_m)), (B, C), of features {m: (B, D_m)}."""
    found = [
        functional.linear(functional.normalize(features[m], dim=1), functional.normalize(weight[:, columns], dim=1))
        for m, (weight, columns) in fusion.readers().items()
    ]
    total = found[0]
    for cosines in found[1:]:
        total = total + cosines
    return scale * total
