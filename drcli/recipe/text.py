"""How keys, values and differences of recipes are written for the user: dotted paths and YAML on one line."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from drcli.reading import ABSENT, MAX_DEPTH, differing

Key = tuple[str | int, ...]
"""The place of a value in the data: the keys of blocks and the indices of lists, from the top."""

Change = tuple[Key, Any, Any]
"""A difference: its key, the value there is, and the value that is asked for; ABSENT where there is none."""

_NAMED = 3
"""Changes that a proposed name tells."""

_PLAIN_TEXT = re.compile(r"[A-Za-z/][A-Za-z0-9_./-]*")
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_.-]+")
# Words that YAML 1.2, or YAML 1.1 in other readers, does not read as strings.
_RESERVED = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"}


def dotted(key: Key) -> str:
    """Write a key as the user does: "training.optimizer.lr", "seeds[1]"."""
    text = ""
    for part in key:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if _PLAIN_KEY.fullmatch(part) else f".{json.dumps(part)}"
    return text.removeprefix(".")


def spelled(value: Any) -> str:
    """Write plain data as YAML on one line, so that YAML 1.1 and 1.2 both read the same value back."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{spelled(key)}: {spelled(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(spelled(item) for item in value) + "]"
    if isinstance(value, float):
        return _spelled_float(value)
    if isinstance(value, str) and _PLAIN_TEXT.fullmatch(value) and value.lower() not in _RESERVED:
        return value
    return json.dumps(value, ensure_ascii=False, default=lambda other: type(other).__name__)


def excerpt(value: Any, limit: int = 48) -> str:
    """Write a value for a message, cut to `limit` characters; characters that cannot be printed are escaped."""
    text = spelled(value).encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= limit else text[: limit - 3] + "..."


def walk(value: Any, key: Key = ()) -> Iterator[tuple[Key, Any]]:
    """Yield every value of plain data with its key, a block or list before what it holds.

    Nothing below MAX_DEPTH levels is visited.
    """
    yield key, value
    if len(key) > MAX_DEPTH:
        return
    if isinstance(value, Mapping):
        for part, item in value.items():
            yield from walk(item, (*key, str(part)))
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        for index, item in enumerate(value):
            yield from walk(item, (*key, index))


def leaves(
    block: Mapping[str, Any], key: Key = (), *, is_leaf: Callable[[Mapping[str, Any]], bool] = lambda _: False
) -> Iterator[tuple[Key, Any]]:
    """Yield the values of a block that hold no others, with their keys; a list is one value.

    Args:
        block: plain data.
        key: of the block.
        is_leaf: whether a block inside it is one value, too.
    """
    for name, value in block.items():
        inner = (*key, str(name))
        if isinstance(value, Mapping) and not is_leaf(value):
            yield from leaves(value, inner, is_leaf=is_leaf)
        else:
            yield inner, value


def _spelled_float(value: float) -> str:
    if not math.isfinite(value):
        return {"inf": ".inf", "-inf": "-.inf"}.get(str(value), ".nan")
    text = repr(value)
    # YAML 1.1 reads 1e-05 as a string and 1.0e-05 as a number.
    return text.replace("e", ".0e") if "e" in text and "." not in text else text


def differences(stored: Mapping[str, Any], requested: Mapping[str, Any]) -> list[str]:
    """Return one line per difference between two recipes as plain data.

    A line reads "training.epochs: 60 in the folder, 5 requested".
    """
    return differences_in_words(differing(stored, requested))


def differences_in_words(changes: Iterable[Change]) -> list[str]:
    """Return one line per difference, as `differences` does."""
    return [
        f"{dotted(key)}: {_value(there)} in the folder, {_value(wanted)} requested" for key, there, wanted in changes
    ]


def proposed_name(name: str, changes: Iterable[Change]) -> str:
    """Return a name for a recipe with other values, such as digits-lr0.1: of its keys the last parts, and the values.

    Args:
        name: of the recipe.
        changes: what is other in it; the first ones are named.
    """
    parts = [
        f"{key[-1]}{'' if isinstance(to, Mapping | list | tuple) else _value(to)}" for key, _, to in changes if key
    ]
    return re.sub(r"[^A-Za-z0-9_.-]", "", "-".join([name, *parts[:_NAMED]]))[:100]


def _value(value: Any) -> str:
    return "absent" if value is ABSENT else spelled(value)
