"""What a value may be, in words: the expected words are those of the models below, read by eye."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, PlainValidator, PositiveFloat, PositiveInt, StringConstraints

from drcli.recipe.shape import Shape, shape_of


class Inner(BaseModel):
    rows: PositiveInt = Field(1, le=9)


class Other(BaseModel):
    level: float


class Everything(BaseModel):
    count: PositiveInt = Field(1, le=1_000_000)
    below: int = Field(0, ge=-1, lt=10)
    odd: PositiveInt | None = Field(None, le=5)
    rate: float = Field(0.5, gt=0, le=0.5)
    part: float = Field(0, ge=0, lt=1)
    least: PositiveFloat = 1.0
    free: float = 0.0
    on: bool = True
    text: str = ""
    folder: Path | None = None
    word: Literal["a", "b c"] = "a"
    one: Literal["x"] = "x"
    fold: Literal[1, 2] = 1
    pair: tuple[Annotated[int, Field(ge=1, le=3)], Annotated[int, Field(ge=1, le=3)]] = (1, 2)
    many: tuple[Annotated[int, Field(ge=1, le=3)], ...] = Field((1,), min_length=1)
    words: tuple[Literal["a", "b"], ...] = ()
    by_name: dict[str, Annotated[float, Field(ge=0, le=1)]] = {}
    by_pattern: dict[Annotated[str, StringConstraints(pattern="^x$")], int] = {}
    either: Literal["auto"] | PositiveFloat = "auto"
    inner: Inner = Inner()
    several: tuple[Inner, ...] = ()
    union: Inner | Other = Inner()


WORDS = {
    "count": ("whole number", "from 1 to 1,000,000"),
    "below": ("whole number", "from -1 to 9"),
    "odd": ("whole number or null", "from 1 to 5"),
    "rate": ("number", "greater than 0 and at most 0.5"),
    "part": ("number", "at least 0 and less than 1"),
    "least": ("number", "greater than 0"),
    "free": ("number", ""),
    "on": ("boolean", "true, false"),
    "text": ("string", ""),
    "folder": ("path or null", ""),
    "word": ("string", 'a, "b c"'),
    "one": ("string", "x"),
    "fold": ("whole number", "1, 2"),
    "pair": ("list of 2 whole numbers", "each from 1 to 3"),
    "many": ("list of whole numbers", "each from 1 to 3; 1 or more"),
    "words": ("list of strings", "each one of a, b"),
    "by_name": ("mapping of numbers", "each from 0 to 1"),
    "by_pattern": ("mapping of whole numbers", ""),
    "either": ("string or number", "auto, or greater than 0"),
    "inner": ("mapping", ""),
    "several": ("list of mappings", ""),
    "union": ("mapping", ""),
}


def at(*key: str | int) -> Shape:
    shape = shape_of(Everything).at(key)
    assert shape is not None
    return shape


@pytest.mark.parametrize(("name", "words"), WORDS.items())
def test_type_and_allowed_values_are_said_in_words(name: str, words: tuple[str, str]) -> None:
    assert (at(name).kind(), at(name).allowed()) == words


def test_the_words_of_all_types_are_tested() -> None:
    assert set(WORDS) == set(Everything.model_fields)


@pytest.mark.parametrize(
    ("key", "range_"),
    [
        (("pair", 1), "from 1 to 3"),
        (("many", 7), "from 1 to 3"),
        (("by_name", "whatever"), "from 0 to 1"),
        (("either",), "greater than 0"),
        (("inner", "rows"), "from 1 to 9"),
        (("several", 0, "rows"), "from 1 to 9"),
        (("union", "level"), ""),
    ],
)
def test_the_range_of_a_number_inside_is_found(key: tuple[Any, ...], range_: str) -> None:
    assert at(*key).range() == range_


def test_what_is_open_has_no_shape_and_no_keys() -> None:
    assert shape_of(Everything).at(("text", "x")) is None
    assert shape_of(Everything).at(("unknown",)) is None
    assert at("several", 0).keys() == ["rows"]
    assert at("union").keys() is None


def test_every_number_inside_is_found() -> None:
    found = {key for key, _ in shape_of(Everything).numbers()}
    assert {("count",), ("odd",), ("pair", 0), ("pair", 1), ("many", 0), ("by_name", "key"), ("fold",)} <= found
    assert {("inner", "rows"), ("several", 0, "rows"), ("union", "level")} <= found
    assert not {("on",), ("text",), ("word",)} & found


class Tree(BaseModel):
    size: PositiveInt = Field(le=9)
    below: Tree | None = None


def test_a_model_that_holds_itself_is_read_one_level_deep() -> None:
    size, below = shape_of(Tree).at(("size",)), shape_of(Tree).at(("below",))
    assert size is not None
    assert below is not None
    assert (size.range(), below.kind()) == ("from 1 to 9", "value or null")


def test_a_type_without_json_schema_leaves_everything_open() -> None:
    class Odd(BaseModel, arbitrary_types_allowed=True):
        thing: Annotated[Any, PlainValidator(lambda value: value)]
        other: BaseException

    assert shape_of(Odd).at(("other",)) is None
