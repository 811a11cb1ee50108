"""The runs below some folders, read back from their files: what every table and figure is made of.

Imports no torch, so that a report of many runs starts at once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from drcli.errors import DataError, DrcliError, UsageError
from drcli.files import read_json_lines
from drcli.methods import METHODS

RECIPE_FILE = "recipe.yaml"
_REMEDY = "restore it, or leave its folder out"
# libyaml reads a recipe about ten times faster; a wheel of PyYAML without it still works.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# What tables and figures rely on, as paths through the file.
_RECIPE_KEYS = (("name",), ("dataset", "name"), ("method",), ("methods",), ("modalities",), ("seeds",))
_SUMMARY_KEYS = (
    ("seed",),
    ("selection",),
    ("monitor",),
    ("seconds",),
    ("test", "accuracy"),
    ("test", "macro_f1"),
    ("test", "n"),
    ("unimodal",),
)


@dataclass(frozen=True)
class RunRecord:
    """One run directory.

    Attributes:
        folder: the run directory.
        recipe: the resolved recipe of its one label and one seed.
        environment: versions, device, threads, command.
        summary: test scores; None while the run is unfinished.
        modality: the modality of a unimodal run, else None.
    """

    folder: Path
    recipe: Mapping[str, Any]
    environment: Mapping[str, Any]
    summary: Mapping[str, Any] | None
    modality: str | None

    @property
    def recipe_name(self) -> str:
        """Name of the recipe, which is also the folder of its runs."""
        return str(self.recipe["name"])

    @property
    def dataset(self) -> str:
        """Name of the dataset."""
        return str(self.recipe["dataset"]["name"])

    @property
    def label(self) -> str:
        """Label of the method in the recipe."""
        return str(self.recipe["method"])

    @property
    def method(self) -> str:
        """Name of the method in the registry; a label may be another."""
        return str(self.recipe["methods"][self.label].get("method", self.label))

    @property
    def name(self) -> str:
        """Name in tables: the label, or "label:modality" where it trains one modality."""
        return self.label if self.modality is None else f"{self.label}:{self.modality}"

    @property
    def seed(self) -> int:
        """The seed."""
        return int(self.recipe["seeds"][0])

    def epochs(self) -> list[dict[str, Any]]:
        """Return the lines of metrics.jsonl, one an epoch.

        Raises:
            DataError: the file is damaged.
        """
        return _lines(self.folder / "metrics.jsonl")

    def events(self) -> list[dict[str, Any]]:
        """Return the lines of events.jsonl, one a diagnosis.

        Raises:
            DataError: the file is damaged.
        """
        return _lines(self.folder / "events.jsonl")

    def outputs(self) -> dict[str, NDArray[Any]] | None:
        """Return what the model gave for the N rows of the test split, or None where it was not kept.

        Arrays: `labels` (N,), `weight` (N,) one over the draws of the row's sample, `logits` (N, C),
        `classes` (C,), and `features_<modality>` (N, D) for each modality.

        Raises:
            DataError: the file is damaged.
        """
        path = self.folder / "test_outputs.npz"
        if not path.exists():
            return None
        try:
            # Opened here: numpy leaves a path open when what it holds is no archive.
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
                return {name: stored[name] for name in stored.files}
        except Exception as error:
            raise DataError(f"{path}: damaged ({error}); {_REMEDY}") from error


def collect(folders: Iterable[Path]) -> list[RunRecord]:
    """Return the runs at or below the folders, by recipe, method (in the registry's order), label, modality, seed.

    Raises:
        UsageError: a folder holds no run, or two runs are of the same recipe, label, modality and seed.
        DataError: a file of a run is damaged or lacks what it should hold.
    """
    found: dict[Path, Path] = {}
    for folder in folders:
        paths = sorted(folder.rglob(RECIPE_FILE))
        if not paths:
            raise UsageError(f"{folder}: no run here or below; give the folders that `drcli train` wrote to")
        found |= {path.parent.resolve(): path.parent for path in paths}
    order = {method: place for place, method in enumerate(METHODS.names())}
    runs = sorted(map(_read_run, found.values()), key=lambda run: _place(run, order))
    _refuse_doubles(runs)
    return runs


def by_recipe(runs: Iterable[RunRecord]) -> dict[str, list[RunRecord]]:
    """Return the runs by the name of their recipe, order kept."""
    return _grouped(runs, lambda run: run.recipe_name)


def by_name(runs: Iterable[RunRecord]) -> dict[str, list[RunRecord]]:
    """Return the runs of one recipe by their name in tables, order kept."""
    return _grouped(runs, lambda run: run.name)


def _grouped(runs: Iterable[RunRecord], key: Callable[[RunRecord], str]) -> dict[str, list[RunRecord]]:
    groups: dict[str, list[RunRecord]] = {}
    for run in runs:
        groups.setdefault(key(run), []).append(run)
    return groups


def _place(run: RunRecord, order: Mapping[str, int]) -> tuple[str, int, str, int, int]:
    modalities = list(run.recipe["modalities"])
    modality = modalities.index(run.modality) if run.modality in modalities else 0
    return run.recipe_name, order.get(run.method, len(order)), run.label, modality, run.seed


def _refuse_doubles(runs: Sequence[RunRecord]) -> None:
    seen: dict[tuple[str, str, int], RunRecord] = {}
    for run in runs:
        other = seen.setdefault((run.recipe_name, run.name, run.seed), run)
        if other is not run:
            raise UsageError(
                f"{run.folder}: {run.recipe_name} {run.name} seed {run.seed} is in {other.folder} already; "
                "report the folders apart, or train one of them with another name=NAME"
            )


def _read_run(folder: Path) -> RunRecord:
    recipe = _mapping(folder / RECIPE_FILE, lambda text: yaml.load(text, Loader=_LOADER), _RECIPE_KEYS)  # noqa: S506
    _check_method(recipe, folder / RECIPE_FILE)
    environment = _mapping(folder / "environment.json", json.loads, ())
    path = folder / "summary.json"
    summary = _mapping(path, json.loads, _SUMMARY_KEYS) if path.exists() else None
    modality = _modality_of_folder(folder, recipe) if summary is None else summary.get("modality")
    return RunRecord(folder, recipe, environment, summary, modality)


def _check_method(recipe: Mapping[str, Any], path: Path) -> None:
    """A run's recipe names one seed, and a block for the method that it trained."""
    blocks, seeds = recipe["methods"], recipe["seeds"]
    if not isinstance(blocks, dict) or not isinstance(blocks.get(recipe["method"]), dict):
        raise DataError(f"{path}: damaged (methods has no block {recipe['method']!r}); {_REMEDY}")
    if not isinstance(seeds, list) or len(seeds) != 1 or not isinstance(seeds[0], int):
        raise DataError(f"{path}: damaged (seeds must hold the one seed of the run, not {seeds!r}); {_REMEDY}")
    if not isinstance(recipe["modalities"], dict):
        raise DataError(f"{path}: damaged (modalities is no block); {_REMEDY}")


def _modality_of_folder(folder: Path, recipe: Mapping[str, Any]) -> str | None:
    """The modality of an unfinished run: only its folder, `<label>/<modality>/seed<k>`, tells."""
    parent = folder.resolve().parent
    return parent.name if parent.name in recipe["modalities"] and parent.parent.name == recipe["method"] else None


def _mapping(path: Path, parse: Callable[[str], Any], keys: Sequence[tuple[str, ...]]) -> dict[str, Any]:
    """Read a file that holds a mapping with at least these keys."""
    try:
        found = parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise DataError(f"{path}: damaged ({error}); {_REMEDY}") from error
    for key in keys:
        block = found
        for part in key:
            if not isinstance(block, dict) or part not in block:
                raise DataError(f"{path}: damaged (no {'.'.join(key)}); {_REMEDY}")
            block = block[part]
    if not isinstance(found, dict):
        raise DataError(f"{path}: damaged (no block of keys); {_REMEDY}")
    return found


def _lines(path: Path) -> list[dict[str, Any]]:
    try:
        return read_json_lines(path)
    except DrcliError as error:
        raise DataError(str(error)) from error
