"""A whole run of Diagnosing & Re-learning, and where its time goes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import wraps
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.measuring import now, percent, table_of
from benchmarks.ours import with_epochs
from drcli import checkpoint
from drcli.data.prepared import PreparedDataset
from drcli.engine import evaluate, run, trainer
from drcli.methods import context
from drcli.methods.diagnose_relearn import DiagnoseRelearn
from drcli.recipe.schema import Recipe
from drcli.runs.planned import PlannedRun
from drcli.watch.events import EpochFinished, Event, Listener, RunStarted

LABEL = "diagnose_relearn"

TIMED: dict[str, tuple[object, str]] = {
    "compilation": (run, "compile_forward"),
    "evaluation": (trainer, "run_split"),
    "diagnosis and re-learning": (DiagnoseRelearn, "on_epoch_end"),
    "K-means and purity": (context, "diagnose"),
    "test": (run, "evaluate_split"),
    "probes": (evaluate, "probe_modalities"),
    "files": (checkpoint, "save"),
}
"""What is timed: where its name is looked up. K-means is a part of the diagnosis, the probes of the test."""


@dataclass(frozen=True)
class Schedule:
    """How long a run is.

    Attributes:
        epochs: of training.
        events: diagnoses with re-learning.
    """

    epochs: int
    events: int


@dataclass(frozen=True)
class Profile:
    """Where a run's time went; seconds.

    Attributes:
        total: from the call of the engine to the summary.
        start: until the first epoch, compilation apart: weights, arrays to the device.
        compilation: of the forward pass, before the first epoch.
        first: of the first epoch, which also warms up; without its diagnosis.
        epoch: of another epoch, without diagnosis; median. Of the first one if there is no other.
        event: of one diagnosis with re-learning; None where there was none.
        finish: the last epoch's last.pt, test scores and probes.
        schedule: what was run.
        parts: sums by part, over the run.
    """

    total: float
    start: float
    compilation: float
    first: float
    epoch: float
    event: float | None
    finish: float
    schedule: Schedule
    parts: Mapping[str, float]

    def seconds_of(self, schedule: Schedule) -> float | None:
        """Seconds of a run of another length; the measured total for its own; None without a measured event."""
        if schedule == self.schedule:
            return self.total
        if self.event is None and schedule.events:
            return None
        epochs = self.first + (schedule.epochs - 1) * self.epoch
        return self.start + self.compilation + epochs + schedule.events * (self.event or 0.0) + self.finish

    def diagnosis_share(self, schedule: Schedule) -> float | None:
        """Share of the training time, without start and finish, that diagnosis and re-learning take."""
        if self.event is None:
            return None
        events = schedule.events * self.event
        return events / (self.first + (schedule.epochs - 1) * self.epoch + events)

    def probe_share(self, schedule: Schedule) -> float | None:
        """Share of a whole run that the linear probes take."""
        seconds = self.seconds_of(schedule)
        return None if seconds is None else self.parts["probes"] / seconds

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass
class Marks(Listener):
    """When what happened.

    Args:
        device: what the clock waits for.
        timed: seconds by part so far.
    """

    device: torch.device
    timed: Mapping[str, list[float]]
    started: float = 0.0
    epochs: list[tuple[float, float]] = field(default_factory=list)

    def on(self, event: Event) -> None:
        """Note when the first epoch begins, or its compilation; of an epoch, how much of it diagnoses have taken."""
        if isinstance(event, RunStarted):
            self.started = now(self.device)
        elif isinstance(event, EpochFinished):
            self.epochs.append((now(self.device), sum(self.timed["diagnosis and re-learning"])))


@contextmanager
def timed(device: torch.device) -> Iterator[dict[str, list[float]]]:
    """Note the seconds of every call of what `TIMED` names while the body runs."""
    seconds: dict[str, list[float]] = {name: [] for name in TIMED}

    def timing(function: Callable[..., Any], calls: list[float], clock: torch.device) -> Callable[..., Any]:
        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            started = now(clock)
            try:
                return function(*args, **kwargs)
            finally:
                calls.append(now(clock) - started)

        return call

    with ExitStack() as stack:
        for name, (owner, attribute) in TIMED.items():
            # Files are written by a thread of their own while the device trains: it must not wait for that.
            clock = torch.device("cpu") if name == "files" else device
            replacement = timing(getattr(owner, attribute), seconds[name], clock)
            stack.enter_context(patch.object(owner, attribute, replacement))
        yield seconds


def schedule_of(recipe: Recipe) -> Schedule:
    """How long the recipe's run of D&R is."""
    settings, epochs = _settings(recipe), recipe.training.epochs
    due = [epoch for epoch in range(1, epochs - 1) if epoch % settings.every == 0]
    return Schedule(epochs, min(len(due), settings.times))


