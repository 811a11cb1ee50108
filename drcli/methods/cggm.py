"""Classifier-guided gradient modulation (Guo, Jin, Chen, Zhao; NeurIPS 2024, arXiv 2411.01409)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import Tensor, nn
from torch.nn import functional

from drcli.bases import Search
from drcli.data.batches import Batch
from drcli.methods.base import Event, Last, Losses, Window
from drcli.methods.context import Context
from drcli.methods.parts.gradients import scale_gradients
from drcli.methods.parts.unimodal_scores import apply_heads
from drcli.models.fusion import Outputs
from drcli.models.multimodal import MultimodalModel

TINY = 1e-8


class CGGM(Window):
    """Joint training whose gradients follow small classifiers: their size by progress, their direction by a loss.

    f_m is a classifier (linear, ReLU, linear) on the features of encoder m, which get no gradient from it. With a_m
    its accuracy on the batch and D_m what a_m has gained since the batch before,

        c_m = (sum over n of D_n - D_m) / (sum over n of D_n + 1e-8)
        g <- rho * c_m * g,  for the gradients of encoder m, in epochs starts ... ends
        L = CE(z, y) + lambda * (1 / M) * sum over m of (|c_m| - c_m * cos_m),  c_m of the step before
        cos_m = cosine of dCE(z, y)/dz and dCE(z_m, y)/dz_m,  z_m = f_m(stopgrad(h_m)) held constant

    Where the D_n add up to nearly 0 or less, c_m is huge or negative; `limit` keeps it in [0, limit], and it is 1 where
    the sum is not positive (ours; `limit: null` is the paper). A batch's accuracy is mostly noise: `gain: epoch` takes
    those of whole epochs (ours), c_m then being that of the epoch before. Any number of modalities from two.

    Differences: the paper compares the gradients of the two output layers, whose shapes must then agree; here those
    with respect to the logits, which are a factor of both and fit any fusion. The authors' code compares the WEIGHTS of
    these layers. The classifiers are trained by the run's optimiser (there, by an Adam of their own), and have no
    transformer layers, since they see pooled features.
    """

    class Settings(Window.Settings):
        """The recipe block of `cggm`; the defaults are the authors' on CMU-MOSI, except `limit`."""

        rho: Annotated[PositiveFloat, Search(0.5, 3, log=True)] = Field(
            1.3, le=1e6, allow_inf_nan=False, description="factor of every encoder's gradient"
        )
        lambda_: Annotated[NonNegativeFloat, Search(0.01, 1, log=True)] = Field(
            0.2, alias="lambda", le=1e6, allow_inf_nan=False, description="weight of the loss on directions"
        )
        limit: PositiveFloat | None = Field(
            2.0,
            le=1e6,
            allow_inf_nan=False,
            description="c is kept from 0 to this, and is 1 where no accuracy has grown; null: neither (paper)",
        )
        gain: Literal["batch", "epoch"] = Field(
            "batch", description="what accuracies are compared of: a batch and the one before (paper), or whole epochs"
        )
        ends: Last = 1_000_000

    year: ClassVar[int | None] = 2024
    neutral: ClassVar[Mapping[str, Any] | None] = {"ends": -1}
    state: ClassVar[tuple[str, ...]] = ("coefficients", "accuracies", "updates")
    num_modalities: ClassVar[tuple[int, int | None]] = (2, None)
    distributed_reason: ClassVar[str] = "its loss is the cosine of gradients of the whole batch"
    moves: ClassVar[str] = "every encoder, the fusion and one classifier per modality, by the optimiser"

    settings: Settings

    def build(self, model: MultimodalModel) -> dict[str, nn.Module]:
        """Return one classifier per modality."""
        widths, classes = model.fusion.widths, model.fusion.num_classes
        self.classifiers = nn.ModuleDict(
            {
                m: nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, classes))
                for m, width in widths.items()
            }
        )
        return {"classifiers": self.classifiers}

    def setup(self, ctx: Context) -> None:
        """Start with factors of 1, and nothing to compare with."""
        self.coefficients = {m: torch.ones((), device=ctx.device) for m in ctx.model.modalities}
        self.accuracies = {m: torch.zeros((), device=ctx.device) for m in ctx.model.modalities}
        self.updates = 0
        self.right: dict[str, list[Tensor]] = {m: [] for m in ctx.model.modalities}

    def losses(self, ctx: Context, outputs: Outputs, batch: Batch) -> Losses:
        """Return the joint loss, those of the classifiers, and in the window that on directions, each of shape ()."""
        losses = super().losses(ctx, outputs, batch)
        logits = apply_heads(self.classifiers, {m: h.detach() for m, h in outputs.features.items()})
        if self.is_on(ctx) and self.settings.lambda_ > 0:
            cosines = {m: cosine(outputs.logits, z, batch.labels) for m, z in logits.items()}
            weight = self.settings.lambda_ if self.updates > 0 else 0.0  # the first step has no factors before it
            losses["direction"] = weight * direction_loss(self.coefficients, cosines)
        return {**losses, **{f"classifier_{m}": functional.cross_entropy(z, batch.labels) for m, z in logits.items()}}

    @torch.no_grad()
    def modulate(self, ctx: Context, outputs: Outputs, batch: Batch) -> None:
        """Scale the encoders' gradients by the progress of their classifiers."""
        for m, z in apply_heads(self.classifiers, outputs.features).items():
            self.right[m].append((z.argmax(dim=1) == batch.labels).float().mean())
        if self.settings.gain == "batch":
            self._update()
        if not self.is_on(ctx):
            return
        for m, c in self.coefficients.items():
            ctx.log(f"coefficient/{m}", c)
            scale_gradients(ctx.model.encoders[m].parameters(), self.settings.rho * c)

    def on_epoch_end(self, ctx: Context) -> Event | None:
        """Compare this epoch's accuracies with the last one's, if the settings say so."""
        if self.settings.gain == "epoch":
            self._update()
        return None

    def _update(self) -> None:
        now = {m: torch.stack(values).mean() for m, values in self.right.items()}
        if self.updates > 0:
            gains = {m: a - self.accuracies[m] for m, a in now.items()}
            self.coefficients = modulation(gains, self.settings.limit)
        self.accuracies, self.updates = now, self.updates + 1
        self.right = {m: [] for m in now}


def modulation(gains: Mapping[str, Tensor], limit: float | None) -> dict[str, Tensor]:
    """Return c_m = (sum of D - D_m) / (sum of D + 1e-8), {m: ()}, of D {m: ()}; limited as `limit` says."""
    total = torch.stack(list(gains.values())).sum()
    raw = {m: (total - gain) / (total + TINY) for m, gain in gains.items()}
    if limit is None:
        return raw
    return {m: torch.where(total > TINY, c.clamp(0, limit), torch.ones_like(c)) for m, c in raw.items()}


def cosine(fused: Tensor, unimodal: Tensor, labels: Tensor) -> Tensor:
    """Return the cosine, (), of the gradients of CE with respect to logits (B, C) and others; the latter constant."""
    right = functional.one_hot(labels, fused.shape[1])
    ours, theirs = (z.softmax(dim=1) - right for z in (fused, unimodal.detach()))
    return functional.cosine_similarity(ours.flatten(), theirs.flatten(), dim=0)


def direction_loss(coefficients: Mapping[str, Tensor], cosines: Mapping[str, Tensor]) -> Tensor:
    """Return (1 / M) sum over m of (|c_m| - c_m cos_m), shape ()."""
    return torch.stack([c.abs() - c * cosines[m] for m, c in coefficients.items()]).mean()
