"""`drcli.train` and the other commands as functions: typed records, the caller's own signals and modes, errors."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from support.command_line import ROOT, Drcli, RecipeFile
from support.records import epoch_record, failure_record, summary_record

import drcli as package
from drcli import functions
from drcli.arguments import texts
from drcli.errors import DrcliError, FailedRunsError, UsageError
from drcli.names import METHODS
from drcli.recipe.schema import Recipe
from drcli.runs.collect import RunRecord
from drcli.runs.directory import RunDirectory
from drcli.runs.planned import plan
from drcli.watch.console import ConsoleListener
from drcli.watch.events import EpochFinished, RunFailed, RunFinished, RunStarted
from drcli.watch.notebook import NotebookConsole, run_console

TWO = {"training.epochs": 2}


def run(recipe: Path, tmp_path: Path, **options: Any) -> functions.Comparison:
    return package.train(recipe, TWO, out=tmp_path / "runs", progress=False, **options)


@pytest.mark.parametrize(
    "columns", [["method", "accuracy"], (key for key in ("method", "accuracy")), "method,accuracy"]
)
def test_columns_are_keys_one_after_another_or_a_text(columns: Any) -> None:
    assert package.compare([], columns=columns).columns == ("method", "accuracy")


def test_numbers_that_are_not_given_by_modality_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="must be numbers by modality, such as"):
        package.evaluate(tmp_path, noise=["audio=20"])  # type: ignore[arg-type]


def test_the_names_are_those_of_the_functions_and_importing_costs_nothing() -> None:
    heavy = {"torch", "pydantic", "numpy", "rich", "data_prep", "datasets", "IPython"}
    code = f"import sys, drcli; print({heavy} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "set()"
    assert package.train is functions.train
    assert {*package.__all__} <= {*dir(package)}
    stub = (ROOT / "drcli" / "__init__.pyi").read_text()
    for name in package.__all__:
        assert getattr(package, name) is not None
        assert f" as {name}\n" in stub or f"{name}: " in stub


def test_train_returns_the_runs_that_the_command_shows(drcli: Drcli, recipe_file: RecipeFile, tmp_path: Path) -> None:
    path = recipe_file(methods={"joint": {}, "unimodal": {}})
    result = run(path, tmp_path, method=["joint", "unimodal"], seeds=range(1, 2), reference="unimodal:audio")
    assert [(one.name, one.seed) for one in result.runs] == [
        ("joint", 1),
        ("unimodal:audio", 1),
        ("unimodal:visual", 1),
    ]
    assert all(isinstance(one, RunRecord) and len(one.epochs()) == 2 for one in result.runs)
    shown = json.loads(
        drcli(
            *("train", path, "training.epochs=2", "--method", "joint,unimodal", "--seeds", "1", "--json"),
            *("--out", tmp_path / "runs", "--reference", "unimodal:audio"),
        ).stdout
    )
    assert [one.done.to_dict() for one in result.runs] == [
        {key: value for key, value in one.items() if key not in {"run_dir", "checkpoint"}} for one in shown["runs"]
    ]
    assert [row.accuracy.mean for row in result.rows] == [row["accuracy_mean"] for row in shown["summary"]]
    assert result.rows[0].difference is not None
    assert str(result).startswith("**toy: test scores in per cent**\n\n| method |")
    again = package.compare(tmp_path / "runs", reference="unimodal:audio")
    assert (again.rows, again._repr_markdown_()) == (result.rows, str(result))
    assert package.compare(result.runs, reference="unimodal:audio") == result


@pytest.mark.parametrize(
    "given", [{"a.b": [1e-5, "x: y"], "c": None, "d": "on"}, ["a.b=[1.0e-05, 'x: y']", "c=", "d='on'"]]
)
def test_overrides_are_a_mapping_or_texts(given: Any) -> None:
    from drcli.recipe.source import parse_overrides

    assert parse_overrides(texts(given)) == [("a.b", [1e-5, "x: y"]), ("c", None), ("d", "on")]


def test_no_overrides_may_be_none() -> None:
    assert texts(None) == texts(()) == []


def test_overrides_may_be_paths_and_numbers_of_numpy_and_torch() -> None:
    given = {
        "dataset.root": Path("/a b"),
        "training.epochs": np.int64(3),
        "training.optimizer": {"lr": torch.tensor(0.5)},
    }
    assert texts(given) == [
        'dataset.root="/a b"', "training.epochs=3", "training.optimizer={lr: 0.5}"
    ]  # fmt: skip
    with pytest.raises(UsageError, match=r"override a\.b: ndarray; must be text, a number"):
        texts({"a": {"b": np.zeros(2)}})


def test_ctrl_c_is_the_callers_and_the_run_goes_on_later(
    recipe_file: RecipeFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    shown, seen = ConsoleListener.on, []

    def stop(self: ConsoleListener, event: Any) -> None:
        shown(self, event)
        if isinstance(event, EpochFinished):
            seen.append([signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)])
            if event.record.epoch == 1 and len(seen) == 2:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ConsoleListener, "on", stop)
        with pytest.raises(KeyboardInterrupt):
            run(recipe_file(), tmp_path)
        assert len(run(recipe_file(), tmp_path).runs[0].epochs()) == 2
    assert seen == [before] * 3  # epoch 0 was not trained again
    whole = run(recipe_file(), tmp_path / "other").runs[0]
    stopped = RunDirectory(tmp_path / "runs" / "toy" / "joint" / "seed0")
    assert [epoch.val for epoch in stopped.epochs()] == [epoch.val for epoch in whole.epochs()]


def test_torch_is_left_as_it_was(recipe_file: RecipeFile, tmp_path: Path) -> None:
    before = torch.get_deterministic_debug_mode(), torch.backends.cudnn.benchmark
    run(recipe_file(), tmp_path)
    assert (torch.get_deterministic_debug_mode(), torch.backends.cudnn.benchmark) == before


def test_what_failed_is_an_error_that_has_what_finished(recipe_file: RecipeFile, tmp_path: Path) -> None:
    with METHODS.registered("bad", "support.failing:Diverges"):
        path = recipe_file(methods={"joint": {}, "bad": {}})
        with pytest.raises(FailedRunsError, match=r"bad/seed0.* loss") as caught:
            run(path, tmp_path, method="all")
    assert [one.name for one in caught.value.result.runs] == ["joint"]
    assert "| joint |" in str(caught.value.result)
    assert isinstance(caught.value, DrcliError)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda path: package.train(path, jobs=0), "jobs = 0: must be at least 1"),
        (lambda path: package.train(path, {"training.epoch": 1}), "training.epoch"),
        (lambda path: package.train(path, method="best"), "best"),
        (lambda path: package.train(path, columns=["best"]), "best"),
        (lambda path: package.prepare("toy", workers=0), "workers = 0"),
        (lambda path: package.prepare("toy", max_bad=2.0), "--max-bad is '2.0'"),
        (lambda path: package.evaluate(path, draws=0), "draws = 0"),
        (lambda path: package.evaluate(path, subsets="audio", missing={"audio": 2}), "--missing audio=2"),
        (package.evaluate_runs, "no condition; give subsets, missing or noise"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_a_usage_error(call: Callable[[Path], Any], message: str, recipe_file: RecipeFile) -> None:
    with pytest.raises(UsageError) as caught:
        call(recipe_file())
    assert message in str(caught.value)


def test_a_script_that_torchrun_starts_is_refused(
    recipe_file: RecipeFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "RANK": 0,
        "WORLD_SIZE": 2,
        "LOCAL_RANK": 0,
        "LOCAL_WORLD_SIZE": 2,
        "MASTER_ADDR": "",
        "MASTER_PORT": 1,
    }.items():
        monkeypatch.setenv(name, str(value))
    with pytest.raises(UsageError, match=r"drcli\.train: started by torchrun"):
        package.train(recipe_file(), out=tmp_path)


def test_evaluate_and_diagnose_return_what_the_commands_print(drcli: Drcli, run_copy: Path) -> None:
    options = ("--subsets", "audio,visual", "--noise", "audio=10,0", "--draws", 2, "--json")
    shown = json.loads(drcli("eval", run_copy, *options).stdout)
    found = package.evaluate(run_copy, subsets=["audio", "visual"], noise={"audio": [10, 0]}, draws=2)
    assert found.to_dict() == shown
    assert found.conditions is not None
    assert found.conditions.subsets["audio"].first == shown["subsets"]["audio"]["accuracy"]
    with pytest.raises(UsageError, match=r"holds several runs; drcli\.evaluate_runs scores them"):
        package.evaluate(run_copy.parent, subsets="all")
    many = package.evaluate_runs(run_copy.parent, subsets="all", progress=False)
    assert [(one.name, one.seed) for one in many.runs] == [("joint", 0)]
    report = package.diagnose(run_copy, {"restarts": 2})
    diagnosed = json.loads(drcli("diagnose", run_copy, "restarts=2", "--json").stdout)
    assert {m: one.gap for m, one in report.modalities.items()} == {
        m: one["gap"] for m, one in diagnosed["modalities"].items()
    }


def test_prepare_returns_the_dataset(toy: None, tmp_path: Path, recipe_file: RecipeFile) -> None:
    done = package.prepare(recipe_file(), {"dataset.prepare": {"rows": 30}}, out=tmp_path / "out", progress=False)
    assert (done.root, done.info.rows["train"]) == (tmp_path / "out", 30)


@pytest.fixture
def cells(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """What a notebook was given to show; its console says that it is one."""
    shown: list[dict[str, str]] = []

    class Handle:
        def update(self, found: dict[str, str], *, raw: bool) -> None:
            assert raw
            shown.append(found)

    def display(found: dict[str, str], *, raw: bool, display_id: bool) -> Handle:
        assert (raw, display_id, shown) == (True, True, [])  # one output for all
        shown.append(found)
        return Handle()

    stand_in = types.ModuleType("IPython.display")
    stand_in.display = display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", stand_in)
    return shown


def test_a_notebook_shows_runs_in_one_output(
    cells: list[dict[str, str]], toy_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    first, second = plan(toy_recipe(), ["joint"], [3, 4], tmp_path)
    listener = run_console(Console(force_jupyter=True), 2)
    assert isinstance(listener, NotebookConsole)
    listener.begin(["1 run at a time"])
    listener.on(RunStarted(first, 0, 60))
    for epoch in range(2):
        listener.on(EpochFinished(first, epoch_record(epoch)))
    row = next(line for line in cells[-1]["text/plain"].splitlines() if "toy: joint" in line)
    assert row.split()[2:5] == ["3", "2", "/"]
    assert "<pre" in cells[-1]["text/html"]
    listener.on(RunFinished(first, summary_record()))
    listener.on(RunStarted(second, 0, 60))
    listener.on(RunFailed(second, failure_record("it broke")))
    listener.close()
    text = cells[-1]["text/plain"]
    assert text.startswith("1 run at a time")
    assert "seed 3: test accuracy" in text
    assert "failed: it broke" in text
    assert "1 of 2 runs finished, 1 failed" in text
    assert "2 / 4" not in text


def test_all_that_training_says_in_a_notebook_is_in_one_output(
    cells: list[dict[str, str]], recipe_file: RecipeFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How many threads compute is said before the first run."""
    monkeypatch.setattr("drcli.terminal.console", lambda **_: Console(force_jupyter=True))
    package.train(recipe_file(), {"training.epochs": 1}, out=tmp_path / "runs", method="joint", jobs=1)
    assert "thread" in cells[-1]["text/plain"].splitlines()[0]


def test_a_console_that_is_to_be_quiet_shows_nothing_in_a_notebook(
    cells: list[dict[str, str]], toy_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    (planned,) = plan(toy_recipe(), ["joint"], [3], tmp_path)
    listener = run_console(Console(force_jupyter=True, quiet=True), 1)
    listener.on(RunStarted(planned, 0, 60))
    listener.close()
    assert cells == []


@pytest.mark.slow
def test_a_script_without_a_guard_trains_several_runs_at_once(recipe_file: RecipeFile, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    overrides = {"training.epochs": 1, "dataset.prepare.draws": 1, "dataset.root": str(tmp_path / "digits")}
    script.write_text(
        "import drcli\n"
        f"print('begins')\nresult = drcli.train('digits', {overrides}, method='joint', seeds=[0, 1], jobs=2)\n"
        "print([run.seed for run in result.runs])\n"
    )
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, cwd=tmp_path, check=False, timeout=600
    )
    assert done.stdout == "begins\n[0, 1]\n", done.stderr
