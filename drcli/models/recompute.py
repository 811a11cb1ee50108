"""Gradient checkpointing: layers of an encoder keep no activations and are computed again in the backward pass."""

from __future__ import annotations

from contextlib import nullcontext
from functools import cache, partial
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from drcli.errors import UsageError
from drcli.models.layers import trunk_of
from drcli.optim import spare_the_compiler


def recompute(encoder: nn.Module) -> None:
    """Let each module of an encoder's trunk keep its inputs alone, and compute the rest again for its gradients.

    Gradients and buffers are those of an encoder that is not changed: dropout draws the same numbers again, layers are
    in the modes in which they were, and running statistics of batch normalisation take each batch in once. A layer of
    another package that keeps statistics of a kind of its own would count each batch twice.

    Raises:
        UsageError: the encoder has no trunk, see `trunk_of`.
    """
    layers = trunk_of(encoder)
    if not layers:
        raise UsageError(
            f"checkpointing: {type(encoder).__name__} has no blocks one after the other that could be computed again; "
            "leave it out, or name its blocks in its attribute `trunk`"
        )
    for function in (checkpoint, getattr(torch.utils.checkpoint, "_run_fn_with_dynamo_disabled", None)):
        spare_the_compiler(function)
    for layer in layers:
        kind: Any = type(layer)
        layer.__class__ = _recomputing(kind)


class Recomputed(nn.Module):
    """What the class of a layer is derived from, beside the class that it had."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the layer returns; its activations are not kept."""
        if not torch.is_grad_enabled():
            return super().forward(*args, **kwargs)
        contexts = partial(_contexts, self)
        return checkpoint(super().forward, *args, use_reentrant=False, context_fn=contexts, **kwargs)


@cache
def _recomputing(kind: Any) -> type[nn.Module]:
    return type(kind.__name__, (Recomputed, kind), {})


def _contexts(layer: nn.Module) -> tuple[Any, Any]:
    """Return what the layer is first run in, and what it is run in again."""
    return nullcontext(), _Again(layer)


class _Again:
    """Within it, layers are in the modes of the first run, and batch normalisation keeps no statistics."""

    def __init__(self, layer: nn.Module) -> None:
        self._modes = [(module, module.training) for module in layer.modules()]
        self._norms = [module for module in layer.modules() if isinstance(module, _BatchNorm)]

    def __enter__(self) -> None:
        self._present = [module.training for module, _ in self._modes]
        self._kept = [(norm.momentum, norm.num_batches_tracked) for norm in self._norms]
        for module, training in self._modes:
            module.training = training
        for norm in self._norms:
            norm.momentum, norm.num_batches_tracked = 0.0, None

    def __exit__(self, *error: object) -> None:
        for (module, _), training in zip(self._modes, self._present, strict=True):
            module.training = training
        for norm, (momentum, count) in zip(self._norms, self._kept, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count
