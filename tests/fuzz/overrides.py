"""KEY=VALUE of the command line over a shipped recipe."""

from __future__ import annotations

from pathlib import Path

from fuzz.mutation import SilentAcceptanceError, mutated, refused
from hypothesis import strategies as st

from drcli.errors import DrcliError
from drcli.recipe.load import load_recipe, recipe_from_dict
from drcli.recipe.shipped import find_recipe

VALID = (
    b"training.epochs=5",
    b"seeds=[0, 1]\nname=a",
    b"modalities.audio.weights=x.pt",
    b"corrupt={audio: {snr_db: 3}}",
    b"methods.ogm={alpha: 0.5}\nmethod=ogm",
    b"training.optimizer={name: adam, lr: 1e-3}",
)


def inputs() -> st.SearchStrategy[bytes]:
    """Overrides with damage, one per line."""
    key = st.lists(st.sampled_from(("training", "a", "", "modalities", "audio", "1", "seeds")), max_size=50).map(
        ".".join
    )
    value = st.text(alphabet="{}[]&*!|>-?:,#'\"\n a1~.e+", max_size=30)
    made = st.tuples(key, value).map(lambda pair: "=".join(pair).encode())
    return st.one_of(mutated(VALID), made)


def check(data: bytes, folder: Path) -> str:
    """Load the recipe with the overrides; what is accepted must read back as itself."""
    del folder
    try:
        recipe = load_recipe(find_recipe("digits"), data.decode("utf-8", "surrogateescape").split("\n"))
    except DrcliError as error:
        return refused(error)
    if recipe_from_dict(recipe.to_dict(), where="again").to_dict() != recipe.to_dict():
        raise SilentAcceptanceError("the recipe does not read back as itself")
    return "accepted"
