"""Every method on a GPU: two epochs, twice the same bits, numbers that are finite."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.shared_runs import the_modality
from support.toy_recipes import two_epochs
from support.training import bits, log, make_trainer

from drcli.names import METHODS


@pytest.mark.parametrize("name", METHODS.names())
def test_two_epochs_have_finite_numbers_and_the_same_bits_twice(
    device: torch.device, name: str, toy_dict: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    """In the precision that a GPU has by default, bf16."""
    recipe = two_epochs(name, toy_dict(), precision="bf16")
    found = []
    for number in (1, 2):
        trainer = make_trainer(recipe, tmp_path / str(number), modality=the_modality(recipe), device=device)
        trainer.train()
        lines = log(trainer.directory.folder / "metrics.jsonl")
        assert all(math.isfinite(value) for line in lines for value in line["train"].values())
        found.append((bits(trainer.state() | {"seconds": 0}), lines))
    assert found[0] == found[1]
