"""Grids as Ray tasks: what a run is given, and that the result is the local engine's, whatever happens to workers."""

from __future__ import annotations

import json
import os
import pickle
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.command_line import ROOT
from support.ray_workers import DiesWithAudio, register_toy
from support.records import CLOCK, Heard, epoch_record
from support.training import CPU, log

from drcli.data.prepared import PreparedDataset
from drcli.engine import ray_cluster, ray_grid
from drcli.engine.grid import GridResult, run_grid
from drcli.engine.ray_grid import Logs, RayOptions, Share, connected, run_ray_grid, share
from drcli.engine.run import execute
from drcli.errors import CheckpointError, RecipeError, RunError, UsageError
from drcli.recipe.schema import Recipe
from drcli.runs.comparison import compare
from drcli.runs.directory import RunDirectory
from drcli.runs.planned import PlannedRun, plan
from drcli.watch.events import EpochFinished, Event, Listener
from drcli.watch.tensorboard import TensorBoardListener

CORE = Share(cpus=1, gpus=0.0)
GPU_NODE = {"CPU": 16.0, "GPU": 2.0}
CPU_NODE = {"CPU": 4.0}


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """Ray on this machine, with two workers of one core; its own processes compute for as long as it is there."""
    found = pytest.importorskip("ray", reason="Ray is not installed: pip install 'drcli[cluster]'")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    found.init(
        address="local",
        num_cpus=2,
        num_gpus=0,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        runtime_env={
            "env_vars": {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])},
            "worker_process_setup_hook": register_toy,
        },
    )
    yield found
    found.shutdown()


class KillsAWorker(Heard):
    """Kills, once, the worker that trains; its process id stands in the name of its event file."""

    def __init__(self) -> None:
        super().__init__()
        self.killed: list[int] = []

    def on(self, event: Event) -> None:
        super().on(event)
        if isinstance(event, EpochFinished) and not self.killed:
            files = RunDirectory(event.run.folder)
            if files.tensorboard.exists():
                assert files.summary() is None
                self.killed = pids(files.folder)
                os.kill(self.killed[0], signal.SIGKILL)


def pids(folder: Path) -> list[int]:
    """The processes that trained a run, in order."""
    return [int(path.suffix[1:]) for path in sorted(RunDirectory(folder).tensorboard.iterdir())]


def told(result: GridResult, out: Path) -> dict[str, Any]:
    """A result without what the clock says, its paths from `out` on."""
    runs = [
        {"folder": str(run.folder.relative_to(out)), **{k: v for k, v in run.done.to_dict().items() if k not in CLOCK}}
        for run in result.runs
    ]
    return {"runs": runs, "failed": result.failed}


@pytest.mark.parametrize(
    ("asked", "nodes", "given"),
    [
        (RayOptions(), [CPU_NODE], Share(1, 0.0)),
        (RayOptions(), [CPU_NODE, GPU_NODE], Share(1, 1.0)),
        (RayOptions(gpus_per_run=0.25, cpus_per_run=4), [GPU_NODE], Share(4, 0.25)),
        (RayOptions(gpus_per_run=0.0), [GPU_NODE], Share(1, 0.0)),
        (RayOptions(device="cpu"), [GPU_NODE], Share(1, 0.0)),
        (RayOptions(device="cuda"), [GPU_NODE], Share(1, 1.0)),
    ],
)
def test_what_a_run_is_given(asked: RayOptions, nodes: list[dict[str, float]], given: Share) -> None:
    assert share(asked, nodes) == given
    assert given.device.type == ("cuda" if given.gpus else "cpu")


