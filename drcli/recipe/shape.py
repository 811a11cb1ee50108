"""What a setting may hold, in plain words: its type, its range and its keys, read from a model's JSON schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.errors import PydanticInvalidForJsonSchema

from drcli.recipe.text import Key, spelled

Schema = Mapping[str, Any]

ABSENT_MEANS = "absent_means"
"""Key of a field's `json_schema_extra`: what holds in place of a required value where a recipe leaves it out."""

_TYPES = {
    "integer": "whole number",
    "number": "number",
    "string": "string",
    "boolean": "boolean",
    "array": "list",
    "object": "mapping",
}


@dataclass(frozen=True)
class Shape:
    """What a value may be.

    Attributes:
        branches: JSON schemas of the alternatives, null left out; none of them is a union or a reference.
        nullable: whether null is one of them.
    """

    branches: tuple[Schema, ...]
    nullable: bool = False

    @classmethod
    def of(cls, schema: Schema) -> Shape:
        """Return the shape of a schema without references."""
        options = schema.get("anyOf", schema.get("oneOf"))
        if options is None:
            return cls((), nullable=True) if schema.get("type") == "null" else cls((schema,))
        inner = [cls.of(option) for option in options]
        return cls(tuple(branch for one in inner for branch in one.branches), any(one.nullable for one in inner))

    def at(self, key: Key) -> Shape | None:
        """Return the shape of the value at the end of a key; None where that is open or one of several."""
        shape = self
        for part in key:
            found = [inner for branch in shape.branches if (inner := _child(branch, part)) is not None]
            if len(found) != 1:
                return None
            shape = self.of(found[0])
        return shape

    def keys(self) -> list[str] | None:
        """Return the keys of a mapping, as a recipe spells them; None where they are open or those of several."""
        found = [branch["properties"] for branch in self.branches if "properties" in branch]
        return list(found[0]) if len(found) == 1 else None

    def kind(self) -> str:
        """Say the type: "whole number", "list of strings", "number or null"."""
        return " or ".join([*dict.fromkeys(map(_kind, self.branches)), *(["null"] if self.nullable else [])])

    def allowed(self) -> str:
        """Say which values of the type are allowed: "from 1 to 9"; empty where all are."""
        return ", or ".join(filter(None, dict.fromkeys(map(_allowed, self.branches))))

    def range(self) -> str:
        """Say the range of a number: "from 1 to 9"; empty where there is none, or one of several."""
        found = list(filter(None, map(_range, self.branches)))
        return found[0] if len(found) == 1 else ""

    def numbers(self, key: Key = ()) -> Iterator[tuple[Key, Schema]]:
        """Yield the schema of every number inside, with its key; items of a list have 0, of a mapping "key"."""
        for branch in self.branches:
            if branch.get("type") in {"integer", "number"}:
                yield key, branch
            for part, item in _items(branch):
                yield from self.of(item).numbers((*key, part))


def shape_of(model: type[BaseModel]) -> Shape:
    """Return the shape of a model's block; an empty one where a type in it has no JSON schema."""
    return Shape.of(schema_of(model))


def schema_of(model: type[BaseModel]) -> Schema:
    """Return a model's JSON schema, its references replaced by what they refer to."""
    try:
        schema = model.model_json_schema(by_alias=True)
    except PydanticInvalidForJsonSchema:  # a plug-in's own type
        return {}
    found: Schema = _resolved(schema, schema.get("$defs", {}))
    return found


def _resolved(value: Any, definitions: Schema) -> Any:
    if isinstance(value, list):
        return [_resolved(item, definitions) for item in value]
    if not isinstance(value, Mapping):
        return value
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        others = {other: schema for other, schema in definitions.items() if other != name}  # a model may hold itself
        beside = {key: item for key, item in value.items() if key not in {"$ref", "$defs"}}
        return {**_resolved(definitions.get(name, {}), others), **beside}
    return {key: _resolved(item, definitions) for key, item in value.items() if key != "$defs"}


def _child(schema: Schema, part: str | int) -> Schema | None:
    """Return the schema of what is at a key or an index."""
    if isinstance(part, int):
        prefix = schema.get("prefixItems", ())
        found = prefix[part] if part < len(prefix) else schema.get("items")
    else:
        found = schema.get("properties", {}).get(part, _values(schema))
    return found if isinstance(found, Mapping) else None


def _items(schema: Schema) -> Iterator[tuple[str | int, Schema]]:
    """Yield the schemas of everything directly inside a list or a mapping."""
    yield from schema.get("properties", {}).items()
    yield from enumerate(schema.get("prefixItems", ()))
    if "items" in schema:
        yield 0, schema["items"]
    if isinstance(_values(schema), Mapping):
        yield "key", _values(schema)


def _values(schema: Schema) -> Any:
    """Return the schema of a mapping's values, whatever their keys; None or false where its keys are fixed."""
    patterns = schema.get("patternProperties", {})
    return next(iter(patterns.values()), schema.get("additionalProperties"))


def _kind(schema: Schema) -> str:
    if schema.get("format") == "path":
        return "path"
    prefix = schema.get("prefixItems")
    if prefix:
        return f"list of {len(prefix)} {_plural(prefix[0])}"
    kind = _TYPES.get(schema.get("type", ""), "value")
    inner = schema.get("items", _values(schema))
    return f"{kind} of {_plural(inner)}" if isinstance(inner, Mapping) else kind


def _plural(schema: Schema) -> str:
    return f"{Shape.of(schema).kind()}s"


def _allowed(schema: Schema) -> str:
    if "enum" in schema or "const" in schema:
        return ", ".join(map(spelled, schema.get("enum", [schema.get("const")])))
    if schema.get("type") == "boolean":
        return "true, false"
    if schema.get("type") in {"array", "object"}:
        return _allowed_inside(schema)
    return _range(schema)


def _allowed_inside(schema: Schema) -> str:
    items = {} if "properties" in schema else dict(_items(schema))
    each = [
        f"each {'one of ' * ('enum' in item)}{text}" for item in items.values() if (text := Shape.of(item).allowed())
    ]
    least = 0 if "prefixItems" in schema else schema.get("minItems", 0)
    return "; ".join([*dict.fromkeys(each), *([f"{least} or more"] if least else [])])


def _range(schema: Schema) -> str:
    """Say between which bounds a number lies: "from 1 to 9", "at least 0 and less than 1"; empty without any."""
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if schema.get("type") == "integer":
        low, above = (low, None) if above is None else (above + 1, None)
        high, below = (high, None) if below is None else (below - 1, None)
    if low is not None and high is not None:
        return f"from {_number(low)} to {_number(high)}"
    bounds = {"at least": low, "greater than": above, "at most": high, "less than": below}
    return " and ".join(f"{words} {_number(bound)}" for words, bound in bounds.items() if bound is not None)


def _number(value: float) -> str:
    """Spell a bound: 1,000,000 and 0.5."""
    return f"{int(value):,}" if float(value).is_integer() else spelled(value)
