"""The unimodal runs that a method distils from: frozen encoders and heads, and what they give for a batch."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from drcli.data.batches import Batch
from drcli.methods.context import Context
from drcli.models.multimodal import MultimodalModel


class Teachers:
    """Encoders and linear heads of the unimodal runs of the same seed, in evaluation mode and without gradients.

    They are copies that no optimiser holds and no checkpoint needs: a resumed run takes them from the unimodal
    runs again.

    Args:
        ctx: the run, whose `teachers` they are.
    """

    def __init__(self, ctx: Context) -> None:
        encoders = {m: copy.deepcopy(encoder) for m, encoder in ctx.model.encoders.items()}
        for m, encoder in encoders.items():
            encoder.load_state_dict(ctx.teachers[m].encoder)
            encoder.requires_grad_(False)
            encoder.eval()
        self.encoders = encoders
        self.heads = {m: _on(ctx.device, ctx.teachers[m].head) for m in encoders}
        self._precision = ctx.model.precision
        self._fusion = ctx.model.fusion

    @torch.no_grad()
    def features(self, batch: Batch) -> dict[str, Tensor]:
        """Return their features {m: (B, D_m)} of the very inputs that the student sees; each encoder runs alone."""
        model = MultimodalModel(self.encoders, self._fusion, self._precision)  # type: ignore[arg-type]
        return model.encode_alone(batch.inputs, batch.lengths, batch.present)

    def logits(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the unimodal runs' logits {m: (B, C)} of their own features."""
        return {m: functional.linear(x, self.heads[m]["weight"], self.heads[m]["bias"]) for m, x in features.items()}

    def modules(self) -> list[nn.Module]:
        """Return the encoders."""
        return list(self.encoders.values())


def _on(device: torch.device, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.to(device) for name, tensor in tensors.items()}


def feature_distances(
    features: Mapping[str, Tensor], targets: Mapping[str, Tensor], reduction: str
) -> dict[str, Tensor]:
    """Return the mean over the batch of |h_m - t_m|^2, {m: ()}; with reduction "mean" divided by D_m.

    Args:
        features: h_m (B, D_m) by modality.
        targets: t_m, of the same shapes; they get no gradient.
        reduction: "mean" or "sum" over the D_m features.
    """
    squares = {m: (h - targets[m].detach()).square() for m, h in features.items()}
    return {m: x.mean() if reduction == "mean" else x.sum(dim=1).mean() for m, x in squares.items()}


def distillation(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return T^2 times the batch mean of KL(softmax(t / T) || softmax(z / T)), shape (), of logits (B, C)."""
    ours, theirs = (logits / temperature).log_softmax(dim=1), (teacher.detach() / temperature).log_softmax(dim=1)
    return temperature**2 * functional.kl_div(ours, theirs, reduction="batchmean", log_target=True)
