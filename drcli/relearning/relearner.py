"""Diagnosing & Re-learning for any training loop (Wei, Li, Feng, Hu; ECCV 2024, arXiv 2407.09705)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from drcli.diagnosis import ModalityDiagnosis, diagnose, snapshot, soft_reinitialise, unequal_shares
from drcli.diagnosis.reinitialise import recompute_batch_statistics
from drcli.diagnosis.sampling import stratified_rows
from drcli.diagnosis.settings import in_words
from drcli.relearning.features import (
    Features,
    bare,
    collect,
    default_run,
    device_of,
    evaluating,
    present_world,
    uncompiled,
)
from drcli.relearning.loaders import generators_kept, in_order, labels_of
from drcli.relearning.rules import MEASURE_SHARES, shares_differ, strengths
from drcli.relearning.settings import Rule, settings_of, unfit_slopes

if TYPE_CHECKING:
    from typing_extensions import TypeIs

Source = Features | Callable[[], Features] | Iterable[Any]
"""Features and labels, a function that returns them, or a loader whose batches are run through the encoders."""

Labels = tuple[Tensor, Tensor]
"""Of all rows of train, (N,), and of validation, (M,)."""


@dataclass(frozen=True)
class Relearned:
    """What an event found and did; as a string, all of it in one line.

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

    def __str__(self) -> str:
        left = {m: one.gap for m, one in self.left.items()}
        return f"epoch {self.epoch}: re-learning {self.number}: {in_words(self.found, left)}"

    @property
    def is_at_floor(self) -> bool:
        """Whether every gap is what permuted labels give, too: nothing that the encoders have learnt explains it."""
        return all(one.is_at_floor for one in self.found.values())


