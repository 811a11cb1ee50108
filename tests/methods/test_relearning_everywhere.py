"""D&R on every fusion and backbone: it runs, and re-learning changes the encoders' parameters alone."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from support.names import OF_NUMBERS
from support.training import log, make_trainer, weights

from drcli.names import BACKBONES, FUSIONS
from drcli.recipe.load import recipe_from_dict

SMALL: dict[str, dict[str, Any]] = {
    "resnet18": {},
    "resnet_small": {"width": 4},
    "vit": {"dim": 8, "heads": 2, "layers": 2, "feedforward": 8},
    "transformer": {"dim": 8, "heads": 2, "layers": 2, "feedforward": 8},
    "mlp": {"hidden": [8, 8, 8]},
}
TOKENS = ("vit", "transformer")
LATE = ("concat", "sum", "film", "gated", "late_transformer")
LIKE_ANOTHER = {("sum", "resnet_small"), ("gated", "resnet_small"), ("mmtm", "mlp")}
PAIRS = [
    *((fusion, "resnet_small") for fusion in (*LATE, "mmtm", "centralnet")),
    *((fusion, backbone) for fusion in ("concat", "mbt", "mmtm") for backbone in TOKENS),
    *((fusion, "mlp") for fusion in ("concat", "mmtm", "centralnet")),
    ("concat", "resnet18"),
]
"""All are tried by the slow tests; every test run leaves out large encoders and what is like another pair."""


def marks(pair: tuple[str, str]) -> list[pytest.MarkDecorator]:
    return [pytest.mark.slow] if pair[1] in {"resnet18", "vit"} or pair in LIKE_ANOTHER else []


@pytest.fixture
def data(toy_dict: Callable[..., dict[str, Any]]) -> Iterator[Callable[..., dict[str, Any]]]:
    """A recipe over "toy", whose pictures a transformer of sequences reads row by row."""

    def make(fusion: str, backbone: str) -> dict[str, Any]:
        modalities = ("audio", "visual") if fusion in {"film", "gated"} else ("audio", "visual", "text")
        block = {"name": fusion, **({"stages": 2} if fusion == "mmtm" and backbone in TOKENS else {})}
        encoders = {m: {"backbone": backbone, **SMALL[backbone]} for m in modalities}
        training = {"epochs": 3, "batch_size": 16, "optimizer": {"name": "sgd", "lr": 0.05}}
        return {**toy_dict(modalities), "modalities": encoders, "fusion": block, "training": training}

    with BACKBONES.registered("transformer", "support.rows:RowsTransformer"):
        yield make


def test_every_fusion_and_backbone_is_tried() -> None:
    assert {fusion for fusion, _ in PAIRS} == set(FUSIONS.names())
    assert {backbone for _, backbone in PAIRS} == set(OF_NUMBERS)


@pytest.mark.parametrize(
    ("fusion", "backbone"),
    [pytest.param(*pair, marks=marks(pair)) for pair in PAIRS],
)
def test_an_event_moves_the_parameters_of_every_encoder_and_nothing_else(
    fusion: str,
    backbone: str,
    data: Callable[..., dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys.modules["drcli.relearning.rules"], "strength", lambda *_: 0.3)  # a gap may be 0
    trainer = make_trainer(recipe_from_dict(data(fusion, backbone), where="the test's recipe"), tmp_path)
    trainer._epoch(0)
    trainer.ctx.epoch = 1
    before = weights(trainer)
    event = trainer.assembly.method.on_epoch_end(trainer.ctx)
    assert event is not None
    assert {found.strength for found in event.found.values()} == {0.3}
    after = weights(trainer)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    model = trainer.assembly.model
    encoders = {f"encoders.{name}" for name, _ in model.encoders.named_parameters()}
    # No output depends on the biases of a vision transformer's keys: they stay where they started.
    assert changed | {name for name in encoders if name.endswith("key.bias")} == encoders
    assert {id(p) for p in model.encoders.parameters()}.isdisjoint({id(p) for p in model.fusion.parameters()})


@pytest.mark.parametrize(
    ("fusion", "backbone"),
    [
        pytest.param("mmtm", "vit", marks=pytest.mark.slow),
        pytest.param("centralnet", "resnet_small", marks=pytest.mark.slow),
        ("mbt", "transformer"),
    ],
)
def test_a_whole_run_has_its_event(
    fusion: str, backbone: str, data: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    trainer = make_trainer(recipe_from_dict(data(fusion, backbone), where="the test's recipe"), tmp_path)
    trainer.train()
    assert [(event["kind"], event["epoch"]) for event in log(tmp_path / "events.jsonl")] == [("relearn", 1)]
