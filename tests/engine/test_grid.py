"""Grids: which runs there are, that one that fails does not stop the others, and the table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import ttest_rel
from support.training import CPU

from drcli.data.prepared import PreparedDataset
from drcli.engine import grid
from drcli.engine.device import resolve_device, set_determinism
from drcli.engine.grid import run_grid, summarise
from drcli.engine.listener import Listener, Listeners
from drcli.engine.plan import plan, select_labels, select_seeds
from drcli.errors import RunError, UsageError
from drcli.recipe.schema import Recipe


def summaries(accuracies: dict[int, float]) -> list[dict[str, Any]]:
    return [{"seed": seed, "test": {"accuracy": accuracy}} for seed, accuracy in accuracies.items()]


class Noted(Listener):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_a_run_that_fails_does_not_stop_the_others(
    toy_recipe: Callable[..., Recipe], toy_dataset: PreparedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def execute(run: Any, dataset: Any, **_: Any) -> dict[str, Any]:
        if (run.name, run.seed) == ("joint", 1):
            raise RunError("seed 1 went wrong")
        return {"method": run.name, "seed": run.seed, "test": {"accuracy": run.seed / 10}}

    monkeypatch.setattr(grid, "execute", execute)
    runs = plan(toy_recipe(), ["diagnose_relearn", "joint"], [0, 1, 2], tmp_path)
    noted = Noted()
    result = run_grid(runs, toy_dataset, device=CPU, listener=noted)
    assert [(run["method"], run["seed"]) for run in result.runs] == [
        ("diagnose_relearn", 0),
        ("diagnose_relearn", 1),
        ("diagnose_relearn", 2),
        ("joint", 0),
        ("joint", 2),
    ]
    assert result.failed == ["seed 1 went wrong"]
    assert noted.notes == ["failed: seed 1 went wrong"]
    assert [(row["method"], row["n"]) for row in result.summary] == [("diagnose_relearn", 3), ("joint", 2)]


def test_a_run_whose_loss_explodes_fails_alone(
    toy_recipe: Callable[..., Recipe], toy_dataset: PreparedDataset, tmp_path: Path
) -> None:
    training = {"epochs": 2, "batch_size": 16, "optimizer": {"name": "sgd", "lr": 1e30}}
    bad = plan(toy_recipe(training=training), ["joint"], [0], tmp_path / "bad")
    good = plan(toy_recipe(), ["joint"], [0], tmp_path / "good")
    result = run_grid([*bad, *good], toy_dataset, device=CPU, listener=Listener())
    assert len(result.runs) == 1
    assert "training.optimizer.lr" in result.failed[0]
    torch.set_deterministic_debug_mode("default")


def test_summary_rows_pair_differences_by_seed() -> None:
    ours, joint = {0: 0.86, 1: 0.85, 2: 0.9, 7: 0.1}, {2: 0.84, 1: 0.85, 0: 0.83, 9: 0.99}
    rows = {row["method"]: row for row in summarise({"dr": summaries(ours), "base": summaries(joint)}, "base")}
    row = rows["dr"]
    assert row["n"] == 4
    assert row["accuracy_mean"] == pytest.approx(sum(ours.values()) / 4)
    paired = ttest_rel([ours[s] for s in (0, 1, 2)], [joint[s] for s in (0, 1, 2)])
    interval = paired.confidence_interval()
    assert row["difference_to_joint"] == pytest.approx((0.03 + 0.0 + 0.06) / 3)
    assert row["difference_ci95"] == pytest.approx([interval.low, interval.high])
    assert rows["base"]["difference_to_joint"] is None
    assert rows["base"]["difference_ci95"] is None


def test_one_seed_has_neither_spread_nor_interval() -> None:
    dr = summarise({"dr": summaries({0: 0.9}), "joint": summaries({0: 0.8})}, "joint")[0]
    assert dr["accuracy_std"] is None
    assert dr["difference_to_joint"] == pytest.approx(0.1)
    assert dr["difference_ci95"] is None


def test_without_joint_or_a_seed_in_common_there_is_no_difference() -> None:
    alone = summarise({"dr": summaries({0: 0.9, 1: 0.8})}, None)[0]
    apart = summarise({"dr": summaries({0: 0.9}), "joint": summaries({1: 0.8})}, "joint")[0]
    for row in (alone, apart):
        assert (row["difference_to_joint"], row["difference_ci95"]) == (None, None)
    assert alone["accuracy_std"] == pytest.approx(0.1 / 2**0.5)


def test_a_method_none_of_whose_runs_finished_has_no_row() -> None:
    rows = summarise({"dr": [], "joint": summaries({0: 0.8})}, "joint")
    assert [row["method"] for row in rows] == ["joint"]
    assert [row["method"] for row in summarise({"dr": summaries({0: 0.8}), "joint": []}, "joint")] == ["dr"]


def test_a_label_of_joint_training_is_the_reference(
    toy_recipe: Callable[..., Recipe], toy_dataset: PreparedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def execute(run: Any, dataset: Any, **_: Any) -> dict[str, Any]:
        return {"seed": run.seed, "test": {"accuracy": 0.5 if run.name == "concat" else 0.75}}

    monkeypatch.setattr(grid, "execute", execute)
    methods = {"diagnose_relearn": {}, "concat": {"method": "joint"}}
    runs = plan(toy_recipe(methods=methods), ["diagnose_relearn", "concat"], [0, 1], tmp_path)
    summary = run_grid(runs, toy_dataset, device=CPU, listener=Listener()).summary
    assert [row["difference_to_joint"] for row in summary] == [0.25, None]


def test_unimodal_training_is_one_run_a_modality(toy_recipe: Callable[..., Recipe]) -> None:
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


def test_determinism_is_insisted_on_or_not() -> None:
    set_determinism(True)
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.benchmark
    set_determinism(False)
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = False


def test_listeners_hear_everything_in_order() -> None:
    heard: list[tuple[int, str]] = []
    calls: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
        "run_started": ((None,), {"first_epoch": 0, "rows": 1}),
        "rows_done": ((3,), {}),
        "epoch_finished": (({},), {}),
        "diagnosed": (({},), {}),
        "run_finished": ((None, {}), {"stored": False}),
        "note": (("text",), {}),
        "close": ((), {}),
    }

    def ear(number: int) -> Listener:
        listener = Listener()
        for name in calls:
            setattr(listener, name, lambda *_, name=name, **__: heard.append((number, name)))
        return listener

    both = Listeners(ear(1), ear(2), Listener())
    for name, (args, options) in calls.items():
        getattr(both, name)(*args, **options)
    assert heard == [(number, name) for name in calls for number in (1, 2)]
    assert {name for name in vars(Listener) if not name.startswith("_")} == set(calls)
