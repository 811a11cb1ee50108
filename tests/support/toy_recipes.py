"""Recipes over "toy": of any method as the contract of methods tries it, and of other encoders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from methods.test_contract import CASES, TWO_EPOCHS, Subject

from drcli.recipe.load import recipe_from_dict
from drcli.recipe.schema import Recipe


def two_epochs(name: str, made: Mapping[str, Any], **fields: Any) -> Recipe:
    """Return the recipe of a method over "toy", with some fields of `training`."""
    blocks = {
        "method": name,
        "methods": {name: Subject(name).settings},
        "fusion": CASES[name].fusion,
        "training": {**TWO_EPOCHS, **fields},
    }
    return recipe_from_dict({**made, **blocks}, where="the test's recipe")


def encoded(made: Mapping[str, Any], encoder: Mapping[str, Any], **blocks: Any) -> Recipe:
    """Return a recipe over "toy" with another encoder for every modality."""
    encoders = {m: dict(encoder) for m in made["modalities"]}
    return recipe_from_dict({**made, "modalities": encoders, **blocks}, where="the test's recipe")
