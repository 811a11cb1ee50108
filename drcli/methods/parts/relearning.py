"""Re-learning inside a run: what a `relearn:` block, and the method D&R, put on top of training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from drcli.diagnosis import unequal_shares
from drcli.diagnosis.reinitialise import recompute_batch_statistics
from drcli.methods.base import Event
from drcli.methods.context import Context
from drcli.methods.parts.gradients import trainable
from drcli.relearning import Relearner, RelearnSettings
from drcli.relearning.features import evaluating
from drcli.relearning.rules import MEASURE_SHARES, shares_differ


class Relearning:
    """A Relearner over the encoders of a run; see there for the formula.

    Right after a pull the diagnosis is made once more, for the log: what gap the encoders were left with. Features
    are taken in stored order with evaluation transforms, so that a diagnosis does not change the order of the data.

    Args:
        settings: when, and how strongly.
    """

    def __init__(self, settings: RelearnSettings) -> None:
        self.settings = settings

    def setup(self, ctx: Context) -> None:
        """Keep the encoders as they are before the first step, pre-trained weights included."""
        settings = {name: getattr(self.settings, name) for name in RelearnSettings.model_fields}
        if isinstance(self.settings.lambda_, Mapping):  # of a run of one modality, the others are not encoded
            settings["lambda_"] = {m: self.settings.lambda_[m] for m in ctx.model.modalities}
        self.relearner = Relearner(
            dict(ctx.model.encoders.items()),
            **settings,
            epochs=ctx.epochs,
            num_classes=ctx.num_classes,
            optimizer=ctx.optimizer,
            seed=ctx.seed,
        )
        self._trained = trainable(ctx.model.encoders)

    @contextmanager
    def _all_trained(self) -> Iterator[None]:
        """Within it, encoders that stand still in the present stage of a run count as trained, which they are."""
        resting = [parameter for parameter in self._trained if not parameter.requires_grad]
        for parameter in resting:
            parameter.requires_grad_(True)
        try:
            yield
        finally:
            for parameter in resting:
                parameter.requires_grad_(False)

    def warnings(self, ctx: Context) -> Iterator[str]:
        """Warn where the schedule has fewer events than asked for, or class shares make a gap by themselves."""
        settings = self.settings
        yield from settings.warnings(ctx.epochs)
        if not settings.due(ctx.epochs):
            return
        apart = unequal_shares(ctx.train.split.labels, ctx.val.split.labels)
        if settings.strength in MEASURE_SHARES and apart is not None:
            yield f"{shares_differ(apart)}; strength: adjusted corrects for it"

    def on_epoch_end(self, ctx: Context) -> Event | None:
        """Diagnose and re-learn when the schedule says so."""
        relearner, lambda_ = self.relearner, self.settings.lambda_
        if not relearner.is_due(ctx.epoch):
            return None
        before = ctx.diagnose(self.settings, lambda_)
        with self._all_trained():
            found = relearner.pull(before)
            if any(one.strength > 0 for one in found.values()):
                ctx.weights_changed()
                self._follow(ctx, {m: one.strength for m, one in found.items()})
        left = ctx.diagnose(self.settings, lambda_)
        return Event("relearn", found, left, relearner.events, lambda_, self.settings.strength)

    def _follow(self, ctx: Context, strengths: Mapping[str, float]) -> None:
        """Do what follows a pull: the averages of the weights are pulled as far, and statistics measured again."""
        is_measured = self.settings.bn_buffers == "recompute"
        if is_measured:
            _recompute(ctx)
        if ctx.averages is not None:
            with ctx.averages.applied(changing=True):
                self.relearner.apply(strengths)
                if is_measured:
                    _recompute(ctx)

    def state_dict(self) -> dict[str, Any]:
        """Return the initial weights and the number of events."""
        return self.relearner.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self.relearner.load_state_dict(state)


def _recompute(ctx: Context) -> None:
    """Measure the statistics of batch normalisation again; each of several processes passes all rows."""

    def run() -> None:
        for batch in ctx.train.in_order(ctx.eval_batch_size):
            ctx.model.encode(batch.inputs, batch.lengths, batch.present)

    with evaluating(ctx.model):
        recompute_batch_statistics(ctx.model.encoders.values(), run)
