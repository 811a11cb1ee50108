"""Models of timm and transformers as encoders: samples of every kind, weights, and what stands still."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support.models_of_others import CONFIGS, TIMM_RESNET, TIMM_VIT, config_folder
from torch import nn

from drcli.diagnosis.reinitialise import snapshot, soft_reinitialise
from drcli.errors import DataError, UsageError
from drcli.models.backbone import Backbone
from drcli.models.foreign import Foreign
from drcli.models.timm_encoder import Timm
from drcli.models.transformers_encoder import Transformers

pytestmark = pytest.mark.slow

SHAPES = {"bert": (6,), "roberta": (6,), "vit": (2, 16, 24), "ast": (1, 16, 24), "wav2vec2": (300, 1)}
IDS = torch.tensor([[4, 2, 8, 9, 3, 5], [7, 7, 0, 0, 0, 0], [5, 0, 0, 0, 0, 0], [0] * 6])
LENGTHS = torch.tensor([6, 2, 1, 0])


def of_transformers(tmp_path: Path, name: str, shape: tuple[int, ...] | None = None, **settings: Any) -> Transformers:
    torch.manual_seed(0)
    model = config_folder(tmp_path / name, name)
    block = Transformers.Settings(**{"model": model, "pretrained": False, **settings})
    vocabulary = 24 if name in {"bert", "roberta"} else 0
    return Transformers.for_input(block, shape or SHAPES[name], vocabulary)


def of_timm(block: dict[str, Any], shape: tuple[int, ...] = (3, 32, 32), **settings: Any) -> Timm:
    torch.manual_seed(0)
    own = {key: value for key, value in block.items() if key != "backbone"}
    return Timm.for_input(Timm.Settings(**{**own, **settings}), shape)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_model_maps_samples_of_its_kind_to_vectors_and_all_of_it_learns(name: str, tmp_path: Path) -> None:
    encoder = of_transformers(tmp_path, name)
    assert encoder.width == 8
    x = IDS if SHAPES[name] == (6,) else torch.randn(4, *SHAPES[name])
    lengths = LENGTHS if SHAPES[name] == (6,) else None
    encoder.eval()  # where no layer is dropped
    features = encoder(x, lengths)
    assert features.shape == (4, 8)
    features.square().sum().backward()
    assert {n for n, p in encoder.named_parameters() if p.grad is None} <= {"model.masked_spec_embed"}
    assert not any("pooler" in n for n, _ in encoder.named_parameters())
    assert Transformers.sketch(encoder.settings) is not None


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_padding_of_texts_has_no_influence(name: str, pooling: str, tmp_path: Path) -> None:
    encoder = of_transformers(tmp_path, name, pooling=pooling).eval()
    filled = torch.where(torch.arange(6) < LENGTHS[:, None], IDS, 11)
    with torch.no_grad():
        found = encoder(IDS, LENGTHS)
        torch.testing.assert_close(encoder(filled, LENGTHS), found, rtol=0, atol=0)
        torch.testing.assert_close(encoder(IDS[1:2, :2]), found[1:2], rtol=1e-4, atol=1e-5)
    assert found[3].tolist() == [0.0] * 8


def test_the_end_of_a_waveform_has_no_influence_and_its_share_of_steps_is_pooled(tmp_path: Path) -> None:
    encoder = of_transformers(tmp_path, "wav2vec2").eval()
    x, lengths = torch.randn(2, 300, 1), torch.tensor([300, 160])
    x[1, 160:] = 0
    with torch.no_grad():
        torch.testing.assert_close(encoder(x, lengths)[1:], encoder(x[1:, :160]), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("block", [TIMM_VIT, TIMM_RESNET], ids=["vit", "resnet"])
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_timm_takes_any_number_of_channels_and_averages_frames(block: dict[str, Any], channels: int) -> None:
    encoder = of_timm(block, (3, channels, 32, 32)).eval()
    clips = torch.randn(2, 3, channels, 32, 32)
    with torch.no_grad():
        by_frame = torch.stack([encoder(clips[:, t]) for t in range(3)])
        torch.testing.assert_close(encoder(clips), by_frame.mean(dim=0), rtol=1e-4, atol=1e-5)
    assert by_frame.shape == (3, 2, encoder.width)


def test_weights_of_a_folder_are_taken_and_a_full_pull_goes_back_to_them(tmp_path: Path) -> None:
    config_folder(tmp_path / "vit", "vit")
    encoder = of_transformers(tmp_path, "vit", (3, 16, 16))
    kind: Any = type(encoder.model)
    saved = kind(encoder.model.config)
    saved.save_pretrained(tmp_path / "vit")
    fresh = Transformers.for_input(Transformers.Settings(model=str(tmp_path / "vit")), (3, 16, 16))
    weights = Transformers.own_weights(fresh.settings)
    assert weights is not None
    fresh.load_pretrained(weights.tensors)
    for name, tensor in fresh.model.state_dict().items():
        assert torch.equal(tensor, saved.state_dict()[name]), name
    initial = snapshot(fresh)
    with torch.no_grad():
        for parameter in fresh.parameters():
            parameter.add_(1)
    soft_reinitialise(fresh, initial, 1.0)
    assert all(torch.equal(tensor, saved.state_dict()[name]) for name, tensor in fresh.model.state_dict().items())


def test_weights_in_shards_are_read_together_and_a_missing_one_is_named(tmp_path: Path) -> None:
    encoder = of_transformers(tmp_path, "bert")
    model: Any = type(encoder.model)(encoder.model.config)
    model.save_pretrained(tmp_path / "bert", max_shard_size="3KB")
    shards = sorted((tmp_path / "bert").glob("model-*.safetensors"))
    assert len(shards) > 1
    weights = Transformers.own_weights(Transformers.Settings(model=str(tmp_path / "bert")))
    assert weights is not None
    assert weights.tensors.keys() == model.state_dict().keys()
    shards[0].unlink()
    with pytest.raises(DataError, match=rf"{shards[0].name}: no such file"):
        Transformers.own_weights(Transformers.Settings(model=str(tmp_path / "bert")))


def test_a_folder_without_weights_is_refused_unless_random_ones_are_asked_for(tmp_path: Path) -> None:
    settings = Transformers.Settings(model=config_folder(tmp_path / "bert", "bert"))
    with pytest.raises(
        DataError, match=r"model.safetensors: no such file.*pretrained=false begins with random weights"
    ):
        Transformers.own_weights(settings)
    assert Transformers.own_weights(settings.model_copy(update={"pretrained": False})) is None


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    encoder, other = of_transformers(tmp_path, "vit"), of_transformers(tmp_path, "bert")
    with pytest.raises(DataError, match=r"the weights of .* lack embeddings"):
        encoder.load_pretrained(other.model.state_dict())
    with pytest.raises(DataError, match=r"the weights lack conv1.0.weight, .* of resnet10t"):
        of_timm(TIMM_RESNET).load_pretrained({"nothing": torch.zeros(1)})


def test_timm_adapts_weights_to_channels_and_to_the_size_of_pictures(tmp_path: Path) -> None:
    """Of three channels to one, whose weights are the sum of theirs; positions of 4 x 4 patches to those of 2 x 2."""
    source, encoder = of_timm(TIMM_VIT, (3, 32, 32)), of_timm(TIMM_VIT, (1, 16, 16))
    torch.save(source.model.state_dict(), tmp_path / "w.pth")
    weights = Timm.own_weights(encoder.settings.model_copy(update={"pretrained": str(tmp_path / "w.pth")}))
    assert weights is not None
    encoder.load_pretrained(weights.tensors)
    found, given = encoder.model.state_dict(), source.model.state_dict()
    kernel = "patch_embed.proj.weight"
    torch.testing.assert_close(found[kernel], given[kernel].sum(dim=1, keepdim=True))
    assert torch.equal(found["blocks.1.mlp.fc1.weight"], given["blocks.1.mlp.fc1.weight"])
    assert found["pos_embed"].shape == (1, 5, 24)


@pytest.mark.parametrize("trainable", ["none", "last:1"])
@pytest.mark.parametrize("kind", ["bert", "vit", "timm vit", "timm resnet"])
def test_what_is_not_trained_gets_no_gradient_stands_still_and_runs_as_in_evaluation(
    kind: str, trainable: str, tmp_path: Path
) -> None:
    encoder: Foreign
    if kind.startswith("timm"):
        encoder = of_timm(TIMM_VIT if kind == "timm vit" else TIMM_RESNET, trainable=trainable)
        x = torch.randn(4, 3, 32, 32)
    else:
        encoder = of_transformers(tmp_path, kind, trainable=trainable)
        x = IDS if kind == "bert" else torch.randn(4, 2, 16, 24)
    encoder.train().requires_grad_(True)  # as a stage of a method does
    trained = {name for name, p in encoder.model.named_parameters() if p.requires_grad}
    last = {"bert": "encoder.layer.1.", "vit": "layers.1.", "timm vit": "blocks.1.", "timm resnet": "layer4.0."}[kind]
    after = ("layernorm.", "norm.")
    expected = {n for n, _ in encoder.model.named_parameters() if n.startswith((last, *after))}
    assert trained == (expected if trainable == "last:1" else set())
    before = {name: tensor.clone() for name, tensor in encoder.model.state_dict().items()}
    found = encoder(x)
    if trained:
        found.square().sum().backward()
        torch.optim.SGD(encoder.parameters(), lr=0.5, weight_decay=0.1).step()
    still = {n for n, tensor in encoder.model.state_dict().items() if torch.equal(tensor, before[n])}
    assert {n for n, p in encoder.model.named_parameters() if not p.requires_grad} <= still
    moving = [m for m in encoder.model.modules() if isinstance(m, nn.BatchNorm2d | nn.Dropout) and m.training]
    assert bool(moving) == (trainable == "last:1")


@pytest.mark.parametrize(
    ("name", "shape", "vocabulary", "message"),
    [
        ("bert", (6,), 25, "knows 24 token ids, the dataset has 25; prepare it with the model's tokenizer"),
        ("bert", (13,), 24, "takes 12 tokens at most, texts have up to 13"),
        ("bert", (6,), 0, r"reads token ids \(L,\), not samples \(6,\)"),
        ("vit", (6,), 24, r"reads pictures .*, not token ids \(6,\)"),
        ("ast", (3, 16, 24), 0, r"reads spectrograms \(1, mels, steps\)"),
        ("wav2vec2", (300, 2), 0, r"reads waveforms \(L,\)"),
    ],
)
def test_samples_of_another_kind_are_refused_with_what_the_model_reads(
    name: str, shape: tuple[int, ...], vocabulary: int, message: str, tmp_path: Path
) -> None:
    settings = Transformers.Settings(model=config_folder(tmp_path / name, name), pretrained=False)
    with pytest.raises(UsageError, match=message):
        Transformers.for_input(settings, shape, vocabulary)


def test_pictures_of_another_size_than_pretrained_weights_have_are_refused_with_the_size(tmp_path: Path) -> None:
    settings = Transformers.Settings(model=config_folder(tmp_path / "vit", "vit"))
    with pytest.raises(UsageError, match=r"does not take samples \(3, 24, 24\).*16"):
        Transformers.for_input(settings, (3, 24, 24))


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (Timm, {"model": "vit_tiny_patch16_223"}, "has no model of this name; did you mean vit_tiny_patch16_224"),
        (Transformers, {"model": "x", "config": {"model_type": "t5"}}, "type t5 is no encoder of texts"),
        (Transformers, {"model": "x", "config": {"model_type": "none_such"}}, "takes no such config.json"),
        (
            Transformers,
            {"model": "x", "config": {"hidden_size": 8}},
            "config lacks model_type, such as bert: it is the",
        ),
    ],
)
def test_a_model_that_cannot_be_an_encoder_is_known_before_data_is_read(
    kind: type[Backbone], settings: dict[str, Any], message: str
) -> None:
    ((key, said),) = kind.check(kind.Settings(**settings))
    assert key == "model"
    assert message in said


def test_more_layers_than_there_are_cannot_be_trained(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="trainable = last:3: the model has 2 layers"):
        of_transformers(tmp_path, "bert", trainable="last:3")
