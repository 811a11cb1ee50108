"""On-the-fly prediction modulation (Wei, Hu, Du, Wen; TPAMI 2024, arXiv 2410.11582)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field, NonNegativeFloat
from torch import Tensor

from drcli.amounts import counted
from drcli.bases import Search
from drcli.data.batches import Batch
from drcli.methods.base import First
from drcli.methods.context import Context
from drcli.methods.parts.late_fusion import not_late
from drcli.methods.parts.unimodal_scores import UnimodalScores, right_scores
from drcli.models.fusion import Outputs
from drcli.recipe.schema import Recipe


class OPM(UnimodalScores):
    """Joint training that drops features of the leading modalities at random, the more the further they are ahead.

    With p_m = softmax(z_m) of the unimodal logits, from epoch `starts` on and with probability `probability` per batch,

        s_m   = sum over the batch of p_m(y)
        rho_m = tanh(max(s_m / (mean over n != m of s_n) - 1, 0))     s_m / s_n where there are two: the paper's ratio
        q_m   = min(base * (1 + lambda * rho_m), 1)  if rho_m > 0, else 0
        theta = (sum over m of D_m q_m) / (sum over m of D_m)
        h_m <- b_m h_m / (1 - theta),   b_m = 0 with probability q_m, else 1, for each sample

    and the fused loss is that of the features that are left. The modality with the lowest score is never dropped, so
    that a sample always keeps one. Predictions drop nothing. Any number of modalities, any late fusion; with one this
    is joint training. Where gradients are accumulated, s_m is that of each part of a batch. What is dropped depends on
    seed, epoch, modality and sample alone.

    Differences from the authors' code: any number of modalities (two there); no removal of samples that keep no
    modality, which cannot happen. The file of theirs that drops features does not compile.
    """

    class Settings(UnimodalScores.Settings):
        """The recipe block of `opm`; the defaults are those of the authors' script for Kinetics-Sounds."""

        base: Annotated[float, Search(0.1, 0.9)] = Field(
            0.5, ge=0, le=1, description="smallest probability with which a leading modality is dropped"
        )
        lambda_: Annotated[NonNegativeFloat, Search(0.1, 2, log=True)] = Field(
            0.5, alias="lambda", le=1e6, allow_inf_nan=False, description="slope from its lead to the probability"
        )
        probability: Annotated[float, Search(0.1, 1)] = Field(
            0.7, ge=0, le=1, description="part of the batches in which features are dropped"
        )
        starts: First = 6

    year: ClassVar[int | None] = 2024
    neutral: ClassVar[Mapping[str, Any] | None] = {"base": 0.0}

    settings: Settings

    @classmethod
    def check(cls, recipe: Recipe) -> Iterator[tuple[str, str]]:
        """Refuse fusions whose encoders exchange, and unimodal logits that the fusion does not offer."""
        yield from super().check(recipe)
        yield from not_late(recipe)

    def setup(self, ctx: Context) -> None:
        """Draw the numbers of the first epoch."""
        self._draw(ctx)

    def warnings(self, ctx: Context) -> Iterable[str]:
        """Warn of a run that ends before features are dropped."""
        if self.settings.starts >= ctx.epochs:
            length = counted(ctx.epochs, "epoch")
            yield f"it never acts (starts: {self.settings.starts}, {length}): this is joint training"

    def on_epoch_start(self, ctx: Context) -> None:
        """Draw a number for each training row and modality."""
        self._draw(ctx)

    def _draw(self, ctx: Context) -> None:
        rows = len(ctx.train)
        self.draws = {m: torch.rand(rows, generator=ctx.generator("opm", m)) for m in ctx.model.modalities}

    def forward(self, ctx: Context, batch: Batch) -> Outputs:
        """Run the model, and the fusion again on what is left of the features."""
        outputs = super().forward(ctx, batch)
        if len(outputs.features) == 1 or ctx.epoch < self.settings.starts:
            return outputs
        drop = self._probabilities(ctx, outputs, batch)
        for m, q in drop.items():
            ctx.log(f"coefficient/{m}", q)
        kept = {m: self.draws[m][batch.index].to(q.device) >= q for m, q in drop.items()}
        return Outputs(outputs.features, ctx.model.fuse(dropped(outputs.features, kept, drop), batch.present))

    def _probabilities(self, ctx: Context, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return q_m, {m: ()}; 0 in the batches in which nothing is dropped."""
        drawn = torch.rand((), generator=ctx.generator("opm", "step", ctx.step)).item()
        if drawn >= self.settings.probability:
            return {m: torch.zeros((), device=ctx.device) for m in outputs.features}
        features = {m: h.detach() for m, h in outputs.features.items()}
        scores = ctx.all_reduce(right_scores(self.unimodal_logits(ctx.model, features), batch.labels))
        return probabilities(scores, self.settings.base, self.settings.lambda_)


def probabilities(scores: Mapping[str, Tensor], base: float, slope: float) -> dict[str, Tensor]:
    """Return q_m in [0, 1], {m: ()}, from the scores {m: ()} of two modalities or more."""
    found = {}
    for m, score in scores.items():
        others = torch.stack([other for n, other in scores.items() if n != m]).mean()
        lead = torch.tanh((score / others.clamp(min=torch.finfo(score.dtype).eps) - 1).clamp(min=0))
        found[m] = torch.where(lead > 0, (base * (1 + slope * lead)).clamp(max=1), torch.zeros_like(lead))
    return found


def dropped(
    features: Mapping[str, Tensor], kept: Mapping[str, Tensor], drop: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return features {m: (B, D_m)} with 0 where rows {m: (B,)} are not kept, divided by 1 - theta.

    Args:
        features: of all modalities.
        kept: which rows keep each modality.
        drop: q_m, {m: ()}.
    """
    total = sum(h.shape[1] for h in features.values())
    theta = torch.stack([h.shape[1] * drop[m] for m, h in features.items()]).sum() / total
    return {m: torch.where(kept[m][:, None], h, 0.0) / (1 - theta) for m, h in features.items()}
