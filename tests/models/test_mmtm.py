"""Gates between encoders: their formula, their running averages, their curation, and what they touch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reference.mmtm import slow_gates
from support.training import bits, make_trainer, weights
from torch import Tensor, nn

from drcli.errors import RecipeError, UsageError
from drcli.models.backbone import Backbone, Maps, Tokens
from drcli.models.mmtm import Gate, Mmtm, MmtmFusion
from drcli.models.multimodal import MultimodalModel
from drcli.models.resnet import ResNet18, ResNetSmall
from drcli.models.transformer import Transformer
from drcli.recipe.load import load_recipe, only
from drcli.recipe.schema import Recipe
from drcli.recipe.shipped import find_recipe

SHAPES = {"audio": (1, 12, 9), "visual": (2, 3, 8, 8), "text": (6, 5)}
LENGTHS = {"text": torch.tensor([6, 1, 3, 4])}


def encoder_of(modality: str, layers: int = 3) -> Backbone:
    if modality != "text":
        width = {"audio": 2, "visual": 4}[modality]
        return ResNetSmall(ResNetSmall.Settings(width=width), SHAPES[modality])
    settings = Transformer.Settings(dim=10, heads=5, layers=layers, feedforward=16, dropout=0.0)
    return Transformer(settings, SHAPES["text"])


def model_of(modalities: Sequence[str] = ("audio", "visual", "text"), **settings: Any) -> MultimodalModel:
    torch.manual_seed(0)
    encoders = {m: encoder_of(m) for m in modalities}
    return MultimodalModel(encoders, MmtmFusion.over(MmtmFusion.Settings(**settings), encoders, 3))


def fusion_of(model: MultimodalModel) -> MmtmFusion:
    assert isinstance(model.fusion, MmtmFusion)
    return model.fusion


def inputs_of(modalities: Sequence[str] = ("audio", "visual", "text")) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {m: torch.randn(4, *SHAPES[m], generator=generator) for m in modalities}


def layer(linear: Any) -> tuple[np.ndarray, np.ndarray]:
    return linear.weight.detach().numpy(), linear.bias.detach().numpy()


def test_an_exchange_follows_the_formula_on_maps_clips_and_tokens() -> None:
    torch.manual_seed(0)
    padding = torch.tensor([[False] * 5, [False, False, True, True, True]])
    hidden: dict[str, Any] = {
        "visual": Maps(torch.randn(2 * 3, 4, 2, 5), frames=3),
        "audio": Maps(torch.randn(2, 6, 7, 3)),
        "text": Tokens(torch.randn(2, 5, 3), padding),
    }
    exchange = Mmtm({"visual": 4, "audio": 6, "text": 3}, ratio=4.0, gate_scale=2.0).eval()
    clips = hidden["visual"].values.reshape(2, 3, 4, 10).transpose(1, 2).reshape(2, 4, 30)
    samples: Mapping[str, Any] = {
        "visual": clips.numpy(),
        "audio": hidden["audio"].values.flatten(2).numpy(),
        "text": [x[~gap].T.numpy() for x, gap in zip(hidden["text"].values, padding, strict=True)],
    }
    gates = slow_gates(
        samples, layer(exchange.squeeze), {m: layer(exchange.gates[m].linear) for m in exchange.gates}, 2.0
    )
    after = exchange(hidden)
    assert list(after) == list(hidden)
    visual = np.repeat(gates["visual"], 3, axis=0)[:, :, None, None] * hidden["visual"].values.numpy()
    np.testing.assert_allclose(after["visual"].values.detach().numpy(), visual, rtol=1e-5, atol=1e-6)
    audio = gates["audio"][:, :, None, None] * hidden["audio"].values.numpy()
    np.testing.assert_allclose(after["audio"].values.detach().numpy(), audio, rtol=1e-5, atol=1e-6)
    text = gates["text"][:, None, :] * hidden["text"].values.numpy()
    np.testing.assert_allclose(after["text"].values.detach().numpy(), text, rtol=1e-5, atol=1e-6)
    assert after["visual"].frames == 3
    assert after["text"].padding is padding


@pytest.mark.parametrize(("scale", "expected"), [(1.0, 0.5), (2.0, 1.0)])
def test_zero_excitation_gives_half_the_scale(scale: float, expected: float) -> None:
    gate = Gate(5, 3, scale).eval()
    nn.init.zeros_(gate.linear.weight)
    nn.init.zeros_(gate.linear.bias)
    assert torch.equal(gate(torch.randn(2, 5), curated=False), torch.full((2, 3), expected))


@pytest.mark.parametrize(("ratio", "width"), [(4.0, 128), (8.0, 64), (3.0, 170), (1e6, 1)])
def test_width_of_the_joint_excitation(ratio: float, width: int) -> None:
    """C = (128, 128): int(2 * 256 / ratio), and one entry at least."""
    assert Mmtm({"audio": 128, "visual": 128}, ratio, 1.0).squeeze.out_features == width


def test_the_running_average_is_that_of_the_batch_means() -> None:
    """Gates 0.2, then 0.6: 0.4. A third batch of 0.1 and 0.3 makes it (0.2 + 0.6 + 0.2) / 3."""
    gate = Gate(1, 1, 1.0)
    nn.init.ones_(gate.linear.weight)
    nn.init.zeros_(gate.linear.bias)
    assert gate.average.item() == 0.5
    for values, expected in [([0.2], 0.2), ([0.6, 0.6], 0.4), ([0.1, 0.3], 1 / 3)]:
        gate(torch.logit(torch.tensor(values))[:, None], curated=False)
        assert gate.average.item() == pytest.approx(expected)
    assert gate.count.item() == 3
    assert not gate.average.requires_grad


def test_a_curated_gate_is_the_average_of_the_batches_before_it() -> None:
    torch.manual_seed(0)
    gate = Gate(4, 3, 1.0)
    first = gate(torch.randn(5, 4), curated=False).mean(dim=0)
    curated = gate(torch.randn(2, 4), curated=True)
    torch.testing.assert_close(curated, first.expand(2, 3))
    assert not curated.requires_grad
    assert gate.count.item() == 2
    assert not torch.allclose(gate.average, first)


def test_evaluation_leaves_the_running_averages_alone() -> None:
    model = model_of().eval()
    before = bits(model.state_dict())
    model(inputs_of(), LENGTHS)
    assert bits(model.state_dict()) == before
    model.train()(inputs_of(), LENGTHS)
    counts = [tensor.item() for name, tensor in model.fusion.state_dict().items() if name.endswith("count")]
    assert counts == [1] * 9


def test_an_exchange_follows_each_of_the_last_stages() -> None:
    encoders = {m: ResNet18(ResNet18.Settings(), (c, 64, 64)) for m, c in (("audio", 1), ("visual", 3))}
    fusion = MmtmFusion.over(MmtmFusion.Settings(), encoders, 5)
    exchanges: dict[str, Any] = dict(fusion.exchanges.items())
    assert {i: x.squeeze.out_features for i, x in exchanges.items()} == {"1": 128, "2": 256, "3": 512}
    assert list(MmtmFusion.over(MmtmFusion.Settings(stages=1), encoders, 5).exchanges) == ["3"]


def test_features_know_the_other_modalities_and_are_those_of_the_logits() -> None:
    model = model_of(stages=2).eval()
    inputs = inputs_of()
    before, after = model(inputs, LENGTHS), model({**inputs, "audio": inputs["audio"] + 1}, LENGTHS)
    for m, features in before.features.items():
        assert features.shape == (4, model.encoders[m].width)
        assert not torch.equal(features, after.features[m])
    assert bits(model.encode(inputs, LENGTHS)) == bits(before.features)
    torch.testing.assert_close(model.fusion(before.features), before.logits)


def test_gates_of_one_leave_the_encoders_as_they_are() -> None:
    """gate_scale 2 and zero excitation: every gate is 1, and each encoder runs as if it were alone."""
    model = model_of(gate_scale=2.0).eval()
    for name, parameter in model.fusion.named_parameters():
        if ".gates." in name:
            nn.init.zeros_(parameter)
    inputs = inputs_of()
    found = model.encode(inputs, LENGTHS)
    torch.testing.assert_close(found["audio"], model.encoders["audio"](inputs["audio"]))
    torch.testing.assert_close(found["text"], model.encoders["text"](inputs["text"], LENGTHS["text"]))


def test_what_stands_in_the_padding_has_no_influence() -> None:
    model = model_of().eval()
    inputs = inputs_of()
    changed = inputs["text"].clone()
    changed[1, 1:] = 9.0
    assert torch.equal(model(inputs, LENGTHS).logits, model({**inputs, "text": changed}, LENGTHS).logits)


def test_identical_frames_are_one_frame() -> None:
    model = model_of(("audio", "visual")).eval()
    inputs = inputs_of(("audio", "visual"))
    one, three = (inputs["visual"][:, :1].repeat(1, count, 1, 1, 1) for count in (1, 3))
    logits = [model({**inputs, "visual": frames}).logits for frames in (one, three)]
    torch.testing.assert_close(logits[0], logits[1])


def test_one_modality_gates_itself() -> None:
    model = model_of(("audio",))
    model(inputs_of(("audio",))).logits.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("curated", ["audio", "visual"])
def test_in_curation_the_other_modality_does_not_reach_the_curated_one(curated: str) -> None:
    model = model_of(("audio", "visual"))
    inputs = inputs_of(("audio", "visual"))
    other = {"audio": "visual", "visual": "audio"}[curated]
    changed = {**inputs, other: inputs[other] + torch.arange(4).reshape(4, *[1] * (inputs[other].dim() - 1))}
    model(inputs)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = []
    for batch in (inputs, changed):
        model.load_state_dict(state)
        with fusion_of(model).curating(curated):
            found.append(model.encode(batch))
    assert torch.equal(found[0][curated], found[1][curated])
    assert not torch.equal(found[0][other], found[1][other])
    model.load_state_dict(state)
    ordinary = model.encode(inputs)
    assert not torch.equal(ordinary[curated], found[0][curated])
    model.load_state_dict(state)
    assert not torch.equal(model.encode(changed)[curated], ordinary[curated])


def test_curation_leaves_the_curated_gates_without_gradient() -> None:
    model = model_of(("audio", "visual"))
    with fusion_of(model).curating("audio"):
        logits = model.unimodal_logits(model.encode(inputs_of(("audio", "visual"))), "head")
    torch.stack([z.square().sum() for z in logits.values()]).sum().backward()
    missing = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    gates = {name for name, _ in model.named_parameters() if ".gates.audio." in name}
    assert missing == gates
    assert len(gates) == 6


def test_curation_ends_with_its_block_also_after_an_error() -> None:
    model = model_of(("audio", "visual")).eval()
    inputs = inputs_of(("audio", "visual"))
    before = model(inputs).logits
    with fusion_of(model).curating("audio"):
        assert not torch.equal(model(inputs).logits, before)
    assert torch.equal(model(inputs).logits, before)
    with pytest.raises(KeyError), fusion_of(model).curating("audio"):
        model({"audio": inputs["audio"]})
    assert torch.equal(model(inputs).logits, before)


def test_branch_and_bypass_tell_the_fusion_apart() -> None:
    fusion = fusion_of(model_of())
    names = {id(parameter): name for name, parameter in fusion.named_parameters()}
    for m in ("audio", "visual", "text"):
        assert {names[id(parameter)] for parameter in fusion.branch(m)} == {f"heads.{m}.weight", f"heads.{m}.bias"}
        expected = {n for n in names.values() if ".squeeze." in n or f".gates.{m}." in n}
        assert {names[id(parameter)] for parameter in fusion.bypass(m)} == expected
        assert len(fusion.bypass(m)) == len(expected) == 12
    assert fusion_of(model_of(head="concat")).branch("audio") == []


def test_the_average_of_own_heads_and_one_head_of_all() -> None:
    features = {"audio": torch.randn(4, 8), "visual": torch.randn(4, 16)}
    averaged = fusion_of(model_of(("audio", "visual")))
    heads = averaged.unimodal_logits(features, "head")
    torch.testing.assert_close(averaged(features), (heads["audio"] + heads["visual"]) / 2)
    torch.testing.assert_close(heads["audio"], averaged.heads["audio"](features["audio"]))
    without = averaged.unimodal_logits(features, "zero_others")["audio"]
    visual: Any = averaged.heads["visual"]
    torch.testing.assert_close(without, (heads["audio"] + visual.bias) / 2)
    joint = fusion_of(model_of(("visual", "audio"), head="concat"))
    torch.testing.assert_close(joint(features), joint.linear(torch.cat([features["audio"], features["visual"]], dim=1)))
    assert averaged.offers(averaged.settings) == ("head", "zero_others")
    assert joint.offers(joint.settings) == ("zero_others",)


@pytest.mark.parametrize("head", ["average", "concat"])
def test_the_order_of_the_modalities_means_nothing(head: str) -> None:
    first, second = (model_of(order, head=head).eval() for order in (("audio", "visual"), ("visual", "audio")))
    second.load_state_dict(first.state_dict())
    inputs = inputs_of(("audio", "visual"))
    torch.testing.assert_close(first(inputs).logits, second(inputs).logits)


class Stageless(Backbone):
    ranks = (1,)
    width = 4


def test_encoders_that_do_not_fit_are_refused() -> None:
    settings = MmtmFusion.Settings()
    audio = encoder_of("audio")
    with pytest.raises(UsageError, match=r"modalities\.text\.backbone: has no stages, between which fusion mmtm works"):
        MmtmFusion.over(settings, {"audio": audio, "text": Stageless(settings, (4,))}, 3)
    with pytest.raises(
        UsageError, match=r"modalities\.text\.backbone: has 2 stages and that of audio has 3: fusion mmtm"
    ):
        MmtmFusion.over(settings, {"audio": audio, "text": encoder_of("text", layers=2)}, 3)
    with pytest.raises(UsageError, match=r"fusion\.stages: must be at most 3, the number of stages of the backbones"):
        MmtmFusion.over(MmtmFusion.Settings(stages=4), {"audio": audio}, 3)


@pytest.mark.parametrize("fusion", ["mmtm", "centralnet"])
def test_relearning_changes_encoder_parameters_alone(
    fusion: str, toy_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    training = {"epochs": 4, "batch_size": 16, "optimizer": {"name": "sgd", "lr": 0.01}}
    recipe = toy_recipe(("audio", "visual", "text"), fusion=fusion, training=training)
    trainer = make_trainer(recipe, tmp_path)
    torch.set_deterministic_debug_mode("default")
    trainer._epoch(0)
    trainer.ctx.epoch = 1
    before = weights(trainer)
    event = trainer.assembly.method.on_epoch_end(trainer.ctx)
    assert event is not None
    assert all(found.strength > 0 for found in event.found.values())
    changed = {name for name, tensor in weights(trainer).items() if not torch.equal(tensor, before[name])}
    assert changed == {f"encoders.{name}" for name, _ in trainer.assembly.model.encoders.named_parameters()}


def test_cuda_graphs_are_refused_where_averages_would_be_overwritten() -> None:
    path = find_recipe("digits_mmtm")
    with pytest.raises(RecipeError, match=r"training\.compile = reduce-overhead +CUDA graphs overwrite the averages"):
        load_recipe(path, ["training.compile=reduce-overhead"], only("joint"))
    load_recipe(path, ["training.compile=reduce-overhead"], only("unimodal"))  # one encoder, no gates
    load_recipe(path, ["training.compile=default"], only("joint"))
