"""Encoders of texts: padding has no influence, and the numbers are those worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from drcli.errors import UsageError
from drcli.models.backbone import Backbone
from drcli.models.text import TokenBag, TokenTransformer
from drcli.models.transformer import sinusoids
from drcli.names import BACKBONES

VOCABULARY, PAD = 9, 0
IDS = torch.tensor([[4, 2, 8, 1], [7, 7, PAD, PAD], [5, PAD, PAD, PAD], [PAD] * 4])
LENGTHS = torch.tensor([4, 2, 1, 0])
SMALL: dict[str, dict[str, Any]] = {
    "token_transformer": {"dim": 8, "heads": 2, "layers": 2, "feedforward": 16},
    "token_bag": {"dim": 8},
}


def make(name: str, **settings: Any) -> Backbone:
    torch.manual_seed(0)
    kind = BACKBONES.load(name)
    encoder: Backbone = kind.for_input(kind.Settings(**SMALL[name], **settings), (4,), VOCABULARY)
    return encoder.eval()


EVERY_KIND: list[tuple[str, dict[str, Any]]] = [
    ("token_bag", {}),
    *[
        ("token_transformer", {"pooling": pooling, "positional": positional})
        for pooling in ("last", "mean")
        for positional in ("sinusoidal", "none")
    ],
]


@pytest.mark.parametrize(("name", "settings"), EVERY_KIND)
def test_which_ids_stand_in_the_padding_has_no_influence(name: str, settings: dict[str, Any]) -> None:
    encoder = make(name, **settings)
    filled = torch.where(torch.arange(4) < LENGTHS[:, None], IDS, 6)
    torch.testing.assert_close(encoder(filled, LENGTHS), encoder(IDS, LENGTHS), rtol=0, atol=0)
    assert encoder(IDS, LENGTHS)[3].tolist() == [0.0] * 8


@pytest.mark.parametrize(("name", "settings"), EVERY_KIND)
def test_more_padding_has_no_influence(name: str, settings: dict[str, Any]) -> None:
    encoder = make(name, **settings)
    longer = torch.cat([IDS, torch.full((4, 3), 5)], dim=1)
    torch.testing.assert_close(encoder(longer, LENGTHS), encoder(IDS, LENGTHS), rtol=1e-5, atol=1e-6)


def test_a_bag_is_the_mean_of_the_embeddings_of_valid_tokens() -> None:
    encoder = make("token_bag")
    assert isinstance(encoder, TokenBag)
    table = encoder.embeddings.weight
    torch.testing.assert_close(encoder(IDS, LENGTHS)[1], table[7])
    torch.testing.assert_close(encoder(IDS, LENGTHS)[0], (table[4] + table[2] + table[8] + table[1]) / 4)
    torch.testing.assert_close(encoder(IDS)[2], (table[5] + 3 * table[PAD]) / 4)


def test_a_transformer_adds_positions_to_embeddings() -> None:
    encoder = make("token_transformer")
    assert isinstance(encoder, TokenTransformer)
    begun = encoder.begin(IDS, LENGTHS)
    assert isinstance(encoder.project, torch.nn.Embedding)
    torch.testing.assert_close(begun.values[1, 1], encoder.project.weight[7] + sinusoids(4, 8)[1])
    assert begun.padding is not None
    assert begun.padding.tolist()[1] == [False, False, True, True]


def test_numbers_are_refused_by_encoders_of_text_and_texts_by_encoders_of_numbers() -> None:
    kind = BACKBONES.load("transformer")
    with pytest.raises(UsageError, match=r"backbone Transformer takes numbers.* such as token_transformer"):
        kind.for_input(kind.Settings(), (4,), VOCABULARY)
    kind = BACKBONES.load("token_bag")
    with pytest.raises(UsageError, match=r"backbone TokenBag takes token ids, and samples \(16,\) are none"):
        kind.for_input(kind.Settings(), (16,))


def test_a_table_of_another_vocabulary_is_free_in_shape_and_everything_else_is_not() -> None:
    """What a checkpoint of drcli holds of an encoder of text is compared before the data is read."""
    kind = BACKBONES.load("token_bag")
    one, other = (kind.example(kind.Settings(dim=8), number).state_dict() for number in (0, 1))
    assert [tuple(state["embeddings.weight"].shape) for state in (one, other)] == [(64, 8), (65, 8)]
