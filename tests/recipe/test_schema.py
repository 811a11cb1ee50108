from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drcli.recipe.load import recipe_from_dict
from drcli.recipe.schema import Recipe
from drcli.recipe.text import spelled

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,8}", fullmatch=True)
POSITIVE = st.floats(1e-12, 1e6)
OPTIMIZERS = st.one_of(
    st.fixed_dictionaries({"name": st.just("sgd"), "lr": POSITIVE}, optional={"weight_decay": POSITIVE}),
    st.fixed_dictionaries(
        {"name": st.sampled_from(["adam", "adamw"]), "lr": POSITIVE},
        optional={"betas": st.lists(st.floats(0, 0.999), min_size=2, max_size=2), "eps": POSITIVE},
    ),
)
SCHEDULES = st.one_of(
    st.just({"name": "constant"}),
    st.fixed_dictionaries({"name": st.just("step"), "every": st.integers(1, 99)}, optional={"factor": POSITIVE}),
    st.fixed_dictionaries({"name": st.just("cosine")}, optional={"final": st.floats(0, 1)}),
)
METHODS = st.one_of(
    st.just({"method": "joint"}),
    st.fixed_dictionaries({"method": st.just("relearn")}, optional={"lambda": POSITIVE, "every": st.integers(1, 9)}),
)


@st.composite
def raw_recipes(draw: st.DrawFn) -> dict[str, Any]:
    """A valid recipe as plain data, some of its defaults left out."""
    methods = draw(st.dictionaries(NAMES.filter(lambda label: label != "all"), METHODS, min_size=1, max_size=3))
    modality = NAMES.filter(lambda m: "." not in m and m != "fusion")
    backbone = st.fixed_dictionaries({"backbone": st.just("small")}, optional={"width": st.integers(1, 64)})
    training = st.fixed_dictionaries(
        {"epochs": st.integers(1, 999), "optimizer": OPTIMIZERS},
        optional={
            "schedule": SCHEDULES,
            "clip_grad_norm": st.none() | POSITIVE,
            "deterministic": st.booleans(),
        },
    )
    root = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=12)
    return {
        "name": draw(NAMES),
        "dataset": {"name": "digits", "root": draw(root), "prepare": {"noise": draw(POSITIVE)}},
        "modalities": draw(st.dictionaries(modality, backbone, min_size=1, max_size=3)),
        "method": draw(st.sampled_from(sorted(methods))),
        "methods": methods,
        "training": draw(training),
        "seeds": draw(st.lists(st.integers(0, 2**62), min_size=1, max_size=3, unique=True)),
    }


@given(raw=raw_recipes())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
def test_a_recipe_survives_plain_data_json_and_yaml(fakes: None, raw: dict[str, Any]) -> None:
    recipe = recipe_from_dict(raw, where="raw")
    data = recipe.to_dict()
    assert recipe_from_dict(data, where="again") == recipe
    assert json.loads(json.dumps(data)) == data
    assert yaml.safe_load(spelled(data)) == data
    assert list(data["modalities"]) == list(raw["modalities"])


def test_the_recipe_of_a_run_has_one_method_and_one_seed(
    loaded: Callable[..., Recipe], valid: str, fakes: None
) -> None:
    run = loaded(valid, "seeds=[3, 4]").for_run("strong", 4)
    assert (run.method, list(run.methods), run.seeds) == ("strong", ["strong"], (4,))
    assert recipe_from_dict(run.to_dict(), where="run") == run
    with pytest.raises(KeyError):
        run.for_run("joint", 0)


def test_every_setting_is_in_the_plain_data_under_the_recipes_names(loaded: Callable[..., Recipe], valid: str) -> None:
    data = loaded(valid).to_dict()
    assert data["methods"]["strong"] == {"method": "relearn", "every": 20, "lambda": 10.0}
    assert data["diagnosis"]["lambda"] == 3.0
    assert data["fusion"] == {"name": "concat", "lr": None}
    assert data["training"]["optimizer"] == {
        "name": "sgd",
        "lr": 0.02,
        "momentum": 0.9,
        "weight_decay": 0.0001,
        "nesterov": False,
    }
    assert data["seeds"] == [0]
