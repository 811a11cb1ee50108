"""What is searched for a method, and how values are drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel

from drcli.bases import SEARCH, Search
from drcli.errors import RecipeError
from drcli.names import METHODS
from drcli.recipe.load import load_recipe
from drcli.recipe.schema import Recipe
from drcli.recipe.shape import schema_of
from drcli.recipe.shipped import find_recipe, shipped_recipes
from drcli.relearning.settings import RelearnSettings
from drcli.tuning.search import Choice, Range, Sampler, Space, Told, draw, space_of, with_values

pytest.importorskip("optuna", reason="Optuna is not installed: pip install 'drcli[tune]'")

Make = Callable[..., Recipe]
SPACE: Space = {"lr": Range(1e-3, 1.0, log=True), "n": Range(1, 9, whole=True), "way": Choice(("a", "b", "c"))}


def ranges(model: type[BaseModel]) -> dict[str, Any]:
    return {name: schema[SEARCH] for name, schema in schema_of(model)["properties"].items() if SEARCH in schema}


# The ranges that methods declare


@pytest.mark.parametrize("name", [*METHODS.names(), "relearn:"])
def test_both_ends_of_a_range_are_allowed_and_the_default_is_within(name: str) -> None:
    model = RelearnSettings if name == "relearn:" else METHODS.load(name).Settings
    plain = model().model_dump(by_alias=True)
    for key, said in ranges(model).items():
        for end in (said["low"], said["high"]):
            model.model_validate({key: int(end) if isinstance(plain[key], int) else end})
        assert plain[key] is None or said["low"] <= plain[key] <= said["high"], key
        assert said["source"]
        assert said["when"].keys() <= plain.keys()


def test_most_methods_with_numbers_declare_a_range() -> None:
    without = [name for name in METHODS.names() if not ranges(METHODS.load(name).Settings)]
    assert without == ["joint", "unimodal", "ensemble", "uni_pretrained", "mla", "pdf", "tcmax"] or len(without) < 10


@pytest.mark.parametrize(("low", "high", "log"), [(1, 1, False), (2, 1, False), (0, 1, True), (-1, 1, True)])
def test_what_is_no_range_is_refused_where_it_is_declared(low: float, high: float, log: bool) -> None:
    with pytest.raises(ValueError, match="no range"):
        Search(low, high, log=log)


# What is searched


def of(toy_recipe: Make, label: str, **blocks: Any) -> Space:
    methods = {"joint": {}, "ogm": {}, "plus": {"method": "ogm", "boost": 4.0}, "smv": {}, "g_blending": {}}
    methods["mine"] = {"method": "multi_loss", "relearn": {"every": 2}}
    return space_of(toy_recipe(method="joint", methods=methods, **blocks), label)


def test_without_a_block_it_is_the_learning_rate_and_the_methods_own_numbers(toy_recipe: Make) -> None:
    lr = {"training.optimizer.lr": Range(0.005, 0.5, log=True)}  # a tenth of 0.05 to ten times it
    assert of(toy_recipe, "joint") == lr
    # `boost` is null: gradients are reduced, not raised.
    assert of(toy_recipe, "ogm") == {**lr, "alpha": Range(0.1, 0.8)}
    assert of(toy_recipe, "plus") == {**lr, "alpha": Range(0.1, 0.8), "boost": Range(1, 10, log=True)}
    # Its share and alpha are for level: modality alone.
    assert of(toy_recipe, "smv") == lr
    assert of(toy_recipe, "g_blending") == {**lr, "super_epoch": Range(2, 20, log=True, whole=True)}
    assert of(toy_recipe, "mine") == {
        **lr,
        "weight": Range(0.1, 10, log=True),
        "relearn.lambda": Range(0, 10),
        "relearn.every": Range(5, 30, whole=True),
    }


def test_the_block_adds_changes_and_removes(toy_recipe: Make) -> None:
    optimizer = {"lr": {"low": 0.01, "high": 0.02}, "weight_decay": {"low": 1e-6, "high": 1e-2, "log": True}}
    search = {
        "training": {"optimizer": optimizer, "batch_size": [16, 32]},
        "methods": {"ogm": {"alpha": None, "tensors": ["conv4d", "all"]}, "plus": {"alpha": {"low": 0.2, "high": 1}}},
    }
    common = {
        "training.optimizer.lr": Range(0.01, 0.02),
        "training.optimizer.weight_decay": Range(1e-6, 1e-2, log=True),
        "training.batch_size": Choice((16, 32)),
    }
    assert of(toy_recipe, "joint", search=search) == common
    assert of(toy_recipe, "ogm", search=search) == {**common, "tensors": Choice(("conv4d", "all"))}
    assert of(toy_recipe, "plus", search=search)["alpha"] == Range(0.2, 1)
    assert "training.optimizer.lr" not in of(
        toy_recipe, "joint", search={"training": {"optimizer": {"lr": None}, "batch_size": [16, 32]}}
    )


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ({"training": {"optimizer": {"lrr": [0.1, 0.2]}}}, "search: joint has no training.optimizer.lrr; leave it out"),
        ({"training": {"batch_size": [16, 0]}}, "methods.joint.training.batch_size = 0 +must be from 1 to 1,000,000"),
        ({"training": {"optimizer": {"momentum": {"low": 0, "high": 1}}}}, "momentum = 1 +must be .* less than 1"),
    ],
)
def test_what_no_trial_could_have_is_refused_before_the_first(
    search: dict[str, Any], message: str, toy_recipe: Make
) -> None:
    with pytest.raises(RecipeError, match=message):
        of(toy_recipe, "joint", search=search)


def test_rates_of_parts_and_slopes_of_modalities_are_searched_where_the_block_names_them(toy_recipe: Make) -> None:
    wide = {"low": 1e-4, "high": 0.1, "log": True}
    search = {
        "training": {"rates": {"audio": wide}, "ema": [0.9, 0.99]},
        "methods": {"joint": {"relearn": {"lambda": {"visual": {"low": 0, "high": 9}}}}},
    }
    methods = {"joint": {"relearn": {"lambda": {"audio": 3.0, "visual": 1.0}}}}
    recipe = toy_recipe(method="joint", methods=methods, search=search)
    space = space_of(recipe, "joint")
    assert "relearn.lambda" not in space
    assert space["training.rates.audio"] == Range(1e-4, 0.1, log=True)
    assert space["relearn.lambda.visual"] == Range(0, 9)
    assert space["training.ema"] == Choice((0.9, 0.99))
    trial = with_values(recipe, "joint", {"training.rates.audio": 0.01, "relearn.lambda.visual": 2.5})
    assert trial.for_run("joint", 0).part_rates() == {"audio": 0.01, "visual": 0.05, "fusion": 0.05}
    assert trial.methods["joint"].relearn.lambda_ == {"audio": 3.0, "visual": 2.5}  # type: ignore[union-attr]
    with pytest.raises(RecipeError, match=r"modalities\.audio\.lr.*name it as search\.training\.rates\.audio"):
        toy_recipe(search={"modalities": {"audio": {"lr": wide}}})


def test_a_trial_is_the_recipe_of_one_method_with_its_values(toy_recipe: Make) -> None:
    recipe = toy_recipe(method="joint", methods={"joint": {}, "ogm": {}})
    trial = with_values(recipe, "ogm", {"alpha": 0.7, "training.optimizer.lr": 0.2})
    run = trial.for_run("ogm", 100)
    assert (run.to_dict()["methods"]["ogm"]["alpha"], run.training.optimizer.lr) == (0.7, 0.2)
    assert list(trial.methods) == ["ogm"]
    assert recipe.for_run("ogm", 100).training.optimizer.lr == 0.05


# Drawing


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_trial_is_drawn_the_same_again_and_otherwise_than_another(sampler: Sampler) -> None:
    first = draw(SPACE, sampler, ("joint", 1), [])
    assert first == draw(SPACE, sampler, ("joint", 1), [])
    others = [draw(SPACE, sampler, names, []) for names in (("joint", 2), ("ogm", 1))]
    assert first not in others
    assert others[0] != others[1]


def test_values_are_within_their_ranges_and_as_short_as_a_recipe_has_them() -> None:
    drawn = [draw(SPACE, "random", ("joint", number), []) for number in range(1, 40)]
    rates = [float(values["lr"]) for values in drawn]
    assert all(1e-3 <= rate <= 1 and float(f"{rate:.3g}") == rate for rate in rates)
    assert {type(values["n"]) for values in drawn} == {int}
    assert {1, 9} < {values["n"] for values in drawn} <= set(range(1, 10))
    assert {values["way"] for values in drawn} == {"a", "b", "c"}
    below = sum(rate < 1e-3**0.5 for rate in rates)  # half of the range on a log scale
    assert 10 <= below <= 29


def test_a_rounded_value_stays_within_its_range() -> None:
    assert Range(0.12344, 0.5).rounded(0.12345) == 0.12344
    assert Range(0.1, 0.98765).rounded(0.98764) == 0.98765


def test_tpe_learns_from_what_it_is_told_and_random_does_not() -> None:
    """Twenty trials, of which those near 0.1 did well: TPE draws nearer to it than to the rest of the range."""
    space: Space = {"lr": Range(1e-3, 1.0, log=True)}
    told = [Told({"lr": 0.1 * 1.05**i}, 0.9) for i in range(-4, 5)]
    told += [Told({"lr": 1e-3 * 1.3**i}, 0.1) for i in range(12)]
    drawn = [float(draw(space, "tpe", ("joint", n), told)["lr"]) for n in range(1, 8)]
    assert sorted(drawn)[3] > 0.03
    assert draw(space, "random", ("joint", 1), told) == draw(space, "random", ("joint", 1), [])


def test_tpe_is_told_of_the_recipes_own_value_even_where_it_is_out_of_its_range() -> None:
    space: Space = {"lr": Range(0.2, 1.0), "p": Range(0, 1)}
    assert set(draw(space, "tpe", ("joint", 1), [Told({"lr": 0.05, "p": 0.5}, 0.4)])) == {"lr", "p"}


@pytest.mark.slow
@pytest.mark.parametrize("name", shipped_recipes())
def test_every_method_of_a_shipped_recipe_can_be_tuned(name: str) -> None:
    recipe = load_recipe(find_recipe(name))
    for label in recipe.methods:
        found = space_of(recipe, label)
        assert "training.optimizer.lr" in found
        assert draw(found, "random", (label, 1), []).keys() == found.keys()
