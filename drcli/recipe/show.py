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
        source: the data and places from which it was made; a value without a place is a default.
    """
    return "".join(f"{line}\n" for line in _block(recipe.to_dict(), (), source.places))


def differences(stored: Mapping[str, Any], requested: Mapping[str, Any]) -> list[str]:
    """Return one line per difference between two recipes as plain data.

    A line reads "training.epochs: 60 in the folder, 5 requested".
    """
    return list(_differences(stored, requested, ()))


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


def _differences(stored: Any, requested: Any, key: Key) -> Iterator[str]:
    if isinstance(stored, Mapping) and isinstance(requested, Mapping):
        for name in [*stored, *(name for name in requested if name not in stored)]:
            yield from _differences(stored.get(name, _ABSENT), requested.get(name, _ABSENT), (*key, name))
    elif stored != requested:
        yield f"{dotted(key)}: {_value(stored)} in the folder, {_value(requested)} requested"


def _value(value: Any) -> str:
    return "absent" if value is _ABSENT else spelled(value)
