"""What the engine hands to a method: everything a run holds, except the test split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from drcli.data.batches import Batches
from drcli.diagnosis import MeasureSettings, ModalityDiagnosis, diagnose
from drcli.models.inference import extract_features
from drcli.models.multimodal import MultimodalModel
from drcli.optim import take_step
from drcli.seeding import generator

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
        num_classes: C.
        epochs: length of the run.
        batch_size: rows of a training step.
        eval_batch_size: rows of an evaluation step.
        seed: the run's seed.
        device: where the model is.
        clip_grad_norm: bound of the gradient's norm, or None.
        epoch: index of the current epoch, from 0.
        step: optimiser steps taken so far.
    """

    model: MultimodalModel
    optimizer: torch.optim.Optimizer
    trainable: Sequence[nn.Parameter]
    train: Batches
    val: Batches
    num_classes: int
    epochs: int
    batch_size: int
    eval_batch_size: int
    seed: int
    device: torch.device
    clip_grad_norm: float | None = None
    epoch: int = 0
    step: int = 0
    _features: dict[str, Features] = field(default_factory=dict)

    def generator(self, *names: str | int) -> torch.Generator:
        """A CPU generator of the method's own for this epoch; no other stream is shifted by it."""
        return generator(self.seed, "method", *names, self.epoch)

    def features(self, split: Literal["train", "val"]) -> Features:
        """Representations {m: (N, D_m)} and labels (N,) of a split, with evaluation transforms.

        In stored order, in evaluation mode, on the CPU; computed once until `weights_changed`.
        """
        if split not in self._features:
            batches = self.train if split == "train" else self.val
            self._features[split] = extract_features(self.model, batches, self.eval_batch_size)
        return self._features[split]

    def diagnose(self, settings: MeasureSettings, lambda_: float) -> dict[str, ModalityDiagnosis]:
        """Purities, gap and strength of every modality, from `features`; nothing is changed."""
        features_train, labels_train = self.features("train")
        features_val, labels_val = self.features("val")
        return diagnose(
            features_train,
            labels_train,
            features_val,
            labels_val,
            num_classes=self.num_classes,
            settings=settings,
            lambda_=lambda_,
        )

    def weights_changed(self) -> None:
        """Forget what was computed from the weights; to be called by whatever changes them."""
        self._features.clear()

    def apply_gradients(self) -> None:
        """Take one optimiser step from the gradients that stand in the parameters."""
        if self.clip_grad_norm is not None:
            nn.utils.clip_grad_norm_(self.trainable, self.clip_grad_norm)
        take_step(self.optimizer)
        self.weights_changed()
        self.step += 1
