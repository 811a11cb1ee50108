"""Diagnosing & Re-learning (Wei, Li, Feng, Hu; ECCV 2024, arXiv 2407.09705)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from drcli.methods.base import Event, Method, own_block
from drcli.methods.context import Context
from drcli.methods.parts.relearning import Relearning
from drcli.recipe.schema import Recipe
from drcli.relearning import RelearnSettings


class DiagnoseRelearn(Method):
    """Joint training that is diagnosed every H epochs, each encoder then pulled towards its start.

    After the evaluation and the checkpoint of epoch e, if e > 0 and e % every == 0 and fewer than
    `times` events have happened and e is not the last epoch, for every modality k

        g^k = |P_D^k - P_V^k|           purity gap of train and validation clusterings
        a^k = tanh(lambda * g^k)        re-learning strength
        theta^k <- a^k theta_init^k + (1 - a^k) theta^k, over the encoder's parameters

    Fusion and head are not touched. The same re-learning on any other method is the block `relearn:` of it.

    Differences from the authors' released code: training and diagnosis use the splits and the augmentation that
    every other method uses, and the features of the training set are taken in stored order with evaluation
    transforms, so that a diagnosis does not shift the data order that follows it.
    """

    class Settings(RelearnSettings, Method.Settings):
        """The recipe block of `diagnose_relearn`; the defaults are the authors' behaviour on CREMA-D."""

    year: ClassVar[int | None] = 2024
    neutral: ClassVar[Mapping[str, Any] | None] = {"lambda": 0.0}
    moves: ClassVar[str] = "every encoder and the fusion, by the optimiser; every encoder, by re-learning"
    relearn_reason: ClassVar[str] = "re-learns by its own settings"

    settings: Settings

    @classmethod
    def longer_reason(cls, recipe: Recipe) -> str:
        """Return why it cannot go on, where a re-learning was due after the last epoch."""
        found: str = own_block(recipe)[1].longer_reason(recipe.training.epochs)
        return found

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.relearning = Relearning(settings)

    def setup(self, ctx: Context) -> None:
        """Keep a copy of the encoders as they are before the first step."""
        self.relearning.setup(ctx)

    def warnings(self, ctx: Context) -> Iterable[str]:
        """Warn where fewer events happen than the settings ask for."""
        return self.relearning.warnings(ctx)

    def on_epoch_end(self, ctx: Context) -> Event | None:
        """Diagnose and re-learn when the schedule says so."""
        return self.relearning.on_epoch_end(ctx)

    def state_dict(self) -> dict[str, Any]:
        """Return the initial weights of the encoders and the number of events."""
        return self.relearning.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned.

        Raises:
            KeyError: one is missing.
            ValueError: a tensor has another shape.
        """
        self.relearning.load_state_dict(state)
