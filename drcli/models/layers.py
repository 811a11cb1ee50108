"""Layers of an encoder from its input to its features: what rates decay along, and what is computed twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from drcli.errors import UsageError
from drcli.recipe.schema import FUSION, Recipe


def trunk_of(encoder: nn.Module) -> list[nn.Module]:
    """Return the modules that an encoder runs one after the other, its blocks or stages; [] where none are found.

    They are what the attribute `trunk` of the encoder names (one name: the children of that module), or the members of
    a sequence of this name. Without it, the
    sequence that holds the most weights: an `nn.ModuleList` or `nn.Sequential` of two members or more, or the
    `nn.Sequential`s side by side in one module, as the stages of residual networks are.

    Raises:
        UsageError: `trunk` names a module that is not there.
    """
    inner = getattr(encoder, "model", None)  # of a backbone around a class of another package
    for module in (encoder, *([inner] if isinstance(inner, nn.Module) else [])):
        if found := _given(module):
            return found
    sequences = (sequence for module in encoder.modules() for sequence in _sequences(module))
    return max(sequences, key=lambda members: sum(map(_size, members)), default=[])


def _given(module: nn.Module) -> list[nn.Module]:
    """Return what the attribute `trunk` says: names of modules, the sequence itself, or nothing.

    Raises:
        UsageError: it names a module that is not there.
    """
    given: Any = getattr(module, "trunk", ())
    if isinstance(given, nn.Sequential | nn.ModuleList):
        return list(given)
    names = (given,) if isinstance(given, str) else given
    if not isinstance(names, tuple | list) or not all(isinstance(name, str) for name in names):
        return []
    try:
        found = [module.get_submodule(name) for name in names]
    except AttributeError as error:
        raise UsageError(f"trunk of {type(module).__name__}: {error}; name modules of it") from error
    return list(found[0].children()) if len(found) == 1 else found


def _sequences(module: nn.Module) -> Iterator[list[nn.Module]]:
    is_sequence = isinstance(module, nn.ModuleList | nn.Sequential)
    members = [child for child in module.children() if is_sequence or isinstance(child, nn.Sequential)]
    weighted = [member for member in members if _size(member)]
    if len(weighted) > 1:
        yield weighted


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def layers_of(encoder: nn.Module) -> list[list[nn.Parameter]]:
    """Return an encoder's parameters by layer, from the input to the features; each of them is in one.

    Every module of the trunk is a layer. What comes before it in the order of `encoder.parameters()`, such as an
    embedding, a first convolution or positions, is the first layer; what comes after it, such as a last normalisation,
    is the last one. Layers without parameters do not count; without a trunk there is one layer.
    """
    members = trunk_of(encoder)
    owner = {id(parameter): index for index, member in enumerate(members) for parameter in member.parameters()}
    before: list[nn.Parameter] = []
    after: list[nn.Parameter] = []
    layers: list[list[nn.Parameter]] = [[] for _ in members]
    outside = before
    for parameter in encoder.parameters():
        index = owner.get(id(parameter))
        (outside if index is None else layers[index]).append(parameter)
        outside = outside if index is None else after
    return [layer for layer in (before, *layers, after) if layer]


Rates = dict[int, float]
"""Learning rates by id() of a parameter; those that are not in it have `training.optimizer.lr`."""


def rates_of(recipe: Recipe, encoders: Mapping[str, nn.Module], fusion: nn.Module) -> Rates:
    """Return the learning rates that a recipe gives to parts of a model.

    Layer l of L of the encoder of m has lr_m * layer_decay_m ** (L - l).
    """
    rates = recipe.part_rates()
    found: Rates = {}
    for m, encoder in encoders.items():
        found |= _of_encoder(encoder, rates[m], recipe.modalities[m].training.layer_decay)
    return found | {id(parameter): rates[FUSION] for parameter in fusion.parameters()}


def _of_encoder(encoder: nn.Module, lr: float, decay: float) -> Rates:
    layers = layers_of(encoder) if decay != 1 else [list(encoder.parameters())]
    rates = [lr * decay ** (len(layers) - number) for number in range(1, len(layers) + 1)]
    return {id(parameter): rate for layer, rate in zip(layers, rates, strict=True) for parameter in layer}
