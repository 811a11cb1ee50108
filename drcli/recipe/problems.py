"""What is wrong with a recipe: one problem per line, all of them in one error."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from drcli.amounts import counted
from drcli.errors import RecipeError
from drcli.recipe.shape import Shape, shape_of
from drcli.recipe.text import Key, dotted, excerpt
from drcli.registry import known

COMMAND_LINE = 0
"""The place of values from the command line; other places are line numbers from 1."""

ABSENT = object()
"""The value of a problem that has none: a key is missing."""

MAPPING = "must be a mapping, such as {key: value}"

_RANGE = {"greater_than", "greater_than_equal", "less_than", "less_than_equal"}
"""Pydantic's names of a number's being too small or too large."""

_WORDS: Mapping[str, str] = MappingProxyType(
    {
        "missing": "required",
        "int_type": "must be a whole number",
        "int_from_float": "must be a whole number",
        "float_type": "must be a number",
        "finite_number": "must be a finite number",
        "bool_type": "must be true or false",
        "string_type": "must be a string",
        "list_type": "must be a list",
        "tuple_type": "must be a list",
        "set_type": "must be a list",
        "dict_type": MAPPING,
        "model_type": MAPPING,
        "union_tag_not_found": "must be a mapping that names its kind",
    }
)


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        key: where.
        message: what is allowed, as a clause that follows the value ("must be greater than 0").
        value: the value at the key; ABSENT if there is none.
        place: line number or COMMAND_LINE; None looks it up by the key.
    """

    key: Key
    message: str
    value: Any = ABSENT
    place: int | None = None


def refusal(where: str, problems: Iterable[Problem], places: Mapping[Key, int]) -> RecipeError:
    """Return the error that shows all problems at once, in the order of their lines.

    Args:
        where: the file, as the user knows it.
        problems: at least one; several of one key and value become one line.
        places: line number, or COMMAND_LINE, by key; a key that is absent has its block's place.
    """
    merged: dict[tuple[int | None, str], list[str]] = {}
    for problem in problems:
        place = place_of(problem.key, places) if problem.place is None else problem.place
        messages = merged.setdefault((place, _subject(problem)), [])
        if problem.message not in messages:
            messages.append(problem.message)
    rows = sorted(merged.items(), key=lambda row: row[0][0] or float("inf"))
    names = [place_name(place) for (place, _), _ in rows]
    width = max(map(len, names))
    lines = [
        "  ".join(
            [
                "",
                *([name.ljust(width)] if width else []),
                "   ".join(filter(None, [subject, _either(messages)])),
            ]
        )
        for name, ((_, subject), messages) in zip(names, rows, strict=True)
    ]
    count = counted(len(lines), "problem")
    return RecipeError("\n".join([f"{where}: {count}", *lines]))


def place_of(key: Key, places: Mapping[Key, int]) -> int | None:
    """Return the place of a key, or of the nearest block around it; None where no place is known."""
    return next((places[key[:size]] for size in range(len(key), -1, -1) if key[:size] in places), None)


def place_name(place: int | None) -> str:
    """Spell a place: "line 7", "command line", or nothing."""
    if place is None:
        return ""
    return "command line" if place == COMMAND_LINE else f"line {place}"


def unknown_key(name: str, allowed: Sequence[str]) -> str:
    """Say that a key is not known here, which are, and the nearest spelling."""
    return f"unknown key; {known(name, allowed)}" if allowed else "unknown key; nothing can be set here"


def one_of(value: Any, allowed: Sequence[str]) -> str:
    """Say which names are allowed, and the nearest spelling."""
    return "must be one of: " + known(str(value), allowed).removeprefix("known: ").removesuffix(".")


def keys_of(model: type[BaseModel]) -> list[str]:
    """Return the keys of a model's block, as the recipe spells them (`lambda`, not `lambda_`)."""
    return [field.alias or name for name, field in model.model_fields.items()]


def problems_in(
    error: ValidationError, model: type[BaseModel], data: Any, key: Key, besides: Sequence[str] = ()
) -> Iterator[Problem]:
    """Yield pydantic's findings about one block in plain words.

    Args:
        error: what `model` raised.
        model: the model of the block.
        data: the block's plain data.
        key: key of the block.
        besides: keys that the block may hold and `model` does not know.
    """
    shape = shape_of(model)
    for found in error.errors(include_url=False):
        path, value = _follow(data, found)
        if _is_only_about_wrong_items(found, value):
            continue
        if found["type"] == "extra_forbidden":
            owner = [*besides, *keys_of(model)] if len(path) == 1 else _keys(shape.at(path[:-1]))
            message = unknown_key(str(path[-1]), owner) if owner is not None else "unknown key"
        elif found["type"] in _RANGE:
            message = _range(shape.at(path)) or _words(found)
        else:
            message = _words(found)
        yield Problem((*key, *path), message, value)


def _is_only_about_wrong_items(found: ErrorDetails, value: Any) -> bool:
    """Whether pydantic calls a list too short since it does not count the items that are wrong themselves."""
    return found["type"] == "too_short" and isinstance(value, list) and len(value) >= found["ctx"]["min_length"]


def _keys(shape: Shape | None) -> list[str] | None:
    return None if shape is None else shape.keys()


def _range(shape: Shape | None) -> str:
    """Say the whole range of a number, "must be from 1 to 9"; nothing where it has none or is one of several."""
    text = "" if shape is None else shape.range()
    return f"must be {text}" if text else ""


def _follow(data: Any, found: ErrorDetails) -> tuple[Key, Any]:
    """Return the key of a finding inside the block's data, and the value at it.

    Pydantic's location also names branches of unions and "[key]", which are not in the data: a part
    that is not in the data is left out, except for the name of a missing key.
    """
    path: list[str | int] = []
    for part in found["loc"]:
        inside = part in data if isinstance(data, Mapping) else False
        inside = inside or (isinstance(data, list | tuple) and isinstance(part, int) and part < len(data))
        if inside:
            path.append(part)
            data = data[part]
    if found["type"] == "missing":
        return (*path, found["loc"][-1]), ABSENT
    return tuple(path), data


def _words(found: ErrorDetails) -> str:
    """Say in plain words what pydantic found."""
    kind, context = found["type"], found.get("ctx", {})
    names = re.findall(r"'([^']*)'", str(context.get("expected", "")))
    if kind == "literal_error" and names:
        return one_of(found["input"], names)
    if kind in _WORDS:
        return _WORDS[kind]
    message = re.sub(r"^(Input|String|List|Tuple|Dictionary|Value) should ", "must ", found["msg"])
    message = message.removeprefix("Value error, ").partition(" after validation")[0]
    return message[:1].lower() + message[1:]


def _subject(problem: Problem) -> str:
    value = "" if problem.value is ABSENT else f" = {excerpt(problem.value)}"
    return f"{dotted(problem.key)}{value}" if problem.key else ""


def _either(messages: Sequence[str]) -> str:
    return ", or ".join(messages)
