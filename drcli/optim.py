"""Optimisers and learning-rate schedules."""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from drcli.recipe.schema import Adam, AdamW, Cosine, Optimizer, Schedule, Sgd, Step, Training

MARKED = ("add_param_group", "load_state_dict", "state_dict", "zero_grad")
_MARK = "__dynamo_disable"


def build_optimizer(
    settings: Optimizer, parameters: Iterable[nn.Parameter], *, fused: bool = False
) -> torch.optim.Optimizer:
    """Return the optimiser that a recipe asks for, over the given parameters.

    Args:
        settings: the `optimizer` block.
        parameters: what it moves.
        fused: update all parameters in one kernel; rounds differently than one after the other.
    """
    _spare_the_compiler()
    parameters = list(parameters)
    match settings:
        case Sgd():
            return torch.optim.SGD(
                parameters,
                lr=settings.lr,
                momentum=settings.momentum,
                weight_decay=settings.weight_decay,
                nesterov=settings.nesterov,
                fused=fused or None,
            )
        case AdamW():
            kind: type[torch.optim.Adam] = torch.optim.AdamW
        case Adam():
            kind = torch.optim.Adam
    return kind(
        parameters,
        lr=settings.lr,
        betas=settings.betas,
        eps=settings.eps,
        weight_decay=settings.weight_decay,
        fused=fused or None,
    )


def is_fused(training: Training, device: torch.device) -> bool:
    """Whether the recipe's optimiser is fused on a device."""
    return training.fused == "on" or (training.fused == "auto" and device.type == "cuda")


def learning_rate(schedule: Schedule, base: float, epoch: int, epochs: int) -> float:
    """Return the learning rate of an epoch (from 0): a pure function, so there is no state to resume.

    Args:
        schedule: constant, step (times `factor` every `every` epochs) or cosine (linear warm-up over
            `warmup_epochs`, then half a cosine down to `final` times the base rate).
        base: the optimiser's `lr`.
        epoch: index of the epoch.
        epochs: length of the run.
    """
    match schedule:
        case Step():
            return float(base * schedule.factor ** (epoch // schedule.every))
        case Cosine():
            if epoch < schedule.warmup_epochs:
                return base * (epoch + 1) / schedule.warmup_epochs
            done = (epoch - schedule.warmup_epochs) / max(1, epochs - schedule.warmup_epochs)
            return base * (schedule.final + (1 - schedule.final) * (1 + math.cos(math.pi * done)) / 2)
        case _:
            return base


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the rate of every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def take_step(optimizer: torch.optim.Optimizer) -> None:
    """Update the parameters from their gradients, as `optimizer.step()` does, without its wrappers.

    The wrappers import torch's compiler, which takes as long as importing torch, only to tell it where
    not to trace. See `_spare_the_compiler`.
    """
    _complete_momentum(optimizer)
    with torch.no_grad():
        inspect.unwrap(type(optimizer).step)(optimizer)


def _complete_momentum(optimizer: torch.optim.Optimizer) -> None:
    """Give parameters without momentum one of zero, where others have it: their next step is a first step.

    Fused SGD makes momentum for all parameters at once or for none, and takes no mixture.
    """
    if not isinstance(optimizer, torch.optim.SGD):
        return
    for group in optimizer.param_groups:
        if not (group["fused"] and group["momentum"]):
            continue
        moved = [parameter for parameter in group["params"] if parameter.grad is not None]
        without = [p for p in moved if optimizer.state.get(p, {}).get("momentum_buffer") is None]
        if len(without) < len(moved):
            for parameter in without:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


def _spare_the_compiler() -> None:
    """Let optimisers be built and saved without importing torch's compiler.

    Methods that the compiler shall not trace are marked at their first call, for which torch imports
    the compiler. The mark is the function to call, kept in an attribute: where nothing is compiled, it
    is the function itself. If a later torch keeps it elsewhere, this costs seconds and changes nothing.
    """
    if "torch._dynamo" in sys.modules:
        return
    for method in (vars(torch.optim.Optimizer).get(name) for name in MARKED):
        function = getattr(method, "__wrapped__", None)
        if function is not None and not hasattr(function, _MARK):
            setattr(function, _MARK, function)


def clip_where_large(gradients: Sequence[Tensor], watched: Sequence[Tensor], norm: float) -> None:
    """Scale gradients in place to a norm, if theirs is larger and an entry of the watched ones is beyond [-1, 1].

    The host does not wait for the device.

    Args:
        gradients: what is scaled, together.
        watched: one tensor or more.
        norm: the largest norm that is left.
    """
    largest = torch.stack([gradient.abs().max() for gradient in watched]).max()
    scale = (norm / nn.utils.get_total_norm(gradients)).clamp(max=1.0)
    torch._foreach_mul_(list(gradients), torch.where(largest > 1, scale, torch.ones_like(scale)))
