"""Adaptively masked subnetworks (Yang, Pan, Jiang, Xu, Tang; TPAMI 2025, arXiv 2404.08347)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor
from torch.nn import functional

from drcli.bases import Search
from drcli.data.batches import Batch
from drcli.methods.base import Last, Window, own_block
from drcli.methods.context import Context
from drcli.methods.parts.encoder_tensors import Tensors, selected, without_selected
from drcli.methods.parts.unimodal_scores import UnimodalScores
from drcli.models.fusion import Concat, Fusion, Outputs, Sum
from drcli.recipe.schema import Recipe

LEAST, MOST = 0.1, 0.9


class AMSS(Window, UnimodalScores):
    """Joint training in which each step updates a part of every encoder, the smaller the stronger the modality.

        rho_m = (H(Y) - CE(z_m, y) + 1/2) / H(softmax(h_m))       strength, of the batch; h_m over its D_m features
        share_m = clip(softmax over m of -rho_m / T, 0.1, 0.9)    1 / M where a numerator is not positive
        a tensor of n output channels keeps the gradients of ceil(share_m * n) of them, the others are 0

    H(Y) is the entropy of the labels of the batch. Channels are drawn without replacement, with probabilities p_i
    proportional to the squares of their gradients; and likewise, in every row of the fused linear layer, the D_m
    columns of modality m. AMSS+ (`plus`) divides what is kept by p_i + 1 / n. For two modalities share_a is the paper's
    e^(rho_v / T) / (e^(rho_a / T) + e^(rho_v / T)); more are ours. In epochs starts ... ends.

    Gradients of 0 still let momentum and weight decay move a channel, as in the authors' code. With p_i of about 1 / n,
    AMSS+ multiplies by about n / 2: choose the learning rate for it.

    Differences from the authors' code: its H(Y) is - sum of p log softmax(p), which is not the entropy; its AMSS+
    divides linear layers by the indices of the columns instead of their p_i; it leaves out the first convolution and
    those of the shortcuts (here `tensors` says which are masked), and rounds the number of columns down.
    """

    class Settings(Window.Settings, UnimodalScores.Settings):
        """The recipe block of `amss`."""

        temperature: Annotated[PositiveFloat, Search(0.05, 2, log=True)] = Field(
            0.2, le=1e6, allow_inf_nan=False, description="T: the smaller, the more the shares differ"
        )
        plus: bool = Field(False, description="AMSS+: gradients that are kept are divided by p + 1 / n")
        tensors: Tensors = Field(
            "conv4d",
            description="weights of encoders that are masked; conv4d: those of 2-d convolutions; non1d: those of two "
            "dimensions or more; all: all",
        )
        ends: Last = 1_000_000

    year: ClassVar[int | None] = 2024
    neutral: ClassVar[Mapping[str, Any] | None] = {"ends": -1}

    settings: Settings

    @classmethod
    def check(cls, recipe: Recipe) -> Iterator[tuple[str, str]]:
        """Refuse unimodal logits that the fusion does not offer, and encoders without tensors to mask."""
        yield from super().check(recipe)
        yield from without_selected(recipe, own_block(recipe)[1].tensors)

    def is_on(self, ctx: Context) -> bool:
        """Return whether gradients of this epoch are masked; never those of a single modality."""
        return len(ctx.model.modalities) > 1 and super().is_on(ctx)

    def modulate(self, ctx: Context, outputs: Outputs, batch: Batch) -> None:
        """Keep a part of every encoder's gradients."""
        if not self.is_on(ctx):
            return
        logits = self.unimodal_logits(ctx.model, outputs.features)
        found = shares(strengths(logits, outputs.features, batch.labels), self.settings.temperature)
        for m, share in found.items():
            ctx.log(f"coefficient/{m}", torch.full((), share, device=ctx.device))
            generator = ctx.generator("kept", m, ctx.step, device=ctx.device)
            for parameter in selected(ctx.model.encoders[m], self.settings.tensors):
                if parameter.grad is not None:
                    mask_channels(parameter.grad, share, generator, plus=self.settings.plus)
            for gradient in columns(ctx.model.fusion, m):
                gradient.mul_(factors(gradient.square(), share, generator, plus=self.settings.plus))


def strengths(
    logits: Mapping[str, Tensor], features: Mapping[str, Tensor], labels: Tensor
) -> dict[str, tuple[float, float]]:
    """Return numerator and denominator of rho_m, from logits {m: (B, C)}, features {m: (B, D_m)} and labels (B,)."""
    certain = 0.5 + float(torch.special.entr(torch.bincount(labels).double() / len(labels)).sum())
    return {m: (certain - float(functional.cross_entropy(z, labels)), entropy(features[m])) for m, z in logits.items()}


def entropy(features: Tensor) -> float:
    """Return the mean over the batch of H(softmax(h)), in nats, of features (B, D)."""
    return float(torch.special.entr(features.softmax(dim=1)).sum(dim=1).mean())


def shares(strength: Mapping[str, tuple[float, float]], temperature: float) -> dict[str, float]:
    """Return the part of each modality's channels that is kept, from 0.1 to 0.9."""
    if any(above <= 0 for above, _ in strength.values()):
        return dict.fromkeys(strength, 1 / len(strength))
    scores = torch.tensor([-above / max(below, 1e-12) / temperature for above, below in strength.values()])
    return {m: min(max(part, LEAST), MOST) for m, part in zip(strength, scores.softmax(dim=0).tolist(), strict=True)}


def factors(importance: Tensor, share: float, generator: torch.Generator, *, plus: bool) -> Tensor:
    """Return what gradients (R, n) are multiplied by: in each row, ceil(share * n) of n are kept, the others 0.

    Args:
        importance: (R, n), from 0; drawn in proportion, without replacement, by the smallest of exponential times.
        share: part that is kept.
        generator: on the device of `importance`.
        plus: divide by p + 1 / n instead of 1, p being the importance over the row's sum.
    """
    many, tiny = importance.shape[1], torch.finfo(importance.dtype).tiny
    p = importance / importance.sum(dim=1, keepdim=True).clamp(min=tiny)
    times = torch.empty_like(p).exponential_(generator=generator) / p.clamp(min=tiny)
    kept = times.topk(math.ceil(share * many), dim=1, largest=False).indices
    values = 1 / (p + 1 / many) if plus else torch.ones_like(p)
    return torch.zeros_like(p).scatter_(1, kept, values.gather(1, kept))


def mask_channels(gradient: Tensor, share: float, generator: torch.Generator, *, plus: bool) -> None:
    """Keep, in place, a part of a gradient's n output channels, its first dimension; see `factors`."""
    importance = gradient.square().reshape(len(gradient), -1).sum(dim=1)
    factor = factors(importance[None], share, generator, plus=plus)
    gradient.mul_(factor.reshape(-1, *[1] * (gradient.dim() - 1)))


def columns(fusion: Fusion, modality: str) -> list[Tensor]:
    """Return the gradient, (C, D_m), of what an additive fusion's weight reads of a modality; none of other fusions."""
    if isinstance(fusion, Sum):
        own = fusion.linears[modality].get_parameter("weight").grad
        return [] if own is None else [own]
    if isinstance(fusion, Concat) and fusion.linear.weight.grad is not None:
        parts = torch.split(fusion.linear.weight.grad, list(fusion.widths.values()), dim=1)
        return [parts[list(fusion.widths).index(modality)]]
    return []