@pytest.mark.parametrize(
    ("asked", "nodes", "message"),
    [
        (RayOptions(cpus_per_run=5), [CPU_NODE], r"asks for 5 CPU and 0 GPU, no node has both \(4 CPU, 0 GPU\)"),
        (RayOptions(cpus_per_run=17), [CPU_NODE, GPU_NODE], r"17 CPU and 1 GPU, .*\(16 CPU, 2 GPU; 4 CPU, 0 GPU\)"),
        (RayOptions(device="cuda"), [CPU_NODE], "1 CPU and 1 GPU, no node has both"),
        (RayOptions(gpus_per_run=0.5), [{"CPU": 4.0}, {"GPU": 1.0}], "1 CPU and 0.5 GPU, no node has both"),
        (RayOptions(device="cpu", gpus_per_run=0.5), [GPU_NODE], "--gpus-per-run 0.5: contradicts --device cpu"),
        (RayOptions(device="cuda", gpus_per_run=0.0), [GPU_NODE], "--gpus-per-run 0: contradicts --device cuda"),
        (RayOptions(device="tpu"), [GPU_NODE], "--device tpu: must be auto, cpu or cuda"),
    ],
)
def test_what_no_node_can_give_is_refused(asked: RayOptions, nodes: list[dict[str, float]], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        share(asked, nodes)


@pytest.mark.parametrize("kind", [RunError, CheckpointError, RecipeError])
def test_an_error_is_the_same_in_another_process(kind: type[Exception]) -> None:
    there = pickle.loads(pickle.dumps(kind("runs/toy: went wrong")))
    assert (type(there), str(there)) == (kind, "runs/toy: went wrong")


def test_without_ray_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"--engine ray: Ray is not installed; run pip install 'drcli\[cluster\]'"):
        ray_cluster.import_ray()


