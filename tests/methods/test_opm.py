"""OPM: with which probability features are dropped, how the others are scaled, when, and what stays as it was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.opm import slow_dropped, slow_probabilities
from support.training import bits, make_trainer
from torch import Tensor

from drcli.engine.trainer import Trainer
from drcli.errors import RecipeError
from drcli.methods.opm import OPM, dropped, probabilities
from drcli.methods.parts.unimodal_scores import right_scores
from drcli.recipe.schema import Recipe

TWO = ("audio", "visual")
THREE = ("audio", "visual", "text")


@pytest.fixture
def make(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> Callable[..., Trainer]:
    """Makes a trainer of opm before its first step."""

    def made(modalities: tuple[str, ...] = TWO, fusion: Any = "concat", **settings: Any) -> Trainer:
        recipe = toy_recipe(modalities, fusion=fusion, method="opm", methods={"opm": settings})
        return make_trainer(recipe, tmp_path / f"{len(list(tmp_path.iterdir()))}")

    return made


def numbers(**values: float) -> dict[str, Tensor]:
    return {m: torch.tensor(value) for m, value in values.items()}


@pytest.mark.parametrize(
    ("ahead", "base", "q", "factor"), [(2.0, 0.5, 0.690399, 1.527182), (1.5, 0.4, 0.492423, 1.326633)]
)
def test_probabilities_and_scale_by_hand(ahead: float, base: float, q: float, factor: float) -> None:
    """s = 2 and 1: rho = tanh 1, q = 0.5 (1 + 0.5 rho), theta = q / 2 for equal widths, kept times 1 / (1 - theta)."""
    found = probabilities(numbers(audio=ahead, visual=1.0), base, 0.5)
    assert {m: x.item() for m, x in found.items()} == pytest.approx({"audio": q, "visual": 0.0}, abs=1e-6)
    ones = {m: torch.ones(2, 3) for m in TWO}
    kept = {"audio": torch.tensor([True, False]), "visual": torch.tensor([True, True])}
    left = dropped(ones, kept, found)
    assert left["audio"][0].tolist() == pytest.approx([factor] * 3, abs=1e-5)
    assert left["audio"][1].tolist() == [0.0] * 3
    assert left["visual"].flatten().tolist() == pytest.approx([factor] * 6, abs=1e-5)


def test_a_tie_drops_nothing() -> None:
    assert {q.item() for q in probabilities(numbers(audio=0.7, visual=0.7), 0.5, 0.5).values()} == {0.0}


@pytest.mark.parametrize("scores", [(0.0, 0.0, 0.0), (5.0, 0.0, 0.0), (5.0, 4.0, 0.0)])
def test_the_modality_behind_is_never_dropped(scores: tuple[float, ...]) -> None:
    found = [q.item() for q in probabilities(numbers(**dict(zip(THREE, scores, strict=True))), 1.0, 9.0).values()]
    assert all(0.0 <= q <= 1.0 for q in found)
    assert found[2] == 0.0


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("modalities", [TWO, THREE], ids=len)
def test_agrees_with_the_literal_reference(modalities: tuple[str, ...], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = {m: torch.rand((), generator=generator) + 0.1 for m in modalities}
    features = {m: torch.randn(5, 2 + n, generator=generator) for n, m in enumerate(modalities)}
    kept = {m: torch.rand(5, generator=generator) > 0.5 for m in modalities}
    found = probabilities(scores, 0.4, 0.8)
    expected = slow_probabilities({m: s.item() for m, s in scores.items()}, 0.4, 0.8)
    assert {m: q.item() for m, q in found.items()} == pytest.approx(expected, abs=1e-5)
    slow = slow_dropped(
        {m: h.tolist() for m, h in features.items()}, {m: k.tolist() for m, k in kept.items()}, expected
    )
    for m, rows in dropped(features, kept, found).items():
        torch.testing.assert_close(rows, torch.tensor(slow[m]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fusion", ["concat", "sum", "film"])
def test_a_step_fuses_what_is_left_of_the_features(fusion: str, make: Callable[..., Trainer]) -> None:
    trainer = make(fusion=fusion, starts=0, probability=1.0, unimodal_logits="zero_others")
    ctx, method = trainer.ctx, trainer.assembly.method
    assert isinstance(method, OPM)
    batch = next(ctx.train.in_order(30))
    outputs = method.forward(ctx, batch)
    scores = right_scores(ctx.model.unimodal_logits(outputs.features, "zero_others"), batch.labels)
    q = probabilities(scores, 0.5, 0.5)
    kept = {m: method.draws[m][:30] >= q[m].item() for m in TWO}
    assert 0 < sum(int(rows.sum()) for rows in kept.values()) < 60
    expected = ctx.model.fusion(dropped(outputs.features, kept, q))
    assert bits(outputs.logits) == bits(expected)
    logged = {name: value.item() for name, value in ctx.take_logged().items()}
    assert logged == pytest.approx({f"coefficient/{m}": q[m].item() for m in TWO})


def test_rows_of_a_batch_keep_what_they_keep_in_any_order(make: Callable[..., Trainer]) -> None:
    """What is dropped depends on the row, so that parts and processes drop what one process would."""
    trainer = make(starts=0, probability=1.0)
    ctx, method = trainer.ctx, trainer.assembly.method
    ctx.model.eval()
    batch = next(ctx.train.in_order(20))
    turned = replace(
        batch,
        inputs={m: x.flip(0) for m, x in batch.inputs.items()},
        labels=batch.labels.flip(0),
        index=batch.index.flip(0),
    )
    ours, theirs = (method.forward(ctx, found).logits for found in (batch, turned))
    torch.testing.assert_close(theirs.flip(0), ours, rtol=1e-4, atol=1e-5)


def test_it_drops_in_a_part_of_the_batches_and_from_its_first_epoch_on(make: Callable[..., Trainer]) -> None:
    trainer = make(starts=1, probability=0.5)
    ctx, method = trainer.ctx, trainer.assembly.method
    batch = next(ctx.train.in_order(8))
    acted: list[float] = []
    for epoch in (0, 1):
        ctx.epoch = epoch
        for step in range(40):
            ctx.step = step
            method.forward(ctx, batch)
            acted.append(sum(q.item() for q in ctx.take_logged().values()))
    assert not any(acted[:40])
    assert 10 < sum(q > 0 for q in acted[40:]) < 30


def test_other_epochs_drop_other_rows(make: Callable[..., Trainer]) -> None:
    trainer = make()
    method = trainer.assembly.method
    assert isinstance(method, OPM)
    first = method.draws
    trainer.ctx.epoch = 1
    method.on_epoch_start(trainer.ctx)
    assert bits(method.draws) != bits(first)
    assert bits(method.draws["audio"]) != bits(method.draws["visual"])


def test_predictions_drop_nothing(make: Callable[..., Trainer]) -> None:
    trainer = make(starts=0, probability=1.0, base=1.0)
    ctx, method = trainer.ctx, trainer.assembly.method
    ctx.model.eval()
    batch = next(ctx.val.in_order(8))
    assert bits(method.predict(ctx.model, batch).logits) == bits(ctx.model(batch.inputs, batch.lengths).logits)


def test_a_run_that_ends_before_is_warned_of(make: Callable[..., Trainer]) -> None:
    trainer = make(starts=4)
    assert list(trainer.assembly.method.warnings(trainer.ctx)) == [
        "it never acts (starts: 4, 4 epochs): this is joint training"
    ]
    trainer = make(starts=3)
    assert list(trainer.assembly.method.warnings(trainer.ctx)) == []


def test_fusions_between_encoders_are_refused(make: Callable[..., Trainer]) -> None:
    with pytest.raises(RecipeError, match=r"fusion\.name = mmtm +must be concat or sum or .*late_transformer for opm"):
        make(fusion="mmtm", unimodal_logits="zero_others")
