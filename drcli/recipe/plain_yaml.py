"""YAML as plain data with the line of every value, bounded in values and depth; nothing but plain data.

Scalars follow the core schema of YAML 1.2 (`1e-4` is a number, `on` is text), where PyYAML's own loaders
follow YAML 1.1, lose the lines, let the second of two equal keys win, and recurse without a limit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from drcli.errors import DataError
from drcli.reading import MAX_DEPTH, ContentsError, Refusal, check_values, read_text
from drcli.recipe.text import Key

MAX_BYTES = 10**6
"""Bytes of a YAML file: recipes and targets are short."""

MAX_VALUES = 10_000
"""Values a document may hold once its aliases are expanded."""

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


class YamlError(ContentsError):
    """Text that is not YAML of the kind that drcli reads.

    Args:
        message: what is wrong and what would be right.
        line: where, from 1; None where it is the whole text.
    """

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.line = line

    def __str__(self) -> str:
        return self.message if self.line is None else f"line {self.line}: {self.message}"


class KeyProblem(NamedTuple):
    """A key that is given twice or is not a string: the rest of the document can be read without it.

    Attributes:
        key: where.
        message: what is wrong.
        line: of the key, from 1.
    """

    key: Key
    message: str
    line: int


def read_yaml(path: Path, *, remedy: str, error: Refusal = DataError) -> Any:
    """Return the plain data of a YAML file.

    Args:
        path: the file.
        remedy: what the user can do where it cannot be read; ends the message.
        error: what is raised.

    Raises:
        DataError: (or `error`) the file cannot be read, is not a regular file, is too large, or as `parse_yaml`.
    """
    text = read_text(path, remedy=remedy, limit=MAX_BYTES, error=error)
    try:
        return parse_yaml(text)
    except ContentsError as found:
        raise error(f"{path}: damaged ({found}); {remedy}") from found


def parse_yaml(text: str) -> Any:
    """Return the plain data of one YAML document.

    Raises:
        ContentsError: as `compose` and `Builder.build`; a key is given twice or is not a string; control characters
            or half surrogate pairs; a whole number beyond 64 bits.
    """
    builder = Builder()
    found = builder.build(compose(text), ())
    for problem in builder.problems:
        raise YamlError(problem.message, problem.line)
    check_values(found)
    return found


def compose(text: str) -> yaml.Node:
    """Return the node graph of one YAML document; null for an empty one.

    Raises:
        YamlError: a syntax error, a tag, a second document, too many values or levels.
    """
    try:
        reader = _Reader(text)
        node: yaml.Node | None = reader.get_node() if reader.check_node() else None
        if reader.check_node():
            raise YamlError("a second document begins here; write one", reader.next_line())
    except YamlError:
        raise
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
        problems: keys that are given twice, or are not strings.
    """

    def __init__(self) -> None:
        self.places: dict[Key, int] = {}
        self.problems: list[KeyProblem] = []
        self._open: set[int] = set()
        self._values = 0

    def build(self, node: yaml.Node, key: Key, line: int | None = None) -> Any:
        """Return the plain data of a node at `key`.

        Raises:
            YamlError: an alias leads back to itself, or aliases expand to too many values or levels.
        """
        line = line or _line(node)
        self.places[key] = line
        self._values += 1
        if self._values > MAX_VALUES:
            raise YamlError(f"more than {MAX_VALUES} values once its aliases are expanded", line)
        if isinstance(node, yaml.ScalarNode):
            return scalar(node.value) if not node.style else node.value
        return self._collection(node, key, line)

    def _collection(self, node: yaml.Node, key: Key, line: int) -> Any:
        if id(node) in self._open:
            raise YamlError("an alias (*) is inside the value it refers to", line)
        if len(self._open) >= MAX_DEPTH:
            raise YamlError(f"nested more than {MAX_DEPTH} levels deep once its aliases are expanded", line)
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
                self.problems.append(KeyProblem(key, _key_problem(name_node), line))
            elif name in data:
                first = self.places[*key, name]
                self.problems.append(KeyProblem((*key, name), f"given twice, first on line {first}", line))
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


# libyaml's parser is several times faster; its composer recurses in C without a limit, so that PyYAML's own,
# bounded below, takes its events.
_PARSER: tuple[Any, ...] = (
    (yaml.cyaml.CParser,)  # type: ignore[attr-defined]
    if yaml.__with_libyaml__
    else (yaml.reader.Reader, yaml.scanner.Scanner, yaml.parser.Parser)
)


class _Reader(yaml.composer.Composer, *_PARSER, yaml.resolver.BaseResolver):  # type: ignore[misc]
    """PyYAML's composer without YAML 1.1's types and without tags, bounded in values and depth."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    def __init__(self, text: str) -> None:
        _PARSER[0].__init__(self, text)
        for base in _PARSER[1:]:
            base.__init__(self)
        yaml.composer.Composer.__init__(self)
        yaml.resolver.BaseResolver.__init__(self)
        self._values = 0
        self._depth = 0

    def next_line(self) -> int:
        """The line of what is read next, from 1."""
        return _line(self.peek_event())

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        tag = getattr(event, "tag", None)
        if tag is not None:
            raise YamlError(f"the tag {tag} is refused; write plain values", _line(event))
        self._values += 1
        self._depth += 1
        if self._values > 2 * MAX_VALUES:  # keys and values
            raise YamlError(f"more than {MAX_VALUES} values", _line(event))
        if self._depth > MAX_DEPTH:
            raise YamlError(f"nested more than {MAX_DEPTH} levels deep", _line(event))
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _key_text(node: yaml.Node) -> str | None:
    """The text of a key; None where it is something else, or a merge key."""
    if not isinstance(node, yaml.ScalarNode):
        return None
    if node.style:
        return str(node.value)
    return node.value if isinstance(scalar(node.value), str) and node.value != "<<" else None


def _key_problem(node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode):
        return "a key must be a string, not a list or a mapping"
    if node.value == "<<":
        return "merge keys (<<) are not supported; write the keys out"
    return f"a key must be a string; quote it: {node.value!r}"


def _line(item: yaml.Node | yaml.Event) -> int:
    return 1 if item.start_mark is None else int(item.start_mark.line) + 1
