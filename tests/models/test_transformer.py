from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from drcli.errors import UsageError
from drcli.models.transformer import Transformer, pool_steps, sinusoids
from drcli.names import BACKBONES

LENGTHS = torch.tensor([7, 4, 1, 0])


def make(**settings: Any) -> Transformer:
    torch.manual_seed(0)
    small = {"dim": 8, "heads": 2, "layers": 2, "feedforward": 16, **settings}
    return Transformer(Transformer.Settings(**small), (7, 3))


def sequences() -> Tensor:
    return torch.randn(4, 7, 3, generator=torch.Generator().manual_seed(1))


def padding(lengths: Tensor, steps: int) -> Tensor:
    return torch.arange(steps) >= lengths[:, None]


EVERY_KIND = [
    {"pooling": pooling, "positional": positional}
    for pooling in ("last", "mean")
    for positional in ("sinusoidal", "none")
]


def test_maps_sequences_to_features_of_its_width() -> None:
    encoder = BACKBONES.load("transformer")(Transformer.Settings(), (50, 300))
    assert encoder.width == 40
    assert encoder.takes_lengths
    assert encoder(torch.randn(2, 50, 300)).shape == (2, 40)


@pytest.mark.parametrize("settings", EVERY_KIND)
@pytest.mark.parametrize("filling", [1e6, float("nan"), float("inf")])
def test_what_stands_in_the_padding_has_no_influence(settings: dict[str, str], filling: float) -> None:
    encoder, x = make(**settings).eval(), sequences()
    filled = x.masked_fill(padding(LENGTHS, 7)[:, :, None], filling)
    torch.testing.assert_close(encoder(filled, LENGTHS), encoder(x, LENGTHS), rtol=0, atol=0)


@pytest.mark.parametrize("settings", EVERY_KIND)
def test_more_padding_has_no_influence(settings: dict[str, str]) -> None:
    encoder, x = make(**settings).eval(), sequences()
    longer = torch.cat([x, torch.ones(4, 5, 3)], dim=1)
    torch.testing.assert_close(encoder(longer, LENGTHS), encoder(x, LENGTHS), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("settings", EVERY_KIND)
def test_a_padded_sequence_gives_what_it_gives_alone(settings: dict[str, str]) -> None:
    encoder, x = make(**settings).eval(), sequences()
    together = encoder(x, LENGTHS)
    for row in (0, 1, 2):
        alone = encoder(x[row : row + 1, : LENGTHS[row]])
        torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("settings", EVERY_KIND)
def test_a_vector_is_a_sequence_of_one_step(settings: dict[str, str]) -> None:
    torch.manual_seed(0)
    small = {"dim": 8, "heads": 2, "layers": 2, "feedforward": 16, **settings}
    encoder = Transformer(Transformer.Settings(**small), (3,)).eval()
    x = sequences()[:, 0]
    torch.testing.assert_close(encoder(x), make(**settings).eval()(x[:, None]), rtol=0, atol=0)


def test_without_lengths_every_step_is_valid() -> None:
    encoder, x = make().eval(), sequences()
    torch.testing.assert_close(encoder(x), encoder(x, torch.full((4,), 7)), rtol=0, atol=0)


@pytest.mark.parametrize("settings", EVERY_KIND)
def test_a_sequence_without_steps_has_features_and_gradients_of_zero(settings: dict[str, str]) -> None:
    encoder, x = make(**settings), sequences().requires_grad_()
    features = encoder(x, LENGTHS)
    assert features[3].tolist() == [0.0] * 8
    features.square().sum().backward()
    assert x.grad is not None
    assert x.grad[3].tolist() == [[0.0] * 3] * 7
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())


@pytest.mark.parametrize("settings", EVERY_KIND)
def test_the_gradient_reaches_all_weights_and_all_valid_steps(settings: dict[str, str]) -> None:
    encoder, x = make(**settings), sequences().requires_grad_()
    encoder(x, LENGTHS)[:, 0].square().sum().backward()
    assert {name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.any()} == set()
    assert x.grad is not None
    assert torch.equal(x.grad.any(dim=2), ~padding(LENGTHS, 7))


def test_the_order_of_steps_counts_with_positions_alone() -> None:
    x, order = sequences(), torch.tensor([2, 0, 3, 1, 6, 4, 5])
    without, with_positions = make(pooling="mean", positional="none").eval(), make(pooling="mean").eval()
    torch.testing.assert_close(without(x[:, order]), without(x), rtol=1e-5, atol=1e-6)
    assert (with_positions(x[:, order]) - with_positions(x)).abs().max() > 1e-2


@pytest.mark.parametrize("settings", EVERY_KIND)
def test_inference_without_gradients_agrees_with_training_without_dropout(settings: dict[str, str]) -> None:
    encoder, x = make(dropout=0.0, **settings), sequences()
    trained = encoder.train()(x, LENGTHS)
    with torch.no_grad():
        torch.testing.assert_close(encoder.eval()(x, LENGTHS), trained, rtol=1e-5, atol=1e-6)


def test_dropout_acts_in_training_alone_and_repeats_with_the_seed() -> None:
    encoder, x = make(dropout=0.5), sequences()
    outputs = []
    for _ in range(2):
        torch.manual_seed(3)
        outputs.append(encoder(x, LENGTHS))
    assert torch.equal(*outputs)
    assert not torch.equal(outputs[0], encoder(x, LENGTHS))
    encoder.eval()
    assert torch.equal(encoder(x, LENGTHS), encoder(x, LENGTHS))


def test_initial_weights_depend_on_the_seed_alone() -> None:
    first, second = make().state_dict(), make().state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_positions_are_sines_and_cosines_of_falling_rate() -> None:
    table = sinusoids(3, 4)
    by_hand = [[math.sin(t), math.cos(t), math.sin(t / 100), math.cos(t / 100)] for t in range(3)]
    torch.testing.assert_close(table, torch.tensor(by_hand))
    assert sinusoids(2, 5).shape == (2, 5)


def test_pooling_by_hand() -> None:
    hidden = torch.tensor([[[1.0], [3.0], [8.0]]] * 4)
    lengths = torch.tensor([3, 2, 1, 0])
    assert pool_steps(hidden, lengths, "last").flatten().tolist() == [8.0, 3.0, 1.0, 0.0]
    assert pool_steps(hidden, lengths, "mean").flatten().tolist() == [4.0, 2.0, 1.0, 0.0]


def test_widths_that_heads_do_not_divide_are_refused() -> None:
    with pytest.raises(ValidationError, match="dim 42 is not a multiple of heads 5"):
        Transformer.Settings(dim=42)


def test_pictures_are_refused() -> None:
    with pytest.raises(UsageError, match=r"Transformer takes 2-d or 1-d samples, not shape \(3, 8, 8\)"):
        Transformer(Transformer.Settings(), (3, 8, 8))
