"""AGM: Shapley responses, coefficients, the gradient that comes of them, and what zeros must not touch."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.agm import SlowKappa, slow_strength, three_responses, two_losses, two_responses
from support.training import StopAfter, StoppedError, bits, log, make_trainer, trained
from support.training import weights as weights_of
from torch import Tensor
from torch.nn import functional

from drcli.data.batches import Batch
from drcli.engine.trainer import Trainer
from drcli.methods.agm import AGM
from drcli.methods.parts.shapley import coalitions, shapley_weights, weighted_sum
from drcli.methods.parts.unimodal_scores import kappas, ratios, response_loss
from drcli.models.fusion import Outputs
from drcli.recipe.schema import Recipe
from drcli.relearning.features import evaluating


@pytest.fixture
def trainer(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> Callable[..., Trainer]:
    """Makes a trainer of "agm" before its first step."""

    def make(modalities: tuple[str, ...] = ("audio", "visual"), **settings: Any) -> Trainer:
        recipe = toy_recipe(modalities, method="agm", methods={"agm": settings})
        made = make_trainer(recipe, tmp_path / "run")
        made.ctx.model.train()
        return made

    return make


def first_batch(trainer: Trainer, start: int = 0) -> Batch:
    return trainer.ctx.train.take(torch.arange(start, start + 16))


def gradients(trainer: Trainer, batch: Batch) -> dict[str, Tensor]:
    """What `forward`, `losses` and `backward` leave in the parameters."""
    method, ctx = trainer.assembly.method, trainer.ctx
    ctx.model.zero_grad()
    method.backward(ctx, method.losses(ctx, method.forward(ctx, batch), batch))
    return {name: gradient(p).clone() for name, p in ctx.model.named_parameters()}


def response_of(padded: Mapping[frozenset[str], Tensor], letters: Mapping[str, str], coalition: str) -> Any:
    """The logits of a coalition that is named by letters, as an array."""
    return padded[frozenset(letters[x] for x in coalition)].double().numpy()


def gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def agm_of(trainer: Trainer) -> AGM:
    assert isinstance(trainer.assembly.method, AGM)
    return trainer.assembly.method


def as_tensors(numbers: Mapping[str, float]) -> dict[str, Tensor]:
    return {m: torch.tensor(number, dtype=torch.float64) for m, number in numbers.items()}


def values_of(modalities: str) -> dict[frozenset[str], Tensor]:
    """Random logits of every coalition."""
    generator = torch.Generator().manual_seed(0)
    return {c: torch.randn(5, 4, generator=generator, dtype=torch.float64) for c in coalitions(modalities)}


@pytest.mark.parametrize(("modalities", "formula"), [("av", two_responses), ("avt", three_responses)])
def test_responses_are_those_of_the_paper(modalities: str, formula: Callable[..., Any]) -> None:
    values = values_of(modalities)
    ours = {m: weighted_sum(w, values) for m, w in shapley_weights(modalities).items()}
    for m, expected in formula(lambda coalition: values[frozenset(coalition)].numpy()).items():
        assert torch.allclose(ours[m], torch.from_numpy(expected), rtol=1e-13)


@pytest.mark.parametrize("modalities", ["a", "av", "avt", "avtx"])
def test_responses_add_up_to_the_full_logits(modalities: str) -> None:
    values = values_of(modalities)
    assert len(values) == 2 ** len(modalities) - 1
    responses = [weighted_sum(w, values) for w in shapley_weights(modalities).values()]
    assert torch.allclose(torch.stack(responses).sum(dim=0), values[frozenset(modalities)], rtol=1e-13)


@pytest.mark.parametrize("modalities", ["av", "avt", "avtx"])
def test_a_modality_that_adds_the_same_to_all_coalitions_gets_that(modalities: str) -> None:
    worth = {m: torch.tensor(float(i)) for i, m in enumerate(modalities, start=1)}
    values = {c: torch.stack([worth[m] for m in c]).sum() for c in coalitions(modalities)}
    for m, weights in shapley_weights(modalities).items():
        assert float(weighted_sum(weights, values)) == pytest.approx(float(worth[m]))


def test_the_coefficients_worked_by_hand() -> None:
    s, t = as_tensors({"a": 0.5, "v": 1.5}), as_tensors({"a": 1.0, "v": 1.2})
    assert {m: float(x) for m, x in ratios(s).items()} == pytest.approx({"a": 2.718282, "v": 0.367879}, abs=1e-6)
    assert {m: float(x) for m, x in ratios(t).items()} == pytest.approx({"a": 1.221403, "v": 0.818731}, abs=1e-6)
    kappa = kappas(s, t, alpha=1.0, cap=None)
    assert {m: float(x) for m, x in kappa.items()} == pytest.approx({"a": 0.223828, "v": 1.569648}, abs=1e-6)


def test_the_cap_bounds_what_is_boosted() -> None:
    s, t = as_tensors({"a": 3.0, "v": 0.5}), as_tensors({"a": 0.5, "v": 3.0})
    kappa = kappas(s, t, alpha=0.5, cap=7.0)
    assert float(kappa["a"]) == pytest.approx(math.exp(0.5 * 7.0))
    assert float(kappas(s, t, alpha=0.5, cap=None)["a"]) > 100
    assert bits(kappas(s, t, alpha=0.5, cap=None)["v"]) == bits(kappa["v"])


def test_permuting_the_modalities_permutes_the_coefficients() -> None:
    s, t = as_tensors({"a": 0.5, "v": 1.5, "t": 1.1}), as_tensors({"a": 1.0, "v": 1.2, "t": 0.1})
    kappa = kappas(s, t, alpha=1.0, cap=7.0)
    turned = kappas(dict(reversed(s.items())), dict(reversed(t.items())), alpha=1.0, cap=7.0)
    assert list(turned) == ["t", "v", "a"]
    assert {m: float(x) for m, x in turned.items()} == pytest.approx({m: float(x) for m, x in kappa.items()})


def test_a_strength_is_the_mean_loss_bounded() -> None:
    response = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 3.0], [0.0, -40.0, 0.0]], dtype=torch.float64)
    labels = torch.tensor([0, 1, 1])
    assert float(response_loss(response, labels)) == pytest.approx(slow_strength(response.tolist(), labels.tolist()))
    assert float(response_loss(response[2:], labels[2:])) == pytest.approx(-math.log(1e-8))


@pytest.mark.parametrize("modalities", [("audio", "visual"), ("audio", "visual", "text")], ids=len)
def test_coefficients_of_a_run_follow_the_reference(
    modalities: tuple[str, ...], trainer: Callable[..., Trainer]
) -> None:
    made = trainer(modalities, alpha=2.0)
    ctx, method, slow = made.ctx, made.assembly.method, SlowKappa(modalities, alpha=2.0, cap=10.0)
    letters = dict(zip("avt", modalities, strict=False))
    for step in range(3):
        batch = first_batch(made, 16 * step)
        outputs = method.forward(ctx, batch)
        padded = {frozenset(modalities): outputs.logits.detach()}
        with evaluating(ctx.model):
            for size in range(1, len(modalities)):
                for kept in combinations(modalities, size):
                    inputs = {m: x * (m in kept) for m, x in batch.inputs.items()}
                    padded[frozenset(kept)] = ctx.model(inputs).logits
        formula = two_responses if len(modalities) == 2 else three_responses
        responses = formula(partial(response_of, padded, letters))
        strengths = {letters[x]: slow_strength(phi.tolist(), batch.labels.tolist()) for x, phi in responses.items()}
        method.backward(ctx, method.losses(ctx, outputs, batch))
        ctx.apply_gradients()
        found = {name: float(value) for name, value in ctx.take_logged().items()}
        assert found == pytest.approx({f"coefficient/{m}": k for m, k in slow(strengths).items()}, rel=1e-4)
    assert {m: float(t) for m, t in agm_of(made).means.items()} == pytest.approx(slow.averages, rel=1e-4)


def test_every_gradient_is_that_of_hooks_on_the_responses(trainer: Callable[..., Trainer]) -> None:
    made = trainer(alpha=3.0)
    batch, model = first_batch(made), copy.deepcopy(made.ctx.model)
    ours = gradients(made, batch)
    kappa = {name.removeprefix("coefficient/"): float(value) for name, value in made.ctx.take_logged().items()}
    assert min(abs(value - 1) for value in kappa.values()) > 0.01
    full = model(batch.inputs).logits
    with evaluating(model), torch.enable_grad():
        alone = {m: model({n: x * (n == m) for n, x in batch.inputs.items()}).logits for m in kappa}
    two_losses(full, alone, batch.labels, kappa).backward()
    for name, parameter in model.named_parameters():
        assert torch.allclose(ours[name], gradient(parameter), rtol=1e-3, atol=1e-6), name


@pytest.mark.parametrize(("largest", "norm"), [(0.9, 5.0), (1.1, 1.5), (-1.1, 1.5)])
def test_gradients_are_clipped_where_one_of_the_fusions_is_large(
    largest: float, norm: float, trainer: Callable[..., Trainer]
) -> None:
    """All of them, to the norm 1.5 from 5; the direction stays."""
    made = trainer(clip=1.5)
    parameters = made.ctx.trainable
    torch.manual_seed(0)
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter).clamp(-1, 1) / 100
    linear: Any = made.ctx.model.fusion.linear
    linear.weight.grad[0, 0] = largest
    bias = linear.bias
    others = sum(float(gradient(p).square().sum()) for p in parameters if p is not bias)
    bias.grad.fill_(math.sqrt((25.0 - others) / bias.numel()))  # beyond 1 each, and no weight matrix
    before = [gradient(parameter).clone() for parameter in parameters]
    made.assembly.method.modulate(made.ctx, Outputs({}, torch.zeros(1)), first_batch(made))
    after = torch.cat([gradient(parameter).flatten() for parameter in parameters])
    assert float(after.norm()) == pytest.approx(norm, rel=1e-5)
    whole = torch.cat([each.flatten() for each in before])
    torch.testing.assert_close(after, whole * norm / 5.0)


def test_the_loss_that_is_logged_is_the_joint_one(trainer: Callable[..., Trainer]) -> None:
    made = trainer(alpha=3.0)
    method, batch = made.assembly.method, first_batch(made)
    outputs = method.forward(made.ctx, batch)
    losses = method.losses(made.ctx, outputs, batch)
    assert bits(losses) == bits({"joint": functional.cross_entropy(outputs.logits, batch.labels)})


def test_zeros_do_not_enter_running_statistics_and_modes_are_put_back(trainer: Callable[..., Trainer]) -> None:
    made = trainer()
    ctx, method, batch = made.ctx, made.assembly.method, first_batch(made)
    still = next(iter(ctx.model.encoders.values()))
    still.eval()
    modes = [layer.training for layer in ctx.model.modules()]
    outputs = method.forward(ctx, batch)
    before = bits(dict(ctx.model.named_buffers()))
    assert before
    method.losses(ctx, outputs, batch)
    assert bits(dict(ctx.model.named_buffers())) == before
    assert [layer.training for layer in ctx.model.modules()] == modes


@pytest.mark.parametrize(
    ("modalities", "passes"), [(("audio",), 1), (("audio", "visual"), 3), (("audio", "visual", "text"), 7)]
)
def test_passes_a_step(modalities: tuple[str, ...], passes: int, trainer: Callable[..., Trainer]) -> None:
    made = trainer(modalities, starts=1, ends=1)
    counted = []
    made.ctx.model.register_forward_hook(lambda *_: counted.append(1))
    for made.ctx.epoch in (0, 1, 2):
        gradients(made, first_batch(made))
    assert len(counted) == 1 + passes + 1
    assert agm_of(made).count == 1


def test_one_modality_is_joint_training(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    runs = [trained(toy_recipe(("audio",), method=m, methods={m: {}}), tmp_path / m) for m in ("agm", "joint")]
    agm, joint = (bits(run.ctx.model.state_dict()) for run in runs)
    assert agm == joint
    assert all(line["train"]["coefficient/audio"] == 1 for line in log(runs[0].directory.folder / "metrics.jsonl"))


def test_running_means_are_loaded_in_place(trainer: Callable[..., Trainer]) -> None:
    made = trainer()
    gradients(made, first_batch(made))
    state = copy.deepcopy(made.assembly.method.state_dict())
    again = AGM(AGM.Settings())
    again.setup(made.ctx)
    assert bits(again.state_dict()) != bits(state)
    held = dict(again.means)
    again.load_state_dict(state)
    assert bits(again.state_dict()) == bits(state)
    assert all(again.means[m] is held[m] for m in held)


def test_after_the_window_the_last_factors_are_kept_where_the_settings_say_so(trainer: Callable[..., Trainer]) -> None:
    """The gradient of another batch is that of hooks with the factors of the window's last batch."""
    made = trainer(alpha=3.0, ends=0, after="keep")
    gradients(made, first_batch(made))
    kappa = {name.removeprefix("coefficient/"): float(value) for name, value in made.ctx.take_logged().items()}
    assert min(abs(value - 1) for value in kappa.values()) > 0.01
    means = bits(agm_of(made).means)
    made.ctx.epoch = 5
    batch, model = first_batch(made, 16), copy.deepcopy(made.ctx.model)
    ours = gradients(made, batch)
    full = model(batch.inputs).logits
    with evaluating(model), torch.enable_grad():
        alone = {m: model({n: x * (n == m) for n, x in batch.inputs.items()}).logits for m in kappa}
    two_losses(full, alone, batch.labels, kappa).backward()
    for name, parameter in model.named_parameters():
        assert torch.allclose(ours[name], gradient(parameter), rtol=1e-3, atol=1e-6), name
    assert bits(agm_of(made).means) == means
    assert agm_of(made).count == 1


