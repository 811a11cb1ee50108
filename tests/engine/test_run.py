"""One run and its directory: finished, repeated, another's, locked, killed while it was cleared."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from support.records import Heard
from support.training import CPU, Scripted, StopAfter, StoppedError, bits, log, planned

from drcli import checkpoint
from drcli.data.prepared import PreparedDataset
from drcli.engine import run as run_module
from drcli.engine import trainer
from drcli.engine.assemble import restore
from drcli.engine.evaluate import evaluate_split
from drcli.engine.run import execute
from drcli.errors import CheckpointError, DataError, RecipeError, RunError, UsageError
from drcli.files import locked
from drcli.metrics import Scores
from drcli.recipe.schema import Recipe
from drcli.runs import directory
from drcli.runs.directory import RunDirectory
from drcli.runs.measures import Measures
from drcli.runs.records import Summary
from drcli.watch.events import Listener

SHORT = {"epochs": 2, "batch_size": 16, "optimizer": {"name": "sgd", "lr": 0.05}}

Run = Callable[..., Summary]


@pytest.fixture
def run(toy_recipe: Callable[..., Recipe], toy_dataset: PreparedDataset, tmp_path: Path) -> Run:
    """Executes joint training in `tmp_path/run`; keyword arguments replace blocks of its recipe."""

    def go(
        *, listener: Listener | None = None, fresh: bool = False, data: PreparedDataset = toy_dataset, **blocks: Any
    ) -> Summary:
        recipe = toy_recipe(**{"method": "joint", "training": SHORT, **blocks})
        made = planned(recipe, tmp_path / "run")
        return execute(made, data, device=CPU, listener=listener or Listener(), fresh=fresh)

    return go


def test_a_run_leaves_all_its_files(run: Run, tmp_path: Path) -> None:
    summary = run()
    folder = tmp_path / "run"
    names = {path.name for path in folder.iterdir()}
    assert names == {
        ".lock",
        "recipe.yaml",
        "environment.json",
        "checkpoint.pt",
        "last.pt",
        "metrics.jsonl",
        "events.jsonl",
        "summary.json",
        "test_outputs.npz",
        "test_predictions.csv",
    }
    assert set(json.loads((folder / "summary.json").read_text())) == {
        "format",
        "method",
        "seed",
        "selection",
        "monitor",
        "selected_epoch",
        "epochs",
        "seconds",
        "events",
        "val",
        "test",
        "unimodal",
        "fused_probe",
        "measures",
        "cost",
    }
    assert RunDirectory(folder).summary() == summary
    assert (summary.test.n, summary.val and summary.val.n) == (30, 24)
    assert set(summary.unimodal) == {"audio", "visual"}
    assert isinstance(summary.measures, Measures)
    assert sum(found.n for found in summary.measures.classes.values()) == summary.test.n
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["packages"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert (environment["device"], environment["threads"]) == ("cpu", torch.get_num_threads())


def test_the_summary_counts_re_learnings_and_not_the_measurements_beside_them(run: Run, tmp_path: Path) -> None:
    summary = run(method="diagnose_relearn", training={**SHORT, "epochs": 5}, diagnosis={"monitor_every": 1})
    kinds = [event["kind"] for event in log(tmp_path / "run" / "events.jsonl")]
    assert (kinds.count("monitor"), kinds.count("relearn"), summary.events) == (5, 2, 2)


def test_the_speed_of_an_epoch_is_that_of_its_training_alone(run: Run, tmp_path: Path) -> None:
    heard = Heard()
    summary = run(listener=heard)
    epochs = RunDirectory(tmp_path / "run").epochs()
    assert all(0 < heard.started[0].rows / record.samples_per_second < record.seconds for record in epochs)
    assert sum(record.seconds for record in epochs) < summary.seconds


def test_a_finished_run_is_not_trained_again(run: Run, tmp_path: Path) -> None:
    first, heard = run(), Heard()
    before = (tmp_path / "run" / "last.pt").stat().st_mtime_ns
    assert run(listener=heard) == first
    assert (tmp_path / "run" / "last.pt").stat().st_mtime_ns == before
    assert (heard.started, [event.stored for event in heard.finished]) == ([], [True])


def test_fresh_starts_over(run: Run, tmp_path: Path) -> None:
    run()
    (tmp_path / "run" / "tensorboard").mkdir()
    heard = Heard()
    run(listener=heard, fresh=True, seeds=[3])
    assert [event.first_epoch for event in heard.started] == [0]
    assert [event.stored for event in heard.finished] == [False]
    assert heard.started[0].data.endswith("in memory maps")
    assert len(log(tmp_path / "run" / "metrics.jsonl")) == 2
    assert not (tmp_path / "run" / "tensorboard").exists()


def test_an_unfinished_run_goes_on(run: Run, tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        run(listener=StopAfter(1))
    heard = Heard()
    run(listener=heard)
    assert [event.first_epoch for event in heard.started] == [1]
    assert [line["epoch"] for line in log(tmp_path / "run" / "metrics.jsonl")] == [0, 1]


def test_a_run_of_another_recipe_is_refused_with_the_difference(run: Run, tmp_path: Path) -> None:
    run()
    before = (tmp_path / "run" / "summary.json").read_bytes()
    changed = {**SHORT, "optimizer": {"name": "sgd", "lr": 0.01}}
    with pytest.raises(RecipeError, match=r"(?s)run: holds a run of another recipe; .*--fresh.*0\.05.*0\.01"):
        run(training=changed)
    assert (tmp_path / "run" / "summary.json").read_bytes() == before


def test_a_finished_run_that_lost_a_file_is_not_removed(run: Run, tmp_path: Path) -> None:
    run()
    (tmp_path / "run" / "environment.json").unlink()
    with pytest.raises(DataError, match=r"environment\.json: cannot be read .*--fresh"):
        run()
    assert (tmp_path / "run" / "summary.json").exists()


def test_a_run_from_before_a_setting_was_there_is_the_run_with_its_default(run: Run, tmp_path: Path) -> None:
    """Its recipe.yaml and its checkpoints lack the setting."""
    with pytest.raises(StoppedError):
        run(listener=StopAfter(1))
    folder = tmp_path / "run"
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
    state = checkpoint.load(folder / "last.pt")
    for found in (recipe, state["recipe"]):
        del found["modalities"]["audio"]["augment"], found["training"]["channels_last"]
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    checkpoint.save(folder / "last.pt", {key: value for key, value in state.items() if key != "checkpoint_version"})
    run()
    assert [line["epoch"] for line in log(folder / "metrics.jsonl")] == [0, 1]
    with pytest.raises(RecipeError, match=r"training\.channels_last: true in the folder, false requested"):
        run(training={**SHORT, "channels_last": False})


def test_a_run_that_finished_no_epoch_leaves_its_folder_to_another_recipe(run: Run, tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        run(listener=StopAfter(0))
    changed = {**SHORT, "optimizer": {"name": "sgd", "lr": 0.01}}
    heard = Heard()
    run(training=changed, listener=heard)
    assert [event.first_epoch for event in heard.started] == [0]
    assert "lr: 0.01" in (tmp_path / "run" / "recipe.yaml").read_text()
    assert (tmp_path / "run" / "summary.json").exists()


def test_a_refused_model_does_not_block_the_mended_recipe(run: Run, tmp_path: Path) -> None:
    modalities = {m: {"backbone": "resnet_small"} for m in ("audio", "smell")}
    with pytest.raises(RecipeError, match=r"modalities\.smell: dataset toy has no such modality; it has .*; name one"):
        run(modalities=modalities)
    run()
    assert (tmp_path / "run" / "summary.json").exists()


def test_a_method_whose_file_has_changed_is_said(run: Run, tmp_path: Path) -> None:
    run()
    heard = Heard()
    run(listener=heard)
    assert heard.notes == []
    path = tmp_path / "run" / "environment.json"
    found = json.loads(path.read_text())
    assert len(found["method_source"]) == 16
    path.write_text(json.dumps({**found, "method_source": "0" * 16}))
    run(listener=heard)
    (said,) = heard.notes
    assert said.startswith(f"{tmp_path / 'run'}: the file of its method has changed")
    assert "--fresh" in said
    path.write_text(json.dumps({key: value for key, value in found.items() if key != "method_source"}))
    run(listener=heard)  # of an older drcli
    assert len(heard.notes) == 1


def test_moved_data_is_the_same_data_and_other_data_is_not(run: Run, toy_dataset: PreparedDataset) -> None:
    first = run()
    assert run(dataset={"name": "toy", "root": "somewhere/else"}) == first
    other = replace(toy_dataset, info=replace(toy_dataset.info, sha256={"train/audio.npy": "0" * 64}))
    with pytest.raises(DataError, match=r"started on other data than the recipe's now; .*--fresh"):
        run(data=other)


def test_a_folder_that_cannot_be_made_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    with pytest.raises(UsageError, match="choose another folder with --out"):
        run()


def test_two_runs_cannot_train_in_one_folder(run: Run, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with locked(tmp_path / "run"), pytest.raises(RunError, match="another process is training here"):
        run()
    assert {path.name for path in (tmp_path / "run").iterdir()} == {".lock"}
    run()  # and the lock is free again


def test_a_damaged_last_pt_is_refused_and_left(run: Run, tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        run(listener=StopAfter(1))
    last = tmp_path / "run" / "last.pt"
    data = bytearray(last.read_bytes())
    data[len(data) // 2] ^= 1
    last.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"last\.pt: damaged"):
        run()
    assert last.read_bytes() == data


@pytest.mark.parametrize("removed", range(6))
def test_a_clearing_that_was_killed_is_not_taken_for_a_run_of_the_new_recipe(
    removed: int, run: Run, tmp_path: Path
) -> None:
    """`--fresh` with another seed, killed after so many files, then repeated without `--fresh`."""
    folder = tmp_path / "run"
    run()
    left, real = removed, Path.unlink

    def unlink(self: Path, missing_ok: bool = False) -> None:
        nonlocal left
        if self.parent == folder and not self.name.startswith("."):
            if left == 0:
                raise StoppedError
            left -= 1
        real(self, missing_ok)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "unlink", unlink)
        with pytest.raises(StoppedError):
            run(fresh=True, seeds=[3])
    with pytest.raises(RecipeError, match="holds a run of another recipe"):
        run(seeds=[3])


@pytest.mark.parametrize("write", ["write_json", "write_atomic"])
def test_a_recipe_is_claimed_whole_or_not_at_all(write: str, run: Run, tmp_path: Path) -> None:
    """Killed before either of the two files that say what run this is."""

    def stop(*_: object, **__: object) -> None:
        raise StoppedError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(directory, write, stop)
        with pytest.raises(StoppedError):
            run()
    run(seeds=[3])  # nothing was trained, so any recipe may have the folder
    assert checkpoint.load(tmp_path / "run" / "last.pt")["recipe"]["seeds"] == [3]


def test_what_a_killed_write_left_is_swept_up(run: Run, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    orphan = tmp_path / "run" / ".last.pt.12345.tmp"
    orphan.write_bytes(b"half a file")
    run()
    assert not orphan.exists()


def test_a_half_written_line_is_dropped(run: Run, tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        run(listener=StopAfter(1))
    with (tmp_path / "run" / "metrics.jsonl").open("a") as stream:
        stream.write('{"epoch": 1, "lr"')
    run()
    assert [line["epoch"] for line in log(tmp_path / "run" / "metrics.jsonl")] == [0, 1]


def test_the_test_scores_are_those_of_the_selected_epoch(
    run: Run, toy_dataset: PreparedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Epoch 0 of 2, because validation is made to say so."""
    accuracies = [0.9, 0.1]
    monkeypatch.setattr(trainer, "run_split", lambda *_: Scripted(Scores(accuracies.pop(0), 0.0, 1.0, 24)))
    summary = run()
    assert (summary.selected_epoch, summary.epochs) == (0, 2)
    assert bits(checkpoint.load(tmp_path / "run" / "last.pt")["model"]) != bits(
        checkpoint.load(tmp_path / "run" / "checkpoint.pt")["model"]
    )
    selected = restore(tmp_path / "run" / "checkpoint.pt", CPU, root=toy_dataset.root)
    assert selected.epoch == 0
    found = evaluate_split(selected.assembly, "test")
    assert summary.test.to_dict() == found.outputs.scores().to_dict()
    assert summary.val is not None
    assert summary.val.to_dict() == found.val.scores().to_dict()
    assert summary.unimodal == found.probes
    assert summary.fused_probe == found.fused_probe is not None


def test_a_finished_run_is_shown_where_nothing_can_be_written(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a disk that is mounted read-only."""
    first = run()

    def read_only(*_: object, **__: object) -> None:
        raise UsageError("not writable")

    for name in ("make_folder", "locked"):
        monkeypatch.setattr(run_module, name, read_only)
    assert run() == first
    with pytest.raises(UsageError, match="not writable"):
        run(fresh=True)


def test_out_of_memory_names_the_remedy(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_large(*_: object, **__: object) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(trainer, "run_split", too_large)
    with pytest.raises(RunError, match=r"out of memory on cpu; lower training\.batch_size, or set"):
        run()
