"""Modality dropout (Neverova, Wolf, Taylor, Nebout; ModDrop, TPAMI 2016, arXiv 1501.00102)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from drcli.bases import Search
from drcli.data.batches import Batch
from drcli.data.rows import to_device
from drcli.methods.base import Method
from drcli.methods.context import Context
from drcli.methods.parts.late_fusion import not_late
from drcli.models.fusion import Outputs
from drcli.models.multimodal import MultimodalModel
from drcli.recipe.schema import Recipe
from drcli.task import TaskName


class ModalityDropout(Method):
    """Joint training on features of which whole modalities are missing at random.

        h_m,i <- k_m,i h_m,i + (1 - k_m,i) t_m,   k_m,i = 0 with probability p, for every sample i and epoch anew
        L = CE(z, y) of the fused logits of what is left

    A sample never loses all: where all would be dropped, one of them stays, each with the same probability, so that a
    modality of two is missing with probability p - p^2 / 2. t_m is 0, or with `replacement: token` a vector that is
    learned from 0. Nothing is rescaled, and evaluation drops nothing. Any number of modalities; with one it is joint
    training. The features of all modalities are computed, so that batch normalisation sees every sample.

    Differences from ModDrop: the features are dropped, not the inputs, and from the first epoch on.
    """

    class Settings(Method.Settings):
        """The recipe block of `modality_dropout`."""

        p: Annotated[float, Search(0.1, 0.5, source="ours; the literature has 0.2 to 0.5")] = Field(
            0.3,
            ge=0,
            le=1,
            description="probability that a modality of a training sample is dropped; the literature has 0.2 to 0.5",
        )
        replacement: Literal["zero", "token"] = Field(
            "zero", description="what takes the place of its features; zero: zeros; token: a vector that is learned"
        )

    compiled: ClassVar[bool] = False
    year: ClassVar[int | None] = 2016
    neutral: ClassVar[Mapping[str, Any] | None] = {"p": 0.0, "replacement": "zero"}
    moves: ClassVar[str] = "every encoder, the fusion and the tokens, by the optimiser"
    tasks: ClassVar[frozenset[TaskName]] = Method.tasks

    settings: Settings

    @classmethod
    def check(cls, recipe: Recipe) -> Iterator[tuple[str, str]]:
        """Refuse fusions that exchange before there are features to drop."""
        yield from not_late(recipe)

    def build(self, model: MultimodalModel) -> dict[str, nn.Module]:
        """Return the tokens (D_m), if there are any."""
        if self.settings.replacement == "zero":
            return {}
        widths = model.fusion.widths
        self.tokens = nn.ParameterDict({m: nn.Parameter(torch.zeros(width)) for m, width in widths.items()})
        return {"tokens": self.tokens}

    def setup(self, ctx: Context) -> None:
        """Keep everything until the first epoch draws, {m: (N,)}."""
        self.kept = {m: torch.ones(len(ctx.train), dtype=torch.bool) for m in ctx.model.modalities}

    def on_epoch_start(self, ctx: Context) -> None:
        """Draw what every training row keeps in this epoch."""
        drawn = {m: torch.rand(len(ctx.train), generator=ctx.generator("kept", m)) for m in ctx.model.modalities}
        self.kept = kept_modalities(drawn, self.settings.p)

    def forward(self, ctx: Context, batch: Batch) -> Outputs:
        """Run the model on a batch, without what is dropped of it."""
        if self.settings.p == 0:
            return super().forward(ctx, batch)
        features = ctx.model.encode(batch.inputs, batch.lengths, batch.present)
        kept = {m: to_device(self.kept[m][batch.index], ctx.device) for m in features}
        for m, share in ctx.average({m: rows.float().mean() for m, rows in kept.items()}, batch).items():
            ctx.log(f"coefficient/{m}", share)
        left = {m: torch.where(kept[m][:, None], h, self._replacement(m, h)) for m, h in features.items()}
        return Outputs(features, ctx.model.fuse(left, batch.present))

    def _replacement(self, modality: str, features: Tensor) -> Tensor:
        if self.settings.replacement == "zero":
            return torch.zeros_like(features)
        token: Tensor = self.tokens[modality]
        return token.expand_as(features)


def kept_modalities(drawn: Mapping[str, Tensor], p: float) -> dict[str, Tensor]:
    """Return which rows keep a modality, {m: (N,)}, from uniform numbers {m: (N,)} in [0, 1).

    Those below p drop it; where all are, the modality of the largest stays.
    """
    largest = torch.stack(list(drawn.values())).max(dim=0).values
    return {m: (u >= p) | (u == largest) for m, u in drawn.items()}
