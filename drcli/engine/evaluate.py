"""Evaluation: outputs and scores of a split, and what each frozen encoder alone is worth, from one pass."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from drcli.data.batches import Batch, Batches
from drcli.data.format import Contents
from drcli.data.prepared import Split
from drcli.engine.assemble import Assembly
from drcli.engine.probe import concatenated, probe_accuracy
from drcli.engine.ridge import probe_values
from drcli.metrics import (
    Scores,
    ValueScores,
    balanced_accuracy,
    calibration,
    class_scores,
    confusion_matrix,
    fit_temperature,
    score,
    score_values,
    sentiment,
)
from drcli.models.multimodal import over_rows
from drcli.relearning.features import evaluating
from drcli.runs.measures import Calibration, ClassScores, Measures, Sentiment
from drcli.runs.outputs import StoredOutputs
from drcli.runs.scores import AnyProbe, Probe, ValueProbe
from drcli.task import LossName

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

    def scores(self, loss: LossName | None = None) -> Scores | ValueScores:
        """Return the scores of the predictions.

        Args:
            loss: of a regression, whose mean is wanted; None for the absolute error.
        """
        return scores_of(self.logits, self.split.labels, self.split.weight, loss)

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

    def sentiment(self) -> Sentiment:
        """Return the usual accuracies of predicted sentiments."""
        return Sentiment(**asdict(sentiment(self.logits[:, 0], self.split.labels, self.split.weight)))

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


def scores_of(logits: Tensor, labels: Tensor, weight: Tensor, loss: LossName | None = None) -> Scores | ValueScores:
    """Return the scores of logits (N, C), or of values (N, 1) where the labels are values; see `drcli.metrics`."""
    if labels.is_floating_point():
        return score_values(logits[:, 0], labels, weight, loss or "l1")
    return score(logits, labels, weight)


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


Probed = Mapping[str, tuple[Tensor, Split]]
"""Features (N, D) and their split, by its name."""


def probe(features: Probed, split: str, device: torch.device) -> AnyProbe:
    """Return what a linear probe of features is worth: a logistic regression, or a ridge regression of values."""
    if not features[split][1].labels.is_floating_point():
        return Probe(probe_accuracy=probe_accuracy(features, split, device=device))
    found = probe_values(features, split, device=device)
    return ValueProbe(probe_mae=found.mae, probe_corr=found.corr)


def probe_modalities(outputs: Mapping[str, SplitOutputs], split: str, device: torch.device) -> dict[str, AnyProbe]:
    """Return what a linear probe reads from each frozen encoder on a split (the unimodal evaluation).

    The probe is fitted on train and its strength is chosen on val. Rows that lack the modality are left out.

    Args:
        outputs: of "train", "val" and `split`.
        split: the split to score.
        device: where the probes are fitted.
    """
    return {
        m: probe({name: found.having(m) for name, found in outputs.items()}, split, device)
        for m in outputs[split].features
    }


def probe_fused(outputs: Mapping[str, SplitOutputs], split: str, device: torch.device) -> float | ValueProbe | None:
    """Return what a linear probe reads from the features of all modalities together; None where there is only one.

    The accuracy, or the scores of a regression. Beside the score of the model it tells what is lost in the fusion from
    what the encoders do not hold. Fitted as the probes of single modalities are, on the features of the same pass; see
    `probe_modalities`.
    """
    if len(outputs[split].features) < 2:
        return None
    found = probe(concatenated({name: (one.features, one.split) for name, one in outputs.items()}), split, device)
    return found.probe_accuracy if isinstance(found, Probe) else found


@dataclass(frozen=True)
class Evaluation:
    """What evaluating a split gives.

    Attributes:
        outputs: of the split.
        val: outputs of the validation split.
        probes: linear probes of the split by modality.
        fused_probe: of the linear probe on all features together; None for a single modality.
        seconds: of running the validation split, which training has run before: nothing is read for the first time.
    """

    outputs: SplitOutputs
    val: SplitOutputs
    probes: dict[str, AnyProbe]
    fused_probe: float | ValueProbe | None = None
    seconds: float = 0.0

    @property
    def seconds_per_1000(self) -> float:
        """Seconds of predicting 1,000 rows of the validation split, reading them included."""
        return 1000 * self.seconds / self.val.split.num_rows

    def measures(self, of: Contents) -> Measures | Sentiment | None:
        """Return what the predictions are worth beside accuracy, or MAE.

        None where logits are not finite, and of a regression that is not of sentiments.

        Args:
            of: what the dataset says of itself.
        """
        if not all(bool(found.logits.isfinite().all()) for found in (self.outputs, self.val)):
            return None
        if of.regression is not None:
            return self.outputs.sentiment() if of.regression.is_sentiment else None
        confusion, temperature = self.outputs.confusion(), self.val.temperature()
        return Measures(
            balanced_accuracy=balanced_accuracy(confusion),
            classes=by_class(confusion, of.classes),
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
