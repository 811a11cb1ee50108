"""Rows that lack a modality: nothing of it reaches the logits, and nothing of them its encoder."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import cast

import pytest
import torch
from support.tiny import Tiny
from torch import Tensor, nn
from torch.nn import functional

from drcli.models.backbone import Backbone
from drcli.models.fusion import Fusion
from drcli.models.late_transformer import LateTransformer
from drcli.models.mbt import Mbt
from drcli.models.multimodal import MultimodalModel
from drcli.models.transformer import Transformer, ViT
from drcli.names import FUSIONS

TWO = ("audio", "visual")
PRESENT = {"audio": torch.tensor([True, False, True, True, False, True])}
LACKING = ~PRESENT["audio"]
Model = Callable[[], MultimodalModel]


def of_tiny(fusion: str, modalities: tuple[str, ...] = TWO) -> MultimodalModel:
    torch.manual_seed(0)
    encoders: dict[str, Backbone] = {m: Tiny(Tiny.Settings(), (1, 8, 8)) for m in modalities}
    kind = FUSIONS.load(fusion)
    return MultimodalModel(encoders, cast("Fusion", kind.over(kind.Settings(), encoders, 3)))


def of_transformers(classifier: str = "token", modalities: tuple[str, ...] = TWO) -> MultimodalModel:
    torch.manual_seed(0)
    settings = Transformer.Settings(dim=8, heads=2, layers=3, feedforward=12, pooling="mean", dropout=0.0)
    encoders: dict[str, Backbone] = {m: Transformer(settings, (1, 64)) for m in modalities}
    fusion = Mbt.over(Mbt.Settings(fusion_layer=1, classifier=classifier), encoders, 3)
    for parameter in fusion.parameters():
        nn.init.normal_(parameter)
    return MultimodalModel(encoders, fusion)


def of_vits() -> MultimodalModel:
    torch.manual_seed(0)
    settings = ViT.Settings(dim=8, heads=2, layers=3, feedforward=12, patch=4, dropout=0.0)
    encoders: dict[str, Backbone] = {m: ViT(settings, (1, 8, 8)) for m in TWO}
    fusion = Mbt.over(Mbt.Settings(fusion_layer=1), encoders, 3)
    nn.init.normal_(fusion.linear.weight)
    return MultimodalModel(encoders, fusion)


def inputs_of(model: MultimodalModel, seed: int = 1) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    flat = isinstance(model.encoders["audio"], Transformer)
    return {m: torch.randn(6, 1, *([64] if flat else [8, 8]), generator=generator) for m in model.modalities}


MODELS: dict[str, Model] = {
    **{name: partial(of_tiny, name) for name in ("concat", "sum", "film", "gated", "mmtm", "centralnet")},
    "late_transformer": lambda: of_tiny("late_transformer"),
    "mbt token": of_transformers,
    "mbt gap": lambda: of_transformers("gap"),
    "mbt of pictures": of_vits,
}
EVERY = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS.keys())


@EVERY
def test_what_rows_do_not_have_does_not_matter(make: Model) -> None:
    model = make().eval()
    inputs = inputs_of(model)
    other = inputs["audio"].clone()
    other[LACKING] = torch.randn_like(other[LACKING])
    first, second = (model({**inputs, "audio": audio}, {}, PRESENT) for audio in (inputs["audio"], other))
    assert torch.equal(first.logits, second.logits)
    assert not torch.equal(first.logits, model(inputs).logits)
    assert first.features["audio"][LACKING].count_nonzero() == 0


@EVERY
def test_rows_that_have_everything_are_as_without_a_mask(make: Model) -> None:
    model = make().eval()
    inputs = inputs_of(model)
    rows = PRESENT["audio"]
    torch.testing.assert_close(model(inputs, {}, PRESENT).logits[rows], model(inputs).logits[rows])


@EVERY
def test_no_gradient_reaches_an_encoder_through_rows_that_lack_its_modality(make: Model) -> None:
    model = make()
    model.fusion.eval()  # a batch normalisation of its own would join the rows
    outputs = model(inputs_of(model), {}, PRESENT)
    functional.cross_entropy(outputs.logits[LACKING], torch.tensor([0, 1])).backward()
    gradients = [p.grad for p in model.encoders["audio"].parameters() if p.grad is not None]
    assert all(gradient.count_nonzero() == 0 for gradient in gradients)
    assert any(p.grad is not None and p.grad.any() for p in model.encoders["visual"].parameters())


@pytest.mark.parametrize("fusion", ["concat", "mmtm"])
def test_batch_statistics_are_those_of_the_rows_that_are_there(fusion: str) -> None:
    model = of_tiny(fusion)
    inputs = inputs_of(model)
    alone = copy.deepcopy(model.encoders["audio"])
    assert isinstance(alone, Tiny)
    alone.train()(inputs["audio"][PRESENT["audio"]])
    model.train()(inputs, {}, PRESENT)
    found = cast("Tiny", model.encoders["audio"]).norm
    torch.testing.assert_close(found.running_mean, alone.norm.running_mean, rtol=0, atol=0)
    torch.testing.assert_close(found.running_var, alone.norm.running_var, rtol=0, atol=0)


@pytest.mark.parametrize("rows", [0, 1])
@EVERY
def test_a_batch_with_hardly_a_row_of_a_modality_is_trained_on(make: Model, rows: int) -> None:
    model = make()
    before = copy.deepcopy(dict(model.encoders["audio"].named_buffers()))
    model.train()(inputs_of(model), {}, {"audio": torch.arange(6) < rows}).logits.sum().backward()
    for name, buffer in model.encoders["audio"].named_buffers():
        assert torch.equal(buffer, before[name])
    gradients = [p.grad for p in model.encoders["audio"].parameters()]
    assert rows == 1 or not any(gradient is not None and gradient.any() for gradient in gradients)


def test_a_late_transformer_without_a_modality_is_one_that_never_had_its_token() -> None:
    model = of_tiny("late_transformer").eval()
    fusion = cast("LateTransformer", model.fusion)
    h = {m: torch.randn(6, 8, generator=torch.Generator().manual_seed(3)) for m in TWO}
    token = fusion.projections["visual"](h["visual"]) + fusion.embeddings["visual"]
    hidden = fusion.layers(torch.stack([fusion.token.expand_as(token), token], dim=1))
    expected = fusion.linear(fusion.norm(hidden[:, 0]))
    torch.testing.assert_close(model.fuse(h, PRESENT)[LACKING], expected[LACKING])


@pytest.mark.parametrize("classifier", ["token", "gap"])
def test_mbt_without_a_modality_is_mbt_of_the_others(classifier: str) -> None:
    both, alone = of_transformers(classifier).eval(), of_transformers(classifier, ("visual",)).eval()
    alone.encoders["visual"].load_state_dict(both.encoders["visual"].state_dict())
    alone.fusion.load_state_dict(both.fusion.state_dict())
    inputs = inputs_of(both)
    expected = alone({"visual": inputs["visual"]}).logits
    torch.testing.assert_close(both(inputs, {}, PRESENT).logits[LACKING], expected[LACKING])


def test_stand_ins_are_the_features_of_rows_that_lack_a_modality() -> None:
    model = of_tiny("concat").eval()
    model.stand_ins = {"audio": torch.arange(8.0)}
    inputs = inputs_of(model)
    features = model.encode(inputs, {}, PRESENT)["audio"]
    assert torch.equal(features[LACKING], torch.arange(8.0).expand(2, 8))
    assert torch.equal(features[~LACKING], model.encode({**inputs}, {}, PRESENT)["audio"][~LACKING])
