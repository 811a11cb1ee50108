"""What the engine hands to a method: everything a run holds, except the test split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from drcli.averages import Averages
from drcli.data.batches import Batch, Batches, own_rows
from drcli.data.rows import to_device
from drcli.diagnosis import MeasureSettings, ModalityDiagnosis, diagnose
from drcli.diagnosis.sampling import present_only, stratified_rows
from drcli.diagnosis.settings import Slopes
from drcli.methods.parts.criterion import criterion
from drcli.models.fusion import Outputs
from drcli.models.multimodal import MultimodalModel, Teacher, extract_features
from drcli.optim import INITIAL, LossScaler, build_optimizer, is_fused, take_step
from drcli.recipe.schema import Training
from drcli.seeding import derive, generator
from drcli.task import LossName
from drcli.world import ALONE, World

Features = tuple[dict[str, Tensor], Tensor]


@dataclass
class Context:
    """The state of a run, as a method sees it.

    Attributes:
        model: the model in training.
        optimizer: the optimiser over the model and the method's extra modules.
        trainable: the parameters that the optimiser moves.
        train: training rows.
        val: validation rows.
        num_classes: C; 1 of a regression.
        eval_batch_size: rows of an evaluation step.
        seed: the run's seed.
        label: the run's label among the recipe's methods, for messages.
        device: where the model is.
        training: the recipe's `training` block.
        teachers: trained encoders and heads by modality, for the methods that require them.
        world: the processes that train the run together.
        loss: of a regression; None of a classification, which has its cross-entropy.
        scaler: scales losses, in half precision.
        averages: of the weights, where the recipe asks for them.
        epoch: index of the current epoch, from 0.
        step: optimiser steps taken so far.
    """

    model: MultimodalModel
    optimizer: torch.optim.Optimizer
    trainable: Sequence[nn.Parameter]
    train: Batches
    val: Batches
    num_classes: int
    eval_batch_size: int
    seed: int
    device: torch.device
    training: Training
    teachers: Mapping[str, Teacher] = field(default_factory=dict)
    label: str = ""
    world: World = ALONE
    loss: LossName | None = None
    scaler: LossScaler | None = None
    averages: Averages | None = None
    epoch: int = 0
    step: int = 0
    _features: dict[str, Features] = field(default_factory=dict)
    _logged: dict[str, list[Tensor]] = field(default_factory=dict)

    @property
    def epochs(self) -> int:
        """Length of the run."""
        return self.training.epochs

    def generator(self, *names: str | int, device: torch.device | str = "cpu") -> torch.Generator:
        """Return a generator of the method's own for this epoch; no other stream is shifted by it."""
        return generator(self.seed, "method", *names, self.epoch, device=device)

    def derive(self, *names: str | int) -> int:
        """Return the seed of a stream of the method's own for this epoch, for a `Context` of its own."""
        return derive(self.seed, "method", *names, self.epoch)

    def criterion(self, logits: Tensor, labels: Tensor, rows: Tensor | None = None) -> Tensor:
        """Return the run's mean loss, shape (): the cross-entropy of a classification, or the recipe's `loss`.

        Args:
            logits: (B, C), or values (B, 1) of a regression.
            labels: (B,) class indices or values.
            rows: which rows count (B,), bool; None: all. The loss is 0 where none does.
        """
        return criterion(self.loss, logits, labels, rows)

    def parts(self, batch: Batch) -> tuple[Batch, ...]:
        """The batch in the parts whose gradients are accumulated: one, unless the recipe says otherwise."""
        return batch.split(self.training.accumulate, self.world)

    def all_reduce(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return sums over a batch from those over this process's rows of it, {name: ()}, without gradient."""
        return self.world.all_reduce(values)

    def average(self, values: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Return means over a batch from those over this process's rows of it, {name: ()}, without gradient.

        Args:
            values: means over the rows of `batch`.
            batch: a batch or a part of one.
        """
        if self.world.size == 1:
            return dict(values)
        fraction = len(batch.labels) / len(batch.whole.labels)
        return self.world.all_reduce({name: fraction * value for name, value in values.items()})

    def all_gather(self, outputs: Outputs, batch: Batch) -> Outputs:
        """Return the outputs for a whole batch, in its order, from those for this process's rows of it."""
        if self.world.size == 1:
            return outputs
        shards = [own_rows(len(batch.whole.labels), self.training.accumulate, peer) for peer in self.world.peers()]
        packed = torch.cat([outputs.logits, *outputs.features.values()], dim=1)
        back = torch.cat(shards).argsort()  # where the rows of the batch are among those in the order of the ranks
        rows = self.world.all_gather(packed, [len(own) for own in shards])[to_device(back, packed.device)]
        widths = [outputs.logits.shape[1], *(x.shape[1] for x in outputs.features.values())]
        logits, *features = torch.split(rows, widths, dim=1)
        return Outputs(dict(zip(outputs.features, features, strict=True)), logits)

    def log(self, name: str, value: Tensor) -> None:
        """Write a number () of this step into the epoch's log, such as "coefficient/audio"."""
        self._logged.setdefault(name, []).append(value.detach())

    def take_logged(self) -> dict[str, Tensor]:
        """Return what was logged since the last call, averaged where a step logged a name twice."""
        logged = {name: torch.stack(values).mean(dim=0) for name, values in self._logged.items()}
        self._logged.clear()
        return logged

    def new_optimizer(
        self, parameters: Sequence[nn.Parameter], like: Sequence[nn.Parameter] = ()
    ) -> torch.optim.Optimizer:
        """Return an optimiser of the recipe's kind over other parameters, at the current learning rates.

        Args:
            parameters: what it moves.
            like: as many parameters of the run, whose learning rates they have; none: the recipe's.
        """
        settings, groups = self.training.optimizer, self.optimizer.param_groups
        own = {id(parameter): group[INITIAL] for group in groups for parameter in group["params"]}
        rates = {id(new): own.get(id(old), settings.lr) for new, old in zip(parameters, like, strict=False)}
        optimizer = build_optimizer(settings, parameters, fused=is_fused(self.training, self.device), rates=rates)
        now = {group[INITIAL]: group["lr"] for group in reversed(groups)}
        for group in optimizer.param_groups:
            group["lr"] = now[group[INITIAL]]
        return optimizer

    def scaled(self, losses: Mapping[str, Tensor], fraction: float = 1.0) -> dict[str, Tensor]:
        """Return losses {name: ()} as they go into the backward pass: a fraction of each, scaled in half precision."""
        parts = losses if fraction == 1 else {name: fraction * loss for name, loss in losses.items()}
        return {name: loss if self.scaler is None else self.scaler.scale(loss) for name, loss in parts.items()}

    def unscaled(self) -> bool:
        """Undo the scaling of losses in the gradients, once per step, and return whether a step can be taken."""
        return self.scaler is None or self.scaler.unscaled(self.optimizer)

    def features(self, split: Literal["train", "val"], sample: int | None = None) -> Features:
        """Representations {m: (N, D_m)} and labels (N,) of a split, with evaluation transforms.

        In stored order, in evaluation mode, on the CPU; computed once until `weights_changed`.

        Args:
            split: which rows.
            sample: at most so many of them, drawn by class; only these are encoded, unless all have been before.
        """
        batches = self.train if split == "train" else self.val
        if sample is None or sample >= len(batches):
            return self._computed(split, batches, None)
        rows = stratified_rows(batches.split.labels, sample)
        if split in self._features:
            features, labels = self._features[split]
            return {m: x[rows] for m, x in features.items()}, labels[rows]
        return self._computed(f"{split} {sample}", batches, rows)

    def _computed(self, key: str, batches: Batches, rows: Tensor | None) -> Features:
        if key not in self._features:
            self._features[key] = extract_features(self.model, batches, self.eval_batch_size, rows)
        return self._features[key]

    def diagnose(self, settings: MeasureSettings, lambda_: Slopes) -> dict[str, ModalityDiagnosis]:
        """Purities, gap and strength of every modality, from `features`; nothing is changed.

        Rows that lack a modality do not count in its diagnosis.
        """
        masked = self.train.present or self.val.present
        sample = None if settings.sample is None or masked else max(settings.sample, self.num_classes)
        features_train, labels_train = present_only(*self.features("train", sample), self.train.present)
        features_val, labels_val = present_only(*self.features("val", sample), self.val.present)
        return self.world.on_main(
            lambda: diagnose(
                {m: x.to(self.device) for m, x in features_train.items()},
                labels_train,
                {m: x.to(self.device) for m, x in features_val.items()},
                labels_val,
                num_classes=self.num_classes,
                settings=settings,
                lambda_=lambda_,
            )
        )

    def remember(self, split: Literal["train", "val"], features: Features) -> None:
        """Keep features that an evaluation of the present weights has computed, until `weights_changed`."""
        self._features[split] = features

    def weights_changed(self) -> None:
        """Forget what was computed from the weights; to be called by whatever changes them."""
        self._features.clear()

    def apply_gradients(self) -> None:
        """Take one optimiser step from the gradients of the parameters."""
        if self.training.clip_grad_norm is not None:
            nn.utils.clip_grad_norm_(self.trainable, self.training.clip_grad_norm)
        take_step(self.optimizer)
        if self.averages is not None:
            self.averages.update()
        self.weights_changed()
        self.step += 1
