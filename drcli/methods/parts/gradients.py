"""Gradients of several parameters as a whole: of one loss alone, summed over processes, scaled, multiplied."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from drcli.recipe.training import Optimizer, Sgd
from drcli.world import World


def trainable(module: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of a module that the optimiser may move."""
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def gradients_of(loss: Tensor, parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    """Return the gradients of a loss (), 0 for parameters that it does not depend on; its graph is kept."""
    return list(torch.autograd.grad(loss, parameters, retain_graph=True, materialize_grads=True))


def sum_over(world: World, parameters: Sequence[nn.Parameter], values: Sequence[Tensor]) -> None:
    """Replace, in place, one tensor of the shape of each parameter by its sum over the processes."""
    if world.size == 1:
        return
    held = [parameter.grad for parameter in parameters]
    for parameter, value in zip(parameters, values, strict=True):
        parameter.grad = value
    world.sum_gradients(parameters)
    for parameter, gradient in zip(parameters, held, strict=True):
        parameter.grad = gradient


def scale_gradients(parameters: Iterable[Tensor], factor: Tensor) -> None:
    """Multiply the gradients that parameters have by a factor (), in place."""
    found = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if found:
        torch._foreach_mul_(found, factor)  # one kernel for all of them


def undone_by(optimizer: Optimizer) -> Iterator[str]:
    """Yield the warning of an optimiser with which a factor on a gradient has little effect."""
    if not isinstance(optimizer, Sgd):
        yield f"{optimizer.name} divides gradients by their size, which mostly undoes the modulation"


def norms(tensors: Sequence[Tensor]) -> Tensor:
    """Return the Euclidean norm of each tensor, (number of tensors,)."""
    return torch.stack([torch.linalg.vector_norm(tensor) for tensor in tensors])


def inner_product(first: Sequence[Tensor], second: Sequence[Tensor]) -> float:
    """Return the inner product of two lists of tensors of equal shapes, summed in float64."""
    return float(torch.stack([(a.double() * b.double()).sum() for a, b in zip(first, second, strict=True)]).sum())
