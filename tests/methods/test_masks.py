"""Rows that lack a modality, in training: its encoder gets no gradient from them, and methods say where they cannot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support.training import bits, make_trainer
from torch import Tensor
from torch.nn import functional

from drcli.data.prepared import open_dataset
from drcli.diagnosis import diagnose
from drcli.engine.assemble import check_masks
from drcli.engine.device import compile_forward
from drcli.engine.evaluate import probe_modalities, run_split
from drcli.engine.trainer import Trainer
from drcli.errors import RecipeError, UsageError
from drcli.methods.parts.criterion import criterion
from drcli.names import METHODS
from drcli.recipe.schema import Recipe
from drcli.world import ALONE, World

FEW = ("joint", "unimodal", "ogm_ge", "inforeg", "mla", "smv")
BLOCKS: Mapping[str, Mapping[str, Any]] = {
    "diagnose_relearn": {"every": 1, "times": 1, "lambda": 3.0, "restarts": 1},
    "opm": {"starts": 0},
    "smv": {"warmup": 1},
    "data_remixing": {"warmup": 1},
    "reconboost": {"alone": 1, "together": 1, "members": "all", "hidden": 8},
    "aug": {"every": 1, "tau": 0.0, "most": 2, "hidden": 8},
    "cml": {"lambda": 2.0, "reduced": 0.5},
    "inforeg": {"threshold": -100.0},
}
REFUSED = ("di_mml", "lfm", "mcr", "pmr", "tcmax")
ABLE = [name for name in METHODS.names() if name not in REFUSED]
Make = Callable[..., Trainer]


@pytest.fixture
def trainer(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> Make:
    """Builds a run of two epochs in which some training rows lack audio."""

    def make(method: str, mask: Tensor, **blocks: Any) -> Trainer:
        short = {"epochs": 2, "batch_size": 16}
        optimizer = {"name": "sgd", "lr": 0.05, "momentum": 0.0, "weight_decay": 0.0}
        recipe = toy_recipe(
            method=method,
            methods={method: dict(BLOCKS.get(method, {}))},
            training={**short, "optimizer": optimizer},
            fusion="mmtm" if method == "greedy" else "concat",
            **blocks,
        )
        found = make_trainer(recipe, tmp_path / method, modality="audio" if method == "unimodal" else None)
        found.ctx.train.present = {"audio": mask}
        return found

    return make


@pytest.mark.parametrize(
    "method", [name if name in FEW else pytest.param(name, marks=pytest.mark.slow) for name in ABLE]
)
def test_rows_without_audio_do_not_move_its_encoder(method: str, trainer: Make) -> None:
    run = trainer(method, torch.zeros(60, dtype=torch.bool))
    encoder = run.assembly.model.encoders["audio"]
    before = bits(encoder.state_dict())
    if method == "diagnose_relearn":  # there is nothing to diagnose
        run.assembly.method.settings = run.assembly.method.settings.model_copy(update={"times": 0})
    run.train()
    assert bits(encoder.state_dict()) == before


@pytest.mark.parametrize(
    "method", [name if name in FEW else pytest.param(name, marks=pytest.mark.slow) for name in ABLE]
)
def test_some_rows_without_audio_are_trained_on(method: str, trainer: Make) -> None:
    run = trainer(method, torch.arange(60) % 3 != 0)
    encoder = run.assembly.model.encoders["audio"]
    before = bits(encoder.state_dict())
    run.train()
    assert all(bool(torch.isfinite(x).all()) for x in run.assembly.model.state_dict().values())
    assert (bits(encoder.state_dict()) == before) == (method == "ensemble")


def test_a_step_is_that_of_the_rows_that_are_there(trainer: Make) -> None:
    """By hand: the encoder on its rows alone, zeros for the others, one cross-entropy over all."""
    mask = torch.arange(60) % 3 != 0
    run, other = trainer("joint", mask), trainer("joint", mask)
    run.ctx.model.train()
    other.ctx.model.train()
    batch = run.ctx.train.take(torch.arange(16))
    assert torch.equal(batch.present["audio"], mask[:16])
    assert batch.inputs["audio"][~mask[:16]].count_nonzero() == 0
    run.assembly.method.training_step(run.ctx, batch)

    model, labels = other.ctx.model, batch.labels
    h = torch.zeros(16, 8)
    h[mask[:16]] = model.encoders["audio"](batch.inputs["audio"][mask[:16]])
    features = {"audio": h, "visual": model.encoders["visual"](batch.inputs["visual"])}
    functional.cross_entropy(model.fusion(features), labels).backward()
    with torch.no_grad():
        for parameter in other.ctx.trainable:
            assert parameter.grad is not None
            parameter.sub_(0.05 * parameter.grad)
    for (name, found), expected in zip(
        run.ctx.model.state_dict().items(), other.ctx.model.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(found, expected, msg=name)


def test_a_batch_in_which_every_row_has_everything_has_no_mask(trainer: Make) -> None:
    run = trainer("joint", torch.arange(60) >= 16)
    assert run.ctx.train.take(torch.arange(16, 32)).present == {}
    part, rest = run.ctx.train.take(torch.arange(8, 24)).split(2)
    assert (part.present["audio"].tolist(), rest.present["audio"].tolist()) == ([False] * 8, [True] * 8)


def test_the_diagnosis_is_that_of_the_rows_that_have_the_modality(trainer: Make) -> None:
    mask = torch.arange(60) % 3 != 0
    run = trainer("joint", mask)
    settings = run.recipe.diagnosis
    found = run.ctx.diagnose(settings, 3.0)
    (train, labels), (val, labels_val) = run.ctx.features("train"), run.ctx.features("val")
    audio = diagnose(
        {"audio": train["audio"][mask]},
        labels[mask],
        {"audio": val["audio"]},
        labels_val,
        num_classes=3,
        settings=settings,
        lambda_=3.0,
    )["audio"]
    assert found["audio"] == audio
    assert (found["audio"].num_train, found["visual"].num_train) == (40, 60)


def test_the_probe_of_a_modality_is_that_of_the_rows_that_have_it(trainer: Make) -> None:
    run = trainer("joint", torch.ones(60, dtype=torch.bool))
    outputs = {name: run_split(run.assembly, name) for name in ("train", "val", "test")}
    for name, found in outputs.items():
        mask = torch.arange(len(found.split.labels)) % 4 != 1
        part = replace(found.split, present={"audio": mask})
        noisy = found.features["audio"].clone()
        noisy[~mask] = 1e6  # it would change any probe that saw it
        outputs[name] = replace(found, split=part, features={**found.features, "audio": noisy})
    kept = {
        name: replace(
            found,
            features={"audio": found.having("audio")[0]},
            split=found.having("audio")[1],
        )
        for name, found in outputs.items()
    }
    both = (probe_modalities(x, "test", run.ctx.device)["audio"] for x in (outputs, kept))
    assert next(both) == next(both)


@pytest.mark.parametrize("method", REFUSED)
def test_methods_that_need_every_modality_of_a_row_say_so(method: str, toy_recipe: Callable[..., Recipe]) -> None:
    recipe = toy_recipe(method=method, methods={method: {}})
    contents = open_dataset(recipe.dataset.root).info.contents
    masked = {m: replace(spec, masked=m == "audio") for m, spec in contents.modalities.items()}
    check_masks(recipe, ("audio", "visual"), contents, ALONE)
    with pytest.raises(RecipeError, match=rf"^methods\.{method}: rows of dataset toy lack audio, and its? "):
        check_masks(recipe, ("audio", "visual"), replace(contents, modalities=masked), ALONE)
    check_masks(recipe, ("visual",), replace(contents, modalities=masked), ALONE)


def test_several_devices_are_refused(toy_recipe: Callable[..., Recipe]) -> None:
    recipe = toy_recipe(method="joint", methods={"joint": {}})
    contents = open_dataset(recipe.dataset.root).info.contents
    masked = {m: replace(spec, masked=m == "audio") for m, spec in contents.modalities.items()}
    with pytest.raises(UsageError, match=r"^--devices 2: rows of dataset toy lack audio"):
        check_masks(recipe, ("audio", "visual"), replace(contents, modalities=masked), World(0, 2))


def test_such_a_model_is_not_compiled(trainer: Make) -> None:
    run = trainer("joint", torch.arange(60) > 0)
    run.ctx.training = run.ctx.training.model_copy(update={"compile": "default"})
    assert "the model runs uncompiled" in (compile_forward(run.ctx, run.assembly.method) or "")


def test_the_cross_entropy_of_some_rows_is_their_mean() -> None:
    logits, labels = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0, 1])
    rows = torch.tensor([True, False, True, False, False])
    torch.testing.assert_close(
        criterion(None, logits, labels, rows), functional.cross_entropy(logits[rows], labels[rows])
    )
    assert criterion(None, logits, labels, torch.zeros(5, dtype=torch.bool)) == 0
