"""Loggers by name: what each is given, that the real packages keep it, and that a resumed run goes on in its own."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import pytest
from support.records import epoch_record, event_record, failure_record, scores, summary_record

from drcli.commands.train import check_weights
from drcli.errors import LoggerError, RunError, UsageError
from drcli.recipe.schema import Recipe
from drcli.runs.planned import PlannedRun, plan
from drcli.watch import loggers
from drcli.watch.events import (
    Diagnosed,
    EpochFinished,
    Event,
    Listener,
    Note,
    RowsDone,
    RunFailed,
    RunFinished,
    RunStarted,
)
from drcli.watch.loggers import Loggers, check_loggers
from drcli.watch.tensorboard import TensorBoardListener

SUMMARY = summary_record(0.8412, probes={"audio": 0.7})
REACHED = {
    "final/test/accuracy": 0.8412,
    "final/test/macro_f1": 0.8412,
    "final/unimodal/audio/probe_accuracy": 0.7,
    "final/selected_epoch": 2.0,
}
Make = Callable[..., Recipe]


@pytest.fixture
def run(toy_recipe: Make, tmp_path: Path) -> PlannedRun:
    """Joint training with seed 0, in a folder whose name has a quotation mark."""
    (planned,) = plan(toy_recipe(), ["joint"], [0], tmp_path / "it's" / "runs")
    planned.folder.mkdir(parents=True)
    return planned


def whole(run: PlannedRun) -> list[Event]:
    """The events of a run of two epochs with a diagnosis."""
    return [
        RunStarted(run, 0, 60),
        RowsDone(60),
        EpochFinished(run, epoch_record(0, loss=2.0)),
        EpochFinished(run, epoch_record(1, loss=1.0)),
        Diagnosed(run, event_record(1, "relearn")),
        Note("a note"),
        RunFinished(run, SUMMARY),
    ]


def tell(listener: Listener, events: list[Event]) -> None:
    for event in events:
        listener.on(event)


class Kept(Listener):
    """Keeps the events."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def on(self, event: Event) -> None:
        self.events.append(event)


