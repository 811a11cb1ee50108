"""AUG, sustained boosting of modalities (NeurIPS 2025, arXiv 2502.20120)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from drcli.amounts import counted
from drcli.bases import Search
from drcli.data.batches import Batch
from drcli.methods.base import Event, Losses, Method, own_block
from drcli.methods.context import Context
from drcli.methods.parts.alternating import Alternating
from drcli.methods.parts.growing import GrowingClassifiers
from drcli.methods.parts.residual import residual_loss
from drcli.methods.parts.unimodal_scores import right_probabilities
from drcli.methods.parts.weighted import Weights, fixed_logits, unfit_weights
from drcli.models.fusion import Outputs
from drcli.models.multimodal import MultimodalModel, over_rows
from drcli.recipe.schema import Recipe
from drcli.relearning.features import evaluating


class AUG(Alternating):
    """The modality that classifies worst gets one more classifier, which learns what its earlier ones leave.

    Modality m has n_m hidden layers g_m,i (linear and ReLU) under one final layer (W, b) that all modalities share:
    z_m = W sum over i of g_m,i(h_m) + b. Per batch and modality in turn, an optimiser step each, with u the logits
    of the first n_m - 1 layers, l = W g_m,n(h_m) those of the last and q = softmax(u), a constant,

        L = CE(z_m, y)                                                                        n_m = 1
        L = CE(z_m, y) + CE(u, y) - mean over i of (1 - residual * q_i(y_i)) log softmax(l_i)(y_i)    n_m > 1

    After every `every` epochs (a tenth of the run by default), with S_m the mean of softmax(z_m)(y) over the
    training rows, in evaluation mode, the modality of least S gets a layer if max S - sigma * min S > tau, up to
    `most` layers. The logits sum over m of w_m z_m predict, w_m = 1 / M or `weights`. The fusion of the recipe is
    not used. An epoch is one pass over the training rows per encoder.

    Differences from the authors' code: the layers that join are trained (there, the optimiser was built before,
    so that they stay random); S is of the model at the end of the epoch (there, sums over its steps, compared by
    their ratio), and the first comparison is after `every` epochs (there, after the first epoch as well); b
    counts once per z_m, not once per layer; any number of modalities; equal weights (there, 0.4 audio, 0.6 visual).
    """

    class Settings(Method.Settings):
        """The recipe block of `aug`; the defaults are the paper's, or the code's where the paper has several."""

        residual: Annotated[NonNegativeFloat, Search(0.1, 1, source="paper")] = Field(
            0.5, le=1, description="how much of the last layer's loss is taken off where the earlier ones are right"
        )
        every: PositiveInt | None = Field(
            None, le=1_000_000, description="epochs between two comparisons; null: a tenth of the run"
        )
        sigma: Annotated[NonNegativeFloat, Search(0.5, 2)] = Field(
            1.0, le=1e6, description="factor of the least score in the comparison"
        )
        tau: NonNegativeFloat = Field(0.01, le=1, description="difference of scores above which a layer joins")
        most: PositiveInt = Field(10, le=1000, description="hidden layers that a modality can have")
        hidden: PositiveInt = Field(256, le=65_536, description="width of each hidden layer")
        weights: Weights = None

        def period(self, epochs: int) -> int:
            """Return the epochs between two comparisons, in a run of so many."""
            return self.every or max(epochs // 10, 1)

    leaves_out: ClassVar[bool] = True
    year: ClassVar[int | None] = 2025
    neutral: ClassVar[Mapping[str, Any] | None] = None
    neutral_reason: ClassVar[str] = "it never trains fused logits: every modality takes steps of its own"
    moves: ClassVar[str] = (
        "every encoder in its turn with its hidden layers, and one final layer; the fusion is not used"
    )

    settings: Settings

    @classmethod
    def check(cls, recipe: Recipe) -> Iterator[tuple[str, str]]:
        """Refuse weights of other modalities."""
        key, settings = own_block(recipe)
        yield from ((f"{key}.weights", message) for message in unfit_weights(settings.weights, recipe.modalities))

    @classmethod
    def longer_reason(cls, recipe: Recipe) -> str:
        """Return why it cannot go on, where a comparison was left out or the epochs between two would change."""
        every = own_block(recipe)[1].every
        if every is None:
            return "with every: null compares ten times in all epochs"
        return "" if recipe.training.epochs % every else "left out the comparison that was due after the last epoch"

    def build(self, model: MultimodalModel) -> dict[str, nn.Module]:
        """Return the classifiers, those that have not joined among them."""
        self.classifiers = GrowingClassifiers(model, self.settings.hidden, self.settings.most)
        return {"classifiers": self.classifiers}

    def warnings(self, ctx: Context) -> Iterable[str]:
        """Warn where no classifier can join."""
        if self.settings.most == 1 or self.settings.period(ctx.epochs) >= ctx.epochs:
            length = counted(ctx.epochs, "epoch")
            yield f"no layer can join (every: {self.settings.period(ctx.epochs)}, most: {self.settings.most}, {length})"

    def logits_of(self, modality: str, features: Tensor) -> Tensor:
        """Return z_m (B, C)."""
        logits: Tensor = self.classifiers(modality, features)
        return logits

    def losses(self, ctx: Context, outputs: Outputs, batch: Batch) -> Losses:
        """Return the loss of the present turn, by its modality."""
        count = self.classifiers.counts[self.turn]
        ctx.log(f"coefficient/{self.turn}", torch.full((), float(count), device=ctx.device))
        losses = super().losses(ctx, outputs, batch)
        first, last = self.classifiers.parts(self.turn, outputs.features[self.turn])
        if last is not None:
            earlier = functional.cross_entropy(first, batch.labels)
            residual = residual_loss(last, first, batch.labels, self.settings.residual)
            losses[self.turn] = losses[self.turn] + earlier + residual
        return losses

    def on_epoch_end(self, ctx: Context) -> Event | None:
        """Compare the modalities when it is time, and let a layer join that is still trained."""
        if (ctx.epoch + 1) % self.settings.period(ctx.epochs) == 0 and ctx.epoch + 1 < ctx.epochs:
            modality = behind(self._scores(ctx), self.settings.sigma, self.settings.tau)
            if modality is not None:
                self.classifiers.grow(modality)
        return None

    def _scores(self, ctx: Context) -> dict[str, float]:
        """Return the mean of softmax(z_m)(y) over the training rows, by modality."""

        def right(batch: Batch) -> dict[str, Tensor]:
            logits = self.all_logits(ctx.model.encode_alone(batch.inputs, batch.lengths, batch.present))
            return {m: right_probabilities(z, batch.labels)[:, None] for m, z in logits.items()}

        with evaluating(ctx.model, self.classifiers):
            return {m: float(p.mean()) for m, p in over_rows(ctx.train, ctx.eval_batch_size, right).items()}

    def predict(self, model: MultimodalModel, batch: Batch) -> Outputs:
        """Return the weighted sum of the modalities' logits (B, C), and the encoders' features."""
        features = model.encode_alone(batch.inputs, batch.lengths, batch.present)
        return Outputs(features, fixed_logits(self.all_logits(features), self.settings.weights, batch.present))


def behind(scores: Mapping[str, float], sigma: float, tau: float) -> str | None:
    """Return the modality of least score, if max - sigma * min > tau; None: they are even."""
    found = min(sorted(scores), key=lambda m: scores[m])
    return found if max(scores.values()) - sigma * scores[found] > tau else None
