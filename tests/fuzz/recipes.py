"""Recipes: every text is a valid recipe, which reads back as itself, or one message."""

from __future__ import annotations

from pathlib import Path

from fuzz.mutation import SilentAcceptanceError, mutated, refused
from hypothesis import strategies as st

from drcli.errors import DrcliError
from drcli.recipe.load import load_recipe, recipe_from_dict
from drcli.recipe.shipped import shipped_recipes


def inputs() -> st.SearchStrategy[bytes]:
    """The shipped recipes with damage, and text of YAML's own characters."""
    valid = [path.read_bytes() for path in shipped_recipes().values()]
    odd = st.text(alphabet="{}[]&*!|>-?:,#'\"\n a1~<=%@`\\\t", max_size=80).map(str.encode)
    return st.one_of(mutated(valid), mutated(valid), odd)


def check(data: bytes, folder: Path) -> str:
    """Load the recipe."""
    path = folder / "recipe.yaml"
    path.write_bytes(data)
    try:
        recipe = load_recipe(path)
    except DrcliError as error:
        return refused(error)
    if recipe_from_dict(recipe.to_dict(), where="again").to_dict() != recipe.to_dict():
        raise SilentAcceptanceError("the recipe does not read back as itself")
    return "accepted"
