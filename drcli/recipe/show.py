"""Recipes as text: annotated YAML for `drcli show`, and the differences between two of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from drcli.recipe.problems import place_name
from drcli.recipe.schema import Recipe
from drcli.recipe.source import Source
from drcli.recipe.text import Key, dotted, spelled

DEFAULT = "default"
"""Origin of a value that neither the file nor the command line gives."""

_COLUMN = 44
_ABSENT = object()


def annotated_yaml(recipe: Recipe, source: Source) -> str:
    """Return the resolved recipe as YAML, every value with its origin in a comment.

    Args:
        recipe: what is shown; the text reads back to it.
        source: what it was made of; a value that has no place there is a default.
    """
    return "".join(f"{line}\n" for line in _block(recipe.to_dict(), (), source.places))


def differences(there: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """Return what differs between two recipes as plain data, a line each.

    A line reads "training.epochs: 60 there, 5 asked".
    """
    return list(_differences(there, asked, ()))


def _block(data: Mapping[str, Any], key: Key, places: Mapping[Key, int]) -> Iterator[str]:
    indent = "  " * len(key)
    for name, value in data.items():
        inner = (*key, name)
        if isinstance(value, Mapping) and value:
            yield f"{indent}{spelled(name)}:"
            yield from _block(value, inner, places)
        else:
            place = places.get(inner)
            origin = DEFAULT if place is None else place_name(place)
            yield f"{f'{indent}{spelled(name)}: {spelled(value)}'.ljust(_COLUMN)}  # {origin}"


def _differences(there: Any, asked: Any, key: Key) -> Iterator[str]:
    if isinstance(there, Mapping) and isinstance(asked, Mapping):
        for name in [*there, *(name for name in asked if name not in there)]:
            yield from _differences(there.get(name, _ABSENT), asked.get(name, _ABSENT), (*key, name))
    elif there != asked:
        yield f"{dotted(key)}: {_value(there)} there, {_value(asked)} asked"


def _value(value: Any) -> str:
    return "absent" if value is _ABSENT else spelled(value)
