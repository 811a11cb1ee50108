from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from drcli.errors import RecipeError
from drcli.recipe.schema import Recipe
from drcli.recipe.source import Source, apply_overrides, parse_overrides, split_path


def applied(data: dict[str, Any], *items: str) -> Source:
    return apply_overrides(Source("x.yaml", data, {(): 1, ("a",): 1, ("a", "b"): 2}), parse_overrides(items))


@pytest.mark.parametrize(
    ("item", "path", "value"),
    [
        ("training.epochs=5", "training.epochs", 5),
        ("seeds=[0,1]", "seeds", [0, 1]),
        ("methods.joint={}", "methods.joint", {}),
        ("dataset.root=x=y", "dataset.root", "x=y"),
        ("a=1e-4", "a", 1e-4),
        ("a=", "a", None),
        ("a='5'", "a", "5"),
        ("a=yes", "a", "yes"),
        ("fusion={name: sum}", "fusion", {"name": "sum"}),
    ],
)
def test_a_value_is_yaml_on_one_line(item: str, path: str, value: Any) -> None:
    assert parse_overrides([item]) == [(path, value)]


@pytest.mark.parametrize(
    ("item", "problem"),
    [
        ("epochs", "has no =; write KEY=VALUE, such as training.epochs=5"),
        ("=3", "the path is empty; write KEY=VALUE, such as training.epochs=5"),
        ("a..b=3", "the path is empty; write KEY=VALUE, such as training.epochs=5"),
        ("a=[1", "not valid YAML: did not find expected ',' or ']'"),
        ("a=b: c", "must be a scalar, [a, list] or {a: block}; quote text that has ': ' or '- ' in it"),
        ("a=!!int 5", "the tag tag:yaml.org,2002:int is refused; write plain values"),
        ("a={b: 1, b: 2}", "given twice, first on line 1"),
    ],
)
def test_a_malformed_override_is_named(item: str, problem: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_overrides([item])
    assert str(caught.value) == f"override {item!r}: {problem}"


def test_all_malformed_overrides_are_named_at_once() -> None:
    with pytest.raises(RecipeError) as caught:
        parse_overrides(["epochs", "a=1", "b=]"])
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == [
        "override 'epochs'",
        "override 'b=]'",
    ]


def test_an_override_replaces_or_adds_and_knows_its_place() -> None:
    source = applied({"a": {"b": 1}}, "a.c.d={e: 2}", "a.b=3", "f=4")
    assert source.data == {"a": {"b": 3, "c": {"d": {"e": 2}}}, "f": 4}
    assert source.places == {
        (): 1,
        ("a",): 1,
        ("a", "b"): 0,
        ("a", "c"): 0,
        ("a", "c", "d"): 0,
        ("a", "c", "d", "e"): 0,
        ("f",): 0,
    }


def test_a_replaced_block_takes_its_lines_with_it() -> None:
    assert applied({"a": {"b": 1}}, "a=2").places == {(): 1, ("a",): 0}


def test_the_last_of_two_overrides_wins_and_the_data_stays_as_it_was() -> None:
    data = {"a": {"b": 1}}
    assert applied(data, "a.b=2", "a.b=3").data == {"a": {"b": 3}}
    assert data == {"a": {"b": 1}}


def test_an_empty_block_can_be_filled() -> None:
    assert applied({"a": None}, "a.b=2").data == {"a": {"b": 2}}


def test_a_key_with_dots_in_it_counts_as_one() -> None:
    data = {"methods": {"v1.5": {"every": 1}, "v1": {}}}
    assert split_path(data, "methods.v1.5.every") == ("methods", "v1.5", "every")
    assert split_path(data, "methods.v1.every") == ("methods", "v1", "every")


def test_a_path_through_a_value_is_reported_with_the_other_problems(refused: Callable[..., str], valid: str) -> None:
    assert refused(valid, "method.x=3", "training.epohcs=1", "training.optimizer.name=sdg") == (
        "some.yaml: 3 problems\n"
        "  command line  method.x = 3   cannot be set: method is relearn, not a mapping\n"
        "  command line  training.epohcs = 1   unknown key; known: optimizer, schedule, epochs, batch_size, "
        "eval_batch_size, accumulate, precision, channels_last, compile, fused, "
        "data, pairs, clip_grad_norm, rates, ema, deterministic. Did you mean epochs?\n"
        "  command line  training.optimizer.name = sdg   unknown optimizer; known: sgd, adam, adamw. "
        "Did you mean sgd?"
    )


def test_overrides_reach_every_block_of_a_recipe(loaded: Callable[..., Recipe], valid: str) -> None:
    recipe = loaded(
        valid,
        "dataset.root=elsewhere",
        "fusion.name=gated",
        "fusion.bias=false",
        "methods.relearn.lambda=7",
        "methods.joint.method=relearn",
        "modalities.audio.width=4",
        "seeds=[3, 4]",
        "training.schedule={name: step, every: 2}",
        "diagnosis.lambda=5",
    )
    assert recipe.dataset.root == Path("elsewhere")
    assert recipe.to_dict()["fusion"] == {"name": "gated", "lr": None, "bias": False}
    assert recipe.to_dict()["methods"]["relearn"] == {"method": "relearn", "every": 10, "lambda": 7.0}
    assert recipe.methods["joint"].method == "relearn"
    audio = recipe.to_dict()["modalities"]["audio"]
    assert (audio["backbone"], audio["width"]) == ("small", 4)
    assert recipe.seeds == (3, 4)
    assert recipe.to_dict()["training"]["schedule"] == {"name": "step", "every": 2, "factor": 0.1}
    assert recipe.diagnosis.lambda_ == 5.0
    assert loaded(valid, "fusion=gated").fusion.name == "gated"


def test_a_path_of_thousands_of_keys_is_refused_at_once() -> None:
    with pytest.raises(RecipeError) as caught:
        parse_overrides([".".join(["a"] * 2000) + "=1"])
    assert "a path of more than 32 keys; write KEY=VALUE, such as training.epochs=5" in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_value_of_any_depth_or_size_is_refused() -> None:
    for text in ("[" * 100_000, "[" + "1," * 30_000 + "1]", "- " * 50_000, "&a [*a]", "\udcff"):
        with pytest.raises(RecipeError) as caught:
            parse_overrides([f"a={text}"])
        assert len(str(caught.value)) < 400
