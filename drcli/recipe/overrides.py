"""KEY=VALUE of the command line: set on a recipe's plain data before it is validated."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from drcli.errors import RecipeError
from drcli.reading import MAX_DEPTH
from drcli.recipe.plain_yaml import YamlError
from drcli.recipe.problems import COMMAND_LINE, Problem
from drcli.recipe.source import Source, parse_value
from drcli.recipe.text import Key, dotted, excerpt, walk

_EXAMPLE = "write KEY=VALUE, such as training.epochs=5"
_LONGEST = 200  # characters of an override that a message shows


class Override(NamedTuple):
    """One KEY=VALUE: a dotted path, and the value as plain data."""

    path: str
    value: Any


def parse_overrides(items: Iterable[str]) -> list[Override]:
    """Return the overrides of KEY=VALUE texts, in their order.

    Raises:
        RecipeError: a text has no "=", an empty path, or a value that is not YAML on one line; names
            every such text.
    """
    overrides, wrong = [], []
    for item in items:
        path, equals, text = item.partition("=")
        if not equals or not all(path.strip().split(".")):
            wrong.append(f"override {_brief(item)}: {'the path is empty' if equals else 'has no ='}; {_EXAMPLE}")
            continue
        if path.count(".") >= MAX_DEPTH:
            wrong.append(f"override {_brief(item)}: a path of more than {MAX_DEPTH} keys; {_EXAMPLE}")
            continue
        try:
            overrides.append(Override(path.strip(), parse_value(text)))
        except YamlError as error:
            wrong.append(f"override {_brief(item)}: {error.message}")
    if wrong:
        raise RecipeError("\n".join(wrong))
    return overrides


def _brief(item: str) -> str:
    return repr(item if len(item) <= _LONGEST else item[: _LONGEST - 3] + "...")


def apply_overrides(source: Source, overrides: Sequence[Override]) -> Source:
    """Return the source with the overrides set in order; a path through a plain value is a problem of it."""
    data, places, problems = copy.deepcopy(source.data), dict(source.places), list(source.problems)
    for override in overrides:
        key = split_path(data, override.path)
        problem = _set(data, key, override.value)
        if problem is not None:
            problems.append(problem)
            continue
        places = {old: place for old, place in places.items() if old[: len(key)] != key}
        for size in range(1, len(key)):
            places.setdefault(key[:size], COMMAND_LINE)
        places.update((inner, COMMAND_LINE) for inner, _ in walk(override.value, key))
    return replace(source, data=data, places=places, problems=tuple(problems))


def split_path(data: Any, path: str) -> Key:
    """Return the keys along a dotted path.

    A key that `data` holds and that has dots in it, such as the label `v1.5`, counts as one.
    """
    parts, key = path.split("."), []
    while parts:
        known = data if isinstance(data, dict) else {}
        size = next((n for n in range(len(parts), 1, -1) if ".".join(parts[:n]) in known), 1)
        key.append(".".join(parts[:size]))
        parts = parts[size:]
        data = known.get(key[-1])
    return tuple(key)


def _set(data: dict[str, Any], key: Key, value: Any) -> Problem | None:
    """Set a value, making blocks on the way where there is nothing; a problem where something else is."""
    block: Any = data
    for depth, part in enumerate(key[:-1], start=1):
        inner = {} if block.get(part) is None else block[part]
        if not isinstance(inner, dict):
            message = f"cannot be set: {dotted(key[:depth])} is {excerpt(inner)}, not a block of keys"
            return Problem(key, message, value, COMMAND_LINE)
        block[part] = inner
        block = inner
    block[key[-1]] = copy.deepcopy(value)
    return None


_ROOT = "dataset.root"


def split_root(overrides: Sequence[Override]) -> tuple[Path | None, list[Override]]:
    """Return the folder of dataset.root=DIR, or None where it is not given, and the other overrides."""
    roots = [Path(str(override.value)) for override in overrides if override.path == _ROOT]
    return (roots[-1] if roots else None), [override for override in overrides if override.path != _ROOT]
