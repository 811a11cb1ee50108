"""What `drcli show` accepts, `drcli train` can train: every shipped recipe with every fusion, backbone and method.

Both commands ask the same question of a recipe before any data is read. Here the answer is held against the
model itself, which is built small, set up by the method, and takes one step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from support.command_line import Drcli, Refused
from support.names import OF_NUMBERS
from torch import nn

from drcli.data.batches import Batch
from drcli.methods.context import Context
from drcli.models.build import build_model
from drcli.models.multimodal import Teacher
from drcli.names import BACKBONES, FUSIONS, METHODS
from drcli.optim import build_optimizer
from drcli.recipe.conflicts import conflicts
from drcli.recipe.load import load_recipe, only
from drcli.recipe.schema import FusionBlock, MethodBlock, ModalityBlock, Recipe
from drcli.recipe.shipped import find_recipe, shipped_recipes
from drcli.runs.planned import plan

SMALL: Mapping[str, dict[str, Any]] = {
    "resnet18": {},
    "resnet_small": {"width": 2},
    "vit": {"dim": 4, "heads": 1, "layers": 3, "feedforward": 4},
    "transformer": {"dim": 4, "heads": 1, "layers": 3, "feedforward": 4},
    "mlp": {"hidden": (4, 4, 4)},
}
SHAPES = {1: (6,), 2: (3, 4), 3: (1, 8, 8)}
CLASSES = 3


@cache
def shipped(name: str) -> Recipe:
    return load_recipe(find_recipe(name), labels=only())


def variants(base: Recipe) -> Iterator[Recipe]:
    """The recipe with every fusion, backbone and method; settings are the recipe's where it has any."""
    methods = dict(base.methods)
    named = {block.method for block in methods.values()}
    methods |= {name: MethodBlock(name, METHODS.load(name).Settings()) for name in METHODS.names() if name not in named}
    for fusion in FUSIONS.names():
        own = base.fusion.name == fusion
        block = base.fusion if own else FusionBlock(fusion, FUSIONS.load(fusion).Settings())
        for backbone in OF_NUMBERS:
            encoders = {m: encoder(backbone, found) for m, found in base.modalities.items()}
            yield replace(base, fusion=block, modalities=encoders, methods=methods)


def encoder(backbone: str, block: ModalityBlock) -> ModalityBlock:
    """The block with another backbone, small."""
    return ModalityBlock(backbone, BACKBONES.load(backbone).Settings(**SMALL[backbone]), block.input)


def refusals(recipe: Recipe, label: str) -> dict[str, str]:
    """What show and train say of a label before any data is read, by key."""
    return {".".join(map(str, problem.key)): problem.message for problem in conflicts(recipe, [label])}


def take_a_step(recipe: Recipe, label: str) -> None:
    """Build, set up and step as a run would, on four made-up samples; every run of the label."""
    for run in plan(recipe, [label], recipe.seeds[:1], Path("nowhere")):
        if run.recipe.method == label:
            step(run.recipe, run.modalities)


class FourRows:
    """A split that a method may ask for its length alone."""

    def __len__(self) -> int:
        return 4


def step(recipe: Recipe, modalities: tuple[str, ...]) -> None:
    model = model_of(recipe, modalities)
    block = recipe.methods[recipe.method]
    method = METHODS.load(block.method)(block.settings)
    extras = nn.ModuleDict(method.build(model))
    trainable = [*model.parameters(), *extras.parameters()]
    alone = replace(recipe, fusion=FusionBlock("concat", FUSIONS.load("concat").Settings()))
    no_batches: Any = FourRows()
    context: Any = Context(
        model=model,
        optimizer=build_optimizer(recipe.training.optimizer, trainable, fused=False),
        trainable=trainable,
        train=no_batches,
        val=no_batches,
        num_classes=CLASSES,
        eval_batch_size=4,
        seed=0,
        device=torch.device("cpu"),
        training=recipe.training,
        teachers={m: Teacher.of(model_of(alone, (m,))) for m in modalities} if method.requires else {},
        label=recipe.method,
    )
    method.setup(context)
    if block.method == "g_blending":
        method.weights = dict.fromkeys(method.weights, 1.0)  # which are estimated before the first epoch
    inputs = {m: torch.randn(4, *shape) for m, shape in shapes(recipe, modalities).items()}
    batch = Batch(inputs, torch.tensor([0, 1, 2, 0]), torch.arange(4), {})
    if method.trains:
        method.training_step(context, batch)
    method.predict(model, batch)


