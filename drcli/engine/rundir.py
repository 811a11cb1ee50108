"""The run directory: what a run keeps, and whether it is still the same run.

recipe.yaml        the resolved recipe of this run; itself a recipe
environment.json   versions, device, threads, fingerprint of the data
metrics.jsonl      one line an epoch
events.jsonl       one line a diagnosis
checkpoint.pt      the selected epoch
last.pt            the last finished epoch, for resuming
test_outputs.npz   the selected epoch's logits and features of the test split
summary.json       test scores; written last
tensorboard/       the same curves as event files
"""

from __future__ import annotations

import hashlib
import inspect
import io
import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import yaml

from drcli import __version__
from drcli.errors import DataError, RecipeError
from drcli.files import append_json_line, parse_yaml, read_json_lines, write_atomic, write_json
from drcli.names import METHODS
from drcli.recipe.schema import Recipe
from drcli.recipe.show import differences

if TYPE_CHECKING:
    from drcli.engine.outputs import SplitOutputs

PACKAGES = ("torch", "numpy", "scikit-learn", "scipy")


STARTING_OVER = "delete the folder, or train with --fresh, to start over; or choose another --out, or name=NAME"


class RunDirectory:
    """Files of one run.

    Args:
        folder: the run directory; it must exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.recipe = folder / "recipe.yaml"
        self.environment = folder / "environment.json"
        self.metrics = folder / "metrics.jsonl"
        self.events = folder / "events.jsonl"
        self.checkpoint = folder / "checkpoint.pt"
        self.last = folder / "last.pt"
        self.outputs = folder / "test_outputs.npz"
        self.summary = folder / "summary.json"
        self.tensorboard = folder / "tensorboard"

    def clear(self) -> None:
        """Remove everything but the lock.

        What says which run this is goes last: killed before, the rest is not taken for another recipe's.
        """
        for path in sorted(self.folder.iterdir(), key=lambda path: path in {self.recipe, self.environment}):
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != ".lock":
                path.unlink()

    def sweep(self) -> None:
        """Remove the files that a killed process was still writing."""
        for path in self.folder.glob(".*.tmp"):
            path.unlink()

    def claim(self, recipe: Recipe, fingerprint: str, device: torch.device, *, devices: int = 1) -> None:
        """Write down what run this is, or check that it is the one that is here already.

        What a run has left that was stopped in its first epoch is removed.

        Args:
            recipe: of the run.
            fingerprint: of the data.
            device: where it is trained.
            devices: how many processes train it together.

        Raises:
            RecipeError: another recipe was trained here; the differences are shown.
            DataError: other data was used here.
        """
        if self.check(recipe, fingerprint):
            return
        if self.recipe.exists():  # a run that has finished no epoch has nothing to lose
            self.clear()
        text = yaml.safe_dump(recipe.to_dict(), sort_keys=False)
        write_json(self.environment, {**environment(fingerprint, device, devices), "method_source": source_of(recipe)})
        write_atomic(self.recipe, text.encode())

    def check(self, recipe: Recipe, fingerprint: str) -> bool:
        """Return whether this run has finished an epoch here already.

        Raises:
            RecipeError: another recipe was trained here; the differences are shown.
            DataError: other data was used here, or the files are damaged.
        """
        if not self._has_epochs():
            return False
        changed = self._differences(recipe)
        if changed:
            lines = "\n".join(f"  {line}" for line in changed)
            raise RecipeError(f"{self.folder}: a run of another recipe is here; {STARTING_OVER}\n{lines}")
        used = _read(self.environment, json.loads).get("dataset_fingerprint")
        if used != fingerprint:
            raise DataError(f"{self.folder}: this run was started on other data than the recipe's now; {STARTING_OVER}")
        return True

    def _has_epochs(self) -> bool:
        return self.recipe.exists() and (self.last.exists() or self.summary.exists())

    def is_finished(self, recipe: Recipe) -> bool:
        """Return whether this recipe's run has its test scores here."""
        if not (self.summary.exists() and self.recipe.exists()):
            return False
        return not self._differences(recipe)

    def _differences(self, recipe: Recipe) -> list[str]:
        """Lines on what the recipe that was trained here has otherwise."""
        return differences(without_root(_read(self.recipe, parse_yaml)), without_root(recipe.to_dict()))

    def source_changed(self, recipe: Recipe) -> bool:
        """Return whether the file of the method is another one than when this run was begun."""
        return _read(self.environment, json.loads).get("method_source", "") not in {"", source_of(recipe)}

    def claim_weights(self, digests: Mapping[str, str]) -> None:
        """Write down which pre-trained weights the run starts from, or check that they are the same.

        Args:
            digests: digest of the weights by modality.

        Raises:
            DataError: the run was started from other weights.
        """
        there = _read(self.environment, json.loads)
        if "weights" not in there:
            write_json(self.environment, {**there, "weights": dict(digests)})
        elif there["weights"] != dict(digests):
            raise DataError(f"{self.folder}: this run was started from other pre-trained weights; {STARTING_OVER}")

    def truncate(self, epoch: int) -> None:
        """Drop the log lines of `epoch` and later: the epochs that a resumed run does again."""
        for path in (self.metrics, self.events):
            kept = [line for line in read_json_lines(path) if line["epoch"] < epoch]
            write_atomic(path, "".join(json.dumps(line) + "\n" for line in kept).encode())

    def log_epoch(self, record: Mapping[str, Any]) -> None:
        """Append a line to metrics.jsonl."""
        append_json_line(self.metrics, record)

    def log_event(self, event: Mapping[str, Any]) -> None:
        """Append a line to events.jsonl."""
        append_json_line(self.events, event)

    def count_events(self, kind: str) -> int:
        """How many events of a kind events.jsonl holds."""
        return sum(event["kind"] == kind for event in read_json_lines(self.events))

    def write_outputs(self, outputs: SplitOutputs, classes: Sequence[str]) -> None:
        """Keep what the model gives for the test split, for confusion matrices and maps.

        Arrays: `labels` (N,), `weight` (N,) of the rows, `logits` (N, C) float32, `classes` (C,), and
        `features_<modality>` (N, D_m) float16, or float32 where that is too narrow.
        """
        arrays = {
            "labels": outputs.split.labels.numpy(),
            "weight": outputs.split.weight.numpy(),
            "logits": outputs.logits.numpy(),
            "classes": np.array(classes),
            **{f"features_{m}": _narrowed(x).numpy() for m, x in outputs.features.items()},
        }
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **arrays)
        write_atomic(self.outputs, buffer.getvalue())

    def read_summary(self) -> dict[str, Any] | None:
        """The summary of a finished run, or None."""
        return _read(self.summary, json.loads) if self.summary.exists() else None


