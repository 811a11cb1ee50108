"""`drcli show`: the resolved recipe, each value with its origin, without running anything."""

from __future__ import annotations

from collections.abc import Sequence

from drcli.recipe.load import load_source
from drcli.recipe.shipped import find_recipe
from drcli.recipe.show import annotated_yaml


def show(recipe: str, overrides: Sequence[str]) -> str:
    """Return the resolved recipe as YAML text.

    Raises:
        RecipeError: the recipe is missing or not valid.
    """
    loaded, source = load_source(find_recipe(recipe), overrides)
    return annotated_yaml(loaded, source)
