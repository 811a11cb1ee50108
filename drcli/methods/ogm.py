"""On-the-fly gradient modulation (Peng, Wei, Deng, Wang, Hu; CVPR 2022, arXiv 2203.15332)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import Tensor, nn

from drcli.bases import Search
from drcli.data.batches import Batch
from drcli.errors import RecipeError
from drcli.methods.base import Last, Window, own_block
from drcli.methods.context import Context
from drcli.methods.parts.encoder_tensors import Tensors, nothing_selected, selected, without_selected
from drcli.methods.parts.gradients import scale_gradients, undone_by
from drcli.methods.parts.unimodal_scores import UnimodalScores, right_scores
from drcli.models.fusion import Outputs
from drcli.recipe.schema import Recipe


class Ogm(Window, UnimodalScores):
    """Joint training that damps, at every step, the encoders of the leading modalities.

    With p_m = softmax(z_m) of the unimodal logits, for every modality m of two or more

        s_m = sum over the batch of p_m(y)
        r_m = s_m / (mean over n != m of s_n)         s_m / s_n where there are two: the paper's ratio
        k_m = 1 - tanh(alpha * r_m)  if r_m > 1, else 1
        g <- k_m * g, for the gradients of encoder m's `tensors`, in epochs starts ... ends

    With `boost`, no modality is damped: k_m = boost if r_m < 1, else 1, which is OGM+ of Wei et al. (TPAMI 2024, arXiv
    2410.11582) with a boost of 4.

    Batch normalisation, biases and the fusion keep their gradients, unless `tensors` says otherwise.
    With one modality this is joint training. Where gradients are accumulated, s_m is that of the whole
    batch.

    Adam divides a gradient by its size, so that a factor mostly cancels: only how k_m changes from step
    to step is left of it. The method is meant for SGD.

    Differences from the authors' released code: any number of modalities (two there); a tie damps
    nobody (the code damps the first by 1 - tanh(alpha)); alpha, a required flag there, has a default;
    linear layers can be modulated too (`tensors: non1d`), which transformers consist of.
    """

    class Settings(Window.Settings, UnimodalScores.Settings):
        """The recipe block of `ogm` and `ogm_ge`."""

        alpha: Annotated[NonNegativeFloat, Search(0.1, 0.8, source="as in the literature")] = Field(
            0.3, le=1e6, allow_inf_nan=False, description="how strongly gradients of the leading modality are reduced"
        )
        ends: Last = 50
        tensors: Tensors = Field(
            "conv4d",
            description="weights whose gradients are reduced; conv4d: those of 2-d convolutions; non1d: those of two "
            "dimensions or more; all: all",
        )
        boost: Annotated[PositiveFloat | None, Search(1, 10, log=True)] = Field(
            None,
            le=1e6,
            allow_inf_nan=False,
            description="factor of the gradients of modalities behind, in place of reducing those ahead; null: reduce",
        )

    year: ClassVar[int | None] = 2022
    neutral: ClassVar[Mapping[str, Any] | None] = {"alpha": 0.0, "boost": None}

    settings: Settings

    @classmethod
    def check(cls, recipe: Recipe) -> Iterator[tuple[str, str]]:
        """Refuse unimodal logits that the fusion does not offer, and encoders without tensors to modulate."""
        yield from super().check(recipe)
        yield from without_selected(recipe, own_block(recipe)[1].tensors)

    def setup(self, ctx: Context) -> None:
        """Find the tensors to modulate.

        Raises:
            RecipeError: an encoder has none of the kind that the settings name, which its sketch did not show.
        """
        kind = self.settings.tensors
        self.modulated = {m: selected(encoder, kind) for m, encoder in ctx.model.encoders.items()}
        for m, parameters in self.modulated.items():
            if not parameters:
                why = nothing_selected(m, ctx.model.encoders[m])
                raise RecipeError(f"methods.{ctx.label}.tensors = {kind}: {why}")

    def warnings(self, ctx: Context) -> Iterable[str]:
        """Warn of what makes the run nearly joint training: window, optimiser, or few weights to modulate."""
        never = list(super().warnings(ctx))
        if never:
            yield from never
            return
        yield from undone_by(ctx.training.optimizer)
        for m, parameters in self.modulated.items():
            part = count(parameters) / count(ctx.model.encoders[m].parameters())
            if part < 0.5:
                yield f"tensors: {self.settings.tensors} is {part:.0%} of the encoder of {m}; non1d takes its matrices"

    def is_on(self, ctx: Context) -> bool:
        """Return whether gradients of this epoch are modulated; never those of a single modality."""
        return len(ctx.model.modalities) > 1 and super().is_on(ctx)

    def modulate(self, ctx: Context, outputs: Outputs, batch: Batch) -> None:
        """Damp the encoders' gradients."""
        if not self.is_on(ctx):
            return
        logits = self.unimodal_logits(ctx.model, outputs.features)
        scores = right_scores(logits, batch.labels)
        for m, factor in damping(scores, self.settings.alpha, self.settings.boost).items():
            ctx.log(f"coefficient/{m}", factor)
            scale_gradients(self.modulated[m], factor)

    def gradients(self, modality: str) -> list[Tensor]:
        """Return the gradients of one encoder that are modulated."""
        return [parameter.grad for parameter in self.modulated[modality] if parameter.grad is not None]


def count(parameters: Iterable[nn.Parameter]) -> int:
    """Return how many numbers there are in parameters."""
    return sum(parameter.numel() for parameter in parameters)


def damping(scores: Mapping[str, Tensor], alpha: float, boost: float | None = None) -> dict[str, Tensor]:
    """Return k_m, {m: ()}, in [0, 1] without boost, from the scores {m: ()} of two modalities or more."""
    found = {}
    for m, score in scores.items():
        others = torch.stack([other for n, other in scores.items() if n != m]).mean()
        ratio = score / others.clamp(min=torch.finfo(score.dtype).eps)
        ahead, behind = (1 - torch.tanh(alpha * ratio), 1.0) if boost is None else (1.0, boost)
        found[m] = torch.where(ratio > 1, ahead, torch.where(ratio < 1, behind, torch.ones_like(ratio)))
    return found


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
            if tensors:  # a batch may lack the modality
                torch._foreach_add_(self.gradients(m), tensors)


def noise(gradient: Tensor, generator: torch.Generator) -> Tensor:
    """Return Gaussian noise of a gradient's shape and its elements' standard deviation; 0 for one element."""
    if gradient.numel() == 1:
        return torch.zeros_like(gradient)
    return torch.empty_like(gradient).normal_(generator=generator).mul_(gradient.std())
