"""Two GPUs against one: batch normalisation over both, the collectives of NCCL. Needs two; not yet measured."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from support.several import Job, train
from support.training import log

from drcli import checkpoint
from drcli.data.prepared import PreparedDataset
from drcli.engine.distributed import on_devices
from drcli.engine.grid import run_grid
from drcli.recipe.schema import Recipe
from drcli.runs.planned import plan
from drcli.watch.events import Listener

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two CUDA devices are visible here"),
]

CUDA = torch.device("cuda")
# As between GPU and CPU: rounding, amplified by a few steps in float32. TF32 would be coarser.
WEIGHTS: dict[str, Any] = {"rtol": 1e-3, "atol": 1e-3}
LABELS = ["joint", "diagnose_relearn"]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_convolutions_with_batch_normalisation_agree_with_one_gpu(
    accumulate: int, toy_recipe: Callable[..., Recipe], toy_dataset: PreparedDataset, tmp_path: Path
) -> None:
    """60 rows in batches of 17, 17, 17 and 9: the shares differ in size."""
    training = {"epochs": 2, "batch_size": 17, "precision": "fp32", "accumulate": accumulate}
    recipe = toy_recipe(training={**training, "optimizer": {"name": "sgd", "lr": 0.02}})
    one, two = (plan(recipe, LABELS, [0], tmp_path / where) for where in ("one", "two"))
    run_grid(one, toy_dataset, device=CUDA, listener=Listener())
    together = on_devices(2, CUDA, partial(train, Job(two, toy_dataset, begun=tmp_path / "none")))
    assert together["failed"] == []
    for ours, theirs in zip(two, one, strict=True):
        states = [checkpoint.load(run.folder / "last.pt")["model"] for run in (ours, theirs)]
        torch.testing.assert_close(*states, **WEIGHTS)
        losses = [[line["train"]["loss"] for line in log(run.folder / "metrics.jsonl")] for run in (ours, theirs)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-3)
        assert json.loads((ours.folder / "environment.json").read_text())["devices"] == 2