class Told(Listener):
    """Keeps what happens to loggers, by name."""

    heard: ClassVar[list[tuple[str, str]]] = []

    def __init__(self, name: str) -> None:
        self.name = name

    def on(self, event: Event) -> None:
        self.heard.append((self.name, type(event).__name__))

    def close(self) -> None:
        self.heard.append((self.name, "closed"))


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What loggers of any name are told."""
    monkeypatch.setattr("drcli.watch.loggers._made", Told)
    monkeypatch.setattr(Told, "heard", [])
    return Told.heard


def test_each_run_has_the_loggers_of_its_recipe(heard: list[tuple[str, str]], toy_recipe: Make, tmp_path: Path) -> None:
    (one,) = plan(toy_recipe(), ["joint"], [0], tmp_path)
    (none,) = plan(toy_recipe(log=[]), ["joint"], [0], tmp_path)
    (two,) = plan(toy_recipe(log=["wandb", "mlflow"]), ["joint"], [0], tmp_path)
    all_of_them = Loggers()
    tell(all_of_them, [RunFinished(one, SUMMARY, True), RunStarted(none, 0, 60), RunFinished(none, SUMMARY)])
    assert heard == []
    tell(all_of_them, [RunStarted(one, 0, 60), RunFinished(one, SUMMARY)])
    assert heard == [("tensorboard", name) for name in ("RunStarted", "RunFinished", "closed")]
    heard.clear()
    tell(all_of_them, [RunStarted(two, 0, 60), RunFailed(two, failure_record("went wrong"))])
    assert heard[:2] == [("wandb", "RunStarted"), ("mlflow", "RunStarted")]
    assert heard[-2:] == [("wandb", "closed"), ("mlflow", "closed")]


def test_a_run_that_ended_unheard_is_closed_before_the_next(heard: list[tuple[str, str]], run: PlannedRun) -> None:
    """A process is not told that its run has failed."""
    all_of_them = Loggers()
    tell(all_of_them, [RunStarted(run, 0, 60), RunStarted(run, 0, 60)])
    all_of_them.close()
    all_of_them.close()
    assert [name for _, name in heard] == ["RunStarted", "closed", "RunStarted", "closed"]


def test_a_logger_that_is_lost_is_named_once_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, toy_recipe: Make, tmp_path: Path
) -> None:
    class Lost(Told):
        def on(self, event: Event) -> None:
            if self.name == "mlflow":
                raise LoggerError("log: mlflow: no answer")
            super().on(event)

    monkeypatch.setattr("drcli.watch.loggers._made", Lost)
    monkeypatch.setattr(Told, "heard", [])
    notes = Kept()
    all_of_them = Loggers(notes)
    (one,) = plan(toy_recipe(log=["mlflow", "tensorboard"]), ["joint"], [0], tmp_path)
    for _ in range(2):
        tell(all_of_them, [RunStarted(one, 0, 60), RunFinished(one, SUMMARY)])
    assert notes.events == [Note("log: mlflow: no answer; this run and those after it go on without mlflow")]
    assert Told.heard == 2 * [("tensorboard", name) for name in ("RunStarted", "RunFinished", "closed")]


def test_a_logger_that_cannot_begin_still_ends_the_run(monkeypatch: pytest.MonkeyPatch, run: PlannedRun) -> None:
    class Refusing(Told):
        def on(self, event: Event) -> None:
            raise RunError("log: wandb: no login")

    monkeypatch.setattr("drcli.watch.loggers._made", Refusing)
    with pytest.raises(RunError, match="no login"):
        Loggers().on(RunStarted(run, 0, 60))


def test_numbers_that_are_no_curves_are_left_out() -> None:
    assert loggers.curves(epoch_record(3)) == {
        "lr": 0.5,
        "train/loss": 1.23456,
        "train/accuracy": 0.5,
        "val/accuracy": 0.625,
        "val/macro_f1": 0.625,
        "val/loss": 0.98765,
        "seconds": 2.0,
        "samples_per_second": 1234.5,
    }
    states = event_record().modalities["audio"].model_copy(update={"num_train": 60, "num_val": 24})
    found = loggers.curves(event_record(1, "relearn", modalities={"audio": states}))
    names = ("purity_train", "purity_val", "gap", "gap_permuted", "strength")
    assert found.keys() == {f"relearn/audio/{name}" for name in names}


def test_scores_and_settings_are_numbers_and_text(run: PlannedRun) -> None:
    found = loggers.scores(SUMMARY.model_copy(update={"val": scores(0.9, n=24)}))
    assert {key: found[key] for key in REACHED} == REACHED
    assert found["final/val/accuracy"] == 0.9
    assert "final/test/n" not in found
    given = loggers.settings(run)
    assert (given["seed"], given["training.optimizer.lr"], given["method"]) == (0, 0.05, "joint")
    assert given["training.deterministic"] is True
    assert {type(value) for value in given.values()} <= {str, int, float, bool}


def test_tensorboard_has_the_scores_and_the_settings_of_a_finished_run(run: PlannedRun) -> None:
    tell(TensorBoardListener(), whole(run))
    tags = written(run.folder / "tensorboard")
    assert {"train/loss", "relearn/audio/gap", *REACHED} <= tags.keys()
    assert tags["train/loss"] == [0, 1]
    assert tags["final/test/accuracy"] == [SUMMARY.selected_epoch]
    assert not {"epoch", "val/n", "test/n"} & tags.keys()
    assert {"_hparams_/experiment", "_hparams_/session_start_info", "_hparams_/session_end_info"} <= tags.keys()


def written(folder: Path) -> dict[str, list[int]]:
    """The steps of every tag of an event file: records of a length, its checksum, the content and its checksum."""
    from tensorboard.compat.proto import event_pb2

    (path,) = folder.iterdir()
    content, place, tags = path.read_bytes(), 0, dict[str, list[int]]()
    while place < len(content):
        size = int.from_bytes(content[place : place + 8], "little")
        event = event_pb2.Event.FromString(content[place + 12 : place + 12 + size])
        for value in event.summary.value:
            tags.setdefault(value.tag, []).append(event.step)
        place += 12 + size + 4
    return tags


def test_a_logger_that_is_not_installed_is_refused_before_data_is_read(
    toy_recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = plan(toy_recipe(log=["mlflow"]), ["joint"], [0], tmp_path)
    (tmp_path / "mlflow").mkdir()
    for name in [name for name in sys.modules if name.partition(".")[0] == "mlflow"]:
        monkeypatch.delitem(sys.modules, name)
    for path in ([], [str(tmp_path)]):  # a folder of that name is no package
        monkeypatch.setattr(sys, "path", path)
        with pytest.raises(UsageError, match=r"log: mlflow is not installed; run pip install 'drcli\[mlflow\]'"):
            check_loggers(runs)
    with pytest.raises(UsageError, match="log: mlflow is not installed"):
        check_weights(runs)


# With the real packages: seconds each.


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Weights & Biases, offline."""
    package = pytest.importorskip("wandb", reason="wandb is not installed: pip install 'drcli[wandb]'")
    monkeypatch.setenv("WANDB_MODE", "offline")
    yield package
    package.teardown()