def _narrowed(features: torch.Tensor) -> torch.Tensor:
    """Return features as float16, or as float32 where a number is beyond 65504, the largest of float16."""
    narrow = features.half()
    return narrow if bool(narrow.isfinite().all()) else features.float()


def without_root(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe as plain data without `dataset.root`: its data's fingerprint says what a run was trained on."""
    dataset = recipe.get("dataset")
    rest = {k: v for k, v in dataset.items() if k != "root"} if isinstance(dataset, Mapping) else dataset
    return {**recipe, "dataset": rest}


def _read(path: Path, parse: Callable[[str], Any]) -> dict[str, Any]:
    """Read a file of a run that holds a mapping."""
    try:
        found = parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise DataError(f"{path}: damaged; {STARTING_OVER}") from error
    if not isinstance(found, dict):
        raise DataError(f"{path}: damaged; {STARTING_OVER}")
    return found


def source_of(recipe: Recipe) -> str:
    """Return a digest of the file that a run's method is written in; "" where there is none."""
    path = inspect.getsourcefile(METHODS.load(recipe.methods[recipe.method].method))
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16] if path is not None else ""


def environment(fingerprint: str, device: torch.device, devices: int = 1) -> dict[str, Any]:
    """Return what a run's bits depend on beside recipe and seed."""
    accelerator = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "drcli": __version__,
        "python": sys.version.split()[0],
        "packages": {name: version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "device": device.type,
        "devices": devices,
        "accelerator": accelerator,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "dataset_fingerprint": fingerprint,
        "command": sys.argv,
    }
