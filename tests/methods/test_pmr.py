"""PMR: prototypes and when they are taken, the coefficients, the losses, and what they reach."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.pmr import slow_prototypes, slow_terms
from support.training import bits, log, make_trainer, trained
from torch import Tensor

from drcli.data.batches import Batch
from drcli.engine.trainer import Trainer
from drcli.errors import RecipeError
from drcli.methods import pmr as pmr_module
from drcli.methods.parts.class_means import class_means
from drcli.methods.parts.unimodal_scores import right_scores
from drcli.methods.pmr import (
    PMR,
    draw_rows,
    entropy,
    factors_behind,
    leading_entropy,
    prototype_loss,
    similarities,
)
from drcli.models.fusion import Outputs
from drcli.models.multimodal import extract_features
from drcli.recipe.schema import Recipe

NUM_CLASSES = 3


@pytest.fixture
def trainer(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> Callable[..., Trainer]:
    """Makes a trainer of "pmr" that has its first prototypes."""

    def make(modalities: tuple[str, ...] = ("audio", "visual"), **settings: Any) -> Trainer:
        made = make_trainer(toy_recipe(modalities, method="pmr", methods={"pmr": settings}), tmp_path / "run")
        made.assembly.method.on_epoch_start(made.ctx)
        made.ctx.model.train()
        return made

    return make


def pmr_of(trainer: Trainer) -> PMR:
    assert isinstance(trainer.assembly.method, PMR)
    return trainer.assembly.method


def first_batch(trainer: Trainer) -> Batch:
    return trainer.ctx.train.take(torch.arange(16))


def scores_of(numbers: Mapping[str, float]) -> dict[str, Tensor]:
    return {m: torch.tensor(number, dtype=torch.float64) for m, number in numbers.items()}


def floats(tensors: Mapping[str, Tensor]) -> dict[str, float]:
    return {name: float(tensor.detach()) for name, tensor in tensors.items()}


def random_features(modalities: tuple[str, ...], noises: tuple[float, ...]) -> tuple[dict[str, Tensor], Tensor]:
    """Features around class centres, the noisier the less they tell; labels."""
    generator = torch.Generator().manual_seed(3)
    labels = torch.arange(18) % NUM_CLASSES
    features = {}
    for m, noise in zip(modalities, noises, strict=True):
        centres = torch.randn(NUM_CLASSES, 5, generator=generator, dtype=torch.float64)
        features[m] = centres[labels] + noise * torch.randn(18, 5, generator=generator, dtype=torch.float64)
    return features, labels


def test_the_numbers_worked_by_hand() -> None:
    q = similarities(torch.zeros(1, 1), torch.tensor([[1.0], [-3.0]]))
    assert q.tolist() == [[-1.0, -3.0]]
    assert float(right_scores({"a": q}, torch.tensor([0]))["a"]) == pytest.approx(0.880797, abs=1e-6)
    assert float(prototype_loss({"a": q}, {"a": torch.tensor(1.0)}, torch.tensor([0]))) == pytest.approx(
        0.126928, abs=1e-6
    )
    assert float(entropy(q)) == pytest.approx(0.365334, abs=1e-6)


@pytest.mark.parametrize(
    ("rho", "clip", "hard"),
    [
        (1.5, (0.0, 0.5), (0.0, 1.0)),
        (3.0, (0.0, 1.0), (0.0, 1.0)),
        (0.8, (0.25, 0.0), (1.0, 0.0)),
        (1.0, (0.0, 0.0), (0.0, 0.0)),
    ],
)
def test_coefficients_of_two_modalities(rho: float, clip: tuple[float, float], hard: tuple[float, float]) -> None:
    scores = scores_of({"audio": 4.0 * rho, "visual": 4.0})
    assert tuple(floats(factors_behind(scores, "clip")).values()) == pytest.approx(clip)
    assert tuple(floats(factors_behind(scores, "hard")).values()) == hard


def test_coefficients_of_three_modalities_follow_their_names() -> None:
    scores = scores_of({"a": 6.0, "v": 4.0, "t": 5.0})
    for order in (("a", "v", "t"), ("t", "a", "v")):
        turned = {m: scores[m] for m in order}
        assert floats(factors_behind(turned, "clip")) == pytest.approx({"a": 0.0, "v": 0.5, "t": 0.2})
        assert floats(factors_behind(turned, "hard")) == {"a": 0.0, "v": 1.0, "t": 1.0}


def test_coefficients_stay_numbers_where_probabilities_underflow() -> None:
    zero = {m: torch.tensor(0.0) for m in ("a", "v")}
    assert floats(factors_behind(zero, "clip")) == {"a": 0.0, "v": 0.0}
    assert floats(factors_behind({**zero, "a": torch.tensor(1.0)}, "clip")) == {"a": 0.0, "v": 1.0}


@pytest.mark.parametrize("noises", [(0.5, 2.0), (2.0, 0.5)])
def test_the_terms_are_those_of_the_paper(noises: tuple[float, float]) -> None:
    features, labels = random_features(("audio", "visual"), noises)
    prototypes = {m: class_means(rows, labels, NUM_CLASSES) for m, rows in features.items()}
    slow = {m: slow_prototypes(rows.tolist(), labels.tolist(), NUM_CLASSES) for m, rows in features.items()}
    for m, means in slow.items():
        assert torch.allclose(prototypes[m], torch.tensor(means, dtype=torch.float64))
    expected = slow_terms({m: rows.tolist() for m, rows in features.items()}, slow, labels.tolist())
    assert max(expected["audio"], expected["visual"]) > 0.05
    similarity = {m: similarities(rows, prototypes[m]) for m, rows in features.items()}
    scores = right_scores(similarity, labels)
    behind = factors_behind(scores, "clip")
    ours = {
        "prototypes": prototype_loss(similarity, behind, labels),
        "entropy": -leading_entropy(similarity, scores, behind),
        **behind,
    }
    assert floats(ours) == pytest.approx(expected, rel=1e-9)


def test_small_distances_are_exact_and_a_distance_of_0_has_a_finite_gradient() -> None:
    features = torch.tensor([[100.0, 200.0]] * 30, requires_grad=True)  # from 26 rows on, cdist would multiply
    q = similarities(features, torch.tensor([[100.0, 200.0], [100.0, 200.01]]))
    assert q.flatten().tolist() == pytest.approx([0.0, -0.01] * 30, rel=0.01, abs=0)
    prototype_loss({"a": q}, {"a": torch.tensor(1.0)}, torch.arange(30) % 2).backward()
    assert features.grad is not None
    assert torch.isfinite(features.grad).all()


@pytest.mark.parametrize(("share", "counts"), [(0.1, [3, 1, 1]), (0.5, [15, 2, 1]), (1.0, [30, 3, 1])])
def test_rows_are_drawn_from_every_class(share: float, counts: list[int]) -> None:
    labels = torch.tensor([0] * 30 + [2] * 3 + [1])
    labels = labels[torch.randperm(34, generator=torch.Generator().manual_seed(1))]
    rows = draw_rows(labels, share, torch.Generator().manual_seed(0))
    assert rows.tolist() == sorted(set(rows.tolist()))
    assert [int((labels[rows] == label).sum()) for label in (0, 2, 1)] == counts
    assert rows.tolist() == draw_rows(labels, share, torch.Generator().manual_seed(0)).tolist()
    other = draw_rows(labels, share, torch.Generator().manual_seed(2))
    assert (rows.tolist() == other.tolist()) == (share == 1.0)


def test_a_class_without_rows_has_prototype_zero() -> None:
    means = class_means(torch.tensor([[2.0], [4.0], [5.0]]), torch.tensor([0, 0, 2]), 3)
    assert means.tolist() == [[3.0], [0.0], [5.0]]


def test_prototypes_are_taken_before_epoch_0_and_blended_after_every_epoch(trainer: Callable[..., Trainer]) -> None:
    made = trainer(share=0.3, ema=0.25)
    ctx, method = made.ctx, pmr_of(made)
    expected: dict[str, Tensor] = {}
    for draw, kept in enumerate((0.0, 0.25, 0.25)):
        rows = draw_rows(ctx.train.split.labels, 0.3, ctx.generator("prototypes", draw))
        assert len(rows) == 18
        features, labels = extract_features(ctx.model, ctx.train, 7, rows)
        for m, x in features.items():
            new = torch.tensor(slow_prototypes(x.tolist(), labels.tolist(), NUM_CLASSES))
            expected[m] = kept * expected[m] + (1 - kept) * new if draw else new
            assert torch.allclose(method.prototypes[m], expected[m], atol=1e-5)
        ctx.epoch = draw
        method.training_step(ctx, first_batch(made))
        method.on_epoch_end(ctx)


@pytest.mark.parametrize(("ends", "updates"), [(100, 4), (1, 2), (0, 1), (2, 3)])
def test_prototypes_are_not_taken_for_epochs_that_do_not_use_them(
    ends: int, updates: int, toy_recipe: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Tensor] = []

    def draw(*args: Any) -> Tensor:
        drawn.append(draw_rows(*args))
        return drawn[-1]

    monkeypatch.setattr(pmr_module, "draw_rows", draw)
    run = trained(toy_recipe(method="pmr", methods={"pmr": {"ends": ends, "share": 0.3}}), tmp_path / "run")
    assert len(drawn) == updates == pmr_of(run).updates
    assert len({tuple(rows.tolist()) for rows in drawn}) == updates
    logged = [("coefficient/audio" in line["train"]) for line in log(run.directory.folder / "metrics.jsonl")]
    assert logged == [epoch <= ends for epoch in range(4)]


@pytest.mark.parametrize("coef", ["clip", "hard"])
def test_losses_are_weighted_and_named(coef: str, trainer: Callable[..., Trainer]) -> None:
    made = trainer(coef=coef, alpha=2.0, per_weight=0.5, per_epochs=1)
    ctx, method, batch = made.ctx, pmr_of(made), first_batch(made)
    outputs = method.forward(ctx, batch)
    losses = method.losses(ctx, outputs, batch)
    similarity = {m: similarities(x, method.prototypes[m]) for m, x in outputs.features.items()}
    scores = right_scores(similarity, batch.labels)
    behind = factors_behind(scores, method.settings.coef)
    assert floats(ctx.take_logged()) == floats({f"coefficient/{m}": b for m, b in behind.items()})
    assert list(losses) == ["joint", "prototypes", "entropy"]
    assert torch.allclose(losses["prototypes"], 2 * prototype_loss(similarity, behind, batch.labels))
    assert torch.allclose(losses["entropy"], -0.5 * leading_entropy(similarity, scores, behind))
    ctx.epoch = 1
    assert list(method.losses(ctx, outputs, batch)) == ["joint", "prototypes"]


def test_the_losses_reach_the_features_they_are_for_and_no_prototype(trainer: Callable[..., Trainer]) -> None:
    made = trainer(("audio", "visual", "text"), per_weight=0.1)
    ctx, method = made.ctx, pmr_of(made)
    noises = (0.3, 1.5, 3.0)
    features, labels = random_features(ctx.model.modalities, noises)
    for m, x in features.items():
        x.requires_grad_()
        method.prototypes[m] = class_means(x.detach(), labels, NUM_CLASSES)
    outputs = Outputs(features, torch.zeros(18, NUM_CLASSES, requires_grad=True))
    batch = Batch({}, labels, torch.arange(18))
    losses = method.losses(ctx, outputs, batch)
    assert all(not c.requires_grad for c in method.prototypes.values())
    for name, reached in {"prototypes": [False, True, True], "entropy": [True, False, False]}.items():
        gradients = torch.autograd.grad(losses[name], list(features.values()), retain_graph=True)
        assert [bool(gradient.any()) for gradient in gradients] == reached


def test_the_leading_modality_is_pushed_to_uncertainty() -> None:
    q = {"a": torch.tensor([[-1.0, -3.0]], requires_grad=True), "v": torch.tensor([[-2.0, -2.0]], requires_grad=True)}
    scores = right_scores(q, torch.tensor([0]))
    (-leading_entropy(q, scores, factors_behind(scores, "hard"))).backward()
    assert q["a"].grad is not None
    assert q["v"].grad is not None
    assert q["a"].grad[0, 0] > 0 > q["a"].grad[0, 1]  # descent lowers the larger one
    assert not q["v"].grad.any()


def test_one_modality_is_joint_training(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    blocks = {"pmr": {"per_weight": 0.1}, "joint": {}}
    runs = [trained(toy_recipe(("audio",), method=m, methods={m: blocks[m]}), tmp_path / m) for m in blocks]
    pmr, joint = (bits(run.ctx.model.state_dict()) for run in runs)
    assert pmr == joint
    assert all(line["train"]["coefficient/audio"] == 0 for line in log(runs[0].directory.folder / "metrics.jsonl"))


def test_prototypes_are_loaded_in_place(trainer: Callable[..., Trainer]) -> None:
    made = trainer()
    state = copy.deepcopy(made.assembly.method.state_dict())
    assert all(math.isfinite(float(c.sum())) and c.any() for c in state["prototypes"].values())
    again = PMR(PMR.Settings())
    again.setup(made.ctx)
    held = dict(again.prototypes)
    again.load_state_dict(state)
    assert bits(again.state_dict()) == bits(state)
    assert all(again.prototypes[m] is held[m] for m in held)


def test_another_coefficient_is_refused(toy_recipe: Callable[..., Recipe]) -> None:
    with pytest.raises(RecipeError, match=r"methods\.pmr\.coef.*soft"):
        toy_recipe(method="pmr", methods={"pmr": {"coef": "soft"}})
