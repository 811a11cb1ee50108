"""Optimisers step as torch's own do, at the rates that the schedules say."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from support.training import bits
from torch import nn

from drcli.optim import build_optimizer, learning_rate, set_learning_rate, take_step
from drcli.recipe.schema import Adam, AdamW, Constant, Cosine, Optimizer, Schedule, Sgd, Step

SETTINGS = [
    (Sgd(lr=0.1), torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4}),
    (Sgd(lr=0.1, momentum=0.0), torch.optim.SGD, {"lr": 0.1, "weight_decay": 1e-4}),
    (
        Sgd(lr=0.1, nesterov=True),
        torch.optim.SGD,
        {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4, "nesterov": True},
    ),
    (Adam(lr=0.01, weight_decay=0.1), torch.optim.Adam, {"lr": 0.01, "weight_decay": 0.1}),
    (AdamW(lr=0.01, betas=(0.8, 0.9)), torch.optim.AdamW, {"lr": 0.01, "betas": (0.8, 0.9), "weight_decay": 0.01}),
]


@pytest.mark.parametrize(("settings", "kind", "options"), SETTINGS, ids=lambda value: getattr(value, "name", ""))
def test_steps_equal_torchs_bit_for_bit(
    settings: Optimizer, kind: type[torch.optim.Optimizer], options: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))
    theirs = copy.deepcopy(ours)
    optimizer, reference = build_optimizer(settings, ours.parameters()), kind(theirs.parameters(), **options)
    assert type(optimizer) is kind
    for _ in range(6):
        x, y = torch.randn(8, 5), torch.randint(3, (8,))
        for model, each in ((ours, optimizer), (theirs, reference)):
            each.zero_grad(set_to_none=True)
            nn.functional.cross_entropy(model(x), y).backward()
        take_step(optimizer)
        reference.step()
        assert bits(ours.state_dict()) == bits(theirs.state_dict())
    assert bits(optimizer.state_dict()["state"]) == bits(reference.state_dict()["state"])
    assert all(parameter.requires_grad for parameter in ours.parameters())


@pytest.mark.parametrize("settings", [SETTINGS[0][0], SETTINGS[2][0]])
def test_a_fused_step_starts_the_momentum_of_parameters_that_lost_theirs(settings: Optimizer) -> None:
    """As an unfused one does; torch's own fused step takes no mixture of momenta that are there and that are not."""
    torch.manual_seed(0)
    fused, plain = (nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)) for _ in range(2))
    plain.load_state_dict(fused.state_dict())
    steps = {
        model: build_optimizer(settings, model.parameters(), fused=is_fused)
        for model, is_fused in ((fused, True), (plain, False))
    }
    for step in range(4):
        x, y = torch.randn(8, 5), torch.randint(3, (8,))
        for model, optimizer in steps.items():
            optimizer.zero_grad(set_to_none=True)
            nn.functional.cross_entropy(model(x), y).backward()
            if step == 2:
                del optimizer.state[next(model.parameters())]
            take_step(optimizer)
        torch.testing.assert_close(fused.state_dict(), plain.state_dict())


@pytest.mark.parametrize(
    ("schedule", "epochs", "expected"),
    [
        (Constant(), 3, [0.4, 0.4, 0.4]),
        (Step(every=2, factor=0.5), 5, [0.4, 0.4, 0.2, 0.2, 0.1]),
        (Cosine(), 4, [0.4, 0.2 * (1 + 2**-0.5), 0.2, 0.2 * (1 - 2**-0.5)]),
        (Cosine(final=0.5), 2, [0.4, 0.3]),
        (Cosine(warmup_epochs=2), 4, [0.2, 0.4, 0.4, 0.2]),
        (Cosine(warmup_epochs=4), 4, [0.1, 0.2, 0.3, 0.4]),
    ],
)
def test_learning_rates(schedule: Schedule, epochs: int, expected: list[float]) -> None:
    assert [learning_rate(schedule, 0.4, epoch, epochs) for epoch in range(epochs)] == pytest.approx(expected)


def test_every_group_gets_the_rate() -> None:
    layers = nn.Linear(2, 2), nn.Linear(2, 2)
    optimizer = torch.optim.SGD([{"params": layer.parameters(), "lr": 1.0} for layer in layers])
    set_learning_rate(optimizer, 0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.25]


def test_the_compiler_is_not_imported() -> None:
    """Importing it takes as long as importing torch; the first epoch would wait for it."""
    program = """
import sys, torch
from drcli.optim import build_optimizer, take_step
from drcli.recipe.schema import Adam, AdamW, Sgd
for kind in (Sgd, Adam, AdamW):
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = build_optimizer(kind(lr=0.1), [parameter])
    optimizer.zero_grad(set_to_none=True)
    parameter.sum().backward()
    take_step(optimizer)
    optimizer.load_state_dict(optimizer.state_dict())
    assert parameter[0] != 1
sys.exit("torch._dynamo" in sys.modules)
"""
    root = Path(__file__).resolve().parent.parent
    subprocess.run([sys.executable, "-c", program], check=True, cwd=root, timeout=120)
