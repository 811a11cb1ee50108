"""`drcli show`: the resolved recipe with the origin of each value and the groups of parameters, or its keys explained.

`python -m drcli.commands.show > docs/recipe.md` writes what `drcli show RECIPE --explain` prints.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from rich.console import Group
from rich.table import Column, Table
from rich.text import Text

from drcli.commands.listing import REGISTRIES
from drcli.data.format import INFO_FILE
from drcli.data.prepared import describe_dataset
from drcli.engine.assemble import prepare_settings, recipe_model
from drcli.errors import DrcliError
from drcli.models.foreign import Foreign
from drcli.names import METHODS
from drcli.recipe.explain import Registries, Section, everything, sections, select, within
from drcli.recipe.load import load_recipe, load_source, only
from drcli.recipe.schema import Recipe
from drcli.recipe.shipped import find_recipe
from drcli.recipe.source import annotated_yaml

COLUMNS = ("key", "type", "default", "allowed", "what it does")

_HEADER = """\
# Keys of a recipe

Written by `python -m drcli.commands.show > docs/recipe.md`; `drcli show RECIPE --explain [KEY]` prints the
same for one recipe or one key. "required" has no default. `<modality>` and `<label>` stand for names that you
choose: the label of a method may be any name, and is the method's own name where `method` is left out. On the
command line a key is written with dots: `training.optimizer.lr=0.01`.
"""


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
        model = recipe_model(recipe, tuple(recipe.modalities), info.contents)
    except DrcliError as error:
        yield f"Parameters: {str(error).splitlines()[0]}"
        return
    yield "Parameters by group; re-learning changes only encoders:"
    for group, parameters in model.parameter_groups().items():
        what = f"encoder {recipe.modalities[group].backbone}" if group in recipe.modalities else recipe.fusion.name
        yield f"  {group}: {sum(parameter.numel() for parameter in parameters):,} ({what})"
        encoder = model.encoders[group] if group in recipe.modalities else None
        if isinstance(encoder, Foreign):
            for part, count, frozen in encoder.parts():
                yield f"    {part}: {count:,}{f', {frozen:,} of them frozen' if frozen else ''}"


def explain(recipe: str, arguments: Sequence[str]) -> Group:
    """Return the tables that explain a recipe's keys.

    Args:
        recipe: name or path.
        arguments: KEY=VALUE overrides, and the keys to explain; without keys all are explained.

    Raises:
        RecipeError: the recipe is missing or not valid.
        UsageError: a key is unknown.
    """
    loaded = load_recipe(find_recipe(recipe), [text for text in arguments if "=" in text], only())
    keys = [text for text in arguments if "=" not in text]
    return Group(*map(_table, _explained(loaded, keys)))


def _explained(recipe: Recipe, keys: Sequence[str]) -> list[Section]:
    registries = _registries()
    own = within(recipe, registries)
    if keys:
        known = list(sections(registries, own))
        return [section for key in keys for section in select(known, key)]
    general = everything(registries)
    return list(sections(registries, replace(general, datasets=own.datasets)))


def _registries() -> Registries:
    return Registries(**{kind: REGISTRIES[kind] for kind in ("datasets", "backbones", "fusions", "methods")})


def _table(section: Section) -> Group:
    title = Text(section.path or "top of the recipe", style="bold")
    title.append(f" with {section.choice}" if section.choice else "")
    title.append(f"\n{section.summary}", style="not bold italic")
    if not section.settings:
        return Group(title, Text("no settings\n"))
    out = Table(*(Column(name, overflow="fold") for name in COLUMNS), show_edge=False)
    for setting in section.settings:
        cells = (setting.name, setting.kind, setting.default, setting.allowed, setting.description)
        out.add_row(*map(Text, cells))
    return Group(title, out, Text())


def markdown(found: Iterable[Section]) -> str:
    """Return sections as one Markdown text."""
    return _HEADER + "".join(f"\n{line}" for section in found for line in _lines(section)) + "\n"


def _lines(section: Section) -> Iterator[str]:
    path = f"`{section.path}`" if section.path else "Top of the recipe"
    yield f"### {path} with `{section.choice}`" if section.choice else f"## {path}"
    yield ""
    yield _escaped(section.summary)
    yield ""
    if not section.settings:
        yield "No settings.\n"
        return
    yield f"| {' | '.join(COLUMNS)} |"
    yield f"|{'---|' * len(COLUMNS)}"
    for setting in section.settings:
        cells = [f"`{setting.name}`", setting.kind, setting.default, setting.allowed, setting.description]
        yield f"| {' | '.join(map(_escaped, cells))} |"
    yield ""


def _escaped(text: str) -> str:
    """Keep the bars of a text from ending a table's cell, and <name> from being taken for HTML."""
    text = text.replace("|", "\\|")
    return text if "`" in text else text.replace("<", "&lt;")


def main() -> None:
    """Print the reference of all keys as Markdown."""
    registries = _registries()
    sys.stdout.write(markdown(sections(registries, everything(registries))))


if __name__ == "__main__":
    main()