class Relearner:
    """Keeps the encoders' initial weights, diagnoses every H epochs, and pulls each encoder back as far as it says.

        relearner = Relearner({"audio": audio_encoder, "visual": visual_encoder}, epochs=100)  # before the first step
        event = relearner.step(epoch, train=train_loader, val=val_loader)                      # after each epoch
        torch.save({"relearner": relearner.state_dict(), ...}, path)                           # in each checkpoint

    After epoch e (from 0), if e > 0, e % every == 0, fewer than `times` events have happened, and e is not the last
    of `epochs`, for every modality k, with P the purity of K-means clusters of its features,

        g_k = |P_train_k - P_val_k|,   a_k = tanh(lambda * g_k),   theta_k <- a_k theta_init_k + (1 - a_k) theta_k

    over the parameters that are trained. Weights are changed in place, so that optimisers, compiled models and
    DistributedDataParallel stay valid. Several processes, each of which calls `step`, pull by what the first of them
    found.

    Args:
        encoders: by modality; modules of the model, not copies. What `torch.compile` and DistributedDataParallel
            wrap around one is unwrapped.
        every: H, epochs between two events.
        times: largest number of events.
        lambda_: slope from gap to strength; or {m: slope of m}.
        strength: rule from the diagnosis to the strength, see `drcli.relearning.rules`; a number: this for all.
        epochs: length of the training: no event follows the last epoch, and the first `step` warns where fewer than
            `times` events fit; None: unknown.
        num_classes: K of K-means; None: the number of different labels.
        model: what a batch of a loader is run through, called as `model(*inputs)` or `model(**inputs)`; None: each
            encoder takes its own input.
        run: runs a batch and returns its labels, where batches are of another kind than `model` takes. Give `model`
            too: it is in evaluation mode meanwhile.
        optimizer: whose state `optimizer_state` clears.
        seed: of the rules that draw.
        settings: the other settings of `relearn:` in a recipe, such as `restarts`, `gap` and `bn_buffers`.

    Raises:
        ValueError: a setting is unknown or out of range, there is no encoder, or two of them have weights in common.
    """

    def __init__(  # noqa: PLR0913  (all but the first have a default and a name)
        self,
        encoders: Mapping[str, nn.Module] | nn.ModuleDict,
        *,
        every: int = 20,
        times: int = 3,
        lambda_: float | Mapping[str, float] = 3.0,
        strength: Rule | float = "gap",
        epochs: int | None = None,
        num_classes: int | None = None,
        model: nn.Module | None = None,
        run: Callable[[Any], Tensor] | None = None,
        optimizer: torch.optim.Optimizer | None = None,
        seed: int = 0,
        **settings: Any,
    ) -> None:
        if not isinstance(encoders, Mapping | nn.ModuleDict) or not encoders:
            raise ValueError("encoders must be a mapping with one encoder at least, such as {'audio': module}")
        self.settings = settings_of(every=every, times=times, lambda_=lambda_, strength=strength, **settings)
        if self.settings.optimizer_state != "keep" and optimizer is None:
            raise ValueError(f"optimizer_state={self.settings.optimizer_state!r} needs optimizer=")
        self.encoders = {m: bare(encoder) for m, encoder in encoders.items()}
        _refuse_shared(self.encoders)
        if problem := unfit_slopes(self.settings.lambda_, self.encoders):
            raise ValueError(f"lambda {problem}")
        self.epochs = epochs
        self.num_classes = num_classes
        self.model = None if model is None else bare(model)
        self.run = run or default_run(self.encoders, model)
        self.optimizer = optimizer
        self.seed = seed
        self.initial = {m: snapshot(encoder) for m, encoder in self.encoders.items()}
        self.events = 0
        self._said: set[str] = set()

    def is_due(self, epoch: int) -> bool:
        """Return whether an event follows epoch `epoch`, from 0."""
        is_last = self.epochs is not None and epoch >= self.epochs - 1
        return epoch > 0 and epoch % self.settings.every == 0 and self.events < self.settings.times and not is_last

    def step(self, epoch: int, *, train: Source, val: Source, again: bool = False) -> Relearned | None:
        """Diagnose and pull if an event follows this epoch; to be called after every epoch.

        Global generators (Python's, NumPy's, torch's) and the mode of every layer are afterwards what they were, and a
        DataLoader that shuffles is passed over in stored order, so that the order of later epochs is the same with an
        event as without.

        Args:
            epoch: the epoch that has ended, from 0.
            train: of the training rows; without augmentation, if you can.
            val: of validation rows.
            again: diagnose once more after the pull, for the event's `left`; not where features themselves are given.

        Returns:
            What was found and done, or None.

        Raises:
            ValueError: features and labels do not fit together or are not finite, or a batch is of another kind.
        """
        self.warn(stacklevel=3)
        if not self.is_due(epoch):
            return None
        found = self.pull(self.diagnose(train, val))
        if self.settings.bn_buffers == "recompute":
            self._recompute(train)
        can_again = not is_features(train) and not is_features(val)
        left = self.diagnose(train, val) if again and can_again else {}
        return Relearned(epoch, self.events, found, left)

    def warn(self, stacklevel: int = 2) -> None:
        """Warn where fewer events fit into `epochs` than `times`, once, in one process; the first `step` does it."""
        if self.epochs is not None:
            self._say(self.settings.warnings(self.epochs), stacklevel + 1)

    def _say(self, lines: Iterable[str], stacklevel: int) -> None:
        for line in lines:
            if line not in self._said and present_world().is_main:
                warnings.warn(line, stacklevel=stacklevel)
            self._said.add(line)

    def diagnose(self, train: Source, val: Source) -> dict[str, ModalityDiagnosis]:
        """Return the diagnosis of every modality; nothing is changed.

        It warns once where the class shares of train and validation differ and the rule's gap measures that, too.

        Raises:
            ValueError: as `step` says.
        """
        with generators_kept(self.encoders.values()):
            on_train, on_val, labels = self._measured(train, val)
            found = present_world().on_main(lambda: self._found(on_train, on_val, self._classes(labels)))
        if isinstance(found, str):
            raise ValueError(found)
        self._say(self._shares(*labels), stacklevel=4)
        return found

    def _measured(self, train: Source, val: Source) -> tuple[Features, Features, Labels]:
        """Return features and labels of train and of validation, and the labels of all their rows.

        With `sample`, and loaders that tell their labels beforehand, only the rows that are drawn are encoded.
        """
        sample = self.settings.sample
        known = (None, None) if sample is None else (labels_of(train), labels_of(val))
        if sample is not None and known[0] is not None and known[1] is not None:
            labels = known[0], known[1]
            count = max(sample, self._classes(labels))
            rows = [stratified_rows(of_all, count) for of_all in labels]
            found = [self._features(source, drawn) for source, drawn in zip((train, val), rows, strict=True)]
            if all(_are_equal(one[1], y[drawn]) for one, y, drawn in zip(found, labels, rows, strict=True)):
                return found[0], found[1], labels
        on_train, on_val = self._features(train), self._features(val)
        return on_train, on_val, (on_train[1], on_val[1])

    def _classes(self, labels: Labels) -> int:
        return self.num_classes or len({label for of_split in labels for label in of_split.flatten().tolist()})

    def _shares(self, labels_train: Tensor, labels_val: Tensor) -> Iterator[str]:
        apart = unequal_shares(labels_train, labels_val) if self.settings.strength in MEASURE_SHARES else None
        if apart is not None:
            yield f"{shares_differ(apart)}; strength='adjusted' corrects for it"

    def _found(self, train: Features, val: Features, num_classes: int) -> dict[str, ModalityDiagnosis] | str:
        """Return the diagnosis, or why there is none: of several processes the others wait for one or the other."""
        (features_train, labels_train), (features_val, labels_val) = train, val
        try:
            return diagnose(
                features_train,
                labels_train,
                features_val,
                labels_val,
                num_classes=num_classes,
                settings=self.settings,
                lambda_=self.settings.lambda_,
            )
        except ValueError as error:
            return str(error)

    def pull(self, found: Mapping[str, ModalityDiagnosis]) -> dict[str, ModalityDiagnosis]:
        """Pull every encoder by what a diagnosis and the rule say, and count the event.

        Returns:
            The diagnosis with the strengths by which the encoders were pulled.
        """
        rule, lambda_ = self.settings.strength, self.settings.lambda_
        decided = strengths(rule, found, lambda_=lambda_, seed=(self.seed, self.events))
        self.apply(decided)
        self.events += 1
        if any(strength > 0 for strength in decided.values()):
            self._reset_optimizer()
        return {m: replace(one, strength=decided[m]) for m, one in found.items()}

    def apply(self, decided: Mapping[str, float]) -> None:
        """Pull every encoder towards its initial weights by a strength, {m: a_m} in [0, 1]; no event is counted."""
        buffers: Literal["keep", "blend"] = "blend" if self.settings.bn_buffers == "blend" else "keep"
        for m, strength in decided.items():
            soft_reinitialise(self.encoders[m], self.initial[m], strength, buffers=buffers)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint must hold: the initial weights, and how many events there were."""
        return {"initial": self.initial, "events": self.events}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned; tensors are copied in place.

        Raises:
            KeyError: a modality or a tensor is missing; nothing has been changed then.
            ValueError: a tensor has another shape; nothing has been changed then.
        """
        events = int(state["events"])
        pairs = []
        for m, tensors in self.initial.items():
            saved = state["initial"][m]
            for name, tensor in tensors.items():
                if saved[name].shape != tensor.shape:
                    raise ValueError(f"{m}.{name} has the shape {tuple(saved[name].shape)}, not {tuple(tensor.shape)}")
                pairs.append((tensor, saved[name]))
        for tensor, value in pairs:
            tensor.copy_(value)
        self.events = events

    def _features(self, source: Source, rows: Tensor | None = None) -> Features:
        if callable(source):
            source = source()
        if is_features(source):
            features, labels = source
            return {m: torch.as_tensor(x) for m, x in features.items()}, torch.as_tensor(labels)
        features, labels = collect(source, self.encoders, self.run, self.model, rows)
        device = device_of(self.encoders.values())  # K-means is computed there
        return {m: x.to(device) for m, x in features.items()}, labels

    def _recompute(self, train: Source) -> None:
        if is_features(train) or callable(train):
            raise ValueError("bn_buffers='recompute' needs a loader as train=: statistics are measured on its batches")

        def run() -> None:
            for batch in in_order(train, no_single=True):  # each of several processes passes over all rows
                self.run(batch)

        encoders = list(self.encoders.values())
        modules = encoders if self.model is None else [*encoders, self.model]
        with generators_kept(encoders), evaluating(*modules), uncompiled():
            recompute_batch_statistics(encoders, run)

    def _reset_optimizer(self) -> None:
        kept = self.settings.optimizer_state
        if self.optimizer is None or kept == "keep":
            return
        if kept == "reset":
            self.optimizer.state.clear()
        for encoder in self.encoders.values():
            for parameter in encoder.parameters():
                self.optimizer.state.pop(parameter, None)


def _refuse_shared(encoders: Mapping[str, nn.Module]) -> None:
    """Refuse encoders with weights in common: each pull of one would undo that of the other."""
    owners: dict[int, str] = {}
    for m, encoder in encoders.items():
        for parameter in encoder.parameters():
            if owners.setdefault(id(parameter), m) != m:
                raise ValueError(
                    f"the encoders of {owners[id(parameter)]} and {m} have weights in common; "
                    "give the encoder once, as one modality"
                )


def _are_equal(seen: Tensor, told: Tensor) -> bool:
    """Whether the labels of a pass are those that the dataset had told; a batch may hold other, coarser ones."""
    return torch.equal(seen.to(torch.float64), told.to(torch.float64))


def is_features(source: Any) -> TypeIs[Features]:
    """Whether a source holds features and labels themselves."""
    return isinstance(source, tuple) and len(source) == 2 and isinstance(source[0], Mapping)
