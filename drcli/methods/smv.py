"""Sample-level modality valuation (Wei, Feng, Wang, Hu; CVPR 2024, arXiv 2309.06255)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt
from torch import Tensor

from drcli.amounts import counted
from drcli.bases import Search
from drcli.data.batches import Batch, Selection
from drcli.errors import RecipeError
from drcli.methods.base import Losses, Method
from drcli.methods.context import Context
from drcli.methods.parts.late_fusion import not_late
from drcli.methods.parts.valuation import contributions, right_coalitions
from drcli.models.fusion import Outputs
from drcli.recipe.schema import Recipe


class SMV(Method):
    """Joint training that shows rows again, with one modality alone, where the modality contributes little.

    For a subset S of the M modalities v(S) = |S| if the prediction is right with the features of the others set
    to 0, else 0; phi_m is the Shapley value of m: for two, phi_a = (v_a + v_av - v_v) / 2. From epoch `warmup` on,
    the training rows are valued before every epoch, and to all of them come, all other features 0,

    - level sample: row i with modality m alone, 0, 1, 2 or 3 times for phi_m,i in [1, inf), [0.4, 1), [-0.1, 0.4),
      below -0.1;
    - level modality: floor(p N) random rows with the modality alone that has the largest gap_m = 1 - mean phi_m
      over a random `share` of the rows (drawn with replacement); p = 2/3 alpha times the mean over the other
      modalities of the differences of the gaps, for two |gap_a - gap_v|.

    With `rows: equal` an epoch trains on N rows drawn from that list without replacement, so that the run costs
    what joint training costs; with `rows: enlarged` on the whole list, as in the paper, up to 5 N rows of two
    modalities. Late fusions only. Valuing costs a pass over the training rows per epoch, without gradients. A modality
    alone does not run the other encoders if nothing of them is seen in the whole batch.

    Differences from the authors' code: rows are valued without augmentation, and drawn at level modality without
    replacement; any number of modalities, whose largest gap and mean difference are ours for more than two; a run
    of its modality_level.py ends at the first checkpoint, whose name takes arguments that do not exist.
    """

    class Settings(Method.Settings):
        """The recipe block of `smv`; the defaults are the authors' on Kinetics-Sounds, `rows` is ours."""

        level: Literal["sample", "modality"] = Field("sample", description="whose value decides which rows come again")
        warmup: NonNegativeInt = Field(5, le=1_000_000, description="epochs of joint training at first")
        share: Annotated[Annotated[float, Field(gt=0, le=1)], Search(0.05, 0.5, when={"level": "modality"})] = Field(
            0.2, description="level modality: part of the rows that the mean values are taken over"
        )
        alpha: Annotated[NonNegativeFloat, Search(0.1, 2, when={"level": "modality"})] = Field(
            1.0, le=1e6, description="level modality: factor of the number of rows"
        )
        rows: Literal["equal", "enlarged"] = Field(
            "equal", description="rows of an epoch; equal: as many as the split has; enlarged: all that are listed"
        )

    year: ClassVar[int | None] = 2024
    num_modalities: ClassVar[tuple[int, int | None]] = (2, None)
    neutral: ClassVar[Mapping[str, Any] | None] = {"warmup": 1_000_000}
    settings: Settings

    @classmethod
    def check(cls, recipe: Recipe) -> Iterator[tuple[str, str]]:
        """Refuse fusions that exchange between encoders."""
        yield from not_late(recipe)

    def warnings(self, ctx: Context) -> Iterable[str]:
        """Warn where every epoch is warm-up."""
        if self.settings.warmup >= ctx.epochs:
            length = counted(ctx.epochs, "epoch")
            yield f"no row is valued (warmup: {self.settings.warmup}, {length}): this is joint training"

    def setup(self, ctx: Context) -> None:
        """Start without values.

        Raises:
            RecipeError: several processes share a list whose last batch may have fewer rows than processes.
        """
        self.means: dict[str, float] = {}
        if ctx.world.size > 1 and self.settings.rows == "enlarged":
            raise RecipeError(f"methods.{ctx.label}.rows = enlarged: needs one device; use that, or equal")

    def selections(self, ctx: Context) -> Iterable[Selection]:
        """Value the training rows, and list those of the epoch."""
        if ctx.epoch < self.settings.warmup:
            return super().selections(ctx)
        features, labels = ctx.features("train")
        values = contributions(right_coalitions(ctx.model, features, labels, ctx.eval_batch_size))
        self.means = {m: float(phi.mean()) for m, phi in values.items()}
        if self.settings.level == "sample":
            again = {m: torch.repeat_interleave(copies(phi)) for m, phi in values.items()}
        else:
            again = self._of_the_weakest(ctx, values)
        listed = enlarged(len(labels), again)
        if self.settings.rows == "enlarged":
            return (listed,)
        assert listed.rows is not None
        drawn = torch.randperm(len(listed.rows), generator=ctx.generator("smv", "budget"))[: len(labels)]
        rows, seen = listed.at(drawn)
        return (Selection(rows, seen),)

    def _of_the_weakest(self, ctx: Context, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return random rows {m: (floor(p N),)} for the modality with the largest gap, none for the others."""
        total = len(ctx.train)
        generator = ctx.generator("smv", "modality")
        part = torch.randint(total, (max(int(self.settings.share * total), 1),), generator=generator)
        m, fraction = weakest({m: float(phi[part].mean()) for m, phi in values.items()}, self.settings.alpha)
        count = math.floor(fraction * total + 1e-9)  # 0.4 of 60 rows may be a little less than 24
        rounds = [torch.randperm(total, generator=generator) for _ in range(-(-count // total))]
        none = torch.arange(0)
        return {n: torch.cat([*rounds, none])[:count] if n == m else none for n in values}

    def losses(self, ctx: Context, outputs: Outputs, batch: Batch) -> Losses:
        """Return the joint loss, on the rows as they are seen."""
        for m, mean in self.means.items():
            ctx.log(f"coefficient/{m}", torch.full((), mean, device=ctx.device))
        return super().losses(ctx, outputs, batch)


def copies(values: Tensor) -> Tensor:
    """Return how often a modality of a row comes again, (N,), of its values phi (N,): 0 to 3 times."""
    phi = values + 1e-9  # a value of 1 in floating point may be a little less
    return (phi < 1).long() + (phi < 0.4).long() + (phi < -0.1).long()


def weakest(means: Mapping[str, float], alpha: float) -> tuple[str, float]:
    """Return the modality of largest gap, and p = 2/3 alpha * mean over the others of (its gap - theirs).

    Args:
        means: mean contribution of each modality, two or more; the gap is 1 less it.
        alpha: factor of p.
    """
    found = min(sorted(means), key=lambda m: means[m])
    differences = [mean - means[found] for m, mean in means.items() if m != found]
    return found, 2 / 3 * alpha * sum(differences) / len(differences)


def enlarged(total: int, again: Mapping[str, Tensor]) -> Selection:
    """Return all rows whole, followed by rows of which one modality alone is seen.

    Args:
        total: number of rows N.
        again: row numbers (n_m,) by modality.
    """
    order = sorted(again)
    rows = torch.cat([torch.arange(total), *(again[m] for m in order)])
    alone = torch.cat([torch.full((total,), -1), *(torch.full((len(again[m]),), i) for i, m in enumerate(order))])
    return Selection(rows, {m: (alone == -1) | (alone == i) for i, m in enumerate(order)})
