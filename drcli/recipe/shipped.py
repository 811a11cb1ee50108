"""The recipes and targets that come with drcli, and how the command line names their files.

Imports neither pydantic nor yaml: `drcli ls` and `--help` use it.
"""

from __future__ import annotations

from pathlib import Path

from drcli.errors import RecipeError
from drcli.registry import known

_PACKAGE = Path(__file__).resolve().parent.parent


def shipped_recipes() -> dict[str, Path]:
    """Return the recipes that come with drcli, by name, in alphabetical order."""
    return {path.stem: path for path in sorted(_folder().glob("*.yaml"))}


def find_recipe(text: str) -> Path:
    """Return the file that RECIPE means: a path if it has a slash or ends in .yaml, else a shipped recipe.

    Raises:
        RecipeError: there is no such file, or no shipped recipe of that name (the nearest is offered).
    """
    if "/" in text or text.endswith(".yaml"):
        return _existing(Path(text))
    recipes = shipped_recipes()
    if text not in recipes:
        if _is_file(Path(f"{text}.yaml")):
            raise RecipeError(
                f"unknown recipe {text!r}: a path needs a slash or ends in .yaml. Did you mean {text}.yaml?"
            )
        raise RecipeError(f"unknown recipe {text!r}; {known(text, recipes)} A path needs a slash or ends in .yaml.")
    return recipes[text]


def shipped_targets() -> dict[str, Path]:
    """Return the tables and figures that `drcli reproduce` knows, by name, in alphabetical order."""
    return {path.stem: path for path in sorted((_folder() / "tables").glob("*.yaml"))}


def find_target(text: str) -> Path:
    """Return the file of a target: a path if it has a slash or ends in .yaml, else a shipped one.

    Raises:
        RecipeError: there is no such file, or no shipped target of that name (the nearest is offered).
    """
    targets = shipped_targets()
    if "/" in text or text.endswith(".yaml"):
        path = Path(text)
        if not path.is_file():
            raise RecipeError(f"{path}: no such file; targets that come with drcli need no path: {known('', targets)}")
        return path
    if text not in targets:
        raise RecipeError(f"reproduce {text}: unknown table or figure; {known(text, [*targets, 'all'])}")
    return targets[text]


def _existing(path: Path) -> Path:
    if not _is_file(path):
        names = known(path.stem, shipped_recipes())
        raise RecipeError(f"{path}: no such recipe file. Recipes that come with drcli need no path; {names}")
    return path


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name longer than the file system takes
        return False


def _folder() -> Path:
    """The recipes inside an installed package, or beside the package in a checkout."""
    installed = _PACKAGE / "recipes"
    return installed if installed.is_dir() else _PACKAGE.parent / "recipes"
