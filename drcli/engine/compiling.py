"""The compiled forward pass: tried before the first epoch, given up with a reason where it fails."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from drcli.methods.base import Method
from drcli.methods.context import Context
from drcli.models.inference import evaluating

CALLS = 3
"""CUDA graphs warm up at the first call, record at the second, and replay from the third on."""


def compile_forward(ctx: Context, method: Method) -> str | None:
    """Compile the model's forward pass as the recipe asks, and try it on a batch of train and one of val.

    The trial leaves parameters, buffers and the global generator as they were. Where it fails, the model
    runs uncompiled.

    Returns:
        Why the model is not compiled, in a line; None where it is, or was not asked to be.
    """
    mode = ctx.training.compile
    if mode == "off":
        return None
    model = ctx.model
    buffers = {name: (buffer, buffer.clone()) for name, buffer in model.named_buffers()}
    try:
        # As `torch.use_deterministic_algorithms` would set it: kernels are not chosen by what is fastest today.
        inductor: Any = importlib.import_module("torch._inductor.config")
        inductor.deterministic = ctx.training.deterministic
        model.compile(mode=None if mode == "default" else mode)
        with torch.random.fork_rng(devices=[ctx.device] if ctx.device.type == "cuda" else []):
            _try(ctx, method)
    except Exception as error:  # noqa: BLE001 - a compiler can fail in any way; the run must not
        model._compiled_call_impl = None  # noqa: SLF001 - there is no other way to take it back
        return f"torch.compile failed ({type(error).__name__}: {_first_line(error)}); the model runs uncompiled"
    finally:
        _restore(model, buffers)
        model.train()
        ctx.optimizer.zero_grad(set_to_none=True)
    return None


def _try(ctx: Context, method: Method) -> None:
    """Run what training and evaluation compile, without a step."""
    batch = ctx.train.take(_first(len(ctx.train), ctx.training.batch_size))
    ctx.model.train()
    for _ in range(CALLS):
        outputs = method.forward(ctx, batch)
        torch.nn.functional.cross_entropy(outputs.logits, batch.labels).backward()
        ctx.optimizer.zero_grad(set_to_none=True)
    batch = ctx.val.take(_first(len(ctx.val), ctx.eval_batch_size))
    with evaluating(ctx.model):
        for _ in range(CALLS):
            method.predict(ctx.model, batch)


def _first(rows: int, batch_size: int) -> Tensor:
    return torch.arange(min(batch_size, rows))


def _restore(model: torch.nn.Module, buffers: Mapping[str, tuple[Tensor, Tensor]]) -> None:
    """Put buffers back with what they held; a forward pass may have put others in their place."""
    for name, (buffer, held) in buffers.items():
        owner, _, short = name.rpartition(".")
        buffer.copy_(held)
        setattr(model.get_submodule(owner), short, buffer)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), "no message")[:200]
