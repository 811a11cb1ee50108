"""Data Remixing (ICML 2025, arXiv 2506.11550)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt
from torch import Tensor, nn
from torch.nn import functional

from drcli.amounts import counted
from drcli.bases import Search
from drcli.data.batches import Batch, Selection
from drcli.data.rows import to_device
from drcli.methods.base import Losses, Method
from drcli.methods.context import Context
from drcli.methods.parts.divergence import to_uniform
from drcli.methods.parts.late_fusion import not_late
from drcli.methods.parts.unimodal_scores import apply_heads, linear_heads
from drcli.models.fusion import Outputs
from drcli.models.multimodal import MultimodalModel
from drcli.recipe.schema import Recipe
from drcli.relearning.features import evaluating

FEWEST = 2
"""Rows that a modality must be given to be trained in an epoch: batch normalisation has no variance over one."""


class DataRemixing(Method):
    """Every row trains the modality that is least certain of it, and batches are of one modality each.

    With one linear head per modality beside the fusion, z_m = V_m h_m + c_m, in the epochs before `warmup`

        L = CE(z, y) + weight * sum over m of CE(z_m, y)

    and then, before every epoch, row i is given to the modality m of smallest KL(softmax(z_m,i) || uniform), the
    last in the order of their names at a tie. The epoch trains on the rows of each modality in turn, the last
    name first, in batches of their own, with the features of the others 0:

        L = CE(z, y) + CE(z_m, y)

    The encoders of the others are not run in such a batch: nothing moves them, neither momentum nor weight decay
    nor their statistics. A modality that is given a single row sits the epoch out. z predicts. Late fusions only.
    After the warm-up all encoders together see every row once per epoch, 1 / M of the passes of joint training.
    Dividing costs a pass over the training rows per epoch, without gradients.

    Differences from the authors' code: there the masked modality is run and its features overwritten with 0, so
    that its encoder gets gradients of 0, on which weight decay and the momentum of Adam still move it, and its
    batch statistics change; runs hand their division over in two files of one name; six classes are fixed.
    """

    class Settings(Method.Settings):
        """The recipe block of `data_remixing`; the defaults are the authors'."""

        warmup: NonNegativeInt = Field(10, le=1_000_000, description="epochs at first, on all modalities of every row")
        weight: Annotated[NonNegativeFloat, Search(0.1, 2, log=True)] = Field(
            0.5, le=1e6, description="weight of each unimodal loss in the warm-up"
        )

    year: ClassVar[int | None] = 2025
    num_modalities: ClassVar[tuple[int, int | None]] = (2, None)
    neutral: ClassVar[Mapping[str, Any] | None] = {"warmup": 1_000_000, "weight": 0.0}
    moves: ClassVar[str] = "every encoder, the fusion and one head per modality, by the optimiser"
    distributed_reason: ClassVar[str] = "a modality may be given fewer rows than there are devices"

    settings: Settings

    @classmethod
    def check(cls, recipe: Recipe) -> Iterator[tuple[str, str]]:
        """Refuse fusions that exchange between encoders."""
        yield from not_late(recipe)

    def build(self, model: MultimodalModel) -> dict[str, nn.Module]:
        """Return one linear head per modality."""
        self.heads = linear_heads(model)
        return {"heads": self.heads}

    def warnings(self, ctx: Context) -> Iterable[str]:
        """Warn where every epoch is warm-up."""
        if self.settings.warmup >= ctx.epochs:
            yield f"no row is given to a modality (warmup: {self.settings.warmup}, {counted(ctx.epochs, 'epoch')})"

    def selections(self, ctx: Context) -> Iterable[Selection]:
        """Divide the training rows among the modalities."""
        if ctx.epoch < self.settings.warmup:
            return super().selections(ctx)
        features, _ = ctx.features("train")
        names = sorted(features)
        given = least_certain(self._logits(ctx, features))
        rows = {m: (given == i).nonzero()[:, 0] for i, m in enumerate(names)}
        self.fractions = {m: len(own) / len(given) for m, own in rows.items()}
        return [alone(m, names, rows[m]) for m in reversed(names) if len(rows[m]) >= FEWEST]

    @torch.no_grad()
    def _logits(self, ctx: Context, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the heads' logits {m: (N, C)} of features on the CPU, in the order of the names."""
        with evaluating(self.heads):
            own = {m: to_device(features[m], ctx.device) for m in sorted(features)}
            return {m: z.cpu() for m, z in apply_heads(self.heads, own).items()}

    def losses(self, ctx: Context, outputs: Outputs, batch: Batch) -> Losses:
        """Return the fused loss and those of the heads: all of them in the warm-up, then that of the batch."""
        losses = super().losses(ctx, outputs, batch)
        if ctx.epoch >= self.settings.warmup:
            for m, fraction in self.fractions.items():
                ctx.log(f"coefficient/{m}", torch.full((), fraction, device=ctx.device))
            (m,) = (m for m in ctx.model.modalities if m not in batch.seen)
            losses["own"] = functional.cross_entropy(self.heads[m](outputs.features[m]), batch.labels)
        elif self.settings.weight > 0:
            for m, logits in apply_heads(self.heads, outputs.features).items():
                losses[m] = self.settings.weight * functional.cross_entropy(logits, batch.labels)
        return losses


def least_certain(logits: Mapping[str, Tensor]) -> Tensor:
    """Return the number of the modality with the smallest KL(softmax(z_m) || uniform) of each row, (N,).

    Args:
        logits: z_m (N, C), two modalities or more; at a tie the last one counts.
    """
    distances = torch.stack([to_uniform(z) for z in logits.values()])
    return len(logits) - 1 - distances.flip(0).argmin(dim=0)


def alone(modality: str, modalities: Iterable[str], rows: Tensor) -> Selection:
    """Return rows (n,) of which one modality is seen."""
    return Selection(rows, {m: torch.zeros(len(rows), dtype=torch.bool) for m in modalities if m != modality})
