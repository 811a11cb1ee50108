"""Disentangled gradient learning (Wei, Luo, Luo; ICCV 2025, arXiv 2507.10213)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field, PositiveFloat
from torch.nn import functional

from drcli.bases import Search
from drcli.data.batches import Batch
from drcli.methods.base import Losses, Method
from drcli.methods.context import Context
from drcli.methods.parts.gradients import trainable
from drcli.methods.parts.late_fusion import not_late
from drcli.models.fusion import Outputs
from drcli.recipe.schema import Recipe


class DGL(Method):
    """Encoders learn from unimodal losses alone, the fusion from the fused loss alone.

    With sg the stopped gradient and f the fusion,

        z   = f(sg(h_1), ..., sg(h_M))                  trains the fusion
        z_m = f(0, ..., h_m, ..., 0)                    trains encoder m; the fusion, of which f is, stands still in it
        L   = CE(z, y) + alpha * sum over m of CE(z_m, y)

    so that the gradient of an encoder does not depend on the other modalities' inputs. Predictions are z. Any number
    of modalities, any late fusion; with one modality this is joint training. alpha multiplies the learning rate of
    the encoders: a fair table has `multi_loss` with the same weight beside it.

    Differences from the authors' code: one graph instead of two passes of the head with gradients set to None between
    them, which gives the same gradients; total gradients are clipped at the norm 40 there, here by the recipe
    (`training.clip_grad_norm`). For fusions that are not additive there are their own unimodal forms; here all fusions
    have the other features set to 0.
    """

    class Settings(Method.Settings):
        """The recipe block of `dgl`; the authors' alpha is 4 or 5 on CREMA-D, 2 or 3 on Kinetics-Sounds."""

        alpha: Annotated[PositiveFloat, Search(0.5, 8, log=True, source="ours; the authors have 2 to 5")] = Field(
            4.0, le=1e6, allow_inf_nan=False, description="weight of each unimodal loss, from which encoders learn"
        )

    year: ClassVar[int | None] = 2025
    neutral: ClassVar[Mapping[str, Any] | None] = None
    neutral_reason: ClassVar[str] = (
        "its encoders never learn from the fused loss; with one modality it is joint training"
    )
    moves: ClassVar[str] = "every encoder, by unimodal losses, and the fusion, by the fused loss"

    settings: Settings

    @classmethod
    def check(cls, recipe: Recipe) -> Iterator[tuple[str, str]]:
        """Refuse fusions whose encoders exchange: their features are not those of one modality."""
        yield from not_late(recipe)

    def losses(self, ctx: Context, outputs: Outputs, batch: Batch) -> Losses:
        """Return the fused loss, which ends at the features, and the unimodal ones."""
        if len(outputs.features) == 1:
            return super().losses(ctx, outputs, batch)
        fused = ctx.model.fuse({m: h.detach() for m, h in outputs.features.items()}, batch.present)
        unimodal = ctx.model.unimodal_logits(outputs.features, "zero_others")
        alone = {m: self.settings.alpha * functional.cross_entropy(z, batch.labels) for m, z in unimodal.items()}
        return {"joint": functional.cross_entropy(fused, batch.labels), **alone}

    def backward(self, ctx: Context, losses: Losses) -> None:
        """Fill the fusion's gradients from the fused loss, and the encoders' from the unimodal ones."""
        fused, *unimodal = losses.values()
        if not unimodal:
            super().backward(ctx, losses)
            return
        fused.backward()
        if moved := trainable(ctx.model.encoders):  # not all of them are frozen
            torch.stack(unimodal).sum().backward(inputs=moved)
