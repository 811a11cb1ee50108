"""Optimisers step as torch's own do, at the rates that the schedules say."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from support.training import bits
from torch import nn

from drcli.optim import LossScaler, Warmup, build_optimizer, learning_rate, set_learning_rates, take_step
from drcli.recipe.schema import Training
from drcli.recipe.training import Adam, AdamW, Constant, Cosine, Linear, Optimizer, Schedule, Sgd, Step

OWN = Sgd(lr=0.1)

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
        (Cosine(warmup=2), 4, [0.2, 0.4, 0.4, 0.2]),
        (Cosine(warmup=0.5), 4, [0.2, 0.4, 0.4, 0.2]),
        (Linear(), 4, [0.4, 0.3, 0.2, 0.1]),
        (Linear(final=0.5), 2, [0.4, 0.3]),
        (Linear(warmup=0.125), 4, [0.4, 0.4 * 3 / 3.5, 0.4 * 2 / 3.5, 0.4 * 1 / 3.5]),
    ],
)
def test_learning_rates(schedule: Schedule, epochs: int, expected: list[float]) -> None:
    assert [learning_rate(schedule, 0.4, epoch, epochs) for epoch in range(epochs)] == pytest.approx(expected)


def grouped(*own: float, settings: Optimizer = OWN) -> tuple[list[nn.Parameter], torch.optim.Optimizer]:
    """Parameters at 1.0 with learning rates of their own, and one more at that of the settings."""
    parameters = [nn.Parameter(torch.ones(1)) for _ in (*own, None)]
    rates = {id(parameter): rate for parameter, rate in zip(parameters, own, strict=False)}
    return parameters, build_optimizer(settings, parameters, rates=rates)


def test_parameters_of_one_rate_are_a_group_and_the_first_group_is_the_recipes() -> None:
    (a, b, c, d), optimizer = grouped(0.3, 0.1, 0.3)
    found = [(group["lr"], [id(p) for p in group["params"]]) for group in optimizer.param_groups]
    assert found == [(0.1, [id(b), id(d)]), (0.3, [id(a), id(c)])]
    (alone, own), optimizer = grouped(0.3, settings=Sgd(lr=0.3))
    assert [[id(p) for p in group["params"]] for group in optimizer.param_groups] == [[id(alone), id(own)]]


@pytest.mark.parametrize("fused", [False, True])
def test_a_step_moves_each_parameter_at_its_rate_even_where_no_group_has_the_recipes(fused: bool) -> None:
    parameter = nn.Parameter(torch.ones(1))
    optimizer = build_optimizer(Sgd(lr=0.1, weight_decay=0), [parameter], rates={id(parameter): 0.5}, fused=fused)
    for expected in (0.5, 0.5 - 0.5 * 1.9):
        parameter.grad = torch.ones(1)
        take_step(optimizer)
        assert parameter.item() == pytest.approx(expected)


def test_the_schedule_changes_every_rate_in_proportion() -> None:
    _, optimizer = grouped(0.4)
    set_learning_rates(optimizer, Step(every=1, factor=0.5), epoch=2, epochs=4)
    assert [group["lr"] for group in optimizer.param_groups] == [0.025, 0.1]


@pytest.mark.parametrize(
    ("schedule", "epoch", "expected"),
    [
        (Linear(warmup=2), 0, [0.125, 0.25, 0.375, 0.5]),
        (Linear(warmup=2), 1, [0.625, 0.75, 0.875, 1.0]),
        (Linear(warmup=2), 2, [1.0] * 4),
        (Cosine(warmup=0.125), 0, [0.5, 1.0, 1.0, 1.0]),
        (Cosine(warmup_epochs=2), 0, [0.5] * 4),
        (Constant(), 0, [1.0] * 4),
    ],
)
def test_a_warm_up_rises_from_step_to_step(schedule: Schedule, epoch: int, expected: list[float]) -> None:
    _, optimizer = grouped(1.0)
    training = Training(epochs=4, optimizer=OWN, schedule=schedule)
    set_learning_rates(optimizer, schedule, epoch, 4)
    before = [group["lr"] for group in optimizer.param_groups]
    warmup = Warmup(optimizer, training, epoch, rows=40)
    found = []
    for _ in range(4):
        warmup.step(10)
        found.append(optimizer.param_groups[1]["lr"])
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * found[-1])
    assert found == pytest.approx(expected)
    warmup.step(10)  # rows that are drawn twice
    warmup.end()
    assert [group["lr"] for group in optimizer.param_groups] == before


def test_scaled_gradients_are_those_of_the_loss_and_what_overflows_is_left_out() -> None:
    parameter = nn.Parameter(torch.tensor([2.0]))
    optimizer, scaler = build_optimizer(OWN, [parameter]), LossScaler(torch.device("cpu"))
    scaler.scale((3 * parameter).sum()).backward()
    assert parameter.grad == 3 * 2**16
    assert scaler.unscaled(optimizer)
    assert parameter.grad == 3.0
    parameter.grad = torch.tensor([float("inf")])
    assert not scaler.unscaled(optimizer)
    assert (scaler.get_scale(), scaler.skipped) == (2**15, 1)
    again = LossScaler(torch.device("cpu"))
    again.load_state_dict(scaler.state_dict())
    assert again.state_dict() == scaler.state_dict()
    optimizer.zero_grad(set_to_none=True)
    assert scaler.unscaled(optimizer), "a step without gradients is none that overflowed"
