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


def extract_features(
    model: MultimodalModel, batches: Batches, batch_size: int, rows: Tensor | None = None
) -> tuple[dict[str, Tensor], Tensor]:
    """Return the representations of a split, or of some of its rows, and their labels, on the CPU.

    No generator that training uses is touched.

    Args:
        model: its encoders are run in evaluation mode.
        batches: the split.
        batch_size: rows of a step.
        rows: row numbers (N,), in the order wanted; None: all rows in stored order.

    Returns:
        Features {m: (N, D_m)} in float32, and labels (N,).
    """
    pieces: dict[str, list[Tensor]] = {m: [] for m in model.modalities}
    with evaluating(model):
        for batch in batches.in_order(batch_size, rows):
            for m, features in model.encode(batch.inputs, batch.lengths).items():
                pieces[m].append(features.cpu())
    labels = batches.split.labels
    return {m: torch.cat(parts) for m, parts in pieces.items()}, labels if rows is None else labels[rows]
