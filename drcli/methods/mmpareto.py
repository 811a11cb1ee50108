"""MMPareto (Wei, Hu; ICML 2024, arXiv 2405.17730)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor

from drcli.bases import Search
from drcli.data.batches import Batch
from drcli.methods.base import Losses
from drcli.methods.context import Context
from drcli.methods.multi_loss import MultiLoss
from drcli.methods.parts.gradients import gradients_of, norms, sum_over, trainable
from drcli.models.fusion import Outputs
from drcli.task import TaskName


class MMPareto(MultiLoss):
    """Multi-loss whose fused and unimodal gradient of each encoder are combined so that they do not conflict.

    Losses are those of `multi_loss`. With G_0 and G_m the gradients of CE(z, y) and of weight * CE(z_m, y) for all
    parameters of encoder m, concatenated,

        (k_0, k_m) = (1/2, 1/2)                       if <G_0, G_m> > 0
                     argmin |k_0 G_0 + k_m G_m|       otherwise, over k_0 + k_m = 1: the Pareto direction
        g = 2 k_0 G_0 + 2 k_m G_m,   S = G_0 + G_m
        g <- gamma * max(1, |S| / |g|) * g            for each tensor of the encoder, |.| over its elements

    With a = |G_0|^2, b = <G_0, G_m> <= 0, d = |G_m|^2 the minimum is at k_0 = (d - b) / (a + d - 2 b); where one of the
    gradients is 0, k_0 is 0.999 (G_0) or 0.001 (G_m), as in the authors' code. Fusion and heads get the gradient of the
    sum of the losses. Any number of modalities: an encoder has two losses, the fused one and its own. With one modality
    this is joint training. Where gradients are accumulated, G_0 and G_m are those of the whole batch.

    A tensor's gradient becomes at least gamma times as long as that of `multi_loss`, which is a learning rate of the
    encoders larger by gamma; a fair table has `multi_loss` at that rate beside it.

    Differences from the authors' code: G_0 and the sum S are computed from two backward passes instead of M + 2; where
    g is 0 and S is not, in one tensor, the tensor stands still instead of becoming not a number.
    """

    class Settings(MultiLoss.Settings):
        """The recipe block of `mmpareto`."""

        gamma: Annotated[PositiveFloat, Search(0.5, 3)] = Field(
            1.5, le=1e6, allow_inf_nan=False, description="factor of every encoder's combined gradient"
        )

    graphs: ClassVar[bool] = False  # a unimodal loss goes back before the sum does, through the same recording
    year: ClassVar[int | None] = 2024
    neutral: ClassVar[Mapping[str, Any] | None] = {"weight": 0.0}
    tasks: ClassVar[frozenset[TaskName]] = MultiLoss.tasks

    settings: Settings

    def setup(self, ctx: Context) -> None:
        """Find the parameters of each encoder that is not frozen."""
        super().setup(ctx)
        found = {m: trainable(encoder) for m, encoder in ctx.model.encoders.items()}
        self.encoders = {m: parameters for m, parameters in found.items() if parameters}
        self.own: dict[str, list[Tensor]] = {}

    def backward(self, ctx: Context, losses: Losses) -> None:
        """Fill the gradients with those of the sum, and keep those of each unimodal loss beside them."""
        for m in self.encoders.keys() & losses.keys():
            found = gradients_of(losses[m], self.encoders[m])
            self.own[m] = [old + new for old, new in zip(self.own[m], found, strict=True)] if m in self.own else found
        super().backward(ctx, losses)

    def modulate(self, ctx: Context, outputs: Outputs, batch: Batch) -> None:
        """Replace the gradient of every encoder by the combined one."""
        for m in (m for m in self.encoders if m in self.own):
            parameters, own = self.encoders[m], self.own.pop(m)
            sum_over(ctx.world, parameters, own)
            total = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
            combined, weight = combine(total, own, self.settings.gamma)
            ctx.log(f"coefficient/{m}", weight)
            torch._foreach_copy_(total, combined)


def combine(total: Sequence[Tensor], own: Sequence[Tensor], gamma: float) -> tuple[list[Tensor], Tensor]:
    """Return the gradient of an encoder by tensor, and the weight k_m () of its unimodal gradient.

    Args:
        total: S = G_0 + G_m by tensor.
        own: G_m by tensor.
        gamma: factor.
    """
    fused = [x - y for x, y in zip(total, own, strict=True)]
    products = torch.stack([(x * y).sum() for x, y in zip(fused, own, strict=True)]).sum()
    weight = 1 - fused_weight(norms(fused).square().sum(), products, norms(own).square().sum())
    mixed = [torch.lerp(x, y, weight) * 2 for x, y in zip(fused, own, strict=True)]
    before, after = norms(mixed), norms(total)
    longer = torch.where(before > 0, after / before, 1.0).clamp(min=1.0)
    return [gamma * factor * x for factor, x in zip(longer, mixed, strict=True)], weight


def fused_weight(a: Tensor, b: Tensor, d: Tensor) -> Tensor:
    """Return k_0 (), the weight of the fused gradient, of a = |G_0|^2, b = <G_0, G_m> and d = |G_m|^2."""
    between = (d - b) / (a + d - 2 * b)
    conflict = torch.where(b >= a, 0.999, torch.where(b >= d, 0.001, between))
    return torch.where(b > 0, 0.5, conflict)
