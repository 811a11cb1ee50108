"""Records of runs, made up: what is not said is plausible."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from drcli.runs.conditions import Condition, Conditions
from drcli.runs.measures import Calibration, ClassScores, Cost, Measures
from drcli.runs.records import EpochRecord, Event, Failure, LearningState, Summary
from drcli.runs.scores import Probe, Scores, ScoresAndLoss
from drcli.watch import events as told
from drcli.watch.events import Listener

FOUND = LearningState(purity_train=0.9, purity_val=0.7, gap=0.2, gap_permuted=0.01, strength=0.537)

COST = Cost(parameters=12345, seconds_per_epoch=1.5, seconds_per_1000=0.25, peak_memory=512 * 2**20)
CLOCK = {"seconds", "teacher_seconds", "cost"}
"""What of a summary is not the same when a run is trained again."""


def measures(more: float = 0.0) -> Measures:
    """Measures of three classes, of which test has no sample of the last."""
    found = measures_of({"a": 0.8 + more, "b": 0.6 + more}, n=15, more=more)
    return found.model_copy(update={"classes": {**found.classes, "c": ClassScores(n=0)}})


def measures_of(classes: Mapping[str, float], *, n: int, more: float = 0.0) -> Measures:
    """Measures of classes of so many samples with these accuracies; `more` is added to the numbers of calibration."""
    return Measures(
        balanced_accuracy=fmean(classes.values()),
        classes={name: ClassScores(accuracy=accuracy, n=n) for name, accuracy in classes.items()},
        calibration=Calibration(nll=0.9 + more, ece=0.1 + more, brier=0.3 + more),
        temperature=1.5,
        scaled=Calibration(nll=0.8 + more, ece=0.05 + more, brier=0.25 + more),
    )


def scores(accuracy: float, *, n: int = 30, macro_f1: float | None = None) -> Scores:
    """Scores of a split."""
    return Scores(accuracy=accuracy, macro_f1=accuracy if macro_f1 is None else macro_f1, n=n)


def epoch_record(epoch: int = 0, *, loss: float = 1.23456, accuracy: float = 0.625, **changes: Any) -> EpochRecord:
    """An epoch with a training accuracy of one half."""
    values: dict[str, Any] = {
        "epoch": epoch,
        "lr": 0.5,
        "train": {"loss": loss, "accuracy": 0.5},
        "val": ScoresAndLoss(accuracy=accuracy, macro_f1=accuracy, n=24, loss=0.98765),
        "selected": False,
        "seconds": 2.0,
        "samples_per_second": 1234.5,
        **changes,
    }
    return EpochRecord(**values)


def event_record(epoch: int = 1, kind: str = "monitor", **changes: Any) -> Event:
    """A diagnosis of audio, or of the `modalities` that are given."""
    return Event(**{"epoch": epoch, "kind": kind, "lambda_": 3.0, "modalities": {"audio": FOUND}, **changes})


def summary_record(accuracy: float = 0.8412, *, probes: Mapping[str, float] | None = None, **changes: Any) -> Summary:
    """The summary of a finished run of 4 epochs that took 61 seconds."""
    found = {"audio": 0.7, "visual": 0.655} if probes is None else probes
    values: dict[str, Any] = {
        "format": 2,
        "method": "joint",
        "seed": 0,
        "selection": "val",
        "monitor": "none",
        "selected_epoch": 2,
        "epochs": 4,
        "seconds": 61.0,
        "events": 0,
        "val": scores(0.9, n=24),
        "test": scores(accuracy),
        "unimodal": {m: Probe(probe_accuracy=value) for m, value in found.items()},
        **changes,
    }
    return Summary(**values)


def failure_record(message: str, **changes: Any) -> Failure:
    """What ended a run of joint training."""
    return Failure(**{"recipe": "toy", "name": "joint", "seed": 0, "kind": "RunError", "message": message, **changes})


def conditions_record(**changes: Any) -> Conditions:
    """What epoch 3 is worth without modalities and under noise on audio."""
    one = Condition(accuracy=0.5, macro_f1=0.5, n=30)
    more = Condition(accuracy=0.5, macro_f1=0.5, n=30, draws=3, accuracy_std=0.02, macro_f1_std=0.02)
    values: dict[str, Any] = {
        "split": "test",
        "epoch": 3,
        "absent": "zero",
        "subsets": {"audio": one, "audio+visual": one},
        "missing": {"audio": {"0.3": more}},
        "noise": {"audio": {"10": more, "-10": more}},
        **changes,
    }
    return Conditions(**values)


class Heard(Listener):
    """Keeps every event that it is told of."""

    def __init__(self) -> None:
        self.events: list[told.Event] = []

    def on(self, event: told.Event) -> None:
        self.events.append(event)

    @property
    def notes(self) -> list[str]:
        """The texts of the notes."""
        return [event.text for event in self.events if isinstance(event, told.Note)]

    @property
    def failed(self) -> list[str]:
        """The failures, each after the name of its run."""
        return [f"{event.run.name}: {event.failure}" for event in self.events if isinstance(event, told.RunFailed)]

    @property
    def started(self) -> list[told.RunStarted]:
        """The runs that started."""
        return [event for event in self.events if isinstance(event, told.RunStarted)]

    @property
    def finished(self) -> list[told.RunFinished]:
        """The runs that have finished."""
        return [event for event in self.events if isinstance(event, told.RunFinished)]