def shortened(recipe: Recipe, epochs: int | None) -> Recipe:
    """The run of D&R over fewer epochs with one event, after the last epoch but one; None: as it is."""
    whole = recipe.for_run(LABEL, recipe.seeds[0])
    if epochs is None or epochs >= recipe.training.epochs:
        return whole
    settings = _settings(recipe).model_copy(update={"every": max(1, epochs - 2), "times": 1})
    block = replace(recipe.methods[LABEL], settings=settings)
    return with_epochs(replace(whole, methods={LABEL: block}), epochs)


def _settings(recipe: Recipe) -> DiagnoseRelearn.Settings:
    settings = recipe.methods[LABEL].settings
    assert isinstance(settings, DiagnoseRelearn.Settings)
    return settings


def profile(recipe: Recipe, dataset: PreparedDataset, device: torch.device, folder: Path) -> Profile:
    """Do a run, with its files in a folder, and say where its time went."""
    planned = PlannedRun(recipe, tuple(recipe.modalities), folder)
    with timed(device) as seconds:
        marks = Marks(device, seconds)
        began = now(device)
        summary = run.execute(planned, dataset, device=device, listener=marks)
        ended = now(device)
    compilation = sum(seconds["compilation"])
    edges = [(marks.started + compilation, 0.0), *marks.epochs]
    lasted = [(t - t0) - (d - d0) for (t0, d0), (t, d) in pairwise(edges)]
    events = summary.events
    return Profile(
        total=ended - began,
        start=marks.started - began,
        compilation=compilation,
        first=lasted[0],
        epoch=median(lasted[1:] or lasted),
        event=sum(seconds["diagnosis and re-learning"]) / events if events else None,
        finish=ended - marks.epochs[-1][0],
        schedule=Schedule(summary.epochs, events),
        parts={name: sum(calls) for name, calls in seconds.items()},
    )


def show(found: Profile, whole: Schedule, title: str) -> None:
    """Print where the time of a run goes, the run as measured beside the whole one."""
    ran = found.schedule
    lengths = [("measured", ran)] if ran == whole else [("measured", ran), ("whole run, projected", whole)]
    rows = [
        ("epochs", *(f"{length.epochs}" for _, length in lengths)),
        ("events", *(f"{length.events}" for _, length in lengths)),
        ("seconds", *(_seconds(found.seconds_of(length)) for _, length in lengths)),
        ("start", *[f"{found.start:.2f}"] * len(lengths)),
        ("compilation", *[f"{found.compilation:.2f}"] * len(lengths)),
        ("first epoch", *[f"{found.first:.2f}"] * len(lengths)),
        ("another epoch", *[f"{found.epoch:.2f}"] * len(lengths)),
        ("one event", *[_seconds(found.event)] * len(lengths)),
        ("last file, test, probes", *[f"{found.finish:.2f}"] * len(lengths)),
        ("diagnosis, of training time", *(percent(found.diagnosis_share(length)) for _, length in lengths)),
        ("probes, of the run", *(percent(found.probe_share(length)) for _, length in lengths)),
    ]
    table_of(title, ("seconds, where nothing else is said", *(name for name, _ in lengths)), rows)
    print("sums over the measured run: " + ", ".join(f"{name} {s:.2f} s" for name, s in found.parts.items()))


def _seconds(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.2f}"
