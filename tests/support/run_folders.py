"""Run directories as training leaves them, made up in milliseconds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

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
    **top: Any,
) -> Path:
    """Write a run and return its folder; `accuracy` None leaves it unfinished, `top` replaces keys of the recipe."""
    folder = out / recipe / label / (modality or "") / f"seed{seed}"
    folder.mkdir(parents=True)
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
    (folder / "environment.json").write_text(json.dumps({"drcli": "0.1.0"}))
    _lines(folder / "metrics.jsonl", [_epoch(e, seed, resolved["monitor"] == "test") for e in range(epochs)])
    kinds = [(2, "monitor"), (4, "monitor"), *([(4, "relearn")] if label == "diagnose_relearn" else [])]
    _lines(folder / "events.jsonl", [_event(epoch, kind, seed) for epoch, kind in kinds])
    if accuracy is not None:
        summary = _summary(resolved, accuracy, modality)
        (folder / "summary.json").write_text(json.dumps(summary))
    if outputs:
        _outputs(folder / "test_outputs.npz", seed)
    return folder


def _summary(recipe: Mapping[str, Any], accuracy: float, modality: str | None) -> dict[str, Any]:
    modalities = MODALITIES if modality is None else (modality,)
    return {
        "method": recipe["method"],
        **({"modality": modality} if modality else {}),
        "seed": recipe["seeds"][0],
        "selection": recipe["selection"],
        "monitor": recipe["monitor"],
        "selected_epoch": 3,
        "epochs": recipe["training"]["epochs"],
        "seconds": 12.0,
        "test": {"accuracy": accuracy, "macro_f1": accuracy - 0.01, "n": 30},
        "unimodal": {m: {"probe_accuracy": accuracy - 0.1 * k} for k, m in enumerate(modalities, 1)},
    }


def _epoch(epoch: int, seed: int, monitored: bool) -> dict[str, Any]:
    scores = {"accuracy": 0.5 + 0.05 * epoch + 0.01 * seed, "macro_f1": 0.5, "n": 24, "loss": 1.0}
    tested = {"test": scores} if monitored else {}
    return {"epoch": epoch, "train": {"loss": 1.0, "accuracy": 0.9}, "val": scores, **tested, "seconds": 2.0}


def _event(epoch: int, kind: str, seed: int) -> dict[str, Any]:
    found = {"purity_train": 0.8, "purity_val": 0.6 + 0.01 * seed, "gap": 0.2 - 0.01 * seed, "strength": 0.5}
    return {"epoch": epoch, "kind": kind, "lambda": 3.0, "modalities": dict.fromkeys(MODALITIES, found)}


def _lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _outputs(path: Path, seed: int) -> None:
    generator = np.random.default_rng(seed)
    labels = np.arange(30) % 3
    features = {f"features_{m}": generator.normal(size=(30, 4)).astype(np.float16) for m in MODALITIES}
    logits = generator.normal(size=(30, 3)).astype(np.float32)
    np.savez(path, labels=labels, weight=np.ones(30), logits=logits, classes=np.array(["a", "b", "c"]), **features)
