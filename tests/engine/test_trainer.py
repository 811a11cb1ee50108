"""The loop: what is selected, what stops it, what it writes, and what an evaluation leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from support.training import CPU, Scripted, bits, log, make_trainer, planned, trained, weights

from drcli import checkpoint
from drcli.data.prepared import PreparedDataset
from drcli.engine import trainer as trainer_module
from drcli.engine.evaluate import evaluate_split, run_split
from drcli.engine.run import execute
from drcli.engine.scalars import ScalarLog
from drcli.engine.trainer import Trainer
from drcli.errors import CheckpointError, RunError
from drcli.metrics import Scores, score
from drcli.recipe.schema import Recipe
from drcli.watch.events import Event, Listener, RowsDone

SGD = {"name": "sgd", "lr": 0.05}


def scripted(accuracies: Mapping[str, list[float]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the evaluations after each epoch find these accuracies."""
    left = {split: list(values) for split, values in accuracies.items()}

    monkeypatch.setattr(trainer_module, "run_split", lambda _, split: Scripted(Scores(left[split].pop(0), 0.0, 1.0, 1)))


@pytest.mark.parametrize(
    ("selection", "selected", "flags"),
    [
        ("val", 1, [True, True, False, False]),  # the first of equal epochs stays
        ("last", 3, [True, True, True, True]),
        ("test", 2, [True, False, True, False]),
    ],
)
def test_selection(
    selection: str,
    selected: int,
    flags: list[bool],
    toy_recipe: Callable[..., Recipe],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scripted({"val": [0.1, 0.4, 0.4, 0.3], "test": [0.5, 0.2, 0.6, 0.6]}, monkeypatch)
    trainer = trained(toy_recipe(method="joint", selection=selection), tmp_path)
    assert checkpoint.load(tmp_path / "checkpoint.pt")["epoch"] == selected
    assert checkpoint.load(tmp_path / "last.pt")["epoch"] == 3
    assert trainer.selected.epoch == selected
    lines = log(tmp_path / "metrics.jsonl")
    assert [line["selected"] for line in lines] == flags
    assert all(("test" in line) == (selection == "test") for line in lines)


def test_an_accuracy_of_zero_is_selected_before_none(
    toy_recipe: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted({"val": [0.0] * 4}, monkeypatch)
    trained(toy_recipe(method="joint"), tmp_path)
    assert checkpoint.load(tmp_path / "checkpoint.pt")["epoch"] == 0


def test_test_curves_do_not_feed_the_selection(
    toy_recipe: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted({"val": [0.4, 0.1, 0.2, 0.3], "test": [0.1, 0.9, 0.2, 0.3]}, monkeypatch)
    trained(toy_recipe(method="joint", monitor="test"), tmp_path)
    lines = log(tmp_path / "metrics.jsonl")
    assert [line["test"]["accuracy"] for line in lines] == [0.1, 0.9, 0.2, 0.3]
    assert checkpoint.load(tmp_path / "checkpoint.pt")["epoch"] == 0


def test_an_epochs_line_says_all_about_it(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    schedule = {"name": "step", "every": 1, "factor": 0.5}
    training = {"epochs": 2, "batch_size": 16, "optimizer": SGD, "schedule": schedule}
    trained(toy_recipe(method="joint", training=training), tmp_path)
    lines = log(tmp_path / "metrics.jsonl")
    assert [line["lr"] for line in lines] == [0.05, 0.025]
    for line in lines:
        assert set(line) == {"epoch", "lr", "train", "val", "selected"}
        assert set(line["train"]) == {"loss", "loss_joint", "accuracy"}
        assert line["train"]["loss"] == line["train"]["loss_joint"]
        assert line["val"]["n"] == 24


class NanAt(Listener):
    """Spoils a weight after so many training steps."""

    def __init__(self, step: int) -> None:
        self.left = step
        self.trainer: Trainer | None = None

    def on(self, event: Event) -> None:
        self.left -= isinstance(event, RowsDone)
        if self.left == 0 and isinstance(event, RowsDone):
            assert self.trainer is not None
            linear: Any = self.trainer.assembly.model.fusion.linear
            with torch.no_grad():
                linear.bias[0] = float("nan")


def test_a_loss_that_is_not_finite_stops_the_run_and_leaves_the_last_good_checkpoint(
    toy_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    """60 rows in batches of 16 are 4 steps: spoiled after the sixth, seen in the third of epoch 1."""
    listener = NanAt(6)
    trainer = listener.trainer = make_trainer(toy_recipe(method="joint"), tmp_path, listener=listener)
    with pytest.raises(RunError, match=r"epoch 1, step 2: loss_joint is nan; .* training\.optimizer\.lr"):
        trainer.train()
    assert checkpoint.load(tmp_path / "checkpoint.pt")["epoch"] == 0
    last = checkpoint.load(tmp_path / "last.pt")
    assert last["epoch"] == 0
    assert all(torch.isfinite(tensor).all() for tensor in last["model"].values())
    assert [line["epoch"] for line in log(tmp_path / "metrics.jsonl")] == [0]


def test_weights_spoiled_by_the_last_step_are_found_by_validation(
    toy_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    listener = NanAt(4)
    trainer = listener.trainer = make_trainer(toy_recipe(method="joint"), tmp_path, listener=listener)
    with pytest.raises(RunError, match="epoch 0: the validation loss is nan"):
        trainer.train()
    assert not (tmp_path / "checkpoint.pt").exists()


@pytest.mark.parametrize(
    ("spoiled", "kept"), [(2, "no epoch was finished, so there is no checkpoint"), (6, r"checkpoint\.pt holds epoch 0")]
)
def test_the_message_says_where_and_what_is_left(
    spoiled: int, kept: str, toy_recipe: Callable[..., Recipe], toy_dataset: PreparedDataset, tmp_path: Path
) -> None:
    listener = NanAt(spoiled)
    run = planned(toy_recipe(method="joint"), tmp_path / "run")
    with pytest.MonkeyPatch.context() as patch:
        real = Trainer.resume

        def resume(self: Trainer) -> None:
            listener.trainer = self
            real(self)

        patch.setattr(Trainer, "resume", resume)
        with pytest.raises(RunError, match=rf"(?s)^{tmp_path}/run: epoch \d, step \d: loss_joint is .*{kept}"):
            execute(run, toy_dataset, device=CPU, listener=listener)
    assert not (tmp_path / "run" / "summary.json").exists()


def test_losses_are_looked_at_every_64_steps() -> None:
    scalars = ScalarLog(7)
    for _ in range(62):
        scalars.add({"loss_a": torch.tensor(1.0)}, 2)
    scalars.add({"loss_a": torch.tensor(float("inf"))}, 2)
    with pytest.raises(RunError, match="epoch 7, step 62: loss_a is inf"):
        scalars.add({"loss_a": torch.tensor(1.0)}, 2)


@pytest.mark.parametrize("steps", [63, 64, 65, 128])
def test_means_are_there_wherever_the_last_look_was(steps: int) -> None:
    scalars = ScalarLog(0)
    for step in range(steps):
        scalars.add({"loss_a": torch.tensor(float(step))}, 2)
    assert scalars.means() == {"loss": (steps - 1) / 2, "loss_a": (steps - 1) / 2}


def test_means_weigh_each_step_by_its_rows() -> None:
    scalars = ScalarLog(0)
    scalars.add({"loss_a": torch.tensor(1.0), "loss_b": torch.tensor(4.0), "accuracy": torch.tensor(0.0)}, 3)
    scalars.add({"loss_a": torch.tensor(5.0), "loss_b": torch.tensor(8.0), "accuracy": torch.tensor(1.0)}, 1)
    assert scalars.means() == {"loss": 7.0, "loss_a": 2.0, "loss_b": 5.0, "accuracy": 0.25}


def test_clip_grad_norm_bounds_the_step(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    """Plain SGD at rate 1 moves by the gradient, whose norm over all parameters is clipped."""
    optimizer = {"name": "sgd", "lr": 1.0, "momentum": 0.0, "weight_decay": 0.0}
    moved = {}
    for bound in (None, 0.01):
        training = {"epochs": 1, "batch_size": 16, "optimizer": optimizer, "clip_grad_norm": bound}
        trainer = make_trainer(toy_recipe(method="joint", training=training), tmp_path / str(bound))
        before = [p.detach().clone() for p in trainer.ctx.trainable]
        trainer.assembly.method.training_step(trainer.ctx, next(trainer.ctx.train.in_order(16)))
        steps = [(old - new).detach().flatten() for old, new in zip(before, trainer.ctx.trainable, strict=True)]
        moved[bound] = torch.cat(steps)
    assert float(moved[0.01].norm()) == pytest.approx(0.01, rel=1e-3)
    direction = torch.nn.functional.cosine_similarity(moved[None], moved[0.01], dim=0)
    assert float(direction) == pytest.approx(1.0, abs=1e-4)
    assert float(moved[None].norm()) > 0.1


@pytest.mark.parametrize("look", ["run", "features", "probe", "monitor"])
def test_looking_leaves_modes_weights_and_generators_alone(
    look: str, toy_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    trainer = make_trainer(toy_recipe(diagnosis={"monitor_every": 1, "restarts": 2}), tmp_path)
    trainer._epoch(0)
    assembly = trainer.assembly
    assembly.model.train()
    before, state = bits(weights(trainer)), torch.get_rng_state()
    {
        "run": lambda: run_split(assembly, "val"),
        "features": lambda: trainer.ctx.features("train"),
        "probe": lambda: evaluate_split(assembly, "test"),
        "monitor": trainer._monitor,
    }[look]()
    assert all(layer.training for layer in assembly.model.modules())
    assert torch.equal(torch.get_rng_state(), state)
    assert bits(weights(trainer)) == before


def test_scores_of_a_split_do_not_depend_on_the_batch_size(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    found = []
    for size in (5, 1000):
        training = {"epochs": 1, "batch_size": 16, "eval_batch_size": size, "optimizer": SGD}
        trainer = make_trainer(toy_recipe(training=training), tmp_path / str(size))
        assert trainer.assembly.eval_batch_size == size
        found.append(run_split(trainer.assembly, "test").scores())
    assert found[0].to_dict() == found[1].to_dict()
    assert found[0].n == 30
    assert found[0].loss == pytest.approx(found[1].loss, rel=1e-5)


def test_draws_of_a_sample_are_predicted_alone(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    trainer = make_trainer(toy_recipe(), tmp_path)
    test = trainer.assembly.batches("test")
    assert len(test) == 2 * 30
    logits = run_split(trainer.assembly, "test").logits
    right = (logits.argmax(dim=1) == test.split.labels).double()
    by_hand = right.reshape(30, 2).mean(dim=1)  # the two draws of a sample follow each other
    found = score(logits, test.split.labels, test.split.weight)
    assert found.accuracy == pytest.approx(float(by_hand.mean()))
    assert found.n == 30


def test_monitoring_happens_every_so_many_epochs(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    recipe = toy_recipe(method="joint", diagnosis={"monitor_every": 2, "restarts": 2, "lambda": 1.5})
    trained(recipe, tmp_path)
    events = log(tmp_path / "events.jsonl")
    assert [(event["epoch"], event["kind"], event["lambda"]) for event in events] == [
        (0, "monitor", 1.5),
        (2, "monitor", 1.5),
    ]


def test_a_last_pt_of_another_method_is_refused(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    trained(toy_recipe(method="joint"), tmp_path)
    with pytest.raises(CheckpointError, match=r"last\.pt: of another run; .*--fresh"):
        make_trainer(toy_recipe(), tmp_path).resume()


@pytest.mark.parametrize("data", ["resident", "stream"])
def test_where_the_data_is_changes_no_loss_and_no_weight(
    data: str, toy_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    training = {"epochs": 3, "batch_size": 16, "optimizer": SGD}
    mapped = trained(toy_recipe(training=training), tmp_path / "mapped")
    other = trained(toy_recipe(training={**training, "data": data}), tmp_path / data)
    assert bits(weights(other)) == bits(weights(mapped))
    losses = [
        [(line["train"], line["val"]) for line in log(t.directory.folder / "metrics.jsonl")] for t in (mapped, other)
    ]
    assert losses[0] == losses[1]
    assert other.directory.events() == mapped.directory.events()  # with a re-learning in between
