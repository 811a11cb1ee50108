"""CML: by how much confidence rises as modalities go, which samples are exempt, in which order modalities go."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.cml import slow_rise
from support.training import make_trainer
from torch.nn import functional

from drcli.engine.trainer import Trainer
from drcli.errors import RecipeError
from drcli.methods.cml import CML, rise
from drcli.models.fusion import Outputs
from drcli.recipe.schema import Recipe

TWO = ("audio", "visual")
THREE = ("audio", "visual", "text")


@pytest.fixture
def make(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> Callable[..., Trainer]:
    """Makes a trainer of cml before its first step."""

    def made(modalities: tuple[str, ...] = TWO, fusion: Any = "concat", **settings: Any) -> Trainer:
        recipe = toy_recipe(modalities, fusion=fusion, method="cml", methods={"cml": settings})
        return make_trainer(recipe, tmp_path / f"{len(list(tmp_path.iterdir()))}")

    return made


def rises(fewer: list[list[float]], more: list[list[float]], labels: list[int]) -> float:
    """Of probabilities."""
    return rise(torch.tensor(fewer).log(), torch.tensor(more).log(), torch.tensor(labels)).item()


def test_penalties_by_hand() -> None:
    """Confidence 0.6 -> 0.8 costs 0.2, 0.6 -> 0.5 nothing."""
    assert rises([[0.8, 0.2]], [[0.6, 0.4]], [0]) == pytest.approx(0.2, abs=1e-6)
    assert rises([[0.5, 0.5]], [[0.6, 0.4]], [0]) == 0.0


def test_samples_do_not_cancel_by_hand() -> None:
    """Rises of +0.2 and -0.3: the mean of 0.2 and 0, where the sum over the batch would give 0."""
    assert rises([[0.8, 0.2], [0.6, 0.4]], [[0.6, 0.4], [0.9, 0.1]], [0, 0]) == pytest.approx(0.1, abs=1e-6)


@pytest.mark.parametrize(("label", "expected"), [(0, 0.0), (1, 0.2), (2, 0.2)], ids=["fewer right", "more", "neither"])
def test_a_sample_that_only_fewer_modalities_predict_right_is_exempt(label: int, expected: float) -> None:
    """Fewer say class 0 with 0.8, more say class 1 with 0.6."""
    assert rises([[0.8, 0.1, 0.1]], [[0.3, 0.6, 0.1]], [label]) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_the_literal_reference(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    fewer, more = (2 * torch.randn(2, 12, 3, generator=generator)).unbind()
    labels = torch.randint(3, (12,), generator=generator)
    expected = slow_rise(fewer.tolist(), more.tolist(), labels.tolist())
    assert expected > 0
    assert rise(fewer, more, labels).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("fusion", ["concat", "film"])
def test_two_modalities_lose_one_by_features_of_0(fusion: str, make: Callable[..., Trainer]) -> None:
    trainer = make(fusion=fusion, reduced=0.5, **{"lambda": 3.0})
    ctx, method = trainer.ctx, trainer.assembly.method
    batch = next(ctx.train.in_order(30))
    outputs = method.forward(ctx, batch)
    losses = method.losses(ctx, outputs, batch)
    assert list(losses) == ["joint", "calibration", "reduced"]
    found = []
    for gone in TWO:
        z = ctx.model.fusion({m: torch.zeros_like(h) if m == gone else h for m, h in outputs.features.items()})
        found.append((3 * rise(z, outputs.logits, batch.labels), 0.5 * functional.cross_entropy(z, batch.labels)))
    assert any(
        losses["calibration"].item() == pytest.approx(a.item()) and losses["reduced"].item() == pytest.approx(b.item())
        for a, b in found
    )


def test_modalities_go_one_by_one_in_an_order_of_the_epoch(make: Callable[..., Trainer]) -> None:
    trainer = make(THREE)
    ctx, method = trainer.ctx, trainer.assembly.method
    assert isinstance(method, CML)
    outputs = method.forward(ctx, next(ctx.train.in_order(4)))
    orders = set()
    for epoch in range(12):
        ctx.epoch = epoch
        once, twice = method._reduced(ctx, outputs.features)
        left = [m for m in THREE if torch.equal(twice, ctx.model.fusion(only(outputs.features, {m})))]
        gone = [m for m in THREE if torch.equal(once, ctx.model.fusion(only(outputs.features, {*THREE} - {m})))]
        assert (len(left), len(gone)) == (1, 1)
        orders.add((*gone, *left))
        again, _ = method._reduced(ctx, outputs.features)
        assert torch.equal(again, once)
    assert len(orders) > 2


def test_a_rise_counts_from_the_prediction_before_by_hand(
    make: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Confidences 0.6, 0.5, 0.8 as two of three are taken away: 0 and 0.3, times 0.1, and not 0.8 - 0.6."""
    trainer = make(THREE, **{"lambda": 0.1})
    ctx, method = trainer.ctx, trainer.assembly.method
    assert isinstance(method, CML)
    first, *fewer = (torch.tensor([[p, 1 - p, 0.0]]).log() for p in (0.6, 0.5, 0.8))
    monkeypatch.setattr(CML, "_reduced", lambda *_: iter(fewer))
    features = {m: torch.zeros(1, width) for m, width in ctx.model.fusion.widths.items()}
    batch = next(ctx.train.in_order(1))
    batch.labels.zero_()
    losses = method.losses(ctx, Outputs(features, first), batch)
    assert losses["calibration"].item() == pytest.approx(0.03, abs=1e-6)


def only(features: dict[str, torch.Tensor], kept: set[str]) -> dict[str, torch.Tensor]:
    return {m: h if m in kept else torch.zeros_like(h) for m, h in features.items()}


def test_fusions_between_encoders_are_refused(make: Callable[..., Trainer]) -> None:
    with pytest.raises(RecipeError, match=r"fusion\.name = mmtm +must be concat or sum or .*late_transformer for cml"):
        make(fusion="mmtm")