def test_before_a_window_that_keeps_its_factors_training_is_joint(trainer: Callable[..., Trainer]) -> None:
    made = trainer(alpha=3.0, starts=2, ends=3, after="keep")
    gradients(made, first_batch(made))
    assert made.ctx.take_logged() == {}


@pytest.mark.slow
def test_kept_factors_survive_a_stop(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    settings = {"alpha": 2.0, "ends": 0, "after": "keep"}
    recipe = toy_recipe(method="agm", methods={"agm": settings})
    with pytest.raises(StoppedError):
        make_trainer(recipe, tmp_path / "stopped", listener=StopAfter(2)).train()
    resumed = make_trainer(recipe, tmp_path / "stopped")
    resumed.resume()
    resumed.train()
    whole = trained(recipe, tmp_path / "whole")
    assert bits(weights_of(resumed)) == bits(weights_of(whole))
    joint = trained(toy_recipe(method="agm", methods={"agm": {**settings, "after": "one"}}), tmp_path / "one")
    assert bits(weights_of(joint)) != bits(weights_of(whole))


def test_only_kept_factors_are_part_of_the_state(trainer: Callable[..., Trainer]) -> None:
    assert set(trainer().assembly.method.state_dict()) == {"means", "count"}
    assert set(trainer(after="keep").assembly.method.state_dict()) == {"means", "count", "last"}


def test_factors_of_one_that_are_kept_are_joint_training(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    neutral = {"alpha": 0.0, "clip": None, "ends": 0, "after": "keep"}
    agm = trained(toy_recipe(method="agm", methods={"agm": neutral}), tmp_path / "agm")
    joint = trained(toy_recipe(method="joint", methods={"joint": {}}), tmp_path / "joint")
    assert bits(weights_of(agm)) == bits(weights_of(joint))
