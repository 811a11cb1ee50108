"""Which unimodal logits a method may look at, and that a probe leaves no trace in what it probes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.training import bits, log, make_trainer, trained, weights
from torch import nn

from drcli.engine.trainer import Trainer
from drcli.errors import RecipeError
from drcli.methods.ogm import Ogm
from drcli.recipe.schema import Recipe

pytestmark = pytest.mark.convolutions


def ogm_of(trainer: Trainer) -> Ogm:
    assert isinstance(trainer.assembly.method, Ogm)
    return trainer.assembly.method


@pytest.mark.parametrize(
    ("fusion", "source", "allowed"),
    [
        ("film", "slice", "zero_others or detached_probe"),
        ("gated", "slice", "zero_others or detached_probe"),
        ("gated", "head", "zero_others or detached_probe"),
        ("concat", "head", "slice or zero_others or detached_probe"),
    ],
)
def test_what_the_fusion_does_not_offer_is_refused(
    fusion: str, source: str, allowed: str, toy_recipe: Callable[..., Recipe]
) -> None:
    methods = {"mine": {"method": "ogm", "unimodal_logits": source}}
    with pytest.raises(RecipeError) as caught:
        toy_recipe(method="mine", methods=methods, fusion=fusion)
    message = " ".join(str(caught.value).split())
    assert f"methods.mine.unimodal_logits = {source} must be {allowed} with fusion {fusion}" in message


def test_the_default_is_refused_where_the_fusion_is_not_additive(toy_recipe: Callable[..., Recipe]) -> None:
    with pytest.raises(RecipeError, match=r"methods\.ogm_ge\.unimodal_logits = slice"):
        toy_recipe(method="ogm_ge", methods={"ogm_ge": {}}, fusion="film")


@pytest.mark.parametrize(
    ("fusion", "source"),
    [
        ("concat", "slice"),
        ("concat", "zero_others"),
        ("sum", "detached_probe"),
        ("film", "zero_others"),
        ("gated", "detached_probe"),
    ],
)
def test_each_source_gives_the_coefficients(
    fusion: str, source: Any, toy_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    methods = {"ogm": {"unimodal_logits": source, "alpha": 0.5}}
    trainer = trained(toy_recipe(method="ogm", methods=methods, fusion=fusion), tmp_path)
    method, batch = ogm_of(trainer), next(trainer.ctx.val.in_order(16))
    features = trainer.assembly.model.eval().encode(batch.inputs)
    found = method.unimodal_logits(trainer.assembly.model, features)
    assert not any(z.requires_grad for z in found.values())
    if source == "detached_probe":
        assert method.probes is not None
        expected = {m: method.probes[m](h) for m, h in features.items()}
    else:
        expected = trainer.assembly.model.unimodal_logits(features, source)
    torch.testing.assert_close(found, {m: z.detach() for m, z in expected.items()})
    for line in log(trainer.directory.folder / "metrics.jsonl"):
        damped = [line["train"][f"coefficient/{m}"] for m in ("audio", "visual")]
        assert min(damped) < 1


def test_probes_learn_and_encoders_and_fusion_train_as_without_them(
    toy_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    methods = {"ogm": {"unimodal_logits": "detached_probe", "alpha": 0.0}}
    probed = trained(toy_recipe(method="ogm", methods=methods), tmp_path / "probed")
    joint = trained(toy_recipe(method="joint"), tmp_path / "joint")
    assert bits(weights(probed)) == bits(weights(joint))
    lines = log(probed.directory.folder / "metrics.jsonl")
    for m in ("audio", "visual"):
        losses = [line["train"][f"loss_probe_{m}"] for line in lines]
        assert losses[-1] < losses[0]


def test_the_gradient_of_a_probe_reaches_the_probe_alone(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    methods = {"ogm": {"unimodal_logits": "detached_probe"}}
    trainer = make_trainer(toy_recipe(("audio", "visual", "text"), method="ogm", methods=methods), tmp_path)
    ctx, method = trainer.ctx, ogm_of(trainer)
    batch = next(ctx.train.in_order(16))
    outputs = method.forward(ctx, batch)
    losses = method.losses(ctx, outputs, batch)
    assert list(losses) == ["joint", "probe_audio", "probe_visual", "probe_text"]
    assert method.probes is not None
    expected = nn.functional.cross_entropy(method.probes["visual"](outputs.features["visual"]), batch.labels)
    torch.testing.assert_close(losses["probe_visual"], expected)
    losses["probe_visual"].backward()
    reached = {name for name, p in trainer.assembly.extras.named_parameters() if p.grad is not None}
    assert reached == {"probes.visual.weight", "probes.visual.bias"}
    assert all(parameter.grad is None for parameter in trainer.assembly.model.parameters())


def test_probes_are_saved_and_resumed(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    recipe = toy_recipe(method="ogm", methods={"ogm": {"unimodal_logits": "detached_probe"}})
    trainer = trained(recipe, tmp_path)
    again = make_trainer(recipe, tmp_path)
    assert bits(again.assembly.extras.state_dict()) != bits(trainer.assembly.extras.state_dict())
    again.resume()
    assert set(again.assembly.extras.state_dict()) == {
        f"probes.{m}.{name}" for m in ("audio", "visual") for name in ("weight", "bias")
    }
    assert bits(again.assembly.extras.state_dict()) == bits(trainer.assembly.extras.state_dict())
