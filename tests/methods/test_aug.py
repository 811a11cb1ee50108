"""AUG: its losses, when a layer joins, and that it is trained and kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.aug import slow_loss, slow_terms
from support.training import bits, log, make_trainer

from drcli import checkpoint
from drcli.engine.assemble import restore
from drcli.engine.trainer import Trainer
from drcli.errors import CheckpointError, RecipeError
from drcli.methods.aug import AUG, behind
from drcli.methods.parts.residual import residual_loss
from drcli.recipe.schema import Recipe

pytestmark = pytest.mark.convolutions

TWO = ("audio", "visual")
MOMENTUM = {"name": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 0.1}


@pytest.fixture
def trainer(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> Callable[..., Trainer]:
    """Makes a trainer of AUG before its first step."""

    def make(modalities: tuple[str, ...] = TWO, epochs: int = 4, **settings: Any) -> Trainer:
        recipe = toy_recipe(
            modalities,
            method="aug",
            methods={"aug": {"every": 1, "most": 3, "hidden": 8, **settings}},
            training={"epochs": epochs, "batch_size": 16, "optimizer": MOMENTUM},
        )
        return make_trainer(recipe, tmp_path / f"{len(list(tmp_path.iterdir()))}")

    return make


def method_of(trainer: Trainer) -> AUG:
    method = trainer.assembly.method
    assert isinstance(method, AUG)
    return method


def test_the_residual_loss_worked_by_hand() -> None:
    """q(y) = .7, residual .5, softmax(l)(y) = .4: .65 * .916291 = .595589; without residual, the cross-entropy."""
    earlier, last = torch.tensor([[0.7, 0.3]]).log(), torch.tensor([[0.4, 0.6]]).log()
    labels = torch.tensor([0])
    assert residual_loss(last, earlier, labels, 0.5).item() == pytest.approx(0.595589, abs=1e-6)
    assert residual_loss(last, earlier, labels, 0.0).item() == pytest.approx(0.916291, abs=1e-6)


def test_the_modality_behind_gets_the_layer() -> None:
    assert behind({"audio": 0.6, "visual": 0.5}, 1.0, 0.01) == "visual"
    assert behind({"audio": 0.5, "visual": 0.6}, 1.0, 0.01) == "audio"
    assert behind({"audio": 0.505, "visual": 0.5}, 1.0, 0.01) is None
    assert behind({"audio": 0.6, "text": 0.2, "visual": 0.5}, 1.0, 0.3) == "text"
    assert behind({"audio": 0.6, "visual": 0.5}, 1.2, 0.01) is None


@pytest.mark.parametrize("count", [1, 2, 3])
def test_losses_agree_with_a_slow_reference(count: int, trainer: Callable[..., Trainer]) -> None:
    made = trainer(residual=0.3)
    method, batch = method_of(made), next(made.ctx.train.in_order(12))
    classifiers = method.classifiers
    for _ in range(count - 1):
        classifiers.grow("visual")
    method.turn = "visual"
    outputs = method.forward(made.ctx, batch)
    losses = method.losses(made.ctx, outputs, batch)
    hidden: Any = classifiers.layers["visual"]
    layers = [(layer.weight.tolist(), layer.bias.tolist()) for layer in hidden[:count]]
    final = (classifiers.final.weight.tolist(), classifiers.final.bias.tolist())
    terms = [slow_terms(layers, final, x) for x in outputs.features["visual"].tolist()]
    earlier, last = [u for u, _ in terms], [v for _, v in terms]
    summed = [[a + b for a, b in zip(u, v, strict=True)] for u, v in terms]
    torch.testing.assert_close(outputs.logits, torch.tensor(summed), rtol=1e-4, atol=1e-5)
    if count == 1:
        expected = torch.nn.functional.cross_entropy(outputs.logits, batch.labels).item()
    else:
        expected = slow_loss(earlier, last, batch.labels.tolist(), 0.3)
    assert {name: loss.item() for name, loss in losses.items()} == {"visual": pytest.approx(expected, rel=1e-4)}


def test_a_layer_of_zeros_changes_no_logits(trainer: Callable[..., Trainer]) -> None:
    """The final bias counts once, not once per layer."""
    classifiers = method_of(trainer()).classifiers
    features = torch.randn(5, 16, generator=torch.Generator().manual_seed(0))
    before = classifiers("audio", features)
    hidden: Any = classifiers.layers["audio"]
    for parameter in hidden[1].parameters():
        parameter.data.zero_()
    classifiers.grow("audio")
    assert classifiers.counts == {"audio": 2, "visual": 1}
    torch.testing.assert_close(classifiers("audio", features), before)


def test_no_more_layers_join_than_there_are(trainer: Callable[..., Trainer]) -> None:
    classifiers = method_of(trainer(most=2)).classifiers
    for _ in range(3):
        classifiers.grow("audio")
    assert classifiers.counts["audio"] == 2


def test_a_layer_is_trained_from_when_it_joins(
    trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is as it was built until then, under weight decay."""
    made = trainer()
    monkeypatch.setattr(AUG, "_scores", lambda *_: {"audio": 0.9, "visual": 0.1})
    hidden: Any = method_of(made).classifiers.layers["visual"]
    changed = []
    for epoch in range(4):
        before = [bits(layer.state_dict()) for layer in hidden]
        made._epoch(epoch)
        changed.append([bits(layer.state_dict()) != held for layer, held in zip(hidden, before, strict=True)])
    assert changed == [[True, False, False], [True, True, False], [True, True, True], [True, True, True]]
    lines = log(made.directory.folder / "metrics.jsonl")
    assert [line["train"]["coefficient/visual"] for line in lines] == [1, 2, 3, 3]
    assert [line["train"]["coefficient/audio"] for line in lines] == [1, 1, 1, 1]


