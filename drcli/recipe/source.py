"""A recipe's YAML as plain data, and where each value comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from drcli.errors import RecipeError
from drcli.reading import open_regular
from drcli.recipe.plain_yaml import MAX_BYTES, Builder, YamlError, compose
from drcli.recipe.problems import MAPPING, Problem
from drcli.recipe.text import Key, excerpt


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
