"""Methods whose modalities take turns: one optimiser step each on every batch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from drcli.data.batches import Batch
from drcli.methods.base import Losses, Method, Scalars
from drcli.methods.context import Context
from drcli.models.fusion import Outputs


class Alternating(Method):
    """Base of the methods that train one modality after another on every batch, an optimiser step each.

    In the turn of m only encoder m is run: `forward` gives h_m and z_m, `losses` CE(z_m, y) by default, and
    everything without a gradient stays as it is, under momentum and weight decay too. The order of the turns is
    that of the modalities' names, whatever the order in the recipe. An epoch is one pass per encoder.
    """

    compiled: ClassVar[bool] = False

    turn: str
    """The modality whose turn it is."""

    @abstractmethod
    def logits_of(self, modality: str, features: Tensor) -> Tensor:
        """Return z_m (B, C) of features h_m (B, D_m)."""

    def training_step(self, ctx: Context, batch: Batch) -> Scalars:
        """Take one step per modality; scalars that several turns give are averaged."""
        taken = []
        for self.turn in sorted(ctx.model.modalities):
            taken.append(super().training_step(ctx, batch))
        return averaged(taken)

    def forward(self, ctx: Context, batch: Batch) -> Outputs:
        """Run the encoder of the present turn."""
        features = ctx.model.encode_alone({self.turn: batch.inputs[self.turn]}, batch.lengths, batch.present)
        return Outputs(features, self.logits_of(self.turn, features[self.turn]))

    def losses(self, ctx: Context, outputs: Outputs, batch: Batch) -> Losses:
        """Return the cross-entropy of the present turn, by its modality, over the rows that have it."""
        return {self.turn: ctx.criterion(outputs.logits, batch.labels, batch.present.get(self.turn))}

    def all_logits(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return z_m of every modality, {m: (B, C)}, of features {m: (B, D_m)}."""
        return {m: self.logits_of(m, x) for m, x in features.items()}


def averaged(taken: Sequence[Scalars]) -> Scalars:
    """Return the scalars of some steps, {name: ()}: the mean where several give one of the same name."""
    names = dict.fromkeys(name for scalars in taken for name in scalars)
    return {name: torch.stack([scalars[name] for scalars in taken if name in scalars]).mean() for name in names}
