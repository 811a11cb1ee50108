"""Which data a benchmark trains on: a recipe's own, or made-up arrays of the size of CREMA-D."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from benchmarks.generated import CREMAD_CLIPS, check_room, cremad_like, make
from drcli.commands.train import open_or_prepare
from drcli.data.prepared import PreparedDataset
from drcli.engine.assemble import prepare_settings
from drcli.recipe.load import load_recipe
from drcli.recipe.schema import Recipe
from drcli.recipe.shipped import find_recipe

CREMAD_SIZE = "cremad-size"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Let a parser ask for the data."""
    parser.add_argument("--dataset", default="digits", help=f"a recipe, or {CREMAD_SIZE}")
    parser.add_argument("--clips", type=int, default=CREMAD_CLIPS["train"], help=f"training clips of {CREMAD_SIZE}")
    parser.add_argument("--scratch", type=Path, help="folder for generated and exported files")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="fields of the recipe")


@contextmanager
def scratch(asked: argparse.Namespace) -> Iterator[Path]:
    """A folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(dir=asked.scratch) as folder:
        yield Path(folder)


def data_of(asked: argparse.Namespace, folder: Path, *, times: int = 1) -> tuple[list[str], PreparedDataset]:
    """Return the recipe's overrides and the dataset; a made-up one goes into `folder`.

    Args:
        asked: what `add_options` asks for.
        folder: an existing folder.
        times: how often the disk must have room for made-up arrays.

    Raises:
        UsageError: it has not.
    """
    if asked.dataset != CREMAD_SIZE:
        recipe = load_recipe(find_recipe(asked.dataset), asked.overrides)
        return list(asked.overrides), open_or_prepare(recipe, Console(stderr=True))
    root = folder / "arrays"
    overrides = [f"dataset.root={root}", *asked.overrides]
    settings = prepare_settings(load_recipe(find_recipe("cremad"), overrides))
    made = cremad_like(asked.clips, settings["audio"], settings)
    check_room(folder, times * made.nbytes, "take fewer with --clips, or another folder with --scratch")
    return overrides, make(root, made)


def joint_run(dataset: str, overrides: Sequence[str], fields: Sequence[str] = ()) -> Recipe:
    """Return the recipe of a joint run with these fields of `training`."""
    path = find_recipe("cremad" if dataset == CREMAD_SIZE else dataset)
    recipe = load_recipe(path, [*overrides, *(f"training.{field}" for field in fields)])
    return recipe.for_run("joint", recipe.seeds[0])
