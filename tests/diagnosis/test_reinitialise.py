"""Soft re-initialisation moves what it should, exactly as far as it should, and nothing else."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from drcli.diagnosis import snapshot, soft_reinitialise


def encoder(seed: int = 0) -> nn.Sequential:
    """Convolution, batch normalisation (buffers, one of them an integer), linear layer."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv1d(1, 3, 2), nn.BatchNorm1d(3), nn.Flatten(), nn.Linear(9, 2))


def train(module: nn.Module, steps: int = 100) -> None:
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    for _ in range(steps):
        optimizer.zero_grad()
        module(torch.randn(8, 1, 4)).square().mean().backward()
        optimizer.step()


def bits(tensors: dict[str, Tensor]) -> dict[str, bytes]:
    return {name: tensor.detach().numpy().tobytes() for name, tensor in tensors.items()}


@pytest.fixture
def trained() -> tuple[nn.Sequential, dict[str, Tensor]]:
    """A trained encoder, and its state before training."""
    module = encoder()
    initial = snapshot(module)
    train(module)
    return module, initial


def test_a_quarter_of_the_way_from_one_to_zero_is_three_quarters() -> None:
    module = nn.Linear(2, 1)
    nn.init.ones_(module.weight)
    nn.init.ones_(module.bias)
    soft_reinitialise(module, {"weight": torch.zeros(1, 2), "bias": torch.zeros(1)}, 0.25)
    assert module.weight.tolist() == [[0.75, 0.75]]
    assert module.bias.tolist() == [0.75]


def test_every_parameter_is_the_weighted_mean_of_its_two_states(
    trained: tuple[nn.Sequential, dict[str, Tensor]],
) -> None:
    module, initial = trained
    before = snapshot(module)
    soft_reinitialise(module, initial, 0.3)
    for name, parameter in module.named_parameters():
        expected = 0.3 * initial[name].double() + 0.7 * before[name].double()
        torch.testing.assert_close(parameter.detach().double(), expected, rtol=0, atol=1e-6)
        assert not torch.equal(parameter, before[name])


def test_training_does_not_change_the_snapshot(trained: tuple[nn.Sequential, dict[str, Tensor]]) -> None:
    assert bits(trained[1]) == bits(snapshot(encoder()))


def test_strength_0_leaves_every_bit() -> None:
    module = nn.Linear(3, 1, bias=False)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[-0.0, 1e-45, math.inf]]))
    before = bits(snapshot(module))
    soft_reinitialise(module, {"weight": torch.full((1, 3), math.nan)}, 0.0, buffers="blend")
    assert bits(snapshot(module)) == before


def test_strength_1_restores_every_bit_even_from_a_diverged_encoder() -> None:
    module = nn.Linear(3, 1, bias=False)
    nn.init.constant_(module.weight, math.nan)
    initial = {"weight": torch.tensor([[-0.0, 1e-45, 3.0]])}
    soft_reinitialise(module, initial, 1.0)
    assert bits(snapshot(module)) == bits(initial)


def test_buffers_are_kept_unless_asked_for(trained: tuple[nn.Sequential, dict[str, Tensor]]) -> None:
    module, initial = trained
    before = bits(dict(module.named_buffers()))
    soft_reinitialise(module, initial, 0.5)
    assert bits(dict(module.named_buffers())) == before


def test_blending_buffers_moves_the_floating_ones_and_leaves_the_count(
    trained: tuple[nn.Sequential, dict[str, Tensor]],
) -> None:
    module, initial = trained
    norm = module[1]
    assert isinstance(norm, nn.BatchNorm1d)
    assert norm.running_mean is not None
    mean = norm.running_mean.clone()
    soft_reinitialise(module, initial, 0.5, buffers="blend")
    torch.testing.assert_close(norm.running_mean, 0.5 * mean)  # it starts at 0
    assert norm.num_batches_tracked == 100


def test_parameters_stay_the_same_tensors_with_their_gradients_and_momentum() -> None:
    module = encoder()
    initial = snapshot(module)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    module(torch.randn(8, 1, 4)).sum().backward()
    optimizer.step()
    addresses = [parameter.data_ptr() for parameter in module.parameters()]
    gradients = [parameter.grad.clone() for parameter in module.parameters() if parameter.grad is not None]
    momenta = [optimizer.state[p]["momentum_buffer"].clone() for p in module.parameters()]
    soft_reinitialise(module, initial, 0.5)
    assert [parameter.data_ptr() for parameter in module.parameters()] == addresses
    for parameter, gradient, momentum in zip(module.parameters(), gradients, momenta, strict=True):
        assert parameter.requires_grad
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, gradient)
        assert torch.equal(optimizer.state[parameter]["momentum_buffer"], momentum)


def test_a_shared_parameter_is_moved_once() -> None:
    first, second = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    second.weight = first.weight
    nn.init.ones_(first.weight)
    module = nn.Sequential(first, second)
    soft_reinitialise(module, {"0.weight": torch.zeros(1, 1)}, 0.5)
    assert first.weight.item() == 0.5


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan])
def test_a_strength_outside_its_range_is_refused(value: float) -> None:
    module = nn.Linear(1, 1)
    with pytest.raises(ValueError, match=r"strength must lie in \[0, 1\]"):
        soft_reinitialise(module, snapshot(module), value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bias": None}, "the initial weights lack bias"),
        ({"bias": torch.zeros(3)}, r"bias has the shape \(1,\), but initially \(3,\)"),
    ],
)
def test_initial_weights_that_do_not_fit_change_nothing(change: dict[str, Tensor | None], message: str) -> None:
    module = nn.Linear(1, 1)
    initial = {name: tensor + 1 for name, tensor in snapshot(module).items()}
    before = bits(snapshot(module))
    fitting = {name: tensor for name, tensor in {**initial, **change}.items() if tensor is not None}
    with pytest.raises(ValueError, match=message):
        soft_reinitialise(module, fitting, 0.5)
    assert bits(snapshot(module)) == before


def test_an_unknown_treatment_of_buffers_is_refused() -> None:
    module = nn.Linear(1, 1)
    with pytest.raises(ValueError, match='buffers must be "keep" or "blend"'):
        soft_reinitialise(module, snapshot(module), 0.5, buffers="recompute")  # type: ignore[arg-type]
