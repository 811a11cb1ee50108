"""Evaluation: outputs and scores of a split, and what each frozen encoder alone is worth, from one pass."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from drcli.data.batches import Batch, Batches
from drcli.data.prepared import Split
from drcli.engine.assemble import Assembly
from drcli.engine.probe import concatenated, probe_accuracy
from drcli.metrics import (
    Scores,
    balanced_accuracy,
    calibration,
    class_scores,
    confusion_matrix,
    fit_temperature,
    score,
)
from drcli.models.multimodal import over_rows
from drcli.relearning.features import evaluating
from drcli.runs.measures import Calibration, ClassScores, Measures
from drcli.runs.outputs import StoredOutputs
from drcli.runs.records import Probe

LOGITS = ""
"""Stands for the logits among the features: a name that no modality has."""


@dataclass(frozen=True)
class SplitOutputs:
    """What the model gives for a whole split, in stored order, on the CPU.

    Attributes:
        split: the split.
        logits: (N, C), what the method predicts with.
        features: {m: (N, D_m)}.
    """

    split: Split
    logits: Tensor
    features: dict[str, Tensor]

    def scores(self) -> Scores:
        """Return the scores of the predictions."""
        return score(self.logits, self.split.labels, self.split.weight)

    def confusion(self) -> Tensor:
        """Return the (C, C) weights of (true class, predicted class)."""
        predicted, split = self.logits.argmax(dim=1), self.split
        return confusion_matrix(predicted, split.labels, split.weight, num_classes=self.logits.shape[1])

    def temperature(self) -> float:
        """Return the temperature that fits the split best."""
        return fit_temperature(self.logits, self.split.labels, self.split.weight)

    def calibration(self, temperature: float = 1.0) -> Calibration:
        """Return how well the probabilities under a temperature agree with the labels."""
        found = calibration(self.logits, self.split.labels, self.split.weight, temperature)
        return Calibration(**asdict(found))

    def having(self, modality: str) -> tuple[Tensor, Split]:
        """Return the features (n, D_m) of the rows that have a modality, and labels and weights of these."""
        features, split = self.features[modality], self.split
        if modality not in split.present:
            return features, split
        rows = split.present[modality]
        labels, sample, weight = (of_rows[rows] for of_rows in (split.labels, split.sample, split.weight))
        return features[rows], Split(split.name, {}, labels, sample, weight)

    def stored(self, classes: Sequence[str], ids: Sequence[str] | None = None) -> StoredOutputs:
        """Return the outputs as the run directory keeps them.

        Args:
            classes: C names.
            ids: of the N rows' samples, where they are to be kept.
        """
        return StoredOutputs(
            labels=self.split.labels.numpy(),
            weight=self.split.weight.numpy(),
            logits=self.logits.numpy(),
            classes=np.array(classes),
            features={m: x.numpy() for m, x in self.features.items()},
            ids=None if ids is None else np.array(ids, dtype=np.str_),
        )


def run_split(assembly: Assembly, split: str) -> SplitOutputs:
    """Run the model over a split, once, in evaluation mode."""
    batches = assembly.batches(split)
    found = run_batches(assembly, batches)
    return SplitOutputs(batches.split, found.pop(LOGITS), found)


def run_batches(assembly: Assembly, batches: Batches, rows: Tensor | None = None) -> dict[str, Tensor]:
    """Return the logits (N, C) by the name LOGITS and the features {m: (N, D_m)} of a split's rows, on the CPU.

    Args:
        assembly: whose model runs, in evaluation mode.
        batches: the split.
        rows: row numbers (N,); None: all rows in stored order.
    """

    def predict(batch: Batch) -> dict[str, Tensor]:
        outputs = assembly.method.predict(assembly.model, batch)
        return {LOGITS: outputs.logits.float(), **outputs.features}

    with evaluating(assembly.model, assembly.extras):
        return over_rows(batches, assembly.eval_batch_size, predict, rows)


def probe_modalities(outputs: Mapping[str, SplitOutputs], split: str, device: torch.device) -> dict[str, Probe]:
    """Return the linear-probe accuracy of each frozen encoder on a split (the unimodal evaluation).

    The probe is fitted on train and its strength is chosen on val. Rows that lack the modality are left out.

    Args:
        outputs: of "train", "val" and `split`.
        split: the split to score.
        device: where the probes are fitted.
    """
    return {
        m: Probe(
            probe_accuracy=probe_accuracy(
                {name: found.having(m) for name, found in outputs.items()}, split, device=device
            )
        )
        for m in outputs[split].features
    }


def probe_fused(outputs: Mapping[str, SplitOutputs], split: str, device: torch.device) -> float | None:
    """Return the linear-probe accuracy of the features of all modalities together; None where there is only one.

    Beside the accuracy of the model it tells what is lost in the fusion from what the encoders do not hold. Fitted as
    the probes of single modalities are, on the features of the same pass; see `probe_modalities`.
    """
    if len(outputs[split].features) < 2:
        return None
    return probe_accuracy(
        concatenated({name: (found.features, found.split) for name, found in outputs.items()}), split, device=device
    )


@dataclass(frozen=True)
class Evaluation:
    """What evaluating a split gives.

    Attributes:
        outputs: of the split.
        val: outputs of the validation split.
        probes: linear probes of the split by modality.
        fused_probe: accuracy of the linear probe on all features together; None for a single modality.
        seconds: of running the validation split, which training has run before: nothing is read for the first time.
    """

    outputs: SplitOutputs
    val: SplitOutputs
    probes: dict[str, Probe]
    fused_probe: float | None = None
    seconds: float = 0.0

    @property
    def seconds_per_1000(self) -> float:
        """Seconds of predicting 1,000 rows of the validation split, reading them included."""
        return 1000 * self.seconds / self.val.split.num_rows

    def measures(self, classes: Sequence[str]) -> Measures | None:
        """Return what the predictions are worth beside accuracy; None where logits are not finite.

        Args:
            classes: C names.
        """
        if not all(bool(found.logits.isfinite().all()) for found in (self.outputs, self.val)):
            return None
        confusion, temperature = self.outputs.confusion(), self.val.temperature()
        return Measures(
            balanced_accuracy=balanced_accuracy(confusion),
            classes=by_class(confusion, classes),
            calibration=self.outputs.calibration(),
            temperature=temperature,
            scaled=self.outputs.calibration(temperature),
        )


def by_class(confusion: Tensor, classes: Sequence[str]) -> dict[str, ClassScores]:
    """Return the scores of each class by its name.

    Args:
        confusion: (C, C) weights of (true class, predicted class).
        classes: C names.
    """
    shares, support = class_scores(confusion)
    return {
        name: ClassScores(accuracy=share if n else None, n=round(n))
        for name, share, n in zip(classes, shares.tolist(), support.tolist(), strict=True)
    }


def evaluate_split(assembly: Assembly, split: str) -> Evaluation:
    """Return outputs and linear probes of a split; every split that this needs is run once."""
    outputs, seconds = {}, {}
    for name in dict.fromkeys(("train", "val", split)):
        started = time.perf_counter()
        outputs[name] = run_split(assembly, name)
        seconds[name] = time.perf_counter() - started
    probes, fused = assembly.world.on_main(
        lambda: (probe_modalities(outputs, split, assembly.device), probe_fused(outputs, split, assembly.device))
    )
    return Evaluation(outputs[split], outputs["val"], probes, fused, seconds["val"])


def num_parameters(assembly: Assembly) -> int:
    """Return how many numbers encoders, fusion and the method's own modules are made of."""
    return sum(weights.numel() for module in (assembly.model, assembly.extras) for weights in module.parameters())
