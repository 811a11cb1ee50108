"""The compiled forward pass: tried before the first epoch, given up with a reason where it fails."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from drcli.data.batches import Batch
from drcli.methods.base import Method
from drcli.methods.context import Context


def compile_forward(ctx: Context, method: Method) -> str | None:
    """Compile the model's forward pass as the recipe asks, and try it on one batch.

    The trial leaves parameters, buffers and the global generator as they were. Where it fails, the model
    runs uncompiled.

    Returns:
        Why the model is not compiled, in a line; None where it is, or was not asked to be.
    """
    mode = ctx.training.compile
    if mode == "off":
        return None
    model = ctx.model
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    rows = torch.arange(min(ctx.training.batch_size, len(ctx.train)))
    try:
        model.compile(mode=None if mode == "default" else mode)
        with torch.random.fork_rng(devices=[ctx.device] if ctx.device.type == "cuda" else []):
            _try(ctx, method, ctx.train.take(rows))
    except Exception as error:  # noqa: BLE001 - a compiler can fail in any way; the run must not
        model._compiled_call_impl = None  # noqa: SLF001 - there is no other way to take it back
        return f"torch.compile failed ({type(error).__name__}: {_first_line(error)}); the model runs uncompiled"
    finally:
        _restore(model, buffers)
        ctx.optimizer.zero_grad(set_to_none=True)
    return None


def _try(ctx: Context, method: Method, batch: Batch) -> None:
    """Run what a step compiles, in both modes, without a step."""
    ctx.model.train()
    outputs = method.forward(ctx, batch)
    torch.nn.functional.cross_entropy(outputs.logits, batch.labels).backward()  # type: ignore[no-untyped-call]


def _restore(model: torch.nn.Module, buffers: Mapping[str, Tensor]) -> None:
    for name, buffer in model.named_buffers():
        buffer.copy_(buffers[name])


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), "no message")[:200]
