"""Passes in evaluation mode that leave no trace: features of a split, in stored order."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from drcli.data.batches import Batches
from drcli.models.multimodal import MultimodalModel


@contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """Put modules into evaluation mode without gradients, and each layer back as it was after."""
    modes = [(layer, layer.training) for module in modules for layer in module.modules()]
    for module in modules:
        module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for layer, training in modes:
            layer.training = training


def extract_features(model: MultimodalModel, batches: Batches, batch_size: int) -> tuple[dict[str, Tensor], Tensor]:
    """Return the representations of a whole split and its labels, in stored order, on the CPU.

    No generator that training uses is touched.

    Returns:
        Features {m: (N, D_m)} in float32, and labels (N,).
    """
    pieces: dict[str, list[Tensor]] = {m: [] for m in model.modalities}
    with evaluating(model):
        for batch in batches.in_order(batch_size):
            for m, features in model.encode(batch.inputs, batch.lengths).items():
                pieces[m].append(features.float().cpu())
    return {m: torch.cat(parts) for m, parts in pieces.items()}, batches.split.labels