def test_only_what_was_added_to_a_log_is_news(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    (run,) = plan(toy_recipe(), ["joint"], [0], tmp_path)
    path, lines = run.folder / "metrics.jsonl", [json.dumps(epoch_record(n).to_dict()) + "\n" for n in range(3)]
    assert Logs([run]).news(run) is None
    run.folder.mkdir(parents=True)
    path.write_text(lines[0])
    logs = Logs([run])
    assert logs.news(run) is None
    path.write_text(lines[0] + lines[1] + '{"epo')
    assert logs.news(run) == epoch_record(1)
    assert logs.news(run) is None
    path.write_text("".join(lines))
    assert logs.news(run) == epoch_record(2)
    path.write_text("caught while another node writes\n")
    assert logs.news(run) is None


def test_a_grid_on_two_workers_equals_the_local_engine(
    ray: Any, toy_recipe: Callable[..., Recipe], toy_dataset: PreparedDataset, tmp_path: Path
) -> None:
    def runs(out: str) -> list[PlannedRun]:
        return plan(toy_recipe(), ["joint", "unimodal", "diagnose_relearn"], [0, 1], tmp_path / out)

    local = run_grid(runs("local"), toy_dataset, device=CPU, listener=Listener())
    heard = Heard()
    found = run_ray_grid(runs("ray"), toy_dataset, each=CORE, listener=heard)
    assert told(found, tmp_path / "ray") == told(local, tmp_path / "local")
    assert [row.n for row in compare(found.runs)] == [2, 2, 2, 2]
    assert {event.stored for event in heard.finished} == {False}
    heard = Heard()
    again = run_ray_grid(runs("ray"), toy_dataset, each=CORE, listener=heard)
    assert again == found
    assert {event.stored for event in heard.finished} == {True}


@pytest.mark.slow
def test_a_worker_killed_in_the_middle_changes_nothing(
    ray: Any, toy_recipe: Callable[..., Recipe], toy_dataset: PreparedDataset, tmp_path: Path
) -> None:
    training = {"epochs": 40, "batch_size": 16, "optimizer": {"name": "sgd", "lr": 0.05}}
    (left_alone,) = plan(toy_recipe(training=training), ["joint"], [0], tmp_path / "local")
    (run,) = plan(toy_recipe(training=training), ["joint"], [0], tmp_path / "ray")
    local = run_grid([left_alone], toy_dataset, device=CPU, listener=Listener())
    killer = KillsAWorker()
    found = run_ray_grid([run], toy_dataset, each=CORE, listener=killer, on_worker=TensorBoardListener(), fresh=True)
    assert told(found, tmp_path / "ray") == told(local, tmp_path / "local")
    assert log(run.folder / "metrics.jsonl") == log(left_alone.folder / "metrics.jsonl")
    first, second = pids(run.folder)
    assert [first] == killer.killed
    assert first != second
    assert len(killer.notes) == 1
    assert "joint seed 0: resumed at epoch " in killer.notes[0]


@pytest.mark.slow
def test_a_run_starts_after_the_unimodal_runs_it_needs(
    ray: Any, toy_recipe: Callable[..., Recipe], toy_dataset: PreparedDataset, tmp_path: Path
) -> None:
    training = {"epochs": 20, "batch_size": 16, "optimizer": {"name": "sgd", "lr": 0.05}}
    recipe = toy_recipe(training=training, method="uni_pretrained", methods={"uni_pretrained": {}})
    runs = plan(recipe, ["uni_pretrained"], [0], tmp_path)
    execute(runs[0], toy_dataset, device=CPU, listener=Listener())  # it leaves a worker free for the third at once
    found = run_ray_grid(runs, toy_dataset, each=CORE, listener=Heard())
    assert found.failed == []
    assert [row.name for row in compare(found.runs)] == ["unimodal:audio", "unimodal:visual", "uni_pretrained"]


def test_a_run_that_fails_fails_alone_and_as_it_does_locally(
    ray: Any, toy_recipe: Callable[..., Recipe], toy_dataset: PreparedDataset, tmp_path: Path
) -> None:
    exploding = {"epochs": 2, "batch_size": 16, "optimizer": {"name": "sgd", "lr": 1e6, "weight_decay": 1e6}}
    bad = plan(toy_recipe(training=exploding), ["joint"], [0], tmp_path / "bad")
    good = plan(toy_recipe(), ["joint"], [0], tmp_path / "good")
    heard = Heard()
    found = run_ray_grid([*bad, *good], toy_dataset, each=CORE, listener=heard)
    local = run_grid([*bad, *good], toy_dataset, device=CPU, listener=Listener())
    assert "training.optimizer.lr" in found.failed[0].message
    assert heard.failed == [f"joint: {found.failed[0]}"]
    assert found == local


def test_what_concerns_every_run_ends_the_grid_with_its_own_error(
    ray: Any, toy_recipe: Callable[..., Recipe], toy_dataset: PreparedDataset, tmp_path: Path
) -> None:
    short = {"epochs": 1, "batch_size": 20, "optimizer": {"name": "sgd", "lr": 0.05}}
    run_ray_grid(plan(toy_recipe(training=short), ["joint"], [0], tmp_path), toy_dataset, each=CORE, listener=Heard())
    other = plan(toy_recipe(), ["joint"], [0, 1], tmp_path)
    with pytest.raises(RecipeError, match=r"holds a run of another recipe; .*--fresh"):
        run_ray_grid(other, toy_dataset, each=CORE, listener=Heard())
    found = run_ray_grid(other, toy_dataset, each=CORE, listener=Heard(), fresh=True)
    assert [run.done.epochs for run in found.runs] == [4, 4]


def test_a_damaged_checkpoint_of_the_only_run_keeps_its_exit_code(
    ray: Any, toy_recipe: Callable[..., Recipe], toy_dataset: PreparedDataset, tmp_path: Path
) -> None:
    runs = plan(toy_recipe(), ["joint"], [0], tmp_path)
    run_ray_grid(runs, toy_dataset, each=CORE, listener=Heard())
    directory = RunDirectory(runs[0].folder)
    (directory.folder / "summary.json").unlink()
    directory.last.write_bytes(b"damaged")
    found = run_ray_grid(runs, toy_dataset, each=CORE, listener=Heard())
    assert "last.pt" in found.failed[0].message
    assert found.exit_code == CheckpointError.exit_code


@pytest.mark.slow
def test_a_worker_that_dies_every_time_is_a_failed_run(
    ray: Any,
    toy_recipe: Callable[..., Recipe],
    toy_dataset: PreparedDataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Given up after two workers; each new one costs seconds."""
    monkeypatch.setattr(ray_grid, "RETRIES", 1)
    recipe = toy_recipe(method="uni_pretrained", methods={"uni_pretrained": {}, "joint": {}})
    runs = plan(recipe, ["uni_pretrained", "joint"], [0], tmp_path)
    found = run_ray_grid(runs, toy_dataset, each=CORE, listener=Heard(), on_worker=DiesWithAudio())
    assert [row.name for row in compare(found.runs)] == ["unimodal:visual", "joint"]
    assert [failure.message.partition(": Ray gave up on this run (")[0] for failure in found.failed] == [
        str(tmp_path / "toy" / "unimodal" / "audio" / "seed0"),
        str(tmp_path / "toy" / "uni_pretrained" / "seed0"),
    ]


def test_a_working_directory_that_a_node_lacks_is_named(tmp_path: Path) -> None:
    gone = ray_cluster.Origin(str(tmp_path / "gone"), ["drcli"])
    with pytest.raises(RunError, match=r"gone: not on node .* file system that all nodes share"):
        ray_grid._take_over(gone, CORE)


def test_a_connection_that_is_there_is_used_and_kept(ray: Any) -> None:
    with connected(RayOptions(cpus_per_run=2)) as each:
        assert each == Share(2, 0.0)
    assert ray.is_initialized()
