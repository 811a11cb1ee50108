"""Pre-trained weights: what fits is taken, what does not keeps its start, nothing untrusted is run."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from torch import Tensor

from drcli.errors import DataError
from drcli.models.backbone import Backbone
from drcli.models.build import build_model
from drcli.models.multimodal import MultimodalModel
from drcli.models.resnet import ResNet18
from drcli.models.weight_files import IMAGENET, digest
from drcli.models.weights import load_pretrained
from drcli.recipe.schema import Recipe


@pytest.fixture
def model(toy_recipe: Callable[..., Recipe]) -> MultimodalModel:
    recipe = toy_recipe()
    shapes = {"audio": (1, 8, 8), "visual": (1, 8, 8)}
    return build_model(recipe.modalities, recipe.fusion, shapes=shapes, num_classes=3, seed=0)


def weights_of(model: MultimodalModel, m: str = "audio") -> dict[str, Tensor]:
    return {name: torch.randn(tensor.shape) for name, tensor in model.encoders[m].state_dict().items()}


@pytest.mark.parametrize("wrap", [dict, lambda w: {"state_dict": {f"module.{k}": v for k, v in w.items()}}])
def test_weights_of_a_file_reach_their_encoder_and_no_other(
    wrap: Callable[[Any], Any], model: MultimodalModel, tmp_path: Path
) -> None:
    weights, visual = weights_of(model), weights_of(model, "visual")
    before = {name: tensor.clone() for name, tensor in model.encoders["visual"].state_dict().items()}
    torch.save(wrap(weights), tmp_path / "w.pt")
    found = load_pretrained(model, {"audio": str(tmp_path / "w.pt")})
    for name, tensor in model.encoders["audio"].state_dict().items():
        torch.testing.assert_close(tensor, weights[name].to(tensor))
    for name, tensor in model.encoders["visual"].state_dict().items():
        assert torch.equal(tensor, before[name])
    assert found == {"audio": digest(weights)} != {"audio": digest(visual)}


def _resnet18(channels: int) -> Any:
    return ResNet18(Backbone.Settings(), (channels, 32, 32))


def test_a_first_convolution_of_other_channels_and_a_classifier_are_left_out() -> None:
    """Flow has two channels where ImageNet's weights have three (Wei et al. 2024)."""
    flow, pictures = (_resnet18(channels) for channels in (2, 3))
    start = flow.conv1.weight.detach().clone()
    flow.load_pretrained({**pictures.state_dict(), "fc.weight": torch.zeros(10, 512)})
    assert torch.equal(flow.conv1.weight, start)
    assert torch.equal(flow.layer4[1].conv2.weight, pictures.layer4[1].conv2.weight)


def test_weights_of_another_network_are_refused(model: MultimodalModel, tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(2)}, tmp_path / "w.pt")
    with pytest.raises(DataError, match=r"modalities\.audio\.weights = .*w\.pt: it lacks stem\.weight, norm\.weight, "):
        load_pretrained(model, {"audio": str(tmp_path / "w.pt")})


class Payload:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_a_file_with_code_in_it_is_refused_and_not_run(model: MultimodalModel, tmp_path: Path) -> None:
    (tmp_path / "w.pt").write_bytes(pickle.dumps(Payload(tmp_path / "owned")))
    with pytest.raises(DataError, match="no state_dict that loads without running code"):
        load_pretrained(model, {"audio": str(tmp_path / "w.pt")})
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("content", [None, [1, 2], {"a": 1}])
def test_what_is_no_state_dict_is_named(content: Any, model: MultimodalModel, tmp_path: Path) -> None:
    if content is not None:
        torch.save(content, tmp_path / "w.pt")
    with pytest.raises(DataError, match=r"no such file|not a state_dict"):
        load_pretrained(model, {"audio": str(tmp_path / "w.pt")})


def test_without_a_network_imagenet_weights_say_how_to_bring_a_file(
    model: MultimodalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.models import ResNet18_Weights

    def offline(*_: object, **__: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr(ResNet18_Weights, "get_state_dict", offline)
    with pytest.raises(DataError, match=r"cannot be downloaded .*modalities\.<modality>\.weights=FILE"):
        load_pretrained(model, {"audio": IMAGENET})
