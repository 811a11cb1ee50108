"""The `search:` block of a recipe: ranges of what `drcli tune` searches, shaped like the recipe itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from drcli.recipe.schema import TRAINING, SearchRange
from drcli.recipe.text import Key, leaves
from drcli.recipe.validate import Checker
from drcli.registry import known

BLOCK = "search"

RANGE = "must be a range such as {low: 0.001, high: 0.1, log: true}, a list of values, or null for what is not searched"


def entries(block: Mapping[str, Any]) -> Iterator[tuple[Key, Any]]:
    """Yield what a block says of each value of the recipe: a range, a list of values, or None.

    A mapping is a range if its `low` or `high` is a single value; else it holds others.
    """
    return leaves(block, is_leaf=_is_range)


def _is_range(value: Mapping[str, Any]) -> bool:
    return any(isinstance(value.get(end), int | float | str) for end in ("low", "high"))


def checked_search(checker: Checker) -> dict[str, Any]:
    """Return the block as plain data, {} without one, and note what is wrong with it.

    Only what each method can have for itself is searched: values of `training`, the same ranges for all methods,
    and those of the methods' blocks.
    """
    block = checker.block((BLOCK,)) or {}
    for key, value in entries(block):
        _check_place(checker, key)
        if isinstance(value, Mapping):
            checker.settings(SearchRange, (BLOCK, *key))
        elif value is not None and not _is_choice(value):
            checker.add((BLOCK, *key), RANGE, value)
    return block


def _check_place(checker: Checker, key: Key) -> None:
    labels = checker.block(("methods",)) or {}
    if key[0] == "methods" and len(key) > 2:
        if key[1] not in labels:
            message = f"not a label of methods; {known(str(key[1]), labels)}"
            checker.add((BLOCK, *key[:2]), message)
    elif key[-1:] == ("lr",) and key[0] in {"modalities", "fusion"}:
        part = key[-2]
        checker.add((BLOCK, *key), f"cannot be searched here; name it as search.training.rates.{part}")
    elif key[0] != TRAINING or len(key) < 2:
        checker.add((BLOCK, *key), "cannot be searched: only values of training and of a label of methods can be")


def _is_choice(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 1 and all(isinstance(item, int | float | str) for item in value)
