"""Each modality by itself: linear heads, logits that a method looks at and where it takes them from, scores of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from drcli.data.batches import Batch
from drcli.methods.base import Losses, Method, own_block
from drcli.methods.context import Context
from drcli.models.fusion import Outputs
from drcli.models.multimodal import MultimodalModel
from drcli.names import FUSIONS
from drcli.recipe.schema import Recipe

FLOOR = 1e-8
"""Smallest probability that a logarithm is taken of."""

Source = Literal["slice", "head", "zero_others", "detached_probe"]
"""What the fusion `offers`, or "detached_probe": linear layers on features that get no gradient from them."""


def linear_heads(model: MultimodalModel) -> nn.ModuleDict:
    """Return one new linear layer per modality, from its encoder's features (B, D_m) to logits (B, C)."""
    fusion = model.fusion
    return nn.ModuleDict({m: nn.Linear(width, fusion.num_classes) for m, width in fusion.widths.items()})


def apply_heads(heads: nn.ModuleDict, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the heads' logits {m: (B, C)} of features {m: (B, D_m)}."""
    return {m: heads[m](x) for m, x in features.items()}


def right_probabilities(logits: Tensor, labels: Tensor) -> Tensor:
    """Return softmax(z)_i[y_i], (B,), from z (B, C) and y (B,)."""
    return logits.softmax(dim=1).gather(1, labels[:, None])[:, 0]


def right_scores(logits: Mapping[str, Tensor], labels: Tensor) -> dict[str, Tensor]:
    """Return S_m = sum over i of softmax(z_m)_i[y_i], {m: ()}, from z {m: (B, C)} and y (B,).

    OGM takes it of logits (Peng et al. 2022, arXiv 2203.15332), PMR of similarities to prototypes (Fan et
    al. 2023, arXiv 2211.07089).
    """
    return {m: right_probabilities(z, labels).sum() for m, z in logits.items()}


def response_loss(response: Tensor, labels: Tensor) -> Tensor:
    """Return s = mean over i of -log max(softmax(phi)_i[y_i], 1e-8), shape (), of a response (B, C).

    AGM (Li et al. 2023, arXiv 2308.07686): a loss, so that lower is better.
    """
    return -right_probabilities(response, labels).clamp(min=FLOOR).log().mean()


def ratios(scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return exp(M / (M - 1) * (mean over n of s_n - s_m)), {m: ()}; 1 for a single modality."""
    count = len(scores)
    mean = torch.stack(list(scores.values())).mean()
    return {m: (count / max(count - 1, 1) * (mean - s)).exp() for m, s in scores.items()}


def kappas(
    scores: Mapping[str, Tensor], means: Mapping[str, Tensor], *, alpha: float, cap: float | None
) -> dict[str, Tensor]:
    """Return kappa_m = exp(alpha * min(ref_m - ratio_m, cap)), {m: ()}.

    Args:
        scores: s_m of this batch.
        means: T_m over the batches before; 0 where there are none.
        alpha: slope.
        cap: bound, or None.
    """
    now, before = ratios(scores), ratios(means)
    bound = math.inf if cap is None else cap
    return {m: (alpha * (before[m] - now[m]).clamp(max=bound)).exp() for m in scores}


class UnimodalScores(Method):
    """Base of the methods that look at unimodal logits z_m and do not train the encoders on them.

    Under `unimodal_logits: detached_probe` there is one linear layer per modality,

        z_m = W_m stopgrad(h_m) + b_m,    loss probe_m = CE(z_m, y),

    whose gradient ends at the features: encoders and fusion train as without it. Only where the recipe
    clips gradients do the probes' count towards the norm.
    """

    class Settings(Method.Settings):
        """What the recipe blocks of these methods have in common."""

        unimodal_logits: Source = Field(
            "slice",
            description="where the logits of one modality come from; detached_probe: a linear layer that is trained "
            "beside the model; the others: the fusion, if it offers them",
        )

    settings: Settings

    probes: nn.ModuleDict | None = None

    @classmethod
    def check(cls, recipe: Recipe) -> Iterator[tuple[str, str]]:
        """Refuse unimodal logits that the fusion does not offer."""
        _, settings = own_block(recipe)
        yield from not_offered(recipe, settings.unimodal_logits, [*offered(recipe), "detached_probe"])

    def build(self, model: MultimodalModel) -> dict[str, nn.Module]:
        """Return the probes, where the settings ask for them."""
        if self.settings.unimodal_logits != "detached_probe":
            return {}
        self.probes = linear_heads(model)
        return {"probes": self.probes}

    def losses(self, ctx: Context, outputs: Outputs, batch: Batch) -> Losses:
        """Return the joint loss and those of the probes, each of shape ()."""
        losses = super().losses(ctx, outputs, batch)
        if self.probes is None:
            return losses
        detached = {m: h.detach() for m, h in outputs.features.items()}
        logits = apply_heads(self.probes, detached)
        return {**losses, **{f"probe_{m}": functional.cross_entropy(z, batch.labels) for m, z in logits.items()}}

    @torch.no_grad()
    def unimodal_logits(self, model: MultimodalModel, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return logits of each modality alone, {m: (B, C)} and detached, from features {m: (B, D_m)}."""
        source = self.settings.unimodal_logits
        if source == "detached_probe":
            assert self.probes is not None
            return apply_heads(self.probes, features)
        return model.unimodal_logits(features, source)


def offered(recipe: Recipe) -> Sequence[str]:
    """Return which unimodal logits the recipe's fusion offers."""
    names: Sequence[str] = FUSIONS.load(recipe.fusion.name).offers(recipe.fusion.settings)
    return names


def not_offered(recipe: Recipe, chosen: str, able: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield what is wrong if the run cannot use the kind of `unimodal_logits`."""
    if chosen not in able:
        key = f"methods.{recipe.method}.unimodal_logits"
        yield key, f"must be {' or '.join(able)} with fusion {recipe.fusion.name}"
