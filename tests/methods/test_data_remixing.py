"""Data Remixing: who gets a row, what a batch of one modality moves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.data_remixing import slow_choice
from support.training import bits, make_trainer

from drcli.data.batches import Batch
from drcli.engine.trainer import Trainer
from drcli.errors import RecipeError
from drcli.methods.data_remixing import DataRemixing, alone, least_certain
from drcli.methods.parts.divergence import to_uniform
from drcli.recipe.schema import Recipe

pytestmark = pytest.mark.convolutions

TWO = ("audio", "visual")
THREE = ("audio", "text", "visual")
ADAM = {"name": "adam", "lr": 0.01, "weight_decay": 0.01}


@pytest.fixture
def trainer(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> Callable[..., Trainer]:
    """Makes a trainer of Data Remixing before its first step; one epoch is warm-up."""

    def make(modalities: tuple[str, ...] = TWO, fusion: str = "concat", **settings: Any) -> Trainer:
        recipe = toy_recipe(
            modalities,
            fusion=fusion,
            method="data_remixing",
            methods={"data_remixing": {"warmup": 1, **settings}},
            training={"epochs": 4, "batch_size": 16, "optimizer": ADAM},
        )
        return make_trainer(recipe, tmp_path / f"{len(list(tmp_path.iterdir()))}")

    return make


def method_of(trainer: Trainer) -> DataRemixing:
    method = trainer.assembly.method
    assert isinstance(method, DataRemixing)
    return method


def test_distances_to_uniform_worked_by_hand() -> None:
    logits = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.5, 0.5]]).log()
    assert to_uniform(logits).tolist() == pytest.approx([0.368064, 0.020136, 0.0], abs=1e-6)


def test_a_row_goes_to_the_modality_that_is_least_certain_and_to_the_last_at_a_tie() -> None:
    certain, hesitant = torch.tensor([[0.9, 0.1]]).log(), torch.tensor([[0.6, 0.4]]).log()
    assert least_certain({"audio": certain, "visual": hesitant}).item() == 1
    assert least_certain({"audio": hesitant, "visual": certain}).item() == 0
    assert least_certain({"audio": certain, "visual": certain}).item() == 1


@pytest.mark.parametrize("modalities", [TWO, THREE], ids=len)
def test_choices_agree_with_a_slow_reference(modalities: tuple[str, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = {m: torch.randn(40, 3, generator=generator, dtype=torch.float64) for m in modalities}
    found = [modalities[i] for i in least_certain(logits).tolist()]
    assert found == slow_choice({m: z.tolist() for m, z in logits.items()})
    assert set(found) == set(modalities)


def test_an_epoch_trains_on_every_row_with_the_modality_it_was_given_to(trainer: Callable[..., Trainer]) -> None:
    made = trainer(THREE)
    made.ctx.epoch = 1
    method = method_of(made)
    features, _ = made.ctx.features("train")
    logits = {m: method.heads[m](x).detach() for m, x in features.items()}
    chosen = slow_choice({m: z.double().tolist() for m, z in logits.items()})
    found = {}
    order = []
    for selection in method.selections(made.ctx):
        (m,) = set(THREE) - set(selection.seen)
        assert not any(seen.any() for seen in selection.seen.values())
        assert selection.rows is not None
        order.append(m)
        found.update(dict.fromkeys(selection.rows.tolist(), m))
    left_out = {i for i in range(60) if i not in found}
    assert all(chosen.count(chosen[i]) == 1 for i in left_out)
    assert [found.get(i, chosen[i]) for i in range(60)] == chosen
    assert order == sorted(order, reverse=True)


def test_a_batch_of_one_modality_leaves_the_other_encoder_as_it_is(
    trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under Adam with weight decay, after an epoch in which both were trained."""
    made = trainer()
    made._epoch(0)
    changed = []
    real = DataRemixing.training_step

    def step(self: DataRemixing, ctx: Any, batch: Batch) -> Any:
        groups = {**dict(ctx.model.encoders.named_children()), **{f"{m} head": self.heads[m] for m in TWO}}
        before = {name: bits(module.state_dict()) for name, module in groups.items()}
        found = real(self, ctx, batch)
        (m,) = (m for m in TWO if m not in batch.seen)
        changed.append((m, {name for name, module in groups.items() if bits(module.state_dict()) != before[name]}))
        return found

    monkeypatch.setattr(DataRemixing, "training_step", step)
    made._epoch(1)
    assert {m for m, _ in changed} == set(TWO)
    assert all(moved == {m, f"{m} head"} for m, moved in changed)


