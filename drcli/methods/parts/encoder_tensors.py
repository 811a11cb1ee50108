"""Which weights of an encoder a method changes the gradients of, by their number of dimensions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from torch import nn

from drcli.recipe.conflicts import sketches
from drcli.recipe.schema import Recipe

Tensors = Literal["conv4d", "non1d", "all"]


def selected(encoder: nn.Module, kind: Tensors) -> list[nn.Parameter]:
    """Return an encoder's parameters of a kind: of 4 dimensions, of more than one, or all."""
    parameters = list(encoder.parameters())
    if kind == "all":
        return parameters
    return [parameter for parameter in parameters if parameter.dim() == 4 or (kind == "non1d" and parameter.dim() > 1)]


def nothing_selected(modality: str, encoder: nn.Module) -> str:
    """Return why an encoder without tensors to modulate is refused, and the remedy."""
    return f"the encoder of {modality} ({type(encoder).__name__}) has no such weights; use non1d"


def without_selected(recipe: Recipe, kind: Tensors) -> Iterator[tuple[str, str]]:
    """Yield the setting `tensors` and why it is refused, for each encoder whose sketch shows none of a kind."""
    for m, encoder in sketches(recipe).items():
        if encoder is not None and not selected(encoder, kind):
            yield f"methods.{recipe.method}.tensors", nothing_selected(m, encoder)
