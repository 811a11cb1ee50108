"""Multi-loss balanced (Kontras, Chatzichristos, Blaschko, De Vos; BMVC 2024, arXiv 2405.07930)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, cast

import torch
from pydantic import Field, NonNegativeFloat
from torch import Tensor, nn

from drcli.bases import Search
from drcli.data.batches import Batch
from drcli.methods.context import Context
from drcli.methods.multi_loss import MultiLoss
from drcli.methods.parts.gradients import scale_gradients, undone_by
from drcli.methods.parts.unimodal_scores import right_scores
from drcli.models.fusion import Additive, Outputs


class MLB(MultiLoss):
    """Multi-loss whose gradients are reduced for the modalities ahead and increased for those behind, at every step.

    Losses are those of `multi_loss`. After the backward pass, with p_m = softmax(z_m) of the unimodal logits,

        s_m = mean over the batch of p_m(y)
        r_m = (mean over n != m of s_n) / s_m
        c_m = 1 + (ceiling - 1) * tanh(alpha * (r_m - 1))  if r_m > 1, else 1 + tanh(alpha * (r_m - 1))

    and c_m, between 1 - tanh(alpha) and the ceiling, multiplies all gradients of encoder m, that of the weight which
    reads h_m in the fused head, where the fusion is additive, and that of the weight of modality m's own head. Biases
    of heads keep their gradients. Any number of modalities; with one this is joint training. Where gradients are
    accumulated, s_m is that of the whole batch.

    Adam divides a gradient by its size, so that a factor mostly cancels. The method is meant for SGD.

    Differences from the authors' code: a ceiling of 2 is its `tanh_mode: 1`, any other its `tanh_mode: 2` with
    beta = ceiling; no window of epochs (there, by default all). Its classes of this method call `super` with a name
    that is not defined.
    """

    class Settings(MultiLoss.Settings):
        """The recipe block of `mlb`; the default of alpha is the authors' on CREMA-D."""

        alpha: Annotated[NonNegativeFloat, Search(0.1, 2, log=True)] = Field(
            0.8, le=1e6, allow_inf_nan=False, description="how strongly gradients are scaled; 0: not at all"
        )
        ceiling: float = Field(
            2.0, ge=1, le=1e6, allow_inf_nan=False, description="largest factor of a modality that is behind"
        )

    year: ClassVar[int | None] = 2024
    neutral: ClassVar[Mapping[str, Any] | None] = {"weight": 0.0, "alpha": 0.0}

    settings: Settings

    def warnings(self, ctx: Context) -> Iterable[str]:
        """Warn of an optimiser that undoes factors."""
        yield from super().warnings(ctx)
        yield from undone_by(ctx.training.optimizer)

    def modulate(self, ctx: Context, outputs: Outputs, batch: Batch) -> None:
        """Scale the gradients of encoders and heads."""
        if len(ctx.model.modalities) == 1:
            return
        with torch.no_grad():
            scores = right_scores(self.unimodal_logits(ctx.model, outputs.features), batch.labels)
        for m, factor in balancing(scores, self.settings.alpha, self.settings.ceiling).items():
            ctx.log(f"coefficient/{m}", factor)
            scale_gradients(ctx.model.encoders[m].parameters(), factor)
            self._scale_heads(ctx, m, factor)

    def _scale_heads(self, ctx: Context, modality: str, factor: Tensor) -> None:
        """Scale the gradients of the weights that read a modality's features: the fused head's, and its own head's."""
        if self.settings.unimodal_logits == "own":
            scale_gradients([cast("nn.Linear", self.heads[modality]).weight], factor)
        if isinstance(ctx.model.fusion, Additive):
            weight, columns = ctx.model.fusion.readers()[modality]
            assert weight.grad is not None
            weight.grad[:, columns] *= factor


def balancing(scores: Mapping[str, Tensor], alpha: float, ceiling: float) -> dict[str, Tensor]:
    """Return c_m, {m: ()}, from the scores {m: ()} of two modalities or more."""
    found = {}
    for m, score in scores.items():
        others = torch.stack([other for n, other in scores.items() if n != m]).mean()
        tiny = torch.finfo(score.dtype).tiny  # 0 / 0 if all probabilities underflow
        slope = torch.tanh(alpha * (others.clamp(min=tiny) / score.clamp(min=tiny) - 1))
        found[m] = 1 + torch.where(slope > 0, (ceiling - 1) * slope, slope)
    return found