def records(folder: Path) -> Iterator[Any]:
    """What an offline run has written: after 7 bytes a LevelDB log, blocks of 32 KiB of parts of records."""
    message = import_module("wandb.proto.wandb_internal_pb2").Record
    (path,) = folder.glob("*.wandb")
    content, place, parts = path.read_bytes(), 7, b""
    while place + 7 <= len(content):
        if (left := 32768 - place % 32768) < 7:
            place += left
            continue
        size, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        parts += content[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in {1, 4}:  # the whole of a record, or its last part
            yield message.FromString(parts)
            parts = b""


def values(items: Any) -> dict[str, Any]:
    """Items of a record by key."""
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_weights_and_biases_keeps_every_number_offline(wandb: Any, run: PlannedRun) -> None:
    from drcli.watch.wandb_log import WandbListener

    tell(WandbListener(), whole(run))
    wandb.teardown()  # which writes what the package still holds
    (folder,) = (run.folder / "wandb").glob("offline-run-*")
    kept = list(records(folder))
    rows = [values(one.history.item) for one in kept if one.HasField("history")]
    assert {row["_step"]: row["train/loss"] for row in rows if "train/loss" in row} == {0: 2.0, 1: 1.0}
    assert [row["relearn/audio/gap"] for row in rows if "relearn/audio/gap" in row] == [pytest.approx(0.2)]
    begun = next(one.run for one in kept if one.HasField("run"))
    assert (begun.project, begun.display_name, begun.run_group) == ("drcli", "toy: joint seed 0", "toy")
    assert values(begun.config.update)["training.optimizer.lr"] == 0.05
    summary = {key: value for one in kept for key, value in values(one.summary.update).items()}
    assert {key: summary[key] for key in REACHED} == REACHED
    assert [one.exit.exit_code for one in kept if one.HasField("exit")] == [0]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_resumed_run_keeps_its_id_at_weights_and_biases(wandb: Any, run: PlannedRun) -> None:
    from drcli.watch.wandb_log import WandbListener, id_of

    stopped, resumed = WandbListener(), WandbListener()
    tell(stopped, whole(run)[:3])
    stopped.close()
    wandb.teardown()  # as at the end of a process: the folder is made by another one
    tell(resumed, [RunStarted(run, 1, 60), *whole(run)[3:]])
    wandb.teardown()
    ids = {id_of(path) for path in (run.folder / "wandb").glob("offline-run-*")}
    assert len(ids) == 1


@pytest.mark.parametrize("name", ["offline-run-20261126_105645-ec2a6d776889", "run-20261126_105645-ec2a6d776889-1"])
def test_the_id_of_a_run_is_told_from_the_number_of_its_folder(name: str) -> None:
    from drcli.watch.wandb_log import id_of

    assert id_of(Path(name)) == "ec2a6d776889"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_what_weights_and_biases_refuses_ends_the_run_with_one_message(
    wandb: Any, run: PlannedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    from drcli.watch.wandb_log import WandbListener

    def refuse(**_: object) -> None:
        raise wandb.errors.CommError("no key\nand more")

    monkeypatch.setattr(wandb, "init", refuse)
    with pytest.raises(RunError, match=r"log: wandb: no key.*; run wandb login, set WANDB_MODE=offline"):
        WandbListener().on(RunStarted(run, 0, 60))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_mlflow_keeps_every_number_in_one_run_that_is_resumed(
    run: PlannedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow", reason="mlflow is not installed: pip install 'drcli[mlflow]'")
    from drcli.watch.mlflow_log import MlflowListener, _client

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    stopped, resumed = MlflowListener(), MlflowListener()
    tell(stopped, whole(run)[:3])
    stopped.close()
    assert (tmp_path / "mlruns").is_dir()
    client = _client()
    experiment = client.get_experiment_by_name("toy").experiment_id
    assert [found.info.status for found in client.search_runs([experiment])] == ["FAILED"]
    tell(resumed, [RunStarted(run, 1, 60), *whole(run)[3:]])
    (found,) = client.search_runs([experiment])
    assert (found.info.status, found.info.run_name) == ("FINISHED", "toy: joint seed 0")
    assert found.data.params["training.optimizer.lr"] == "0.05"
    assert {key: found.data.metrics[key] for key in REACHED} == REACHED
    history = client.get_metric_history(found.info.run_id, "train/loss")
    assert [(one.step, one.value) for one in history] == [(0, 2.0), (1, 1.0)]
    tell(MlflowListener(), whole(run))  # from epoch 0: another one
    assert len(client.search_runs([experiment])) == 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_trackio_keeps_every_number_in_one_run_that_is_resumed(
    run: PlannedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    pytest.importorskip("trackio", reason="trackio is not installed: pip install 'drcli[trackio]'")
    from drcli.watch.trackio_log import PROJECT, TrackioListener, name_of

    stopped, resumed = TrackioListener(), TrackioListener()
    tell(stopped, whole(run)[:3])
    stopped.close()
    tell(resumed, [RunStarted(run, 1, 60), *whole(run)[3:]])
    storage = import_module("trackio.sqlite_storage").SQLiteStorage
    logged = storage.get_logs(PROJECT, name_of(run))
    assert [(row["step"], row["train/loss"]) for row in logged if "train/loss" in row] == [(0, 2.0), (1, 1.0)]
    assert [row["relearn/audio/gap"] for row in logged if "relearn/audio/gap" in row] == [pytest.approx(0.2)]
    reached = next(row for row in logged if "final/test/accuracy" in row)
    assert {key: reached[key] for key in REACHED} == REACHED
    assert storage.get_runs(PROJECT) == [name_of(run)]
    assert name_of(run).startswith("toy: joint seed 0 (")
    assert capsys.readouterr().out == ""  # standard output has nothing but the result of a command


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_server_of_mlflow_that_cannot_be_reached_costs_one_warning(
    run: PlannedRun, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nothing listens on port 9; only the times between two tries are not waited for."""
    pytest.importorskip("mlflow", reason="mlflow is not installed: pip install 'drcli[mlflow]'")
    from drcli.watch.mlflow_log import BRIEF

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    for name in BRIEF:
        monkeypatch.delenv(name, raising=False)
    notes = Kept()
    all_of_them = Loggers(notes)
    changed = PlannedRun(replace(run.recipe, log=("mlflow",)), run.modalities, run.folder)
    tell(all_of_them, whole(changed))
    (note,) = notes.events
    assert isinstance(note, Note)
    assert note.text.startswith("log: mlflow: API request to http://127.0.0.1:9")
    assert note.text.endswith("; this run and those after it go on without mlflow")
    assert capfd.readouterr().err == ""
