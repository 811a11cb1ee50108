"""Two processes of a run on one GPU: batch normalisation over both, gradients summed.

Gloo carries what they exchange: NCCL wants a GPU for each.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.one_device import SIZE, train
from support.toy_recipes import encoded
from support.training import make_trainer
from torch import Tensor

ENCODERS = {
    "cuda": {"backbone": "resnet_small", "width": 4},
    "cpu": {"backbone": "vit", "patch": 4, "dim": 8, "heads": 2, "layers": 1, "feedforward": 16, "dropout": 0.0},
}
"""On the CPU processes cannot share batch normalisation: an encoder without it."""


@pytest.mark.usefixtures("no_tf32")
def test_two_processes_on_one_device_train_what_one_trains(
    device: torch.device, toy_dict: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    """60 rows in batches of 17, 17, 17 and 9: the shares differ in size."""
    training: dict[str, Any] = {
        "epochs": 2,
        "batch_size": 17,
        "precision": "fp32",
        "optimizer": {"name": "sgd", "lr": 0.02},
    }
    recipe = encoded(toy_dict(), ENCODERS[device.type], method="joint", training=training).for_run("joint", 0)
    job = (recipe, device, tmp_path)
    alone = make_trainer(recipe, tmp_path / "alone", device=device)
    alone.train()
    together = [multiprocessing.get_context("spawn").Process(target=train, args=(r, *job)) for r in range(SIZE)]
    for process in together:
        process.start()
    for process in together:
        process.join()
    assert [process.exitcode for process in together] == [0] * SIZE
    found: dict[str, Tensor] = torch.load(tmp_path / "weights.pt", weights_only=True)
    for name, tensor in alone.assembly.model.state_dict().items():
        far = (found[name] - tensor.cpu()).abs().max().item() if tensor.is_floating_point() else 0
        torch.testing.assert_close(found[name], tensor.cpu(), rtol=1e-3, atol=1e-3, msg=f"{name}: {far} apart")
