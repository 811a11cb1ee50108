"""Which data a benchmark trains on: a recipe's own, or made-up arrays of the size of CREMA-D."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from benchmarks.generated import CREMAD_CLIPS, Made, check_room, cremad_like, make
from drcli.commands.train import open_or_prepare
from drcli.data.format import INFO_FILE
from drcli.data.prepared import PreparedDataset, open_dataset
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
    add_arrays(parser)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="fields of the recipe")


def add_arrays(parser: argparse.ArgumentParser) -> None:
    """Let a parser ask where made-up arrays are kept."""
    parser.add_argument("--arrays", type=Path, help="folder that keeps made-up arrays for the next benchmark")


def root_of(asked: argparse.Namespace, folder: Path, audio: str) -> Path:
    """Return the folder of made-up arrays with a kind of spectrogram: in a temporary one, or that which keeps them."""
    return (asked.arrays or folder) / f"cremad-size-{audio}"


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
    settings = prepare_settings(load_recipe(find_recipe("cremad"), asked.overrides))
    root = root_of(asked, folder, settings["audio"])
    overrides = [f"dataset.root={root}", *asked.overrides]
    made = cremad_like(asked.clips, settings["audio"], settings)
    return overrides, made_or_kept(root, made, folder, times=times)


def made_or_kept(root: Path, made: Made, folder: Path, *, times: int = 1) -> PreparedDataset:
    """Return made-up arrays in `root`: those that are there if they are of this size, else new ones.

    Args:
        root: where the arrays are, or will be; what else is there goes, such as arrays that were not finished.
        made: what they hold.
        folder: an existing folder, on the disk that must have room.
        times: how often it must have room for them.

    Raises:
        UsageError: it has not.
    """
    if (root / INFO_FILE).is_file():
        kept = open_dataset(root, name=made.name, settings=dict(made.settings))
        if dict(kept.info.rows) == dict(made.rows):
            check_room(folder, (times - 1) * made.nbytes, "take fewer with --clips, or another folder with --scratch")
            return kept
    shutil.rmtree(root, ignore_errors=True)
    check_room(folder, times * made.nbytes, "take fewer with --clips, or another folder with --scratch")
    root.parent.mkdir(parents=True, exist_ok=True)
    return make(root, made)


def joint_run(dataset: str, overrides: Sequence[str], fields: Sequence[str] = ()) -> Recipe:
    """Return the recipe of a joint run with these fields of `training`."""
    path = find_recipe("cremad" if dataset == CREMAD_SIZE else dataset)
    recipe = load_recipe(path, [*overrides, *(f"training.{field}" for field in fields)])
    return recipe.for_run("joint", recipe.seeds[0])
