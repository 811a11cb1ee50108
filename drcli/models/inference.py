"""Passes in evaluation mode that leave no trace: features of a split, in stored order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from drcli.data.batches import Batch, Batches
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


def over_rows(
    batches: Batches,
    batch_size: int,
    compute: Callable[[Batch], Mapping[str, Tensor]],
    rows: Tensor | None = None,
) -> dict[str, Tensor]:
    """Return what `compute` gives for each row, {name: (N, K)} on the CPU, in order.

    Several processes share the batches, and each returns the whole.

    Args:
        batches: the split.
        batch_size: rows of a step.
        compute: gives {name: (B, K)}, float32 and the same names for every batch.
        rows: row numbers (N,), in the order wanted; None: all rows in stored order.
    """
    pieces: dict[str, list[Tensor]] = {}
    for batch in batches.dealt(batch_size, rows):
        for name, values in compute(batch).items():
            # A copy: CUDA graphs write the next batch's over them, and a view would keep all that it is taken from.
            pieces.setdefault(name, []).append(values.clone())
    own = {name: torch.cat(values).cpu() for name, values in pieces.items()}  # the device is waited for once
    if batches.world.size == 1:
        return own
    widths = batches.world.on_main(lambda: {name: values.shape[1] for name, values in own.items()})
    packed = torch.cat(list(own.values()), dim=1) if own else torch.empty(0, sum(widths.values()))
    columns = torch.split(batches.collected(packed, batch_size, rows), list(widths.values()), dim=1)
    return {name: column.contiguous() for name, column in zip(widths, columns, strict=True)}


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
    with evaluating(model):
        features = over_rows(batches, batch_size, lambda batch: model.encode(batch.inputs, batch.lengths), rows)
    labels = batches.split.labels
    return {m: features[m] for m in model.modalities}, labels if rows is None else labels[rows]
