"""Loggers by the names that a recipe gives them in `log`, and what they are given of a run.

Each is imported once a run wants it. A run has its settings once, numbers by epoch, and scores at the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any, TypeAlias

from drcli.errors import LoggerError, UsageError
from drcli.recipe.text import leaves
from drcli.runs.planned import PlannedRun
from drcli.runs.records import EpochRecord, Summary
from drcli.runs.records import Event as DiagnosisRecord
from drcli.watch.events import Event, Listener, Note, RunFailed, RunFinished, RunStarted

Value: TypeAlias = str | float | bool

_NO_CURVES = {"epoch", "n", "num_train", "num_val"}
"""Numbers that are the same in every epoch, or the epoch itself."""

FINAL = "final"
"""Begins the names of what is known at the end: curves have the same names otherwise."""

_SCORES = ("val", "test", "unimodal", "fused_probe", "seconds", "selected_epoch", "events")

_CLASSES = {
    "tensorboard": "drcli.watch.tensorboard:TensorBoardListener",
    "wandb": "drcli.watch.wandb_log:WandbListener",
    "mlflow": "drcli.watch.mlflow_log:MlflowListener",
    "trackio": "drcli.watch.trackio_log:TrackioListener",
}


class Loggers(Listener):
    """Passes the events of each run on to the loggers that its recipe names.

    One that is lost, such as one whose server cannot be reached, is not tried again in this process, which would cost
    each run the time that it takes to find that out.
    """

    def __init__(self, told: Listener | None = None) -> None:
        self.present: dict[str, Listener] = {}
        self.lost: set[str] = set()
        self.told = told

    def tells(self, other: Listener) -> None:
        """Say to another listener that a logger is lost."""
        self.told = other

    def on(self, event: Event) -> None:
        """Pass an event on; loggers live from the start of a run to its end.

        Raises:
            RunError: a logger without which the run shall not go on cannot write.
        """
        if isinstance(event, RunStarted):
            self.close()  # of a run that has failed, which its process is not told
            self.present = {name: _made(name) for name in event.run.recipe.log if name not in self.lost}
        for name, logger in list(self.present.items()):
            with self._unless_lost(name):
                logger.on(event)
        if isinstance(event, RunFinished | RunFailed):
            self.close()

    def close(self) -> None:
        """Close the loggers of a run that has not come to its end."""
        present, self.present = self.present, {}
        for name, logger in present.items():
            with self._unless_lost(name):
                logger.close()

    @contextmanager
    def _unless_lost(self, name: str) -> Iterator[None]:
        """Drop a logger that cannot write, with one note."""
        try:
            yield
        except LoggerError as error:
            self.present.pop(name, None)
            self.lost.add(name)
            if self.told is not None:
                self.told.on(Note(f"{error}; this run and those after it go on without {name}"))


def _made(name: str) -> Listener:
    module, _, attribute = _CLASSES[name].partition(":")
    made: Listener = getattr(import_module(module), attribute)()
    return made


def check_loggers(runs: Iterable[PlannedRun]) -> None:
    """Refuse loggers whose packages are not installed, before anything is trained.

    Raises:
        UsageError: one is not.
    """
    for name in dict.fromkeys(name for run in runs for name in run.recipe.log):
        found = find_spec(name)
        if found is None or found.origin is None:  # a folder of that name, such as wandb makes, is no package
            raise UsageError(f"log: {name} is not installed; run pip install 'drcli[{name}]', or leave it out of log")


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yield the numbers of nested mappings with their names joined by "/"."""
    for name, value in values.items():
        tag = f"{prefix}/{name}" if prefix else name
        if isinstance(value, Mapping):
            yield from flatten(value, tag)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield tag, float(value)


def curves(record: EpochRecord | DiagnosisRecord) -> dict[str, float]:
    """Return the numbers of an epoch or of a diagnosis, by name: "train/loss", "relearn/audio/gap"; no counts."""
    if isinstance(record, EpochRecord):
        found = flatten(record.to_dict())
    else:
        found = flatten({record.kind: record.to_dict()["modalities"]})
    return {tag: value for tag, value in found if tag.rpartition("/")[2] not in _NO_CURVES}


def scores(summary: Summary) -> dict[str, float]:
    """Return what a finished run has reached: "final/test/accuracy", "final/unimodal/audio/probe_accuracy"."""
    found = summary.to_dict()
    each = flatten({FINAL: {key: found[key] for key in _SCORES if key in found}})
    return {tag: value for tag, value in each if tag.rpartition("/")[2] not in _NO_CURVES}


def settings(run: PlannedRun) -> dict[str, Value]:
    """Return a run's settings, by their dotted keys: text, numbers and truth values; lists as text."""
    said = {".".join(map(str, key)): value for key, value in leaves(run.recipe.to_dict())}
    found = {
        key: value if isinstance(value, str | int | float | bool) else str(value)
        for key, value in said.items()
        if value is not None and key not in {"seeds", "log"}
    }
    return {**found, "seed": run.seed, **({} if run.modality is None else {"modality": run.modality})}


def title(run: PlannedRun) -> str:
    """Return how a run is called among others: recipe, name in tables, seed."""
    return f"{run.recipe.name}: {run.name} seed {run.seed}"
