"""Uni-Modal Teacher (Du et al.; ICML 2023, arXiv 2305.01233; first as arXiv 2106.11059)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, NonNegativeFloat

from drcli.bases import Search
from drcli.data.batches import Batch
from drcli.methods.base import Losses, Method
from drcli.methods.context import Context
from drcli.methods.parts.teachers import Teachers, feature_distances
from drcli.models.fusion import Outputs
from drcli.names import TEACHERS
from drcli.task import TaskName


class UMT(Method):
    """Joint training whose encoders are drawn to the features of encoders that were trained alone.

        L = CE(z, y) + weight * sum over m of MSE(h_m, t_m(x^m))

    t_m is the encoder of the unimodal run of the same seed, at its selected epoch: frozen, in evaluation
    mode, on the same augmented inputs. MSE is the mean over batch and features; with `reduction: sum` the
    sum over features, D_m times as much. Any number of modalities, any fusion; the fused logits predict.

    Differences from ports: BalanceBenchmark's never puts the teachers into evaluation mode, so that their
    batch normalisation uses the statistics of the batch, and moves.
    """

    class Settings(Method.Settings):
        """The recipe block of `umt`."""

        weight: Annotated[NonNegativeFloat, Search(1, 100, log=True)] = Field(
            10.0,
            le=1e6,
            allow_inf_nan=False,
            description="weight of the distances between features; the default is BalanceBenchmark's, the value of "
            "the paper is not known",
        )
        reduction: Literal["mean", "sum"] = Field(
            "mean",
            description="of the squared differences over the features of an encoder, in both cases a mean over "
            "the batch",
        )

    year: ClassVar[int | None] = 2023
    requires: ClassVar[frozenset[str]] = frozenset({TEACHERS})
    neutral: ClassVar[Mapping[str, Any] | None] = {"weight": 0.0}
    tasks: ClassVar[frozenset[TaskName]] = Method.tasks

    settings: Settings

    def setup(self, ctx: Context) -> None:
        """Take the encoders of the unimodal runs."""
        self.teachers = Teachers(ctx)

    def losses(self, ctx: Context, outputs: Outputs, batch: Batch) -> Losses:
        """Return the fused loss and, by modality, the weighted distance to the teacher, each of shape ()."""
        losses = super().losses(ctx, outputs, batch)
        if self.settings.weight == 0:
            return losses
        targets = self.teachers.features(batch)
        for m, distance in feature_distances(outputs.features, targets, self.settings.reduction).items():
            losses[f"teacher_{m}"] = self.settings.weight * distance
        return losses
