"""The seams for rows, stages and turns: what a method that declares one gets."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from support.training import bits, log, make_trainer, trained, weights
from torch import nn
from torch.nn import functional

from drcli.data.batches import EVERY_ROW, Batch, Selection
from drcli.engine.trainer import Trainer
from drcli.methods.base import Losses, Method, Stage
from drcli.methods.context import Context
from drcli.methods.parts.alternating import averaged
from drcli.models.fusion import Outputs
from drcli.models.multimodal import MultimodalModel
from drcli.names import METHODS
from drcli.recipe.schema import Recipe
from drcli.world import World

TWO = ("audio", "visual")
MOMENTUM = {"name": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 0.1}


class Chosen(Method):
    """Trains on rows 0 to 39 with both modalities, then on the first 20 twice, of which audio alone is seen."""

    def selections(self, ctx: Context) -> Iterable[Selection]:
        yield Selection(torch.arange(40))
        yield Selection(torch.arange(20).repeat(2), {"visual": torch.zeros(40, dtype=torch.bool)})


class Halves(Method):
    """Two epochs for the encoder of audio and the fusion, then for that of visual and the method's own head."""

    def build(self, model: MultimodalModel) -> dict[str, nn.Module]:
        self.head = nn.Linear(model.fusion.widths["visual"], model.fusion.num_classes)
        return {"head": self.head}

    def stage(self, ctx: Context) -> Stage:
        moves = {"audio", "fusion"} if ctx.epoch < 2 else {"visual", "head"}
        return Stage(first=ctx.epoch // 2 * 2, moves=frozenset(moves))

    def losses(self, ctx: Context, outputs: Outputs, batch: Batch) -> Losses:
        own = functional.cross_entropy(self.head(outputs.features["visual"]), batch.labels)
        return {**super().losses(ctx, outputs, batch), "own": own}


@pytest.fixture
def trainer(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> Callable[..., Trainer]:
    """Makes a trainer of one of the methods above before its first epoch."""

    def make(name: str, **blocks: Any) -> Trainer:
        with METHODS.registered("tried", f"{__name__}:{name}"):
            recipe = toy_recipe(TWO, method="tried", methods={"tried": {}}, **blocks)
            return make_trainer(recipe, tmp_path / f"{len(list(tmp_path.iterdir()))}")

    return make


def test_by_default_an_epoch_is_every_row_once_and_a_run_has_no_stages(toy_recipe: Callable[..., Recipe]) -> None:
    method: Any = Method(Method.Settings())
    assert list(method.selections(None)) == [EVERY_ROW]
    assert method.stage(None) is None


def test_an_epoch_trains_on_the_rows_that_the_method_selects(
    trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = trainer("Chosen", training={"epochs": 1, "batch_size": 16, "optimizer": MOMENTUM})
    seen: list[Batch] = []
    real = Method.training_step

    def step(self: Method, ctx: Context, batch: Batch) -> Any:
        seen.append(batch)
        return real(self, ctx, batch)

    monkeypatch.setattr(Method, "training_step", step)
    made.train()
    rows = [batch.index.tolist() for batch in seen]
    assert [len(part) for part in rows] == [16, 16, 8, 16, 16, 8]
    assert sorted(chain(*rows[:3])) == list(range(40))
    assert sorted(chain(*rows[3:])) == sorted([*range(20), *range(20)])
    assert [sorted(batch.seen) for batch in seen] == [[]] * 3 + [["visual"]] * 3
    assert made.rows == 80  # what its samples per second count


def test_an_encoder_of_which_nothing_is_seen_stands_still(trainer: Callable[..., Trainer]) -> None:
    """Under momentum and weight decay, and with its batch statistics."""
    made = trainer("Chosen", training={"epochs": 1, "batch_size": 20, "optimizer": MOMENTUM})
    made.ctx.model.train()
    encoders = made.assembly.model.encoders
    changed = []
    generator = torch.Generator()
    for selection in made.assembly.method.selections(made.ctx):
        for batch in made.ctx.train.shuffled(20, generator, None, selection):
            before = {m: bits(encoders[m].state_dict()) for m in TWO}
            made.assembly.method.training_step(made.ctx, batch)
            changed.append([m for m in TWO if bits(encoders[m].state_dict()) != before[m]])
    assert changed == [["audio", "visual"]] * 2 + [["audio"]] * 2


def test_the_features_of_what_is_not_seen_are_0(trainer: Callable[..., Trainer]) -> None:
    made = trainer("Chosen")
    made.ctx.model.eval()
    seen = torch.tensor([True, False, True, True])
    batch = next(made.ctx.train.shuffled(4, torch.Generator(), None, Selection(torch.arange(4), {"audio": seen})))
    outputs = made.assembly.method.forward(made.ctx, batch)
    whole = made.ctx.model(batch.inputs)
    kept = batch.seen["audio"]
    assert outputs.features["audio"][~kept].abs().sum() == 0
    torch.testing.assert_close(outputs.features["audio"][kept], whole.features["audio"][kept])
    torch.testing.assert_close(outputs.features["visual"], whole.features["visual"])
    torch.testing.assert_close(outputs.logits[kept], whole.logits[kept])
    torch.testing.assert_close(outputs.logits, made.ctx.model.fuse(outputs.features))


def test_parts_and_shares_of_a_batch_know_what_is_seen_of_their_rows(trainer: Callable[..., Trainer]) -> None:
    batches = trainer("Chosen").ctx.train
    seen = torch.arange(16) % 3 == 0
    selection = Selection(torch.arange(16), {"audio": seen})
    (whole,) = batches.shuffled(16, torch.Generator().manual_seed(0), None, selection)
    assert torch.equal(whole.seen["audio"], whole.index % 3 == 0)
    for part in whole.split(3):
        assert torch.equal(part.seen["audio"], part.index % 3 == 0)
    for rank in (0, 1):
        batches.world = World(rank, 2)
        (share,) = batches.shuffled(16, torch.Generator().manual_seed(0), None, selection)
        assert torch.equal(share.seen["audio"], share.index % 3 == 0)
        assert torch.equal(share.whole.seen["audio"], whole.seen["audio"])
        assert len(share.index) == 8


def test_a_stage_moves_what_it_says_and_nothing_else(trainer: Callable[..., Trainer]) -> None:
    made = trainer("Halves", training={"epochs": 4, "batch_size": 16, "optimizer": MOMENTUM})
    changed = []
    for epoch in range(4):
        before = everything(made)
        made._epoch(epoch)
        changed.append({name for name, held in everything(made).items() if held != before[name]})
    assert changed == [{"audio", "fusion"}] * 2 + [{"visual", "head"}] * 2


def everything(trainer: Trainer) -> dict[str, Any]:
    model = trainer.assembly.model
    modules = {**dict(model.encoders.named_children()), "fusion": model.fusion, **dict(trainer.assembly.extras.items())}
    return {name: bits(module.state_dict()) for name, module in modules.items()}


def test_a_stage_begins_without_momentum(trainer: Callable[..., Trainer]) -> None:
    made = trainer("Halves", training={"epochs": 4, "batch_size": 16, "optimizer": MOMENTUM})
    held = []
    for epoch in range(4):
        made._epoch(epoch)
        held.append({id(parameter) for parameter in made.ctx.optimizer.state})
    ids = [
        {id(p) for p in (*made.ctx.model.encoders[m].parameters(), *module.parameters())}
        for m, module in (("audio", made.ctx.model.fusion), ("visual", made.assembly.extras["head"]))
    ]
    assert held == [ids[0], ids[0], ids[1], ids[1]]


def test_a_run_in_stages_resumes_bit_for_bit(trainer: Callable[..., Trainer], tmp_path: Path) -> None:
    """Within a stage, and between two."""
    training = {"epochs": 4, "batch_size": 16, "optimizer": MOMENTUM}
    whole = trainer("Halves", training=training)
    whole.train()
    for epochs in (1, 2, 3):
        made = trainer("Halves", training=training)
        for epoch in range(epochs):
            made._epoch(epoch)
        made.saver.flush()
        again = trainer("Halves", training=training)
        again.directory = made.directory
        again.resume()
        again.train()
        assert bits(weights(again)) == bits(weights(whole))


def test_scalars_of_turns_are_averaged_where_they_share_a_name() -> None:
    one, three = torch.tensor(1.0), torch.tensor(3.0)
    found = averaged([{"loss_a": one, "accuracy": one}, {"loss_v": three, "accuracy": three}])
    assert {name: value.item() for name, value in found.items()} == {"loss_a": 1, "accuracy": 2, "loss_v": 3}


def test_selecting_every_row_once_changes_nothing(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    with METHODS.registered("tried", f"{__name__}:AllRows"):
        runs = [
            trained(toy_recipe(TWO, method=name, methods={name: {}}), tmp_path / name) for name in ("joint", "tried")
        ]
    assert bits(weights(runs[0])) == bits(weights(runs[1]))
    assert log(runs[0].directory.folder / "metrics.jsonl") == log(runs[1].directory.folder / "metrics.jsonl")


class AllRows(Method):
    """Names all rows, each of them seen whole."""

    def selections(self, ctx: Context) -> Iterable[Selection]:
        return [Selection(torch.arange(len(ctx.train)))]
