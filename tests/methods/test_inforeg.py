"""InfoReg: who is pulled back, how strongly, in which epochs, and where the pull is 0."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from reference.inforeg import slow_rise, slow_strength
from support.training import bits, make_trainer, trained
from torch import Tensor
from torch.nn import functional

from drcli.engine.trainer import Trainer
from drcli.errors import RecipeError
from drcli.methods.inforeg import InfoReg, leads
from drcli.methods.parts.early_window import rise, trace
from drcli.methods.parts.unimodal_scores import right_scores
from drcli.recipe.schema import Recipe

TWO = ("audio", "visual")
THREE = ("audio", "visual", "text")
OPEN: dict[str, Any] = {"threshold": -100.0}
FORMS: tuple[Literal["paper", "code"], ...] = ("paper", "code")


@pytest.fixture
def make(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> Callable[..., Trainer]:
    """Makes a trainer of inforeg before its first step."""

    def made(modalities: tuple[str, ...] = TWO, fusion: Any = "concat", **settings: Any) -> Trainer:
        recipe = toy_recipe(modalities, fusion=fusion, method="inforeg", methods={"inforeg": settings})
        return make_trainer(recipe, tmp_path / f"{len(list(tmp_path.iterdir()))}")

    return made


def method_of(trainer: Trainer) -> InfoReg:
    method = trainer.assembly.method
    assert isinstance(method, InfoReg)
    return method


@pytest.mark.parametrize(
    ("gap", "form", "beta", "expected"),
    [
        (0.5, "code", 0.95, 1.508060),
        (0.5, "code", 0.1, 0.158743),
        (0.5, "paper", 0.9, 1.515743),
        (2.0, "code", 0.95, 2.491125),
        (2.0, "code", 0.1, 0.262224),
        (2.0, "paper", 0.9, 2.381248),
    ],
)
def test_strengths_by_hand(gap: float, form: str, beta: float, expected: float, make: Callable[..., Trainer]) -> None:
    """beta exp(tanh gap) in the code, exp(beta tanh gap) in the paper."""
    method = method_of(make(form=form, beta=9.0, betas={"audio": beta}, **OPEN))
    assert method._strength("audio", torch.tensor(gap)).item() == pytest.approx(expected, abs=2e-6)
    assert method._strength("audio", torch.tensor(-gap)).item() == 0.0
    assert method._strength("audio", torch.tensor(0.0)).item() == 0.0


def test_a_lead_is_over_the_mean_of_the_others_by_hand() -> None:
    found = leads({"audio": torch.tensor(0.75), "visual": torch.tensor(0.5), "text": torch.tensor(0.25)})
    assert {m: gap.item() for m, gap in found.items()} == {"audio": 0.375, "visual": 0.0, "text": -0.375}


def test_the_windows_by_hand() -> None:
    """Code: zeros before the first epoch keep the window open for ten epochs at least. Paper: the last two epochs."""
    traces = [10, 12, 13, 13.2, *[13.3] * 7]
    code = [rise(traces[:count], "code") for count in range(12)]
    assert code == pytest.approx(
        [1, 1, 0.545455, 0.371429, 0.273859, 0.216260, 0.177807, 0.150965, 0.131164, 0.115955, 0.103906, 0.025133],
        abs=1e-6,
    )
    assert [k > 0.05 for k in code] == [True] * 11 + [False]
    assert [rise(traces[:count], "paper") for count in range(5)] == pytest.approx([0, 0, 1 / 6, 1 / 13, 0.2 / 13.2])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("seed", range(3))
def test_windows_are_those_of_the_literal_reference(seed: int, form: Literal["paper", "code"]) -> None:
    traces = (torch.rand(15, generator=torch.Generator().manual_seed(seed)) + 0.1).tolist()
    for count in range(16):
        assert rise(traces[:count], form) == pytest.approx(slow_rise(traces[:count], form), abs=1e-9)


def test_traces_of_0_open_no_window() -> None:
    assert [rise([0.0] * 3, form) for form in FORMS] == [0.0, 0.0]


def test_traces_by_hand() -> None:
    """Gradients (1, 2; 3, 4) and (5): 30 + 25 in the paper's form, 30 / 4 in the code's."""
    matrix, bias = torch.nn.Parameter(torch.zeros(2, 2)), torch.nn.Parameter(torch.zeros(1))
    matrix.grad, bias.grad = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([5.0])
    assert [trace([matrix, bias], form).item() for form in FORMS] == [55.0, 7.5]


def stepped(trainer: Trainer) -> tuple[dict[str, list[Tensor]], dict[str, float]]:
    """Gradients before `modulate` by encoder, and the scores that it sees; gradients are modulated afterwards."""
    ctx, method = trainer.ctx, method_of(trainer)
    batch = next(ctx.train.in_order(16))
    outputs = method.forward(ctx, batch)
    ctx.optimizer.zero_grad(set_to_none=True)
    method.backward(ctx, method.losses(ctx, outputs, batch))
    before = {m: [p.grad.clone() for p in ps if p.grad is not None] for m, ps in method.encoders.items()}
    features = {m: h.detach() for m, h in outputs.features.items()}
    scores = right_scores(ctx.model.unimodal_logits(features, "slice"), batch.labels)
    method.modulate(ctx, outputs, batch)
    divisor = 16 if method.settings.form == "paper" else 1
    return before, {m: s.item() / divisor for m, s in scores.items()}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("modalities", [TWO, THREE], ids=len)
def test_a_step_pulls_what_is_ahead_back_to_the_start_of_the_epoch(
    modalities: tuple[str, ...], form: str, make: Callable[..., Trainer]
) -> None:
    trainer = make(modalities, form=form, **OPEN)
    method = method_of(trainer)
    generator = torch.Generator().manual_seed(0)
    anchors = {m: [p.detach().clone() for p in ps] for m, ps in method.encoders.items()}
    with torch.no_grad():
        for parameters in method.encoders.values():
            for parameter in parameters:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    before, scores = stepped(trainer)
    strength = slow_strength(scores, 0.9, form)
    assert 0 < sum(a > 0 for a in strength.values()) < len(modalities)
    for m, parameters in method.encoders.items():
        for old, anchor, parameter in zip(before[m], anchors[m], parameters, strict=True):
            assert parameter.grad is not None
            expected = old + strength[m] * (parameter.detach() - anchor)
            torch.testing.assert_close(parameter.grad, expected, rtol=1e-4, atol=1e-6)
    squares = (
        before
        if form == "paper"
        else {m: [p.grad for p in ps if p.grad is not None] for m, ps in method.encoders.items()}
    )
    for m in modalities:
        if form == "paper":
            expected_trace = sum(g.square().sum().item() for g in squares[m])
        else:
            expected_trace = sum(g.square().mean().item() for g in squares[m] if g.dim() > 1)
        assert method.sums[m].item() == pytest.approx(expected_trace, rel=1e-4)
    logged = {name: value.item() for name, value in trainer.ctx.take_logged().items()}
    assert logged == pytest.approx({f"coefficient/{m}": a for m, a in strength.items()}, rel=1e-3)


def test_the_pull_of_the_first_batch_of_an_epoch_is_0(make: Callable[..., Trainer]) -> None:
    """The weights are those at its start."""
    trainer = make(**OPEN)
    before, _ = stepped(trainer)
    for m, parameters in method_of(trainer).encoders.items():
        assert bits([p.grad for p in parameters]) == bits(before[m])


def test_a_closed_window_pulls_nothing(make: Callable[..., Trainer]) -> None:
    trainer = make(threshold=1.0)
    with torch.no_grad():
        for parameter in trainer.ctx.model.parameters():
            parameter.mul_(1.1)
    before, _ = stepped(trainer)
    for m, parameters in method_of(trainer).encoders.items():
        assert bits([p.grad for p in parameters]) == bits(before[m])


def test_each_modality_opens_its_window_by_its_own_traces(make: Callable[..., Trainer]) -> None:
    trainer = make()
    method = method_of(trainer)
    method.traces = {"audio": [1.0, 2.0], "visual": [2.0, 1.0]}
    method.on_epoch_start(trainer.ctx)
    assert method.opened == {"audio": True, "visual": False}


def test_a_trace_per_epoch_is_kept(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    method = method_of(trained(toy_recipe(method="inforeg", methods={"inforeg": {}}), tmp_path))
    assert [len(traces) for traces in method.traces.values()] == [4, 4]
    assert all(value > 0 for traces in method.traces.values() for value in traces)


def test_unimodal_losses_are_added_with_their_weight(make: Callable[..., Trainer]) -> None:
    trainer = make(weight=0.5, unimodal_logits="zero_others")
    ctx, method = trainer.ctx, method_of(trainer)
    batch = next(ctx.train.in_order(16))
    outputs = method.forward(ctx, batch)
    losses = method.losses(ctx, outputs, batch)
    assert list(losses) == ["joint", *TWO]
    alone = ctx.model.unimodal_logits(outputs.features, "zero_others")
    torch.testing.assert_close(losses["visual"], 0.5 * functional.cross_entropy(alone["visual"], batch.labels))


def test_settings_that_do_not_fit_are_refused(make: Callable[..., Trainer]) -> None:
    with pytest.raises(RecipeError, match=r"inforeg\.betas\.smell = 0\.1 +is no modality of the recipe: audio, visual"):
        make(betas={"smell": 0.1})
    with pytest.raises(RecipeError, match=r"inforeg\.weight = 1\.0 +must be 0 with detached_probe"):
        make(weight=1.0, unimodal_logits="detached_probe")
