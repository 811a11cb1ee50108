"""Two processes on the CPU compute what one does; a process that is lost ends all with one message."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from support.names import toy_names
from support.records import CLOCK
from support.several import Job, fail_alone, train
from support.training import CPU, bits, log

from drcli import checkpoint
from drcli.data.prepared import open_dataset
from drcli.engine.distributed import Report, _outcome, check_runs, launched, on_devices
from drcli.engine.grid import run_grid
from drcli.errors import PeerError, RecipeError, RunError
from drcli.names import METHODS
from drcli.recipe.load import recipe_from_dict
from drcli.recipe.schema import Recipe
from drcli.runs.planned import PlannedRun, plan
from drcli.watch.events import Listener
from drcli.world import World

# Sums over rows are taken in another order, which float32 rounds differently; 8 steps amplify it.
TOLERANCE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-5}
VIT = {"backbone": "vit", "patch": 4, "dim": 8, "heads": 2, "layers": 1, "feedforward": 16, "dropout": 0.0}
SETTINGS: dict[str, dict[str, Any]] = {
    # Each process would import scikit-learn for its K-means.
    "diagnose_relearn": {"every": 1, "times": 1, "lambda": 3.0, "restarts": 2, "kmeans": "torch"},
    "pmr": {"share": 0.3, "per_weight": 0.01, "per_epochs": 2},
    "ogm": {"alpha": 0.5, "tensors": "non1d"},
    "ogm_ge": {"alpha": 0.5, "tensors": "non1d"},
    "g_blending": {"super_epoch": 2},
    "arl": {"starts": 1},
    "opm": {"starts": 1},
    "inforeg": {"threshold": -100.0},
    "reconboost": {"alone": 1, "together": 1, "hidden": 8},
    "smv": {"warmup": 1},
    "aug": {"every": 1, "tau": 0.0, "most": 3, "hidden": 8},
}
REFUSED = [name for name in METHODS.names() if METHODS.load(name).distributed_reason]
SHARED = [name for name in METHODS.names() if name not in REFUSED]
LONG = ("diagnose_relearn", "reconboost")
QUICK = ("diagnose_relearn", "pmr", "smv")
"""Methods that differ in what processes must tell each other, tried in every test run; the slow tests try all."""
IN_PARTS = ("joint", "pmr", "agm", "ogm", "smv")
IN_PARTS_QUICK = ("smv",)
# 60 rows are batches of 17, 17, 17 and 9: shares of 9 and 8, then of 5 and 4.
TRAINING = {"epochs": 2, "batch_size": 17, "eval_batch_size": 13, "optimizer": {"name": "sgd", "lr": 0.05}}
LONGER = {**TRAINING, "epochs": 3}  # of the methods that do something else only then
ACCUMULATED = {**TRAINING, "accumulate": 3, "clip_grad_norm": 0.5}
NOISE = {"visual": {"snr_db": 0.0}}


@pytest.fixture(scope="module")
def make(toy_root: Path) -> Iterator[Callable[..., Recipe]]:
    """Makes a recipe over "toy" with transformers without dropout; keyword arguments replace its blocks."""

    def recipe(**blocks: Any) -> Recipe:
        data = {
            "name": "toy",
            "dataset": {"name": "toy", "root": str(toy_root)},
            "modalities": {"audio": VIT, "visual": VIT},
            "corrupt": {"visual": {"snr_db": 0.0}},
            "method": "joint",
            "methods": {name: SETTINGS.get(name, {}) for name in SHARED},
            "training": TRAINING,
            **blocks,
        }
        return recipe_from_dict(data, where="the test's recipe")

    with toy_names():
        yield recipe


@dataclass(frozen=True)
class Both:
    """The same runs of one process and of two, in the folders "one" and "two" below `out`.

    Attributes:
        out: folder of all.
        runs: what was planned, in "one".
        alone: what one process returned.
        together: what `support.several.train` returned in the main one of two.
    """

    out: Path
    runs: list[PlannedRun]
    alone: dict[str, Any]
    together: dict[str, Any]

    def folders(self, run: PlannedRun) -> tuple[Path, Path]:
        return run.folder, self.out / "two" / run.folder.relative_to(self.out / "one")


@pytest.fixture(scope="module", params=["quick", pytest.param("all", marks=pytest.mark.slow)])
def both(
    request: pytest.FixtureRequest,
    make: Callable[..., Recipe],
    toy_root: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Both:
    """Methods that several devices can train, some with accumulated gradients, and one resumed run."""
    out, dataset = tmp_path_factory.mktemp("distributed"), open_dataset(toy_root)

    def runs(where: str) -> list[PlannedRun]:
        short, in_parts = make(), make(training=ACCUMULATED, name="parts")
        tried = SHARED if request.param == "all" else QUICK
        long = [name for name in tried if name in LONG]
        parted = IN_PARTS if request.param == "all" else IN_PARTS_QUICK
        asked = ((short, [name for name in tried if name not in LONG]), (longer, long), (in_parts, parted))
        return [run for recipe, names in asked for run in plan(recipe, names, [0], out / where)]

    longer = make(training=LONGER)
    resumed = plan(longer, ["diagnose_relearn"], [0], out / "resumed")
    mode = torch.get_deterministic_debug_mode()
    alone = run_grid(runs("one"), dataset, device=CPU, listener=Listener())
    torch.set_deterministic_debug_mode(mode)
    job = Job([*runs("two"), *resumed], dataset, begun=resumed[0].folder)
    together = on_devices(2, CPU, partial(train, job))
    assert alone.failed == together["failed"] == []
    return Both(out, runs("one"), {"runs": alone.runs}, together)


def state(folder: Path) -> dict[str, Any]:
    return checkpoint.load(folder / "last.pt")


def test_every_method_ends_with_the_weights_of_one_process(both: Both) -> None:
    for run in both.runs:
        one, two = (state(folder) for folder in both.folders(run))
        for part in ("model", "extras"):
            torch.testing.assert_close(two[part], one[part], **TOLERANCE, msg=f"{run.name}: {{}}".format)
        assert (one["epoch"], one["step"]) == (two["epoch"], two["step"])


def test_logged_scalars_are_those_of_one_process(both: Both) -> None:
    """Losses, accuracies and coefficients of training, and the scores of validation."""
    for run in both.runs:
        one, two = (log(folder / "metrics.jsonl") for folder in both.folders(run))
        for ours, theirs in zip(two, one, strict=True):
            for split in ("train", "val"):
                assert ours[split] == pytest.approx(theirs[split], rel=1e-3, abs=1e-5), run.name


def test_diagnosis_and_test_scores_are_those_of_one_process(both: Both) -> None:
    for run in both.runs:
        one, two = (log(folder / "events.jsonl") for folder in both.folders(run))
        assert two == one
        summaries = [json.loads((folder / "summary.json").read_text()) for folder in both.folders(run)]
        theirs, ours = ({k: v for k, v in found.items() if k not in CLOCK} for found in summaries)
        assert ours.pop("test") == pytest.approx(theirs.pop("test"), rel=1e-3)
        one, other = ours.pop("measures"), theirs.pop("measures")
        assert one["calibration"]["nll"] == pytest.approx(other["calibration"]["nll"], rel=1e-3)
        assert one["classes"] == other["classes"]
        assert ours == theirs
    (relearnt,) = (run for run in both.runs if run.recipe.method == "diagnose_relearn")
    assert [event["kind"] for event in log(relearnt.folder / "events.jsonl")] == ["relearn"]


def test_a_run_that_two_processes_resume_has_the_bits_of_one_that_they_did_not_stop(both: Both) -> None:
    whole, resumed = (both.out / where / "toy" / "diagnose_relearn" / "seed0" for where in ("two", "resumed"))
    for file in ("last.pt", "checkpoint.pt"):
        ours, theirs = (checkpoint.load(folder / file) for folder in (resumed, whole))
        assert bits({**ours, "seconds": 0}) == bits({**theirs, "seconds": 0})
    assert log(resumed / "metrics.jsonl") == log(whole / "metrics.jsonl")
    assert log(resumed / "events.jsonl") == log(whole / "events.jsonl")


def test_one_file_of_each_kind_says_how_many_devices_there_were(both: Both) -> None:
    for run in both.runs:
        one, two = both.folders(run)
        assert {path.name for path in two.iterdir()} == {path.name for path in one.iterdir()}
        devices = [json.loads((folder / "environment.json").read_text())["devices"] for folder in (one, two)]
        assert devices == [1, 2]


def test_two_processes_sum_gather_and_broadcast_tensors(both: Both) -> None:
    """Process r has the number r + 1 to sum, r + 1 rows of r to gather, and the gradient (r + 1) * (1, 2)."""
    assert both.together["exchanged"] == {
        "summed": 3.0,
        "gathered": [[0.0, 0.0], [1.0, 1.0], [1.0, 1.0]],
        "equalised": [0.0, 0.0],
        "gradient": [[3.0, 6.0]],
        "refused": "said by 0",
    }


@pytest.mark.parametrize(
    ("how", "kind", "message"),
    [
        pytest.param("user", PeerError, "^no memory left$", marks=pytest.mark.slow),
        pytest.param(
            "killed",
            PeerError,
            r"^process 1 of the run was ended by SIGKILL \(out of memory\?\); every finished epoch",
            marks=pytest.mark.slow,
        ),
        pytest.param("bug", RuntimeError, "(?s)^process 1 .* failed.*ZeroDivisionError: a bug", marks=pytest.mark.slow),
    ],
    ids=["user", "killed", "bug"],
)
def test_one_process_that_fails_ends_all(how: str, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        on_devices(2, CPU, partial(fail_alone, how))


def test_of_several_failures_the_cause_is_raised() -> None:
    """What the others say once a process is lost is that it is lost."""
    lost = Report(0, trace="connection closed by peer", when=1.0)
    for cause, kind, message in (
        (Report(1, error=RunError("disk full"), when=2.0), RunError, "^disk full$"),
        (Report(1, code=-9), PeerError, "process 1 .* SIGKILL"),
        (Report(1, code=3), PeerError, "process 1 .* exit code 3"),
        (Report(1, trace="a bug", when=0.5), RuntimeError, "process 1 .*\na bug$"),
    ):
        with pytest.raises(kind, match=message):
            _outcome([lost, cause])
    assert _outcome([Report(1), Report(0, "result")]) == "result"


def refusal(recipe: Recipe, size: int = 2) -> str:
    """The message for runs of a recipe's method."""
    runs = plan(recipe, [recipe.method], [0], Path("runs"))
    with pytest.raises(RecipeError) as caught:
        check_runs(runs, open_dataset(recipe.dataset.root), CPU, size)
    return str(caught.value)


