"""TCMax: the value of its bound, over all combinations and over drawn ones, and what does not change it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.tcmax import slow_tcmax
from support.training import make_trainer
from torch import Tensor

from drcli.engine.trainer import Trainer
from drcli.errors import RecipeError
from drcli.methods.tcmax import TCMax, log_mean_of_terms
from drcli.recipe.schema import Recipe

ONE = ("audio",)
TWO = ("audio", "visual")
THREE = ("audio", "visual", "text")


@pytest.fixture
def make(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> Callable[..., Trainer]:
    """Makes a trainer of tcmax before its first step."""

    def made(
        modalities: tuple[str, ...] = TWO, fusion: Any = "concat", training: Any = None, **settings: Any
    ) -> Trainer:
        blocks = {} if training is None else {"training": training}
        recipe = toy_recipe(modalities, fusion=fusion, method="tcmax", methods={"tcmax": settings}, **blocks)
        return make_trainer(recipe, tmp_path / f"{len(list(tmp_path.iterdir()))}")

    return made


def loss_of(terms: Mapping[str, Tensor], labels: Tensor) -> float:
    right = sum(terms.values(), torch.tensor(0.0)).gather(1, labels[:, None]).mean()
    return (log_mean_of_terms(terms) - right).item()


@pytest.mark.parametrize(("second", "total", "expected"), [(0.0, 14.873127, -0.379885), (1.0, 27.651240, -0.759771)])
def test_numbers_worked_by_hand(second: float, total: float, expected: float) -> None:
    """B = C = 2, z_a = (1, 0), (0, 1), z_v = 0 or z_a: four combinations, and their exponentials add up to `total`."""
    terms = {"audio": torch.eye(2), "visual": second * torch.eye(2)}
    assert log_mean_of_terms(terms).exp().item() * 8 == pytest.approx(total, abs=1e-5)
    assert loss_of(terms, torch.tensor([0, 1])) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("modalities", [ONE, TWO, THREE], ids=len)
def test_equal_logits_give_0(modalities: tuple[str, ...]) -> None:
    assert loss_of({m: torch.zeros(5, 3) for m in modalities}, torch.tensor([0, 1, 2, 0, 1])) == pytest.approx(
        0, abs=1e-6
    )


def test_a_constant_on_all_logits_changes_nothing() -> None:
    terms = {m: torch.randn(6, 3, generator=torch.Generator().manual_seed(n)) for n, m in enumerate(TWO)}
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    shifted = {m: z + 7.0 for m, z in terms.items()}
    assert loss_of(shifted, labels) == pytest.approx(loss_of(terms, labels), abs=1e-5)


def test_large_logits_give_numbers() -> None:
    terms = {m: 500.0 * torch.eye(3) for m in TWO}
    assert loss_of(terms, torch.tensor([0, 1, 2])) == pytest.approx(-torch.tensor(9.0).log().item(), abs=1e-3)


@pytest.mark.parametrize(
    ("fusion", "modalities"),
    [("concat", ONE), ("concat", TWO), ("concat", THREE), ("sum", TWO), ("film", TWO), ("gated", TWO)],
    ids=str,
)
def test_agrees_with_the_literal_reference(
    fusion: str, modalities: tuple[str, ...], make: Callable[..., Trainer]
) -> None:
    trainer = make(modalities, fusion)
    ctx, method = trainer.ctx, trainer.assembly.method
    batch = next(ctx.train.in_order(5))
    outputs = method.forward(ctx, batch)

    def fused(rows: tuple[int, ...]) -> list[float]:
        one = {m: outputs.features[m][[i]] for m, i in zip(modalities, rows, strict=True)}
        found: list[float] = ctx.model.fusion(one)[0].tolist()
        return found

    expected = slow_tcmax(fused, len(modalities), batch.labels.tolist(), 3)
    assert method.losses(ctx, outputs, batch)["tcmax"].item() == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_drawn_combinations_estimate_what_all_give(make: Callable[..., Trainer]) -> None:
    found = []
    for pairs in (None, 4000):
        trainer = make(fusion="film", pairs=pairs)
        batch = next(trainer.ctx.train.in_order(8))
        method = trainer.assembly.method
        found.append(method.losses(trainer.ctx, method.forward(trainer.ctx, batch), batch)["tcmax"].item())
    assert found[1] == pytest.approx(found[0], abs=0.02)
    assert found[1] != found[0]


def test_the_number_of_rows_is_logged(make: Callable[..., Trainer]) -> None:
    trainer = make()
    scalars = trainer.assembly.method.training_step(trainer.ctx, next(trainer.ctx.train.in_order(12)))
    assert scalars["rows"].item() == 12.0


def test_accumulation_is_warned_of(make: Callable[..., Trainer]) -> None:
    training = {"epochs": 1, "batch_size": 16, "accumulate": 3, "optimizer": {"name": "sgd", "lr": 0.05}}
    trainer = make(training=training)
    assert list(trainer.assembly.method.warnings(trainer.ctx)) == [
        "accumulate: samples are combined within parts of 6, not within a batch"
    ]
    trainer = make()
    assert list(trainer.assembly.method.warnings(trainer.ctx)) == []


def test_more_combinations_than_fit_are_refused(make: Callable[..., Trainer]) -> None:
    training = {"epochs": 1, "batch_size": 257, "optimizer": {"name": "sgd", "lr": 0.05}}
    with pytest.raises(RecipeError, match=r"tcmax\.pairs = null +must be given: a batch has 66049 combinations"):
        make(fusion="film", training=training)
    assert isinstance(make(fusion="film", training=training, pairs=2).assembly.method, TCMax)
    assert isinstance(make(training=training).assembly.method, TCMax)


def test_fusions_between_encoders_are_refused(make: Callable[..., Trainer]) -> None:
    with pytest.raises(RecipeError, match=r"fusion\.name = mmtm +must be concat or .*late_transformer for tcmax"):
        make(fusion="mmtm")
