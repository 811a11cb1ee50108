"""Optimisers, learning-rate schedules, and the scaling of losses in half precision."""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from drcli.recipe.schema import Training
from drcli.recipe.training import Adam, AdamW, Cosine, Linear, Optimizer, Schedule, Sgd, Step

MARKED = ("add_param_group", "load_state_dict", "state_dict", "zero_grad")
_MARK = "__dynamo_disable"

INITIAL = "initial_lr"
"""Key of a group of parameters: the rate that the schedule changes."""

NO_RATES: Mapping[int, float] = MappingProxyType({})


def build_optimizer(
    settings: Optimizer,
    parameters: Iterable[nn.Parameter],
    *,
    fused: bool = False,
    rates: Mapping[int, float] = NO_RATES,
) -> torch.optim.Optimizer:
    """Return the optimiser that a recipe asks for, over the given parameters.

    Parameters of one rate are a group; the first group has the rate of the settings, and may be empty.

    Args:
        settings: the `optimizer` block.
        parameters: what it moves.
        fused: update all parameters in one kernel; rounds differently than one after the other.
        rates: by id() of a parameter, of those with a learning rate of their own.
    """
    _spare_the_compiler()
    by_rate: dict[float, list[nn.Parameter]] = {settings.lr: []}
    for parameter in parameters:
        by_rate.setdefault(rates.get(id(parameter), settings.lr), []).append(parameter)
    groups: list[dict[str, Any]] = [{"params": own, "lr": rate, INITIAL: rate} for rate, own in by_rate.items()]
    match settings:
        case Sgd():
            return torch.optim.SGD(
                groups,
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
        groups,
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
        schedule: constant, step (times `factor` every `every` epochs), linear or cosine (linear warm-up, then a line
            or half a cosine down to `final` times the base rate). Of an epoch in a warm-up it is the rate that the
            epoch ends with.
        base: the optimiser's `lr`.
        epoch: index of the epoch.
        epochs: length of the run.
    """
    match schedule:
        case Step():
            return float(base * schedule.factor ** (epoch // schedule.every))
        case Linear() | Cosine():
            length = warmup_of(schedule, epochs)
            if epoch < length:
                return min(base, base * (epoch + 1) / length)
            done = (epoch - length) / max(1, epochs - length)
            left = (1 + math.cos(math.pi * done)) / 2 if isinstance(schedule, Cosine) else 1 - done
            return base * (schedule.final + (1 - schedule.final) * left)
        case _:
            return base


def warmup_of(schedule: Linear | Cosine, epochs: int) -> float:
    """Return how many epochs the warm-up of a run of so many takes, perhaps a fraction of one; 0: there is none."""
    if isinstance(schedule, Cosine) and schedule.warmup_epochs:
        return schedule.warmup_epochs
    return schedule.warmup if schedule.warmup >= 1 else schedule.warmup * epochs


def set_learning_rates(optimizer: torch.optim.Optimizer, schedule: Schedule, epoch: int, epochs: int) -> None:
    """Set the rate of every group of parameters to what the schedule makes of its own in an epoch."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(schedule, group[INITIAL], epoch, epochs)


class Warmup:
    """The steps of one epoch in a warm-up: rates rise from step to step to what they have been set to.

    With t the part of the run's epochs that is done once the step is taken, and W the length of the warm-up in
    epochs, the step has min(1, t / W) of the rate after the warm-up. Elsewhere nothing is changed.

    Args:
        optimizer: its rates have been set for the epoch.
        training: the run's; only a schedule with `warmup` changes rates inside an epoch.
        epoch: index of the epoch.
        rows: how many the epoch has.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, training: Training, epoch: int, rows: int) -> None:
        schedule = training.schedule
        self._length = 0.0
        if isinstance(schedule, Linear | Cosine) and schedule.warmup:
            self._length = warmup_of(schedule, training.epochs)
        self._peaks = [(group, group["lr"]) for group in optimizer.param_groups] if epoch < self._length else []
        self._epoch, self._rows, self._done = epoch, rows, 0

    def step(self, rows: int) -> None:
        """Set the rates for a step on so many rows."""
        self._done += rows
        if self._peaks:
            reached = min(1.0, (self._epoch + min(1.0, self._done / self._rows)) / self._length)
            self._set(reached / min(1.0, (self._epoch + 1) / self._length))

    def end(self) -> None:
        """Set the rates to those that the epoch ends with."""
        self._set(1.0)

    def _set(self, part: float) -> None:
        for group, peak in self._peaks:
            group["lr"] = part * peak


class LossScaler(GradScaler):
    """Scales losses, so that gradients of half precision do not vanish, and leaves out steps whose gradients overflow.

    Attributes:
        skipped: steps that were left out so far.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__(device.type)
        self.skipped = 0

    def unscaled(self, optimizer: torch.optim.Optimizer) -> bool:
        """Undo the scaling in the gradients, once per step, and return whether they are finite.

        If they are not, the scale is halved and the step must be left out.
        """
        if not any(p.grad is not None for group in optimizer.param_groups for p in group["params"]):
            return True
        before = self.get_scale()
        self.unscale_(optimizer)
        self.update()
        is_finite = bool(self.get_scale() >= before)
        self.skipped += not is_finite
        return is_finite

    def state_dict(self) -> dict[str, Any]:
        """Return the scale, how it is changed, and how many steps were left out."""
        return {**super().state_dict(), "skipped": self.skipped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        super().load_state_dict({key: value for key, value in state_dict.items() if key != "skipped"})
        self.skipped = int(state_dict["skipped"])


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
    for name in MARKED:
        spare_the_compiler(vars(torch.optim.Optimizer).get(name))


def spare_the_compiler(function: Any) -> None:
    """Let a function that torch's compiler shall not trace be called without importing the compiler."""
    inner = getattr(function, "__wrapped__", None)
    if inner is not None and not hasattr(inner, _MARK) and "torch._dynamo" not in sys.modules:
        setattr(inner, _MARK, inner)


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
