"""OGM and OGM-GE: whose gradients are damped, by how much, when, and with what noise."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.ogm import slow_coefficients, slow_scores, slow_sliced_logits
from support.training import bits, log, make_trainer, trained, weights
from torch import Tensor

from drcli.data.batches import Batch
from drcli.engine.trainer import Trainer
from drcli.errors import RecipeError
from drcli.methods.base import concatenated
from drcli.methods.ogm import Ogm, damping, noise
from drcli.methods.parts.encoder_tensors import selected
from drcli.methods.parts.unimodal_scores import right_scores
from drcli.models.fusion import Outputs
from drcli.names import BACKBONES
from drcli.recipe.schema import Recipe

pytestmark = pytest.mark.convolutions

THREE = ("audio", "visual", "text")
SGD = {"epochs": 4, "batch_size": 16, "optimizer": {"name": "sgd", "lr": 0.05}}


@pytest.fixture
def make(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> Callable[..., Trainer]:
    """Makes a trainer of a method before its first epoch."""

    def made(
        modalities: tuple[str, ...] = ("audio", "visual"), name: str = "ogm", fusion: Any = "concat", **settings: Any
    ) -> Trainer:
        return make_trainer(toy_recipe(modalities, method=name, methods={name: settings}, fusion=fusion), tmp_path)

    return made


def numbers(values: Mapping[str, float]) -> dict[str, Tensor]:
    return {m: torch.tensor(value) for m, value in values.items()}


def floats(values: Mapping[str, Tensor]) -> dict[str, float]:
    return {m: float(value) for m, value in values.items()}


def differentiated(trainer: Trainer) -> tuple[Outputs, Batch, dict[str, Tensor]]:
    """The outputs of a batch, the batch, and copies of the gradients before `modulate`."""
    ctx, method = trainer.ctx, trainer.assembly.method
    batch = next(ctx.train.in_order(30))
    outputs = method.forward(ctx, batch)
    method.backward(ctx, method.losses(ctx, outputs, batch))
    return concatenated([outputs]), batch, gradients(trainer)


def gradients(trainer: Trainer) -> dict[str, Tensor]:
    found = {name: parameter.grad for name, parameter in trainer.assembly.model.named_parameters()}
    return {name: gradient.clone() for name, gradient in found.items() if gradient is not None}


def modulated(trainer: Trainer) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, float]]:
    """Gradients before and after `modulate`, and the coefficients that were logged."""
    outputs, batch, before = differentiated(trainer)
    trainer.assembly.method.modulate(trainer.ctx, outputs, batch)
    logged = trainer.ctx.take_logged()
    return before, gradients(trainer), {name.removeprefix("coefficient/"): float(k) for name, k in logged.items()}


@pytest.mark.parametrize(("alpha", "expected"), [(0.1, 0.802625), (0.3, 0.462950), (0.8, 0.078331)])
def test_coefficients_by_hand(alpha: float, expected: float) -> None:
    """s = 2 and 1, so r = 2: k = 1 - tanh(2 alpha) for the one ahead, 1 for the other."""
    found = floats(damping(numbers({"audio": 2.0, "visual": 1.0}), alpha))
    assert found == {"audio": pytest.approx(expected, abs=1e-6), "visual": 1.0}


def test_a_tie_damps_nobody() -> None:
    assert floats(damping(numbers({"audio": 1.7, "visual": 1.7}), 0.8)) == {"audio": 1.0, "visual": 1.0}


def test_a_boost_multiplies_what_is_behind_and_damps_nobody() -> None:
    """OGM+: 4 for r < 1; of three with s = 4, 3, 1 the mean of the others is 2, 2.5, 3.5."""
    assert floats(damping(numbers({"audio": 2.0, "visual": 1.0}), 0.8, 4.0)) == {"audio": 1.0, "visual": 4.0}
    assert floats(damping(numbers({"audio": 1.0, "visual": 1.0}), 0.8, 4.0)) == {"audio": 1.0, "visual": 1.0}
    found = floats(damping(numbers({"audio": 4.0, "visual": 3.0, "text": 1.0}), 0.8, 4.0))
    assert found == {"audio": 1.0, "visual": 1.0, "text": 4.0}


def test_three_modalities_are_held_against_the_mean_of_the_others_by_hand() -> None:
    """s = 4, 3, 1: r = 4 / 2, 3 / 2.5, 1 / 3.5; two of the three are ahead."""
    found = floats(damping(numbers({"audio": 4.0, "visual": 3.0, "text": 1.0}), 0.5))
    expected = {"audio": 0.23840584, "visual": 0.46295043, "text": 1.0}
    assert found == {m: pytest.approx(k, abs=1e-6) for m, k in expected.items()}


def test_scores_by_hand() -> None:
    """Logits (0, ln 3): p = (1/4, 3/4); the true classes are 1 and 0."""
    logits = torch.log(torch.tensor([[1.0, 3.0], [1.0, 3.0]]))
    assert floats(right_scores({"audio": logits}, torch.tensor([1, 0]))) == {"audio": pytest.approx(1.0)}


@pytest.mark.parametrize("modalities", [THREE[:2], THREE], ids=len)
@pytest.mark.parametrize("seed", range(5))
def test_scores_and_coefficients_are_those_of_the_literal_reference(modalities: tuple[str, ...], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(5, (8,), generator=generator)
    logits = {m: 3 * torch.randn(8, 5, generator=generator) for m in modalities}
    ours = right_scores(logits, labels)
    theirs = slow_scores({m: z.tolist() for m, z in logits.items()}, labels.tolist())
    assert floats(ours) == pytest.approx(theirs, rel=1e-5)
    found = floats(damping(ours, 0.4))
    assert found == pytest.approx(slow_coefficients(theirs, 0.4), abs=1e-5)
    assert min(found.values()) < 1.0
    turned = {m: ours[m] for m in reversed(modalities)}
    assert floats(damping(turned, 0.4)) == pytest.approx(found, abs=1e-6)


@pytest.mark.parametrize("values", [(0.0, 0.0), (5.0, 0.0), (4096.0, 1e-38)])
@pytest.mark.parametrize("alpha", [0.0, 0.3])
def test_extreme_scores_give_coefficients_between_0_and_1(values: tuple[float, float], alpha: float) -> None:
    found = floats(damping(numbers(dict(zip(THREE, values, strict=False))), alpha))
    assert all(0.0 <= k <= 1.0 for k in found.values())
    assert alpha > 0 or set(found.values()) == {1.0}


@pytest.mark.parametrize(("kind", "dims"), [("conv4d", {4}), ("non1d", {2, 4}), ("all", {1, 2, 4})])
@pytest.mark.parametrize("modalities", [THREE[:2], THREE], ids=len)
def test_a_step_damps_what_it_says_and_leaves_every_other_bit(
    kind: str, dims: set[int], modalities: tuple[str, ...], make: Callable[..., Trainer]
) -> None:
    trainer = make(modalities, tensors=kind, alpha=0.5)
    outputs, batch, before = differentiated(trainer)
    trainer.assembly.method.modulate(trainer.ctx, outputs, batch)
    linear: Any = trainer.assembly.model.fusion.linear
    sliced = slow_sliced_logits(
        linear.weight.tolist(), linear.bias.tolist(), {m: h.tolist() for m, h in outputs.features.items()}
    )
    expected = slow_coefficients(slow_scores(sliced, batch.labels.tolist()), 0.5)
    assert min(expected.values()) < 1.0
    for name, after in gradients(trainer).items():
        group, m, *_ = name.split(".")
        if group == "encoders" and after.dim() in dims:
            torch.testing.assert_close(after, before[name] * expected[m], rtol=1e-4, atol=1e-8)
        else:
            assert bits(after) == bits(before[name]), name
    logged = {name: float(value) for name, value in trainer.ctx.take_logged().items()}
    assert logged == pytest.approx({f"coefficient/{m}": k for m, k in expected.items()}, rel=1e-4)


@pytest.mark.parametrize("name", ["ogm", pytest.param("ogm_ge", marks=pytest.mark.slow)])  # they share the window
@pytest.mark.parametrize(("window", "epochs"), [((1, 2), [1, 2]), ((0, -1), []), ((3, 9), [3])])
def test_the_window_counts_from_0_and_holds_both_ends(
    name: str, window: tuple[int, int], epochs: list[int], make: Callable[..., Trainer]
) -> None:
    trainer = make(name=name, starts=window[0], ends=window[1], alpha=0.5)
    trainer.train()
    lines = log(trainer.directory.folder / "metrics.jsonl")
    assert [line["epoch"] for line in lines if "coefficient/audio" in line["train"]] == epochs


@pytest.mark.parametrize("name", ["ogm", "ogm_ge"])
def test_ogm_with_one_modality_is_joint_training(
    name: str, toy_recipe: Callable[..., Recipe], tmp_path: Path, make: Callable[..., Trainer]
) -> None:
    ours = make(("audio",), name=name)
    ours.train()
    joint = trained(toy_recipe(("audio",), method="joint"), tmp_path / "joint")
    assert bits(weights(ours)) == bits(weights(joint))


def test_accumulated_gradients_are_damped_by_the_scores_of_the_whole_batch(
    toy_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    """The parts are run by hand; the coefficient is that of their outputs together."""
    recipe = toy_recipe(method="ogm", methods={"ogm": {"alpha": 0.5}}, training={**SGD, "accumulate": 3})
    trainer, twin = (make_trainer(recipe, tmp_path / name) for name in ("ours", "by hand"))
    batch = next(trainer.ctx.train.in_order(16))
    found = trainer.assembly.method.training_step(trainer.ctx, batch)
    whole = concatenated([twin.assembly.method.forward(twin.ctx, part) for part in twin.ctx.parts(batch)])
    assert isinstance(twin.assembly.method, Ogm)
    logits = twin.assembly.method.unimodal_logits(twin.assembly.model, whole.features)
    for m, k in damping(right_scores(logits, batch.labels), 0.5).items():
        assert float(found[f"coefficient/{m}"]) == pytest.approx(float(k), rel=1e-5)


def test_an_encoder_without_convolutions_is_refused_with_the_setting_that_helps(make: Callable[..., Trainer]) -> None:
    trainer = make()
    transformer = BACKBONES.load("transformer")
    trainer.assembly.model.encoders["visual"] = transformer(transformer.Settings(), (7, 3))
    message = "tensors = conv4d: the encoder of visual (Transformer) has no such weights; use non1d"
    with pytest.raises(RecipeError, match=re.escape(message)):
        trainer.assembly.method.setup(trainer.ctx)
    trainer.assembly.method.settings = Ogm.Settings(tensors="non1d")
    trainer.assembly.method.setup(trainer.ctx)
    assert {p.dim() for p in selected(trainer.assembly.model.encoders["visual"], "non1d")} == {2}


@pytest.mark.parametrize(
    ("settings", "optimizer", "warning"),
    [
        ({}, "sgd", None),
        ({}, "adam", "adam divides gradients by their size"),
        ({}, "adamw", "adamw divides gradients by their size"),
        ({"ends": -1}, "adam", "it never acts (starts: 0, ends: -1, 4 epochs)"),
        ({"starts": 4}, "sgd", "it never acts (starts: 4, ends: 50, 4 epochs)"),
        ({"starts": 3}, "sgd", None),
    ],
)
def test_a_run_that_is_nearly_joint_training_warns(
    settings: dict[str, Any],
    optimizer: str,
    warning: str | None,
    toy_recipe: Callable[..., Recipe],
    tmp_path: Path,
) -> None:
    training = {**SGD, "optimizer": {"name": optimizer, "lr": 0.01}}
    trainer = make_trainer(toy_recipe(method="ogm", methods={"ogm": settings}, training=training), tmp_path)
    found = list(trainer.assembly.method.warnings(trainer.ctx))
    assert len(found) == (warning is not None)
    assert warning is None or found[0].startswith(warning)


@pytest.mark.parametrize(("kind", "warnings"), [("conv4d", 1), ("non1d", 0), ("all", 0)])
def test_a_transformer_whose_patches_alone_are_modulated_warns(
    kind: str, warnings: int, make: Callable[..., Trainer]
) -> None:
    trainer = make(tensors=kind)
    vit = BACKBONES.load("vit")
    trainer.assembly.model.encoders["visual"] = vit(vit.Settings(), (1, 8, 8))
    trainer.assembly.method.setup(trainer.ctx)
    found = list(trainer.assembly.method.warnings(trainer.ctx))
    assert len(found) == warnings
    assert all(re.match(r"tensors: conv4d is \d% of the encoder of visual; non1d", line) for line in found)


def test_noise_has_no_mean_and_the_deviation_of_the_gradient() -> None:
    gradient = 0.03 * torch.randn(64, 64, 3, 3, generator=torch.Generator().manual_seed(0)) + 5.0
    drawn = noise(gradient, torch.Generator().manual_seed(1))
    assert float(drawn.std() / gradient.std()) == pytest.approx(1.0, rel=0.05)
    assert abs(float(drawn.mean())) < 0.05 * float(gradient.std())


def test_a_gradient_of_one_element_gets_no_noise() -> None:
    assert noise(torch.full((1, 1, 1, 1), 3.0), torch.Generator()).tolist() == [[[[0.0]]]]


@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_noise_is_added_to_every_modality_and_measured_before_the_damping(
    alpha: float, make: Callable[..., Trainer]
) -> None:
    """The noise is drawn once more by hand, from the gradients as they were."""
    trainer = make(name="ogm_ge", alpha=alpha)
    before, after, k = modulated(trainer)
    assert sorted(value < 1 for value in k.values()) == [False, alpha > 0]
    for m, encoder in trainer.assembly.model.encoders.items():
        generator = trainer.ctx.generator("ogm_ge", m, trainer.ctx.step)
        for name, parameter in encoder.named_parameters(f"encoders.{m}"):
            expected = before[name]
            if parameter.dim() == 4:
                std = float(before[name].flatten().std(dim=0))
                expected = k[m] * before[name] + std * torch.randn(parameter.shape, generator=generator)
                assert not torch.equal(after[name], before[name])
            torch.testing.assert_close(after[name], expected, rtol=1e-5, atol=1e-7)


def test_noise_differs_by_modality_step_and_epoch_and_shifts_no_other_stream(make: Callable[..., Trainer]) -> None:
    trainer = make(name="ogm_ge", alpha=0.0)
    state = torch.get_rng_state()
    drawn = []
    for epoch, step in ((0, 0), (0, 1), (1, 0), (0, 0)):
        trainer.ctx.epoch, trainer.ctx.step = epoch, step
        trainer.ctx.optimizer.zero_grad(set_to_none=True)
        before, after, _ = modulated(trainer)
        for m in ("audio", "visual"):
            name = f"encoders.{m}.stem.0.weight"
            drawn.append((after[name] - before[name]) / before[name].std())
    for number, first in enumerate(drawn[:6]):
        assert all(float((first - second).abs().max()) > 0.1 for second in drawn[:number])
    torch.testing.assert_close(drawn[6:], drawn[:2], rtol=1e-3, atol=1e-4)
    assert torch.equal(torch.get_rng_state(), state)
