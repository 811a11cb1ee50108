"""Layers of encoders: how they are counted, and what rates parts of a model have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from torch import nn

from drcli.errors import RecipeError, UsageError
from drcli.models.layers import layers_of, rates_of, trunk_of
from drcli.names import BACKBONES
from drcli.recipe.load import recipe_from_dict

OURS = [
    # the first convolution with its normalisation, then four stages
    ("resnet18", {}, (1, 32, 32), ["conv1.weight", "layer1.0.conv1.weight", "layer2.0", "layer3.0", "layer4.0"]),
    ("resnet_small", {"width": 4}, (1, 8, 8), ["stem.0.weight", "blocks.0.", "blocks.1.", "blocks.2."]),
    # CLS token, positions and patches; the blocks; the last normalisation
    ("vit", {"layers": 2}, (1, 8, 8), ["cls", "blocks.0.", "blocks.1.", "norm.weight"]),
    ("transformer", {"layers": 2}, (4, 5), ["project.weight", "layers.layers.0.", "layers.layers.1."]),
    ("mlp", {"hidden": (4, 3)}, (5,), ["layers.0.", "layers.1."]),
]


@pytest.mark.parametrize(("name", "settings", "shape", "firsts"), OURS, ids=str)
def test_layers_of_our_backbones(
    name: str, settings: dict[str, object], shape: tuple[int, ...], firsts: list[str]
) -> None:
    backbone = BACKBONES.load(name)
    encoder = backbone(backbone.Settings(**settings), shape)
    names = {id(parameter): key for key, parameter in encoder.named_parameters()}
    found = [[names[id(parameter)] for parameter in layer] for layer in layers_of(encoder)]
    assert [layer[0].startswith(first) for layer, first in zip(found, firsts, strict=True)] == [True] * len(firsts)
    assert sorted(key for layer in found for key in layer) == sorted(names.values())


class Bert(nn.Module):
    """Named and nested as text encoders of transformers are."""

    def __init__(self) -> None:
        super().__init__()
        self.embeddings = nn.ModuleDict({"words": nn.Embedding(9, 4), "positions": nn.Embedding(9, 4)})
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(nn.Linear(4, 4) for _ in range(3))})
        self.pooler = nn.Linear(4, 4)


class Residual(nn.Module):
    """Stages side by side, the largest with more blocks than there are stages, as in residual networks of timm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Linear(2, 2)
        self.layer1, self.layer2 = nn.Sequential(nn.Linear(2, 2)), nn.Sequential(*(nn.Linear(2, 2) for _ in range(5)))
        self.layer3 = nn.Sequential(nn.Linear(2, 2))


def test_layers_of_other_packages_are_those_of_the_sequence_that_holds_most_weights() -> None:
    assert [sum(p.numel() for p in layer) for layer in layers_of(Bert())] == [72, 20, 20, 20, 20]
    assert [sum(p.numel() for p in layer) for layer in layers_of(Residual())] == [6, 6, 30, 6]
    wrapped = nn.ModuleDict({"model": Bert()})
    assert len(layers_of(wrapped)) == 5


def test_an_encoder_names_its_own_trunk() -> None:
    encoder = Bert()
    encoder.trunk = ("embeddings.words", "pooler")  # type: ignore[assignment]
    assert trunk_of(encoder) == [encoder.embeddings["words"], encoder.pooler]
    around = nn.Module()
    around.model = encoder
    assert trunk_of(around) == trunk_of(encoder)


def test_a_trunk_is_a_name_a_module_of_that_name_or_refused() -> None:
    """A class of one's own may well call its blocks `trunk`."""

    class Own(nn.Module):
        def __init__(self, trunk: object) -> None:
            super().__init__()
            self.stem = nn.Linear(2, 2)
            self.blocks = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
            self.trunk = trunk

    class Around(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

    blocks = nn.Sequential(nn.Linear(9, 9), nn.Linear(9, 9))
    for encoder in (Own(blocks), Around(Own(blocks))):
        assert trunk_of(encoder) == list(blocks)
    named = Own("blocks")
    assert trunk_of(named) == list(named.blocks)
    with pytest.raises(UsageError, match=r"trunk of Own: .*blcks.*; name modules of it"):
        trunk_of(Own(("blcks",)))


def test_an_encoder_without_a_sequence_is_one_layer() -> None:
    assert trunk_of(nn.Linear(2, 2)) == []
    assert [len(layer) for layer in layers_of(nn.Linear(2, 2))] == [2]


def test_rates_in_training_hold_in_place_of_those_of_the_parts(toy_dict: Callable[..., dict[str, Any]]) -> None:
    data = toy_dict()
    data["modalities"]["audio"]["lr"] = 0.3
    data["training"]["rates"] = {"audio": 0.2, "fusion": 0.1}
    data["methods"]["joint"] = {"training": {"rates": {"visual": 0.7}}}
    recipe = recipe_from_dict(data, where="the test's recipe")
    assert recipe.part_rates() == {"audio": 0.2, "visual": 0.05, "fusion": 0.1}
    assert recipe.for_run("joint", 0).part_rates() == {"audio": 0.2, "visual": 0.7, "fusion": 0.1}
    data["methods"]["joint"]["training"]["rates"]["text"] = 0.1
    with pytest.raises(RecipeError, match=r"joint\.training\.rates.*parts of the model: audio, visual, fusion"):
        recipe_from_dict(data, where="the test's recipe")


def test_rates_of_parts(toy_dict: Callable[..., dict[str, Any]]) -> None:
    blocks = {
        "modalities": {
            "audio": {"backbone": "tiny", "lr": 0.8, "layer_decay": 0.5},
            "visual": {"backbone": "tiny", "layer_decay": 0.1},
            "text": {"backbone": "tiny"},
        },
        "fusion": {"name": "concat", "lr": 0.002},
    }
    recipe = recipe_from_dict({**toy_dict(), **blocks}, where="the test's recipe")
    encoders = {m: BACKBONES.load("tiny")(block.settings, (1, 8, 8)) for m, block in recipe.modalities.items()}
    fusion = nn.Linear(2, 2)
    rates = rates_of(recipe, encoders, fusion)
    of = {
        m: {name: rates.get(id(p), 0.05) for name, p in encoder.named_parameters()} for m, encoder in encoders.items()
    }
    shown = ("stem.weight", "norm.bias", "layers.0.weight", "layers.1.bias", "layers.2.weight")
    assert [of["audio"][name] for name in shown] == [0.1, 0.1, 0.2, 0.4, 0.8]
    assert [of["visual"][name] for name in shown] == pytest.approx([5e-5, 5e-5, 5e-4, 5e-3, 5e-2])
    assert set(of["text"].values()) == {0.05}
    assert [rates[id(p)] for p in fusion.parameters()] == [0.002, 0.002]
