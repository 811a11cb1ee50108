"""Diagnosing & Re-learning in Lightning: a callback around a Relearner.

    from drcli.integrations.lightning import RelearnCallback

    Trainer(max_epochs=100, callbacks=[RelearnCallback({"audio": "audio_encoder", "visual": "visual_encoder"})])

Needs `lightning` 2.x (`pip install 'drcli[lightning]'`) or `pytorch_lightning` 2.x.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any

from torch import Tensor, nn

from drcli.relearning import Relearned, Relearner
from drcli.relearning.features import bare, default_run

Encoders = Mapping[str, str] | Callable[[Any], Mapping[str, nn.Module]]


def _callback_class() -> type:
    """Return the base class of callbacks, of the package that is imported already, or else of one that is there.

    Raises:
        ModuleNotFoundError: neither is installed.
    """
    names = ["lightning.pytorch", "pytorch_lightning"]
    for name in sorted(names, key=lambda name: name not in sys.modules):
        try:
            found: type = import_module(name).Callback
        except ModuleNotFoundError as error:
            if error.name not in (name, name.partition(".")[0]):  # it is there, and cannot be imported
                raise
        else:
            return found
    raise ModuleNotFoundError("Lightning is not installed; install it: pip install 'drcli[lightning]'", name=names[0])


class RelearnCallback(_callback_class()):  # type: ignore[misc]
    """Pulls encoders back at the end of training epochs, as their diagnosis says; see `Relearner` for the formula.

    The initial weights are those at the start of `fit`. An event follows the validation of its epoch; a checkpoint that
    is chosen by a validation metric is written before it, so that a pull harms no figure. Training and validation rows
    are passed over in stored order, whatever the loaders do, in the trainer's precision; global generators are left
    alone. With several processes all of them pull by the same diagnosis, of the rows of all.

    Logged at each event: `relearn/<modality>/gap`, `relearn/<modality>/gap_above_floor`,
    `relearn/<modality>/strength`.

    Args:
        encoders: the attribute of the LightningModule for each modality, such as {"audio": "audio_encoder"} or with
            dots, or a function of the module that returns {modality: encoder}.
        train: loader of the training rows, as `Relearner.step` takes it; None: that of the trainer. Give one where
            training rows are augmented.
        val: the same of validation rows; None: that of the trainer.
        run: function of the LightningModule and a batch, on its device, that runs the encoders and returns the labels
            (B,); None: batches are (x_1, ..., x_M, labels) in the order of the encoders, ({modality: x}, labels), or
            mappings with the key "labels", and each encoder takes its own input.
        relearn: the settings of `Relearner`, such as every=10, times=3, lambda_=3.0, strength="gap".

    Attributes:
        events: what happened in this `fit`, in order.
        relearner: the Relearner; None before `fit`.
    """

    def __init__(
        self,
        encoders: Encoders,
        *,
        train: Any = None,
        val: Any = None,
        run: Callable[[Any, Any], Tensor] | None = None,
        **relearn: Any,
    ) -> None:
        super().__init__()
        self.encoders = encoders
        self.train, self.val, self.run = train, val, run
        self.settings = relearn
        self.relearner: Relearner | None = None
        self.events: list[Relearned] = []
        self._saved: dict[str, Any] | None = None
        self._next_epoch = 0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Keep the initial weights, or take them from the checkpoint that `fit` resumes from.

        Raises:
            AttributeError: the module has no such encoder.
            ValueError: a setting is wrong, or there are no validation rows.
        """
        if self.val is None and not trainer.enable_validation:
            raise ValueError("there is no validation loader, which the diagnosis needs: give the trainer one, or val=")
        encoders = {m: bare(encoder) for m, encoder in self._found_encoders(pl_module).items()}
        if self.relearner is None or list(self.relearner.encoders.values()) != list(encoders.values()):
            self.relearner = self._made(trainer, pl_module, encoders)
            self._next_epoch = 0
        self.relearner.epochs = trainer.max_epochs if trainer.max_epochs and trainer.max_epochs > 0 else None
        self.events = []
        if self._saved is not None:
            self.relearner.load_state_dict(self._saved["relearner"])
            self._next_epoch = self._saved["next_epoch"]
            self._saved = None
        self.relearner.warn()

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Diagnose and pull if an event follows this epoch, and log it."""
        epoch = trainer.current_epoch
        if self.relearner is None or epoch < self._next_epoch:  # resumed after the event of an epoch, but within it
            return
        self._next_epoch = epoch + 1
        if not self.relearner.is_due(epoch):
            return
        event = self.relearner.step(epoch, train=self._rows(trainer, "train"), val=self._rows(trainer, "val"))
        if event is not None:
            self.events.append(event)
            pl_module.log_dict(numbers(event), sync_dist=True)  # the same in all processes

    def state_dict(self) -> dict[str, Any]:
        """Return the initial weights and what has happened, for the trainer's checkpoints."""
        if self.relearner is None:
            return self._saved or {}
        return {"relearner": self.relearner.state_dict(), "next_epoch": self._next_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep what `state_dict` returned until training starts."""
        self._saved = state_dict or None

    def _found_encoders(self, module: Any) -> dict[str, nn.Module]:
        if callable(self.encoders):
            return dict(self.encoders(module))
        return {m: module.get_submodule(name) for m, name in self.encoders.items()}

    def _made(self, trainer: Any, module: Any, encoders: Mapping[str, nn.Module]) -> Relearner:
        optimizers, precision = trainer.optimizers, trainer.precision_plugin
        run = self.run or _without_module(default_run(encoders, None))

        def run_as_in_validation(batch: Any) -> Tensor:
            batch = trainer.strategy.batch_to_device(precision.convert_input(batch))
            with precision.forward_context():
                return run(module, batch)

        return Relearner(
            encoders,
            model=module,
            run=run_as_in_validation,
            optimizer=optimizers[0] if len(optimizers) == 1 else None,
            **self.settings,
        )

    def _rows(self, trainer: Any, split: str) -> Any:
        given = getattr(self, split)
        return given if given is not None else single(trainer, split)


def _without_module(run: Callable[[Any], Tensor]) -> Callable[[Any, Any], Tensor]:
    return lambda _module, batch: run(batch)


def single(trainer: Any, split: str) -> Iterable[Any]:
    """Return the trainer's only loader of "train" or "val" rows.

    Raises:
        ValueError: there is none, or more than one.
    """
    found = trainer.train_dataloader if split == "train" else trainer.val_dataloaders
    if isinstance(found, list | tuple) and len(found) == 1:
        (found,) = found
    if found is None or isinstance(found, list | tuple | Mapping):
        count = "no" if found is None else f"{len(found)}"
        raise ValueError(f"the trainer has {count} loaders of {split} rows; give RelearnCallback the one: {split}=")
    return found  # type: ignore[no-any-return]


def numbers(event: Relearned) -> dict[str, float]:
    """Return what is logged of an event."""
    return {
        f"relearn/{m}/{name}": getattr(one, name)
        for m, one in event.found.items()
        for name in ("gap", "gap_above_floor", "strength")
    }
