"""Gradient blending (Wang, Tran, Feiszli; CVPR 2020, arXiv 1905.12681)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import nn
from torch.nn import functional

from drcli.data.batches import Batch
from drcli.methods.base import Losses, Method
from drcli.methods.blending_estimate import JOINT, Growth, blending_weights, estimate
from drcli.methods.context import Context
from drcli.methods.heads import apply_heads, linear_heads
from drcli.models import FUSIONS
from drcli.models.fusion import Fusion, Outputs
from drcli.models.multimodal import MultimodalModel
from drcli.recipe.schema import Recipe


class GBlending(Method):
    """Cross-entropies of every modality's own linear head and of the fusion, blended by weights.

        L = sum over k of w_k CE(z_k, y)        k: the modalities, and "joint"
        w_k = (1/Z) dG_k / dO_k^2               sum over k of w_k = 1
        dG_k = L_val - L_val'                   generalisation gained in n epochs of training head k alone
        dO_k = O_k' - O_k,  O = L_val - L_train overfitting grown

    Head k alone is encoder k with its linear head, or the whole model with the fusion; it is a temporary
    copy of the present weights, with an optimiser and a data order of its own. Losses are means over the
    samples of the whole train and val splits, in evaluation mode. `online` estimates anew before every
    super-epoch, over its length; `offline` once, from the initial weights. The fused logits predict.

    Differences from public implementations: the authors released weights only, not the estimation.
    MultiBench weighs by L_val / O^2 and turns the sign of a head that gets worse; here its weight is 0
    (equal weights if every head gets worse). The paper does not say what to do where dO is near 0: `floor`.
    """

    class Settings(Method.Settings):
        """The recipe block of `g_blending`."""

        mode: Literal["online", "offline", "fixed"] = Field(
            "online",
            description="when the weights of the losses are estimated; online: before each super-epoch; "
            "offline: once at the start; fixed: never, `weights` gives them",
        )
        super_epoch: PositiveInt = Field(10, le=1_000_000, description="mode online: epochs between two estimations")
        estimate_epochs: PositiveInt | None = Field(
            None, le=1_000_000, description="mode offline: epochs of the estimation; null: as many as the run has"
        )
        weights: dict[str, Annotated[float, Field(ge=0, le=1e6)]] | None = Field(
            None, description="mode fixed: weight of the loss of each modality and of joint; 0 for those left out"
        )
        floor: PositiveFloat = Field(
            1e-4, le=1e6, description="smallest |dO| that an estimation divides by; smaller ones are raised to it"
        )

    num_modalities: ClassVar[tuple[int, int | None]] = (2, None)
    neutral: ClassVar[Mapping[str, Any] | None] = {"mode": "fixed", "weights": {"joint": 1.0}}
    moves: ClassVar[str] = "every encoder, the fusion and a head a modality, by the optimiser; a weight of 0 stills"

    settings: Settings

    @classmethod
    def check(cls, recipe: Recipe) -> Iterator[tuple[str, str]]:
        """Refuse settings that contradict each other, and fusions without encoders that run alone."""
        key, settings = f"methods.{recipe.method}", recipe.methods[recipe.method].settings
        assert isinstance(settings, cls.Settings)
        yield from ((f"{key}.weights", message) for message in _of_weights(settings, recipe))
        if settings.estimate_epochs is not None and settings.mode != "offline":
            yield f"{key}.estimate_epochs", f"is for mode offline, not {settings.mode}; leave it out"
        elif (settings.estimate_epochs or 0) > recipe.training.epochs:
            yield f"{key}.estimate_epochs", f"must not be more than training.epochs, {recipe.training.epochs}"
        if FUSIONS.load(recipe.fusion.name).encode is not Fusion.encode:
            late = [name for name in FUSIONS.names() if FUSIONS.load(name).encode is Fusion.encode]
            yield key, f"g_blending trains every encoder alone, too: fusion={' or '.join(late)}"

    def build(self, model: MultimodalModel) -> dict[str, nn.Module]:
        """Return a linear head a modality."""
        self.heads = linear_heads(model)
        return {"heads": self.heads}

    def setup(self, ctx: Context) -> None:
        """Take the fixed weights; estimated ones come before the first epoch."""
        given = self.settings.weights or {}
        self.weights = {k: given.get(k, 0.0) for k in (*ctx.model.modalities, JOINT)}
        self.growths: dict[str, Growth] = {}

    def on_epoch_start(self, ctx: Context) -> None:
        """Estimate the weights when the mode says so."""
        epochs = self.horizon(ctx.epoch, ctx.epochs)
        if epochs > 0:
            self.growths = estimate(ctx, self.heads, epochs)
            self.weights = blending_weights(self.growths, self.settings.floor)

    def horizon(self, epoch: int, epochs: int) -> int:
        """Over how many epochs to estimate before epoch `epoch` (from 0) of `epochs`; 0: not now."""
        if self.settings.mode == "online" and epoch % self.settings.super_epoch == 0:
            return min(self.settings.super_epoch, epochs - epoch)
        if self.settings.mode == "offline" and epoch == 0:
            return self.settings.estimate_epochs or epochs
        return 0

    def losses(self, ctx: Context, outputs: Outputs, batch: Batch) -> Losses:
        """Return the weighted losses by head, without those of weight 0."""
        for k, weight in self.weights.items():
            ctx.log(f"coefficient/{k}", torch.full((), weight, device=ctx.device))
        logits = {**apply_heads(self.heads, outputs.features), JOINT: outputs.logits}
        return {
            k: weight * functional.cross_entropy(logits[k], batch.labels)
            for k, weight in self.weights.items()
            if weight > 0
        }

    def state_dict(self) -> dict[str, Any]:
        """The weights in force, and the dG and dO that they come from."""
        growths = {k: [growth.gain, growth.overfitting] for k, growth in self.growths.items()}
        return {"weights": self.weights, "growths": growths}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.weights = {k: float(weight) for k, weight in state["weights"].items()}
        self.growths = {k: Growth(*map(float, growth)) for k, growth in state["growths"].items()}


def _of_weights(settings: GBlending.Settings, recipe: Recipe) -> Iterator[str]:
    """What is wrong with `weights`, if anything."""
    names = (*recipe.modalities, JOINT)
    given = settings.weights or {}
    unknown = [name for name in given if name not in names]
    if settings.mode != "fixed" and settings.weights is not None:
        yield f"is for mode fixed, not {settings.mode}; leave it out"
    elif unknown:
        yield f"knows {', '.join(names)}; not {', '.join(unknown)}"
    elif settings.mode == "fixed" and not any(given.values()):
        yield f"must give mode fixed a weight above 0 to one at least of {', '.join(names)}"
