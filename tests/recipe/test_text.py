from __future__ import annotations

import math
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from drcli.recipe.source import parse_value
from drcli.recipe.text import dotted, excerpt, spelled, walk

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Zl", "Zp"]))
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(PLAIN)
def test_spelled_values_read_back_in_yaml_1_1_and_1_2(value: Any) -> None:
    assert parse_value(spelled(value)) == value
    assert yaml.safe_load(spelled(value)) == value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e-05, "1.0e-05"),
        (1.5e-05, "1.5e-05"),
        (0.02, "0.02"),
        (math.inf, ".inf"),
        (-math.inf, "-.inf"),
        (math.nan, ".nan"),
        (True, "true"),
        (None, "null"),
        ("data/x", "data/x"),
        ("5", '"5"'),
        ("Yes", '"Yes"'),
        ("a: b", '"a: b"'),
        ((1, "a"), "[1, a]"),
    ],
)
def test_values_are_spelled_as_yaml(value: Any, text: str) -> None:
    assert spelled(value) == text


def test_keys_are_dotted_and_odd_ones_quoted() -> None:
    assert dotted(("training", "optimizer", "betas", 1)) == "training.optimizer.betas[1]"
    assert dotted(("a b", "c\n")) == '"a b"."c\\n"'


def test_long_and_unprintable_values_are_shortened_and_escaped() -> None:
    assert excerpt("x" * 100) == "x" * 45 + "..."
    assert excerpt("\ud800") == '"\\ud800"'


def test_a_walk_visits_blocks_before_what_they_hold() -> None:
    assert list(walk({"a": [1, {"b": 2}]})) == [
        ((), {"a": [1, {"b": 2}]}),
        (("a",), [1, {"b": 2}]),
        (("a", 0), 1),
        (("a", 1), {"b": 2}),
        (("a", 1, "b"), 2),
    ]
