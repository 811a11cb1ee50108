"""Batch normalisation after a pull: its running statistics are of weights that are no longer there."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import nn

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def recompute_batch_statistics(encoders: Iterable[nn.Module], run: Callable[[], None]) -> None:
    """Replace the encoders' running statistics by those of one pass over the training rows.

    Only layers of batch normalisation run in training mode, so that nothing random is drawn. Each batch counts
    the same: means are those of all rows where batches have one size, variances but for rounding of their number.

    Args:
        encoders: in evaluation mode.
        run: makes the pass, without gradients.
    """
    layers = [layer for encoder in encoders for layer in encoder.modules() if isinstance(layer, BATCH_NORMS)]
    before = [(layer.momentum, layer.training) for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # cumulative average over the pass
        layer.train()
    try:
        run()
    finally:
        for layer, (momentum, training) in zip(layers, before, strict=True):
            layer.momentum = momentum
            layer.training = training