def test_batch_normalisation_is_refused_on_the_cpu(make: Callable[..., Recipe]) -> None:
    convolutions = {"audio": VIT, "visual": {"backbone": "resnet_small", "width": 4}}
    message = refusal(make(modalities=convolutions, methods={"joint": {}}))
    assert message.startswith(
        "modalities.visual.backbone = resnet_small: has batch normalisation, which PyTorch cannot"
    )


@pytest.mark.parametrize("name", REFUSED)
def test_a_method_that_cannot_is_refused_with_its_reason(name: str, make: Callable[..., Recipe]) -> None:
    fusion = {"name": "mmtm", "stages": 1} if name == "greedy" else "concat"
    recipe = make(method=name, methods={name: {}}, fusion=fusion)
    reason = METHODS.load(name).distributed_reason
    assert refusal(recipe) == f"methods.{name}: {name} cannot be trained on 2 devices: {reason}; use one"
    assert len(reason.split()) > 3


@pytest.mark.parametrize(
    ("training", "least"),
    [({"batch_size": 58}, 2), ({"batch_size": 17, "accumulate": 4}, 2)],
    ids=["last batch", "last part"],
)
def test_a_step_with_fewer_rows_than_processes_is_refused(
    training: dict[str, int], least: int, make: Callable[..., Recipe]
) -> None:
    """60 rows: 58 and 2; or 17, 17, 17 and 9, whose parts are of 3, 3 and 3 rows, those of 17 of 5, 5, 5 and 2."""
    recipe = make(training={**TRAINING, **training})
    message = refusal(recipe, size=3)
    assert f"training.batch_size = {training['batch_size']}: 60 training rows leave {least} for" in message
    check_runs(plan(recipe, ["joint"], [0], Path("runs")), open_dataset(recipe.dataset.root), CPU, 2)


def test_torchrun_is_known_by_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert launched() is None
    there = {
        "RANK": "1",
        "WORLD_SIZE": "4",
        "LOCAL_RANK": "1",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "node",
        "MASTER_PORT": "1",
    }
    for name, value in there.items():
        monkeypatch.setenv(name, value)
    assert launched() == World(1, 4)
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert launched() is None
