"""More epochs for a finished run: it goes on where that gives the bits of a run of that length, else says why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.plugin import Louder
from support.records import Heard
from support.training import CPU, StoppedError, bits, log, planned

from drcli import checkpoint
from drcli.data.prepared import open_dataset
from drcli.engine.run import execute, lengthen
from drcli.errors import RecipeError
from drcli.names import METHODS
from drcli.recipe.schema import Recipe
from drcli.runs.directory import RunDirectory
from drcli.watch.events import Listener

SGD = {"batch_size": 16, "optimizer": {"name": "sgd", "lr": 0.05}}
RELEARN = {"every": 2, "times": 9, "lambda": 3.0, "restarts": 1}
PMR = {"share": 0.3, "per_weight": 0.01, "per_epochs": 2}
GROWING = {"tau": 0.0, "most": 3, "hidden": 8}
Make = Callable[..., Recipe]

# A method, its block and how many of four epochs it has first; then what it says of going on to them.
GOES_ON: list[tuple[str, dict[str, Any], int]] = [
    ("joint", {}, 1),
    ("unimodal", {}, 2),
    ("diagnose_relearn", RELEARN, 2),
    ("diagnose_relearn", {**RELEARN, "every": 1, "times": 1}, 3),
    ("joint", {"relearn": RELEARN}, 2),
    ("pmr", {**PMR, "ends": 1}, 2),
    ("aug", {**GROWING, "every": 2}, 3),
    ("g_blending", {"super_epoch": 2}, 2),
    ("mslr", {"rates": {"audio": 0.7}}, 2),
    ("lfm", {"schedule": "learned", "start": 0.5, "rate": 0.05, "rows": 8}, 2),
    ("reconboost", {"alone": 1, "together": 1, "hidden": 8}, 3),
    ("smv", {"warmup": 1}, 2),
    ("opm", {"starts": 1}, 2),
    ("agm", {"ends": 2}, 2),
]
STAYS: list[tuple[str, dict[str, Any], int, str]] = [
    ("diagnose_relearn", RELEARN, 3, "diagnose_relearn left out the re-learning that would have followed the last"),
    ("joint", {"relearn": RELEARN}, 3, "joint left out the re-learning that would have followed the last epoch"),
    ("pmr", PMR, 2, "pmr did not update its prototypes after the last epoch"),
    ("aug", {**GROWING, "every": 2}, 2, "aug left out the comparison that was due after the last epoch"),
    ("g_blending", {"super_epoch": 2}, 3, "g_blending made its last estimation over fewer epochs than super_epoch"),
    ("g_blending", {"mode": "offline"}, 2, "g_blending with estimate_epochs: null estimates its weights over all"),
    ("mslr", {"strategy": "smooth", "rates": {"audio": 0.5}}, 2, "mslr with strategy: smooth spreads its rates over"),
    ("lfm", {"schedule": "fitted"}, 2, "lfm with schedule: fitted spreads its weights over all epochs"),
    ("di_mml", {"contrast_from": 1, "temperature": 2.0}, 2, "di_mml trains the fusion alone in the last epochs"),
]
QUICK = 3


def case_id(value: object) -> str | None:
    return value if isinstance(value, str) and " " not in value else None


def slow_after(cases: list[Any], count: int) -> list[Any]:
    return [case if place < count else pytest.param(*case, marks=pytest.mark.slow) for place, case in enumerate(cases)]


def train(recipe: Recipe, folder: Path, *, listener: Listener | None = None) -> None:
    modality = "audio" if recipe.method == "unimodal" else None
    dataset = open_dataset(recipe.dataset.root)
    execute(planned(recipe, folder, modality), dataset, device=CPU, listener=listener or Listener())


def made(make: Make, method: str, block: Mapping[str, Any], epochs: int, **training: Any) -> Recipe:
    return make(method=method, methods={method: dict(block)}, training={**SGD, "epochs": epochs, **training})


def state(folder: Path) -> dict[str, Any]:
    """All that a run has left, but the clock."""
    directory = RunDirectory(folder)
    summary = directory.summary()
    return {
        "checkpoints": [
            bits({**checkpoint.load(path), "seconds": 0}) for path in (directory.checkpoint, directory.last)
        ],
        "logs": [log(folder / name) for name in ("metrics.jsonl", "events.jsonl")],
        "summary": summary and summary.model_copy(update={"seconds": 0, "cost": None}),
        "recipe": (folder / "recipe.yaml").read_bytes(),
    }


@pytest.mark.parametrize(("method", "block", "first"), slow_after(GOES_ON, QUICK), ids=case_id)
def test_a_run_that_goes_on_has_the_bits_of_one_of_that_length(
    method: str, block: dict[str, Any], first: int, toy_recipe: Make, tmp_path: Path
) -> None:
    heard = Heard()
    train(made(toy_recipe, method, block, first), tmp_path / "run")
    train(made(toy_recipe, method, block, 4), tmp_path / "run", listener=heard)
    train(made(toy_recipe, method, block, 4), tmp_path / "whole")
    assert [event.first_epoch for event in heard.started] == [first]
    assert state(tmp_path / "run") == state(tmp_path / "whole")


@pytest.mark.parametrize(("method", "block", "first", "reason"), STAYS, ids=case_id)
def test_a_run_that_cannot_go_on_says_why(
    method: str, block: dict[str, Any], first: int, reason: str, toy_recipe: Make, tmp_path: Path
) -> None:
    begun(made(toy_recipe, method, block, first), tmp_path)
    message = refusal(made(toy_recipe, method, block, 4), tmp_path)
    assert f"  training.epochs: {first} in the folder, 4 requested\n  it does not go on to these: {reason}" in message


@pytest.mark.slow
@pytest.mark.parametrize(("method", "block", "first", "reason"), STAYS, ids=case_id)
def test_what_is_said_is_true(
    method: str, block: dict[str, Any], first: int, reason: str, toy_recipe: Make, tmp_path: Path
) -> None:
    """Made to go on nevertheless, it ends with other bits."""
    train(made(toy_recipe, method, block, first), tmp_path / "run")
    longer = made(toy_recipe, method, block, 4)
    lengthen(RunDirectory(tmp_path / "run"), longer.for_run(method, 0))
    train(longer, tmp_path / "run")
    train(longer, tmp_path / "whole")
    assert state(tmp_path / "run") != state(tmp_path / "whole")


def begun(recipe: Recipe, folder: Path) -> None:
    """Leave what a run leaves that was begun with this recipe, as far as it decides whether another may go on."""
    one = recipe.for_run(recipe.method, recipe.seeds[0])
    (folder / "recipe.yaml").write_text(yaml.safe_dump(one.to_dict()))
    (folder / "last.pt").touch()


def refusal(recipe: Recipe, folder: Path) -> str:
    with pytest.raises(RecipeError) as caught:
        RunDirectory(folder).check(recipe.for_run(recipe.method, recipe.seeds[0]), "fingerprint")
    return str(caught.value)


@pytest.mark.parametrize("name", ["cosine", "linear"])
def test_rates_of_these_schedules_depend_on_all_epochs(name: str, toy_recipe: Make, tmp_path: Path) -> None:
    begun(made(toy_recipe, "joint", {}, 2, schedule={"name": name}), tmp_path)
    message = refusal(made(toy_recipe, "joint", {}, 4, schedule={"name": name}), tmp_path)
    assert message.endswith(f"with a {name} schedule the rates of all epochs depend on how many there are")


def test_what_starts_from_other_runs_does_not_go_on(toy_recipe: Make, tmp_path: Path) -> None:
    begun(made(toy_recipe, "uni_pretrained", {}, 2), tmp_path)
    message = refusal(made(toy_recipe, "uni_pretrained", {}, 4), tmp_path)
    assert message.endswith("it starts from unimodal runs, which would be longer too")


def test_a_method_of_another_package_says_so_itself(toy_recipe: Make, tmp_path: Path) -> None:
    class Even(Louder):
        @classmethod
        def longer_reason(cls, recipe: Recipe) -> str:
            return ""

    with METHODS.registered("louder", Louder), METHODS.registered("even", Even):
        begun(made(toy_recipe, "louder", {}, 2), tmp_path)
        message = refusal(made(toy_recipe, "louder", {}, 4), tmp_path)
        assert message.endswith("louder does not say whether its epochs depend on their number")
        begun(made(toy_recipe, "even", {}, 2), tmp_path)
        longer = made(toy_recipe, "even", {}, 4)
        assert RunDirectory(tmp_path).obstacles(longer.for_run("even", 0)) == []


def test_fewer_epochs_or_another_change_beside_are_refused_as_before(toy_recipe: Make, tmp_path: Path) -> None:
    begun(made(toy_recipe, "joint", {}, 4), tmp_path)
    assert "go on" not in refusal(made(toy_recipe, "joint", {}, 3), tmp_path)
    assert "go on" not in refusal(made(toy_recipe, "joint", {}, 5, batch_size=20), tmp_path)
    (tmp_path / "last.pt").rename(tmp_path / "summary.json")
    assert refusal(made(toy_recipe, "joint", {}, 5), tmp_path).endswith("the state of its last epoch is missing")


@pytest.mark.slow
def test_killed_while_it_is_made_longer_a_run_is_the_one_before_or_goes_on(
    toy_recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short, longer = (made(toy_recipe, "joint", {}, epochs) for epochs in (1, 2))
    train(longer, tmp_path / "whole")
    train(short, tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "reopen", stopped)
        with pytest.raises(StoppedError):
            train(longer, tmp_path / "run")
    heard = Heard()
    train(short, tmp_path / "run", listener=heard)
    assert [event.stored for event in heard.finished] == [True]
    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "_replace", stopped)
        with pytest.raises(StoppedError):
            train(longer, tmp_path / "run")
    train(longer, tmp_path / "run")
    assert state(tmp_path / "run") == state(tmp_path / "whole")


def stopped(*_: object) -> None:
    raise StoppedError
