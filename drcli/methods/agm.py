"""Adaptive gradient modulation (Li, Li, Hu, Lei, Li, Zhou; ICCV 2023, arXiv 2308.07686)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import Tensor

from drcli.bases import Search
from drcli.data.batches import Batch
from drcli.methods.base import Last, Losses, Window
from drcli.methods.context import Context
from drcli.methods.parts.shapley import coalitions, shapley_weights, weighted_sum
from drcli.methods.parts.unimodal_scores import kappas, response_loss
from drcli.models.fusion import Outputs
from drcli.optim import clip_where_large
from drcli.relearning.features import evaluating


class AGM(Window):
    """Joint training whose gradient through each modality's response to the batch is scaled.

    With f(S) the logits (B, C) when the (normalised) inputs outside the coalition S are 0, f of the empty
    one 0, and t = 1, 2, ... counting the batches that are modulated,

        phi_m = Shapley value of m in f; sum over m of phi_m = f(all)
        s_m = mean over i of -log max(softmax(phi_m)_i[y_i], 1e-8)          a loss: lower is better
        ratio_m = exp(M / (M - 1) * (mean over n of s_n - s_m))
        ref_m = the same of T, where T_m is the mean of s_m over the batches before t; 1 at t = 1
        kappa_m = exp(alpha * min(ref_m - ratio_m, cap))

    in the epochs `starts` to `ends` the gradient is the sum over m of kappa_m (d phi_m / d theta)^T dL/df,
    for every parameter. It is computed from L + sum over m of (kappa_m - 1) <phi_m, dL/df>, dL/df held
    constant, which is L where kappa is 1. A batch takes 2^M - 2 forward passes beside the one of joint
    training; they run in evaluation mode, so zeros do not enter batch normalisation's statistics. Works
    with any fusion; with one modality kappa is 1. Where gradients are accumulated, a part counts as a batch.

    kappa can reach e^(alpha * cap): as in the authors' code, in every step where an entry of the fusion's
    weights has a gradient beyond [-1, 1], all gradients are clipped to the norm `clip`.

    Differences from the authors' code: after the window kappa is 1, where the code scales by the last one to the end
    (`after: keep`, which takes the passes to the end, too); any number of modalities instead of two or three; an
    all-zero pass whose result the code discards is not run.
    """

    class Settings(Window.Settings):
        """The recipe block of `agm`; the defaults are the authors' on CREMA-D.

        Their window is 0 to 20 with epochs counted from 1: here, counted from 0, it ends at 19.
        """

        alpha: Annotated[NonNegativeFloat, Search(0.1, 5, log=True, source="ours; the authors have 1 and 2.5")] = Field(
            1.0, le=1e6, allow_inf_nan=False, description="how strongly gradients are scaled; 0: not at all"
        )
        cap: PositiveFloat | None = Field(
            10.0, le=1e6, allow_inf_nan=False, description="upper bound of ref - ratio in the factor; null: no bound"
        )
        ends: Last = 19
        after: Literal["one", "keep"] = Field(
            "one",
            description="factor of the gradients after the last epoch of the window; one: 1; keep: the last one of the "
            "window, as in the authors' code",
        )
        clip: PositiveFloat | None = Field(
            1.0,
            le=1e6,
            description="norm to which gradients are clipped in steps where a gradient of the fusion exceeds 1; "
            "null: never",
        )

    year: ClassVar[int | None] = 2023
    neutral: ClassVar[Mapping[str, Any] | None] = {"alpha": 0.0, "clip": None}
    state: ClassVar[tuple[str, ...]] = ("means", "count")

    settings: Settings

    def setup(self, ctx: Context) -> None:
        """Start the running means at 0, which makes the first reference 1."""
        self.weights = shapley_weights(ctx.model.modalities)
        self.means = {m: torch.zeros((), device=ctx.device) for m in ctx.model.modalities}
        self.last = {m: torch.ones((), device=ctx.device) for m in ctx.model.modalities}
        self.count = 0

    def losses(self, ctx: Context, outputs: Outputs, batch: Batch) -> Losses:
        """Return the joint loss, its gradient modulated in the window."""
        losses = super().losses(ctx, outputs, batch)
        if not self.is_on(ctx) and not self._keeps(ctx):
            return losses
        responses = self._responses(ctx, outputs, batch)
        kappa = self.last if self._keeps(ctx) else self._kappa(ctx, responses, batch)
        for m, value in kappa.items():
            ctx.log(f"coefficient/{m}", value)
        (slope,) = torch.autograd.grad(losses["joint"], outputs.logits, retain_graph=True)
        extra = torch.stack([(kappa[m] - 1) * (phi * slope).sum() for m, phi in responses.items()]).sum()
        return {"joint": losses["joint"] + (extra - extra.detach())}  # changes the gradient, not the loss logged

    def _keeps(self, ctx: Context) -> bool:
        """Whether the last factors of the window hold in the present epoch."""
        return self.settings.after == "keep" and self.count > 0 and ctx.epoch > self.settings.ends

    def _responses(self, ctx: Context, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return phi_m, {m: (B, C)}."""
        everyone = frozenset(ctx.model.modalities)
        values = {everyone: outputs.logits}
        with evaluating(ctx.model), torch.enable_grad():
            for coalition in coalitions(ctx.model.modalities):
                if coalition != everyone:
                    inputs = {m: x if m in coalition else torch.zeros_like(x) for m, x in batch.inputs.items()}
                    values[coalition] = ctx.model(inputs, batch.lengths, batch.present).logits
        return {m: weighted_sum(weights, values) for m, weights in self.weights.items()}

    def _kappa(self, ctx: Context, responses: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Return kappa of this batch, and take its s_m into the running means."""
        own = {m: response_loss(phi.detach(), batch.labels) for m, phi in responses.items()}
        scores = ctx.average(own, batch)
        kappa = kappas(scores, self.means, alpha=self.settings.alpha, cap=self.settings.cap)
        self.count += 1
        for m, mean in self.means.items():
            mean.mul_((self.count - 1) / self.count).add_(scores[m] / self.count)
            self.last[m].copy_(kappa[m])
        return kappa

    def state_dict(self) -> dict[str, Any]:
        """Return running means and count, and the last factors where they are kept."""
        return super().state_dict() | ({"last": self.last} if self.settings.after == "keep" else {})

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned, tensors in place."""
        super().load_state_dict(state)
        for m, value in state.get("last", {}).items():
            self.last[m].copy_(value)

    def modulate(self, ctx: Context, outputs: Outputs, batch: Batch) -> None:
        """Clip the gradients where those of the fusion are large."""
        watched = [p.grad for p in ctx.model.fusion.parameters() if p.grad is not None and p.dim() > 1]
        if self.settings.clip is not None and watched:
            clip_where_large([p.grad for p in ctx.trainable if p.grad is not None], watched, self.settings.clip)
