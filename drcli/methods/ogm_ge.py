"""OGM with generalisation enhancement (Peng, Wei, Deng, Wang, Hu; CVPR 2022, arXiv 2203.15332)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from drcli.data.batches import Batch
from drcli.methods.context import Context
from drcli.methods.ogm import Ogm
from drcli.models.fusion import Outputs


class OgmGe(Ogm):
    """OGM that adds noise to the gradients, because damping them shrinks the noise of SGD as well.

    For every tensor that OGM modulates, of every encoder, also of those with k_m = 1,

        g <- k_m * g + n,    n ~ N(0, std(g)^2) iid,    std over the elements of the undamped g

    A tensor of one element has no standard deviation and gets no noise. The noise of a step depends on
    seed, modality, epoch and step alone. The paper draws n from the covariance of SGD's gradient; like
    the authors' code, this takes one variance a tensor in its place. The code adds 1e-8 to the standard
    deviation, which is left out here.
    """

    neutral: ClassVar[Mapping[str, Any] | None] = {"ends": -1}

    def modulate(self, ctx: Context, outputs: Outputs, batch: Batch) -> None:
        """Damp the encoders' gradients and add noise to them."""
        added: dict[str, list[Tensor]] = {}
        for m in ctx.model.modalities if self.is_on(ctx) else ():
            generator = ctx.generator("ogm_ge", m, ctx.step, device=ctx.device)
            added[m] = [noise(gradient, generator) for gradient in self.gradients(m)]
        super().modulate(ctx, outputs, batch)
        for m, tensors in added.items():
            torch._foreach_add_(self.gradients(m), tensors)


def noise(gradient: Tensor, generator: torch.Generator) -> Tensor:
    """Return Gaussian noise of a gradient's shape and its elements' standard deviation; 0 for one element."""
    if gradient.numel() == 1:
        return torch.zeros_like(gradient)
    return torch.empty_like(gradient).normal_(generator=generator).mul_(gradient.std())
