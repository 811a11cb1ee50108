"""Balanced multi-modal learning (Wu, Jastrzebski, Cho, Geras; ICML 2022, arXiv 2202.05306)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, cast

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt
from torch import Tensor, nn
from torch.nn import functional

from drcli.amounts import counted
from drcli.bases import Search
from drcli.data.batches import Batch
from drcli.methods.base import Losses, Method, own_block
from drcli.methods.context import Context
from drcli.models.fusion import Outputs
from drcli.models.mmtm import Gates
from drcli.names import FUSIONS
from drcli.recipe.schema import Recipe


class Greedy(Method):
    """Cut a modality off from the other's gates while it learns relatively more through them.

    theta_m are the parameters of branch m (encoder and own head), theta'_m those of its gates (excitation,
    and the squeeze that both share); g is the gradient of one batch. Over all batches that are not curated

        A_m += |g(theta_m)|^2 / |theta_m|^2,  A'_m += |g(theta'_m)|^2 / |theta'_m|^2
        BDR_m = log10(A'_m / A_m),  d = BDR_0 - BDR_1        (conditional learning speeds)

    From epoch `starts` on, |d| > epsilon curates the next `window` batches: every gate of the modality with
    the larger BDR is its running average, a constant. One ordinary batch follows before the next decision.
    Variant random: before every batch neither, the first or the second is drawn, each with probability 1/3.

    Its baseline is joint training of the same gated fusion. The host waits for the device once an ordinary
    batch, to decide. Under accumulated gradients, the running averages count parts of batches.
    Differences from the authors' code: each gate is averaged over its own modality (there, both over the
    first's), over the batches before the present one, and in training mode only; resumed runs keep it.
    """

    class Settings(Method.Settings):
        """The recipe block of `greedy`; the defaults are the authors' on ModelNet40."""

        epsilon: Annotated[NonNegativeFloat, Search(1e-3, 0.1, log=True)] = Field(
            0.01,
            le=1e6,
            allow_inf_nan=False,
            description="smallest difference |d| of the learning speeds at which the faster modality is held back",
        )
        window: Annotated[NonNegativeInt, Search(1, 50, log=True, when={"variant": "greedy"})] = Field(
            5,
            le=1_000_000,
            description="batches for which a modality is held back; 0: never; variant random ignores it",
        )
        starts: NonNegativeInt = Field(
            1,
            le=1_000_000,
            description="first epoch, from 0, in which a modality is held back; speeds count from epoch 0",
        )
        loss: Literal["heads", "fused"] = Field(
            "heads", description="heads: sum of the losses of each modality's head; fused: loss of the fused logits"
        )
        variant: Literal["greedy", "random"] = Field(
            "greedy", description="how the modality is chosen; greedy: by learning speeds; random: at random"
        )

    year: ClassVar[int | None] = 2022
    requires: ClassVar[frozenset[str]] = frozenset({"gates"})
    state: ClassVar[tuple[str, ...]] = ("totals", "curated", "left")
    num_modalities: ClassVar[tuple[int, int | None]] = (2, 2)
    neutral: ClassVar[Mapping[str, Any] | None] = {"window": 0, "loss": "fused"}
    distributed_reason: ClassVar[str] = "the gates' running averages would be those of each process's own rows"
    moves: ClassVar[str] = "every encoder and the fusion, by the optimiser, except the gates of a curated modality"

    settings: Settings

    @classmethod
    def check(cls, recipe: Recipe) -> Iterator[tuple[str, str]]:
        """Refuse the sum over own heads where the fusion has none."""
        fusion = FUSIONS.load(recipe.fusion.name)
        key, settings = own_block(recipe)
        gated = cls.requires <= fusion.provides
        if gated and settings.loss == "heads" and "head" not in fusion.offers(recipe.fusion.settings):
            yield (
                f"{key}.loss",
                "this fusion has no head per modality: use fused, or fusion.head=average",
            )

    def setup(self, ctx: Context) -> None:
        """Start with no speeds, and no modality curated."""
        self.gates = cast("Gates", ctx.model.fusion)  # `requires` has seen to it
        self.totals = {m: torch.zeros(2, dtype=torch.float64, device=ctx.device) for m in ctx.model.modalities}
        self.curated: str | None = None
        self.left = 0

    def warnings(self, ctx: Context) -> Iterable[str]:
        """Warn where no modality can be curated."""
        if self.settings.starts >= ctx.epochs:
            yield f"no modality will be curated (starts: {self.settings.starts}, {counted(ctx.epochs, 'epoch')})"

    def forward(self, ctx: Context, batch: Batch) -> Outputs:
        """Run the model on a batch, the gates of the curated modality held constant."""
        with self.gates.curating(self.curated):
            return super().forward(ctx, batch)

    def losses(self, ctx: Context, outputs: Outputs, batch: Batch) -> Losses:
        """Return the cross-entropy of each modality's own head, or that of the fused logits."""
        if self.settings.loss == "fused":
            return super().losses(ctx, outputs, batch)
        logits = ctx.model.unimodal_logits(outputs.features, "head")
        return {m: functional.cross_entropy(z, batch.labels) for m, z in logits.items()}

    def modulate(self, ctx: Context, outputs: Outputs, batch: Batch) -> None:
        """Leave the gradients alone; decide from them which modality is curated in the batches that follow."""
        for m in ctx.model.modalities:
            ctx.log(f"coefficient/{m}", torch.full((), float(m == self.curated), device=ctx.device))
        unlocked = ctx.epoch >= self.settings.starts
        if self.settings.variant == "random":
            choices = (None, *sorted(ctx.model.modalities)) if unlocked else (None,)
            drawn = torch.randint(len(choices), (), generator=ctx.generator("curated", ctx.step))
            self.curated = choices[int(drawn)]
        elif self.curated is None:
            self._count_in(ctx)
            if unlocked and self.settings.window > 0:
                self.curated = reliant(bypass_ratios(self.totals), self.settings.epsilon)
                self.left = self.settings.window
        else:
            self.left -= 1
            self.curated = self.curated if self.left else None

    def _count_in(self, ctx: Context) -> None:
        for m, encoder in ctx.model.encoders.items():
            main = [*encoder.parameters(), *self.gates.branch(m)]
            self.totals[m] += torch.stack([speed(main), speed(self.gates.bypass(m))])


def speed(parameters: Sequence[nn.Parameter]) -> Tensor:
    """Return |g|^2 / |theta|^2, float64 (), over the parameters that have a gradient g."""
    reached = [(parameter.grad, parameter.detach()) for parameter in parameters if parameter.grad is not None]
    gradient, weight = (nn.utils.get_total_norm(tensors).double().square() for tensors in zip(*reached, strict=True))
    return gradient / weight


def bypass_ratios(totals: Mapping[str, Tensor]) -> dict[str, float]:
    """Return BDR_m = log10(A'_m / A_m) from (A_m, A'_m), {m: (2,)}; the host waits for it."""
    main, bypass = torch.stack(list(totals.values())).T
    return dict(zip(totals, torch.log10(bypass / main).tolist(), strict=True))


def reliant(ratios: Mapping[str, float], epsilon: float) -> str | None:
    """Return the modality of two that relies more on its gates, by more than epsilon; None: they are even."""
    first, second = ratios
    if abs(ratios[first] - ratios[second]) > epsilon:
        return first if ratios[first] > ratios[second] else second
    return None