def test_the_scores_are_means_over_the_training_rows(trainer: Callable[..., Trainer]) -> None:
    made = trainer()
    method = method_of(made)
    found = method._scores(made.ctx)
    made.ctx.model.eval()
    batch = next(made.ctx.train.in_order(60))
    for m in TWO:
        z = method.classifiers(m, made.ctx.model.encoders[m](batch.inputs[m]))
        p = z.softmax(dim=1)[torch.arange(60), batch.labels]
        assert found[m] == pytest.approx(p.mean().item(), rel=1e-5)


@pytest.mark.parametrize(
    ("epochs", "every", "expected"),
    [(24, None, [2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22]), (6, 3, [3]), (4, None, [1, 2, 3])],
)
def test_layers_join_after_every_tenth_of_the_run_and_not_at_its_end(
    epochs: int, every: int | None, expected: list[int], trainer: Callable[..., Trainer], monkeypatch: Any
) -> None:
    made = trainer(epochs=epochs, every=every, most=50)
    monkeypatch.setattr(AUG, "_scores", lambda *_: {"audio": 0.9, "visual": 0.1})
    method = method_of(made)
    grown = []
    for epoch in range(epochs):
        before = method.classifiers.counts["visual"]
        made.ctx.epoch = epoch
        method.on_epoch_end(made.ctx)
        if method.classifiers.counts["visual"] > before:
            grown.append(epoch + 1)
    assert grown == expected


@pytest.mark.slow
def test_layers_that_joined_survive_a_checkpoint(
    trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AUG, "_scores", lambda *_: {"audio": 0.9, "visual": 0.1})
    whole = trainer()
    whole.train()
    made = trainer()
    for epoch in range(2):
        made._epoch(epoch)
    made.saver.flush()
    again = trainer()
    again.directory = made.directory
    again.resume()
    assert method_of(again).classifiers.counts == {"audio": 1, "visual": 3}
    again.train()
    assert bits(again.assembly.extras.state_dict()) == bits(whole.assembly.extras.state_dict())
    assert bits(again.ctx.model.state_dict()) == bits(whole.ctx.model.state_dict())


def test_a_model_that_is_evaluated_has_the_layers_that_joined(
    trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AUG, "_scores", lambda *_: {"audio": 0.9, "visual": 0.1})
    made = trainer()
    made.train()
    restored = restore(made.directory.last, torch.device("cpu"))
    method = restored.assembly.method
    assert isinstance(method, AUG)
    assert method.classifiers.counts == {"audio": 1, "visual": 3}
    batch = next(made.ctx.val.in_order(16))
    for assembly in (made.assembly, restored.assembly):
        assembly.model.eval()
    ours = method_of(made).predict(made.assembly.model, batch).logits
    assert torch.equal(method.predict(restored.assembly.model, batch).logits, ours)


def test_a_checkpoint_with_more_layers_than_there_are_is_refused(trainer: Callable[..., Trainer]) -> None:
    made = trainer()
    made._epoch(0)
    made.saver.flush()
    state = checkpoint.load(made.directory.last)
    state["extras"]["classifiers.count_audio"].fill_(7)
    checkpoint.Saver(made.directory.guard).save(made.directory.last, state)
    again = trainer()
    again.directory = made.directory
    with pytest.raises(CheckpointError, match="7 hidden layers of audio have joined, of 1 to 3; use another"):
        again.resume()


def test_what_predicts(trainer: Callable[..., Trainer]) -> None:
    made = trainer(weights={"audio": 0.4, "visual": 0.6})
    method, batch = method_of(made), next(made.ctx.train.in_order(8))
    outputs = method.predict(made.assembly.model, batch)
    z = {m: method.classifiers(m, x) for m, x in outputs.features.items()}
    torch.testing.assert_close(outputs.logits, 0.4 * z["audio"] + 0.6 * z["visual"])
    with pytest.raises(RecipeError, match=r"methods\.aug\.weights.*knows audio, visual; not text"):
        trainer(weights={"text": 1.0})


def test_a_run_in_which_no_layer_can_join_is_warned_of(trainer: Callable[..., Trainer]) -> None:
    made = trainer(every=4)
    assert list(method_of(made).warnings(made.ctx)) == ["no layer can join (every: 4, most: 3, 4 epochs)"]
    assert list(method_of(trainer()).warnings(made.ctx)) == []
