"""Whether pre-trained weights fit is said at once: before a download, and before data is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from drcli.data.input import WeightsFile
from drcli.errors import DataError, RecipeError
from drcli.models.backbone import Backbone
from drcli.models.resnet import ResNetSmall
from drcli.models.weight_files import metadata_of, read
from drcli.models.weights import check_files
from drcli.names import BACKBONES
from drcli.recipe.load import recipe_from_dict
from drcli.recipe.schema import ModalityBlock
from drcli.safetensors_file import write_safetensors


@pytest.fixture
def modality(toy_dict: Callable[..., dict[str, Any]]) -> Callable[..., ModalityBlock]:
    """Makes the block of a modality."""

    def make(backbone: str = "resnet_small", **settings: Any) -> ModalityBlock:
        blocks = {"audio": {"backbone": backbone, **settings}}
        raw = {**toy_dict(), "modalities": blocks, "method": "joint", "methods": {"joint": {}}}
        return recipe_from_dict(raw, where="the test's recipe").modalities["audio"]

    return make


def tensors(name: str = "resnet_small", shape: tuple[int, ...] = (1, 8, 8), **settings: Any) -> dict[str, Tensor]:
    """Initial weights of a backbone."""
    backbone = BACKBONES.load(name)
    state: dict[str, Tensor] = backbone(backbone.Settings(**settings), shape).state_dict()
    return state


def without(state: dict[str, Tensor], *names: str) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if name not in names}


def test_weights_without_a_tensor_that_the_encoder_has_are_refused_by_its_name(
    modality: Callable[..., ModalityBlock], tmp_path: Path
) -> None:
    path = tmp_path / "w.pt"
    torch.save(without(tensors(width=4), "blocks.0.conv1.weight"), path)
    with pytest.raises(DataError) as caught:
        check_files([("audio", modality(width=4, weights=str(path)))])
    assert str(caught.value) == (
        f"modalities.audio.weights = {path}: it lacks blocks.0.conv1.weight; give weights of the same backbone"
    )


def test_weights_of_another_width_are_refused_with_their_shapes(
    modality: Callable[..., ModalityBlock], tmp_path: Path
) -> None:
    path = tmp_path / "w.pt"
    torch.save(tensors(width=8), path)
    expected = r"it has stem\.1\.weight \(8,\), where the encoder has \(4,\), .*, \.\.\., \d+ other shapes; give"
    with pytest.raises(DataError, match=expected):
        check_files([("audio", modality(width=4, weights=str(path)))])


def test_counters_of_batch_normalisation_more_tensors_and_other_channels_are_accepted(
    modality: Callable[..., ModalityBlock], tmp_path: Path
) -> None:
    path = tmp_path / "w.pt"
    state = tensors(width=4, shape=(3, 8, 8))
    counters = [name for name in state if name.endswith("num_batches_tracked")]
    torch.save({**without(state, *counters), "fc.weight": torch.zeros(2, 2)}, path)
    check_files([("audio", modality(width=4, weights=str(path)))])


def test_positions_of_another_number_of_patches_are_accepted_and_other_widths_are_not(
    modality: Callable[..., ModalityBlock], tmp_path: Path
) -> None:
    path = tmp_path / "w.pt"
    torch.save(tensors("vit", (3, 64, 64), dim=8, heads=2, layers=1), path)
    check_files([("audio", modality("vit", dim=8, heads=2, layers=1, weights=str(path)))])
    with pytest.raises(DataError, match=r"it lacks blocks\.1\."):
        check_files([("audio", modality("vit", dim=8, heads=2, layers=2, weights=str(path)))])


def test_a_missing_file_is_refused_before_data_is_read(modality: Callable[..., ModalityBlock]) -> None:
    with pytest.raises(DataError, match=r"nowhere\.pt: no such file"):
        check_files([("audio", modality(weights="nowhere.pt"))])


def exported(path: Path, of: ModalityBlock, state: dict[str, Tensor], **changes: str) -> str:
    """A file as `drcli export` writes it."""
    notes = {**metadata_of(of, state, drcli="0", modality="audio"), **changes}
    path.write_bytes(write_safetensors(state, notes))
    return str(path)


def test_an_exported_encoder_must_be_of_the_same_backbone(
    modality: Callable[..., ModalityBlock], tmp_path: Path
) -> None:
    path = exported(tmp_path / "a.safetensors", modality(width=4), tensors(width=4))
    check_files([("audio", modality(width=4, weights=path))])
    with pytest.raises(DataError, match=r"a\.safetensors: weights of backbone resnet_small, not resnet18; give"):
        check_files([("audio", modality("resnet18", weights=path))])
    with pytest.raises(DataError, match=r"other shapes; its settings differ: width; give weights"):
        check_files([("audio", modality(width=8, weights=path))])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"digest": "0"}, r"damaged \(its digest does not match\)"),
        ({"settings": "[]"}, r"damaged \(backbone or settings are missing\)"),
        ({"settings": "{"}, r"not JSON"),
        ({"backbone": ""}, r"damaged \(backbone or settings are missing\)"),
    ],
)
def test_an_export_with_damaged_notes_is_refused(
    changes: dict[str, str], message: str, modality: Callable[..., ModalityBlock], tmp_path: Path
) -> None:
    path = exported(tmp_path / "a.safetensors", modality(width=4), tensors(width=4), **changes)
    with pytest.raises(DataError, match=message):
        read(path)


def test_another_encoder_than_the_exported_one_is_refused(
    modality: Callable[..., ModalityBlock], tmp_path: Path
) -> None:
    path = exported(tmp_path / "a.safetensors", modality(width=4), tensors(width=4))
    with pytest.raises(DataError, match="holds the encoder of 'audio', not of 'visual'"):
        read(WeightsFile(file=path, encoder="visual"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "a header of 0 bytes"),
        ((2**62).to_bytes(8, "little") + b"{}", r"a header of 4611686018427387904 bytes, where at most 2 can be"),
        ((2).to_bytes(8, "little") + b"[]", "the header is not a JSON object"),
        (b"\x80\x04K\x01.", "a header of"),
    ],
)
def test_hostile_files_are_refused_in_one_message(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read(str(path))


def test_a_header_of_more_than_the_limit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    with path.open("wb") as stream:
        stream.write((2**25).to_bytes(8, "little") + b"{")
        stream.truncate(2**26)  # a hole: the file takes no room on the disk
    with pytest.raises(DataError, match=r"a header of 33554432 bytes, where at most 16777216 can be"):
        read(str(path))


def test_names_with_and_without_the_prefix_of_a_parallel_model_are_refused(tmp_path: Path) -> None:
    torch.save({"module.a": torch.ones(1), "a": torch.zeros(1)}, tmp_path / "w.pt")
    with pytest.raises(DataError, match=r"has names twice, with and without module\."):
        read(str(tmp_path / "w.pt"))


@pytest.mark.parametrize(
    ("backbone", "name", "message"),
    [
        (
            "resnet_small",
            "imagenet",
            r"audio\.weights = imagenet +does not fit backbone resnet_small: it lacks stem\.0",
        ),
        ("resnet18", "ResNet99_Weights.X", r"torchvision has no weights of this name"),
        ("resnet18", "ResNet18_Weights.NOTHING", r"torchvision has no weights of this name"),
        ("resnet18", "AlexNet_Weights.IMAGENET1K_V1", r"does not fit backbone resnet18: it lacks conv1\.weight"),
    ],
)
def test_weights_of_torchvision_that_cannot_fit_are_refused_with_the_recipe(
    backbone: str, name: str, message: str, modality: Callable[..., ModalityBlock]
) -> None:
    with pytest.raises(RecipeError, match=message):
        modality(backbone, weights=name)


@pytest.mark.parametrize("name", ["imagenet", "ResNet18_Weights.IMAGENET1K_V1", "ResNet18_Weights.DEFAULT"])
def test_weights_of_torchvision_that_fit_are_accepted_without_a_download(
    name: str, modality: Callable[..., ModalityBlock]
) -> None:
    assert modality("resnet18", weights=name).input.weights == name


def test_resnet18_has_the_names_and_shapes_of_torchvision() -> None:
    from torchvision.models import resnet18

    with torch.device("meta"):
        theirs = resnet18().state_dict()
    ours = tensors("resnet18", (3, 32, 32))
    assert {name: x.shape for name, x in theirs.items() if not name.startswith("fc.")} == {
        name: x.shape for name, x in ours.items()
    }


class Translating(ResNetSmall):
    """Takes the names of another program."""

    def load_pretrained(self, weights: Mapping[str, Tensor]) -> None:
        """Take nothing."""


def test_a_backbone_that_translates_names_is_not_judged_by_them(
    modality: Callable[..., ModalityBlock], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({"theirs": torch.zeros(1)}, tmp_path / "w.pt")
    found = modality(weights=str(tmp_path / "w.pt"))
    monkeypatch.setattr(type(BACKBONES), "load", lambda *_: Translating)
    check_files([("audio", found)])


@pytest.mark.parametrize("value", [3, "", {"encoder": "audio"}, {"file": "x", "layer": 3}, []])
def test_weights_that_are_no_name_and_no_file_are_refused(value: Any, modality: Callable[..., ModalityBlock]) -> None:
    with pytest.raises(RecipeError, match=r"modalities\.audio\.weights") as caught:
        modality(weights=value)
    assert "WeightsFile" not in str(caught.value)


def test_a_file_and_its_encoder_may_be_given_together(modality: Callable[..., ModalityBlock]) -> None:
    found = modality(weights={"file": "x.pt", "encoder": "visual"})
    assert found.input.weights == WeightsFile(file="x.pt", encoder="visual")
    assert Backbone.check_weights(found) is None
