"""A recipe's YAML as plain data with the line of every value; nothing but plain data gets through.

Scalars follow the core schema of YAML 1.2 (`1e-4` is a number, `on` is text), where PyYAML's own
loaders follow YAML 1.1, lose the lines and let the second of two equal keys win.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from drcli.errors import RecipeError
from drcli.recipe.problems import MAPPING, Problem
from drcli.recipe.text import MAX_DEPTH, Key, excerpt

MAX_BYTES = 1_000_000
MAX_VALUES = 10_000
"""Values a recipe may hold once its aliases are expanded."""

_INT = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: Mapping[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}


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


class YamlError(Exception):
    """Text that is not YAML of the kind recipes use.

    Args:
        message: what is wrong and what would be right.
        line: where, from 1; None where it is the whole text.
    """

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


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
        raise RecipeError(f"{path}{line}: {error}") from error
    return Source(str(path), data, builder.places, tuple(builder.problems))


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


def compose(text: str) -> yaml.Node:
    """Return the node graph of one YAML document; null for an empty one.

    Raises:
        YamlError: a syntax error, a tag, a second document, too many values or levels.
    """
    try:
        reader = _Reader(text)
        node = reader.get_node() if reader.check_node() else None
        if reader.check_node():
            raise YamlError("a second document begins here; a recipe is one", reader.next_line())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = None if mark is None else mark.line + 1
        raise YamlError(f"not valid YAML: {error.problem or error.context}", line) from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        # PyYAML lets chr() fail on an escape such as "\UFFFFFFFF", and refuses control characters.
        raise YamlError("not valid YAML: a character that text cannot hold") from error
    return node or yaml.ScalarNode("", "", yaml.Mark("", 0, 0, 0, "", 0))


class Builder:
    """Turns a node graph into plain data, noting lines and what is wrong with the keys.

    Attributes:
        places: line number from 1 of every value so far.
        problems: keys that are given twice, or are no text.
    """

    def __init__(self) -> None:
        self.places: dict[Key, int] = {}
        self.problems: list[Problem] = []
        self._open: set[int] = set()
        self._values = 0

    def build(self, node: yaml.Node, key: Key, line: int | None = None) -> Any:
        """Return the plain data of a node that stands at `key`.

        Raises:
            YamlError: an alias leads back to itself, or aliases expand to too many values.
        """
        line = line or _line(node)
        self.places[key] = line
        self._values += 1
        if self._values > MAX_VALUES:
            raise YamlError(f"more than {MAX_VALUES} values once its aliases are expanded", line)
        if isinstance(node, yaml.ScalarNode):
            return scalar(node.value) if node.style is None else node.value
        if id(node) in self._open:
            raise YamlError("an alias (*) stands inside the value it refers to", line)
        self._open.add(id(node))
        value = self._mapping(node, key) if isinstance(node, yaml.MappingNode) else self._list(node, key)
        self._open.remove(id(node))
        return value

    def _list(self, node: yaml.Node, key: Key) -> list[Any]:
        return [self.build(item, (*key, index)) for index, item in enumerate(node.value)]

    def _mapping(self, node: yaml.MappingNode, key: Key) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for name_node, item in node.value:
            name, line = _key_text(name_node), _line(name_node)
            if name is None:
                self.problems.append(Problem(key, _key_problem(name_node), place=line))
            elif name in data:
                first = self.places[*key, name]
                self.problems.append(Problem((*key, name), f"given twice, first on line {first}", place=line))
            else:
                data[name] = self.build(item, (*key, name), line)
        return data


def scalar(text: str) -> Any:
    """Return the value of an unquoted scalar by the core schema of YAML 1.2, without 0o and 0x."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        # Python refuses to convert thousands of digits; as a float the number is merely too large.
        return int(text) if len(text) < 100 else float(text)
    return float(text) if _FLOAT.fullmatch(text) else text


class _Reader(yaml.SafeLoader):
    """PyYAML's composer without YAML 1.1's types and without tags, bounded in values and depth."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._values = 0
        self._depth = 0

    def next_line(self) -> int:
        """The line of what is read next, from 1."""
        return _line(self.peek_event())  # type: ignore[no-untyped-call]

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        line = self.next_line()
        tag = getattr(self.peek_event(), "tag", None)  # type: ignore[no-untyped-call]
        if tag is not None:
            raise YamlError(f"the tag {tag} is refused; a recipe holds plain values only", line)
        self._values += 1
        self._depth += 1
        if self._values > 2 * MAX_VALUES:  # keys and values
            raise YamlError(f"more than {MAX_VALUES} values", line)
        if self._depth > MAX_DEPTH:
            raise YamlError(f"nested more than {MAX_DEPTH} levels deep", line)
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise RecipeError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if len(content) > MAX_BYTES:
        raise RecipeError(f"{path}: larger than 1 MB; a recipe is a short YAML text")
    if b"\0" in content:
        raise RecipeError(f"{path}: binary content; a recipe is YAML text in UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise RecipeError(f"{path}, line {line}: not UTF-8 text; save the recipe as UTF-8") from error


def _key_text(node: yaml.Node) -> str | None:
    """The text of a key; None where it is something else, or a merge key."""
    if not isinstance(node, yaml.ScalarNode):
        return None
    if node.style is not None:
        return str(node.value)
    return node.value if isinstance(scalar(node.value), str) and node.value != "<<" else None


def _key_problem(node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode):
        return "a key must be text, not a list or block"
    if node.value == "<<":
        return "merge keys (<<) are not supported; write the keys out"
    return f"a key must be text; quote it: {node.value!r}"


def _line(item: yaml.Node | yaml.Event) -> int:
    return 1 if item.start_mark is None else int(item.start_mark.line) + 1
