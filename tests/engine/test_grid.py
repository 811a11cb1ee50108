"""Grids: which runs there are, that one that fails does not stop the others, and the table."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.records import Heard, failure_record
from support.run_folders import write_run
from support.training import CPU

from drcli.data.prepared import PreparedDataset
from drcli.engine import grid
from drcli.engine.device import resolve_device, set_determinism
from drcli.engine.grid import GridResult, run_grid
from drcli.errors import CheckpointError, DataError, RecipeError, RunError, UsageError
from drcli.methods.base import Method
from drcli.recipe.schema import Recipe
from drcli.runs.collect import collect
from drcli.runs.directory import RunDirectory
from drcli.runs.planned import plan, select_labels, select_seeds
from drcli.watch.events import Listener


@pytest.mark.parametrize(
    "error",
    [
        RunError("seed 1 went wrong"),
        RecipeError("seed 1 went wrong"),
        DataError("seed 1 went wrong"),
        CheckpointError("seed 1 went wrong"),
        MemoryError("seed 1 went wrong"),
        KeyError("seed 1 went wrong"),
        SystemExit("seed 1 went wrong"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_ends_a_run_does_not_stop_the_others(
    error: BaseException,
    toy_recipe: Callable[..., Recipe],
    toy_dataset: PreparedDataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def execute(run: Any, dataset: Any, **_: Any) -> None:
        if (run.name, run.seed) == ("joint", 1):
            raise error
        write_run(tmp_path, 0.5 + run.seed / 10, label=run.name, seed=run.seed)

    monkeypatch.setattr(grid, "execute", execute)
    runs = plan(toy_recipe(), ["diagnose_relearn", "joint"], [0, 1, 2], tmp_path)
    heard = Heard()
    result = run_grid(runs, toy_dataset, device=CPU, listener=heard)
    assert [(run.name, run.seed) for run in result.runs] == [
        ("diagnose_relearn", 0),
        ("diagnose_relearn", 1),
        ("diagnose_relearn", 2),
        ("joint", 0),
        ("joint", 2),
    ]
    (failure,) = result.failed
    assert (failure.name, failure.seed, failure.kind) == ("joint", 1, type(error).__name__)
    assert "seed 1 went wrong" in failure.message
    assert heard.failed == [f"joint: {failure.message}"]
    assert result.exit_code == 1


@pytest.mark.parametrize(
    ("failed", "finished", "code"),
    [([], 1, 0), ([2], 0, 2), ([3, 3], 0, 3), ([2, 3], 0, 1), ([2], 1, 1), ([1], 1, 1)],
)
def test_the_exit_code_is_the_errors_own_where_nothing_else_happened(
    failed: list[int], finished: int, code: int, tmp_path: Path
) -> None:
    for seed in range(finished):
        write_run(tmp_path, 0.5, seed=seed)
    runs = collect([tmp_path]) if finished else []
    failures = [failure_record(f"no {n}", exit_code=own) for n, own in enumerate(failed)]
    assert GridResult(runs, failures).exit_code == code


def test_what_ended_a_run_is_kept_until_it_is_finished(
    toy_recipe: Callable[..., Recipe], toy_dataset: PreparedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def losses(*_: Any) -> Any:
        raise ZeroDivisionError("of the plug-in")

    runs = plan(toy_recipe(), ["joint"], [0], tmp_path)
    files = RunDirectory(runs[0].folder)
    with monkeypatch.context() as patch:
        patch.setattr(Method, "losses", losses)
        (failure,) = run_grid(runs, toy_dataset, device=CPU, listener=Listener()).failed
    assert failure.kind == "RunError"
    kept = files.failure()
    assert kept is not None
    assert kept.kind == "ZeroDivisionError"
    assert re.search(
        r"ZeroDivisionError in .*test_grid\.py, line \d+: of the plug-in; its traceback is in", kept.message
    )
    assert failure.message == kept.message
    assert kept.trace is not None
    assert kept.trace.rstrip().endswith("ZeroDivisionError: of the plug-in")
    run_grid(runs, toy_dataset, device=CPU, listener=Listener())
    assert (files.failure(), files.summary() is None) == (None, False)


def test_damage_in_one_folder_is_the_affair_of_its_run(
    toy_recipe: Callable[..., Recipe], toy_dataset: PreparedDataset, tmp_path: Path
) -> None:
    runs = plan(toy_recipe(), ["joint"], [0, 1], tmp_path)
    run_grid(runs, toy_dataset, device=CPU, listener=Listener())
    (runs[0].folder / "summary.json").write_text("{")
    result = run_grid(runs, toy_dataset, device=CPU, listener=Listener())
    assert [run.seed for run in result.runs] == [1]
    assert "summary.json: damaged" in result.failed[0].message


def test_a_run_whose_loss_explodes_fails_alone(
    toy_recipe: Callable[..., Recipe], toy_dataset: PreparedDataset, tmp_path: Path
) -> None:
    training = {"epochs": 2, "batch_size": 16, "optimizer": {"name": "sgd", "lr": 1e6, "weight_decay": 1e6}}
    bad = plan(toy_recipe(training=training), ["joint"], [0], tmp_path / "bad")
    good = plan(toy_recipe(), ["joint"], [0], tmp_path / "good")
    result = run_grid([*bad, *good], toy_dataset, device=CPU, listener=Listener())
    assert len(result.runs) == 1
    assert "training.optimizer.lr" in result.failed[0].message
    torch.set_deterministic_debug_mode("default")


def test_unimodal_training_is_one_run_per_modality(toy_recipe: Callable[..., Recipe]) -> None:
    runs = plan(toy_recipe(), ["unimodal", "joint"], [0, 3], Path("runs"))
    assert [(run.name, run.seed, str(run.folder), run.modalities) for run in runs] == [
        ("unimodal:audio", 0, "runs/toy/unimodal/audio/seed0", ("audio",)),
        ("unimodal:audio", 3, "runs/toy/unimodal/audio/seed3", ("audio",)),
        ("unimodal:visual", 0, "runs/toy/unimodal/visual/seed0", ("visual",)),
        ("unimodal:visual", 3, "runs/toy/unimodal/visual/seed3", ("visual",)),
        ("joint", 0, "runs/toy/joint/seed0", ("audio", "visual")),
        ("joint", 3, "runs/toy/joint/seed3", ("audio", "visual")),
    ]
    assert all(list(run.recipe.methods) == [run.recipe.method] and run.recipe.seeds == (run.seed,) for run in runs)


def test_labels_and_seeds_that_are_asked_for(toy_recipe: Callable[..., Recipe]) -> None:
    recipe = toy_recipe(seeds=[4, 5])
    assert select_labels(recipe, None) == ["diagnose_relearn"]
    assert select_labels(recipe, "all") == ["joint", "unimodal", "diagnose_relearn"]
    assert select_labels(recipe, "joint, unimodal,joint") == ["joint", "unimodal"]
    assert select_seeds(recipe, None) == [4, 5]
    assert select_seeds(recipe, "2, 0") == [2, 0]


@pytest.mark.parametrize("asked", ["jiont", ",", ""])
def test_labels_that_are_none_are_refused(asked: str, toy_recipe: Callable[..., Recipe]) -> None:
    with pytest.raises(UsageError, match=f"--method {asked}: not in this recipe's methods"):
        select_labels(toy_recipe(), asked)


def test_a_method_that_the_recipe_lacks_is_refused_with_the_remedy(toy_recipe: Callable[..., Recipe]) -> None:
    recipe = toy_recipe(method="joint", methods={"joint": {}})
    with pytest.raises(UsageError, match=r"add it with methods\.unimodal=\{\}"):
        select_labels(recipe, "unimodal")


@pytest.mark.parametrize("asked", ["1,1", "-1", "a", "", "1,,2", "0.5", "1,01"])
def test_seeds_that_are_none_are_refused(asked: str, toy_recipe: Callable[..., Recipe]) -> None:
    with pytest.raises(UsageError, match=f"--seeds {asked}: must be distinct whole numbers"):
        select_seeds(toy_recipe(), asked)


@pytest.mark.parametrize("asked", ["9223372036854775808", "9" * 5000, "0," + "1" * 20])
def test_seeds_that_no_recipe_can_store_are_refused_in_one_short_line(
    asked: str, toy_recipe: Callable[..., Recipe]
) -> None:
    with pytest.raises(UsageError, match=r"must be distinct whole numbers from 0 to 2\^63 - 1") as caught:
        select_seeds(toy_recipe(), asked)
    assert len(str(caught.value)) < 150
    assert select_seeds(toy_recipe(), "9223372036854775807") == [2**63 - 1]


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == resolve_device("cpu") == CPU
    with pytest.raises(UsageError, match="--device cuda: no CUDA device is visible here; use --device cpu"):
        resolve_device("cuda")
    with pytest.raises(UsageError, match="--device tpu: must be auto, cpu or cuda"):
        resolve_device("tpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto") == resolve_device("cuda") == torch.device("cuda")


def switches() -> tuple[bool, bool]:
    """Whether torch uses deterministic algorithms alone, and whether cuDNN looks for the fastest."""
    return torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark


def test_determinism_is_insisted_on_or_not() -> None:
    set_determinism(True)
    assert switches() == (True, False)
    set_determinism(False)
    assert switches() == (False, True)
    torch.backends.cudnn.benchmark = False
