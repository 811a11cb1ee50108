"""The vision transformer: patches and positions, frames, pooling, and how it starts."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from drcli.errors import UsageError
from drcli.models.backbone import Tokens
from drcli.models.transformer import ViT
from drcli.names import BACKBONES

POOLINGS = pytest.mark.parametrize("pooling", ["cls", "mean"])


def make(shape: tuple[int, ...] = (1, 8, 8), **settings: Any) -> ViT:
    torch.manual_seed(0)
    small = {"dim": 8, "heads": 2, "layers": 2, "feedforward": 16, **settings}
    return ViT(ViT.Settings(**small), shape)


def pictures(*shape: int) -> Tensor:
    return torch.randn(3, *shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("shape", "patch", "tokens"),
    [((1, 8, 8), 4, 4), ((1, 64, 16), 16, 4), ((3, 7, 9), 4, 6), ((5, 2, 8, 8), 4, 20), ((1, 3, 3), 16, 1)],
    ids=str,
)
@POOLINGS
def test_a_sample_becomes_one_token_a_patch_and_frame(
    pooling: str, shape: tuple[int, ...], patch: int, tokens: int
) -> None:
    encoder = make(shape, patch=patch, pooling=pooling)
    hidden = encoder.begin(pictures(*shape))
    assert hidden.values.shape == (3, tokens + (pooling == "cls"), 8)
    assert hidden.padding is None
    assert encoder(pictures(*shape)).shape == (3, encoder.width)


def test_every_layer_is_a_stage_of_one_width() -> None:
    encoder = make(layers=3)
    assert encoder.channels == (8, 8, 8)
    assert encoder.width == 8
    assert not encoder.takes_lengths


def test_vit_b_16_has_its_number_of_parameters() -> None:
    """86,567,656 with its classifier of 1,000 classes, which are 768 * 1000 + 1000 of them."""
    settings = ViT.Settings(patch=16, dim=768, heads=12, layers=12, feedforward=3072)
    with torch.device("meta"):
        encoder = ViT(settings, (3, 224, 224))
    assert sum(p.numel() for p in encoder.parameters()) == 86_567_656 - 769_000


def test_rows_and_columns_that_fill_no_patch_are_completed_with_zeros_at_the_end() -> None:
    uneven, even, x = make((1, 6, 7)), make((1, 8, 8)), pictures(1, 6, 7)
    filled = torch.zeros(3, 1, 8, 8)
    filled[:, :, :6, :7] = x
    assert torch.equal(uneven.eval()(x), even.eval()(filled))


def test_a_patch_reaches_its_own_token_alone() -> None:
    encoder, x = make((2, 1, 8, 8), pooling="mean").eval(), pictures(2, 1, 8, 8)
    other = x.clone()
    other[:, 1, :, 4:, :4] += 1.0  # second frame, lower left: 4 + 2
    changed = (encoder.begin(other).values != encoder.begin(x).values).any(dim=2)
    assert changed.tolist() == [[token == 6 for token in range(8)]] * 3


@POOLINGS
def test_the_order_of_frames_counts(pooling: str) -> None:
    encoder, x = make((4, 1, 8, 8), pooling=pooling).eval(), pictures(4, 1, 8, 8)
    assert (encoder(x.flip(1)) - encoder(x)).abs().max() > 1e-3


def test_without_positions_the_order_of_patches_would_not_count() -> None:
    encoder, x = make((4, 1, 8, 8), pooling="mean").eval(), pictures(4, 1, 8, 8)
    encoder.positions.data.zero_()
    torch.testing.assert_close(encoder(x.flip(1)), encoder(x))


def test_pooling_takes_the_first_token_or_the_mean_of_the_normalised() -> None:
    tokens = Tokens(torch.randn(2, 5, 8))
    for pooling in ("cls", "mean"):
        encoder = make(pooling=pooling)
        normed = torch.nn.functional.layer_norm(tokens.values, (8,), eps=1e-6)
        expected = normed[:, 0] if pooling == "cls" else normed.mean(dim=1)
        torch.testing.assert_close(encoder.end(tokens), expected)


@POOLINGS
def test_the_gradient_reaches_all_weights_and_all_pixels(pooling: str) -> None:
    encoder, x = make((2, 3, 9, 6), pooling=pooling), pictures(2, 3, 9, 6).requires_grad_()
    encoder(x)[:, 0].square().sum().backward()
    without = {name for name, p in encoder.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-6}
    # A constant added to all scores leaves a softmax as it is.
    assert without == {f"blocks.{layer}.attention.1.key.bias" for layer in range(2)}
    assert x.grad is not None
    assert x.grad.ne(0).all()


def test_weights_start_as_the_authors_do() -> None:
    encoder = make((3, 64, 64), dim=128, heads=4, feedforward=256, patch=8)
    assert encoder.cls is not None
    assert not encoder.cls.any()
    assert float(encoder.positions.detach().std()) == pytest.approx(0.02, rel=0.05)
    assert float(encoder.patches.weight.detach().std()) == pytest.approx((3 * 64) ** -0.5, rel=0.05)
    blocks: Any = encoder.blocks
    hidden = blocks[0].mlp[1].weight.detach()
    assert float(hidden.abs().max()) == pytest.approx((6 / (128 + 256)) ** 0.5, rel=0.01)
    assert not any(p.any() for name, p in encoder.named_parameters() if name.endswith("bias"))


def test_initial_weights_depend_on_the_seed_alone() -> None:
    first, second = make().state_dict(), make().state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_dropout_acts_in_training_alone_and_repeats_with_the_seed() -> None:
    encoder, x = make(dropout=0.5), pictures(1, 8, 8)
    outputs = []
    for _ in range(2):
        torch.manual_seed(3)
        outputs.append(encoder(x))
    assert torch.equal(*outputs)
    assert not torch.equal(outputs[0], encoder(x))
    encoder.eval()
    assert torch.equal(encoder(x), encoder(x))


def test_widths_that_heads_do_not_divide_are_refused() -> None:
    with pytest.raises(ValidationError, match="dim 42 is not a multiple of heads 4"):
        ViT.Settings(dim=42)


@pytest.mark.parametrize("shape", [(40,), (40, 36), (2, 3, 4, 40, 36)], ids=len)
def test_a_wrong_rank_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=rf"backbone ViT takes 3-d or 4-d samples, not shape \({shape[0]}"):
        make(shape)


def test_vit_is_registered_as_vit() -> None:
    assert BACKBONES.load("vit") is ViT


@pytest.mark.slow
def test_forward_and_backward_do_not_import_the_compiler() -> None:
    code = (
        "import sys, torch; from drcli.models.transformer import ViT; "
        "ViT(ViT.Settings(), (1, 8, 8))(torch.randn(2, 1, 8, 8)).sum().backward(); "
        "print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
