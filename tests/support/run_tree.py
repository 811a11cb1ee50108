"""Run directories with made-up numbers, as `drcli train` leaves them behind, without training anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from support.records import COST, measures_of

from drcli.runs.directory import RunDirectory
from drcli.runs.outputs import StoredOutputs
from drcli.runs.records import Environment, EpochRecord, Event, Failure, LearningState, Purities, Summary
from drcli.runs.scores import Probe, Scores, ScoresAndLoss

CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
ENVIRONMENT = Environment(
    drcli="0.1.0",
    python="3.11.7",
    packages={"torch": "2.11.0", "numpy": "2.4.6"},
    platform="Linux-x86_64",
    device="cpu",
    threads=2,
    cores=2,
    dataset_fingerprint="92e19c9bc931d13a",
    weights={},
)


@dataclass(frozen=True)
class MadeRun:
    """What one run directory is made from; every number follows from it.

    Attributes:
        label: label of the method.
        seed: the seed.
        recipe: name of the recipe.
        dataset: name of the dataset.
        settings: block of the method; its `method` is the label unless it says so.
        modalities: their names.
        epochs: epochs in all.
        every: epochs between two diagnoses, 0 for none.
        selection: split of selection.
        monitor: "test" where it was watched.
        outputs: rows of test_outputs.npz, 0 for no such file.
        finished: whether there is a summary.
        classes: names of the classes.
        command: as recorded.
        copies: a label whose accuracy it has; "" for its own.
        labels: labels of the whole recipe, as recorded.
        failed: message of the error that ended it; "" for none.
        measured: whether a re-learning was followed by a measurement.
        gap: accuracy on validation minus that on test.
    """

    label: str = "joint"
    seed: int = 0
    recipe: str = "digits"
    dataset: str = "digits"
    settings: Mapping[str, Any] | None = None
    modalities: Sequence[str] = ("audio", "visual")
    epochs: int = 30
    every: int = 0
    selection: str = "val"
    monitor: str = "none"
    outputs: int = 0
    finished: bool = True
    classes: Sequence[str] = CLASSES
    command: Sequence[str] = ("/somewhere/bin/drcli", "train", "digits")
    copies: str = ""
    labels: Sequence[str] = ()
    failed: str = ""
    measured: bool = True
    gap: float = 0.01

    @property
    def final(self) -> float:
        """Test accuracy: a level of the label, and a little of the seed."""
        label = self.copies or self.label
        return 0.7 + 0.02 * (sum(label.encode()) % 8) + 0.004 * ((7 * self.seed + len(label) * (self.seed % 3)) % 5)


def write_run(root: Path, run: MadeRun) -> Path:
    """Write one run directory below `root`, and return it."""
    folder = root / run.recipe / run.label / f"seed{run.seed}"
    folder.mkdir(parents=True)
    files = RunDirectory(folder)
    files._recipe.write_text(yaml.safe_dump(_recipe(run), sort_keys=False))
    change_environment(folder, command=list(run.command), labels=list(run.labels))
    files._keep(files._metrics, [_epoch(run, epoch) for epoch in range(run.epochs)])
    events = range(run.every, run.epochs - 1, run.every) if run.every else ()
    files._keep(files._events, [_event(run, number, epoch) for number, epoch in enumerate(events)])
    if run.finished:
        files.write_summary(_summary(run))
    if run.failed:
        files.write_failure(Failure(recipe=run.recipe, name=run.label, seed=run.seed, kind="E", message=run.failed))
    if run.outputs:
        files.write_outputs(_outputs(run))
    return folder


def change_environment(folder: Path, **changes: Any) -> None:
    """Write what a run noted of its machine, with other values."""
    files = RunDirectory(folder)
    files._write(files._environment, ENVIRONMENT.model_copy(update=changes))


def _recipe(run: MadeRun) -> dict[str, Any]:
    return {
        "name": run.recipe,
        "dataset": {"name": run.dataset, "root": f"data/{run.dataset}", "prepare": {"draws": 4}},
        "modalities": {m: {"backbone": "resnet_small", "width": 16} for m in run.modalities},
        "fusion": {"name": "concat"},
        "method": run.label,
        "methods": {run.label: {"method": run.label, **(run.settings or {})}},
        "training": {"epochs": run.epochs, "batch_size": 64, "optimizer": {"name": "sgd", "lr": 0.02}},
        "selection": run.selection,
        "monitor": run.monitor,
        "seeds": [run.seed],
    }


def _epoch(run: MadeRun, epoch: int) -> EpochRecord:
    learned = 1 - exp(-(epoch + 1) / 6)
    wobble = 0.01 * ((epoch * 7 + run.seed * 3) % 5)
    scores = ScoresAndLoss(accuracy=run.final * learned - wobble + 0.02, macro_f1=0.5, n=300, loss=2.3 - 2 * learned)
    return EpochRecord(
        epoch=epoch,
        lr=0.02,
        train={"loss": 2.3 - 2.2 * learned, "accuracy": (run.final + 0.14) * learned},
        val=scores,
        test=scores if run.monitor == "test" else None,
        selected=epoch == 0,
        seconds=0.3,
        samples_per_second=3000.0,
    )


def _event(run: MadeRun, number: int, epoch: int) -> Event:
    relearns = run.settings is not None and "lambda" in run.settings
    found = {}
    for place, m in enumerate(run.modalities):
        gap = (0.03 + 0.04 * place + 0.02 * min(number, 6) + 0.002 * run.seed) * (0.6 if relearns else 1.0)
        purity = 0.35 + 0.15 * place + 0.3 * (1 - exp(-number / 5))
        left = Purities(purity_train=purity + gap / 4, purity_val=purity, gap=gap / 4)
        found[m] = LearningState(
            purity_train=purity + gap,
            purity_val=purity,
            gap=gap,
            gap_permuted=0.01,
            strength=min(1.0, 3 * gap),
            after=left if relearns and run.measured else None,
        )
    kind, event = ("relearn", number + 1) if relearns else ("monitor", None)
    return Event(epoch=epoch, kind=kind, event=event, lambda_=3.0, modalities=found)


def _summary(run: MadeRun) -> Summary:
    probes = {m: Probe(probe_accuracy=run.final - 0.1 - 0.05 * place) for place, m in enumerate(run.modalities)}
    return Summary(
        method=run.label,
        seed=run.seed,
        selection=run.selection,
        monitor=run.monitor,
        selected_epoch=max(0, run.epochs - 2),
        epochs=run.epochs,
        seconds=20.0 + run.seed,
        events=3 if run.settings else 0,
        val=Scores(accuracy=run.final + run.gap, macro_f1=run.final, n=300),
        test=Scores(accuracy=run.final, macro_f1=run.final - 0.01, n=600),
        unimodal={**probes},
        measures=measures_of(dict.fromkeys(run.classes, run.final), n=600 // len(run.classes), more=0.01 * run.seed),
        cost=COST,
    )


def _outputs(run: MadeRun) -> StoredOutputs:
    """Classes are blobs; logits follow the labels but for every seventh row."""
    rng = np.random.default_rng(run.seed)
    num_classes = len(run.classes)
    labels = np.arange(run.outputs) % num_classes
    predicted = np.where(np.arange(run.outputs) % 7 == 0, (labels + 1) % num_classes, labels)
    centres = rng.normal(size=(num_classes, 32)) * 1.6
    return StoredOutputs(
        labels=labels.astype(np.int64),
        weight=np.full(run.outputs, 0.25),
        logits=np.eye(num_classes, dtype=np.float32)[predicted],
        classes=np.array(list(run.classes)),
        features={m: centres[labels] + rng.normal(size=(run.outputs, 32)) for m in run.modalities},
    )


def write_runs(root: Path, runs: Sequence[MadeRun]) -> Path:
    """Write run directories below `root`, and return it."""
    for run in runs:
        write_run(root, run)
    return root


RELEARN = {"every": 8, "times": 3, "lambda": 3.0}


def small_study(**changes: Any) -> list[MadeRun]:
    """Two seeds of joint training and of D&R, with outputs."""
    return [
        MadeRun(label, seed, settings=settings, every=8, outputs=120, **changes)
        for label, settings in (("joint", None), ("diagnose_relearn", RELEARN))
        for seed in (0, 1)
    ]


def large_study() -> list[MadeRun]:
    """200 runs: two recipes, ten methods, ten seeds; everything logged."""
    labels = ("joint", "ogm", "ogm_ge", "pmr", "agm", "g_blending", "ensemble", "multi_loss", "greedy")
    methods: list[tuple[str, Mapping[str, Any] | None]] = [(label, None) for label in labels]
    return [
        MadeRun(label, seed, recipe, recipe, settings, epochs=100, every=5, outputs=1200)
        for recipe in ("digits", "avmnist")
        for label, settings in [*methods, ("diagnose_relearn", RELEARN)]
        for seed in range(10)
    ]
