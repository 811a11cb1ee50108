"""AMSS: how strong a modality is, which part of it is kept, and what is multiplied."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.amss import slow_plus, slow_shares, slow_strengths
from support.training import make_trainer
from torch import Tensor, nn

from drcli.data.batches import Batch
from drcli.engine.trainer import Trainer
from drcli.errors import RecipeError
from drcli.methods.amss import AMSS, factors, mask_channels, shares, strengths
from drcli.methods.base import concatenated
from drcli.models.fusion import Outputs
from drcli.recipe.load import recipe_from_dict

TWO = ("audio", "visual")
THREE = ("audio", "visual", "text")


@pytest.fixture
def trainer(toy_dict: Callable[..., dict[str, Any]], tmp_path: Path) -> Callable[..., Trainer]:
    """Makes a trainer of amss on residual networks before its first step."""

    def make(modalities: tuple[str, ...] = TWO, fusion: str = "concat", **settings: Any) -> Trainer:
        training = {"epochs": 1, "batch_size": 16, "optimizer": {"name": "sgd", "lr": 0.05}}
        plain = toy_dict(fusion=fusion, method="amss", methods={"amss": settings}, training=training)
        plain["modalities"] = {m: {"backbone": "resnet_small", "width": 4} for m in modalities}
        return make_trainer(recipe_from_dict(plain, where="a test"), tmp_path / f"{len(list(tmp_path.iterdir()))}")

    return make


def method_of(trainer: Trainer) -> AMSS:
    method = trainer.assembly.method
    assert isinstance(method, AMSS)
    return method


def drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_shares_worked_by_hand() -> None:
    """rho / T = (2, 1): of 64 channels, 18 are kept of the stronger."""
    found = shares({"a": (2.0, 1.0), "v": (1.0, 1.0)}, 1.0)
    assert found == pytest.approx({"a": 0.268941, "v": 0.731059}, abs=1e-6)
    kept = factors(torch.rand(1, 64, generator=drawn()), found["a"], drawn(), plus=False)
    assert kept.sum().item() == 18


def test_shares_are_limited_and_equal_where_a_modality_knows_nothing() -> None:
    assert shares({"a": (9.0, 1.0), "v": (1.0, 1.0)}, 0.2) == {"a": 0.1, "v": 0.9}
    assert shares({"a": (9.0, 1.0), "v": (0.0, 1.0)}, 0.2) == {"a": 0.5, "v": 0.5}
    assert sum(shares({"a": (1.2, 1.0), "v": (1.0, 1.0), "t": (0.9, 1.0)}, 1.0).values()) == pytest.approx(1)


def test_strengths_and_shares_agree_with_a_slow_reference() -> None:
    generator = drawn()
    labels = torch.tensor([0, 1, 2, 0, 0, 1])
    logits = {m: torch.randn(6, 3, generator=generator, dtype=torch.float64) for m in TWO}
    features = {m: torch.randn(6, 5, generator=generator, dtype=torch.float64) for m in TWO}
    expected = slow_strengths(
        {m: z.tolist() for m, z in logits.items()}, {m: h.tolist() for m, h in features.items()}, labels.tolist()
    )
    found = strengths(logits, features, labels)
    assert {m: above / below for m, (above, below) in found.items()} == pytest.approx(expected)
    assert all(above > 0 for above, _ in found.values())
    assert shares(found, 0.5) == pytest.approx(slow_shares(expected, 0.5), rel=1e-5)


def test_channels_are_drawn_in_proportion_to_their_importance() -> None:
    """Of 20,000 rows with one of four kept: a share has a standard error of at most 0.0036."""
    importance = torch.tensor([1.0, 2.0, 3.0, 4.0]).expand(20_000, 4)
    kept = factors(importance, 0.25, drawn(), plus=False)
    assert kept.mean(dim=0).tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4], abs=0.015)
    assert set(kept.sum(dim=1).tolist()) == {1.0}


def test_a_channel_without_gradient_is_drawn_last() -> None:
    kept = factors(torch.tensor([[0.0, 1.0, 0.0, 1e-6]]), 0.5, drawn(), plus=False)
    assert kept.tolist() == [[0.0, 1.0, 0.0, 1.0]]
    assert factors(torch.zeros(1, 4), 0.5, drawn(), plus=True).sum().item() == pytest.approx(8)


def test_amss_plus_agrees_with_a_slow_reference() -> None:
    importance = torch.rand(1, 8, generator=drawn(1))
    found = factors(importance, 0.5, drawn(), plus=True)[0].tolist()
    expected = slow_plus(importance[0].tolist())
    assert sum(value > 0 for value in found) == 4
    assert all(
        value == 0 or value == pytest.approx(other, rel=1e-5) for value, other in zip(found, expected, strict=True)
    )


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_whole_channels_are_masked_whatever_the_layout(layout: torch.memory_format) -> None:
    gradient = torch.randn(8, 3, 2, 2, generator=drawn()).contiguous(memory_format=layout)
    before = gradient.clone()
    mask_channels(gradient, 0.5, drawn(), plus=False)
    kept = [bool(channel.any()) for channel in gradient]
    assert sum(kept) == 4
    expected = before * torch.tensor(kept)[:, None, None, None]
    assert torch.equal(gradient, expected)


def stepped(made: Trainer) -> tuple[Batch, Outputs, dict[str, list[Tensor]]]:
    """A batch, its outputs, and the gradients by group before and after they are masked."""
    batch = next(made.ctx.train.in_order(16))
    method = method_of(made)
    outputs = method.forward(made.ctx, batch)
    method.backward(made.ctx, method.losses(made.ctx, outputs, batch))
    outputs = concatenated([outputs])  # detached
    before = {name: gradients(ps) for name, ps in made.ctx.model.parameter_groups().items()}
    method.modulate(made.ctx, outputs, batch)
    return batch, outputs, before


def gradients(parameters: list[nn.Parameter]) -> list[Tensor]:
    return [p.grad.clone() for p in parameters if p.grad is not None]


@pytest.mark.parametrize("modalities", [TWO, THREE], ids=len)
@pytest.mark.parametrize("fusion", ["concat", "sum"])
def test_a_step_keeps_the_shares_and_leaves_all_else(
    fusion: str, modalities: tuple[str, ...], trainer: Callable[..., Trainer]
) -> None:
    made = trainer(modalities, fusion)
    batch, outputs, before = stepped(made)
    model: Any = made.ctx.model
    logits = method_of(made).unimodal_logits(model, outputs.features)
    expected = shares(strengths(logits, outputs.features, batch.labels), 0.2)
    start = 0
    for m in modalities:
        for old, new in zip(before[m], gradients(list(model.encoders[m].parameters())), strict=True):
            if old.dim() != 4:
                assert torch.equal(old, new)
                continue
            kept = torch.stack([channel.any() for channel in new])
            assert int(kept.sum()) == -int(-expected[m] * len(new) // 1)
            assert torch.equal(new[kept], old[kept])
        weight = model.fusion.linear.weight if fusion == "concat" else model.fusion.linears[m].weight
        width = model.fusion.widths[m]
        columns = weight.grad[:, start : start + width] if fusion == "concat" else weight.grad
        assert set((columns != 0).sum(dim=1).tolist()) == {-int(-expected[m] * width // 1)}
        start += width


def test_outside_the_window_and_with_one_modality_nothing_is_masked(trainer: Callable[..., Trainer]) -> None:
    for made in (trainer(ends=-1), trainer(("audio",))):
        _, _, before = stepped(made)
        for name, parameters in made.ctx.model.parameter_groups().items():
            assert all(torch.equal(old, new) for old, new in zip(before[name], gradients(parameters), strict=True))


def test_encoders_without_convolutions_are_refused(toy_dict: Callable[..., dict[str, Any]]) -> None:
    transformer = {m: {"backbone": "transformer"} for m in TWO}
    plain = {**toy_dict(method="amss", methods={"amss": {}}), "modalities": transformer}
    with pytest.raises(RecipeError, match=r"methods\.amss\.tensors = conv4d.*has no such weights; use non1d"):
        recipe_from_dict(plain, where="a test")
