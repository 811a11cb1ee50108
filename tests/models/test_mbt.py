"""Bottleneck fusion: against a literal reference, what reaches whom, and what it refuses."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.mbt import slow_mbt
from support.training import bits, make_trainer, trained, weights
from torch import Tensor, nn

from drcli.errors import UsageError
from drcli.models.backbone import Backbone, Tokens
from drcli.models.mbt import Mbt, first_exchange
from drcli.models.multimodal import MultimodalModel, Precision
from drcli.models.resnet import ResNetSmall
from drcli.models.transformer import Transformer, ViT
from drcli.recipe.load import recipe_from_dict
from drcli.recipe.schema import Recipe

SHAPES = {"audio": (1, 10, 6), "visual": (2, 3, 8, 8), "text": (1, 4, 4)}
TWO, THREE = ("audio", "visual"), ("audio", "visual", "text")
SIZES = {"dim": 8, "heads": 2, "layers": 4, "feedforward": 12}
LENGTHS = torch.tensor([5, 3, 1, 0])
BOTH = pytest.mark.parametrize(("classifier", "pooling"), [("token", "cls"), ("gap", "mean")])


def fused(encoders: dict[str, Backbone], *, precision: Precision = "fp32", **settings: Any) -> MultimodalModel:
    """A model for 3 classes in evaluation mode, its classifier and bottlenecks far from 0."""
    torch.manual_seed(1)
    fusion = Mbt.over(Mbt.Settings(**settings), encoders, 3)
    for parameter in fusion.parameters():
        nn.init.normal_(parameter)
    return MultimodalModel(encoders, fusion, precision).eval()


def of_vits(
    modalities: tuple[str, ...] = THREE, *, layers: int = 4, pooling: str = "cls", **settings: Any
) -> MultimodalModel:
    torch.manual_seed(0)
    sizes = {**SIZES, "layers": layers, "pooling": pooling, "patch": 4}
    return fused({m: ViT(ViT.Settings(**sizes), SHAPES[m]) for m in modalities}, **settings)


def of_transformers(pooling: str = "last", **settings: Any) -> MultimodalModel:
    torch.manual_seed(0)
    sizes = Transformer.Settings(**SIZES, pooling=pooling)
    return fused({m: Transformer(sizes, (5, 3)) for m in TWO}, **settings)


def samples(modalities: tuple[str, ...] = THREE, size: int = 4) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(2)
    return {m: torch.randn(size, *SHAPES[m], generator=generator) for m in modalities}


def sequences() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(2)
    return {m: torch.randn(4, 5, 3, generator=generator) for m in TWO}


def reached(model: MultimodalModel, modality: str) -> dict[str, bool]:
    """Whose features change, bit for bit, with the inputs of one modality."""
    inputs = samples(model.modalities)
    before = model.encode(inputs)
    after = model.encode({**inputs, modality: inputs[modality] + 1})
    return {m: not torch.equal(before[m], after[m]) for m in before}


@pytest.mark.parametrize("modalities", [("audio",), TWO, THREE], ids=len)
@pytest.mark.parametrize("fusion_layer", [0, 2, 4])
@BOTH
def test_mbt_agrees_with_a_literal_bottleneck_transformer(
    classifier: str, pooling: str, fusion_layer: int, modalities: tuple[str, ...]
) -> None:
    model = of_vits(modalities, pooling=pooling, classifier=classifier, fusion_layer=fusion_layer, bottlenecks=3)
    inputs = samples(modalities, size=2)
    with torch.no_grad():
        outputs = model(inputs)
    sizes: dict[str, Any] = {"patch": 4, "heads": 2, "layers": 4}
    sizes |= {"fusion_layer": fusion_layer, "classifier": classifier}
    for row in range(2):
        pictures = {m: x[row].reshape(-1, *x.shape[-3:]).double().numpy() for m, x in inputs.items()}
        features, logits = slow_mbt(model.state_dict(), pictures, **sizes)
        for m, expected in features.items():
            torch.testing.assert_close(outputs.features[m][row].double(), torch.tensor(expected), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(outputs.logits[row].double(), torch.tensor(logits), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "others"),
    [
        ({"fusion_layer": 4}, False),
        ({"fusion_layer": 0, "bottlenecks": 0}, False),
        ({"fusion_layer": 3}, False),  # it has reached b, which nobody reads any more
        ({"fusion_layer": 2}, True),
        ({"fusion_layer": 0}, True),
        ({"fusion_layer": 2, "bottlenecks": 1}, True),
        ({}, True),
    ],
    ids=str,
)
@BOTH
def test_a_modality_reaches_the_others_when_two_layers_exchange(
    classifier: str, pooling: str, settings: dict[str, int], others: bool
) -> None:
    model = of_vits(THREE, pooling=pooling, classifier=classifier, **settings)
    for modality in THREE:
        assert reached(model, modality) == {m: m == modality or others for m in THREE}


def test_modalities_exchange_through_the_bottlenecks_alone() -> None:
    """If the bottlenecks come out of a layer as they went in, nobody learns of the others."""
    model = of_vits(THREE, fusion_layer=0)

    def pinned(encoder: Backbone) -> Callable[[int, Tokens], Tokens]:
        real = encoder.stage

        def stage(index: int, hidden: Tokens) -> Tokens:
            after = real(index, hidden)
            assert isinstance(after, Tokens)
            return Tokens(torch.cat([hidden.values[:, :4], after.values[:, 4:]], dim=1))

        return stage

    assert reached(model, "audio") == {"audio": True, "visual": True, "text": True}
    encoders: Any = model.encoders.values()
    for encoder in encoders:
        encoder.stage = pinned(encoder)
    assert reached(model, "audio") == {"audio": True, "visual": False, "text": False}


def test_every_modality_starts_a_layer_from_the_same_bottlenecks() -> None:
    model = of_vits(THREE, fusion_layer=1)
    seen: list[Tensor] = []
    encoders: Any = model.encoders.values()
    for encoder in encoders:
        for block in encoder.blocks[1:]:
            block.register_forward_pre_hook(lambda _, args: seen.append(args[0][:, :4]))
    model.encode(samples())
    assert len(seen) == 9
    for first, *others in (seen[:3], seen[3:6], seen[6:]):
        assert all(torch.equal(first, other) for other in others)
    assert not torch.equal(seen[0], seen[3])


@pytest.mark.parametrize(
    ("layers", "first"), [(12, 8), (9, 6), (6, 4), (5, 3), (4, 2), (3, 1), (2, 0), (1, 0)], ids=str
)
def test_two_thirds_of_the_layers_run_alone_by_default_and_two_exchange(layers: int, first: int) -> None:
    assert first_exchange(layers, None) == first
    assert first_exchange(layers, 0) == 0


@BOTH
def test_the_order_of_modalities_does_not_count(classifier: str, pooling: str) -> None:
    model = of_vits(THREE, pooling=pooling, classifier=classifier)
    turned = of_vits(THREE[::-1], pooling=pooling, classifier=classifier)
    turned.load_state_dict(model.state_dict())
    ours, theirs = model(samples()), turned(samples())
    torch.testing.assert_close(ours.logits, theirs.logits)
    torch.testing.assert_close(ours.features, {m: theirs.features[m] for m in THREE})


def test_fused_logits_are_the_mean_of_the_shared_classifiers() -> None:
    model = of_vits()
    outputs = model(samples())
    heads = model.unimodal_logits(outputs.features, "head")
    assert list(heads) == list(THREE)
    linear: Any = model.fusion.linear
    torch.testing.assert_close(heads["text"], outputs.features["text"] @ linear.weight.T + linear.bias)
    torch.testing.assert_close(torch.stack(list(heads.values())).mean(dim=0), outputs.logits)


def test_unimodal_logits_are_offered_where_there_is_a_classifier_of_each() -> None:
    assert Mbt.offers(Mbt.Settings()) == ("head",)
    assert Mbt.offers(Mbt.Settings(classifier="gap")) == ()


@pytest.mark.parametrize("classifier", ["token", "gap"])
@pytest.mark.parametrize("filling", [1e6, float("nan")])
def test_what_stands_in_the_padding_has_no_influence(filling: float, classifier: str) -> None:
    model, inputs = of_transformers("mean", classifier=classifier, fusion_layer=0), sequences()
    lengths = {"audio": LENGTHS, "visual": LENGTHS.flip(0)}
    steps = torch.arange(5)
    filled = {m: x.masked_fill((steps >= lengths[m][:, None])[:, :, None], filling) for m, x in inputs.items()}
    assert torch.equal(model(filled, lengths).logits, model(inputs, lengths).logits)


@pytest.mark.parametrize("classifier", ["token", "gap"])
def test_more_padding_has_no_influence(classifier: str) -> None:
    model, inputs = of_transformers("mean", classifier=classifier, fusion_layer=0), sequences()
    lengths = {"audio": LENGTHS, "visual": LENGTHS.flip(0)}
    longer = {m: torch.cat([x, torch.ones(4, 3, 3)], dim=1) for m, x in inputs.items()}
    with torch.no_grad():
        ours, theirs = model(inputs, lengths), model(longer, lengths)
    torch.testing.assert_close(ours.logits, theirs.logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.features, theirs.features, rtol=1e-5, atol=1e-5)


def test_valid_steps_have_influence_on_the_other_modality() -> None:
    """Else the tests above could not fail."""
    model, inputs = of_transformers(fusion_layer=0), sequences()
    lengths = {"audio": LENGTHS, "visual": LENGTHS}
    other = {**inputs, "audio": inputs["audio"] + torch.eye(5)[0][:, None]}  # the first step
    changed = (model.encode(inputs, lengths)["visual"] != model.encode(other, lengths)["visual"]).any(dim=1)
    assert changed.tolist() == [True, True, True, False]  # the last row has no steps in either modality


def test_gap_weighs_modalities_by_their_valid_tokens() -> None:
    model = of_transformers("mean", classifier="gap")
    lengths = {"audio": torch.tensor([5, 3, 0, 0]), "visual": torch.tensor([1, 3, 2, 0])}
    outputs = model(sequences(), lengths)
    audio, visual = outputs.features.values()
    mean = torch.stack([(5 * audio[0] + visual[0]) / 6, (audio[1] + visual[1]) / 2, visual[2], torch.zeros(8)])
    assert isinstance(model.fusion, Mbt)
    torch.testing.assert_close(outputs.logits, model.fusion.linear(mean))


def test_layers_after_training_dropout_and_bf16_give_finite_float32() -> None:
    for make in (of_vits, of_transformers):
        model = make(precision="bf16").train()
        outputs = model(samples() if make is of_vits else sequences())
        outputs.logits.square().sum().backward()
        assert outputs.logits.dtype == torch.float32
        assert all(x.dtype == torch.float32 for x in outputs.features.values())
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_bf16_is_close_to_float32() -> None:
    ours, exact = of_vits(precision="bf16")(samples()), of_vits()(samples())
    torch.testing.assert_close(ours.logits, exact.logits, rtol=0.05, atol=0.05)
    assert not torch.equal(ours.logits, exact.logits)


def test_bottlenecks_and_classifier_belong_to_the_fusion() -> None:
    model = of_vits()
    groups = model.parameter_groups()
    assert {tuple(p.shape) for p in groups["fusion"]} == {(1, 4, 8), (3, 8), (3,)}
    members = [id(parameter) for group in groups.values() for parameter in group]
    assert len(members) == len(set(members)) == len(list(model.parameters()))
    model(samples()).logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in groups["fusion"])


def test_the_fusion_starts_as_the_authors_do() -> None:
    torch.manual_seed(0)
    fusion = Mbt(Mbt.Settings(bottlenecks=50), {"audio": 40}, 3)
    assert not fusion.linear.weight.any()
    assert not fusion.linear.bias.any()
    assert float(fusion.bottlenecks.detach().std()) == pytest.approx(0.02, rel=0.1)


def test_encoders_that_mbt_cannot_fuse_are_refused() -> None:
    def vit(**settings: Any) -> ViT:
        return ViT(ViT.Settings(**{**SIZES, **settings}), (1, 8, 8))

    resnet = ResNetSmall(ResNetSmall.Settings(), (1, 8, 8))
    refusals: list[tuple[dict[str, Backbone], dict[str, Any], str]] = [
        (
            {"audio": vit(), "visual": vit(dim=16)},
            {},
            "modalities.visual.dim: must be 8, as of audio: fusion mbt needs equal ones",
        ),
        (
            {"audio": vit(), "visual": vit(layers=2)},
            {},
            ("modalities.visual.backbone: has 2 stages and that of audio has 4: fusion mbt needs equal numbers"),
        ),
        (
            {"audio": vit(layers=3), "visual": resnet},
            {},
            "modalities.visual.backbone: must be a transformer (transformer, vit) with fusion mbt",
        ),
        (
            {"audio": vit()},
            {"fusion_layer": 5},
            "fusion.fusion_layer: must be 0 ... 4, the number of layers (4: nothing is exchanged)",
        ),
        (
            {"audio": vit(pooling="mean"), "visual": vit()},
            {"classifier": "gap"},
            "modalities.visual.pooling: must be mean with fusion.classifier gap, which averages tokens",
        ),
    ]
    for encoders, settings, message in refusals:
        with pytest.raises(UsageError) as caught:
            Mbt.over(Mbt.Settings(**settings), encoders, 3)
        assert str(caught.value) == message


def test_stages_that_give_maps_are_refused_whatever_their_width() -> None:
    even = ResNetSmall(ResNetSmall.Settings(width=4), (1, 8, 8))
    even.channels = (16, 16, 16)
    with pytest.raises(UsageError, match=r"modalities\.audio\.backbone: must be a transformer"):
        fused({"audio": even})


@pytest.fixture
def mbt_recipe(toy_dict: Callable[..., dict[str, Any]]) -> Callable[..., Recipe]:
    """A recipe over "toy" of small transformers, bottleneck fusion and D&R."""

    def make(modalities: tuple[str, ...] = THREE, **blocks: Any) -> Recipe:
        encoders = {m: {"backbone": "vit", "dim": 8, "heads": 2, "layers": 2, "feedforward": 8} for m in modalities}
        training = {"epochs": 3, "batch_size": 16, "optimizer": {"name": "adamw", "lr": 0.003}}
        data = {**toy_dict(modalities), "modalities": encoders, "fusion": "mbt", "training": training, **blocks}
        return recipe_from_dict(data, where="the test's recipe")

    return make


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    """What changed, but for the biases of keys: no output depends on them, so that rounding alone moves them."""
    return {name for name in before if not name.endswith("key.bias") and not torch.equal(before[name], after[name])}


def test_diagnosis_and_relearning_change_encoder_parameters_alone(
    mbt_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    trainer = make_trainer(mbt_recipe(), tmp_path)
    trainer._epoch(0)
    trainer.ctx.epoch = 1
    before, optimizer = weights(trainer), bits(copy.deepcopy(trainer.ctx.optimizer.state_dict()))
    event = trainer.assembly.method.on_epoch_end(trainer.ctx)
    assert event is not None
    assert all(found.strength > 0 for found in event.found.values())
    encoders = {name for name in before if name.startswith("encoders.") and not name.endswith("key.bias")}
    assert moved(before, weights(trainer)) == encoders
    assert bits(trainer.ctx.optimizer.state_dict()) == optimizer


@pytest.mark.parametrize("training", [{}, {"precision": "bf16"}, {"accumulate": 2}], ids=str)
def test_a_run_learns_and_repeats_its_bits(
    training: dict[str, Any], mbt_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    block = {"epochs": 2, "batch_size": 16, "optimizer": {"name": "adamw", "lr": 0.003}, **training}
    recipe = mbt_recipe(TWO, method="joint", training=block)
    start = weights(make_trainer(recipe, tmp_path / "start"))
    first, second = (trained(recipe, tmp_path / str(number)) for number in (1, 2))
    assert bits(weights(first)) == bits(weights(second))
    assert moved(start, weights(first)) == {name for name in start if not name.endswith("key.bias")}


def test_one_modality_trains_too(mbt_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    recipe = mbt_recipe(("audio",), method="joint")
    start = weights(make_trainer(recipe, tmp_path / "start"))
    after = weights(trained(recipe, tmp_path / "run"))
    assert moved(start, after) == {name for name in start if not name.endswith("key.bias")}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is visible here")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_run_on_cuda_repeats_its_bits(precision: str, mbt_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    training = {"epochs": 2, "batch_size": 16, "optimizer": {"name": "adamw", "lr": 0.003}, "precision": precision}
    found = []
    for number in (1, 2):
        trainer = make_trainer(mbt_recipe(training=training), tmp_path / str(number), device=torch.device("cuda"))
        trainer.train()
        found.append(bits(weights(trainer)))
    assert found[0] == found[1]
