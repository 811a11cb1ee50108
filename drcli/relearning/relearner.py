"""Diagnosing & Re-learning for any training loop (Wei, Li, Feng, Hu; ECCV 2024, arXiv 2407.09705)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from drcli.diagnosis import ModalityDiagnosis, diagnose, snapshot, soft_reinitialise
from drcli.relearning.batch_norm import recompute_batch_statistics
from drcli.relearning.features import Features, collect, default_run, evaluating, present_world
from drcli.relearning.rules import strengths
from drcli.relearning.settings import RelearnSettings, Rule

if TYPE_CHECKING:
    from typing_extensions import TypeIs

Source = Features | Callable[[], Features] | Iterable[Any]
"""Features and labels, a function that returns them, or a loader whose batches are run through the encoders."""


@dataclass(frozen=True)
class Relearned:
    """What an event found and did.

    Attributes:
        epoch: at whose end it happened, from 0.
        number: of the event, from 1.
        found: the diagnosis of each modality; its `strength` is how far the encoder was pulled.
        left: the same measured after the pull; empty where that was not asked for.
    """

    epoch: int
    number: int
    found: Mapping[str, ModalityDiagnosis]
    left: Mapping[str, ModalityDiagnosis] = field(default_factory=dict)


class Relearner:
    """Keeps the encoders' initial weights, diagnoses every H epochs, and pulls each encoder back as far as it says.

        relearner = Relearner({"audio": audio_encoder, "visual": visual_encoder}, every=20)   # before the first step
        event = relearner.step(epoch, train=train_loader, val=val_loader)                     # after each epoch
        torch.save({"relearner": relearner.state_dict(), ...}, path)                          # in each checkpoint

    After epoch e (from 0), if e > 0, e % every == 0, fewer than `times` events have happened, and e is not the last
    of `epochs`, for every modality k, with P the purity of K-means clusters of its features,

        g_k = |P_train_k - P_val_k|,   a_k = tanh(lambda * g_k),   theta_k <- a_k theta_init_k + (1 - a_k) theta_k

    over the parameters that are trained. Weights are changed in place, so that optimisers, compiled models and
    DistributedDataParallel stay valid. Several processes pull by what the first of them found.

    Args:
        encoders: by modality; modules of the model, not copies.
        every: H, epochs between two events.
        times: largest number of events.
        lambda_: slope from gap to strength.
        strength: rule from the diagnosis to the strength, see `drcli.relearning.rules`; a number: this for all.
        epochs: length of the training: no event follows the last epoch; None: unknown.
        num_classes: K of K-means; None: the number of different labels.
        model: what a batch of a loader is run through; None: each encoder takes its own input.
        run: runs a batch and returns its labels, where batches are of another kind than `model` takes.
        optimizer: whose state `optimizer_state` clears.
        seed: of the rules that draw.
        settings: the other settings of `relearn:` in a recipe, such as `restarts`, `gap` and `bn_buffers`.

    Raises:
        ValueError: a setting is unknown or out of range, or there is no encoder.
    """

    def __init__(  # noqa: PLR0913  (all but the first have a default and a name)
        self,
        encoders: Mapping[str, nn.Module],
        *,
        every: int = 20,
        times: int = 3,
        lambda_: float = 3.0,
        strength: Rule | float = "gap",
        epochs: int | None = None,
        num_classes: int | None = None,
        model: nn.Module | None = None,
        run: Callable[[Any], Tensor] | None = None,
        optimizer: torch.optim.Optimizer | None = None,
        seed: int = 0,
        **settings: Any,
    ) -> None:
        if not encoders:
            raise ValueError("there must be one encoder at least, such as {'audio': module}")
        self.settings = RelearnSettings(every=every, times=times, lambda_=lambda_, strength=strength, **settings)
        if self.settings.optimizer_state != "keep" and optimizer is None:
            raise ValueError(f"optimizer_state={self.settings.optimizer_state!r} needs optimizer=")
        self.encoders = dict(encoders)
        self.epochs = epochs
        self.num_classes = num_classes
        self.model = model
        self.run = run or default_run(self.encoders, model)
        self.optimizer = optimizer
        self.seed = seed
        self.initial = {m: snapshot(encoder) for m, encoder in self.encoders.items()}
        self.events = 0

    def is_due(self, epoch: int) -> bool:
        """Return whether an event follows epoch `epoch`, from 0."""
        is_last = self.epochs is not None and epoch >= self.epochs - 1
        return epoch > 0 and epoch % self.settings.every == 0 and self.events < self.settings.times and not is_last

    def step(self, epoch: int, *, train: Source, val: Source, again: bool = False) -> Relearned | None:
        """Diagnose and pull if an event follows this epoch; to be called after every epoch.

        Torch's global generator and the mode of every layer are afterwards what they were, so that the order of later
        epochs is the same with an event as without. Only a generator of the loader's own is advanced by it.

        Args:
            epoch: the epoch that has ended, from 0.
            train: of the training rows.
            val: of validation rows.
            again: diagnose once more after the pull, for the event's `left`.

        Returns:
            What was found and done, or None.

        Raises:
            ValueError: features and labels do not fit together or are not finite, or a batch is of another kind.
        """
        if not self.is_due(epoch):
            return None
        found = self.pull(self.diagnose(train, val))
        if self.settings.bn_buffers == "recompute":
            self._recompute(train)
        left = self.diagnose(train, val) if again and not is_features(train) else {}
        return Relearned(epoch, self.events, found, left)

    def diagnose(self, train: Source, val: Source) -> dict[str, ModalityDiagnosis]:
        """Return the diagnosis of every modality; nothing is changed."""
        (features_train, labels_train), (features_val, labels_val) = self._features(train), self._features(val)
        classes = self.num_classes or len(torch.unique(torch.cat([labels_train.cpu(), labels_val.cpu()])))
        return present_world().on_main(
            lambda: diagnose(
                features_train,
                labels_train,
                features_val,
                labels_val,
                num_classes=classes,
                settings=self.settings,
                lambda_=self.settings.lambda_,
            )
        )

    def pull(self, found: Mapping[str, ModalityDiagnosis]) -> dict[str, ModalityDiagnosis]:
        """Pull every encoder by what a diagnosis and the rule say, and count the event.

        Returns:
            The diagnosis with the strengths by which the encoders were pulled.
        """
        rule, lambda_ = self.settings.strength, self.settings.lambda_
        decided = strengths(rule, found, lambda_=lambda_, seed=(self.seed, self.events))
        buffers: Literal["keep", "blend"] = "blend" if self.settings.bn_buffers == "blend" else "keep"
        for m, strength in decided.items():
            soft_reinitialise(self.encoders[m], self.initial[m], strength, buffers=buffers)
        self.events += 1
        if any(strength > 0 for strength in decided.values()):
            self._reset_optimizer()
        return {m: replace(one, strength=decided[m]) for m, one in found.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint must hold: the initial weights, and how many events there were."""
        return {"initial": self.initial, "events": self.events}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned; tensors are copied in place.

        Raises:
            KeyError: a modality or a tensor is missing.
            ValueError: a tensor has another shape.
        """
        for m, tensors in self.initial.items():
            for name, tensor in tensors.items():
                saved = state["initial"][m][name]
                if saved.shape != tensor.shape:
                    raise ValueError(f"{m}.{name} has the shape {tuple(saved.shape)}, not {tuple(tensor.shape)}")
                tensor.copy_(saved)
        self.events = int(state["events"])

    def _features(self, source: Source) -> Features:
        if is_features(source):
            return source
        if callable(source):
            return source()
        return collect(source, self.encoders, self.run)

    def _recompute(self, train: Source) -> None:
        if is_features(train) or callable(train):
            raise ValueError("bn_buffers='recompute' needs a loader as train=: statistics are measured on its batches")

        def run() -> None:
            for batch in train:
                self.run(batch)

        run_through = self.encoders.values() if self.model is None else [self.model]
        with torch.random.fork_rng(devices=[]), evaluating(*run_through):
            recompute_batch_statistics(self.encoders.values(), run)

    def _reset_optimizer(self) -> None:
        kept = self.settings.optimizer_state
        if self.optimizer is None or kept == "keep":
            return
        if kept == "reset":
            self.optimizer.state.clear()
        for encoder in self.encoders.values():
            for parameter in encoder.parameters():
                self.optimizer.state.pop(parameter, None)


def is_features(source: Source) -> TypeIs[Features]:
    """Whether a source holds features and labels themselves."""
    return isinstance(source, tuple) and len(source) == 2 and isinstance(source[0], Mapping)
