"""InfoReg: regulation of information acquisition (Huang, Wei, Yang, Hu; CVPR 2025, arXiv 2503.18595)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field, NonNegativeFloat
from torch import Tensor
from torch.nn import functional

from drcli.bases import Search
from drcli.data.batches import Batch
from drcli.methods.base import Event, Losses, own_block
from drcli.methods.context import Context
from drcli.methods.parts.early_window import Form, rise, trace
from drcli.methods.parts.gradients import trainable
from drcli.methods.parts.unimodal_scores import UnimodalScores, right_scores
from drcli.models.fusion import Outputs
from drcli.recipe.schema import Recipe


class InfoReg(UnimodalScores):
    """Joint training that pulls the encoders ahead back to their weights at the start of the epoch, while it is early.

        L     = CE(z, y) + weight * sum over m of CE(z_m, y)     weight 0: InfoReg, 1: the paper's InfoReg*
        s_m   = mean over the batch of p_m(y), p_m = softmax(z_m) of the unimodal logits;  form code: the sum
        gap_m = s_m - (mean over n != m of s_n)
        a_m   = exp(beta * tanh(gap_m));                         form code: beta * exp(tanh(gap_m))
        g_m  <- g_m + a_m (w_m - w0_m)   if gap_m > 0, in the window of m

    with w_m the weights of encoder m and w0_m those at the start of the epoch: the gradient of a_m / 2 |w_m - w0_m|^2.
    With T_m(t) the sum over the batches of epoch t of |g_m|^2 (form code: of the mean of g^2 over each tensor of two
    dimensions or more, added up), the window of m is open in epoch t where

        paper: t >= 2 and (T_m(t-1) - T_m(t-2)) / T_m(t-1) > threshold
        code:  t = 0 or (A(t-1) - A(t-2)) / A(t-1) > threshold,  A(u) = (sum of T_m over the ten epochs up to u) / 10

    Any number of modalities (the mean of the others is ours); with one this is joint training. The scores are those of
    the whole batch where gradients are accumulated. Squares are of gradients that are means over a batch.

    Differences from the authors' code, in its own form: each modality has a window of its own (there, the traces of
    audio open both); their beta by modality is `betas`. While zeros of epochs before the first are in its mean, that
    window cannot close, for ten epochs at least. Its scores are sums over the batch, so that tanh(gap) is nearly 1.
    """

    class Settings(UnimodalScores.Settings):
        """The recipe block of `inforeg`; defaults are the paper's best, 0.95 and 0.1 (by modality), 0.05 the code's."""

        form: Form = Field("paper", description="of pull and window; code: the authors' released one")
        beta: Annotated[NonNegativeFloat, Search(0.1, 1, source="paper")] = Field(
            0.9, le=50, description="how strongly encoders ahead are pulled back"
        )
        betas: dict[str, Annotated[float, Field(ge=0, le=50)]] = Field(
            {}, description="beta of the modalities that have one of their own"
        )
        threshold: Annotated[float, Search(0.01, 0.1, source="paper")] = Field(
            0.04, ge=-1e6, le=1, description="K: rise of the trace above which the window is open; 1: never"
        )
        weight: NonNegativeFloat = Field(
            0.0, le=1e6, allow_inf_nan=False, description="weight of each unimodal loss; the fused loss has weight 1"
        )

    year: ClassVar[int | None] = 2025
    neutral: ClassVar[Mapping[str, Any] | None] = {"form": "paper", "threshold": 1.0, "weight": 0.0}
    state: ClassVar[tuple[str, ...]] = ("traces",)

    settings: Settings

    @classmethod
    def check(cls, recipe: Recipe) -> Iterator[tuple[str, str]]:
        """Refuse unimodal logits that cannot be had or learned from, and betas of modalities that there are not."""
        yield from super().check(recipe)
        key, settings = own_block(recipe)
        if settings.weight > 0 and settings.unimodal_logits == "detached_probe":
            yield f"{key}.weight", "must be 0 with detached_probe, from which encoders do not learn"
        for m in sorted(settings.betas.keys() - recipe.modalities.keys()):
            yield f"{key}.betas.{m}", f"is no modality of the recipe: {', '.join(recipe.modalities)}"

    def setup(self, ctx: Context) -> None:
        """Find the parameters of each encoder; there are no traces yet."""
        self.encoders = {m: trainable(encoder) for m, encoder in ctx.model.encoders.items()}
        self.traces: dict[str, list[float]] = {m: [] for m in self.encoders}
        self.on_epoch_start(ctx)

    def on_epoch_start(self, ctx: Context) -> None:
        """Keep the weights, and decide which windows are open."""
        self.anchors = {m: [p.detach().clone() for p in parameters] for m, parameters in self.encoders.items()}
        self.sums = {m: torch.zeros((), device=ctx.device) for m in self.encoders}
        self.opened = {
            m: rise(traces, self.settings.form) > self.settings.threshold for m, traces in self.traces.items()
        }

    def on_epoch_end(self, ctx: Context) -> Event | None:
        """Note the traces of the epoch."""
        for m, total in self.sums.items():
            self.traces[m].append(total.item())
        return None

    def losses(self, ctx: Context, outputs: Outputs, batch: Batch) -> Losses:
        """Return the fused loss, those of probes, and the weighted unimodal ones."""
        losses = super().losses(ctx, outputs, batch)
        source = self.settings.unimodal_logits
        if self.settings.weight > 0 and len(outputs.features) > 1 and source != "detached_probe":
            for m, logits in ctx.model.unimodal_logits(outputs.features, source).items():
                losses[m] = self.settings.weight * functional.cross_entropy(logits, batch.labels)
        return losses

    def modulate(self, ctx: Context, outputs: Outputs, batch: Batch) -> None:
        """Pull the encoders ahead back, and add up the squares of gradients."""
        if len(self.encoders) == 1:
            return
        paper = self.settings.form == "paper"
        scores = right_scores(self.unimodal_logits(ctx.model, outputs.features), batch.labels)
        for m, gap in leads({m: s / len(batch.labels) if paper else s for m, s in scores.items()}).items():
            strength = self._strength(m, gap)
            ctx.log(f"coefficient/{m}", strength)
            self._note(m, wanted=paper)
            for parameter, anchor in zip(self.encoders[m], self.anchors[m], strict=True):
                if parameter.grad is not None:
                    parameter.grad += strength * (parameter.detach() - anchor)
            self._note(m, wanted=not paper)

    def _strength(self, modality: str, gap: Tensor) -> Tensor:
        """Return a_m (), 0 where the modality is not ahead or its window is closed."""
        beta, lead = self.settings.betas.get(modality, self.settings.beta), torch.tanh(gap)
        strength = torch.exp(beta * lead) if self.settings.form == "paper" else beta * torch.exp(lead)
        return torch.where((gap > 0) & self.opened[modality], strength, 0.0)

    def _note(self, modality: str, *, wanted: bool) -> None:
        """Add the squares of the present gradients of an encoder to its trace, if they are wanted."""
        if wanted and any(parameter.grad is not None for parameter in self.encoders[modality]):
            self.sums[modality] += trace(self.encoders[modality], self.settings.form)


def leads(scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return gap_m, {m: ()}, from the scores {m: ()} of two modalities or more."""
    total = torch.stack(list(scores.values())).sum()
    return {m: score - (total - score) / (len(scores) - 1) for m, score in scores.items()}
