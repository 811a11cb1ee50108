"""A recipe's plain data: from YAML, with KEY=VALUE of the command line, and as YAML with the origins of values."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from drcli.errors import RecipeError
from drcli.reading import MAX_DEPTH, open_regular
from drcli.recipe.plain_yaml import MAX_BYTES, Builder, YamlError, compose
from drcli.recipe.problems import COMMAND_LINE, MAPPING, Problem, place_name
from drcli.recipe.schema import Recipe
from drcli.recipe.text import Key, dotted, excerpt, spelled, walk

DEFAULT = "default"
"""Origin of a value that neither the file nor the command line gives."""

_COLUMN = 44

_EXAMPLE = "write KEY=VALUE, such as training.epochs=5"
_LONGEST = 200  # characters of an override that a message shows

_ROOT = "dataset.root"


@dataclass(frozen=True)
class Source:
    """Plain data and where it comes from.

    Attributes:
        where: the file, as the user knows it; begins every message.
        data: blocks, lists, text, numbers, true, false and null, nothing else.
        places: line number from 1, or COMMAND_LINE, of every value.
        problems: what was wrong and could be passed over, such as a key given twice.
    """

    where: str
    data: dict[str, Any]
    places: Mapping[Key, int]
    problems: tuple[Problem, ...] = ()


def read_source(path: Path) -> Source:
    """Return the plain data of a recipe file.

    Raises:
        RecipeError: the file cannot be read, is not UTF-8 text, is too large, or is not one YAML
            document that holds a block of keys.
    """
    text = _read_text(path)
    try:
        node = compose(text)
        builder = Builder()
        data = builder.build(node, ())
        if not isinstance(data, dict):
            got = "it is empty" if data is None else f"it is {excerpt(data)}"
            raise YamlError(f"{MAPPING}; {got}", builder.places[()])
    except YamlError as error:
        line = "" if error.line is None else f", line {error.line}"
        raise RecipeError(f"{path}{line}: {error.message}") from error
    return Source(str(path), data, builder.places, _problems(builder))


def parse_value(text: str) -> Any:
    """Return the value of an override's text: a scalar, or a list or block on one line ([0, 1], {a: 1}).

    Raises:
        YamlError: the text is not YAML on one line.
    """
    node = compose(text)
    if isinstance(node, yaml.CollectionNode) and not node.flow_style:
        raise YamlError("must be a scalar, [a, list] or {a: block}; quote text that has ': ' or '- ' in it")
    builder = Builder()
    value = builder.build(node, ())
    if builder.problems:
        raise YamlError(builder.problems[0].message)
    return value


def _problems(builder: Builder) -> tuple[Problem, ...]:
    return tuple(Problem(key, message, place=line) for key, message, line in builder.problems)


def _read_text(path: Path) -> str:
    try:
        with open_regular(path) as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(content) > MAX_BYTES:
        raise RecipeError(f"{path}: larger than 1 MB; a recipe is a short YAML text")
    if b"\0" in content:
        raise RecipeError(f"{path}: binary content; a recipe is YAML text in UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise RecipeError(f"{path}, line {line}: not UTF-8 text; save the recipe as UTF-8") from error


def annotated_yaml(recipe: Recipe, source: Source) -> str:
    """Return the resolved recipe as YAML, every value with its origin in a comment.

    Args:
        recipe: what is shown; the text reads back to it.
        source: the data and places from which it was made; a value without a place is a default.
    """
    return "".join(f"{line}\n" for line in _block(recipe.to_dict(), (), source.places))


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
            message = f"cannot be set: {dotted(key[:depth])} is {excerpt(inner)}, not a mapping"
            return Problem(key, message, value, COMMAND_LINE)
        block[part] = inner
        block = inner
    block[key[-1]] = copy.deepcopy(value)
    return None


def split_root(overrides: Sequence[Override]) -> tuple[Path | None, list[Override]]:
    """Return the folder of dataset.root=DIR, or None where it is not given, and the other overrides."""
    roots = [Path(str(override.value)) for override in overrides if override.path == _ROOT]
    return (roots[-1] if roots else None), [override for override in overrides if override.path != _ROOT]
