"""Run directories as training leaves them, made up in milliseconds by the same records and files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from support.records import epoch_record, event_record, scores, summary_record

from drcli.runs.directory import RunDirectory
from drcli.runs.outputs import StoredOutputs
from drcli.runs.records import Environment, Event, LearningState, Summary
from drcli.runs.scores import ScoresAndLoss

MODALITIES = ("audio", "visual")


def write_run(
    out: Path,
    accuracy: float | None,
    *,
    label: str = "joint",
    method: str | None = None,
    seed: int = 0,
    recipe: str = "toy",
    modality: str | None = None,
    epochs: int = 6,
    block: Mapping[str, Any] | None = None,
    outputs: bool = False,
    summary: Mapping[str, Any] | None = None,
    environment: Mapping[str, Any] | None = None,
    **top: Any,
) -> Path:
    """Write a run and return its folder.

    `accuracy` None leaves it unfinished; `summary` and `environment` replace values of these records, `top` replaces
    keys of the recipe.
    """
    folder = out / recipe / label / (modality or "") / f"seed{seed}"
    folder.mkdir(parents=True)
    files = RunDirectory(folder)
    resolved = {
        "name": recipe,
        "dataset": {"name": "toy", "root": "data/toy"},
        "modalities": {m: {"backbone": "resnet_small"} for m in MODALITIES},
        "corrupt": {},
        "fusion": {"name": "concat"},
        "method": label,
        "methods": {label: {"method": method or label, **(block or {})}},
        "training": {"epochs": epochs},
        "selection": "val",
        "monitor": "none",
        "seeds": [seed],
        **top,
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(resolved, sort_keys=False))
    noted = Environment(**{"format": 2, "drcli": "0.1.0", **(environment or {})})
    (folder / "environment.json").write_text(noted.model_dump_json(exclude_none=True))
    _write_logs(files, epochs, seed, relearns=label == "diagnose_relearn", tested=resolved["monitor"] == "test")
    if accuracy is not None:
        files.write_summary(_summary(resolved, accuracy, modality, summary or {}))
    if outputs:
        files.write_outputs(_outputs(seed))
    return folder


def _write_logs(files: RunDirectory, epochs: int, seed: int, *, relearns: bool, tested: bool) -> None:
    for epoch in range(epochs):
        found = ScoresAndLoss(accuracy=0.5 + 0.05 * epoch + 0.01 * seed, macro_f1=0.5, n=24, loss=1.0)
        train = {"loss": 1.0, "accuracy": 0.9}
        files.log_epoch(epoch_record(epoch, train=train, val=found, test=found if tested else None))
    for epoch, kind in [(2, "monitor"), (4, "monitor"), *([(4, "relearn")] if relearns else [])]:
        files.log_event(_event(epoch, kind, seed))


def _event(epoch: int, kind: str, seed: int) -> Event:
    found = LearningState(purity_train=0.8, purity_val=0.6 + 0.01 * seed, gap=0.2 - 0.01 * seed, strength=0.5)
    return event_record(epoch, kind, modalities=dict.fromkeys(MODALITIES, found))


def _summary(recipe: Mapping[str, Any], accuracy: float, modality: str | None, changes: Mapping[str, Any]) -> Summary:
    modalities = MODALITIES if modality is None else (modality,)
    values: dict[str, Any] = {
        "method": recipe["method"],
        "modality": modality,
        "seed": recipe["seeds"][0],
        "selection": recipe["selection"],
        "monitor": recipe["monitor"],
        "selected_epoch": min(3, recipe["training"]["epochs"] - 1),
        "epochs": recipe["training"]["epochs"],
        "seconds": 12.0,
        "events": int(recipe["method"] == "diagnose_relearn"),
        "val": scores(accuracy + 0.05, n=24),
        "test": scores(accuracy, macro_f1=accuracy - 0.01),
        **changes,
    }
    return summary_record(probes={m: accuracy - 0.1 * k for k, m in enumerate(modalities, 1)}, **values)


def _outputs(seed: int) -> StoredOutputs:
    generator = np.random.default_rng(seed)
    features = {m: generator.normal(size=(30, 4)).astype(np.float16) for m in MODALITIES}
    ids = np.array([f"sample{number}" for number in range(30)])
    logits = generator.normal(size=(30, 3)).astype(np.float32)
    return StoredOutputs(np.arange(30) % 3, np.ones(30), logits, np.array(["a", "b", "c"]), features, ids)