def test_the_losses_of_a_batch_of_one_modality(trainer: Callable[..., Trainer]) -> None:
    made = trainer()
    made.ctx.epoch, method = 1, method_of(made)
    made.ctx.model.eval()
    batch = next(made.ctx.train.shuffled(8, torch.Generator(), None, alone("visual", TWO, torch.arange(8))))
    method.fractions = {"audio": 0.25, "visual": 0.75}
    outputs = method.forward(made.ctx, batch)
    assert outputs.features["audio"].abs().sum() == 0
    losses = method.losses(made.ctx, outputs, batch)
    features = made.ctx.model.encoders["visual"](batch.inputs["visual"])
    fusion = made.ctx.model.fusion.linear
    assert isinstance(fusion, torch.nn.Linear)
    z = features @ fusion.weight[:, features.shape[1] :].T + fusion.bias
    own = method.heads["visual"](features)
    cross_entropy = torch.nn.functional.cross_entropy
    torch.testing.assert_close(losses["joint"], cross_entropy(z, batch.labels))
    torch.testing.assert_close(losses["own"], cross_entropy(own, batch.labels))
    assert list(losses) == ["joint", "own"]
    assert {name: value.item() for name, value in made.ctx.take_logged().items()} == {
        "coefficient/audio": 0.25,
        "coefficient/visual": 0.75,
    }


def test_the_losses_of_the_warm_up(trainer: Callable[..., Trainer]) -> None:
    made = trainer(weight=0.25)
    method, batch = method_of(made), next(made.ctx.train.in_order(16))
    outputs = method.forward(made.ctx, batch)
    losses = method.losses(made.ctx, outputs, batch)
    expected = torch.nn.functional.cross_entropy(method.heads["audio"](outputs.features["audio"]), batch.labels)
    assert list(losses) == ["joint", *TWO]
    torch.testing.assert_close(losses["audio"], 0.25 * expected)


def test_modalities_take_their_turns_from_the_last_name_on(
    trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = trainer(THREE)
    monkeypatch.setattr("drcli.methods.data_remixing.least_certain", lambda _: torch.arange(60) % 3)
    made.ctx.epoch = 1
    turns = [set(THREE) - set(selection.seen) for selection in method_of(made).selections(made.ctx)]
    assert turns == [{"visual"}, {"text"}, {"audio"}]


def test_a_single_row_is_left_out(trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch) -> None:
    made = trainer()
    monkeypatch.setattr("drcli.methods.data_remixing.least_certain", lambda _: (torch.arange(60) > 0).long())
    made.ctx.epoch = 1
    selections = list(method_of(made).selections(made.ctx))
    assert [set(TWO) - set(selection.seen) for selection in selections] == [{"visual"}]


def test_a_run_that_is_all_warm_up_is_warned_of(trainer: Callable[..., Trainer]) -> None:
    made = trainer(warmup=4)
    assert list(method_of(made).warnings(made.ctx)) == ["no row is given to a modality (warmup: 4, 4 epochs)"]
    assert list(method_of(trainer()).warnings(made.ctx)) == []


def test_intermediate_fusions_are_refused(trainer: Callable[..., Trainer]) -> None:
    with pytest.raises(
        RecipeError, match=r"fusion\.name = mmtm +must be concat or .* for data_remixing: a late fusion"
    ):
        trainer(fusion="mmtm")