def model_of(recipe: Recipe, modalities: tuple[str, ...]) -> Any:
    blocks = {m: recipe.modalities[m] for m in modalities}
    shown = shapes(recipe, modalities)
    return build_model(blocks, recipe.fusion, shapes=shown, num_classes=CLASSES, seed=0)


def shapes(recipe: Recipe, modalities: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    return {m: SHAPES[BACKBONES.load(recipe.modalities[m].backbone).ranks[0]] for m in modalities}


def agree(recipe: Recipe, label: str) -> None:
    """Hold the answer against the model; what is refused of fusion and encoders does not build either.

    A method may refuse a fusion that builds, because the method means nothing with it.
    """
    found = refusals(recipe, label)
    meant = {key for key, _ in METHODS.load(recipe.methods[label].method).check(replace(recipe, method=label))}
    if not found:
        take_a_step(recipe, label)
    elif any(key.startswith(("fusion", "modalities")) for key in found if key not in meant):
        with pytest.raises(Exception):  # noqa: B017, PT011 - a fusion of two modalities has no message for three
            take_a_step(recipe, label)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["digits"])
def test_what_is_accepted_before_data_is_read_takes_a_step(name: str) -> None:
    """With one convolutional backbone and one of tokens, and one fusion of each kind; the slow test tries all."""
    for recipe in variants(shipped(name)):
        backbones = {block.backbone for block in recipe.modalities.values()}
        if not {"resnet18", "transformer", "mlp"} & backbones and recipe.fusion.name in {"concat", "mmtm"}:
            for label in recipe.methods:
                agree(recipe, label)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(shipped_recipes()))
def test_so_does_every_shipped_recipe_with_every_backbone(name: str) -> None:
    for recipe in variants(shipped(name)):
        for label in recipe.methods:
            agree(recipe, label)


@pytest.mark.parametrize("name", list(shipped_recipes()))
def test_every_method_of_a_shipped_recipe_is_accepted_as_it_is(name: str) -> None:
    recipe = shipped(name)
    assert not [refusals(recipe, label) for label in recipe.methods if refusals(recipe, label)]


@pytest.mark.parametrize(
    ("overrides", "key", "said"),
    [
        (["fusion=mbt"], "modalities.audio.backbone", "must be a transformer (transformer, vit) with fusion mbt"),
        (
            ["fusion=centralnet", "modalities.audio={backbone: vit, layers: 3}"],
            "modalities.audio.backbone",
            "gives tokens, and fusion centralnet joins feature maps: use a convolutional one, or fusion=mmtm",
        ),
        (["fusion={name: mmtm, stages: 4}"], "fusion.stages", "must be at most 3, the number of stages"),
        (
            ["method=ogm", "modalities.audio={backbone: transformer}"],
            "methods.ogm.tensors",
            "the encoder of audio (Transformer) has no such weights; use non1d",
        ),
        (
            ["method=ogm", "fusion=film"],
            "methods.ogm.unimodal_logits",
            "must be zero_others or detached_probe with fusion film",
        ),
        (["method=multi_loss", "methods.multi_loss={unimodal_logits: slice}", "fusion=gated"],
         "methods.multi_loss.unimodal_logits", "must be own with fusion gated"),
    ],
    ids=str,
)  # fmt: skip
def test_show_and_train_refuse_alike_before_they_look_for_data(
    overrides: list[str], key: str, said: str, refused: Refused
) -> None:
    nowhere = "dataset.root=nowhere"
    shown = refused("show", "digits", *overrides, nowhere, code=2)
    assert f"{key} = " in shown
    assert said in " ".join(shown.split())
    assert refused("train", "digits", *overrides, nowhere, code=2) == shown


def test_show_shows_what_it_does_not_refuse(drcli: Drcli) -> None:
    assert "name: film" in drcli("show", "digits", "fusion=film", "method=joint").stdout
