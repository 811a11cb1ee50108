"""Instantaneous probe and rebalance (Yang, Wu, Jiang; IJCAI 2025, 10.24963/ijcai.2025/395)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from drcli.bases import Search
from drcli.data.batches import Batch
from drcli.errors import RecipeError
from drcli.methods.base import Losses
from drcli.methods.context import Context
from drcli.methods.parts.late_logits import LateLogits
from drcli.methods.parts.shared_head import widths_of
from drcli.models.fusion import Outputs
from drcli.models.multimodal import MultimodalModel
from drcli.recipe.schema import Recipe

NEAR = 1 - 1e-6  # largest cosine, in size, of which an angle is taken: its gradient is infinite at 1


class IPRM(LateLogits):
    """Two modalities and their mixture on the sphere, which leans to the one whose predictions it resembles less.

        mix(lambda) = sum over m of sin(lambda_m theta) / sin(theta) * u_m,   u_m = h_m / |h_m|,  theta their angle
        lambda <- momentum * lambda + (1 - momentum) * lhat       before each batch; both are 1/2 at first
        k_m = KL(p_m || softmax(V mix(lambda) + c)), no gradient;   lhat_m = k_n / (k_m + k_n)
        L = CE(V mix(lhat) + c, y) + sum over m of CE(z_m, y)

    It predicts with z_a + z_v + V mix(lambda) + c, lambda that of the last batch. z_m are the fusion's own; V is a
    linear layer. lambda and lhat add up to 1. Two modalities of equal width. Accumulated, a part counts as a batch.

    Differences: the features may be parallel (the authors' code divides by the sine of their angle plus 1e-8, so that
    their mixture is 0); where both divergences are 0, lhat is 1/2. The code selects on the test split.
    """

    class Settings(LateLogits.Settings):
        """The recipe block of `iprm`."""

        momentum: Annotated[float, Search(0, 0.95)] = Field(
            0.8, ge=0, lt=1, description="part of lambda that is kept from batch to batch"
        )

    year: ClassVar[int | None] = 2025
    state: ClassVar[tuple[str, ...]] = ("probed",)
    num_modalities: ClassVar[tuple[int, int | None]] = (2, 2)
    neutral_reason: ClassVar[str] = "it predicts with a third head, on a mixture of the features"
    moves: ClassVar[str] = "every encoder, the fusion and a head on the mixture, by the optimiser"

    settings: Settings

    @classmethod
    def check(cls, recipe: Recipe) -> Iterator[tuple[str, str]]:
        """Refuse fusions without unimodal logits, and encoders of unequal widths where their sketches show these."""
        yield from super().check(recipe)
        widths = widths_of(recipe)
        if len(set(widths.values())) > 1:
            yield f"methods.{recipe.method}", unequal(widths)

    def build(self, model: MultimodalModel) -> dict[str, nn.Module]:
        """Return the head on the mixture, and lambda.

        Raises:
            RecipeError: the encoders have unequal widths, which their sketches did not show.
        """
        widths = model.fusion.widths
        if len(set(widths.values())) > 1:
            raise RecipeError(f"methods.iprm: {unequal(widths)}")
        self.mixed = nn.Linear(next(iter(widths.values())), model.fusion.num_classes)
        self.kept = Kept(widths)
        return {"mixed": self.mixed, "kept": self.kept}

    def setup(self, ctx: Context) -> None:
        """Start with equal parts lhat, {m: ()}."""
        self.probed = {m: torch.full((), 0.5, device=ctx.device) for m in ctx.model.modalities}

    def forward(self, ctx: Context, batch: Batch) -> Outputs:
        """Run the model on a batch, probe, and mix the features by what was found."""
        outputs = super().forward(ctx, batch)
        self._probe(ctx, outputs.features, batch)
        for m, value in self.probed.items():
            ctx.log(f"coefficient/{m}", value)
        return Outputs(outputs.features, outputs.logits + self.mixed(slerp(outputs.features, self.probed)))

    @torch.no_grad()
    def _probe(self, ctx: Context, features: Mapping[str, Tensor], batch: Batch) -> None:
        self.kept.follow(self.probed, self.settings.momentum)
        logits = ctx.model.unimodal_logits(features, self.settings.unimodal_logits)
        mixed = self.mixed(slerp(features, self.kept()))
        self.probed = opposite_shares(ctx.average({m: divergence(z, mixed) for m, z in logits.items()}, batch))

    def losses(self, ctx: Context, outputs: Outputs, batch: Batch) -> Losses:
        """Return the loss of the mixture and those of each modality's logits, each of shape ()."""
        losses = super().losses(ctx, outputs, batch)
        del losses["joint"]
        mixed = self.mixed(slerp(outputs.features, self.probed))
        return {"mixed": functional.cross_entropy(mixed, batch.labels), **losses}

    def predict(self, model: MultimodalModel, batch: Batch) -> Outputs:
        """Return the sum of all three logits (B, C), and the encoders' features."""
        outputs = super().predict(model, batch)
        return Outputs(outputs.features, outputs.logits + self.mixed(slerp(outputs.features, self.kept())))


class Kept(nn.Module):
    """lambda, one half of each modality at first; among the weights, since a model that is loaded predicts with it."""

    def __init__(self, modalities: Iterable[str]) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        self.register_buffer("parts", torch.full((len(self.modalities),), 0.5))

    def forward(self) -> dict[str, Tensor]:
        """Return lambda_m, {m: ()}."""
        return dict(zip(self.modalities, self.get_buffer("parts").clone(), strict=True))

    def follow(self, probed: Mapping[str, Tensor], momentum: float) -> None:
        """Set lambda to momentum * lambda + (1 - momentum) * probed, {m: ()}."""
        parts, new = self.get_buffer("parts"), torch.stack([probed[m] for m in self.modalities])
        parts.copy_(momentum * parts + (1 - momentum) * new)


def unequal(widths: Mapping[str, int]) -> str:
    """Return why encoders of these widths are refused, as a clause."""
    named = ", ".join(f"{m} {width}" for m, width in widths.items())
    return f"mixes features, of which the encoders must have equally many; they have {named}: set their widths"


def slerp(features: Mapping[str, Tensor], parts: Mapping[str, Tensor]) -> Tensor:
    """Return sum over m of sin(lambda_m theta) / sin(theta) * u_m, (B, D), of two modalities' features {m: (B, D)}."""
    units = {m: functional.normalize(h, dim=1) for m, h in features.items()}
    first, second = units.values()
    theta = (first * second).sum(dim=1, keepdim=True).clamp(-NEAR, NEAR).acos()
    return torch.stack([(parts[m] * theta).sin() / theta.sin() * u for m, u in units.items()]).sum(dim=0)


def divergence(logits: Tensor, mixed: Tensor) -> Tensor:
    """Return the batch mean of KL(softmax(z) || softmax(z')), shape (), of logits (B, C)."""
    ours, theirs = mixed.log_softmax(dim=1), logits.log_softmax(dim=1)
    return functional.kl_div(ours, theirs, reduction="batchmean", log_target=True)


def opposite_shares(divergences: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return lhat_m = k_n / (k_m + k_n), {m: ()}, of two numbers; 1/2 where both are 0."""
    total = torch.stack(list(divergences.values())).sum()
    shares = {m: (total - k) / total.clamp(min=torch.finfo(total.dtype).tiny) for m, k in divergences.items()}
    return {m: torch.where(total > 0, share, torch.full_like(share, 0.5)) for m, share in shares.items()}
