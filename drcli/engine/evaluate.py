"""Evaluation: scores of a split, and what each frozen encoder alone is worth."""

from __future__ import annotations

import torch
from torch import Tensor

from drcli.data.batches import Batches
from drcli.engine.assemble import Assembly
from drcli.engine.probe import probe_accuracy
from drcli.metrics import Scores, score
from drcli.models.inference import evaluating, extract_features


def predict(assembly: Assembly, batches: Batches) -> Tensor:
    """Return the logits (N, C) of a whole split in stored order, on the CPU."""
    with evaluating(assembly.model, assembly.extras):
        pieces = [
            assembly.method.predict(assembly.model, batch).float().cpu()
            for batch in batches.in_order(assembly.eval_batch_size)
        ]
    return torch.cat(pieces)


def score_split(assembly: Assembly, batches: Batches) -> Scores:
    """Return the scores of one split."""
    split = batches.split
    return score(predict(assembly, batches), split.labels, split.weight)


def probe_modalities(assembly: Assembly, split: str) -> dict[str, dict[str, float]]:
    """Return the linear-probe accuracy of each frozen encoder on a split (the unimodal evaluation).

    The probe is fitted on train and its strength is chosen on val.
    """
    names = dict.fromkeys(("train", "val", split))
    taken = {name: assembly.batches(name) for name in names}
    features = {
        name: extract_features(assembly.model, batches, assembly.eval_batch_size)[0] for name, batches in taken.items()
    }
    return {
        m: {"probe_accuracy": probe_accuracy({name: (features[name][m], taken[name].split) for name in names}, split)}
        for m in assembly.modalities
    }
