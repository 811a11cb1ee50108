"""TensorBoard event files: every number of a run, each epoch once, also after a resume."""

from __future__ import annotations

import errno
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.command_line import invoke
from support.records import epoch_record, event_record, summary_record

from drcli.errors import RunError
from drcli.recipe.schema import Recipe
from drcli.runs.planned import PlannedRun, plan
from drcli.runs.records import EpochRecord
from drcli.watch.events import Diagnosed, EpochFinished, RunFinished, RunStarted
from drcli.watch.loggers import flatten
from drcli.watch.tensorboard import EventFile, TensorBoardListener


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """(step, value) of every tag, as TensorBoard itself reads them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TensorBoard's own imports
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    found = EventAccumulator(str(folder))
    found.Reload()
    return {tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


@pytest.fixture
def run(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> PlannedRun:
    """Joint training with seed 0."""
    (planned,) = plan(toy_recipe(), ["joint"], [0], tmp_path)
    return planned


def record(epoch: int, loss: float) -> EpochRecord:
    return epoch_record(epoch, loss=loss, accuracy=0.25, selected=True)


def test_every_number_of_an_epoch_and_of_an_event_is_there(run: PlannedRun) -> None:
    listener = TensorBoardListener()
    listener.on(RunStarted(run, 0, 10))
    listener.on(EpochFinished(run, record(0, 2.0)))
    listener.on(EpochFinished(run, record(1, 1.0)))
    listener.on(Diagnosed(run, event_record(1, "relearn")))
    listener.on(RunFinished(run, summary_record(), False))
    found = scalars(run.folder / "tensorboard")
    assert found["train/loss"] == [(0, 2.0), (1, 1.0)]
    assert found["val/accuracy"] == [(0, 0.25), (1, 0.25)]
    assert found["lr"] == [(0, 0.5), (1, 0.5)]
    assert found["relearn/audio/gap"] == [pytest.approx((1, 0.2))]
    assert "selected" not in found


def test_a_resumed_run_replaces_the_epochs_it_does_again(run: PlannedRun) -> None:
    first = TensorBoardListener()
    first.on(RunStarted(run, 0, 10))
    for epoch in range(3):
        first.on(EpochFinished(run, record(epoch, 9.0)))
    first.close()
    second = TensorBoardListener()
    second.on(RunStarted(run, 1, 10))
    for epoch in range(1, 4):
        second.on(EpochFinished(run, record(epoch, float(epoch))))
    second.close()
    losses = scalars(run.folder / "tensorboard")["train/loss"]
    assert losses == [(0, 9.0), (1, 1.0), (2, 2.0), (3, 3.0)]


def test_a_trained_run_has_curves_and_purities(
    toy: None, toy_dict: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    path = tmp_path / "toy.yaml"
    path.write_text(yaml.safe_dump(toy_dict()))
    invoke("train", path, "training.epochs=3", "--out", tmp_path)
    found = scalars(tmp_path / "toy" / "diagnose_relearn" / "seed0" / "tensorboard")
    assert [step for step, _ in found["train/loss"]] == [0, 1, 2]
    assert [step for step, _ in found["val/accuracy"]] == [0, 1, 2]
    assert [step for step, _ in found["relearn/visual/strength"]] == [1]
    assert {"relearn/audio/purity_train", "relearn/audio/gap", "samples_per_second"} <= set(found)


def test_a_full_disk_is_an_error_of_one_message(run: PlannedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    listener = TensorBoardListener()
    listener.on(RunStarted(run, 0, 10))
    listener.on(EpochFinished(run, record(0, 1.0)))

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(EventFile, "_add", full)
    with pytest.raises(RunError, match=r"tensorboard: cannot be written \(no space left on the device"):
        listener.on(EpochFinished(run, record(1, 1.0)))
    with pytest.raises(RunError, match="free some and repeat the command"):
        listener.on(EpochFinished(run, record(1, 1.0)))
    listener.close()
    monkeypatch.undo()
    assert scalars(run.folder / "tensorboard")["train/loss"] == [(0, 1.0)]


def test_a_folder_that_cannot_be_made_is_an_error_of_one_message(run: PlannedRun) -> None:
    run.folder.mkdir(parents=True)
    (run.folder / "tensorboard").write_text("in the way")
    listener = TensorBoardListener()
    listener.on(RunStarted(run, 0, 10))
    with pytest.raises(RunError, match="tensorboard: cannot be written"):
        listener.on(EpochFinished(run, record(0, 1.0)))


def test_what_was_written_is_readable_at_once(run: PlannedRun) -> None:
    listener = TensorBoardListener()
    listener.on(RunStarted(run, 0, 10))
    listener.on(EpochFinished(run, record(0, 1.0)))
    assert scalars(run.folder / "tensorboard")["train/loss"] == [(0, 1.0)]
    listener.close()


def test_nested_numbers_are_named_by_their_path() -> None:
    nested = {"a": 1, "b": {"c": 2.5, "d": {"e": 3}}, "text": "no", "truth": True}
    assert list(flatten(nested)) == [("a", 1.0), ("b/c", 2.5), ("b/d/e", 3.0)]
