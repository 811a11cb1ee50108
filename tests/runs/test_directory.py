"""What a run directory keeps, and that it writes nothing that is not its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.records import epoch_record, event_record, failure_record, summary_record
from support.run_folders import write_run

from drcli.data.prepared import Split
from drcli.engine.evaluate import SplitOutputs
from drcli.errors import DataError, RunError
from drcli.files import locked
from drcli.recipe.schema import Recipe
from drcli.runs.directory import RunDirectory
from drcli.runs.outputs import StoredOutputs
from drcli.runs.record import RecordError
from drcli.runs.records import Environment


def test_features_beyond_float16_are_kept_as_float32(tmp_path: Path) -> None:
    labels = torch.tensor([0, 1])
    split = Split("test", {}, labels, labels, torch.ones(2, dtype=torch.float64))
    features = {"small": torch.tensor([[0.5], [-65504.0]]), "large": torch.tensor([[0.5], [65536.0]])}
    directory = RunDirectory(tmp_path)
    directory.write_outputs(SplitOutputs(split, torch.zeros(2, 2), features).stored(["a", "b"]))
    with np.load(tmp_path / "test_outputs.npz") as kept:
        assert kept["features_small"].dtype == np.float16
        assert kept["features_large"].dtype == np.float32
        assert kept["features_small"].tolist() == [[0.5], [-65504.0]]
        assert kept["features_large"].tolist() == [[0.5], [65536.0]]


def test_scores_without_the_recipe_they_belong_to_are_refused(
    tmp_path: Path, toy_recipe: Callable[..., Recipe]
) -> None:
    folder = write_run(tmp_path, 0.5)
    (folder / "recipe.yaml").unlink()
    with pytest.raises(DataError, match=r"recipe\.yaml: missing beside a trained run, .*--fresh"):
        RunDirectory(folder).check(toy_recipe(), "fingerprint")


@pytest.mark.parametrize("name", ["summary.json", "test_outputs.npz", "failure.json"])
def test_results_are_not_written_through_links(name: str, tmp_path: Path) -> None:
    folder, outside = tmp_path / "run", tmp_path / "outside"
    folder.mkdir()
    outside.write_text("mine")
    (folder / name).symlink_to(outside)
    files = RunDirectory(folder)
    files.write_failure(failure_record("went wrong"))
    files.write_summary(summary_record())
    files.write_outputs(StoredOutputs(np.zeros(1, int), np.ones(1), np.zeros((1, 2)), np.array(["a", "b"]), {}))
    assert outside.read_text() == "mine"


@pytest.mark.parametrize("name", ["metrics.jsonl", "events.jsonl"])
def test_a_log_that_is_a_link_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("mine")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / name).symlink_to(tmp_path / "outside")
    with pytest.raises(RunError, match=f"{name}: cannot be written .it is a link"):
        log_all(RunDirectory(folder))
    assert (tmp_path / "outside").read_text() == "mine"


def log_all(files: RunDirectory) -> None:
    files.log_epoch(epoch_record())
    files.log_event(event_record())


def test_a_run_writes_nothing_once_its_folder_is_begun_again(tmp_path: Path) -> None:
    """Stopped, its folder deleted and begun by another process, then continued: its lock is no longer the folder's."""
    folder = tmp_path / "run"
    folder.mkdir()
    with locked(folder) as lock:
        files = RunDirectory(folder)
        files.lock = lock
        files.log_epoch(epoch_record(0))
        shutil.rmtree(folder)
        folder.mkdir()
        with locked(folder):
            writes: tuple[Callable[[], None], ...] = (
                lambda: files.log_epoch(epoch_record(1)),
                lambda: files.log_event(event_record()),
                lambda: files.write_summary(summary_record()),
                lambda: files.write_failure(failure_record("no")),
                lambda: files.truncate(0),
                files.clear,
            )
            for write in writes:
                with pytest.raises(RunError, match="deleted, or begun again by another process"):
                    write()
            assert [path.name for path in folder.iterdir()] == [".lock"]


def test_a_second_claim_changes_nothing(tmp_path: Path, toy_recipe: Callable[..., Recipe]) -> None:
    files, noted = RunDirectory(tmp_path), Environment(dataset_fingerprint="f", labels=["joint"])
    files.claim(toy_recipe(), noted)
    assert files.environment() == noted.model_copy(update={"format": 2})
    files.last.write_bytes(b"an epoch")
    files.claim(toy_recipe(), noted.model_copy(update={"labels": ["other"]}))
    assert files.environment().labels == ["joint"]
    with pytest.raises(DataError, match="started on other data"):
        files.claim(toy_recipe(), Environment(dataset_fingerprint="g"))


def test_events_are_counted_by_kind(tmp_path: Path) -> None:
    files = RunDirectory(tmp_path)
    for epoch, kind in enumerate(["monitor", "relearn", "monitor", "monitor", "relearn"]):
        files.log_event(event_record(epoch, kind))
    assert (files.count_events("relearn"), files.count_events("monitor")) == (2, 3)
    files.truncate(3)
    assert (files.count_events("relearn"), files.count_events("monitor")) == (1, 2)


def stored(**changes: Any) -> dict[str, Any]:
    """The arrays of three rows of two samples, the first drawn twice."""
    arrays = {
        "labels": np.array([0, 0, 1]),
        "weight": np.array([0.5, 0.5, 1.0]),
        "logits": np.array([[0.0, 0.0], [0.0, np.log(3)], [-1000.0, 1000.0]]),
        "classes": np.array(["cat", "dog, wet"]),
        "ids": np.array(["a", "a", 'b "2"']),
    }
    return {name: array for name, array in {**arrays, **changes}.items() if array is not None}


def test_predictions_are_a_table_of_ids_classes_and_probabilities() -> None:
    """softmax(0, 0) is 1/2, softmax(0, log 3) is 1/4 and 3/4; what CSV gives a meaning is quoted."""
    assert StoredOutputs.of(stored()).predictions_csv().splitlines() == [
        "id,label,predicted,confidence",
        "a,cat,cat,0.500000",
        'a,cat,"dog, wet",0.750000',
        '"b ""2""","dog, wet","dog, wet",1.000000',
    ]


def test_outputs_of_before_ids_were_kept_can_be_read() -> None:
    found = StoredOutputs.of(stored(ids=None))
    assert found.ids is None
    assert "ids" not in found.arrays()
    assert found.predictions_csv().splitlines()[1] == ",cat,cat,0.500000"


@pytest.mark.parametrize(
    ("ids", "said"),
    [(np.array(["a", "b"]), r"ids has the shape \(2,\), not \(3,\)"), (np.arange(3), "ids that are no text")],
)
def test_ids_that_do_not_fit_are_refused(ids: Any, said: str) -> None:
    with pytest.raises(RecordError, match=said):
        StoredOutputs.of(stored(ids=ids))
