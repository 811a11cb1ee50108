"""Soft re-initialisation: pull a module's weights part of the way back to where they started, and what follows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import Literal

import torch
from torch import Tensor, nn


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    """Return copies of all parameters and buffers by name, on their devices, without gradient."""
    named = chain(module.named_parameters(), module.named_buffers())
    return {name: tensor.detach().clone() for name, tensor in named}


@torch.no_grad()
def soft_reinitialise(
    module: nn.Module,
    initial: Mapping[str, Tensor],
    strength: float,
    *,
    buffers: Literal["keep", "blend"] = "keep",
) -> None:
    """Move every parameter of a module that is trained towards its initial value, in place.

        w <- strength * w_init + (1 - strength) * w

    The tensors stay the same objects, so that optimisers and compiled graphs remain valid. A strength
    of 0 leaves every bit as it is, 1 restores the initial values exactly. Frozen parameters (`requires_grad` is
    False) are left alone.

    Args:
        module: one encoder.
        initial: its parameters and buffers before training, as `snapshot` returns them.
        strength: how far to go, in [0, 1].
        buffers: "keep" leaves buffers (such as batch normalisation's running statistics) alone; "blend"
            treats floating-point ones as parameters, but for those of frozen layers. Integer buffers are never touched.

    Raises:
        ValueError: the strength lies outside [0, 1], `buffers` is neither, or `initial` lacks a tensor
            or has one of another shape. Nothing has been changed then.
    """
    if not 0.0 <= strength <= 1.0:
        raise ValueError(f"strength must lie in [0, 1], got {strength}")
    moved: dict[str, Tensor] = {name: p for name, p in module.named_parameters() if p.requires_grad}
    if buffers == "blend":
        moved |= dict(_buffers(module))
    elif buffers != "keep":
        raise ValueError(f'buffers must be "keep" or "blend", got {buffers!r}')
    _check(moved, initial)
    for name, tensor in moved.items():
        _blend(tensor, initial[name], strength)


def _buffers(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the floating-point buffers by name, without those of frozen layers."""
    for prefix, layer in module.named_modules():
        found = () if is_frozen(layer) else layer.named_buffers(prefix, recurse=False)
        yield from ((name, buffer) for name, buffer in found if buffer.is_floating_point())


def is_frozen(layer: nn.Module) -> bool:
    """Whether a layer has parameters of its own and none of them is trained."""
    own = list(layer.parameters(recurse=False))
    return bool(own) and not any(parameter.requires_grad for parameter in own)


def _check(moved: Mapping[str, Tensor], initial: Mapping[str, Tensor]) -> None:
    if missing := [name for name in moved if name not in initial]:
        raise ValueError(f"the initial weights lack {', '.join(missing)}")
    for name, tensor in moved.items():
        if tensor.shape != initial[name].shape:
            raise ValueError(f"{name} has the shape {tuple(tensor.shape)}, but initially {tuple(initial[name].shape)}")


def _blend(tensor: Tensor, initial: Tensor, strength: float) -> None:
    # The ends are not computed: 0 * inf is not a number, and -0.0 + 0.0 is not -0.0.
    if strength == 1.0:
        tensor.copy_(initial)
    elif strength > 0.0:
        tensor.mul_(1.0 - strength).add_(initial.to(tensor), alpha=strength)


BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def recompute_batch_statistics(encoders: Iterable[nn.Module], run: Callable[[], None]) -> None:
    """Replace the encoders' running statistics by those of one pass over the training rows.

    Only layers of batch normalisation that are not frozen run in training mode, so that nothing random is drawn. Each
    batch counts the same: means are those of all rows where batches have one size, variances but for rounding of their
    number.

    Args:
        encoders: in evaluation mode.
        run: makes the pass, without gradients.
    """
    modules = (layer for encoder in encoders for layer in encoder.modules())
    layers = [layer for layer in modules if isinstance(layer, BATCH_NORMS) and not is_frozen(layer)]
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
