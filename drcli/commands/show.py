"""`drcli show`: the resolved recipe, the origin of each value, and the groups of parameters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from drcli.data.format import INFO_FILE
from drcli.data.prepared import describe_dataset
from drcli.engine.assemble import prepare_settings, recipe_model
from drcli.errors import DrcliError
from drcli.names import METHODS
from drcli.recipe.load import load_source
from drcli.recipe.schema import Recipe
from drcli.recipe.shipped import find_recipe
from drcli.recipe.show import annotated_yaml


def show(recipe: str, overrides: Sequence[str]) -> str:
    """Return the resolved recipe as YAML text; comments at its end name the groups of parameters.

    Raises:
        RecipeError: the recipe is missing or not valid.
    """
    loaded, source = load_source(find_recipe(recipe), overrides, lambda found: [found.method])
    return annotated_yaml(loaded, source) + "".join(f"{line}\n" for line in _about_parameters(loaded))


def _about_parameters(recipe: Recipe) -> Iterator[str]:
    """Yield the groups of parameters with their sizes, and what each method changes."""
    yield "#"
    yield from (f"# {line}" for line in _groups(recipe))
    yield "#"
    yield "# What each method changes:"
    for label, block in recipe.methods.items():
        yield f"#   {label}: {METHODS.load(block.method).moved(block.settings)}"


def _groups(recipe: Recipe) -> Iterator[str]:
    root = recipe.dataset.root
    if not (root / INFO_FILE).is_file():
        yield f"Parameters: known once the dataset is prepared ({root / INFO_FILE} is missing)"
        return
    try:
        info = describe_dataset(root, name=recipe.dataset.name, settings=prepare_settings(recipe))
        model = recipe_model(recipe, tuple(recipe.modalities), info)
    except DrcliError as error:
        yield f"Parameters: {str(error).splitlines()[0]}"
        return
    yield "Parameters by group; re-learning changes only encoders:"
    for group, parameters in model.parameter_groups().items():
        what = f"encoder {recipe.modalities[group].backbone}" if group in recipe.modalities else recipe.fusion.name
        yield f"  {group}: {sum(parameter.numel() for parameter in parameters):,} ({what})"
